"""The index of words: what is found, its BM25 against the formula, and that each commit keeps it in step."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import search
from search.catalog import full_text, postings, reads
from search.collection import Collection
from search.query.keywords import Keywords

TEXTS = {
    "a": "The Café opens at noon, and the café closes at nine",
    "b": "東京の天気は晴れ",
    "c": "cafes and noodles",
    "d": "noodles, noodles, noodles",
    "e": "서울의 날씨는 맑음",
}


@pytest.fixture(params=[True, False], ids=["taken in", "waiting"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Collection:
    """With the words of its texts in the index, or with all of them waiting."""
    shop = search.open(tmp_path / "c")
    shop.add(
        [{"id": id, "text": text} for id, text in TEXTS.items()]
        + [{"id": "none"}, {"id": "empty", "text": ""}]
    )
    if request.param:
        shop.index()
    assert n_waiting(shop) == (0 if request.param else len(TEXTS) + 2)
    return shop


def n_waiting(shop: Collection) -> int:
    with shop.database.reading() as transaction:
        return reads.state(transaction).next_record - full_text.until(transaction)


def found(shop: Collection, query: str) -> dict[str, float]:
    """BM25 by id, of all the query's units together; asked by somebody who has not asked before."""
    return ranked(shop, Keywords(), query)


def ranked(shop: Collection, keywords: Keywords, query: str) -> dict[str, float]:
    with shop.database.reading() as transaction:
        ranking = keywords.ranking(transaction, reads.state(transaction), query, "none")
        ids = dict(transaction.sql("select key, id from record").fetchall())
    keys, scores = ranking.first(np.ones(max(ids, default=0) + 1, dtype=bool), 10_000)
    return {ids[key]: score for key, score in zip(keys.tolist(), scores.tolist(), strict=True)}


def bm25(texts: dict[str, str], word: str) -> dict[str, float]:
    """Robertson's formula with k1 = 1.2 and b = 0.75, as SQLite's documentation gives it."""
    words = {id: re.findall(r"\w+", text) for id, text in texts.items()}
    holding = [id for id in words if word in words[id]]
    idf = max(math.log((len(texts) - len(holding) + 0.5) / (len(holding) + 0.5)), 1e-6)
    mean = np.mean([len(some) for some in words.values()])
    scores = {}
    for id in holding:
        n = words[id].count(word)
        scores[id] = idf * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * len(words[id]) / mean))
    return scores


def test_words_phrases_prefixes_accents_and_scripts(shop: Collection) -> None:
    for expression, ids in (
        ('"cafe"', {"a"}),
        ("cafe*", {"a", "c"}),
        ('"opens at noon"', {"a"}),
        ('"opens noon"', set()),
        ('"天気"', {"b"}),
        ('"京の"', {"b"}),
        ('"気天"', set()),
        ('"날씨"', {"e"}),
    ):
        assert set(found(shop, expression)) == ids, expression


def test_scores_are_bm25(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    texts = {
        f"r{i}": " ".join(f"w{int(n)}" for n in rng.zipf(1.4, rng.integers(1, 40)) if n < 50) or "w1"
        for i in range(60)
    }
    shop = search.open(tmp_path / "c")
    shop.add([{"id": id, "text": text} for id, text in texts.items()])
    for word in ("w1", "w2", "w3", "w7", "w20"):
        assert found(shop, f'"{word}"') == pytest.approx(bm25(texts, word), rel=1e-9)


def test_each_commit_keeps_it_in_step(shop: Collection) -> None:
    shop.add([{"id": "a", "text": "changed"}, {"id": "c"}, {"id": "new", "text": "noodles"}])
    assert set(found(shop, "cafe*")) == {"c"}
    assert set(found(shop, '"noodles"')) == {"c", "d", "new"}
    shop.delete(["d", "none"])
    shop.delete(where="text like '%changed%'")
    assert set(found(shop, '"noodles"')) == {"c", "new"}
    assert found(shop, '"changed"') == {}
    assert shop.check() == []
    shop.index()
    assert shop.check() == []
    with shop.database.reading() as transaction:
        assert postings.totals(transaction) == postings.Totals(4, 8 + 3 + 8 + 1)
        assert postings.n_with(transaction, "noodles") == 2


def test_what_is_withdrawn_with_its_last_vector_is_gone(tmp_path: Path) -> None:
    shop = search.open(tmp_path / "c")
    shop.add([{"id": "a", "text": "one"}, {"id": "b", "text": "one two"}], [[1, 0], [0, 1]], space="v")
    shop.add([{"id": "b"}], [[1, 0, 0]], space="w")
    with shop.writing() as writer:
        writer.withdraw(["a", "b"], shop.spaces()["v"])
    assert set(found(shop, '"one"')) == {"b"}
    assert shop.check() == []


def test_a_commit_that_fails_leaves_it_as_it_was(shop: Collection) -> None:
    before = found(shop, '"noodles"')
    with pytest.raises(search.QueryError):
        shop.add([{"id": "x", "text": "noodles"}, {"id": "y"}], [[1, 0], [0, 0]], space="v")
    assert found(shop, '"noodles"') == before


@pytest.mark.parametrize(
    "damage",
    [
        "update word_docsize set sz = x'09' where id = 1",
        "insert into word (rowid, text) values (99, 'of no record')",
        "insert into word (word, rowid, text) values ('delete', 3, 'cafes and noodles')",
        "delete from word_data where id > 10",
        "delete from words_until",
        "update words_until set key = 3",
    ],
)
def test_damage_is_found_and_mended(shop: Collection, damage: str) -> None:
    shop.index()
    before = found(shop, '"noodles"')
    with shop.database.writing() as transaction:
        transaction.sql(damage)
    with search.open(shop.path, mode="r") as reader:
        (line,) = reader.check()
    assert "index of words is damaged" in line
    shop.compact()
    assert shop.check() == []
    assert found(shop, '"noodles"') == pytest.approx(before)


def test_a_collection_of_before_is_given_its_words(shop: Collection) -> None:
    before = found(shop, '"noodles"')
    with shop.database.writing() as transaction:  # as the step before left it
        for table in ("word_count", "word", "words_until"):
            transaction.sql(f"drop table {table}")
        transaction.sql("delete from migration where number > 5")
        transaction.sql("pragma user_version = 5")
    shop.close()
    with search.open(shop.path) as again:
        assert found(again, '"noodles"') == pytest.approx(before)
        assert again.check() == []


def test_new_texts_wait_until_there_are_many(tmp_path: Path) -> None:
    """Small commits take some in, large ones leave them to the background, and never too many wait."""
    with search.open(tmp_path / "c") as shop:
        for number in range(255):
            shop.add([{"id": f"a{number}", "text": "one"}])
        assert n_waiting(shop) == 255
        shop.add([{"id": "next", "text": "one two"}])
        assert n_waiting(shop) == 0
        with shop.writing() as writer:
            writer.put([search.Record(f"b{number}", text="one three") for number in range(600)])
            assert n_waiting(shop) == 600
            writer.put([search.Record("after", text="two")])
            assert n_waiting(shop) == 601 - 512
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(full_text, "MOST_WAITING", 300)
                writer.put([search.Record(f"c{number}", text="four") for number in range(600)])
            assert n_waiting(shop) == 300
        assert len(found(shop, "two")) == 2
        assert len(found(shop, "three")) == 600
        assert len(found(shop, "fou*")) == 600
        assert shop.check() == []
        shop.add([{"id": f"d{number}", "text": "five"} for number in range(300)])
    with search.open(tmp_path / "c", mode="r") as reader:
        assert n_waiting(reader) == 0  # which closing waited for
        assert len(found(reader, "five")) == 300
        assert reader.check() == []


def test_texts_that_wait_change_and_go(tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as shop, search.open(tmp_path / "c", mode="r") as reader:
        keywords = Keywords()
        shop.add([{"id": "a", "text": "one"}, {"id": "b", "text": "one two"}])
        shop.index()
        assert set(ranked(reader, keywords, "one")) == {"a", "b"}
        shop.add([{"id": "c", "text": "one"}, {"id": "d", "text": "three"}, {"id": "e"}])
        assert set(ranked(reader, keywords, "one")) == {"a", "b", "c"}
        shop.add([{"id": "c", "text": "two"}, {"id": "a", "text": "three"}, {"id": "e", "text": "three"}])
        assert set(ranked(reader, keywords, "three")) == {"a", "d", "e"}
        shop.delete(["d", "b"])
        assert set(ranked(reader, keywords, "three")) == {"a", "e"}
        assert set(ranked(reader, keywords, "two")) == {"c"}
        shop.index()  # the words come in without any commit that a reader could see
        for query, ids in (("three", {"a", "e"}), ("two", {"c"}), ("tw*", {"c"}), ("one", set())):
            assert set(ranked(reader, keywords, query)) == set(found(reader, query)) == ids
            assert ranked(reader, keywords, query) == pytest.approx(found(reader, query))
        assert shop.check() == []
