"""Two graphs as one, and what one of them has that the other lacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.sources.contract import Graph


def union(base: Graph, added: Graph) -> Graph:
    """All nodes and edges of both; an edge that both have keeps its weight in `base`.

    Both are directed, or neither is.
    """
    ids = tuple(sorted({*base.ids, *added.ids}))
    parts = [_entries(base, ids), _entries(less(added, base), ids)]
    sources, targets, weights = (np.concatenate(some) for some in zip(*parts, strict=True))
    return _compressed(ids, (sources, targets, weights), base.directed)


def less(graph: Graph, known: Graph) -> Graph:
    """The graph with the same nodes, without the edges that `known` has."""
    sources, targets, weights = _entries(graph, graph.ids)
    number = {id: k for k, id in enumerate(known.ids)}
    there = np.array([number.get(id, -1) for id in graph.ids], np.int64)
    n = max(known.n_nodes, 1)
    mine = there[sources] * n + there[targets]
    theirs = np.repeat(np.arange(known.n_nodes), np.diff(known.indptr)) * n + known.indices
    fresh = (there[sources] < 0) | (there[targets] < 0) | ~np.isin(mine, theirs)
    return _compressed(graph.ids, (sources[fresh], targets[fresh], weights[fresh]), graph.directed)


def without_nodes(graph: Graph, nodes: NDArray[np.int64]) -> Graph:
    """The graph with the same nodes, without the edges of some of them."""
    sources, targets, weights = _entries(graph, graph.ids)
    kept = ~(np.isin(sources, nodes) | np.isin(targets, nodes))
    return _compressed(graph.ids, (sources[kept], targets[kept], weights[kept]), graph.directed)


def without_edges(graph: Graph, held: NDArray[np.int64]) -> Graph:
    """The graph with the same nodes, without the edges between these pairs (m, 2) of nodes, in either direction."""
    sources, targets, weights = _entries(graph, graph.ids)
    scale = np.array([graph.n_nodes, 1])
    codes = np.sort(np.stack([sources, targets], axis=1), axis=1) @ scale
    kept = ~np.isin(codes, np.sort(held, axis=1) @ scale)
    return _compressed(graph.ids, (sources[kept], targets[kept], weights[kept]), graph.directed)


def from_entries(
    ids: tuple[str, ...],
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    weights: NDArray[np.float32],
    *,
    directed: bool,
) -> Graph:
    """A graph from the entries of its matrix, each once: an undirected edge in both directions."""
    return _compressed(ids, (sources, targets, weights), directed)


Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


def _entries(graph: Graph, ids: tuple[str, ...]) -> Entries:
    """Sources, targets and weights of the entries of its rows, its nodes numbered as in `ids`."""
    sources = np.repeat(np.arange(graph.n_nodes), np.diff(graph.indptr))
    targets = graph.indices.astype(np.int64)
    weights = np.ones(len(targets), np.float32) if graph.weights is None else graph.weights
    if ids != graph.ids:
        number = {id: k for k, id in enumerate(ids)}
        places = np.array([number[id] for id in graph.ids], np.int64)
        sources, targets = places[sources], places[targets]
    return sources, targets, weights


def _compressed(ids: tuple[str, ...], entries: Entries, directed: bool) -> Graph:
    sources, targets, weights = entries
    places = sources * len(ids) + targets
    if (places[1:] < places[:-1]).any():
        order = np.argsort(places, kind="stable")
        targets, weights = targets[order], weights[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=len(ids)))]).astype(np.int64)
    return Graph(ids, indptr, targets.astype(np.int32), None if (weights == 1).all() else weights, directed)
