"""What the server answers: the hits of the collection itself, and every fault as what is wrong and what to do."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

import search
from search.collection import Collection
from search.errors import CollectionCorrupt, CollectionLocked
from search.server.answers import encoded
from search.types import Hit
from tests.server.conftest import ANIMALS


def png(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def shown(hits: list[Hit]) -> object:
    return json.loads(json.dumps([hit.to_json() for hit in hits]))


@pytest.mark.parametrize(
    "asked",
    [
        {"query": "bee"},
        {"query": "cat", "k": 2, "where": "n > 0", "space": "text", "context": 1},
        {"like": "ape", "k": 3},
        {"vector": [0, 1, 0], "space": "image", "k": 2},
        {"query": "dodo", "k": None, "where": None},
    ],
    ids=["words", "options", "like", "vector", "null is left out"],
)
def test_search_gives_the_hits_of_the_collection(client: TestClient, shop: Collection, asked: dict) -> None:  # type: ignore[type-arg]
    said = client.post("/search", json=asked | {"space": asked.get("space", "text")})
    assert said.status_code == 200
    named = {name: value for name, value in asked.items() if value is not None}
    assert said.json() == shown(shop.search(**named | {"space": asked.get("space", "text")}))
    assert said.json()[0]["id"] in {*ANIMALS, "gone"}


def test_several_questions_have_several_answers(client: TestClient, shop: Collection) -> None:
    said = client.post("/search", json={"queries": ["bee", "cat"], "space": "text", "k": 1}).json()
    assert [[hit["id"] for hit in hits] for hits in said] == [["bee"], ["cat/tom"]]
    said = client.post("/search", json={"vector": [[1, 0, 0], [0, 1, 0]], "k": 1, "space": "image"}).json()
    assert [[hit["id"] for hit in hits] for hits in said] == [["red"], ["gone"]]
    assert client.post("/search", json={"queries": [], "space": "text"}).json() == []


def test_several_ways_of_asking_go_together(client: TestClient, shop: Collection) -> None:
    asked = {"query": "bee", "like": "ape", "space": "text", "weights": {"like": 0.5}, "k": 3}
    assert client.post("/search", json=asked).json() == shown(shop.search(**asked))
    half = Image.new("RGB", (8, 4), (200, 0, 0))
    half.paste((0, 200, 0), (4, 0, 8, 4))
    out = io.BytesIO()
    half.save(out, "PNG")
    for region, id in (("[0, 0, 4, 4]", "red"), ("4,0,4,4", "gone")):  # as JSON, and as on the command line
        form = {"k": "1", "region": region}
        (hit,) = client.post("/search", files={"image": ("a.png", out.getvalue())}, data=form).json()
        assert hit["id"] == id


def test_explain_tells_the_plan(client: TestClient) -> None:
    (hit,) = client.post("/search", json={"query": "eel", "space": "text", "k": 1, "explain": True}).json()
    assert hit["id"] == "eel %"
    assert hit["score"] == pytest.approx(1)
    assert hit["explain"]["plan"]["method"] == "scan"


def test_a_picture_comes_as_base64_or_as_a_file(client: TestClient) -> None:
    green = png((0, 200, 0))
    as_text = client.post("/search", json={"image": base64.b64encode(green).decode(), "k": 1})
    as_file = client.post("/search", files={"image": ("a.png", green)}, data={"k": "1"})
    assert as_text.json() == as_file.json()
    assert [hit["id"] for hit in as_file.json()] == ["gone"]


def test_a_form_says_numbers_and_flags_as_text(client: TestClient) -> None:
    asked = {"k": "2", "explain": "true", "space": "text", "query": "bee"}
    said = client.post("/search", data=asked, files={"x": ("", b"")})
    assert said.status_code == 422
    files = [(name, (None, value)) for name, value in asked.items()]
    said = client.post("/search", files=files)
    assert said.json()[0]["id"] == "bee"
    assert len(said.json()) == 2
    assert said.json()[0]["explain"]
    several = [("queries", (None, "bee")), ("queries", (None, "cat")), ("space", (None, "text"))]
    assert [hits[0]["id"] for hits in client.post("/search", files=several).json()] == ["bee", "cat/tom"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("k", "two", "k is 'two'"),
        ("k", "2.5", "k is 2.5"),
        ("k", "true", "k is True"),
        ("explain", "yes", "explain is 'yes'"),
        ("vector", "1,0,a", "vector is '1,0,a'"),
        ("other", "1", "there is no field 'other'"),
    ],
)
def test_what_a_form_says_is_checked_as_in_json(client: TestClient, name: str, value: str, said: str) -> None:
    answer = client.post("/search", files=[("query", (None, "bee")), (name, (None, value))])
    assert (answer.status_code, answer.json()["error"]) == (422, said)


def test_a_vector_in_a_form(client: TestClient) -> None:
    form = [("vector", (None, "[0, 1, 0]")), ("space", (None, "image")), ("k", (None, "1"))]
    assert [hit["id"] for hit in client.post("/search", files=form).json()] == ["gone"]


def test_recommend(client: TestClient, shop: Collection) -> None:
    asked = {"like": ["ape", "bee"], "dislike": "dodo", "space": {"text": 2}, "k": 2, "diversity": 0.5}
    expected = shop.recommend(["ape", "bee"], "dodo", spaces={"text": 2}, k=2, diversity=0.5)
    assert client.post("/recommend", json=asked).json() == shown(expected)
    assert client.post("/recommend", json={"like": "ape", "space": "text"}).json() == shown(
        shop.recommend("ape", spaces="text")
    )


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ({"like": {"ape": 3, "bee": 1}}, {"likes": {"ape": 3, "bee": 1}}),
        (
            {"like": {"ape": "2026-01-01", "bee": "2026-01-11"}, "half_life": 10},
            {"likes": {"ape": "2026-01-01", "bee": "2026-01-11"}, "half_life": 10},
        ),
        ({"like": "ape", "pair": [["bee", "dodo"]]}, {"likes": "ape", "pairs": [("bee", "dodo")]}),
        ({"pair": [["bee", "dodo"]]}, {"pairs": [("bee", "dodo")]}),
    ],
)
def test_how_much_examples_count(
    client: TestClient, shop: Collection, sent: dict[str, object], asked: dict[str, object]
) -> None:
    answer = client.post("/recommend", json={**sent, "space": "text", "k": 4})
    assert answer.status_code == 200
    assert answer.json() == shown(shop.recommend(**asked, spaces="text", k=4))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"like": {"ape": [1]}}, "like is {'ape': [1]}"),
        ({"like": {"ape": 0}}, "the weight of 'ape' is 0"),
        ({"like": {f"r{i}": 1 for i in range(1001)}}, "like has 1,001 entries"),
        ({"pair": [["a"]]}, "pair is [['a']]"),
        ({"pair": "a,b"}, "pair is 'a,b'"),
        ({"like": "ape", "half_life": 3}, "half_life is for what has dates, and nothing given has one"),
        ({"user": "u1"}, "no space was learned from interactions"),
        ({"history": ["ape"]}, "no space was learned from interactions"),
        ({"user": "u1", "history": ["ape"]}, "say for whom"),
    ],
)
def test_recommendations_that_cannot_be_made(client: TestClient, sent: dict[str, object], said: str) -> None:
    answer = client.post("/recommend", json=sent)
    assert answer.status_code in (404, 422)
    assert answer.json()["error"].startswith(said)


def test_records(client: TestClient, red: Path) -> None:
    cat = {"id": "cat/tom", "kind": "text", "uri": None, "text": "cat", "metadata": {"n": 2}}
    for path in ("/records/cat%2Ftom", "/records/cat/tom"):
        assert client.get(path).json() == cat
    assert client.get("/records/eel%20%25").json()["text"] == "eel"
    some = client.get("/records", params={"id": ["cat/tom", "none", "red"]}).json()
    assert [some[0], some[1], some[2]["uri"]] == [cat, None, str(red)]
    assert client.get("/records").status_code == 422
    missing = client.get("/records/none")
    assert (missing.status_code, missing.json()["error"]) == (404, "no record has the id 'none'")


def test_info_and_spaces(client: TestClient, shop: Collection) -> None:
    told = client.get("/info").json()
    assert told == json.loads(json.dumps(shop.info() | {"path": "shop"}))
    assert [space["name"] for space in client.get("/spaces").json()] == ["text", "image", "far"]
    assert client.get("/health").json() == {"status": "ok", "version": search.__version__}


@pytest.mark.parametrize(
    ("asked", "status", "error"),
    [
        ({"like": "none"}, 404, "no record has the id 'none'"),
        ({"query": "x", "space": "none"}, 422, "there is no space 'none'"),
        ({"query": "x", "space": "far"}, 503, "the model openai:far is not here"),
        ({"query": "x", "space": "image"}, 422, "space 'image' (colours) cannot be asked by text"),
        ({"query": " ", "space": "text"}, 422, "query is empty"),
        ({"queries": ["x"], "like": "ape"}, 422, ""),
        ({"query": "x", "space": "text", "region": [0, 0, 1, 1]}, 422, ""),
        ({"query": "x", "like": "ape", "space": "text", "weights": {"none": 1}}, 422, ""),
        ({"query": "x", "queries": ["y"]}, 422, "query and queries were given together"),
        ({}, 422, "nothing to search for"),
        ({"query": 3}, 422, "query is 3"),
        ({"query": "x", "k": "3"}, 422, "k is '3'"),
        ({"query": "x", "k": True}, 422, "k is True"),
        ({"query": "x", "k": 0}, 422, "k is 0"),
        ({"query": "x", "k": 10_001}, 422, "k is 10001"),
        ({"query": "x", "K": 1}, 422, "there is no field 'K'"),
        ({"query": "x", "context": -1}, 422, "context is -1"),
        ({"queries": ["x"] * 1_001}, 422, "queries has 1,001 entries"),
        ({"query": "x" * 100_001}, 422, "query has 100,001 characters"),
        ({"query": "x", "where": "n > 1 or " * 3_000}, 422, "where has 27,000 characters"),
        ({"queries": ["x" * 10_000] * 101}, 422, "the queries have too many characters"),
        ({"vector": [[0, 0, 1]] * 1_001, "k": 1}, 422, "1,001 vectors"),
        ({"queries": ["x"] * 1_000, "k": 101}, 422, "1,000 questions with k of 101"),
        ({"queries": ["x"] * 100, "rerank": "maxsim", "space": "text"}, 422, "too much to compare again"),
        ({"query": "x", "rerank": "none", "space": "text"}, 422, "rerank is 'none'"),
        ({"query": "x", "rerank": "maxsim", "space": "text"}, 422, "space 'text' (letters) has no token"),
        ({"image": "/etc/passwd"}, 422, "image is no base64"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, 422, "image: is not a picture, or is damaged"),
        ({"vector": [1, "a"], "space": "image"}, 422, ""),
        ({"vector": [], "space": "image"}, 422, ""),
        ({"vector": [[1, 0, 0], [1]], "space": "image"}, 422, ""),
        ([1], 422, "the question is no JSON object"),
    ],
)
def test_each_fault_has_its_status_and_says_what_to_do(
    client: TestClient, asked: object, status: int, error: str
) -> None:
    said = client.post("/search", json=asked)
    assert said.status_code == status
    assert set(said.json()) == {"error", "do"}
    assert said.json()["error"].startswith(error)
    assert said.json()["do"]
    assert said.headers.get("retry-after") == ("1" if status == 503 else None)


def test_a_fault_in_a_filter_has_its_position(client: TestClient) -> None:
    said = client.post("/search", json={"query": "x", "space": "text", "where": "n > 1 and n <"})
    assert said.status_code == 422
    assert said.json()["position"] == len("n > 1 and n <") - 1


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"query": ', "application/json", 400),
        (b'{"k": NaN}', "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"query=x", "application/x-www-form-urlencoded", 415),
        (b"x", None, 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=b", 400),
    ],
)
def test_what_cannot_be_read_is_refused(
    client: TestClient, content: bytes, kind: str | None, status: int
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    said = client.post("/search", content=content, headers=headers)
    assert said.status_code == status, said.text
    assert set(said.json()) == {"error", "do"}


def test_a_file_where_none_belongs_is_refused(client: TestClient) -> None:
    assert client.post("/search", files={"query": ("a", b"x")}).status_code == 422
    assert client.post("/recommend", files={"image": ("a", b"x")}).status_code == 422
    assert client.post("/search", files=[("image", (None, "/etc/passwd"))]).status_code == 422
    two = [("image", ("a.png", png((0, 0, 9)))), ("image", ("b.png", png((9, 0, 0))))]
    assert client.post("/search", files=two).status_code == 400
    twice = [("query", (None, "bee")), ("query", (None, "cat"))]
    assert client.post("/search", files=twice).json()["error"] == "query is given 2 times"


def test_a_picture_too_large_to_decode_is_refused_before_it_is(client: TestClient) -> None:
    bomb = png((0, 0, 0), (9_000, 9_000))
    assert len(bomb) < 400_000
    said = client.post("/search", files={"image": ("a.png", bomb)})
    assert said.status_code == 422
    assert "9000 x 9000 pixels" in said.json()["error"]


def test_paths_and_methods_that_are_not_there(client: TestClient) -> None:
    assert client.get("/nothing").status_code == 404
    assert client.get("/search").status_code == 405
    assert client.delete("/records/ape").status_code == 405
    for path in ("/nothing", "/search"):
        assert set(client.get(path).json()) == {"error", "do"}


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CollectionLocked("it is busy; try again"), 503, "it is busy"),
        (CollectionCorrupt("it is damaged; restore it"), 500, "it is damaged"),
        (MemoryError(), 503, "out of memory"),
        (RuntimeError("the words of a secret"), 500, "the server failed"),
    ],
)
def test_what_fails_inside_is_told_without_its_insides(
    client: TestClient, shop: Collection, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:  # fmt: skip
    def fail(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(shop, "search", fail)
    answer = client.post("/search", json={"query": "x"})
    assert (answer.status_code, answer.json()["error"]) == (status, said)
    assert "secret" not in answer.text
    assert client.get("/health").status_code == 200


def test_a_commit_is_seen_by_the_next_question(client: TestClient, shop: Collection) -> None:
    asked = {"vector": [1, 1, 1], "space": "image", "k": 1}
    assert client.post("/search", json=asked).json()[0]["id"] != "new"
    with search.open(shop.path) as writer:
        writer.add([{"id": "new", "text": "new"}], vectors=[[1, 1, 1]], space="image")
    assert client.post("/search", json=asked).json()[0]["id"] == "new"
    with search.open(shop.path) as writer:
        writer.delete("new")
    assert client.post("/search", json=asked).json()[0]["id"] != "new"
    assert client.get("/records/new").status_code == 404


def test_json_that_orjson_refuses_is_written_all_the_same() -> None:
    hit = Hit("a", 0.5, "text", "half \ud800", None, {"n": 2**70})
    assert json.loads(encoded([hit])) == [hit.to_json()]


def test_every_answer_says_how_it_may_be_used(
    client: TestClient, client_of: Callable[..., TestClient]
) -> None:
    for answer in (client.get("/info"), client.get("/nothing"), client_of(token="t" * 16).get("/info")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


def test_pages_go_on_after_a_hit(client: TestClient) -> None:
    asked = {"like": "ape", "space": "text"}
    whole = client.post("/search", json=asked | {"offset": 0}).json()
    assert len(whole) == 4
    rest = client.post("/search", json=asked | {"after": whole[1]["cursor"]})
    assert rest.json() == whole[2:]
    for wrong in ("no cursor", whole[1]["cursor"][:-3], 5):
        assert client.post("/search", json=asked | {"after": wrong}).status_code == 422
    other = client.post("/search", json={"like": "bee", "space": "text", "after": whole[1]["cursor"]})
    assert other.status_code == 422
    assert "another question" in other.json()["error"]
