"""Nothing is encoded twice: equal texts in a run, and what a space holds already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import ingest
import search
from ingest import pipeline
from ingest.passages import Lengths
from ingest.pipeline import Ready
from ingest.prepare import Passages, tokens_in
from ingest.report import QUIET
from ingest.reuse import Memo
from ingest.sources.contract import Item, Rejected
from search.catalog import inputs
from search.collection import Collection
from search.encoders.contract import Item as Encodable
from search.encoders.contract import Role, TextModel, Vectors
from search.types import Part
from tests.letters import LetterEncoder, Words, job


class LetterModel(LetterEncoder, TextModel):
    """Letters, and words as tokens."""

    max_tokens = 100

    def token_offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = []
        for text in texts:
            spans, at = [], 0
            for word in text.split():
                at = text.index(word, at)
                spans.append((at, at + len(word)))
                at += len(word)
            found.append(np.array(spans, dtype=np.int32).reshape(-1, 2))
        return found


def encoded(encoder: LetterEncoder) -> list[str]:
    """What a first run had encoded, after the probes."""
    return encoder.calls[3:]


def passages(encoder: LetterModel, settings: str = "8 words") -> pipeline.Job:
    return pipeline.Job(
        "text", "letters", lambda: encoder, Passages(lambda: encoder, Lengths(8, 0)), settings
    )


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Collection]:
    with search.open(tmp_path / "shelf") as opened:
        yield opened


def sentence(n: int) -> str:
    """Eight words, with a stop."""
    return " ".join(chr(97 + (n * 7 + i * 3) % 26) * (1 + (n + i) % 4) for i in range(8)) + ". "


def stored(shelf: Collection, id: str) -> tuple[tuple[Part, ...], Vectors]:
    with shelf.database.reading() as transaction:
        from search.catalog import reads

        key = reads.keys_of(transaction, [id])[id]
        return inputs.passages(transaction, shelf.spaces()["text"], [key])[key]


def agrees(shelf: Collection, id: str) -> bool:
    """Whether every stored passage has the vector of its own words."""
    text = shelf.get(id)[0].text
    parts, vectors = stored(shelf, id)
    np.testing.assert_allclose(
        vectors, LetterEncoder().encode([text[part.start : part.end] for part in parts]), atol=1e-6
    )
    return True


def test_equal_texts_in_a_run_are_encoded_once_each_with_its_vector(shelf, monkeypatch):
    monkeypatch.setattr(pipeline, "_READ_AT_ONCE", 3)
    monkeypatch.setattr(pipeline, "ENCODE_AT_ONCE", 4)
    encoder = LetterEncoder()
    texts = {f"r{n}": ("abc", "aab", "xyz")[n % 3] for n in range(30)}
    report = pipeline.fill(shelf, Words(texts), job(encoder), QUIET)
    assert sorted(encoded(encoder)) == ["aab", "abc", "xyz"]
    assert (report.added, report.vectors, report.reused) == (30, 30, 27)
    query = LetterEncoder().encode(["xyz"])[0]
    assert {hit.id for hit in shelf.search(vector=query, k=10)} == {f"r{n}" for n in range(2, 30, 3)}


def test_of_a_changed_text_only_the_changed_passages_are_encoded(shelf):
    first, again = LetterModel(), LetterModel()
    sentences = [sentence(n) for n in range(6)]
    pipeline.fill(shelf, Words({"book": "".join(sentences), "other": "q q q"}), passages(first), QUIET)
    assert [text + " " for text in encoded(first) if text != "q q q"] == sentences
    sentences[2] = "now another sentence stands here in its place. "
    report = pipeline.fill(shelf, Words({"book": "".join(sentences)}), passages(again), QUIET)
    assert again.calls == [sentences[2].strip()]
    assert (report.updated, report.vectors, report.reused) == (1, 6, 5)
    assert agrees(shelf, "book")


def test_other_settings_reuse_nothing(shelf):
    pipeline.fill(shelf, Words({"book": sentence(1) + sentence(2)}), passages(LetterModel()), QUIET)
    again = LetterModel()
    report = pipeline.fill(shelf, Words({"book": sentence(1) + sentence(3)}), passages(again, "other"), QUIET)
    assert (len(again.calls), report.reused) == (2, 0)


def test_a_text_that_moved_is_not_encoded_again(shelf):
    text = sentence(1) + sentence(2)
    pipeline.fill(shelf, Words({"old": text, "else": sentence(3)}), passages(LetterModel()), QUIET)
    again = LetterModel()
    report = pipeline.fill(
        shelf, Words({"new": text, "near": text + sentence(4)}, "/elsewhere"), passages(again), QUIET
    )
    assert again.calls == [sentence(4).strip()]  # the rest of "near" has come by with "new"
    assert (report.added, report.reused) == (2, 4)
    assert agrees(shelf, "new")
    assert agrees(shelf, "near")


def test_a_hash_alone_is_not_trusted(shelf, monkeypatch):
    from ingest.sync import Sync

    monkeypatch.setattr(Sync, "content", lambda self, item: b"01234567")
    pipeline.fill(shelf, Words({"old": sentence(1)}), passages(LetterModel()), QUIET)
    again = LetterModel()
    pipeline.fill(shelf, Words({"new": sentence(2)}), passages(again), QUIET)
    assert again.calls == [sentence(2).strip()]
    assert agrees(shelf, "new")


def test_a_collection_of_before_is_unchanged_and_reuses_nothing(shelf):
    texts = {"book": sentence(1) + sentence(2), "other": sentence(3)}
    pipeline.fill(shelf, Words(texts), passages(LetterModel()), QUIET)
    with shelf.writing(), shelf.database.writing() as transaction:  # as digests were until now
        transaction.sql("update synced set digest = substr(digest, 1, 16)", ())
    again = LetterModel()
    report = pipeline.fill(shelf, Words(texts), passages(again), QUIET)
    assert (report.unchanged, again.calls) == (2, [])
    texts["book"] = sentence(1) + sentence(4)
    report = pipeline.fill(shelf, Words({**texts, "copy": sentence(3)}), passages(again), QUIET)
    assert (report.updated, report.added, report.reused, len(again.calls)) == (1, 1, 0, 3)
    assert agrees(shelf, "book")


def test_words_around_a_passage_count(shelf):
    """What is encoded may hold more than the passage: then equal passages are two texts."""

    def titled(items: Sequence[Item]) -> list[Ready | Rejected]:
        texts = [(item, item.record.text or "") for item in items]
        return [Ready(item, (Part(2, 5),), (f"{text[0]} {text[2:5]}",)) for item, text in texts]

    first, again = LetterEncoder(), LetterEncoder()
    run = lambda encoder: pipeline.Job("text", "letters", lambda: encoder, titled, "titled")  # noqa: E731
    pipeline.fill(shelf, Words({"1": "a xyz", "2": "b xyz"}), run(first), QUIET)
    assert sorted(encoded(first)) == ["a xyz", "b xyz"]
    report = pipeline.fill(shelf, Words({"2": "b xyzzy", "3": "c xyz"}), run(again), QUIET)
    assert (again.calls, report.reused) == (["c xyz"], 1)


def test_the_memo_forgets_what_was_not_asked_for_longest():
    row = np.ones(25, dtype=np.float32)
    memo = Memo(most_bytes=3 * (100 + 300))
    for name in (b"a", b"b", b"c"):
        memo.keep(name, row)
    assert memo.get(b"a") is not None
    memo.keep(b"d", row)
    assert memo.get(b"b") is None
    assert all(memo.get(name) is not None for name in (b"a", b"c", b"d"))


def test_the_memo_does_not_hold_on_to_a_whole_handful():
    rows = np.arange(1000, dtype=np.float32).reshape(10, 100)
    memo = Memo()
    memo.keep(b"a", rows[3])
    kept = memo.get(b"a")
    assert kept is not None
    assert kept.base is None
    rows[3] = 0
    np.testing.assert_array_equal(kept, np.arange(300, 400))


def test_a_handful_is_full_by_its_tokens(shelf, monkeypatch):
    monkeypatch.setattr(pipeline, "_TOKENS_AT_ONCE", 16)
    sizes: list[int] = []

    class Counting(LetterModel):
        def encode(self, items: Sequence[Encodable], *, role: Role = "document") -> Vectors:
            sizes.append(len(items))
            return super().encode(items, role=role)

    texts = {f"long{n}": sentence(n) for n in range(4)} | {f"short{n}": chr(97 + n) * 9 for n in range(20)}
    pipeline.fill(shelf, Words(texts), passages(Counting()), QUIET)
    assert sizes == [3, 2, 2, 16, 4]  # the first three are the probes


def test_tokens_in_passages_are_counted():
    offsets = np.array([[0, 2], [3, 5], [6, 8], [9, 11]], dtype=np.int32)
    assert tokens_in(offsets, [Part(0, 11)]) == 4
    assert tokens_in(offsets, [Part(0, 5), Part(6, 11)]) == 4
    assert tokens_in(offsets, [Part(0, 8), Part(3, 11)]) == 6


def test_stages_are_busy_seconds(shelf):
    report = pipeline.fill(shelf, Words({"a": sentence(1)}), passages(LetterModel()), QUIET)
    assert set(report.stages) == {"read", "compare", "prepare", "encode", "commit", "index"}
    assert all(0 <= seconds <= report.seconds for seconds in report.stages.values())


def test_public_report_tells_it(tmp_path):
    assert {"reused", "tokens"} <= set(ingest.Report("c", "s", "m").to_json())
