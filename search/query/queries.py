"""A sample of the queries really asked of each space, by which the recall of its index is measured."""

from __future__ import annotations

import threading

import numpy as np

from search.types import Space
from search.vectors import Vectors

KEPT = 1000


class Queries:
    """The last queries of each space asked in this process, in memory."""

    def __init__(self) -> None:
        self._rings: dict[int, Vectors] = {}
        self._seen: dict[int, int] = {}
        self._lock = threading.Lock()

    def remember(self, space: Space, queries: Vectors) -> None:
        """Keep these (n, dim); they take the place of the oldest."""
        queries = queries[-KEPT:]
        with self._lock:
            ring = self._rings.get(space.key)
            if ring is None:
                ring = self._rings[space.key] = np.empty((KEPT, space.dim), np.float32)
            seen = self._seen.get(space.key, 0)
            if len(queries) == 1:
                ring[seen % KEPT] = queries[0]
            else:
                ring[np.arange(seen, seen + len(queries)) % KEPT] = queries
            self._seen[space.key] = seen + len(queries)

    def of(self, space: Space) -> Vectors:
        """A copy of what is kept of the space (n, dim)."""
        with self._lock:
            n = min(self._seen.get(space.key, 0), KEPT)
            return self._rings[space.key][:n].copy() if n else np.empty((0, space.dim), np.float32)
