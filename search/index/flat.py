"""The exact index: every allowed row is scored. It is the reference for all others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.contract import Index, Neighbours, Rows
from search.types import Metric
from search.vectors import Vectors, exact_search


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
        positions, scores = exact_search(rows.matrix, queries, k, self.metric, usable)
        return Neighbours(rows.part_keys[positions], scores)
