"""Recommendation by its strategies, weights, pairs and calibrated spaces, each against plain numpy."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import search
from ingest.cli.main import app
from search.cli import examples
from search.cli.main import outcome
from search.collection import Collection
from search.query.examples import logistic
from search.types import EncoderSpec, Metric, Modality, Record

N = 50
Rows = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Two spaces; in the second all records look much alike, and every fifth has no vector."""
    rng = np.random.default_rng(12)
    held = {"v": rng.standard_normal((N, 5)), "w": rng.standard_normal((N, 7)) * 0.2 + 1}
    return {name: some / np.linalg.norm(some, axis=1, keepdims=True) for name, some in held.items()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, rows: Rows) -> Collection:
    shop = search.open(tmp_path_factory.mktemp("examples") / "c")
    for name, some in rows.items():
        ids = [i for i in range(N) if name == "v" or i % 5]
        shop.add([{"id": f"r{i}", "metadata": {"i": i}} for i in ids], some[ids], space=name)
    shop.add([{"id": "bare"}])
    return shop


def same(hits: list[search.Hit], scores: np.ndarray, left_out: list[int], k: int) -> None:
    order = [int(i) for i in np.argsort(-scores, kind="stable") if i not in left_out][:k]
    assert [hit.id for hit in hits] == [f"r{i}" for i in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-5)


def test_weights_count(shop: Collection, rows: Rows) -> None:
    v = rows["v"]
    taste = 2 * v[1] + 0.5 * v[2] - 3 * v[3]
    hits = shop.recommend({"r1": 2.0, "r2": 0.5}, {"r3": 3}, spaces="v", k=12)
    same(hits, v @ (taste / np.linalg.norm(taste)), [1, 2, 3], 12)


@pytest.mark.parametrize(
    "times",
    [
        {"r1": "2026-03-11", "r2": "2026-02-09", "r3": "2026-01-10"},
        {"r1": date(2026, 3, 11), "r2": datetime(2026, 2, 9, tzinfo=UTC), "r3": "2026-01-10T00:00:00Z"},
    ],
)
def test_a_history_fades(shop: Collection, rows: Rows, times: dict[str, object]) -> None:
    v = rows["v"]
    taste = v[1] + 0.5 * v[2] + 0.25 * v[3]  # thirty days each
    same(shop.recommend(times, spaces="v", k=9), v @ (taste / np.linalg.norm(taste)), [1, 2, 3], 9)
    taste = v[1] + 0.25 * v[2] + 0.0625 * v[3]
    hits = shop.recommend(times, spaces="v", k=9, half_life=15)
    same(hits, v @ (taste / np.linalg.norm(taste)), [1, 2, 3], 9)


def test_the_nearest_like_counts(shop: Collection, rows: Rows) -> None:
    v = rows["v"]
    same(
        shop.recommend(["r1", "r2"], spaces="v", strategy="best", k=15),
        (v @ v[[1, 2]].T).max(axis=1),
        [1, 2],
        15,
    )
    scores = (v @ (v[[1, 2]] * [[1.0], [0.25]]).T).max(axis=1) - np.maximum((v @ v[[3, 4]].T).max(axis=1), 0)
    hits = shop.recommend({"r1": 4, "r2": 1}, ["r3", "r4"], spaces="v", strategy="best", k=15)
    same(hits, scores, [1, 2, 3, 4], 15)


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    for m, dim in ((40, 6), (12, 30)):
        x, y, n = rng.standard_normal((m, dim)), (rng.random(m) > 0.6) + 0.0, rng.random(m) + 0.2
        y[:2] = [0, 1]
        model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y, sample_weight=n)
        np.testing.assert_allclose(logistic(x, y, n), model.coef_[0], atol=1e-4)


def test_a_linear_model_is_learned(shop: Collection, rows: Rows) -> None:
    v = rows["v"]
    x = np.concatenate([v[[1, 2, 3]], v])
    y = np.array([1, 1, 0] + [0] * N)
    n = np.array([2, 1, 1] + [3 / N] * N) * (2 / 3)
    found = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y, sample_weight=n).coef_[0]
    hits = shop.recommend({"r1": 2, "r2": 1}, ["r3"], spaces="v", strategy="linear", k=10)
    scores = v @ (found / np.linalg.norm(found))
    np.testing.assert_allclose(
        [hit.score for hit in hits], [scores[int(hit.id[1:])] for hit in hits], atol=1e-4
    )
    assert {hit.id for hit in hits[:5]} <= {f"r{i}" for i in np.argsort(-scores)[:9]}


def test_pairs_are_held_against_what_is_on_their_wrong_side(shop: Collection, rows: Rows) -> None:
    v = rows["v"]
    pairs = [(5, 6), (7, 8)]
    lost = sum(np.minimum(v @ v[a] - v @ v[b], 0) for a, b in pairs)
    asked = [(f"r{a}", f"r{b}") for a, b in pairs]
    same(shop.recommend("r1", spaces="v", pairs=asked, k=12), v @ v[1] + lost, [1, 5, 6, 7, 8], 12)
    taste = v[5] + v[7]
    hits = shop.recommend(spaces="v", pairs=asked, k=12)
    same(hits, v @ (taste / np.linalg.norm(taste)) + lost, [5, 6, 7, 8], 12)


def test_what_is_excluded_does_not_come_back(shop: Collection, rows: Rows) -> None:
    v = rows["v"]
    same(shop.recommend("r1", spaces="v", exclude=["r2", "gone"], k=100), v @ v[1], [1, 2], 100)
    assert shop.recommend("r1", exclude=[f"r{i}" for i in range(N)]) == []
    assert shop.recommend("r1", where="i = 4", exclude="r4") == []


def z(scores: np.ndarray, some: list[int]) -> np.ndarray:
    usual = scores[some]
    told = (scores - usual.mean()) / usual.std()
    told[[i for i in range(N) if i not in some]] = 0
    return told


def test_calibrated_scores_count_alike(shop: Collection, rows: Rows) -> None:
    v, w = rows["v"], rows["w"]
    some = [i for i in range(N) if i % 5]
    both = (z(v @ v[1], list(range(N))) + 2 * z(w @ w[1], some)) / 3
    hits = shop.recommend("r1", spaces={"v": 1, "w": 2}, calibrate=True, k=20, explain=True)
    same(hits, both, [1], 20)
    for hit in hits:
        assert hit.explain is not None
        told = hit.explain["scores"]
        assert isinstance(told, dict)
        assert told["v"] == pytest.approx(z(v @ v[1], list(range(N)))[int(hit.id[1:])], abs=1e-4)
    same(
        shop.search(like="r1", calibrate=True, k=7),
        (z(v @ v[1], list(range(N))) + z(w @ w[1], some)) / 2,
        [1],
        7,
    )
    plain = [hit.id for hit in shop.recommend("r1", spaces={"v": 1, "w": 2}, k=20)]
    assert plain != [hit.id for hit in hits]  # or the test would show nothing


def test_with_an_index_the_best_are_found(shop: Collection, rows: Rows) -> None:
    shop.tune(kind="hnsw", space="v")
    try:
        v = rows["v"]
        same(
            shop.recommend(["r1", "r2"], spaces="v", strategy="best", k=5),
            (v @ v[[1, 2]].T).max(axis=1),
            [1, 2],
            5,
        )
    finally:
        shop.tune(kind="auto", space="v")


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({}, "at least one like"),
        ({"likes": ["r1", "r99", "x"]}, "no record has the id 'r99', 'x'"),
        ({"likes": ["r1", "bare"]}, "'bare' has no vector in any space"),
        ({"likes": ["r5"], "spaces": "w"}, "'r5' has no vector in the spaces asked"),
        ({"likes": "r1", "pairs": [("r2", "r98")]}, "no record has the id 'r98'"),
        ({"likes": "r1", "pairs": [("r2", "r2")]}, "is none; give the id"),
        ({"likes": "r1", "pairs": ["r2"]}, "is none; give the id"),
        ({"likes": "r1", "strategy": "worst"}, "no strategy 'worst'; use average, best, linear"),
        ({"likes": {"r1": -1}}, "weight of 'r1' is -1"),
        ({"likes": {"r1": float("nan")}}, "weight of 'r1' is nan"),
        ({"likes": {"r1": "soon"}}, "no date"),
        ({"likes": {"r1": True}}, "weight of 'r1' is True"),
        ({"likes": "r1", "half_life": 0}, "half_life is 0"),
        ({"likes": {"r1": 2.0}, "half_life": 5}, "half_life is for what has dates"),
        ({"user": "u", "half_life": 5}, "half_life is for what has dates"),
        ({"likes": "r1", "exclude": [1]}, "exclude holds a int"),
        ({"likes": "r1", "k": 0}, "k must be"),
        ({"likes": "r1", "diversity": 2}, "diversity is 2"),
    ],
)
def test_what_makes_no_sense_is_told(shop: Collection, asked: dict[str, object], what: str) -> None:
    with pytest.raises(search.QueryError, match=what):
        shop.recommend(**asked)  # type: ignore[arg-type]


def test_distances(tmp_path_factory: pytest.TempPathFactory) -> None:
    with search.open(tmp_path_factory.mktemp("l2") / "c") as shop:
        with shop.writing() as writer:
            space = writer.space("d", EncoderSpec("given", "given", Modality.VECTOR, 2), metric=Metric.L2)
            points = np.array([[0, 0], [4, 0], [0, 3], [4, 1]], np.float32)
            writer.put([Record(f"r{i}") for i in range(4)], points, space)
        hits = shop.recommend(["r0", "r1"], strategy="best")
        assert [(hit.id, hit.score) for hit in hits] == [("r3", -1.0), ("r2", -9.0)]
        with pytest.raises(search.QueryError, match="compares by distance"):
            shop.recommend(["r0"], ["r1"], strategy="best")
        with pytest.raises(search.QueryError, match="linear needs cosines"):
            shop.recommend(["r0"], strategy="linear")


def test_from_the_command_line(shop: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "recommend",
        "--like",
        "r1",
        "--like",
        "r2",
        "-c",
        str(shop.path),
        "--strategy",
        "best",
        "--json",
    ]
    asked += ["--pair", "r5,r6", "--exclude", "r7", "--calibrate", "-k", "4"]
    assert outcome(app, asked) == 0
    told = json.loads(capsys.readouterr().out)
    hits = shop.recommend(
        ["r1", "r2"], strategy="best", pairs=[("r5", "r6")], exclude="r7", calibrate=True, k=4
    )
    assert [hit["id"] for hit in told] == [hit.id for hit in hits]
    assert outcome(app, [*asked, "--pair", "r5"]) == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["a", "b", "a"], ["a", "b", "a"]),
        (["a=2", "b"], {"a": 2.0, "b": 1.0}),
        (["a", "a=0.5", "b=2026-03-11"], {"a": 1.5, "b": "2026-03-11"}),
        (["a=b", "=3"], ["a=b", "=3"]),  # ids, as they stand
        (["a=2=1"], {"a=2": 1.0}),
        (["a=nan"], ["a=nan"]),
        (["a=0"], {"a": 0.0}),  # refused where weights are looked at
    ],
)
def test_examples_on_the_command_line(given: list[str], told: object) -> None:
    assert examples.said(given) == told


def test_the_command_line_asks_as_python_does(shop: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", "-c", str(shop.path), "--space", "v", "--json"]
    for given, asked in (
        (
            ["--like", "r1=2", "--like", "r2", "--dislike", "r3=0.5"],
            {"likes": {"r1": 2, "r2": 1}, "dislikes": {"r3": 0.5}},
        ),
        (
            ["--like", "r1=2026-03-11", "--like", "r2=2026-02-09", "--half-life", "15"],
            {"likes": {"r1": "2026-03-11", "r2": "2026-02-09"}, "half_life": 15},
        ),
        (["--pair", "r4,r5"], {"pairs": [("r4", "r5")]}),
    ):
        assert outcome(app, [*command, *given]) == 0
        shown = json.loads(capsys.readouterr().out)
        expected = shop.recommend(spaces="v", **asked)  # type: ignore[arg-type]
        assert [(hit["id"], hit["score"]) for hit in shown] == [(hit.id, hit.score) for hit in expected]
    assert outcome(app, [*command, "--like", "r1=0"]) == 1
    assert "weight of 'r1' is 0.0; give a positive number" in capsys.readouterr().err
