"""`evaluate` on a collection whose answers can be worked out on paper, from Python and from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytrec_eval

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.encoders.contract import Encoder
from search.evaluate import formats
from search.types import EncoderSpec, Record
from tests.letters import LetterEncoder

TEXTS = {"aa": "aaaa", "ab": "aabb", "b": "bb", "c": "c", "cd": "ccdd"}
# "a" finds aa (1), ab (0.71), then the others (0); "c" finds c (1), cd (0.71); "b" finds b, ab.
QUERIES = {"1": "a", "2": "c", "3": "b", "none": "d"}
GRADES = {"1": {"ab": 2, "b": 0}, "2": {"c": 1, "cd": 3}, "3": {"gone": 1, "b": 1}, "other": {"aa": 1}}


def loaded(spec: EncoderSpec, **given: object) -> Encoder:
    assert spec.family == "letters"
    return LetterEncoder()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.setattr("search.encoders.load.load_spec", loaded)
    with search.open(tmp_path / "c") as made:
        with made.writing() as writer:
            space = writer.space("text", LetterEncoder().spec)
            records = [Record(id, "text", None, text, {"n": len(text)}) for id, text in TEXTS.items()]
            writer.put(records, LetterEncoder().encode(list(TEXTS.values())), space)
        yield made


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    queries, qrels = tmp_path / "q.jsonl", tmp_path / "qrels.tsv"
    formats.write_queries(queries, QUERIES)
    formats.write_judgements(qrels, GRADES)
    return queries, qrels


def test_figures_by_hand_and_by_trec_eval(shop: Collection) -> None:
    found = shop.evaluate(QUERIES, GRADES, k=(1, 2))
    assert found.n_queries == 3
    assert (found.unjudged, found.unasked, found.absent) == (1, 1, 1)
    assert list(found.run["1"]) == ["aa", "ab"]
    assert found.values["mrr@2"] == {"1": 0.5, "2": 1.0, "3": 1.0}
    assert found.values["recall@1"] == {"1": 0.0, "2": 0.5, "3": 0.5}
    assert found.metrics["precision@2"].mean == pytest.approx((0.5 + 1 + 0.5) / 3)
    judged = {query: GRADES[query] for query in "123"}
    truth = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.2"}).evaluate(found.run)
    for query in "123":
        assert found.values["ndcg@2"][query] == pytest.approx(truth[query]["ndcg_cut_2"], abs=1e-6)


def test_binary_and_where(shop: Collection) -> None:
    graded = shop.evaluate(QUERIES, GRADES, k=2).values["ndcg@2"]["2"]
    assert graded < 1  # c before cd, which is of a higher grade
    assert shop.evaluate(QUERIES, GRADES, k=2, binary=True).values["ndcg@2"]["2"] == 1
    long = shop.evaluate(QUERIES, GRADES, k=2, where="n = 4")
    assert set(long.run["2"]) == {"cd", "aa"} or set(long.run["2"]) == {"cd", "ab"}


def test_compared_with_another_run(shop: Collection, tmp_path: Path) -> None:
    now = shop.evaluate(QUERIES, GRADES, k=2)
    formats.write_run(tmp_path / "run.trec", now.run)
    same = shop.evaluate(QUERIES, GRADES, k=2, compare=tmp_path / "run.trec").compared["ndcg@2"]
    assert (same.difference, same.p_t, same.n) == (0, 1, 3)
    worse = {"1": {"b": 1.0}, "2": {"cd": 1.0}}
    told = shop.evaluate(QUERIES, GRADES, k=2, compare=worse).compared["mrr@2"]
    assert (told.now, told.before) == (pytest.approx(2.5 / 3), pytest.approx(1 / 3))
    with pytest.raises(search.QueryError, match="has none of the queries"):
        shop.evaluate(QUERIES, GRADES, compare={"9": {"a": 1.0}})


def test_bad_input_is_refused(shop: Collection) -> None:
    with pytest.raises(search.QueryError, match="no query has judgements"):
        shop.evaluate({"x": "a"}, GRADES)
    with pytest.raises(search.QueryError, match="holds none of the judged documents"):
        shop.evaluate(QUERIES, {"1": {"nowhere": 1}})
    with pytest.raises(search.QueryError, match="nothing is judged"):
        shop.evaluate(QUERIES, {"1": {}})
    with pytest.raises(search.QueryError, match="there are no queries"):
        shop.evaluate({}, GRADES)
    with pytest.raises(search.UnknownSpace):
        shop.evaluate(QUERIES, GRADES, space="nowhere")
    with pytest.raises(search.FilterError):
        shop.evaluate(QUERIES, GRADES, where="((")


def test_on_the_command_line(
    shop: Collection, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    asked = [
        "evaluate",
        "-c",
        str(shop.path),
        "--queries",
        str(files[0]),
        "--qrels",
        str(files[1]),
        "-k",
        "2",
    ]
    run = tmp_path / "run.trec"
    assert outcome(app, [*asked, "--json", "--out", str(run)]) == 0
    told = json.loads(capsys.readouterr().out)
    found = shop.evaluate(*files, k=2)
    assert told == json.loads(json.dumps(found.to_json()))
    assert formats.read_run(run) == found.run
    assert outcome(app, [*asked, "--compare", str(run)]) == 0
    shown = capsys.readouterr()
    assert f"{found.metrics['ndcg@2'].mean:.4f}" in shown.out
    assert "3 queries" in shown.out
    assert "1 judged documents are not in the collection" in shown.err
    assert outcome(app, asked[:5]) == 2
    assert outcome(app, [*asked[:-1], "0"]) == 1
    assert "k must be a whole number" in capsys.readouterr().err


def test_hybrid_is_what_search_gives(
    shop: Collection, capsys: pytest.CaptureFixture, files: tuple[Path, Path]
) -> None:
    """The word "c" stands in one text, which is then the first of both; "a" in none, so the vectors alone tell."""
    found = shop.evaluate(QUERIES, GRADES, k=2, hybrid=True)
    for query in "123":
        hits = shop.search(QUERIES[query], k=2, hybrid=True)
        assert found.run[query] == pytest.approx({hit.id: hit.score for hit in hits})
    assert found.run != shop.evaluate(QUERIES, GRADES, k=2).run
    asked = ["evaluate", "-c", str(shop.path), "--queries", str(files[0]), "--qrels", str(files[1])]
    assert outcome(app, [*asked, "-k", "2", "--hybrid", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["values"] == json.loads(json.dumps(found.to_json()["values"]))
