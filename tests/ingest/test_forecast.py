"""What a dry run says a run would take, beside what the run takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import ingest
import search
from ingest import pipeline
from ingest.cli.main import app
from ingest.forecast import Outlook
from ingest.report import QUIET
from search.cli.main import outcome
from search.encoders import endpoint
from tests.endpoint import Served, served
from tests.ingest.test_reuse import LetterModel, passages, sentence
from tests.letters import Words


def texts(n: int) -> dict[str, str]:
    """Texts of 1 to 4 sentences; some of them twice."""
    return {f"t{i}": "".join(sentence(5 * (i % 900) + j) for j in range(1 + i % 4)) for i in range(n)}


def foretold(there: search.Collection | None, source: Words, encoder: LetterModel) -> ingest.Report:
    job = passages(encoder)
    return pipeline.forecast(
        there, source, (job.space, job.model, job.settings), prune=False, seer=Outlook(job)
    )


def test_a_forecast_beside_the_run(tmp_path):
    source, encoder = Words(texts(2000)), LetterModel()
    told = foretold(None, source, encoder)
    assert told.forecast is not None
    with search.open(tmp_path / "shelf") as there:
        done = pipeline.fill(there, source, passages(LetterModel()), QUIET)
    used = sum(file.stat().st_size for file in (tmp_path / "shelf").rglob("*") if file.is_file())

    assert told.forecast.passages == told.vectors == done.vectors == 5000
    distinct = {passage for text in texts(2000).values() for passage in text.split(". ") if passage}
    assert told.forecast.tokens == 8 * len(distinct)
    assert done.vectors - done.reused == len(distinct)
    assert used / 1.25 < told.forecast.disk_bytes < used * 1.25
    assert told.forecast.seconds is not None
    assert told.forecast.seconds > 0
    assert told.forecast.memory_bytes is None or told.forecast.memory_bytes > 1_000_000


def test_only_what_is_new_is_forecast(tmp_path):
    with search.open(tmp_path / "shelf") as there:
        pipeline.fill(there, Words(texts(10)), passages(LetterModel()), QUIET)
        encoder = LetterModel()
        told = foretold(there, Words({**texts(10), "new": sentence(7000)}), encoder)
        assert told.forecast is not None
        assert (told.added, told.unchanged, told.forecast.passages, told.forecast.tokens) == (1, 10, 1, 8)
        assert set(encoder.calls) == {sentence(7000).strip()}
        never = foretold(there, Words(texts(10)), encoder)
        assert (never.forecast, never.no_forecast, never.unchanged) == (None, None, 10)
        assert there.count() == 10


def test_a_sample_is_drawn_from_all(tmp_path):
    encoder = LetterModel()
    many = {f"t{i}": f"{'a' * (i % 50 + 1)} {'b' * (i // 50)}" for i in range(2500)}
    foretold(None, Words(many), encoder)
    places = sorted(
        {list(many.values()).index(text.ljust(len(text))) for text in encoder.calls if text in many.values()}
    )
    assert len(places) > 200
    assert places[0] < 250
    assert places[-1] > 2250
    assert 1000 < sum(places) / len(places) < 1500


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), "text": f"text {n}"}) + "\n" for n in range(20)))
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in (*endpoint.KEY_NAMES, endpoint.BASE_URL_NAME):
        monkeypatch.delenv(name, raising=False)
    with served() as one:
        yield one


def test_without_the_model_the_counts_are_told_all_the_same(lines, tmp_path, capsys):
    shelf = tmp_path / "shelf"
    command = ["ingest", "text", str(lines), "-c", str(shelf), "--model", str(tmp_path / "none"), "--dry-run"]
    assert outcome(app, command) == 0
    said = capsys.readouterr().err
    assert "20 would be added" in said
    assert "what it would take cannot be said: no folder" in said
    assert outcome(app, [*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["added"], told["forecast"]) == (20, None)
    assert "no folder" in told["no_forecast"]
    assert not shelf.exists()


def test_a_remote_model_is_sent_no_text(server, lines, tmp_path, capsys):
    shelf = tmp_path / "shelf"
    command = ["ingest", "text", str(lines), "-c", str(shelf), "--model", "openai:letters"]
    assert outcome(app, [*command, "--base-url", server.url, "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["forecast"]
    assert server.texts == ["dimension"]
    assert (told["seconds"], told["passages"], told["tokens"]) == (None, 20, 40)
    assert not shelf.exists()
    assert outcome(app, [*command, "--base-url", server.url, "--dry-run"]) == 0
    assert "MB of disk: 20 passages, 40 tokens to encode" in capsys.readouterr().err


@pytest.mark.parametrize("how", [(), ("--dry-run",)])
def test_a_space_made_with_other_settings_is_refused_though_nothing_is_to_be_encoded(
    server, lines, tmp_path, capsys, how
):
    command = ["ingest", "text", str(lines), "-c", str(tmp_path / "shelf"), "--model", "openai:letters"]
    command += ["--base-url", server.url, "--document-prompt"]
    assert outcome(app, [*command, "one "]) == 0
    assert outcome(app, [*command, "one ", *how]) == 0
    capsys.readouterr()
    assert outcome(app, [*command, "two ", *how]) == 1
    said = capsys.readouterr().err
    assert "with document_prompt 'two ' and not 'one '; give another name with --space" in said


def test_a_dry_run_names_another_model_and_what_it_cannot_read(server, lines, tmp_path, capsys):
    shelf, model = tmp_path / "shelf", ["--base-url", server.url, "--document-prompt", "one "]
    command = ["ingest", "text", str(lines), "-c", str(shelf), "--model", "openai:letters"]
    assert outcome(app, [*command, *model]) == 0
    with lines.open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "text": "new words"}\nnot json\n')
    capsys.readouterr()
    assert outcome(app, [*command, *model, "--dry-run"]) == 0
    assert f"skipped {lines}:22: not JSON" in capsys.readouterr().err
    assert outcome(app, [*command, *model[:2], "--dry-run"]) == 1
    assert "with document_prompt unset and not 'one '" in capsys.readouterr().err
