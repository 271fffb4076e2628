"""Walks: the right steps with the right chances, and the same ones for any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.transitions import END, alias_rows, filter_place
from ingest.learn.nodes.walks import Walker, WalkSettings
from ingest.sources.graphs import from_edges, from_networkx
from search.errors import ModelError


def dense(graph: Graph) -> NDArray[np.float64]:
    matrix = np.zeros((graph.n_nodes, graph.n_nodes))
    rows = np.repeat(np.arange(graph.n_nodes), np.diff(graph.indptr))
    matrix[rows, graph.indices] = 1.0 if graph.weights is None else graph.weights
    return matrix


def exact_second_order(
    matrix: NDArray[np.float64], before: int, node: int, p: float, q: float
) -> NDArray[np.float64]:
    """Grover & Leskovec 2016, eq. 2: pi = alpha_pq(before, x) * w(node, x), normalised."""
    alpha = np.where(matrix[before] > 0, 1.0, 1.0 / q)
    alpha[before] = 1.0 / p
    chances = matrix[node] * alpha
    return chances / chances.sum()


def exact_extended(
    matrix: NDArray[np.float64], before: int, node: int, p: float, q: float, gamma: float
) -> NDArray[np.float64]:
    """Liu, Hirn & Krishnan 2023, eq. 4: weak edges, under mean + gamma std of their node's, count in part."""
    under = np.array([row[row > 0].mean() + gamma * row[row > 0].std() for row in matrix]) * (1 - 1e-6)
    alpha = np.empty(len(matrix))
    for to in range(len(matrix)):
        if to == before:
            alpha[to] = 1 / p
        elif matrix[before, to] >= under[to]:
            alpha[to] = 1.0
        elif matrix[node, to] < under[node]:
            alpha[to] = min(1.0, 1 / q)
        else:
            alpha[to] = 1 / q + (1 - 1 / q) * matrix[before, to] / under[to]
    chances = matrix[node] * alpha
    return chances / chances.sum()


def make_graph(kind: str) -> Graph:
    karate = nx.karate_club_graph()
    if kind == "unweighted":
        return from_networkx(karate, weight="none")
    if kind == "weighted":
        return from_networkx(karate)  # its weights are 1 to 7
    rng = np.random.default_rng(5)
    pairs = [(a, b) for a in range(12) for b in range(12) if a != b and rng.random() < 0.35]
    sources, targets = [str(a) for a, _ in pairs], [str(b) for _, b in pairs]
    weights = rng.integers(1, 6, len(pairs)).astype(float) if kind == "directed weighted" else None
    return from_edges(sources, targets, weights, directed=True)


def assert_chances(counts: NDArray[np.int64], chances: NDArray[np.float64]) -> float:
    """The chi-squared statistic of these counts, after making sure that nothing impossible was counted."""
    assert counts[chances == 0].sum() == 0
    expected = counts.sum() * chances[chances > 0]
    return float(((counts[chances > 0] - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(("p", "q"), [(1.0, 4.0), (4.0, 0.25), (1.0, 50.0)])
@pytest.mark.parametrize("kind", ["weighted", "directed weighted"])
def test_steps_of_node2vec_plus_have_the_exact_chances(kind: str, p: float, q: float) -> None:
    check_steps(kind, p, q, 0.5)


@pytest.mark.parametrize("kind", ["unweighted", "weighted", "directed", "directed weighted"])
@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (0.25, 4.0), (4.0, 0.25), (200.0, 1.0), (1.0, 50.0)])
def test_steps_have_the_exact_chances(kind: str, p: float, q: float) -> None:
    check_steps(kind, p, q, None)


def check_steps(kind: str, p: float, q: float, gamma: float | None) -> None:
    graph = make_graph(kind)
    matrix = dense(graph)
    walks = Walker(
        graph, WalkSettings(walks=400_000 // (20 * graph.n_nodes), length=20, p=p, q=q, seed=7, gamma=gamma)
    )
    steps = walks.walk(0, walks.n_walks)
    triples = np.stack([steps[:, :-2], steps[:, 1:-1], steps[:, 2:]], axis=-1).reshape(-1, 3)
    triples = triples[(triples != END).all(1)]
    counts = np.zeros((graph.n_nodes,) * 3, np.int64)
    np.add.at(counts, tuple(triples.T), 1)
    statistic, freedom = 0.0, 0
    for before, node in np.argwhere(matrix > 0):
        seen = counts[before, node]
        if seen.sum() < 100:
            continue
        if gamma is None:
            chances = exact_second_order(matrix, int(before), int(node), p, q)
        else:
            chances = exact_extended(matrix, int(before), int(node), p, q, gamma)
        statistic += assert_chances(seen, chances)
        freedom += int((chances > 0).sum()) - 1
    assert freedom > 30
    assert chi2.sf(statistic, freedom) > 1e-4


def test_first_steps_follow_the_weights() -> None:
    graph = make_graph("weighted")
    matrix = dense(graph)
    for p in (1.0, 0.5):
        walks = Walker(graph, WalkSettings(walks=2000, length=2, p=p, seed=3))
        steps = walks.walk(0, walks.n_walks)
        counts = np.zeros(matrix.shape, np.int64)
        np.add.at(counts, (steps[:, 0], steps[:, 1]), 1)
        statistic = sum(assert_chances(counts[v], matrix[v] / matrix[v].sum()) for v in range(graph.n_nodes))
        assert chi2.sf(statistic, len(graph.indices) - graph.n_nodes) > 1e-4


def test_alias_tables_hold_the_weights() -> None:
    rng = np.random.default_rng(0)
    weights = rng.pareto(1.0, 60).astype(np.float32) + np.float32(1e-3)
    indptr = np.array([0, 1, 1, 20, 60])
    accept, alias = np.empty(60, np.uint32), np.empty(60, np.int32)
    alias_rows(indptr, weights, accept, alias)
    for low, high in pairwise(indptr.tolist()):
        size = high - low
        own = (accept[low:high].astype(np.float64) + 1) / 2**32
        held = own.copy()
        np.add.at(held, alias[low:high], 1 - own)
        if size:
            np.testing.assert_allclose(held / size, weights[low:high] / weights[low:high].sum(), atol=1e-8)


@pytest.mark.parametrize("q", [1.0, 0.5])
def test_walks_do_not_depend_on_threads_or_chunks(q: float) -> None:
    graph = from_networkx(nx.barabasi_albert_graph(300, 4, seed=1))
    walks = Walker(graph, WalkSettings(walks=5, length=30, q=q, seed=11))
    whole = walks.walk(0, walks.n_walks)
    for threads in (1, 2, 8):
        with ThreadPoolExecutor(threads) as pool:
            assert walks.walk(0, walks.n_walks, pool).tobytes() == whole.tobytes()
    pieces = [walks.walk(first, min(37, walks.n_walks - first)) for first in range(0, walks.n_walks, 37)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    other = Walker(graph, WalkSettings(walks=5, length=30, q=q, seed=12))
    assert other.walk(0, walks.n_walks).tobytes() != whole.tobytes()


def test_each_round_starts_once_at_each_node_that_has_an_edge() -> None:
    graph = from_edges(["a", "b", "d"], ["b", "c", "d"], directed=True)
    walks = Walker(graph, WalkSettings(walks=3, length=4))
    starts = walks.starts(0, walks.n_walks).reshape(3, 4)
    assert (np.sort(starts, axis=1) == [0, 1, 2, 3]).all()


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_dead_ends_stop_a_walk_and_self_loops_may_be_taken(p: float) -> None:
    graph = from_edges(["a", "b", "d"], ["b", "c", "d"], directed=True)
    walks = Walker(graph, WalkSettings(walks=2, length=4, p=p))
    found = {tuple(row) for row in walks.walk(0, walks.n_walks).tolist()}
    assert found == {(0, 1, 2, END), (1, 2, END, END), (2, END, END, END), (3, 3, 3, 3)}


def test_extreme_parameters_end() -> None:
    """A node that nearly always must go back, with going back nearly forbidden: rejection alone would hang."""
    graph = from_edges(["a", "b"], ["b", "c"], [1e9, 1.0])
    walks = Walker(graph, WalkSettings(walks=10, length=50, p=1e12, seed=2))
    steps = walks.walk(0, walks.n_walks)
    back = (steps[:, :-2] == 0) & (steps[:, 1:-1] == 1)
    assert (steps[:, 2:][back] == 2).mean() > 0.99  # 1e9 / 1e12 against 1: almost always on to c


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"p": 0.0}, "p is 0.0; give a positive number"),
        ({"q": float("nan")}, "q is nan; give a positive number"),
        ({"walks": 0}, "walks is 0; give at least 1 per node"),
        ({"length": 1}, "length is 1; a walk needs at least 2 nodes"),
        ({"seed": -1}, "seed is -1; give a number that is not negative"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        WalkSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("directed", [False, True])
def test_the_filter_passes_every_edge_and_few_other_pairs(directed: bool) -> None:
    rng = np.random.default_rng(4)
    ends = rng.integers(0, 300, (1500, 2)).astype(str)
    graph = from_edges(ends[:, 0].tolist(), ends[:, 1].tolist(), directed=directed)
    rows = Walker(graph, WalkSettings(q=0.5)).rows
    matrix = dense(graph) > 0
    passed = np.zeros(matrix.shape, np.bool_)
    for before, node in np.ndindex(matrix.shape):
        word, bits = filter_place(len(rows.filter), directed, before, node)
        passed[before, node] = int(rows.filter[word]) & bits == bits
    assert passed[matrix].all()
    assert 0 < passed[~matrix].mean() < 0.05


def test_a_filter_is_made_only_where_it_is_asked() -> None:
    graph = make_graph("weighted")
    for settings in (WalkSettings(p=0.5), WalkSettings(p=0.5, q=0.5, gamma=0.0)):
        assert len(Walker(graph, settings).rows.filter) == 0
