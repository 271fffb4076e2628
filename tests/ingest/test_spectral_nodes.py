"""The trainers that factorise a matrix, against dense solvers and closed forms."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from ingest.learn.nodes.cleora import Cleora
from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.eigen import DENSE, Eigenmaps, LocallyLinear
from ingest.learn.nodes.netmf import ROWS, NetMF, window_information
from ingest.learn.nodes.prone import SHIFT, WIDTH, ProNE
from ingest.learn.nodes.spectral import SpectralSettings, SpectralTrainer, adjacency, products
from ingest.sources.graphs import from_edges, from_networkx
from search.errors import ModelError

Dense = NDArray[np.float64]


def dense(graph: Graph) -> Dense:
    matrix: Dense = adjacency(graph).toarray().astype(np.float64)
    return matrix


def weighted(n: int, seed: int) -> Graph:
    """A connected graph of n nodes whose weights are 1 to 5."""
    graph = nx.barabasi_albert_graph(n, 3, seed=seed)
    rng = np.random.default_rng(seed)
    nx.set_edge_attributes(graph, {edge: float(rng.integers(1, 6)) for edge in graph.edges}, "weight")
    return from_networkx(graph)


def same_up_to_sign(found: Dense, expected: Dense) -> None:
    for one, other in zip(found.T, expected.T, strict=True):
        np.testing.assert_allclose(one * np.sign(one @ other), other, atol=2e-4)


@pytest.mark.parametrize("n", [60, DENSE + 60])
def test_eigenmaps_are_those_of_a_dense_solver(n: int) -> None:
    """The generalised problem as it stands in Belkin & Niyogi 2003; the greater graph takes the iteration."""
    graph = weighted(n, 1)
    matrix = dense(graph)
    degree = matrix.sum(1)
    values, vectors = scipy.linalg.eigh(np.diag(degree) - matrix, np.diag(degree))
    assert np.diff(values[1:8]).min() > 1e-4  # no two are the same, so each vector is one alone
    found = Eigenmaps(SpectralSettings(dim=6)).fit(graph).astype(np.float64)
    same_up_to_sign(found, vectors[:, 1:7] * np.sqrt(degree.sum()))
    np.testing.assert_allclose(found.T @ (degree[:, None] * found) / degree.sum(), np.eye(6), atol=1e-3)


@pytest.mark.parametrize("n", [60, DENSE + 60])
def test_lle_is_that_of_a_dense_solver(n: int) -> None:
    graph = weighted(n, 2)
    matrix = dense(graph)
    rest = np.eye(n) - matrix / matrix.sum(1, keepdims=True)
    _, values, right = np.linalg.svd(rest)
    assert values[-1] < 1e-12
    assert np.diff(values[-8:-1]).max() < -1e-5
    found = LocallyLinear(SpectralSettings(dim=6)).fit(graph).astype(np.float64)
    same_up_to_sign(found, right[-2:-8:-1].T * np.sqrt(n))


@pytest.mark.parametrize("trainer", [Eigenmaps, LocallyLinear])
def test_components_have_no_constant_vectors_and_small_ones_a_direction(
    trainer: type[SpectralTrainer],
) -> None:
    """Two rings give the leading vectors, and two pairs of nodes, of greater eigenvalues, get one direction each."""
    rings = nx.disjoint_union(nx.cycle_graph(40), nx.cycle_graph(50))
    graph = from_networkx(nx.disjoint_union(rings, nx.Graph([(0, 1), (2, 3)])))
    part = np.array([int(name) for name in graph.ids])
    vectors = trainer(SpectralSettings(dim=8, seed=1)).fit(graph)
    for ring in (vectors[part < 40], vectors[(part >= 40) & (part < 90)]):
        assert np.abs(ring.sum(0)).max() < 1e-3  # each is orthogonal to the constant of its component
        assert np.linalg.matrix_rank(ring, tol=0.1) == 4
    pairs = vectors[np.argsort(part)][90:]
    np.testing.assert_allclose(np.linalg.norm(pairs, axis=1), 1.0, rtol=1e-6)
    assert (pairs[0] == pairs[1]).all()
    assert (pairs[2] == pairs[3]).all()
    assert abs(pairs[0] @ pairs[2]) < 0.99


def test_prone_is_the_filtered_factorisation_of_the_information() -> None:
    """Exact where all directions are taken. The Chebyshev series is that of exp(-theta (M^2 / 2 - I))."""
    graph = weighted(38, 3)
    matrix = dense(graph)
    n, degree = len(matrix), matrix.sum(1)
    chances = matrix / degree[:, None]
    edges = matrix > 0
    information = np.zeros((n, n))
    information[edges] = np.log(chances[edges] / np.broadcast_to(chances.mean(0), (n, n))[edges])
    left, values, _ = np.linalg.svd(information)
    first = left[:, :30] * np.sqrt(values[:30])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    expected = spread_exactly(matrix, first)
    found = ProNE(SpectralSettings(dim=30)).fit(graph)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-3)  # up to a rotation


def spread_exactly(matrix: Dense, vectors: Dense) -> Dense:
    """ProNE's filter with the exponential of a matrix, at unit length."""
    smoothed = (matrix + np.eye(len(matrix))) / (matrix.sum(1) + 1)[:, None]
    shifted = (1 - SHIFT) * np.eye(len(matrix)) - smoothed
    kept = scipy.linalg.expm(-WIDTH * (shifted @ shifted / 2 - np.eye(len(matrix))))
    result = (matrix + np.eye(len(matrix))) @ (vectors - kept @ vectors)
    unit: Dense = result / np.linalg.norm(result, axis=1, keepdims=True)
    return unit


def test_the_window_matrix_of_netmf() -> None:
    """The formula of Qiu et al. 2018, theorem 2.3, with one negative; a graph of more rows than are taken at once."""
    graph = weighted(ROWS + 44, 6)
    matrix = dense(graph)
    degree = matrix.sum(1)
    chances = matrix / degree[:, None]
    reached = sum(np.linalg.matrix_power(chances, r) for r in range(1, 11)) / 10
    window = np.log(np.maximum(matrix.sum() * reached / degree[None, :], 1.0))
    with products(2) as times:
        np.testing.assert_allclose(window_information(adjacency(graph), times), window, atol=1e-5)


def test_netmf_is_the_spread_factorisation_of_it() -> None:
    """Exact where all directions are taken."""
    graph = weighted(38, 6)
    with products(1) as times:
        left, values, _ = np.linalg.svd(window_information(adjacency(graph), times))
    expected = spread_exactly(dense(graph), left * values)
    found = NetMF(SpectralSettings(dim=38)).fit(graph)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-3)  # up to a rotation


def test_netmf_refuses_a_graph_whose_pairs_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.learn.nodes.netmf.MOST_NODES", 59)
    with pytest.raises(ModelError, match="takes 59 nodes at most, not 60; use prone"):
        NetMF().fit(weighted(60, 1))


def test_cleora_is_the_mean_of_neighbours_three_times() -> None:
    graph = weighted(50, 4)
    matrix = dense(graph)
    rows = np.random.default_rng([9, 50]).random((50, 16), np.float32).astype(np.float64) * 2 - 1
    for _ in range(3):
        rows = matrix @ rows / matrix.sum(1, keepdims=True)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(Cleora(SpectralSettings(dim=16, seed=9)).fit(graph), rows, atol=1e-5)


def test_directed_edges_count_in_both_directions() -> None:
    forwards = from_edges(["a", "b", "c", "c"], ["b", "c", "a", "d"], directed=True)
    both = from_edges(["a", "b", "c", "c"], ["b", "c", "a", "d"])
    for trainer in (ProNE, NetMF, Cleora, Eigenmaps, LocallyLinear):
        settings = SpectralSettings(dim=3)
        np.testing.assert_allclose(trainer(settings).fit(forwards), trainer(settings).fit(both), atol=1e-5)


def test_products_are_right_for_any_threads() -> None:
    rng = np.random.default_rng(0)
    left = scipy.sparse.random(5000, 300, 0.01, format="csr", dtype=np.float32, random_state=0)
    right = rng.standard_normal((300, 20), np.float32)
    found = []
    for threads in (1, 2, 8):
        with products(threads) as times:
            found.append(times(left, right))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    np.testing.assert_allclose(found[0], left.toarray() @ right, atol=1e-5)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ModelError, match="dim is 0; give at least 1"):
        SpectralSettings(dim=0)
    with pytest.raises(ModelError, match="seed is -1"):
        SpectralSettings(seed=-1)
