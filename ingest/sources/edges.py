"""Gathers edges and turns them into a graph in compressed sparse rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.sources.contract import Graph, Rejected
from search.errors import SourceError
from search.types import Json

GREATEST = float(np.finfo(np.float32).max)
LEAST = float(np.finfo(np.float32).tiny)
MOST_WORDS = 4  # ids of up to 8 * MOST_WORDS bytes are compared in bulk
# the mask of the first k bytes of a big-endian word
LEADING = np.array([0] + [(1 << 64) - (1 << (64 - 8 * k)) for k in range(1, 9)], np.uint64)

Attributes: TypeAlias = dict[str, dict[str, Json]]


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What a graph file holds.

    `attributes` are those of the nodes that have any; `rejected` the lines that could not be used; `digest` 16
    bytes that are the same for the same graph, in whatever order it is written. `merged` counts the lines that
    named an edge again; `self_loops` and `isolated` (nodes without any edge) are part of the graph.
    """

    graph: Graph
    attributes: Attributes
    rejected: tuple[Rejected, ...]
    digest: bytes
    self_loops: int
    isolated: int
    merged: int


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
        ends = [edges.numbers([name.encode() for name in names]) for names in (sources, targets)]
    except UnicodeEncodeError as error:
        raise SourceError(f"the id {error.object!a} cannot be written as UTF-8; rename it") from error
    edges.add(ends[0], ends[1], values)
    return edges.finish(directed, {}).graph


def usable(weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which weights are positive, finite and within the range of float32."""
    usable: NDArray[np.bool_] = (weights >= LEAST) & (weights <= GREATEST)
    return usable


class Edges:
    """Edges as they are read, their ends numbered in order of appearance."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.number: defaultdict[bytes, int] = defaultdict()
        # a new id gets the next number, without a Python loop
        self.number.default_factory = self.number.__len__
        self.rejected: list[Rejected] = []
        self._ends: tuple[list[NDArray[np.int32]], list[NDArray[np.int32]]] = ([], [])
        self._weights: list[NDArray[np.float64]] = []
        self._weighted = False

    def numbers(self, ids: Sequence[bytes]) -> NDArray[np.int32]:
        """The numbers of these ids, with an entry made for the new ones."""
        return np.fromiter(map(self.number.__getitem__, ids), np.int32, len(ids))

    def numbers_in(
        self, data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """The numbers of the ids that stand in `data` at these places, none empty and none with a NUL.

        Only ids that differ are looked up by themselves: ids are compared as a few 8-byte words each.
        """
        n_words = -(-int(lengths.max(initial=1)) // 8)
        if n_words > MOST_WORDS:
            return self.numbers(
                [data[a : a + n] for a, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
            )
        padded = np.ndarray((len(data),), ">u8", data + bytes(8 * MOST_WORDS), strides=(1,))
        words, key = [], np.zeros(len(starts), np.uint64)
        for k in range(n_words):
            inside = np.minimum(starts + 8 * k, len(data) - 1)
            word = padded[inside].astype(np.uint64) & LEADING[np.clip(lengths - 8 * k, 0, 8)]
            key = (key ^ (key >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) ^ word
            words.append(word)
        order = np.argsort(key)
        new = np.append(True, np.diff(key[order]) != 0)[: len(order)]
        group = np.empty(len(order), np.int64)
        group[order] = np.cumsum(new) - 1
        chosen = order[new]
        if not all((word == word[chosen][group]).all() for word in words):  # two ids with one key
            chosen = group = np.arange(len(order))
        places = zip(starts[chosen].tolist(), (starts + lengths)[chosen].tolist(), strict=True)
        return self.numbers([data[a:b] for a, b in places])[group]

    def add(
        self,
        sources: NDArray[np.int32],
        targets: NDArray[np.int32],
        weights: NDArray[np.float64] | None,
    ) -> None:
        """Take edges, known to be good, between numbered ids."""
        self._ends[0].append(sources)
        self._ends[1].append(targets)
        self._weights.append(np.ones(len(sources)) if weights is None else weights)
        self._weighted |= weights is not None

    def reject(self, reason: str, line: int | None = None, name: str | None = None) -> None:
        """Note an edge that cannot be used."""
        self.rejected.append(Rejected(self.file, reason, line, name))

    def finish(self, directed: bool, attributes: Attributes) -> GraphFile:
        """The graph of all that was taken."""
        sources, targets = (np.concatenate(ends or [np.empty(0, np.int32)]) for ends in self._ends)
        if len(sources) == 0:
            self.rejected.sort(key=lambda bad: bad.line or 0)
            first = (
                f" (rejected: {len(self.rejected)}; first: {self.rejected[0].reason})"
                if self.rejected
                else ""
            )
            raise SourceError(f"has no edges{first}; give a graph with at least one", self.file)
        names = list(self.number)
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), np.int32)
        rank[order] = np.arange(len(names), dtype=np.int32)
        weights = np.concatenate(self._weights) if self._weighted else None
        n = len(names)
        entries, data, merged = _rows(rank[sources], rank[targets], weights, n, directed)
        rows, columns = np.divmod(entries, n)
        single = np.minimum(data, GREATEST).astype(np.float32)
        graph = Graph(
            tuple(names[k].decode() for k in order),
            np.searchsorted(rows, np.arange(n + 1)).astype(np.int64),
            columns.astype(np.int32),
            None if (single == 1).all() else single,
            directed,
        )
        touched = np.diff(graph.indptr) > 0
        touched[graph.indices] = True
        loops = int(np.count_nonzero(rows == columns))
        isolated = int(np.count_nonzero(~touched))
        rejected = tuple(sorted(self.rejected, key=lambda bad: bad.line or 0))
        return GraphFile(graph, attributes, rejected, digest(graph), loops, isolated, merged)


def _rows(
    sources: NDArray[np.int32],
    targets: NDArray[np.int32],
    weights: NDArray[np.float64] | None,
    n: int,
    directed: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Every entry of the adjacency matrix once: row * n + column, ascending; its weight; how many were merged."""
    if not directed:
        sources, targets = np.minimum(sources, targets), np.maximum(sources, targets)
    cells = sources.astype(np.int64) * n + targets
    order = np.argsort(cells)
    new = np.append(True, np.diff(cells[order]) != 0)
    merged = len(cells) - int(np.count_nonzero(new))
    if weights is None:
        entries, data = cells[order][new], np.ones(len(cells) - merged)
    else:
        if merged:  # sums in an order of their own, so that they do not depend on the order of the lines
            order = np.lexsort((weights, cells))
        entries, data = cells[order][new], np.add.reduceat(weights[order], np.flatnonzero(new))
    if not directed:
        rows, columns = np.divmod(entries, n)
        off = rows != columns
        entries = np.concatenate((entries, columns[off] * n + rows[off]))
        data = np.concatenate((data, data[off]))
        order = np.argsort(entries)
        entries, data = entries[order], data[order]
    return entries, data, merged


def digest(graph: Graph) -> bytes:
    """16 bytes that tell graphs apart: nodes, edges, weights and direction."""
    state = blake2b(digest_size=16)
    state.update(b"directed" if graph.directed else b"undirected")
    encoded = [name.encode() for name in graph.ids]
    state.update(np.fromiter(map(len, encoded), "<i8", len(encoded)).tobytes())
    state.update(b"".join(encoded))
    state.update(graph.indptr.astype("<i8").tobytes() + graph.indices.astype("<i4").tobytes())
    if graph.weights is not None:
        state.update(graph.weights.astype("<f4").tobytes())
    return state.digest()
