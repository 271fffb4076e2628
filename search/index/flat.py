"""The exact index: every allowed row is scored. It is the reference for all others."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from search.index.contract import FAISS_METRIC, Allowed, Index, Neighbours, Rows
from search.types import Metric
from search.vectors import SPARSE, Vectors, exact_search, top_k

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
        allowed: Allowed | None = None,
        *,
        effort: int | None = None,
    ) -> Neighbours:
        """The exactly best rows; `effort` changes nothing, since there is nothing to approximate."""
        rows = self.rows
        usable = allowed if allowed is not None else rows.living
        if usable is None and len(queries) <= _FEW:
            positions, scores = self._scanned(queries, k)
        elif usable is not None and usable.n * SPARSE < len(rows) and len(queries) <= _FEW:
            positions, scores = self._gathered(queries, k, usable.positions)
        else:
            mask = None if usable is None else usable.mask
            positions, scores = exact_search(rows.matrix, queries, k, self.metric, mask)
        return Neighbours(rows.part_keys[positions], scores, rows.record_keys[positions])

    def _scanned(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions and scores (n_queries, min(k, n)) by FAISS's scan, equals in the order of their positions.

        For few queries one thread reading the rows once is as fast as the memory; BLAS would wake its threads
        for it, and on a busy machine wait for them.
        """
        matrix = self.rows.matrix
        k = min(k, len(matrix))
        if k == 0:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        scores, positions = faiss.knn(queries, matrix, k, metric=FAISS_METRIC[self.metric])
        if self.metric is Metric.L2:
            scores = -scores
        order = np.lexsort((positions, -scores), axis=1)
        return np.take_along_axis(positions, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _gathered(
        self, queries: Vectors, k: int, chosen: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions and scores (n_queries, min(k, n_chosen)) among the chosen rows, read where they stand."""
        k = min(k, len(chosen))
        positions = np.empty((len(queries), k), np.int64)
        best = np.empty((len(queries), k), np.float32)
        for number, query in enumerate(queries if k else ()):
            scores = scores_at(self.rows.matrix, query, chosen, self.metric)
            order = top_k(scores, k)
            positions[number], best[number] = chosen[order], scores[order]
        return positions, best


def scores_at(
    matrix: Vectors, query: NDArray[np.float32], positions: NDArray[np.int64], metric: Metric
) -> NDArray[np.float32]:
    """Scores (n,) of the rows at `positions` for one query (dim,), without copying the rows together."""
    if not matrix.flags.c_contiguous:
        raise ValueError("the rows do not lie one behind the other")
    scores = np.empty(len(positions), np.float32)
    query, positions = np.ascontiguousarray(query), np.ascontiguousarray(positions)
    by_index = faiss.fvec_L2sqr_by_idx if metric is Metric.L2 else faiss.fvec_inner_products_by_idx
    by_index(
        faiss.swig_ptr(scores),
        faiss.swig_ptr(query),
        faiss.swig_ptr(matrix),
        faiss.swig_ptr(positions),
        matrix.shape[1],
        1,
        len(positions),
    )
    return np.negative(scores, out=scores) if metric is Metric.L2 else scores
