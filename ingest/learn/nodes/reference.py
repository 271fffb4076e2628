"""node2vec by the `node2vec` package, for comparison with our own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph, NodeTrainer
from ingest.learn.nodes.node2vec import without_isolated
from ingest.learn.nodes.skipgram import SkipGramSettings
from ingest.learn.nodes.walks import WalkSettings
from search.errors import MissingExtra, ModelError, SourceError
from search.types import EncoderSpec, Modality

BACKEND = "reference"


class ReferenceNode2Vec(NodeTrainer):
    """The `node2vec` package (walks in Python, skip-gram by gensim) behind the same contract.

    It runs in one thread, as only then one seed gives one result, and needs minutes and gigabytes where our own
    needs seconds: every edge has tables of its own.

    Args:
        walks: how walks are taken.
        learning: how vectors are learned from them.
    """

    def __init__(self, walks: WalkSettings | None = None, learning: SkipGramSettings | None = None) -> None:
        self.walks = walks = walks or WalkSettings()
        self.learning = learning = learning or SkipGramSettings()
        if walks.gamma is not None:
            raise ModelError("the reference package has no node2vec+; leave --backend out")
        options = {name: value for name, value in asdict(walks).items() if value is not None}
        self.spec = EncoderSpec(
            family="node2vec",
            model="node2vec",
            modality=Modality.GRAPH,
            dim=learning.dim,
            options=options | asdict(learning) | {"backend": BACKEND},
        )

    def fit(self, graph: Graph, *, progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Vectors (n_nodes, dim) float32; row i is node i, a row of zeros where the node has no edge.

        Raises:
            MissingExtra: the package is not installed.
            SourceError: the graph has no edges.
        """
        try:
            from node2vec import Node2Vec
        except ImportError as error:
            raise MissingExtra("--backend reference", "reference") from error
        connected, nodes = without_isolated(graph)
        if connected.n_nodes == 0:
            raise SourceError("the graph has no edges; nothing can be learned from it")
        report = progress or (lambda _done, _total: None)
        total = connected.n_nodes * self.walks.walks
        report(0, total)
        learning, walks = self.learning, self.walks
        states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the package seeds both for itself
        try:
            walked = Node2Vec(
                as_networkx(connected),
                dimensions=learning.dim,
                walk_length=walks.length,
                num_walks=walks.walks,
                p=walks.p,
                q=walks.q,
                workers=1,
                quiet=True,
                seed=walks.seed,
            )
            model = walked.fit(
                window=learning.window,
                negative=learning.negatives,
                epochs=learning.epochs,
                alpha=learning.rate,
                min_alpha=learning.last_rate,
                sample=learning.sample,
                min_count=0,
                seed=learning.seed,
            )
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        report(total, total)
        vectors = np.zeros((graph.n_nodes, learning.dim), np.float32)
        vectors[nodes] = model.wv[[str(node) for node in range(connected.n_nodes)]]
        return vectors


def as_networkx(graph: Graph) -> nx.Graph[int]:
    """The same graph with the numbers of the nodes as nodes, and their weights (1 where there are none)."""
    result: nx.Graph[int] = nx.DiGraph() if graph.directed else nx.Graph()
    result.add_nodes_from(range(graph.n_nodes))
    sources = np.repeat(np.arange(graph.n_nodes), np.diff(graph.indptr))
    weights = np.ones(len(sources)) if graph.weights is None else graph.weights.astype(np.float64)
    edges = zip(sources.tolist(), graph.indices.tolist(), weights.tolist(), strict=True)
    result.add_weighted_edges_from(edges)
    return result
