"""The contract of a node trainer, asked of every method on graphs of every kind."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pytest

from ingest.learn.nodes.contract import Graph, NodeTrainer
from ingest.learn.nodes.features import Features, FeatureTrainer
from ingest.learn.nodes.load import FEATURED, METHODS, WALKING, NodeSettings, load_trainer
from ingest.learn.nodes.skipgram import SkipGramSettings
from ingest.learn.nodes.torch_node2vec import TorchNode2Vec
from ingest.learn.nodes.walks import WalkSettings
from ingest.sources.graphs import from_edges, from_networkx
from search.errors import SourceError
from search.types import EncoderSpec, Modality

SMALL = NodeSettings(dim=20, walks=6, length=20, window=4, seed=3, threads=2)


def kinds_of_graph() -> dict[str, Graph]:
    rng = np.random.default_rng(0)
    blocks = nx.planted_partition_graph(2, 40, 0.3, 0.01, seed=2)
    ends = rng.integers(0, 60, (400, 2))
    names = [(f"n{u:02}", f"n{v:02}") for u, v in ends]
    left, right = [u for u, _ in names], [v for _, v in names]
    with_isolated = nx.Graph([(1, 2), (2, 3), (5, 5)])
    with_isolated.add_nodes_from([0, 4, 6])
    return {
        "communities": from_networkx(blocks),
        "weighted": from_edges(left, right, rng.random(400) + 0.1),
        "directed": from_edges(left, right, directed=True),
        "isolated nodes and a self-loop": from_networkx(with_isolated),
        "one edge": from_edges(["a"], ["b"]),
        "one self-loop": from_edges(["a"], ["a"]),
        "a star": from_edges(["hub"] * 300, [f"leaf {k:03}" for k in range(300)]),
    }


GRAPHS = kinds_of_graph()


SOLVED = ("eigenmaps", "lle", *FEATURED)  # nothing is left to chance in so small a graph
ON_TORCH = "node2vec on torch"  # what --device cuda takes, here on the processor


def features_of_all() -> Features:
    """24 numbers for each node of any of these graphs, drawn by chance: what is alike comes of the edges alone."""
    graphs = (*GRAPHS.values(), from_edges([f"n{k}" for k in range(50)], ["n0"] * 50))
    ids = tuple(sorted({id for graph in graphs for id in graph.ids}))
    drawn = np.random.default_rng(5).standard_normal((len(ids), 24)).astype(np.float32)
    return Features(ids, drawn / np.linalg.norm(drawn, axis=1, keepdims=True), "drawn")


FEATURES = features_of_all()


@pytest.fixture(params=[*METHODS, ON_TORCH])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def trainer_of(method: str, settings: NodeSettings) -> NodeTrainer:
    if method not in (*WALKING, ON_TORCH):
        settings = NodeSettings(dim=settings.dim, seed=settings.seed, threads=settings.threads)
    if method != ON_TORCH:
        trainer = load_trainer(method, settings)
        return trainer.given(FEATURES) if isinstance(trainer, FeatureTrainer) else trainer
    walks = WalkSettings(settings.walks, settings.length, settings.p, settings.q, settings.seed)
    learning = SkipGramSettings(settings.dim, settings.window, seed=settings.seed)
    return TorchNode2Vec(walks, learning, device="cpu")


@pytest.mark.parametrize("kind", GRAPHS)
def test_one_finite_row_per_node_and_zeros_only_where_there_is_no_edge(method: str, kind: str) -> None:
    graph = GRAPHS[kind]
    vectors = trainer_of(method, SMALL).fit(graph)
    assert vectors.shape == (graph.n_nodes, 20)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    touched = np.diff(graph.indptr) > 0
    touched[graph.indices] = True
    if method in FEATURED:  # all nodes have features here
        touched[:] = True
    assert ((vectors != 0).any(1) == touched).all()


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_same_bytes_again_and_for_any_threads(method: str, kind: str) -> None:
    found = {
        trainer_of(method, NodeSettings(dim=20, walks=6, length=20, window=4, seed=3, threads=threads))
        .fit(GRAPHS[kind])
        .tobytes()
        for threads in (1, 2, 2, 8)
    }
    assert len(found) == 1


def test_another_seed_gives_other_vectors_where_chance_is_used(method: str) -> None:
    one, other = (
        trainer_of(method, NodeSettings(dim=20, walks=6, length=20, window=4, seed=seed)).fit(
            GRAPHS["weighted"]
        )
        for seed in (0, 1)
    )
    if method in SOLVED:
        assert (one == other).all()
    else:
        assert (one != other).any(1).all()


def test_row_i_is_node_i_in_whatever_order_the_edges_come(method: str) -> None:
    rng = np.random.default_rng(4)
    ends = rng.integers(0, 50, (300, 2))
    weights = rng.integers(1, 5, 300).astype(float)
    rows = {}
    for seed in (0, 1):
        order = np.random.default_rng(seed).permutation(300)
        graph = from_edges(
            [f"n{u}" for u in ends[order, 0]], [f"n{v}" for v in ends[order, 1]], weights[order]
        )
        vectors = trainer_of(method, SMALL).fit(graph)
        rows[seed] = dict(zip(graph.ids, vectors.tolist(), strict=True))
    assert rows[0] == rows[1]


def test_neighbours_in_space_are_of_the_same_community(method: str) -> None:
    """Each row has to be that of its own node for this to hold."""
    graph = GRAPHS["communities"]
    block = np.array([int(name) // 40 for name in graph.ids])
    # The first eigenvector parts the two; those after it say what else differs.
    dim = 1 if method in SOLVED and method not in FEATURED else 32
    vectors = trainer_of(method, NodeSettings(dim=dim, walks=10, length=40, window=5, seed=1)).fit(graph)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -2)
    nearest = np.argsort(-scores, axis=1)[:, :5]
    assert (block[nearest] == block[:, None]).mean() > 0.97


def test_the_graph_is_left_as_it_was(method: str) -> None:
    graph = GRAPHS["weighted"]
    assert graph.weights is not None
    before = graph.indptr.tobytes() + graph.indices.tobytes() + graph.weights.tobytes()
    trainer_of(method, SMALL).fit(graph)
    assert graph.indptr.tobytes() + graph.indices.tobytes() + graph.weights.tobytes() == before


def test_progress_rises_to_the_whole(method: str) -> None:
    seen: list[tuple[int, int]] = []
    trainer_of(method, SMALL).fit(GRAPHS["weighted"], progress=lambda done, total: seen.append((done, total)))
    done = [pair[0] for pair in seen]
    assert done == sorted(done)
    assert len({pair[1] for pair in seen}) == 1
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_graph_without_edges_is_refused(method: str) -> None:
    empty = Graph(("a", "b"), np.zeros(3, np.int64), np.empty(0, np.int32), None, directed=False)
    with pytest.raises(SourceError, match="the graph has no edges"):
        trainer_of(method, SMALL).fit(empty)


def test_the_spec_says_what_was_done_and_survives_json(method: str) -> None:
    spec = trainer_of(method, SMALL).spec
    assert (spec.family, spec.model, spec.modality, spec.dim, spec.accepts) == (
        method.removesuffix(" on torch"),
        method.removesuffix(" on torch"),
        Modality.GRAPH,
        20,
        (),
    )
    if method in (*WALKING, ON_TORCH):
        assert spec.options["walks"] == 6
    assert spec.options["seed"] == 3
    assert "threads" not in spec.options  # the vectors do not depend on them
    assert EncoderSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
