"""The growing memory that holds a space's rows, laid out so that FAISS and numpy share one copy of it."""

from __future__ import annotations

import mmap
import struct
import tempfile
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from search.index.contract import FAISS_METRIC, Allowed, Rows
from search.index.hnsw import Storage
from search.types import Metric
from search.vectors import Keys, Vectors

_ROOM = 64  # bytes kept free in front of the rows for FAISS's header, and the alignment of the rows
_GROWTH = 1.25


class RowBuffer:
    """Rows that are only ever appended or marked dead.

    `rows()` gives what there is now as an immutable value: later appends go beyond its end and later deletions
    into a new mask, so whoever searches it is never disturbed.

    With a `folder` the vectors lie in a nameless file there, mapped into memory, so that the operating system may
    take their pages back when it needs the memory for others.
    """

    def __init__(self, dim: int, metric: Metric, capacity: int = 0, folder: Path | None = None) -> None:
        self._dim = dim
        self._metric = metric
        self._folder = folder
        self._n = 0
        self._ascending = True  # the record keys, so far
        self._part_keys = np.empty(capacity, np.int64)
        self._record_keys = np.empty(capacity, np.int64)
        self._dead: Keys = np.empty(0, np.int64)  # positions, ascending
        self._gone: Keys = np.empty(0, np.int64)  # likewise: those among them that the catalog has no more
        self._bytes, self._matrix = self._memory(capacity)

    def _memory(self, capacity: int) -> tuple[NDArray[np.uint8], Vectors]:
        """Fresh memory for `capacity` rows: the bytes from the header room on, and the rows within them."""
        size = 2 * _ROOM + capacity * self._dim * 4
        raw = np.empty(size, np.uint8) if self._folder is None else self._mapped(size, self._folder)
        skip = -raw.ctypes.data % _ROOM
        held = raw[skip : skip + _ROOM + capacity * self._dim * 4]
        return held, held[_ROOM:].view(np.float32).reshape(capacity, self._dim)

    @staticmethod
    def _mapped(size: int, folder: Path) -> NDArray[np.uint8]:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(size)
            return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)

    @property
    def last_part(self) -> int:
        """The key of the last part appended; 0 if there is none."""
        return int(self._part_keys[self._n - 1]) if self._n else 0

    def append(self, part_keys: Keys, record_keys: Keys, vectors: Vectors) -> None:
        """Add living rows behind those there are; their part keys are greater than all before."""
        end = self._n + len(part_keys)
        if end > len(self._part_keys):
            self._grow(max(end, int(len(self._part_keys) * _GROWTH)))
        span = slice(self._n, end)
        if len(part_keys) and self._ascending:
            follows = not self._n or record_keys[0] >= self._record_keys[self._n - 1]
            self._ascending = bool(follows and (record_keys[1:] >= record_keys[:-1]).all())
        self._part_keys[span] = part_keys
        self._record_keys[span] = record_keys
        self._matrix[span] = vectors
        self._n = end

    def _grow(self, capacity: int) -> None:
        held, matrix = self._memory(capacity)
        matrix[: self._n] = self._matrix[: self._n]
        self._bytes, self._matrix = held, matrix
        for name in ("_part_keys", "_record_keys"):
            old = getattr(self, name)
            new = np.empty(capacity, old.dtype)
            new[: self._n] = old[: self._n]
            setattr(self, name, new)

    def bury(self, part_keys: Keys) -> None:
        """Mark rows dead; keys that are not here, or dead already, are passed over."""
        here = self._part_keys[: self._n]
        at = np.searchsorted(here, part_keys)
        inside = at < self._n
        at = at[inside][here[at[inside]] == np.asarray(part_keys)[inside]]
        if len(at):
            self._dead = np.union1d(self._dead, at)

    def keep_only(self, part_keys: Keys) -> None:
        """Mark all rows dead whose keys are not among `part_keys`, and remember that they are gone for good."""
        self._gone = np.flatnonzero(~np.isin(self._part_keys[: self._n], part_keys))
        self._dead = np.union1d(self._dead, self._gone)

    @property
    def n_gone(self) -> int:
        """How many rows are held that are gone for good."""
        return len(self._gone)

    def without_gone(self) -> RowBuffer:
        """A buffer of its own without the rows that are gone for good."""
        stays = np.ones(self._n, dtype=bool)
        stays[self._gone] = False
        fresh = RowBuffer(self._dim, self._metric, int(np.count_nonzero(stays)), self._folder)
        rows = self.rows()
        fresh.append(rows.part_keys[stays], rows.record_keys[stays], rows.matrix[stays])
        fresh.bury(rows.part_keys[self._dead])
        return fresh

    def rows(self) -> Rows:
        """What there is now."""
        n = self._n
        living = None
        if len(self._dead):
            mask = np.ones(n, dtype=bool)
            mask[self._dead] = False
            living = Allowed(mask)
        return Rows(self._part_keys[:n], self._record_keys[:n], self._matrix[:n], living, self._ascending)

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
