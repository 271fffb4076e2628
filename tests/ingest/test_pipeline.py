"""A run of ingest: what is encoded, what is committed, and what a second run leaves alone."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import search
from ingest import pipeline
from ingest.pipeline import Ahead, Job
from ingest.report import QUIET, Progress
from ingest.sources.contract import Rejected
from search.errors import CollectionError, SourceError
from tests.letters import LetterEncoder, Words, job, whole

TEXTS = {"one": "abc", "two": "aab", "three": "xyz", "four": "abcxyz"}


@pytest.fixture
def shelf(tmp_path: Path):
    with search.open(tmp_path / "shelf") as opened:
        yield opened


def test_a_run_stores_each_record_with_its_vector(shelf):
    report = pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)

    assert (report.read, report.added, report.vectors, report.rejected) == (4, 4, 4, 0)
    assert shelf.get("two")[0] == search.Record("two", "text", "/words/two", "aab", {"n": 3})
    query = np.zeros(26)
    query[[0, 1, 2]] = 1  # "abc"
    hits = shelf.search(vector=query, k=4)
    assert [hit.id for hit in hits] == ["one", "two", "four", "three"]
    expected = [1.0, 3 / (3**0.5 * 5**0.5), 3 / (3**0.5 * 6**0.5), 0.0]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-6)


def test_a_second_run_encodes_only_what_is_new_or_changed(shelf):
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    again = LetterEncoder()

    report = pipeline.fill(shelf, Words({**TEXTS, "two": "zzz", "five": "q"}), job(again), QUIET)

    assert again.calls == ["q", "zzz"]
    assert (report.added, report.updated, report.unchanged) == (1, 1, 3)
    assert shelf.search(vector=np.eye(26)[25], k=1)[0].id == "two"
    assert shelf.count() == 5


def test_other_settings_encode_everything_again(shelf):
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    report = pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder(), settings="other"), QUIET)
    assert (report.updated, report.unchanged) == (4, 0)
    assert shelf.info()["spaces"][0]["vectors"] == 4


def test_prune_removes_what_vanished_from_this_origin_alone(shelf):
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    pipeline.fill(shelf, Words({"else": "kkk"}, origin="/elsewhere"), job(LetterEncoder()), QUIET)
    fewer = {"one": "abc", "two": None}

    kept = pipeline.fill(shelf, Words(fewer), job(LetterEncoder()), QUIET)
    assert (kept.removed, shelf.count()) == (0, 5)
    pruned = pipeline.fill(shelf, Words(fewer), job(LetterEncoder(), prune=True), QUIET)

    assert pruned.removed == 2
    # "two" is there still: it could not be read, which is not the same as gone.
    assert {hit.id for hit in shelf.search(vector=np.ones(26), k=10)} == {"one", "two", "else"}
    assert shelf.get(["three", "four"]) == [None, None]


def test_prune_keeps_a_record_that_has_vectors_elsewhere(shelf):
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    shelf.add([{"id": "three"}], np.eye(3)[:1], space="graph")

    pipeline.fill(shelf, Words({"one": "abc"}), job(LetterEncoder(), prune=True), QUIET)

    assert shelf.get("three")[0].text == "xyz"
    assert [hit.id for hit in shelf.search(vector=np.ones(26), k=10)] == ["one"]
    assert [hit.id for hit in shelf.search(vector=[1, 0, 0], k=10)] == ["three"]


def test_prune_spares_a_path_where_even_an_id_could_not_be_read(shelf):
    class Broken(Words):
        def __iter__(self):
            yield from super().__iter__()
            yield Rejected("/words/table.jsonl", "not JSON", line=3)

    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    report = pipeline.fill(shelf, Broken({"one": "abc"}), job(LetterEncoder(), prune=True), QUIET)
    assert (report.removed, report.unpruned, shelf.count()) == (0, ("/words",), 4)


def test_a_duplicate_id_is_rejected_and_the_first_one_stands(shelf):
    class Twice(Words):
        def __iter__(self):
            yield from super().__iter__()
            yield from Words({"one": "zzz"}).__iter__()

    report = pipeline.fill(shelf, Twice(TEXTS), job(LetterEncoder()), QUIET)

    assert (report.added, report.rejected) == (4, 1)
    assert shelf.get("one")[0].text == "abc"
    line = json.loads(Path(report.rejects_file).read_text(encoding="utf-8"))
    assert line["id"] == "one"
    assert "duplicate" in line["reason"]


def test_a_record_the_catalog_refuses_does_not_stop_those_beside_it(shelf):
    report = pipeline.fill(shelf, Words({"bad": "a\ud800", "good": "abc"}), job(LetterEncoder()), QUIET)
    assert (report.added, report.rejected) == (1, 1)
    assert shelf.get(["good", "bad"])[1] is None
    assert "surrogates" in json.loads(Path(report.rejects_file).read_text(encoding="utf-8"))["reason"]


def test_a_run_that_breaks_keeps_its_commits_and_the_next_goes_on(shelf, monkeypatch):
    monkeypatch.setattr(pipeline, "_READ_AT_ONCE", 10)
    monkeypatch.setattr(pipeline, "ENCODE_AT_ONCE", 10)
    texts = {f"r{number}": "abc"[number % 3] * (number + 1) for number in range(100)}
    broken = {**dict(itertools.islice(texts.items(), 55)), "boom": SourceError("the disk went away")}

    with pytest.raises(SourceError, match="disk went away"):
        pipeline.fill(shelf, Words(broken), job(LetterEncoder()), QUIET)
    kept = shelf.count()
    assert 0 < kept <= 50
    assert kept % 10 == 0
    assert shelf.check() == []

    again = LetterEncoder()
    report = pipeline.fill(shelf, Words(texts), job(again), QUIET)
    assert (report.added, report.unchanged) == (100 - kept, kept)
    assert len(again.calls) == 100 - kept
    assert shelf.count() == 100


def test_a_forecast_counts_and_writes_nothing(shelf):
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    before = shelf.info()["commit"]

    told = pipeline.forecast(
        shelf, Words({"one": "abc", "two": "zz", "new": "n"}), ("text", "letters", "whole"), prune=True
    )

    assert (told.added, told.updated, told.unchanged, told.removed) == (1, 1, 1, 2)
    assert told.dry_run
    assert shelf.info()["commit"] == before


def test_another_model_does_not_mix_into_a_space(shelf):
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    with pytest.raises(CollectionError, match="made by letters"):
        pipeline.fill(shelf, Words({**TEXTS, "five": "q"}), job(LetterEncoder("letters-2")), QUIET)
    assert shelf.count() == 4


def test_where_nothing_changed_no_encoder_is_asked_for(shelf):
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)

    def never():
        raise AssertionError("the encoder was loaded")

    idle = Job("text", "letters", never, whole, "whole")
    assert pipeline.fill(shelf, Words(TEXTS), idle, QUIET).unchanged == 4


def test_text_joins_a_record_that_has_node_vectors(shelf):
    shelf.add([{"id": "one", "kind": "node", "metadata": {"degree": 3}}], np.eye(3)[:1], space="graph")
    pipeline.fill(shelf, Words(TEXTS), job(LetterEncoder()), QUIET)
    assert shelf.get("one")[0] == search.Record("one", "node", "/words/one", "abc", {"degree": 3, "n": 3})
    assert shelf.search(like="one", k=1)[0].id == "two"


def test_progress_hears_of_every_record(shelf):
    heard = []

    class Counted(Progress):
        def advance(self, stage, done):
            heard.append(done)

    pipeline.fill(shelf, Words({**TEXTS, "bad": None}), job(LetterEncoder()), Counted())
    assert sum(heard) == 5


def test_ahead_yields_everything_in_order_and_raises_what_was_raised():
    assert list(Ahead(iter(range(100)))) == list(range(100))

    def broken():
        yield 1
        raise SourceError("gone")

    things = iter(Ahead(broken()))
    assert next(things) == 1
    with pytest.raises(SourceError, match="gone"):
        next(things)


def test_ahead_is_ahead_by_its_depth_alone_and_stops_when_closed():
    taken = []

    def counting():
        for number in itertools.count():
            taken.append(number)
            yield number

    ahead = Ahead(counting(), depth=3)
    first = next(iter(ahead))
    deadline = time.monotonic() + 10
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    ahead.close()
    assert first == 0
    assert len(taken) == 5  # one given, three waiting, one in hand
    assert all(thread.name != "nearkin-ahead" for thread in threading.enumerate())
