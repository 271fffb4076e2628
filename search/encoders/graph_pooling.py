"""Graphs by the mean, sum or maximum of vectors of their nodes that mean the same in every graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import Vectors
from search.encoders.graph_items import LabelledGraph
from search.encoders.graph_words import node_words
from search.encoders.whole_graphs import GraphModel, Tensors
from search.types import Json

POOLINGS = ("mean", "sum", "max")

Floats = NDArray[np.float64]


class PooledNodes(GraphModel):
    """What is seen from each node within some steps, pooled over all nodes, scaled and projected.

    A node's vector is the shares of each label (or degree) among the nodes that a random walk from it is at after 0,
    1, ... `depth` steps, edges taken in both directions. These mean the same in every graph, which vectors learned from
    each graph for itself do not. Over the nodes of a graph they are averaged, summed (its logarithm is taken) or the
    greatest of each is; then scaled to variance 1 and turned to main directions, by the graphs learned from.
    """

    def _take(self, tensors: Tensors, settings: Mapping[str, Json]) -> int:
        self._pooling = str(settings["pooling"])
        self._centre = np.asarray(tensors["centre"], np.float64)
        self._projection = np.asarray(tensors["projection"], np.float64)
        width, dim = self._projection.shape
        if self._centre.shape != (width,) or width != width_of(len(self.words), self.depth):
            raise ValueError("a column for each label and step")
        if self._pooling not in POOLINGS:
            raise ValueError("an unknown pooling")
        return int(dim)

    def _described(self, graphs: Sequence[LabelledGraph]) -> Vectors:
        pooled = features(graphs, self.words, self.depth, self._pooling)
        return np.asarray((pooled - self._centre) @ self._projection, np.float32)


def width_of(n_labels: int, depth: int) -> int:
    """How many features there are: of each step one for each label, and one for all others."""
    return (n_labels + 1) * (depth + 1)


def features(graphs: Sequence[LabelledGraph], labels: NDArray[np.uint64], depth: int, pooling: str) -> Floats:
    """Pooled features (n, width_of(labels, depth)) of graphs; `labels` (l,), ascending, have a column each."""
    rows = np.empty((len(graphs), width_of(len(labels), depth)))
    for number, graph in enumerate(graphs):
        pooled = [_pooled(step, pooling) for step in _steps(graph, labels, depth)]
        rows[number] = np.concatenate(pooled)
    return rows


def _steps(graph: LabelledGraph, labels: NDArray[np.uint64], depth: int) -> list[Floats]:
    """Where walks from each node are after 0, 1, ... steps: (nodes, labels + 1) shares of each label."""
    from scipy import sparse

    n = graph.n_nodes
    (own,) = node_words([graph], 0)
    column = np.searchsorted(labels, own)
    column[column == len(labels)] = 0
    known = labels[column] == own if len(labels) else np.zeros(n, np.bool_)
    here = np.zeros((n, len(labels) + 1))
    here[np.arange(n), np.where(known, column, len(labels))] = 1
    ones = np.ones(len(graph.indices))
    edges = sparse.csr_matrix((ones, graph.indices, graph.indptr), shape=(n, n))
    if graph.directed:
        edges = (edges + edges.T).tocsr()
    degrees = np.asarray(edges.sum(axis=1)).ravel()
    walk = sparse.diags(1 / np.maximum(degrees, 1)) @ edges + sparse.diags((degrees == 0).astype(float))
    seen = [here]
    for _ in range(depth):
        seen.append(walk @ seen[-1])
    return seen


def _pooled(nodes: Floats, pooling: str) -> Floats:
    if pooling == "mean":
        return np.asarray(nodes.mean(axis=0))
    if pooling == "sum":
        return np.asarray(np.log1p(nodes.sum(axis=0)))
    return np.asarray(nodes.max(axis=0))
