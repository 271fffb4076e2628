"""The approximate index: a structure over the first rows, a scan of those that came later, and never too few hits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from search.index.contract import Allowed, Index, Neighbours, Rows
from search.index.costs import Costs
from search.index.flat import FlatIndex
from search.index.structure import Structure
from search.types import Metric
from search.vectors import Vectors

_MARGIN = 1.5  # candidates looked at for each that is expected to be needed
_SPARE = 8
_LEAST = 96  # candidates behind a filter: fewer find 99 of 100 only where the filter leaves out most rows
_NEARLY_ALL = 0.75


class ApproximateIndex(Index):
    """Looks for more candidates than asked, keeps those that are allowed, and widens until there are enough.

    What the structure brings back are the nearest of all rows, allowed or not: so long as k of them are allowed,
    they are the right ones, however the filter and the vectors go together. Where the allowed rows are far from
    a query, widening comes to cost more than scoring them all, and that is then done.
    """

    def __init__(
        self, rows: Rows, metric: Metric, structure: Structure, effort: int, costs: Costs | None = None
    ) -> None:
        self.rows = rows
        self.metric = metric
        self.effort = effort
        self.structure = structure
        self.costs = costs or Costs.typical(rows.matrix.shape[1])

    @property
    def n_indexed(self) -> int:
        """How many of the rows the structure covers."""
        return self.structure.n

    def candidates_for(self, k: int, n_allowed: int, n: int) -> int:
        """How many candidates to look for, so that k of them are expected to be allowed."""
        if n_allowed >= n:
            return k
        width = math.ceil(k * n / n_allowed * _MARGIN) + _SPARE
        # Where little is left out, which deletions do too, the effort tuned for is what was asked for.
        return width if n_allowed > n * _NEARLY_ALL else max(width, min(_LEAST, n))

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: Allowed | None = None,
        *,
        effort: int | None = None,
    ) -> Neighbours:
        """The best rows found with this effort; all of min(k, allowed rows), never fewer."""
        rows, n = self.rows, self.structure.n
        usable = allowed if allowed is not None else rows.living
        if usable is None and len(rows) == n and self._worth(k, effort or self.effort, n):
            # By far the most frequent: every row is covered, and may be returned.
            scores, positions = self.structure.candidates(
                rows, queries, k, self.structure.effort_for(k, effort or self.effort)
            )
            if positions[:, -1].min() >= 0:  # what is missing is at the end
                return self._in_order(scores, positions)
        k = min(k, rows.n_alive if usable is None else usable.n)
        in_front = n if usable is None else usable.n
        if usable is not None and len(rows) > n:
            in_front = int(np.count_nonzero(usable.mask[:n]))
        if k == 0 or in_front == 0:
            return self._exact(queries, max(k, 1), usable)
        scores, positions = self._front(queries, min(k, in_front), usable, in_front, effort or self.effort)
        if len(rows) > n:
            late = self._tail(queries, k, usable)
            scores = np.concatenate([scores, late.scores], axis=1)
            positions = np.concatenate([positions, np.searchsorted(rows.part_keys, late.ids)], axis=1)
        return self._in_order(scores, positions, k)

    def _in_order(
        self, scores: NDArray[np.float32], positions: NDArray[np.int64], k: int | None = None
    ) -> Neighbours:
        """The best k by their scores, equals in the order of their keys."""
        if len(scores) == 1:  # the quicker ways
            at = positions
            if k is not None or not (scores[0, 1:] < scores[0, :-1]).all():
                order = np.lexsort((positions[0], -scores[0]))[:k]
                at, scores = positions[:, order], scores[:, order]
        else:
            many = np.lexsort((positions, -scores), axis=1)[:, :k]
            at, scores = np.take_along_axis(positions, many, axis=1), np.take_along_axis(scores, many, axis=1)
        return Neighbours(self.rows.part_keys[at], scores, self.rows.record_keys[at])

    def _exact(self, queries: Vectors, k: int, usable: Allowed | None) -> Neighbours:
        return FlatIndex(self.rows, self.metric).search(queries, k, usable)

    def _tail(self, queries: Vectors, k: int, usable: Allowed | None) -> Neighbours:
        """The best of the rows that the structure does not cover."""
        rows, n = self.rows, self.structure.n
        late = Rows(
            rows.part_keys[n:],
            rows.record_keys[n:],
            rows.matrix[n:],
            None if usable is None else Allowed(usable.mask[n:]),
        )
        return FlatIndex(late, self.metric).search(queries, k)

    def _front(
        self, queries: Vectors, k: int, usable: Allowed | None, in_front: int, effort: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions (n_queries, k) of the best usable among the rows that the structure covers."""
        n = self.structure.n
        best = np.empty((len(queries), k), np.float32)
        chosen = np.empty((len(queries), k), np.int64)
        waiting = np.arange(len(queries))
        width = self.candidates_for(k, in_front, n)
        while len(waiting):
            if not self._worth(width, effort, in_front):
                best[waiting], chosen[waiting] = self._scanned(queries[waiting], k, usable)
                break
            width = min(width, n)
            asked = queries if len(waiting) == len(queries) else queries[waiting]
            scores, positions = self.structure.candidates(
                self.rows, asked, width, self.structure.effort_for(width, effort)
            )
            if in_front == n and width == k and positions[:, -1].min() >= 0:  # what is missing is at the end
                return scores, positions
            good = positions >= 0
            if usable is not None and in_front < n:
                good &= usable.mask[positions]  # -1 reads the last row; it is not good either way
            found = np.count_nonzero(good, axis=1)
            done = found >= k
            good[~done] = False
            good &= np.cumsum(good, axis=1) <= k
            best[waiting[done]] = scores[good].reshape(-1, k)
            chosen[waiting[done]] = positions[good].reshape(-1, k)
            waiting = waiting[~done]
            if width == n:  # a graph that does not reach every row
                width = n + 1
            elif len(waiting):
                rate = float(np.median(found[~done])) / width
                width = max(4 * width, math.ceil(k / rate * _MARGIN) if rate else 16 * width)
        return best, chosen

    def _worth(self, width: int, effort: int, in_front: int) -> bool:
        """Whether to look for so many candidates is cheaper than to score every usable row."""
        n = self.structure.n
        if width > n:
            return False
        every = n * self.costs.scan if in_front == n else in_front * self.costs.gather
        return self.structure.effort_for(width, effort) * self.costs.walk < every

    def _scanned(
        self, queries: Vectors, k: int, usable: Allowed | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows, n = self.rows, self.structure.n
        front = Rows(
            rows.part_keys[:n],
            rows.record_keys[:n],
            rows.matrix[:n],
            None if usable is None else Allowed(usable.mask[:n]),
        )
        near = FlatIndex(front, self.metric).search(queries, k)
        return near.scores, np.searchsorted(front.part_keys, near.ids)
