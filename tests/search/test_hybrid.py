"""Hybrid search against plain numpy and an FTS5 table of the test's own, fused by hand."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from ingest.cli.main import app
from search.catalog import reads
from search.cli.main import outcome
from search.collection import Collection
from search.encoders import probes
from search.encoders.text import TextEncoder
from search.query.hybrid import fused
from search.query.keywords import Keywords
from search.query.units import MOST_WORDS, units
from search.types import Part, Record
from tests.letters import LetterEncoder
from tests.search.test_text_encoder import save_bert

WORDS = "plane man flute cheese pie men chess cello smoking paper playing taking off large person".split()  # noqa: SIM905


def sentences(n: int) -> list[str]:
    rng = np.random.default_rng(8)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(n)]


TEXTS = sentences(40)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder.from_name(
        str(save_bert(tmp_path_factory.mktemp("bert"))), device="cpu", precision="fp32"
    )


@pytest.fixture(scope="module")
def shop(encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Every third record has two passages; the last ones have no vector."""
    shop = search.open(tmp_path_factory.mktemp("hybrid") / "c", precision="fp32")
    with shop.writing() as writer:
        space = writer.space("text", encoder.spec, probes=probes.probe(encoder))
        records, parts, passages = [], [], []
        for number, text in enumerate(TEXTS[:36]):
            cut = [0, len(text) // 2, len(text)] if number % 3 == 0 else [0, len(text)]
            records.append(Record(f"r{number}", text=text, metadata={"i": number}))
            parts.append([Part(*span) for span in itertools.pairwise(cut)])
            passages += [text[part.start : part.end] for part in parts[-1]]
        writer.put(records, encoder.encode(passages), space, parts=parts)
        writer.put(
            [
                Record(f"r{number}", text=text, metadata={"i": number})
                for number, text in enumerate(TEXTS[36:], 36)
            ]
        )
    return shop


def expected(
    shop: Collection, encoder: TextEncoder, query: str, k: int, most: int = 36
) -> tuple[list[str], list[float]]:
    """Ids and scores, by numpy over the passages and by one FTS5 question over all texts."""
    (vector,) = encoder.encode([query], role="query")
    best = {}
    for number, text in enumerate(TEXTS[:most]):
        cut = [0, len(text) // 2, len(text)] if number % 3 == 0 else [0, len(text)]
        rows = encoder.encode([text[a:b] for a, b in itertools.pairwise(cut)])
        best[number] = float((rows @ vector).max())
    by_meaning = sorted(best, key=lambda number: (-best[number], number))
    with sqlite3.connect(":memory:") as own:
        own.execute("create virtual table t using fts5 (text)")
        own.executemany("insert into t (rowid, text) values (?, ?)", enumerate(TEXTS, 1))
        asked = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", query)))
        rows = own.execute(
            "select rowid - 1 from t where t match ? order by rank, rowid", (asked,)
        ).fetchall()
    own.close()
    by_words = [number for (number,) in rows if number < most]
    total = {
        number: sum(
            1 / (60 + ranking.index(number) + 1) for ranking in (by_meaning, by_words) if number in ranking
        )
        for number in by_meaning
    }
    order = sorted(total, key=lambda number: (-total[number], number))[:k]
    return [f"r{number}" for number in order], [total[number] * 61 / 2 for number in order]


@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize(
    "query", ["cheese pie", "a man playing chess", "flute", "no such thing", "cello cello off"]
)
def test_both_rankings_are_fused(shop: Collection, encoder: TextEncoder, query: str, k: int) -> None:
    ids, scores = expected(shop, encoder, query, k)
    hits = shop.search(query, hybrid=True, k=k)
    assert [hit.id for hit in hits] == ids
    np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-6)


def test_a_filter_holds_in_both_and_k_means_k(shop: Collection, encoder: TextEncoder) -> None:
    ids, scores = expected(shop, encoder, "cheese pie", 9, most=12)
    hits = shop.search("cheese pie", hybrid=True, k=9, where="i < 12")
    assert [hit.id for hit in hits] == ids
    np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-6)
    assert len(shop.search("cheese", hybrid=True, k=50, where="i < 12")) == 12
    assert shop.search("cheese", hybrid=True, where="i > 99") == []


def test_a_batch_is_each_query_alone(shop: Collection) -> None:
    queries = ["cheese pie", "flute", "nothing of this"]
    for query, hits in zip(queries, shop.search(queries, hybrid=True, k=4), strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in shop.search(query, hybrid=True, k=4)]


def test_explain_says_what_brought_a_hit(shop: Collection) -> None:
    meaning = [hit.id for hit in shop.search("cheese pie", k=36)]
    cosines = {hit.id: hit.score for hit in shop.search("cheese pie", k=36)}
    for hit in shop.search("cheese pie", hybrid=True, k=36, explain=True):
        assert hit.explain is not None
        told: Any = hit.explain["hybrid"]
        number = int(hit.id[1:])
        held = [word for word in ("cheese", "pie") if word in TEXTS[number].split()]
        assert told["by_words"]["words"] == held
        assert (told["by_words"]["bm25"] is not None) == bool(held)
        assert told["by_meaning"]["rank"] == meaning.index(hit.id) + 1
        assert told["by_meaning"]["score"] == pytest.approx(cosines[hit.id], abs=1e-5)
        assert {"plan", "encode_ms", "search_ms", "words_ms", "space"} <= set(hit.explain)


def test_phrases_and_beginnings(shop: Collection) -> None:
    def words(query: str) -> dict[str, list[str]]:
        hits = shop.search(query, hybrid=True, k=36, explain=True)
        told: Any = {hit.id: hit.explain["hybrid"]["by_words"]["words"] for hit in hits if hit.explain}
        return {id: some for id, some in told.items() if some}

    joined = {f"r{i}" for i, text in enumerate(TEXTS[:36]) if re.search(r"\bplaying chess\b", text)}
    assert joined
    assert set(words('"playing chess"')) == joined
    begun = {f"r{i}" for i, text in enumerate(TEXTS[:36]) if re.search(r"\bche", text)}
    assert set(words("che*")) == begun
    assert words("che") == {}


def test_what_is_changed_and_deleted_is_no_longer_found(tmp_path: Path, encoder: TextEncoder) -> None:
    shop = search.open(tmp_path / "c", precision="fp32")
    reader = None
    with shop.writing() as writer:
        space = writer.space("text", encoder.spec, probes=probes.probe(encoder))

        def put(**texts: str) -> None:
            writer.put(
                [Record(id, text=text) for id, text in texts.items()],
                encoder.encode(list(texts.values())),
                space,
            )

        put(a="cheese pie", b="flute", c="cheese")
        reader = search.open(tmp_path / "c", mode="r", precision="fp32")

        def holding(word: str) -> set[str]:
            hits = reader.search(word, hybrid=True, explain=True)
            told: Any = {hit.id: hit.explain for hit in hits}
            return {id for id, said in told.items() if said["hybrid"]["by_words"]["words"]}

        assert holding("cheese") == {"a", "c"}
        put(a="paper", b="cheese")
        assert holding("cheese") == {"b", "c"}
    shop.delete("c")
    assert holding("cheese") == {"b"}
    assert shop.check() == []


@pytest.mark.parametrize(
    "query",
    ['"', "*", 'a" OR b', "NEAR(a b)", "text:a", "^a", "a AND (", "-a", "{a}", "a + b", "''", "\0a", "東京"],
)
def test_nothing_in_a_query_is_syntax(shop: Collection, query: str) -> None:
    assert len(shop.search(query, hybrid=True, k=36)) == 36


def test_queries_are_cut_into_units() -> None:
    def said(query: str) -> list[str]:
        return [unit.expression for unit in units(query)]

    assert said('Power "of the  wind" wind* power') == ['"Power"', '"of the wind"', '"wind" *']
    assert said("state-of-the-art") == ['"state"', '"of"', '"the"', '"art"']
    assert said("東京の天気 map") == ['"東 京"', '"京 の"', '"の 天"', '"天 気"', '"map"']
    assert said("iPhone用") == ['"iPhone"', '"用"']
    assert len(said(" ".join(f"w{i}" for i in range(100_000)))) == MOST_WORDS


def test_reciprocal_ranks_by_hand() -> None:
    keys, scores, ranks = fused(np.array([5, 3, 9]), np.array([3, 7]), 10)
    assert keys.tolist() == [3, 5, 7, 9]
    np.testing.assert_allclose(
        scores, np.array([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63]) * 61 / 2, rtol=1e-6
    )
    assert ranks.tolist() == [[2, 1], [1, 0], [0, 2], [3, 0]]
    assert fused(np.array([5]), np.array([5]), 1)[1].tolist() == [1.0]


def test_bad_questions(shop: Collection) -> None:
    for question, what in (
        ({"query": " "}, "empty"),
        ({"query": "a", "k": 0}, "k must"),
        ({"query": "a", "k": -1}, "k must"),
        ({"like": "r1"}, "looks for words"),
        ({"query": "a", "like": "r1"}, "looks for words"),
        ({"query": "a", "hybrid": 1}, "True or False"),
    ):
        with pytest.raises(search.QueryError, match=what):
            shop.search(**({"hybrid": True} | question))  # type: ignore[arg-type]
    assert len(shop.search("cheese", hybrid=True, k=1_000_000)) == 36
    assert len(shop.search("word " * 20_000, hybrid=True, k=3)) == 3


def test_from_the_command_line(shop: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(app, ["search", "cheese pie", "-c", str(shop.path), "--hybrid", "-k", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [hit["id"] for hit in told] == [hit.id for hit in shop.search("cheese pie", hybrid=True, k=3)]


FORMS = {
    "a": "the wing of an aircraft, wings and winged things",
    "b": "wings",
    "c": "a wingless creature",
    "d": "relations of relational databases",
    "e": "Flügel und Häuser, ein Haus",
    "f": "nothing of the kind here",
    "g": "what a kind heart",
}


@pytest.fixture
def forms(tmp_path: Path) -> Collection:
    shop = search.open(tmp_path / "c")
    vectors = np.eye(len(FORMS), 26)
    spec = LetterEncoder().spec
    with shop.writing() as writer:
        writer.put([Record(id, text=text) for id, text in FORMS.items()], vectors, writer.space("text", spec))
    return shop


def ranked(shop: Collection, query: str, language: str = "english") -> dict[str, float]:
    with shop.database.reading() as transaction:
        ids = dict(transaction.sql("select key, id from record").fetchall())
        found = Keywords().ranking(transaction, reads.state(transaction), query, language)
    keys, scores = found.first(np.ones(max(ids) + 1, dtype=bool), 100)
    return {ids[key]: score for key, score in zip(keys.tolist(), scores.tolist(), strict=True)}


def as_one_word(*words: str) -> dict[str, float]:
    """BM25 of FTS5 where all the words are written alike."""
    with sqlite3.connect(":memory:") as own:
        own.execute("create virtual table t using fts5 (id unindexed, text)")
        alike = re.compile(rf"\b({'|'.join(words)})\b")
        own.executemany(
            "insert into t values (?, ?)", [(id, alike.sub("x", one)) for id, one in FORMS.items()]
        )
        found = dict(own.execute("select id, -bm25(t) from t where t match 'x'").fetchall())
    own.close()
    return found


def test_a_word_is_found_in_all_its_forms(forms: Collection) -> None:
    expected = as_one_word("wings", "wing", "winged")
    assert set(expected) == {"a", "b"}
    for query in ("wing", "Wings", "winged wings"):  # two forms of a word are one
        assert ranked(forms, query) == pytest.approx(expected, rel=1e-9)
    assert ranked(forms, "relation") == pytest.approx(as_one_word("relations", "relational"), rel=1e-9)
    assert ranked(forms, "wing", "none") == pytest.approx(as_one_word("wing"), rel=1e-9)
    assert ranked(forms, "wing", "german") == pytest.approx(as_one_word("wing", "wings"), rel=1e-9)
    assert ranked(forms, "haus", "german") == pytest.approx(as_one_word("Häuser", "Haus"), rel=1e-9)


def test_phrases_and_beginnings_are_taken_as_written(forms: Collection) -> None:
    assert set(ranked(forms, '"wing"')) == {"a"}
    assert set(ranked(forms, "wingl*")) == {"c"}
    assert set(ranked(forms, "relational*")) == {"d"}
    assert set(ranked(forms, '"relations of"')) == {"d"}


def test_what_holds_a_question_together_is_passed_over(forms: Collection) -> None:
    assert ranked(forms, "what of the wings") == ranked(forms, "wings")
    assert set(ranked(forms, "what of the wings", "none")) > {"a", "b"}
    assert set(ranked(forms, "what")) == {"g"}  # there is nothing else
    assert set(ranked(forms, '"what" wings')) == {"a", "b", "g"}


def test_the_language_is_kept_with_the_space(
    forms: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.encoders.load.load_spec", lambda *_, **__: LetterEncoder())

    def by_words(shop: Collection, query: str) -> set[str]:
        told: Any = {hit.id: hit.explain for hit in shop.search(query, hybrid=True, explain=True)}
        return {id for id, said in told.items() if said["hybrid"]["by_words"]["rank"]}

    assert by_words(forms, "wing") == {"a", "b"}
    assert outcome(app, ["tune", "-c", str(forms.path), "--language", "none", "--json"]) == 0
    assert by_words(forms, "wing") == {"a"}
    assert outcome(app, ["tune", "-c", str(forms.path), "--language", "german"]) == 0
    with search.open(forms.path, mode="r") as reader:
        assert by_words(reader, "haus") == {"e"}
        forms.add([{"id": "h", "text": "hauses"}])
        with forms.writing() as writer:
            writer.put([Record("h", text="des Hauses")], np.ones((1, 26)), forms.spaces()["text"])
        assert by_words(reader, "haus") == {"e", "h"}
    capsys.readouterr()
    assert outcome(app, ["info", "-c", str(forms.path)]) == 0
    assert "by the rules of german" in " ".join(capsys.readouterr().out.split())
    assert outcome(app, ["tune", "-c", str(forms.path), "--language", "klingon"]) == 1
    assert "use arabic" in capsys.readouterr().err
    forms.tune(recall=0.9)
    assert by_words(forms, "haus") == {"e", "h"}
