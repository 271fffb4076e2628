"""node2vec and DeepWalk: the quality they are known for, their options, and how they are loaded."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ingest.learn.nodes.load import NodeSettings, load_trainer
from ingest.learn.nodes.node2vec import DeepWalk, Node2Vec, Node2VecPlus
from ingest.learn.nodes.skipgram import SkipGramSettings
from ingest.learn.nodes.walks import WalkSettings
from ingest.sources.graphs import from_edges, from_networkx, read_graph
from search.errors import ModelError, ModelUnavailable


def macro_f1(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Macro-F1 when each node is given as many labels as it truly has (Perozzi et al. 2014, sec. 5.1)."""
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    given = rank < labels.sum(1, keepdims=True)
    right = (given & labels).sum(0)
    wrong = (given ^ labels).sum(0)
    return float((2 * right / np.maximum(2 * right + wrong, 1)).mean())


def deepwalk_protocol(vectors: NDArray[np.float32], labels: NDArray[np.bool_], repeats: int) -> float:
    """Half of the nodes labelled, one logistic regression per label, mean of the repeats.

    The vectors come at the scale that training leaves them (root mean square 0.24 on PPI): the regression is
    regularised, so the scale counts.
    """
    results = []
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(vectors))
        train, test = order[: len(order) // 2], order[len(order) // 2 :]
        scores = np.full((len(test), labels.shape[1]), -np.inf)
        for label in range(labels.shape[1]):
            if labels[train, label].any():
                regression = LogisticRegression(C=1.0, max_iter=200, tol=1e-3)
                regression.fit(vectors[train], labels[train, label])
                scores[:, label] = regression.decision_function(vectors[test])
        results.append(macro_f1(scores, labels[test]))
    return float(np.mean(results))


def ppi_result(shared_data: Callable[[str], Path], repeats: int) -> float:
    graph = read_graph(shared_data("graphs/ppi/PPI.ungraph")).graph
    number = {name: k for k, name in enumerate(graph.ids)}
    lines = shared_data("graphs/ppi/PPI.cmty").read_text().splitlines()
    labels = np.zeros((graph.n_nodes, len(lines)), np.bool_)
    for label, line in enumerate(lines):
        labels[[number[name] for name in line.split()], label] = True
    assert labels.any(1).all()
    vectors = Node2Vec().fit(graph)
    assert 0.15 < np.sqrt((vectors**2).mean()) < 0.35
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return deepwalk_protocol(vectors, labels, repeats)


def test_ppi_short(shared_data: Callable[[str], Path]) -> None:
    assert ppi_result(shared_data, repeats=2) >= 0.175


@pytest.mark.quality
def test_ppi_by_the_whole_protocol(shared_data: Callable[[str], Path]) -> None:
    result = ppi_result(shared_data, repeats=10)
    print(f"node2vec on PPI, p = q = 1: macro-F1 {result:.4f}")
    assert result >= 0.18


def test_second_epoch_goes_on_learning() -> None:
    graph = from_networkx(nx.karate_club_graph())
    settings = SkipGramSettings(dim=16)
    norms = []
    for epochs in (1, 2, 4):
        seen: list[tuple[int, int]] = []
        vectors = Node2Vec(None, replace(settings, epochs=epochs)).fit(
            graph, progress=lambda done, total, seen=seen: seen.append((done, total))
        )
        norms.append(float(np.linalg.norm(vectors)))
        assert seen[-1] == (340 * epochs, 340 * epochs)
    assert norms == sorted(norms)


def test_deepwalk_is_node2vec_with_both_parameters_one() -> None:
    graph = from_networkx(nx.karate_club_graph())
    walks, learning = WalkSettings(walks=4, length=20), SkipGramSettings(dim=16)
    assert (DeepWalk(walks, learning).fit(graph) == Node2Vec(walks, learning).fit(graph)).all()
    other = Node2Vec(replace(walks, p=0.5), learning).fit(graph)
    assert (other != Node2Vec(walks, learning).fit(graph)).any()
    with pytest.raises(ModelError, match="deepwalk has p = q = 1"):
        DeepWalk(replace(walks, p=0.5))


def test_node2vec_plus_is_node2vec_where_all_edges_are_as_strong() -> None:
    """And where p = q = 1; else the weak edges tell the two apart."""
    learning = SkipGramSettings(dim=16)
    plain, weighted = (from_networkx(nx.karate_club_graph(), weight=name) for name in ("none", "weight"))
    same = from_edges(["a", "b", "c", "a"], ["b", "c", "a", "d"], [0.1, 0.1, 0.1, 0.1])
    for graph, q, equal in (
        (plain, 4.0, True),
        (same, 4.0, True),
        (weighted, 1.0, True),
        (weighted, 4.0, False),
    ):
        walks = WalkSettings(walks=4, length=20, q=q)
        found = Node2VecPlus(walks, learning).fit(graph)
        assert (found == Node2Vec(walks, learning).fit(graph)).all() == equal


def test_low_q_tells_roles_less_and_communities_more() -> None:
    """Two cliques joined by a path: with q = 4 a walk stays near, so the two ends of the path drift apart."""
    graph = from_networkx(nx.barbell_graph(12, 2))
    index = {name: k for k, name in enumerate(graph.ids)}
    vectors = Node2Vec(WalkSettings(p=1.0, q=4.0, walks=40, length=40), SkipGramSettings(dim=16)).fit(graph)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    left, right = [index[str(k)] for k in range(12)], [index[str(k)] for k in range(14, 26)]
    within = (unit[left] @ unit[left].T).mean()
    across = (unit[left] @ unit[right].T).mean()
    assert within > across + 0.5


def test_weights_matter() -> None:
    """a-b-c-d in a ring, with heavy edges a-b and c-d: the heavy pairs are each other's nearest."""
    graph = from_edges(["a", "b", "c", "d"], ["b", "c", "d", "a"], [50.0, 1.0, 50.0, 1.0])
    vectors = Node2Vec(WalkSettings(walks=60, length=20), SkipGramSettings(dim=16, window=2, sample=0.0)).fit(
        graph
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T - 2 * np.eye(4)
    assert scores.argmax(1).tolist() == [1, 0, 3, 2]


def test_isolated_nodes_change_nothing_for_the_others() -> None:
    karate = nx.karate_club_graph()
    learning = SkipGramSettings(dim=16)
    plain = from_networkx(karate)
    karate.add_nodes_from(["0 first", "zz last"])
    more = from_networkx(karate)
    vectors = dict(zip(more.ids, Node2Vec(None, learning).fit(more), strict=True))
    for name, row in zip(plain.ids, Node2Vec(None, learning).fit(plain), strict=True):
        assert (vectors[name] == row).all()
    assert not vectors["0 first"].any()


def test_unknown_methods_and_bad_settings_are_refused() -> None:
    with pytest.raises(
        ModelUnavailable,
        match=r"'line'; use node2vec, node2vec\+, deepwalk, prone, netmf, cleora, eigenmaps, lle or sgc",
    ):
        load_trainer("line")
    with pytest.raises(ModelError, match="dim is 0"):
        load_trainer("node2vec", NodeSettings(dim=0))
    with pytest.raises(ModelError, match=r"deepwalk has p = q = 1, not 2\.0 and 1\.0"):
        load_trainer("deepwalk", NodeSettings(p=2.0))
    with pytest.raises(ModelError, match="prone takes no walks; leave it out, or use node2vec"):
        load_trainer("prone", NodeSettings(walks=3))
    for method in ("node2vec", "deepwalk"):
        with pytest.raises(ModelError, match=rf"gamma is of node2vec\+, and {method} takes none"):
            load_trainer(method, NodeSettings(gamma=0.5))
    with pytest.raises(ModelError, match="prone takes no gamma"):
        load_trainer("prone", NodeSettings(gamma=0.5))
    with pytest.raises(ModelError, match="lle takes no device"):
        load_trainer("lle", NodeSettings(device="cuda"))


def test_settings_reach_the_trainer() -> None:
    trainer = load_trainer("node2vec", NodeSettings(32, 3, 9, 4, 6, 2, 0.5, 2.0, 8, 1))
    assert isinstance(trainer, Node2Vec)
    assert trainer.walks == WalkSettings(walks=3, length=9, p=0.5, q=2.0, seed=8)
    assert trainer.learning == SkipGramSettings(dim=32, window=4, negatives=6, epochs=2, seed=8)
    assert trainer.threads == 1
    plus = load_trainer("node2vec+", NodeSettings(p=0.5, gamma=1.5))
    assert plus.spec.options["gamma"] == 1.5
    assert load_trainer("node2vec+").spec.options["gamma"] == 0.0


def test_loading_the_loader_does_not_load_numba() -> None:
    code = "import sys, ingest.learn.nodes.load, ingest.learn.nodes.contract; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
