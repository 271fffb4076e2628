"""FAISS's HNSW graph over the first rows of a space, without their vectors.

FAISS reads the vectors where numpy holds them (see rows.RowBuffer), so there is one copy of them in memory.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from search.index.contract import FAISS_METRIC, Rows
from search.index.structure import Buffer, Kind, Progress, Structure
from search.types import Metric
from search.vectors import Vectors

LINKS = 16  # M of Malkov & Yashunin 2018
EF_CONSTRUCTION = 128
_SLICE = 4096  # rows added between two reports of progress


@dataclass(frozen=True, slots=True)
class Storage:
    """Rows as a FAISS flat index that reads memory it does not own; `memory` and `reader` keep that alive."""

    flat: faiss.IndexFlat
    reader: object
    memory: NDArray[np.uint8]


class Graph(Structure):
    """An HNSW graph over the first `n` rows of a space; `over` must be told where those lie before it is searched."""

    kind = Kind.HNSW
    efforts = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

    def __init__(self, index: faiss.IndexHNSWFlat, metric: Metric) -> None:
        self._index = index
        self._storage: Storage | None = None
        self._former: list[Storage] = []  # replaced while searches were under way, which may still read them
        self._n_searching = 0
        self._lock = threading.Lock()
        self._read_from: object = None  # kept alive for as long as FAISS may read it
        self._parameters: dict[int, faiss.SearchParametersHNSW] = {}
        self.metric = metric
        self.n = int(index.ntotal)

    @classmethod
    def build(cls, rows: Rows, metric: Metric, progress: Progress) -> Graph:
        """A graph over all rows, by all cores."""
        index = faiss.IndexHNSWFlat(rows.matrix.shape[1], LINKS, FAISS_METRIC[metric])
        index.hnsw.efConstruction = EF_CONSTRUCTION
        return cls._grown(index, rows, 0, metric, progress)

    def extended(self, rows: Rows, progress: Progress) -> Graph:
        """The graph with the rows that came after it; the cost is that of those."""
        return self._grown(_copy(self.to_bytes()), rows, self.n, self.metric, progress)

    @classmethod
    def _grown(
        cls, index: faiss.IndexHNSWFlat, rows: Rows, begin: int, metric: Metric, progress: Progress
    ) -> Graph:
        n = len(rows)
        vectors = faiss.IndexFlat(rows.matrix.shape[1], FAISS_METRIC[metric])
        vectors.add(rows.matrix)
        vectors.reset()  # keeps the memory, which would else be taken twice over while it grows
        if begin:
            vectors.add(rows.matrix[:begin])
        if index.own_fields and index.storage is not None:
            index.storage.thisown = True  # the one it was made with is freed with this, its last, reference
        index.own_fields = False
        index.storage = vectors
        try:
            for start in range(begin, n, _SLICE):
                progress(start - begin, n - begin)
                index.add(rows.matrix[start : start + _SLICE])
        finally:
            index.storage = None
            vectors.thisown = True  # which setting it took away: the copy of the vectors goes with this call
        progress(n - begin, n - begin)
        return cls(index, metric)

    @classmethod
    def from_bytes(cls, data: Buffer, metric: Metric) -> Graph:
        """The graph that `to_bytes` wrote, read where the bytes lie; the caller has checked their checksum."""
        held = np.frombuffer(data, np.uint8)
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(held), held.nbytes)
        graph = cls(faiss.read_index(reader), metric)
        graph._read_from = (reader, held)
        return graph

    def to_bytes(self) -> Buffer:
        """The links of the graph, without the vectors."""
        return _links(self._index)

    def over(self, storage: Storage) -> None:
        """Read the rows from `storage` from now on: the first `n`, which are the same in every storage."""
        with self._lock:
            if self._storage is not None and self._storage.memory is storage.memory:
                return
            if self._storage is not None and self._n_searching:
                self._former.append(self._storage)
            # FAISS holds only a bare pointer: it must live as long as it is pointed to.
            self._storage = storage
            self._index.own_fields = False
            self._index.storage = storage.flat

    def effort_for(self, width: int, effort: int) -> int:
        """At least as many nodes as rows wanted."""
        return max(effort, width)

    def candidates(
        self, rows: Rows, queries: Vectors, width: int, effort: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions (n_queries, width), best first; -1 where the walk met too few."""
        with self._lock:
            self._n_searching += 1
        try:
            parameters = self._parameters.get(effort)
            if parameters is None:  # never changed once it is made, so that all threads may use it
                parameters = self._parameters[effort] = faiss.SearchParametersHNSW(efSearch=effort)
            distances, positions = self._index.search(queries, width, params=parameters)
        finally:
            with self._lock:
                self._n_searching -= 1
                if not self._n_searching:
                    self._former.clear()
        return (-distances if self.metric is Metric.L2 else distances), positions


def _copy(data: Buffer) -> faiss.IndexHNSWFlat:
    """An index in memory of its own, which can grow."""
    reader = faiss.VectorIOReader()
    faiss.copy_array_to_vector(np.frombuffer(data, np.uint8), reader.data)
    return faiss.read_index(reader)


def _links(index: faiss.IndexHNSWFlat) -> Buffer:
    writer = faiss.VectorIOWriter()
    faiss.write_index(index, writer, faiss.IO_FLAG_SKIP_STORAGE)
    found: NDArray[np.uint8] = faiss.vector_to_array(writer.data)
    return found.data
