"""Simplified graph convolution against dense matrices, and what its encoder makes of nodes that come later."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.features import Features
from ingest.learn.nodes.load import NodeSettings, load_trainer
from ingest.learn.nodes.sgc import SGC, SGCSettings, SmoothedAxes
from ingest.learn.nodes.spectral import adjacency
from ingest.sources.graphs import from_edges, from_networkx
from search.errors import ModelError, ModelUnavailable

Dense = NDArray[np.float64]


def weighted(n: int, seed: int) -> Graph:
    graph = nx.barabasi_albert_graph(n, 3, seed=seed)
    rng = np.random.default_rng(seed)
    nx.set_edge_attributes(graph, {edge: float(rng.integers(1, 6)) for edge in graph.edges}, "weight")
    return from_networkx(graph)


def features_of(graph: Graph, width: int, seed: int = 0, unknown: float = 0.0) -> Features:
    """Drawn for each id, so that the same node has the same in another graph."""
    rows = np.array(
        [np.random.default_rng([seed, *id.encode()]).standard_normal(width) for id in graph.ids], np.float32
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[np.random.default_rng(seed).random(len(rows)) < unknown] = 0
    return Features(graph.ids, rows, "drawn")


def smoothing(graph: Graph) -> Dense:
    """The rows by the definition: a node counts for itself as much as the mean of its edges does."""
    matrix = adjacency(graph).toarray().astype(np.float64)
    own = matrix.sum(1) / (matrix > 0).sum(1)
    whole = matrix + np.diag(own)
    result: Dense = whole / whole.sum(1, keepdims=True)
    return result


def unit(rows: Dense) -> Dense:
    result: Dense = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return result


@pytest.mark.parametrize("hops", [1, 3])
def test_vectors_are_the_principal_components_of_smoothed_features(hops: int) -> None:
    graph = weighted(70, 1)
    features = features_of(graph, 12)
    rows = features.matrix.astype(np.float64)
    smoothed = np.linalg.matrix_power(smoothing(graph), hops) @ rows
    smoothed -= smoothed.mean(0)
    left, values, _ = np.linalg.svd(smoothed, full_matrices=False)
    expected = unit(left[:, :5] * values[:5])
    found = SGC(SGCSettings(dim=5, hops=hops), features).fit(graph)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)
    same = found * np.sign(np.einsum("nd,nd->d", found, expected))
    np.testing.assert_allclose(same, expected, atol=1e-3)


def test_without_weights_it_is_the_convolution_with_self_loops() -> None:
    graph = from_edges(["a", "b", "c"], ["b", "c", "d"])
    matrix = adjacency(graph).toarray() + np.eye(4)
    np.testing.assert_allclose(smoothing(graph), matrix / matrix.sum(1, keepdims=True))


def test_unknown_features_stand_for_the_mean() -> None:
    graph = weighted(60, 2)
    features = features_of(graph, 8, unknown=0.4)
    known = features.matrix.any(1)
    assert 10 < known.sum() < 50
    filled = features.matrix.copy()
    filled[~known] = features.matrix[known].mean(0)
    found = SGC(SGCSettings(dim=8), features).fit(graph)
    full = SGC(SGCSettings(dim=8), Features(graph.ids, filled, "drawn")).fit(graph)
    np.testing.assert_allclose(found @ found.T, full @ full.T, atol=1e-4)


def test_where_nothing_is_known_around_nodes_get_one_direction() -> None:
    graph = from_networkx(nx.disjoint_union(nx.complete_graph(8), nx.path_graph(3)))
    features = features_of(graph, 6)
    far = np.array([int(id) >= 8 for id in graph.ids])
    features.matrix[far] = 0
    trainer = SGC(SGCSettings(dim=6, seed=4), features)
    encoder = trainer.learned(graph)
    assert not encoder.encode(graph, features.matrix)[far].any()
    vectors = trainer.fit(graph)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors[far] == vectors[far][0]).all()


def test_a_node_without_edges_has_the_vector_of_its_own_features() -> None:
    graph = nx.complete_graph(8)
    graph.add_nodes_from([8, 9])
    read = from_networkx(graph)
    features = features_of(read, 6)
    features.matrix[[id == "9" for id in read.ids]] = 0
    trainer = SGC(SGCSettings(dim=6), features)
    encoder, vectors = trainer.learned(read), dict(zip(read.ids, trainer.fit(read), strict=True))
    own = features.matrix[read.ids.index("8")].astype(np.float64)
    alone = (own - encoder.mean) @ encoder.weights - encoder.offset
    np.testing.assert_allclose(vectors["8"], alone / np.linalg.norm(alone), atol=1e-5)
    assert not vectors["9"].any()


def test_later_nodes_get_what_the_same_encoder_gives_them_in_the_whole_graph() -> None:
    """By the definition, with dense matrices, on the graph with the later nodes in it."""
    whole = nx.barabasi_albert_graph(80, 3, seed=5)
    first = from_networkx(whole.subgraph(range(70)))
    encoder = SGC(SGCSettings(dim=6), features_of(first, 10)).learned(first)
    graph = from_networkx(whole)
    rows = features_of(graph, 10).matrix
    axes = (rows.astype(np.float64) - encoder.mean) @ encoder.weights
    expected = unit(np.linalg.matrix_power(smoothing(graph), 2) @ axes - encoder.offset)
    np.testing.assert_allclose(encoder.encode(graph, rows), expected, atol=1e-5)


def test_an_encoder_survives_its_bytes_and_turns_with_its_vectors() -> None:
    graph = weighted(50, 3)
    features = features_of(graph, 9)
    trainer = SGC(SGCSettings(dim=4, hops=1), features)
    encoder, vectors = trainer.learned(graph), trainer.fit(graph)
    data = encoder.to_bytes()
    assert data == trainer.learned(graph).to_bytes()
    again = SmoothedAxes.from_bytes(data)
    assert again.encode(graph, features.matrix).tobytes() == vectors.tobytes()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))
    turned = again.turned(rotation).encode(graph, features.matrix)
    np.testing.assert_allclose(turned, vectors @ rotation, atol=1e-5)
    for broken in (b"", data[:40], data.replace(b"nearkin sgc 1", b"nearkin sgc 2"), data[:-5]):
        with pytest.raises(ModelUnavailable, match="learn the graph again"):
            SmoothedAxes.from_bytes(broken)


def test_of_many_features_the_axes_are_found_by_projections(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = weighted(60, 4)
    rng = np.random.default_rng(1)
    few = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 300))
    features = Features(graph.ids, unit(few).astype(np.float32), "drawn")
    solved = SGC(SGCSettings(dim=4), features).fit(graph)
    monkeypatch.setattr("ingest.learn.nodes.sgc.EXACT", 100)
    found = SGC(SGCSettings(dim=4), features).fit(graph)
    assert found.tobytes() == SGC(SGCSettings(dim=4), features).fit(graph).tobytes()
    np.testing.assert_allclose(found @ found.T, solved @ solved.T, atol=1e-3)


def test_what_cannot_be_learned_is_refused() -> None:
    graph = weighted(20, 1)
    with pytest.raises(ModelError, match="learns from features of nodes; name a space that has them"):
        load_trainer("sgc").fit(graph)
    with pytest.raises(ModelError, match="no node with an edge has features in text"):
        SGC(None, Features(("elsewhere",), np.ones((1, 3), np.float32), "text")).fit(graph)
    encoder = SGC(SGCSettings(dim=2), features_of(graph, 3)).learned(graph)
    with pytest.raises(ModelError, match="takes 3 features of a node, not 4; learn again"):
        encoder.encode(graph, np.ones((20, 4), np.float32))
    with pytest.raises(ModelError, match="hops is 0; give at least 1"):
        load_trainer("sgc", NodeSettings(hops=0))
    with pytest.raises(ModelError, match="sgc takes no walks; leave it out, or use node2vec"):
        load_trainer("sgc", NodeSettings(walks=3))
    with pytest.raises(ModelError, match="a space or attributes of the nodes; give one"):
        load_trainer("sgc", NodeSettings(features="text", attributes=("age",)))
    for method in ("node2vec", "prone"):
        with pytest.raises(ModelError, match=f"{method} takes no features; leave it out, or use sgc"):
            load_trainer(method, NodeSettings(features="text"))


def test_torch_is_not_needed() -> None:
    code = (
        "import sys, numpy as np; from ingest.learn.nodes.sgc import SGC, SmoothedAxes; "
        "from ingest.learn.nodes.features import Features; from ingest.sources.graphs import from_edges; "
        "g = from_edges(['a', 'b'], ['b', 'c']); f = Features(g.ids, np.eye(3, dtype=np.float32), 'x'); "
        "SmoothedAxes.from_bytes(SGC(None, f).learned(g).to_bytes()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
