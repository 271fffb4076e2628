"""node2vec and DeepWalk: walks over the graph, read by skip-gram as if they were sentences."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph, NodeTrainer
from ingest.learn.nodes.skipgram import SkipGram, SkipGramSettings
from ingest.learn.nodes.transitions import END
from ingest.learn.nodes.walks import Walker, WalkSettings, available_threads
from search.errors import ModelError, SourceError
from search.types import EncoderSpec, Modality

COUNTED_TOKENS = 1_000_000  # so many tokens (and each node once) are walked ahead to learn the frequencies
TOKENS_PER_NODE = (
    16  # how much of the walks is turned into pairs at a time: the more, the more a center has to do at once
)
MOST_TOKENS = 6_000_000  # the same as a bound for memory: about 300 MB of pairs at a window of 10
FEWEST_CHUNKS = 16  # short runs take smaller chunks, so that the learning rate still falls in steps


class Node2Vec(NodeTrainer):
    """Vectors of nodes by biased second-order walks and skip-gram (Grover & Leskovec 2016).

    A self-loop is an edge like any other: a walk may take it, and the node is then its own context. Directed
    edges are walked forwards only; a walk ends where no edge leads on. "Near the node before" (bias 1 instead
    of 1/q) means that an edge leads there from the node before.

    Walks are made in chunks and forgotten, so memory is O(nodes * dim + edges). The same graph and settings
    give the same bytes on one machine for any number of threads.

    Args:
        walks: how walks are taken; None for the usual 10 walks of 80 nodes, p = q = 1.
        learning: how vectors are learned from them; None for the usual 128 numbers, window 10, 5 negatives.
        threads: how many threads to use; None for all processors this process may use.
    """

    family = "node2vec"

    def __init__(
        self,
        walks: WalkSettings | None = None,
        learning: SkipGramSettings | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.walks = walks = walks or WalkSettings()
        self.learning = learning = learning or SkipGramSettings()
        self.threads = available_threads() if threads is None else max(1, threads)
        self.spec = EncoderSpec(
            family=self.family,
            model=self.family,
            modality=Modality.GRAPH,
            dim=learning.dim,
            options={name: value for name, value in asdict(walks).items() if value is not None}
            | asdict(learning),
        )

    def fit(self, graph: Graph, *, progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Vectors (n_nodes, dim) float32; row i is node i, a row of zeros where the node has no edge.

        `progress` is called with the walks done and the walks in all.

        Raises:
            SourceError: the graph has no edges.
        """
        connected, nodes = without_isolated(graph)
        if connected.n_nodes == 0:
            raise SourceError("the graph has no edges; nothing can be learned from it")
        vectors = np.zeros((graph.n_nodes, self.learning.dim), np.float32)
        with ThreadPoolExecutor(self.threads) as pool:
            vectors[nodes] = self._learn(
                Walker(connected, self.walks), pool if self.threads > 1 else None, progress
            )
        return vectors

    def _learn(
        self,
        walker: Walker,
        pool: ThreadPoolExecutor | None,
        progress: Callable[[int, int], None] | None,
    ) -> NDArray[np.float32]:
        n, length, n_walks = walker.graph.n_nodes, self.walks.length, walker.n_walks
        tokens = min(TOKENS_PER_NODE * n, MOST_TOKENS, n_walks * length // FEWEST_CHUNKS)
        chunk = max(1, tokens // length)
        model = SkipGram(self._frequencies(walker, chunk, pool), self.learning)
        total = n_walks * self.learning.epochs
        for epoch in range(
            self.learning.epochs
        ):  # each takes the same walks, with other windows and negatives
            for first in range(0, n_walks, chunk):
                done = epoch * n_walks + first
                if progress is not None:
                    progress(done, total)
                rate = max(self.learning.last_rate, self.learning.rate * (1.0 - done / total))
                model.learn(walker.walk(first, min(chunk, n_walks - first), pool), done, rate, pool)
        if progress is not None:
            progress(total, total)
        return model.vectors()

    def _frequencies(self, walker: Walker, chunk: int, pool: ThreadPoolExecutor | None) -> NDArray[np.int64]:
        """How often each node stands in the first walks: at least one walk per node, all of a small graph."""
        n = walker.graph.n_nodes
        counted = min(walker.n_walks, max(n, COUNTED_TOKENS // self.walks.length))
        frequencies = np.zeros(n, np.int64)
        for first in range(0, counted, chunk):
            rows = walker.walk(first, min(chunk, counted - first), pool)
            frequencies += np.bincount(rows[rows != END], minlength=n)
        return frequencies


class Node2VecPlus(Node2Vec):
    """Vectors by the walks of node2vec+ (Liu, Hirn & Krishnan 2023), which tell weak edges from strong ones."""

    family = "node2vec+"

    def __init__(
        self,
        walks: WalkSettings | None = None,
        learning: SkipGramSettings | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        super().__init__(with_gamma(walks), learning, threads=threads)


class DeepWalk(Node2Vec):
    """Vectors of nodes by first-order walks and skip-gram (Perozzi, Al-Rfou & Skiena 2014): p = q = 1."""

    family = "deepwalk"

    def __init__(
        self,
        walks: WalkSettings | None = None,
        learning: SkipGramSettings | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        refuse_bias(walks)
        super().__init__(walks, learning, threads=threads)


def with_gamma(walks: WalkSettings | None) -> WalkSettings:
    """The same walks as node2vec+ takes them: with gamma 0 where none is given."""
    walks = walks or WalkSettings()
    return replace(walks, gamma=0.0) if walks.gamma is None else walks


def refuse_bias(walks: WalkSettings | None) -> None:
    """Raises ModelError where these are not DeepWalk's walks."""
    if walks is not None and walks.second_order:
        raise ModelError(f"deepwalk has p = q = 1, not {walks.p} and {walks.q}; use node2vec for others")


def without_isolated(graph: Graph) -> tuple[Graph, NDArray[np.int64]]:
    """The graph of the nodes that have an edge of either direction, and which nodes those are."""
    touched = np.diff(graph.indptr) > 0
    touched[graph.indices] = True
    nodes = np.flatnonzero(touched)
    if len(nodes) == graph.n_nodes:
        return graph, nodes
    number = np.full(graph.n_nodes, END, np.int32)
    number[nodes] = np.arange(len(nodes), dtype=np.int32)
    indptr = np.append(graph.indptr[nodes], graph.indptr[-1])
    ids = tuple(graph.ids[int(node)] for node in nodes)
    return Graph(ids, indptr, number[graph.indices], graph.weights, graph.directed), nodes
