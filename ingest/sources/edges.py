"""Gathers edges and turns them into a graph in compressed sparse rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.sources.compressed import compressed_rows
from ingest.sources.contract import Graph, Rejected
from ingest.sources.ids import Ids
from search.errors import SourceError
from search.types import Json

GREATEST = float(np.finfo(np.float32).max)
MOST_TOLD = 100_000  # edges that are rejected one by one
LEAST = float(np.finfo(np.float32).tiny)

Attributes: TypeAlias = dict[str, dict[str, Json]]


@dataclass(frozen=True, slots=True)
class NodeMatrix:
    """A matrix of attributes: row i of `rows` (n, f), sparse as scipy has it, is of the node `ids[i]`."""

    ids: tuple[str, ...]
    rows: Any


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What a graph file holds.

    `attributes` are those of the nodes that have any, `matrix` the numbers of nodes that graph benchmarks bring;
    `rejected` the lines that could not be used; `digest` 16 bytes that are the same for the same graph, in whatever
    order it is written. `merged` counts the lines that named an edge again; `self_loops` and `isolated` (nodes without
    any edge) are part of the graph.
    """

    graph: Graph
    attributes: Attributes
    rejected: tuple[Rejected, ...]
    digest: bytes
    self_loops: int
    isolated: int
    merged: int
    matrix: NodeMatrix | None = None


def from_edges(
    sources: Sequence[str],
    targets: Sequence[str],
    weights: Sequence[float] | NDArray[np.floating[Any]] | None = None,
    *,
    directed: bool = False,
) -> Graph:
    """A graph from the ends of its edges; repeated edges become one, with their weights added up.

    Raises:
        SourceError: no edges, lengths that differ, or a weight that is not a positive number.
    """
    if len(sources) != len(targets) or (weights is not None and len(weights) != len(sources)):
        raise SourceError("sources, targets and weights differ in length; give one of each per edge")
    edges = Edges("graph")
    values = None if weights is None else np.asarray(weights, np.float64)
    if values is not None and not usable(values).all():
        at = int(np.flatnonzero(~usable(values))[0])
        raise SourceError(f"weight {at} is {values[at]}; give positive finite numbers")
    try:
        ends = [edges.ids.numbers([name.encode() for name in names]) for names in (sources, targets)]
    except UnicodeEncodeError as error:
        raise SourceError(f"the id {error.object!a} cannot be written as UTF-8; rename it") from error
    edges.add(ends[0], ends[1], values)
    return edges.finish(directed, {}).graph


def usable(weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which weights are positive, finite and within the range of float32."""
    usable: NDArray[np.bool_] = (weights >= LEAST) & (weights <= GREATEST)
    return usable


def is_usable(weight: float) -> bool:
    """Whether a weight is positive, finite and within the range of float32."""
    return LEAST <= weight <= GREATEST


class Edges:
    """Edges as they are read, their ends numbered in order of appearance.

    A format that declares its nodes calls `close` behind them: an edge to any other node is then rejected. With
    `edgeless` a graph of nodes alone is one too.
    """

    def __init__(self, file: str, *, edgeless: bool = False) -> None:
        self.file = file
        self.edgeless = edgeless
        self.ids = Ids()
        self.rejected: list[Rejected] = []
        self.untold = 0
        self.typed: list[NDArray[np.int32]] = []  # numbers of nodes whose id is `type:id`
        self.matrix: NodeMatrix | None = None
        self.declared: int | None = None  # so many nodes there are, and no others
        self._ends: tuple[list[NDArray[np.int32]], list[NDArray[np.int32]]] = ([], [])
        self._weights: list[NDArray[np.float64] | None] = []

    def close(self) -> None:
        """No further nodes: all that count have been numbered."""
        self.declared = len(self.ids)

    def add(
        self,
        sources: NDArray[np.int32],
        targets: NDArray[np.int32],
        weights: NDArray[np.float64] | None,
        lines: NDArray[np.int64] | None = None,
    ) -> None:
        """Take edges between numbered ids, with weights known to be good; `lines` say where they stand."""
        if self.declared is not None:
            dangling = np.maximum(sources, targets) >= self.declared
            for k in np.flatnonzero(dangling).tolist():
                number = int(sources[k] if sources[k] >= self.declared else targets[k])
                name = self.ids.name(number)[:40].decode(errors="replace")
                self.reject(
                    f"an end of the edge, {name!r}, is not among the nodes",
                    None if lines is None else int(lines[k]),
                )
            sources, targets = sources[~dangling], targets[~dangling]
            weights = None if weights is None else weights[~dangling]
        self._ends[0].append(sources)
        self._ends[1].append(targets)
        self._weights.append(weights)

    def taken(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64] | None]:
        """Sources, targets and weights (None: no edge came with one) of all edges, which are then forgotten."""
        weights = None
        if any(each is not None for each in self._weights):
            sizes = map(len, self._ends[0])
            weights = np.concatenate(
                [np.ones(n) if w is None else w for n, w in zip(sizes, self._weights, strict=True)]
            )
        sources, targets = (np.concatenate(ends or [np.empty(0, np.int32)]) for ends in self._ends)
        self._ends, self._weights = ([], []), []  # twice ten million ends are worth giving back
        return sources, targets, weights

    def reject(self, reason: str, line: int | None = None, name: str | None = None) -> None:
        """Note an edge that cannot be used; beyond MOST_TOLD they are counted only."""
        if len(self.rejected) < MOST_TOLD:
            self.rejected.append(Rejected(self.file, reason, line, name))
        else:
            self.untold += 1

    def reject_all_of(self, other: Edges) -> None:
        """Note what was rejected there."""
        for bad in other.rejected:
            self.reject(bad.reason, bad.line, bad.id)
        self.untold += other.untold

    def finish(self, directed: bool, attributes: Attributes) -> GraphFile:
        """The graph of all that was taken."""
        sources, targets, weights = self.taken()
        self.rejected.sort(key=lambda bad: bad.line or 0)
        if self.untold:
            self.rejected.append(Rejected(self.file, f"{self.untold:,} further edges cannot be used either"))
        if len(sources) == 0 and not self.edgeless:
            raise SourceError(f"has no edges{self._why_none()}; give a graph with at least one", self.file)
        names, rank = self.ids.sorted(self.declared)
        n = len(names)
        for number in np.unique(np.concatenate(self.typed)).tolist() if self.typed else ():
            id = names[rank[number]]
            attributes.setdefault(id, {})["type"] = id.partition(":")[0]
        indptr, indices, sums, merged, loops = compressed_rows(
            rank[sources], rank[targets], np.empty(0) if weights is None else weights, n, not directed
        )
        single = np.minimum(sums, GREATEST).astype(np.float32)
        graph = Graph(names, indptr, indices, None if (single == 1).all() else single, directed)
        touched = np.diff(indptr) > 0
        touched[indices] = True
        isolated = int(np.count_nonzero(~touched))
        told = tuple(self.rejected)
        return GraphFile(graph, attributes, told, digest(graph), loops, isolated, merged, self.matrix)

    def _why_none(self) -> str:
        if self.rejected:
            return f" (rejected: {min(len(self.rejected), MOST_TOLD) + self.untold}; first: {self.rejected[0].reason})"
        return f" ({len(self.ids):,} nodes without any)" if len(self.ids) else ""


def digest(graph: Graph) -> bytes:
    """16 bytes that tell graphs apart: nodes, edges, weights and direction."""
    state = blake2b(digest_size=16)
    state.update(b"directed" if graph.directed else b"undirected")
    some = [
        graph.ids[at : at + 65536] for at in range(0, graph.n_nodes, 65536)
    ]  # all at once would double the ids
    for names in some:
        ascii = all(map(str.isascii, names))  # then letters are bytes
        lengths = map(len, names if ascii else map(str.encode, names))
        state.update(np.fromiter(lengths, "<i8", len(names)).data)
    for names in some:
        state.update("".join(names).encode())
    state.update(graph.indptr.astype("<i8", copy=False).data)
    state.update(graph.indices.astype("<i4", copy=False).data)
    if graph.weights is not None:
        state.update(graph.weights.astype("<f4", copy=False).data)
    return state.digest()
