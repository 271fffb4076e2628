"""Our node2vec beside the `node2vec` package: the same graph and settings give vectors of the same quality."""

from __future__ import annotations

import importlib.util

import networkx as nx
import numpy as np
import pytest

from ingest.learn.nodes.load import NodeSettings, load_trainer
from ingest.learn.nodes.reference import as_networkx
from ingest.sources.graphs import from_edges, from_networkx
from search.errors import MissingExtra, ModelError

INSTALLED = importlib.util.find_spec("node2vec") is not None
REASON = "the node2vec package pins numpy<2: install nearkin[reference] in an environment of its own"


@pytest.mark.skipif(not INSTALLED, reason=REASON)
@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (0.5, 2.0)])
def test_vectors_are_as_good_as_those_of_the_reference(p: float, q: float) -> None:
    """The ten nearest are of the same community about as often."""
    graph = from_networkx(nx.planted_partition_graph(8, 40, 0.22, 0.025, seed=5))
    block = np.array([int(name) // 40 for name in graph.ids])
    right = []
    for backend in ("reference", "own"):
        settings = NodeSettings(dim=32, length=40, window=5, p=p, q=q, seed=1, backend=backend)
        vectors = load_trainer("node2vec", settings).fit(graph)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = unit @ unit.T - 2 * np.eye(len(unit))
        right.append(float((block[np.argsort(-scores, axis=1)[:, :10]] == block[:, None]).mean()))
    print(right)
    assert right[0] > 0.5
    assert right[1] > right[0] - 0.03


@pytest.mark.skipif(not INSTALLED, reason=REASON)
def test_the_reference_gives_one_result_and_zeros_to_nodes_without_edges() -> None:
    karate = nx.karate_club_graph()
    karate.add_node("zz")
    graph = from_networkx(karate)
    trainer = load_trainer("node2vec", NodeSettings(dim=8, walks=3, length=10, window=3, backend="reference"))
    before = np.random.get_state()[1].tobytes()  # type: ignore[union-attr]  # noqa: NPY002
    vectors = trainer.fit(graph)
    assert np.random.get_state()[1].tobytes() == before  # type: ignore[union-attr]  # noqa: NPY002
    assert trainer.fit(graph).tobytes() == vectors.tobytes()
    assert ((vectors != 0).any(1) == [name != "zz" for name in graph.ids]).all()


def test_a_graph_becomes_that_of_networkx() -> None:
    there = as_networkx(from_edges(["a", "b", "c"], ["b", "c", "c"], [2.0, 3.0, 4.0]))
    assert sorted(there.edges(data="weight")) == [(0, 1, 2.0), (1, 2, 3.0), (2, 2, 4.0)]
    back = as_networkx(from_edges(["b"], ["a"], directed=True))
    assert list(back.edges(data="weight")) == [(1, 0, 1.0)]


def test_what_the_reference_cannot_do_is_refused() -> None:
    with pytest.raises(ModelError, match="node2vec on the processor alone"):
        load_trainer("deepwalk", NodeSettings(backend="reference"))
    with pytest.raises(ModelError, match="unknown backend 'pecanpy'; use own or reference"):
        load_trainer("node2vec", NodeSettings(backend="pecanpy"))
    with pytest.raises(ModelError, match="prone takes no backend"):
        load_trainer("prone", NodeSettings(backend="reference"))
    if not INSTALLED:
        trainer = load_trainer("node2vec", NodeSettings(backend="reference"))
        with pytest.raises(MissingExtra, match=r'pip install "nearkin\[reference\]"'):
            trainer.fit(from_edges(["a"], ["b"]))
