"""An ingest through an endpoint: what is paid for is kept, whatever becomes of the endpoint."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ingest
import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.encoders import endpoint
from search.errors import CollectionError, EncoderDrift, ModelUnavailable
from tests.endpoint import Served, changes, fails, letters, served

KEY = "sk-secret-0123456789"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in (*endpoint.KEY_NAMES, endpoint.BASE_URL_NAME, endpoint.PLAIN_HTTP_NAME):
        monkeypatch.delenv(name, raising=False)
    with served() as one:
        yield one


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    rows = [{"id": f"n{n}", "text": f"{'ab' * (n % 9)} {'xyz' * (n % 7)} number {n}"} for n in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return outcome(app, [str(one) for one in arguments])


def test_from_the_command_line_and_asked_again(server, lines, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    shelf = tmp_path / "shelf"
    command = ("ingest", "text", lines, "-c", shelf, "--model", "openai:letters", "--base-url", server.url)
    assert run(*command) == 0
    said = capsys.readouterr().err
    n_words = sum(len(text.split()) for text in server.texts)
    assert f"; {n_words:,} tokens, as the endpoint counts them" in said
    assert KEY not in said

    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert run("search", "abababab xyzxyzxyzxyz number 4", "-c", shelf, "-k", 1, "--json") == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert int(hit["id"][1:]) % 63 == 4  # the digits are no letters
    assert hit["score"] > 0.9999
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    for file in shelf.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()

    server.bodies.clear()
    assert run(*command, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["unchanged"], report["vectors"], report["tokens"]) == (300, 0, None)
    assert server.texts == ["dimension"]


def test_an_endpoint_that_dies_half_way_loses_nothing_that_it_gave(server, lines, tmp_path, capsys):
    shelf = tmp_path / "shelf"
    command = ("ingest", "text", lines, "-c", shelf, "--model", "openai:letters", "--base-url", server.url)
    # The width, the probes, two requests of 64; then no more.
    server.faults = [lambda handler, body: True] * 4
    server.always = fails(404, {"error": {"message": "model unloaded"}})
    assert run(*command) == 1
    said = capsys.readouterr().err
    assert "404: model unloaded" in said
    assert "Traceback" not in said
    given = {text for body in server.bodies[2:4] for text in body["input"]}
    with search.open(shelf, mode="r") as there:
        assert there.count() == 128

    server.always = None
    server.bodies.clear()
    assert run(*command) == 0
    again = Counter(text for text in server.texts if "number" in text)
    assert set(again.values()) == {1}
    assert not set(again) & given
    assert len(again) == 300 - 128
    with search.open(shelf, mode="r") as there:
        assert there.count() == 300
        row = letters("xyz number 1")
        assert there.search(vector=row / np.linalg.norm(row), k=1)[0].score > 0.9


def test_an_endpoint_that_is_not_there_makes_no_collection(server, lines, tmp_path):
    server.always = fails(404)
    with pytest.raises(ModelUnavailable, match="404"):
        ingest.text(
            tmp_path / "shelf", lines, model="openai:letters", choice=ingest.ModelChoice(base_url=server.url)
        )
    assert not (tmp_path / "shelf").exists()


def test_a_model_that_became_another_is_noticed(server, lines, tmp_path):
    choice = ingest.ModelChoice(base_url=server.url)
    ingest.text(tmp_path / "shelf", lines, model="openai:letters", choice=choice)
    server.always = changes(lambda answer: [row["embedding"].reverse() for row in answer["data"]])
    with (
        search.open(tmp_path / "shelf", mode="r") as there,
        pytest.raises(EncoderDrift, match="other vectors"),
    ):
        there.search("abc")
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": "x", "text": "more"}\n', encoding="utf-8")
    with pytest.raises(EncoderDrift, match="gives other vectors than when the space was made"):
        ingest.text(tmp_path / "shelf", more, model="openai:letters", choice=choice)
    assert "more" not in server.texts


def test_another_width_goes_into_another_space(server, lines, tmp_path):
    ingest.text(
        tmp_path / "shelf", lines, model="openai:letters", choice=ingest.ModelChoice(base_url=server.url)
    )
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": "x", "text": "more"}\n', encoding="utf-8")
    narrow = ingest.ModelChoice(base_url=server.url, dim=9)
    with pytest.raises(CollectionError, match="has 27 dimensions"):
        ingest.text(tmp_path / "shelf", more, model="openai:letters", choice=narrow)
    report = ingest.text(tmp_path / "shelf", more, model="openai:letters", choice=narrow, space="narrow")
    assert report.added + report.updated == 1
