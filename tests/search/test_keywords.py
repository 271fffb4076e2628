"""The ranking by words, followed from commit to commit, against an FTS5 table of the test's own made anew each time."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from search.catalog import full_text, postings, reads
from search.catalog.database import Behind
from search.collection import Collection
from search.errors import CollectionCorrupt
from search.query import keywords
from search.query import texts as followed
from search.query.keywords import Keywords, Ranking
from search.query.units import Unit, units

WORDS = [f"w{n}" for n in range(30)] + ["Straße", "ΣΟΦΟΣ", "İstanbul", "ﬁne", "x²", "été", "東京", "naïve"]
QUERIES = [
    "w1",
    "w2 w9",
    "w0",
    "w0 w1 w3",
    '"w1 w2"',
    "w1*",
    "straße",
    "σοφος",
    "istanbul",
    "x²",
    "ete",
    "東京 w4",
    "none",
]
SHARES = 1 / np.arange(1, len(WORDS) + 1) ** 0.7


def text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(1, 12), p=SHARES / SHARES.sum()))


def scored(shop: Collection, words: Keywords, query: str, language: str = "none") -> dict[str, float]:
    with shop.database.reading() as transaction:
        state = reads.state(transaction)
        ranking = words.ranking(transaction, state, query, language)
        ids = dict(transaction.sql("select key, id from record").fetchall())
    mask = np.zeros(state.next_record, dtype=bool)
    mask[list(ids)] = True
    keys, scores = ranking.first(mask, 10_000)
    return {ids[key]: score for key, score in zip(keys.tolist(), scores.tolist(), strict=True)}


def expected(texts: dict[str, str], query: str) -> dict[str, float]:
    """As FTS5 ranks them, by one question for all the units that fewer than half of the texts hold."""
    with sqlite3.connect(":memory:") as own:
        own.execute(
            "create virtual table t using fts5 (id unindexed, text, tokenize = 'unicode61 remove_diacritics 2')"
        )
        own.executemany(
            "insert into t values (?, ?)", [(id, full_text.spaced(one)) for id, one in texts.items()]
        )
        n = {}
        for unit in units(query):
            (n[unit],) = own.execute(
                "select count(*) from t where t match ?", (f"text : {unit.expression}",)
            ).fetchone()
        wanted = [one for one in n if one.prefix or " " in one.words or 2 * n[one] < len(texts)] or list(n)
        asked = " OR ".join(unit.expression for unit in wanted)
        rows = own.execute("select id, -rank from t where t match ?", (f"text : ({asked})",)).fetchall()
    own.close()
    return dict(rows)


@pytest.mark.parametrize("most_recent", [5_000, 25])
def test_what_commits_change_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_recent: int
) -> None:
    monkeypatch.setattr(followed, "_MOST_RECENT", most_recent)
    monkeypatch.setattr(followed, "_BYTES", 20_000)
    monkeypatch.setattr(full_text, "BULK", 20)
    rng = np.random.default_rng(5)
    texts: dict[str, str] = {}
    words, n_found = Keywords(), 0
    with search.open(tmp_path / "c") as shop, search.open(tmp_path / "c", mode="r") as reader:
        for step in range(40):
            kept = list(texts)
            new = {f"r{step}-{i}": text(rng) for i in range(int(rng.integers(0, 8)))}
            changed = (
                {str(id): text(rng) for id in rng.choice(kept, min(len(kept), 3), replace=False)}
                if kept
                else {}
            )
            emptied = {str(id): "" for id in rng.choice(kept, 1)} if kept and step % 4 == 1 else {}
            now: dict[str, str] = new | changed | emptied
            shop.add([{"id": id, "text": one} for id, one in now.items()])
            texts |= now
            if step % 3 == 2:
                gone = [str(id) for id in rng.choice(list(texts), 2, replace=False)]
                shop.delete(gone)
                texts = {id: one for id, one in texts.items() if id not in gone}
            if step % 10 == 9:
                shop.compact()
            elif step % 10 == 4:
                shop.index()
            held = {id: one for id, one in texts.items() if one}
            for query in QUERIES if step % 5 == 0 else QUERIES[:3]:
                found = scored(reader, words, query)
                assert found == pytest.approx(expected(held, query), rel=1e-9), (step, query)
                n_found += len(found)
        assert shop.check() == []
    assert n_found > 2_000


FORMS = [
    "run",
    "runs",
    "running",
    "runner",
    "walk",
    "walks",
    "walked",
    "walking",
    "talk",
    "talked",
    "relation",
]
FORMS += ["relational", "relations", "wing", "winged"]


@pytest.mark.parametrize("most_forms", [64, 2])
def test_forms_of_words_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_forms: int
) -> None:
    """Whoever has asked since the beginning finds what somebody finds who asks for the first time."""
    monkeypatch.setattr(keywords, "_MOST_FORMS", most_forms)
    rng = np.random.default_rng(3)
    words, n_found, ids = Keywords(), 0, [f"r{i}" for i in range(30)]
    with search.open(tmp_path / "c") as shop:
        for step in range(30):
            some = rng.choice(ids, 3, replace=False).tolist()
            # More of the words appear as time goes by.
            shop.add([{"id": id, "text": " ".join(rng.choice(FORMS[: 2 + step // 2], 3))} for id in some])
            if step % 4 == 3:
                shop.delete(str(rng.choice(ids)))
            if step % 7 == 6:
                shop.index()
            for query in ("running", "walks talks", "relation wings", "run runs"):
                found = scored(shop, words, query, language="english")
                assert found == pytest.approx(scored(shop, Keywords(), query, language="english"), rel=1e-12)
                n_found += len(found)
    assert n_found > 500


def test_few_and_many_are_added_up_alike() -> None:
    rng = np.random.default_rng(1)
    by_unit = []
    for n in (3, 40, 200):
        keys = np.sort(rng.choice(500, n, replace=False))
        by_unit.append((Unit("w", "w"), keys, rng.random(n) + 0.01))
    few, many = rng.random(500) < 0.5, rng.random(500_000) < 0.5
    many[:500] = few
    for ranking in (Ranking(by_unit), Ranking(by_unit[:1]), Ranking([])):
        total = np.zeros(500)
        for _, keys, scores in ranking.by_unit:
            total[keys] += scores
        total[~few] = 0
        best = np.argsort(-total, kind="stable")[: min(20, np.count_nonzero(total))]
        for among in (few, many):
            keys, scores = ranking.first(among, 20)
            assert keys.tolist() == best.tolist()
            np.testing.assert_allclose(scores, total[best], rtol=1e-12)


def test_common_words_are_told_though_texts_move(tmp_path: Path) -> None:
    """A word that half of the texts hold is left out, and comes back in the commit after which fewer do."""
    words = Keywords()

    def told(shop: Collection) -> set[str]:
        with shop.database.reading() as transaction:
            ranking = words.ranking(transaction, reads.state(transaction), "often seldom", "none")
        return {unit.shown for unit, *_ in ranking.by_unit}

    with search.open(tmp_path / "c") as shop:
        shop.add(
            [{"id": "a", "text": "often"}, {"id": "b", "text": "often seldom"}, {"id": "c", "text": "x"}]
        )
        assert told(shop) == {"seldom"}
        shop.add([{"id": "d", "text": "y"}])
        assert told(shop) == {"seldom"}
        shop.add([{"id": "e", "text": "z"}])
        assert told(shop) == {"often", "seldom"}
        shop.delete("c")
        assert told(shop) == {"seldom"}
        shop.add([{"id": "a", "text": "no more"}])
        assert told(shop) == {"often", "seldom"}


def test_an_older_reader_reads_again(tmp_path: Path) -> None:
    words = Keywords()
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": "a", "text": "one"}])
        with shop.database.reading() as before:
            state = reads.state(before)
            shop.add([{"id": "b", "text": "one"}])
            assert set(scored(shop, words, "one")) == {"a", "b"}
            with pytest.raises(Behind):
                words.ranking(before, state, "one", "none")


@pytest.mark.parametrize(
    "damage",
    [
        "update word_docsize set sz = x'09' where id = 1",
        "delete from word_docsize where id = 1",
        "delete from word_data where id = 1",
    ],
)
def test_a_damaged_index_is_not_answered_from(tmp_path: Path, damage: str) -> None:
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": "a", "text": "one two"}, {"id": "b", "text": "one"}])
        shop.index()
        with shop.database.writing() as transaction:
            transaction.sql(damage)
        with pytest.raises(CollectionCorrupt, match="index of words is damaged"):
            scored(shop, Keywords(), "one")
        shop.compact()
        assert set(scored(shop, Keywords(), "one")) == {"a", "b"}


def test_numbers_of_any_length_are_read() -> None:
    numbers = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 5]
    data = b""
    for number in numbers:
        groups = [number & 127]
        while number := number >> 7:
            groups.append(number & 127 | 128)
        data += bytes(reversed(groups))
    assert postings._varints(data).tolist() == numbers
    assert postings._varints(b"").tolist() == []


def test_a_long_text_counts_as_long(tmp_path: Path) -> None:
    """Lengths above 127 and 16,383 words take more bytes, and counts above one are read."""
    texts = {
        "a": "one " * 200,
        "b": "one " + "two " * 20_000,
        "c": "two one one",
        "d": "x",
        "e": "y",
        "f": "z",
        "g": "v",
    }
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": id, "text": one} for id, one in texts.items()])
        for query in ("one", '"one one"', "on*", "two"):
            found: dict[str, Any] = scored(shop, Keywords(), query)
            assert found == pytest.approx(expected(texts, query), rel=1e-9)
