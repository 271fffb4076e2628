"""What cannot be asked, or has no answer, is the same one line in Python, on the command line and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.query.personal import INTERACTIONS, LEARNED_FROM
from search.server.app import application
from search.server.settings import Settings
from search.types import EncoderSpec, Metric, Modality, Record
from tests.letters import LetterEncoder

TEXTS = {"ape": "ape", "bee": "bee", "cat": "cat"}
APE = ["--like", "ape"]
# The verb, the question in Python and over HTTP, the same on the command line, and what is said.
ASKED: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("search", {"query": ""}, [""], "query is empty"),
    ("search", {"query": " \n"}, [" \n"], "query is empty"),
    ("search", {}, [], "nothing to search for"),
    ("search", {"query": "ape", "k": 0}, ["ape", "-k", "0"], "k "),
    ("search", {"query": "ape", "k": -1}, ["ape", "-k", "-1"], "k "),
    ("search", {"query": "ape", "where": "nn > 1"}, ["ape", "--where", "nn > 1"], "nn"),
    ("search", {"query": "ape", "where": "n >"}, ["ape", "--where", "n >"], "near '>'"),
    ("search", {"query": "ape", "group_by": "nn"}, ["ape", "--group-by", "nn"], "no record has a field 'nn'"),
    ("search", {"like": "nobody"}, ["--like", "nobody"], "'nobody'"),
    ("recommend", {"likes": ["ape", "yeti", "no"]}, [*APE, "--like", "yeti", "--like", "no"], "'yeti', 'no'"),
    ("recommend", {"likes": ["ape"], "dislikes": ["yeti"]}, [*APE, "--dislike", "yeti"], "'yeti'"),
    ("recommend", {"likes": ["ape", "bare"]}, [*APE, "--like", "bare"], "'bare' has no vector in any space"),
    (
        "recommend",
        {"likes": ["ape", "far"], "spaces": "text"},
        [*APE, "--like", "far", "--space", "text"],
        "'far' has no vector in the spaces asked",
    ),
    ("recommend", {"likes": ["ape"], "spaces": "txt"}, [*APE, "--space", "txt"], "no space 'txt'"),
    ("recommend", {"likes": ["ape"], "k": 0}, [*APE, "-k", "0"], "k "),
    (
        "recommend",
        {"likes": ["ape"], "strategy": "worst"},
        [*APE, "--strategy", "worst"],
        "no strategy 'worst'",
    ),
]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.setattr("search.encoders.load.load_spec", lambda *_, **__: LetterEncoder())
    with search.open(tmp_path / "shop") as made:
        with made.writing() as writer:
            texts = writer.space("text", LetterEncoder().spec)
            records = [Record(id, text=text, metadata={"n": n}) for n, (id, text) in enumerate(TEXTS.items())]
            writer.put(records, LetterEncoder().encode(list(TEXTS.values())), texts)
            writer.put(
                [Record("far")],
                np.eye(1, 5),
                writer.space("other", EncoderSpec("given", "given", Modality.VECTOR, 5)),
            )
            writer.put([Record("bare")])
        yield made


@pytest.fixture
def client(shop: Collection) -> Iterator[TestClient]:
    settings = Settings(hosts=None)
    with TestClient(application(shop, settings)) as made:
        yield made


@pytest.mark.parametrize(("verb", "asked", "said", "what"), ASKED)
def test_bad_questions(
    shop: Collection,
    client: TestClient,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    asked: dict[str, Any],
    said: list[str],
    what: str,
) -> None:
    with pytest.raises(search.QueryError) as error:
        getattr(shop, verb)(**asked)
    assert what in str(error.value)
    assert "; " in str(error.value) or ", " in str(error.value)

    code = outcome(app, [verb, "-c", str(shop.path), *said])
    told = capsys.readouterr()
    assert (code, told.out) == (1, "")
    assert told.err.startswith("error: ")
    assert what in told.err
    assert "Traceback" not in told.err

    names = {"likes": "like", "dislikes": "dislike", "spaces": "space"}
    answer = client.post(f"/{verb}", json={names.get(name, name): value for name, value in asked.items()})
    assert answer.status_code in (404, 422)
    assert what in answer.text
    assert shop.check() == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e39])
def test_vectors_of_no_numbers(shop: Collection, client: TestClient, bad: float) -> None:
    vector = [bad, *[1.0] * 25]
    with pytest.raises(search.QueryError, match="vector"):
        shop.search(vector=vector)
    answer = client.post(
        "/search", content=json.dumps({"vector": vector}), headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)  # NaN is no JSON
    with pytest.raises(search.QueryError):
        shop.search(vector=[0.0] * 26)


def test_a_long_question_is_cut_by_the_model_alone(
    shop: Collection, client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "ape " * 25_000
    for hybrid in (False, True):
        (first, *_) = shop.search(words, hybrid=hybrid)
        assert first.id == "ape"
        answer = client.post("/search", json={"query": words, "hybrid": hybrid})
        assert answer.json()[0]["id"] == "ape"
        flag = ["--hybrid"] if hybrid else []
        assert outcome(app, ["search", words, "-c", str(shop.path), "--json", *flag]) == 0
        assert json.loads(capsys.readouterr().out)[0]["id"] == "ape"
    refused = client.post("/search", json={"query": words + "ape"})
    assert refused.status_code == 422
    assert "at most 100,000" in refused.text


def test_a_million_hits(shop: Collection, client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as there are; over HTTP a client may not ask for so many."""
    assert {hit.id for hit in shop.search("ape", k=1_000_000)} == set(TEXTS)
    assert len(shop.search("ape", k=1_000_000, hybrid=True)) == 3
    assert len(shop.recommend(likes=["ape"], k=1_000_000)) == 2
    assert outcome(app, ["search", "ape", "-c", str(shop.path), "-k", "1000000", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    answer = client.post("/search", json={"query": "ape", "k": 1_000_000})
    assert answer.status_code == 422
    assert "from 1 to 10000" in answer.text


def test_all_are_left_out(shop: Collection, client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert shop.recommend(likes=["ape"], exclude=["bee", "cat", "nobody"]) == []
    left_out = [part for id in ("bee", "cat", "nobody") for part in ("--exclude", id)]
    assert outcome(app, ["recommend", "-c", str(shop.path), "--like", "ape", *left_out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert client.post("/recommend", json={"like": "ape", "exclude": ["bee", "cat", "nobody"]}).json() == []
    assert shop.search("ape", where="n > 9") == []
    assert client.post("/search", json={"query": "ape", "where": "n > 9"}).json() == []


def test_a_user_without_a_history(shop: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(search.QueryError, match="no space was learned from interactions"):
        shop.recommend(user="u1")
    with shop.writing() as writer:
        options = {"alpha": 1.0, "log": False, "regularization": 0.1, LEARNED_FROM: INTERACTIONS}
        spec = EncoderSpec("als", "als", Modality.GRAPH, 2, options=options)
        space = writer.space("interactions", spec, metric=Metric.DOT)
        items = [Record(id) for id in TEXTS]
        writer.put([*items, Record("user:u1", "user")], [[1, 0], [0, 1], [1, 1], [1, 2]], space)
        writer.put([Record("user:u2", "user")])
    with pytest.raises(search.UnknownRecord, match="no user 'u3' is known"):
        shop.recommend(user="u3")
    with pytest.raises(search.UnknownRecord, match="user 'u2'"):
        shop.recommend(user="u2")
    assert [hit.id for hit in shop.recommend(user="u1", k=2)] == ["cat", "bee"]  # nothing taken: all are new
    with pytest.raises(search.QueryError):
        shop.recommend(history=[])
    for asked in (["--user", "u3"], ["--history", "nobody"]):
        assert outcome(app, ["recommend", "-c", str(shop.path), *asked]) == 1
        told = capsys.readouterr()
        assert told.err.startswith("error: no ")
