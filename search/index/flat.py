"""The exact index: every allowed row is scored. It is the reference for all others."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from search.index.contract import FAISS_METRIC, Index, Neighbours, Rows
from search.types import Metric
from search.vectors import SPARSE, Vectors, exact_search

_FEW = 16  # queries; for more a matrix product pays


class FlatIndex(Index):
    """Scans the rows; the cost is that of reading those that are allowed."""

    def __init__(self, rows: Rows, metric: Metric) -> None:
        self.rows = rows
        self.metric = metric

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        effort: int | None = None,
    ) -> Neighbours:
        """The exactly best rows; `effort` changes nothing, since there is nothing to approximate."""
        rows = self.rows
        usable = allowed
        if rows.n_alive < len(rows):
            usable = rows.alive if allowed is None else rows.alive & allowed
        if len(queries) > _FEW or (usable is not None and np.count_nonzero(usable) * SPARSE >= len(rows)):
            positions, scores = exact_search(rows.matrix, queries, k, self.metric, usable)
        elif usable is None:
            positions, scores = self._scanned(rows.matrix, queries, k)
        else:
            chosen = np.flatnonzero(usable)
            positions, scores = self._scanned(rows.matrix[chosen], queries, k)
            positions = chosen[positions]
        return Neighbours(rows.part_keys[positions], scores)

    def _scanned(
        self, matrix: Vectors, queries: Vectors, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions and scores (n_queries, min(k, n)) by FAISS's scan, equals in the order of their positions.

        For few queries one thread reading the rows once is as fast as the memory; BLAS would wake its threads
        for it, and on a busy machine wait for them.
        """
        k = min(k, len(matrix))
        if k == 0:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        scores, positions = faiss.knn(queries, matrix, k, metric=FAISS_METRIC[self.metric])
        if self.metric is Metric.L2:
            scores = -scores
        order = np.lexsort((positions, -scores), axis=1)
        return np.take_along_axis(positions, order, axis=1), np.take_along_axis(scores, order, axis=1)
