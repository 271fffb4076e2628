"""The approximate index: FAISS's HNSW graph over the first rows of a space, and a scan of those that came later.

The graph keeps no vectors of its own: FAISS reads them where numpy holds them (see rows.RowBuffer).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from search.index.contract import FAISS_METRIC, Index, Neighbours, Rows
from search.index.flat import FlatIndex
from search.types import Metric
from search.vectors import Vectors

LINKS = 16  # M of Malkov & Yashunin 2018
EF_CONSTRUCTION = 128
DEFAULT_EFFORT = 64
_SLICE = 4096  # rows added between two reports of progress


@dataclass(frozen=True, slots=True)
class Storage:
    """Rows as a FAISS flat index that reads memory it does not own; `memory` and `reader` keep that alive."""

    flat: faiss.IndexFlat
    reader: object
    memory: NDArray[np.uint8]


class Graph:
    """An HNSW graph over the first `n` rows of a space, without their vectors. It does not change once built."""

    def __init__(self, index: faiss.IndexHNSWFlat, n: int) -> None:
        self._index = index
        self._storage: Storage | None = None
        self._former: list[Storage] = []  # replaced while searches were under way, which may still read them
        self._n_searching = 0
        self._lock = threading.Lock()
        self.n = n

    @classmethod
    def build(
        cls, matrix: Vectors, metric: Metric, progress: Callable[[int, int], None] | None = None
    ) -> Graph:
        """A graph over all of `matrix` (n, dim), by all cores. `progress` is told rows done and rows in all."""
        n, dim = matrix.shape
        index = faiss.IndexHNSWFlat(dim, LINKS, FAISS_METRIC[metric])
        index.hnsw.efConstruction = EF_CONSTRUCTION
        for begin in range(0, n, _SLICE):
            index.add(matrix[begin : begin + _SLICE])
            if progress is not None:
                progress(min(begin + _SLICE, n), n)
        return cls(index, n).without_vectors()

    @classmethod
    def from_bytes(cls, data: bytes) -> Graph:
        """The graph that `to_bytes` wrote; the caller has checked the bytes against their checksum."""
        reader = faiss.VectorIOReader()
        faiss.copy_array_to_vector(np.frombuffer(data, np.uint8), reader.data)
        index = faiss.read_index(reader)
        return cls(index, int(index.ntotal))

    def to_bytes(self) -> bytes:
        """The links of the graph, without the vectors."""
        writer = faiss.VectorIOWriter()
        faiss.write_index(self._index, writer, faiss.IO_FLAG_SKIP_STORAGE)
        return bytes(faiss.vector_to_array(writer.data))

    def without_vectors(self) -> Graph:
        """The same graph without the copy of the vectors that building it needed."""
        return Graph.from_bytes(self.to_bytes())

    def over(self, storage: Storage) -> None:
        """Read the rows from `storage` from now on: the first `n`, which are the same in every storage."""
        with self._lock:
            if self._storage is not None and self._storage.memory is storage.memory:
                return
            if self._storage is not None and self._n_searching:
                self._former.append(self._storage)
            self._storage = (
                storage  # FAISS holds only a bare pointer: it must live as long as it is pointed to
            )
            self._index.own_fields = False
            self._index.storage = storage.flat

    def search(
        self, queries: Vectors, k: int, parameters: faiss.SearchParametersHNSW
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """FAISS's distances and positions (n_queries, k), -1 where it found too few."""
        with self._lock:
            self._n_searching += 1
        try:
            distances, positions = self._index.search(queries, k, params=parameters)
        finally:
            with self._lock:
                self._n_searching -= 1
                if not self._n_searching:
                    self._former.clear()
        return distances, positions


class HnswIndex(Index):
    """Searches the graph, scans the rows that are not yet in it, and merges the two."""

    def __init__(self, rows: Rows, metric: Metric, graph: Graph, storage: Storage, effort: int) -> None:
        self.rows = rows
        self.metric = metric
        self.effort = effort
        self._graph = graph
        graph.over(storage)
        self._exact = FlatIndex(rows, metric)

    @property
    def n_indexed(self) -> int:
        """How many of the rows the graph covers."""
        return self._graph.n

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        effort: int | None = None,
    ) -> Neighbours:
        """The best rows that the graph finds with this effort; all of min(k, allowed rows), never fewer."""
        rows, n = self.rows, self._graph.n
        usable = rows.alive if allowed is None else rows.alive & allowed
        n_usable = int(np.count_nonzero(usable))
        in_graph = int(np.count_nonzero(usable[:n]))
        k = min(k, n_usable)
        from_graph = min(k, in_graph)
        if from_graph == 0:
            return self._exact.search(queries, max(k, 1), allowed)
        restricted = in_graph < n
        bits = np.packbits(usable[:n], bitorder="little") if restricted else None
        selector = faiss.IDSelectorBitmap(bits) if bits is not None else None
        parameters = faiss.SearchParametersHNSW(efSearch=max(effort or self.effort, from_graph), sel=selector)
        scores, positions = self._graph.search(queries, from_graph, parameters)
        if self.metric is Metric.L2:
            scores = -scores
        found = np.empty((len(queries), k), np.int64)
        best = np.empty((len(queries), k), np.float32)
        tail = FlatIndex(_only(rows, np.arange(n, len(rows))[usable[n:]]), self.metric)
        late = tail.search(queries, k) if len(tail.rows) else None
        for row in range(len(queries)):
            if (positions[row] < 0).any():  # the graph gave up too early: look at all
                exact = self._exact.search(queries[row : row + 1], k, allowed)
                found[row], best[row] = exact.ids[0], exact.scores[0]
                continue
            ids, values = rows.part_keys[positions[row]], scores[row]
            if late is not None:
                ids, values = np.concatenate([ids, late.ids[row]]), np.concatenate([values, late.scores[row]])
            order = np.lexsort((ids, -values))[:k]
            found[row], best[row] = ids[order], values[order]
        return Neighbours(found, best)


def _only(rows: Rows, positions: NDArray[np.int64]) -> Rows:
    """Only these rows, all of them living."""
    if len(positions) and positions[-1] - positions[0] + 1 == len(positions):
        span = slice(int(positions[0]), int(positions[-1]) + 1)  # a view, no copy
        matrix = rows.matrix[span]
    else:
        matrix = rows.matrix[positions]
    return Rows(
        rows.part_keys[positions],
        rows.record_keys[positions],
        matrix,
        np.ones(len(positions), dtype=bool),
        len(positions),
    )
