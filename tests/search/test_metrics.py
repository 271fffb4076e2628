"""Metrics equal those of trec_eval; tests of significance equal scipy's; files read as they were written."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from scipy import stats

import search
from search.evaluate import formats, metrics, significance

KS = (1, 5, 10)


def drawn(seed: int) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    """A run with many ties, and grades of which some are negative, none, or of documents not found."""
    rng = np.random.default_rng(seed)
    run, judged = {}, {}
    for number in range(40):
        query, documents = f"q{number}", [f"d{i}" for i in rng.permutation(30)]
        run[query] = {id: float(rng.integers(0, 8)) / 4 for id in documents[: rng.integers(1, 25)]}
        judged[query] = {id: int(rng.integers(-1, 4)) for id in rng.permutation(documents)[:12]}
    return run, judged


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_trec_eval(seed: int) -> None:
    run, judged = drawn(seed)
    cut = ",".join(map(str, KS))
    wanted = {f"{name}.{cut}" for name in ("ndcg_cut", "recall", "map_cut", "P")}
    truth = pytrec_eval.RelevanceEvaluator(judged, wanted).evaluate(run)
    ours = metrics.measured(run, judged, KS)
    names = {"ndcg": "ndcg_cut", "recall": "recall", "map": "map_cut", "precision": "P"}
    for (name, theirs), k in itertools.product(names.items(), KS):
        for query in run:
            assert ours[f"{name}@{k}"][query] == pytest.approx(truth[query][f"{theirs}_{k}"], abs=1e-6)
    for k in KS:  # trec_eval does not cut the reciprocal rank: the run is
        short = {
            query: {id: scores[id] for id in metrics.ranking(scores)[:k]} for query, scores in run.items()
        }
        ranks = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(short)
        for query in run:
            assert ours[f"mrr@{k}"][query] == pytest.approx(ranks[query]["recip_rank"], abs=1e-6)


def test_metrics_by_hand() -> None:
    """Ranks 1 to 4 have grades 0, 2, unjudged, 1; one of grade 3 is not found."""
    found = metrics.of_ranking(["a", "b", "x", "c"], {"a": 0, "b": 2, "c": 1, "d": 3}, 4)
    ideal = 3 + 2 / np.log2(3) + 1 / 2
    assert found["ndcg"] == pytest.approx((2 / np.log2(3) + 1 / np.log2(5)) / ideal)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["precision"] == 0.5
    assert found["mrr"] == 0.5
    assert found["map"] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_nothing_relevant_or_nothing_found_is_0() -> None:
    assert set(metrics.of_ranking(["a"], {"a": 0, "b": -1}, 10).values()) == {0.0}
    assert metrics.measured({}, {"q": {"a": 1}}, (10,))["ndcg@10"] == {"q": 0.0}


def test_tests_of_significance_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(60)
    now = np.clip(before + rng.normal(-0.06, 0.15, 60), 0, 1)
    told = significance.difference(now, before)
    assert told.difference == pytest.approx((now - before).mean())
    assert told.p_t == pytest.approx(stats.ttest_rel(now, before).pvalue)
    exact = stats.permutation_test(
        (now - before,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert told.p_randomisation == pytest.approx(exact.pvalue, abs=0.01)
    assert told.p_worse == pytest.approx(told.p_randomisation / 2, abs=0.01)
    boot = stats.bootstrap((now - before,), np.mean, method="percentile", rng=2, n_resamples=10_000)
    assert (told.low, told.high) == pytest.approx(tuple(boot.confidence_interval), abs=0.003)


def test_few_pairs_are_tested_by_all_signs() -> None:
    """Four pairs all of which fell: 2 of the 16 ways to give signs are as far out, 1 as low."""
    told = significance.difference([0.1, 0.2, 0.3, 0.4], [0.3, 0.5, 0.4, 0.8])
    assert told.p_randomisation == 2 / 16
    assert told.p_worse == 1 / 16
    same = significance.difference([0.5, 0.5], [0.5, 0.5])
    assert (same.p_t, same.p_randomisation, same.p_worse, same.low, same.high) == (1, 1, 1, 0, 0)


def test_holm_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    run, judged = drawn(1)
    run["with blanks"] = {"a file.txt": 0.1 + 0.2}
    judged["with blanks"] = {"a file.txt": 2}
    queries = {"q1": "naïve approach", "2": "a\ttab"}
    formats.write_run(tmp_path / "run.trec", run)
    assert formats.read_run(tmp_path / "run.trec") == run
    for name in ("qrels.tsv", "qrels.txt"):
        formats.write_judgements(tmp_path / name, judged)
        assert formats.read_judgements(tmp_path / name) == judged
    formats.write_queries(tmp_path / "q.jsonl", queries)
    assert formats.read_queries(tmp_path / "q.jsonl") == queries
    assert (tmp_path / "run.trec").read_text().splitlines()[0].split()[1::4] == ["Q0", "nearkin"]


@pytest.mark.parametrize(
    ("text", "grades"),
    [
        ("query-id\tcorpus-id\tscore\n1\td1\t2\n", {"1": {"d1": 2}}),
        ("1 0 d1 2\n1 0 d2 0\n", {"1": {"d1": 2, "d2": 0}}),
        ("1\t184\t-1\r\n", {"1": {"184": -1}}),
        ("1 184 3.0\n\n", {"1": {"184": 3}}),
    ],
)
def test_judgements_of_all_kinds(tmp_path: Path, text: str, grades: dict[str, dict[str, int]]) -> None:
    (tmp_path / "qrels").write_text(text)
    assert formats.read_judgements(tmp_path / "qrels") == grades


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        ("judgements", "", "nothing is judged in it"),
        ("judgements", "query-id\tcorpus-id\tscore\n", "nothing is judged in it"),
        ("judgements", "1 2\n", ":1: the line has 2 columns"),
        ("judgements", "1 0 d 1\n1 0 d 2 3 4\n", ":2: the line has 6 columns"),
        ("judgements", "1 0 d high\n", "the grade is 'high'; write a number"),
        ("judgements", "1 0 d nan\n", "the grade is 'nan'"),
        ("judgements", "1 0 d 0.5\n", "write a whole number"),
        ("judgements", "1 d 1\n1 d 2\n", ":2: document 'd' has two grades"),
        ("run", "", "there is nothing in it"),
        ("run", "1 0 d 1\n", "a TREC run has query, Q0"),
        ("run", "1 Q0 d 1 inf x\n", "the score is 'inf'"),
        ("run", "1 Q0 d 1 0.5 x\n1 Q0 d 2 0.4 x\n", ":2: document 'd' stands twice"),
        ("queries", "", "there is no query in it"),
        ("queries", "one column\n", "the line has one column"),
        ("queries", "1\ta\n1\tb\n", ":2: query '1' stands twice"),
        ("queries", "1\t  \n", "query '1' is empty"),
    ],
)
def test_bad_files_are_told_by_line(tmp_path: Path, read: str, text: str, says: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(search.SourceError, match=says):
        getattr(formats, f"read_{read}")(tmp_path / "file")


@pytest.mark.parametrize("line", ["{", "[]", '{"_id": "1"}', '{"text": "a"}', '{"_id": true, "text": "a"}'])
def test_bad_lines_of_queries(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(search.SourceError, match=r"q.jsonl:1: the line is no"):
        formats.read_queries(tmp_path / "q.jsonl")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(search.SourceError, match="cannot be read"):
        formats.read_run(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"\xe9\ta\n")
    with pytest.raises(search.SourceError, match="no UTF-8"):
        formats.read_queries(tmp_path / "latin")
    with pytest.raises(search.SourceError, match="cannot be written"):
        formats.write_run(tmp_path / "no" / "run", {"1": {"a": 1.0}})
    with pytest.raises(search.SourceError, match="cannot stand in a file of columns"):
        formats.write_run(tmp_path / "run", {"1": {"a\tb": 1.0}})


@pytest.mark.parametrize("k", [0, -1, True, 1.5, [], [10, 0]])
def test_bad_cuts(k: object) -> None:
    with pytest.raises(search.QueryError, match="k"):
        metrics.cuts(k)  # type: ignore[arg-type]
