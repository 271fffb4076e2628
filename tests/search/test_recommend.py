"""Recommendation against the same sums written out in plain numpy: several spaces, weights, gaps, diversity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import search
from search.collection import Collection
from search.index import choose
from search.index.rows import RowBuffer
from search.query.run import positions_of
from search.types import EncoderSpec, Hit, Metric, Modality, Part, Record
from search.vectors import diverse

N = 60
DIMS = {"text": 6, "graph": 4, "image": 5}


@pytest.fixture(scope="module")
def vectors() -> dict[str, dict[str, np.ndarray]]:
    """For each space, the vectors by record; a third of the records lack one in `graph`, a few have only `image`."""
    rng = np.random.default_rng(11)
    held: dict[str, dict[str, np.ndarray]] = {}
    for name, dim in DIMS.items():
        rows = rng.standard_normal((N, dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        held[name] = {f"r{i}": row for i, row in enumerate(rows)}
    held["graph"] = {id: row for id, row in held["graph"].items() if int(id[1:]) % 3}
    held["text"] = {id: row for id, row in held["text"].items() if int(id[1:]) < 50}
    return held


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, vectors: dict[str, dict[str, np.ndarray]]) -> Collection:
    shop = search.open(tmp_path_factory.mktemp("recommend") / "shop")
    for space, rows in vectors.items():
        records = [{"id": id, "metadata": {"i": int(id[1:])}} for id in rows]
        shop.add(records, 3.5 * np.stack(list(rows.values())), space=space)
    return shop


def by_hand(
    vectors: dict[str, dict[str, np.ndarray]],
    likes: list[str],
    dislikes: list[str],
    weights: dict[str, float],
) -> dict[str, dict[str, float]]:
    """For each record that has a vector in some of the spaces: its cosine in each, and the weighted mean."""
    scores: dict[str, dict[str, float]] = {}
    used = {name: weight for name, weight in weights.items() if any(id in vectors[name] for id in likes)}
    for space in used:
        rows = vectors[space]
        taste = sum(rows[id] for id in likes if id in rows) - sum(
            (rows[id] for id in dislikes if id in rows), np.zeros(DIMS[space])
        )
        taste = taste / np.linalg.norm(taste)
        for id, row in rows.items():
            if id not in likes and id not in dislikes:
                scores.setdefault(id, {})[space] = float(row @ taste)
    for said in scores.values():
        said["all"] = sum(used[s] * said[s] for s in used if s in said) / sum(used.values())
    return scores


def same(hits: list[Hit], scores: dict[str, dict[str, float]], k: int) -> None:
    best = sorted(scores, key=lambda name: -scores[name]["all"])[:k]
    assert [hit.id for hit in hits] == best
    np.testing.assert_allclose([hit.score for hit in hits], [scores[id]["all"] for id in best], atol=1e-5)


CASES = [
    (["r1"], [], {"text": 1}),
    (["r1", "r2"], [], {"text": 1}),
    (["r1", "r2"], ["r4"], {"text": 1}),
    (["r1"], ["r2", "r3", "r4"], {"text": 1}),
    (["r1", "r2"], ["r5"], {"text": 1, "graph": 2}),
    (["r1", "r55"], ["r5"], {"text": 1, "graph": 2, "image": 0.5}),  # r55 has no text
    (["r3"], [], {"text": 1, "graph": 2}),  # r3 is not in the graph: that space says nothing
    (["r1"], ["r3"], {"graph": 0.1, "image": 7}),  # the dislike is not in the graph
    (["r58"], [], {"text": 3, "image": 1}),  # 58 % 3 == 1; no text
]


@pytest.mark.parametrize(("likes", "dislikes", "weights"), CASES)
@pytest.mark.parametrize("k", [1, 7, 100])
def test_scores_are_the_weighted_mean_over_the_spaces(
    shop: Collection,
    vectors: dict[str, dict[str, np.ndarray]],
    likes: list[str],
    dislikes: list[str],
    weights: dict[str, float],
    k: int,
) -> None:
    expected = by_hand(vectors, likes, dislikes, weights)
    same(shop.recommend(likes, dislikes, k=k, spaces=weights), expected, k)


def test_without_spaces_all_are_asked_alike(
    shop: Collection, vectors: dict[str, dict[str, np.ndarray]]
) -> None:
    expected = by_hand(vectors, ["r1", "r2"], ["r4"], dict.fromkeys(DIMS, 1.0))
    same(shop.recommend(["r1", "r2"], ["r4"], k=20), expected, 20)
    same(shop.recommend(["r1", "r2"], "r4", k=20, spaces=list(DIMS)), expected, 20)
    same(shop.recommend("r1", spaces="graph", k=9), by_hand(vectors, ["r1"], [], {"graph": 1.0}), 9)
    same(shop.search(like="r1", k=9, space="graph"), by_hand(vectors, ["r1"], [], {"graph": 1.0}), 9)
    same(shop.search(like="r1", k=9), by_hand(vectors, ["r1"], [], dict.fromkeys(DIMS, 1.0)), 9)


def test_a_filter_keeps_k(shop: Collection, vectors: dict[str, dict[str, np.ndarray]]) -> None:
    weights = {"text": 1.0, "graph": 2.0}
    expected = by_hand(vectors, ["r1"], ["r2"], weights)
    for where, keep in (
        ("i < 10", lambda i: i < 10),
        ("i in (1, 2, 7)", lambda i: i == 7),
        ("i > 900", lambda i: 0),
    ):
        some = {id: said for id, said in expected.items() if keep(int(id[1:]))}
        hits = shop.recommend(["r1"], ["r2"], k=5, where=where, spaces=weights)
        same(hits, some, 5)


def test_explain_gives_the_score_in_each_space(
    shop: Collection, vectors: dict[str, dict[str, np.ndarray]]
) -> None:
    weights = {"text": 1.0, "graph": 2.0, "image": 0.25}
    expected = by_hand(vectors, ["r1", "r2"], ["r4"], weights)
    for hit in shop.recommend(["r1", "r2"], ["r4"], k=100, spaces=weights, explain=True):
        said = {space: score for space, score in expected[hit.id].items() if space != "all"}
        assert hit.explain is not None
        assert set(hit.explain) == {"scores", "plans", "calibrated"}
        assert hit.explain["scores"] == pytest.approx(said, abs=1e-5)
        assert hit.space == max(said, key=lambda space: weights[space] * said[space])
    assert all(hit.explain is None for hit in shop.recommend(["r1"]))


def test_each_example_counts_once_however_many_parts_it_has(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((12, 4)).astype("f4")
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    sizes = [5, 1, 3, 1, 2]
    owners = np.repeat(np.arange(5), sizes)
    shop = search.open(tmp_path / "c")
    with shop.writing() as writer:
        space = writer.space("v", EncoderSpec("given", "given", Modality.VECTOR, 4))
        writer.put([Record(f"r{i}") for i in range(5)], rows, space, parts=[[Part()] * n for n in sizes])
    middles = [unit[owners == i].mean(axis=0) for i in range(5)]
    middles = [one / np.linalg.norm(one) for one in middles]
    taste = middles[0] + middles[1] - middles[4]
    taste /= np.linalg.norm(taste)
    best = {f"r{i}": (unit[owners == i] @ taste).max() for i in (2, 3)}
    hits = shop.recommend(["r0", "r1"], ["r4"])
    assert [hit.id for hit in hits] == sorted(best, key=lambda name: -best[name])
    np.testing.assert_allclose([hit.score for hit in hits], sorted(best.values(), reverse=True), atol=1e-5)


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.L2])
def test_other_metrics_score_against_the_mean_of_the_likes(tmp_path: Path, metric: Metric) -> None:
    rows = np.random.default_rng(3).standard_normal((30, 4)).astype("f4")
    shop = search.open(tmp_path / "c")
    with shop.writing() as writer:
        space = writer.space("v", EncoderSpec("given", "given", Modality.VECTOR, 4), metric=metric)
        writer.put([Record(f"r{i}") for i in range(30)], rows, space)
    mean = (rows[0] + rows[1] + rows[2]) / 3
    exact = rows @ mean if metric is Metric.DOT else -((rows - mean) ** 2).sum(axis=1)
    order = [i for i in np.argsort(-exact) if i > 2]
    hits = shop.recommend(["r0", "r1", "r2"], k=50)
    assert [hit.id for hit in hits] == [f"r{i}" for i in order]
    np.testing.assert_allclose([hit.score for hit in hits], exact[order], atol=1e-5)


def mmr(relevance: np.ndarray, closeness: np.ndarray, k: int, diversity: float) -> list[int]:
    """Carbonell & Goldstein 1998, as written."""
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < k:
        left = [i for i in range(len(relevance)) if i not in chosen]
        value = [
            (1 - diversity) * relevance[i] - diversity * max(closeness[i, j] for j in chosen) for i in left
        ]
        chosen.append(left[int(np.argmax(value))])
    return chosen


@pytest.mark.parametrize("diversity", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_diversity_is_maximal_marginal_relevance(
    shop: Collection, vectors: dict[str, dict[str, np.ndarray]], diversity: float
) -> None:
    weights = {"text": 1.0, "graph": 3.0}
    scores = by_hand(vectors, ["r1", "r2"], ["r4"], weights)
    ids = sorted(scores, key=lambda name: -scores[name]["all"])

    def close(a: str, b: str) -> float:
        both = [s for s in weights if a in vectors[s] and b in vectors[s]]
        return sum(weights[s] * float(vectors[s][a] @ vectors[s][b]) for s in both) / 4

    closeness = np.array([[close(a, b) for b in ids] for a in ids])
    expected = mmr(np.array([scores[id]["all"] for id in ids]), closeness, 12, diversity)
    hits = shop.recommend(["r1", "r2"], ["r4"], k=12, spaces=weights, diversity=diversity)
    assert [hit.id for hit in hits] == [ids[at] for at in expected]


def test_diversity_by_hand() -> None:
    """Two twins and one apart: with enough diversity the second twin comes last."""
    matrix = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    relevance = np.array([0.9, 0.8, 0.3], np.float32)
    assert diverse(relevance, matrix, 3, 0.0).tolist() == [0, 1, 2]
    # The twin is worth (1 - d) * 0.8 - d, the other (1 - d) * 0.3: they are even at d = 1 / 3.
    assert diverse(relevance, matrix, 3, 0.3).tolist() == [0, 1, 2]
    assert diverse(relevance, matrix, 3, 0.4).tolist() == [0, 2, 1]
    assert diverse(relevance, matrix, 2, 1.0).tolist() == [0, 2]


def test_candidates_from_graphs_are_scored_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With graphs the best of each space are the candidates; their scores are the same sums."""
    monkeypatch.setattr(choose, "FLAT_UP_TO", 1000)
    rng = np.random.default_rng(4)
    shop = search.open(tmp_path / "c")
    held = {}
    for name, dim in {"text": 6, "graph": 4, "image": 5}.items():
        rows = rng.standard_normal((2500, dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        shop.add([{"id": f"r{i}", "metadata": {"i": i}} for i in range(2500)], rows, space=name)
        held[name] = {f"r{i}": row for i, row in enumerate(rows)}
    shop.index()
    assert [space["index"]["kind"] for space in shop.info()["spaces"]] == ["hnsw"] * 3  # type: ignore[union-attr,index,call-overload]
    weights = {"text": 1.0, "graph": 2.0}
    expected = by_hand(held, ["r1", "r2"], ["r4"], weights)
    hits = shop.recommend(["r1", "r2"], ["r4"], k=10, spaces=weights)
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.id]["all"], abs=1e-5)
    best = sorted(expected, key=lambda name: -expected[name]["all"])[:10]
    assert len(set(best) & {hit.id for hit in hits}) >= 9
    few = {id: said for id, said in expected.items() if int(id[1:]) < 40}
    same(shop.recommend(["r1", "r2"], ["r4"], k=100, where="i < 40", spaces=weights), few, 100)


def test_inner_products_and_cosines_have_a_common_measure(tmp_path: Path) -> None:
    """However long the vectors of the one space are, it counts no more than the other."""
    rng = np.random.default_rng(5)
    cosine, inner = rng.standard_normal((N, 4)), rng.standard_normal((N, 3)) + 0.5
    cosine /= np.linalg.norm(cosine, axis=1, keepdims=True)
    ids = [f"r{i}" for i in range(N)]
    answers = []
    for scale in (1.0, 1000.0):
        with search.open(tmp_path / f"c{scale}") as shop:
            with shop.writing() as writer:
                for name, rows, metric in (("a", cosine, Metric.COSINE), ("b", inner * scale, Metric.DOT)):
                    spec = EncoderSpec("given", "given", Modality.VECTOR, rows.shape[1])
                    space = writer.space(name, spec, metric=metric)
                    writer.put([Record(id) for id in ids], rows, space)
            answers.append(shop.recommend(likes=["r1", "r2"], spaces={"a": 2, "b": 1}, k=N, explain=True))
    expected = np.zeros(N)
    for rows, query, weight in (
        (cosine, cosine[1] + cosine[2], 2 / 3),
        (inner, inner[1] + inner[2], 1 / 3),
    ):
        scores = rows @ query
        expected += weight * (scores - scores.mean()) / scores.std()
    order = [i for i in np.argsort(-expected) if i not in (1, 2)]
    for hits in answers:
        assert [hit.id for hit in hits] == [f"r{i}" for i in order]
        np.testing.assert_allclose([hit.score for hit in hits], expected[order], atol=2e-5)
        assert all(hit.explain and hit.explain["calibrated"] is True for hit in hits)


def test_rows_of_records_are_looked_up_alike_however_they_lie() -> None:
    """By their order where the keys ascend, else by passing through all; dead rows are not told."""
    rng = np.random.default_rng(4)
    vector = np.zeros((1, 3), np.float32)
    for ascends in (True, False):
        buffer, owners = RowBuffer(3, Metric.COSINE), []
        for record in range(1, 200):
            owners += [record] * int(rng.integers(0, 4))
        if not ascends:
            owners.append(7)  # a record that was updated
        for begin in range(0, len(owners), 50):
            some = np.array(owners[begin : begin + 50])
            buffer.append(np.arange(begin, begin + len(some)) + 1, some, np.repeat(vector, len(some), axis=0))
        assert buffer.rows().ascending is ascends
        buffer.bury(np.array([3, 4, 90, 91, 200]))
        rows = buffer.rows()
        for n in (0, 1, 5, 150):
            wanted = np.sort(rng.choice(np.arange(1, 210), n, replace=False))
            alive = np.ones(len(owners), dtype=bool)
            alive[[2, 3, 89, 90, 199]] = False
            expected = np.flatnonzero(np.isin(owners, wanted) & alive)
            assert positions_of(rows, wanted).tolist() == expected.tolist()
