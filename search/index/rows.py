"""The growing memory that holds a space's rows, laid out so that FAISS and numpy share one copy of it."""

from __future__ import annotations

import struct

import faiss
import numpy as np
from numpy.typing import NDArray

from search.index.contract import FAISS_METRIC, Rows
from search.index.hnsw import Storage
from search.types import Metric
from search.vectors import Keys, Vectors

_ROOM = 64  # bytes kept free in front of the rows for FAISS's header, and the alignment of the rows
_GROWTH = 1.5


class RowBuffer:
    """Rows that are only ever appended or marked dead.

    `rows()` gives what there is now as an immutable value: later appends go beyond its end and later deletions
    into a new mask, so whoever searches it is never disturbed.
    """

    def __init__(self, dim: int, metric: Metric, capacity: int = 0) -> None:
        self._dim = dim
        self._metric = metric
        self._n = 0
        self._n_alive = 0
        self._part_keys = np.empty(capacity, np.int64)
        self._record_keys = np.empty(capacity, np.int64)
        self._alive = np.empty(capacity, bool)
        self._bytes, self._matrix = self._memory(capacity)

    def _memory(self, capacity: int) -> tuple[NDArray[np.uint8], Vectors]:
        """Fresh memory for `capacity` rows: the bytes from the header room on, and the rows within them."""
        raw = np.empty(2 * _ROOM + capacity * self._dim * 4, np.uint8)
        skip = -raw.ctypes.data % _ROOM
        held = raw[skip : skip + _ROOM + capacity * self._dim * 4]
        return held, held[_ROOM:].view(np.float32).reshape(capacity, self._dim)

    def append(self, part_keys: Keys, record_keys: Keys, vectors: Vectors) -> None:
        """Add living rows behind those there are; their part keys are greater than all before."""
        end = self._n + len(part_keys)
        if end > len(self._part_keys):
            self._grow(max(end, int(len(self._part_keys) * _GROWTH)))
        span = slice(self._n, end)
        self._part_keys[span] = part_keys
        self._record_keys[span] = record_keys
        self._alive[span] = True
        self._matrix[span] = vectors
        self._n = end
        self._n_alive += len(part_keys)

    def _grow(self, capacity: int) -> None:
        held, matrix = self._memory(capacity)
        matrix[: self._n] = self._matrix[: self._n]
        self._bytes, self._matrix = held, matrix
        for name in ("_part_keys", "_record_keys", "_alive"):
            old = getattr(self, name)
            new = np.empty(capacity, old.dtype)
            new[: self._n] = old[: self._n]
            setattr(self, name, new)

    def bury(self, part_keys: Keys) -> None:
        """Mark rows dead; keys that are not here are passed over."""
        at = np.searchsorted(self._part_keys[: self._n], part_keys)
        inside = at < self._n
        at = at[inside][self._part_keys[at[inside]] == np.asarray(part_keys)[inside]]
        at = at[self._alive[at]]
        if not len(at):
            return
        alive = self._alive.copy()
        alive[at] = False
        self._alive = alive
        self._n_alive -= len(np.unique(at))

    def rows(self) -> Rows:
        """What there is now."""
        n = self._n
        return Rows(
            self._part_keys[:n], self._record_keys[:n], self._matrix[:n], self._alive[:n], self._n_alive
        )

    def storage(self, n: int) -> Storage:
        """The first `n` rows as a FAISS flat index that reads this memory.

        FAISS can read an index from memory without copying the vectors. So a header as it would write it is put
        right in front of the rows, with the true number of rows in it.
        """
        header = bytearray(
            faiss.serialize_index(faiss.IndexFlat(self._dim, FAISS_METRIC[self._metric])).tobytes()
        )
        struct.pack_into("<q", header, 8, n)  # ntotal
        struct.pack_into("<Q", header, len(header) - 8, n * self._dim)  # the length of the vector of codes
        begin = _ROOM - len(header)
        if begin < 0:
            raise MemoryError(
                f"FAISS {faiss.__version__} writes a header of {len(header)} bytes; {_ROOM} were kept"
            )
        self._bytes[begin:_ROOM] = np.frombuffer(bytes(header), np.uint8)
        span = self._bytes[begin : _ROOM + n * self._dim * 4]
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(span), span.nbytes)
        return Storage(faiss.read_index(reader), reader, self._bytes)
