"""The contract of an index: the nearest rows of one space, named by their catalog keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from search.types import Metric
from search.vectors import Keys, Vectors

FAISS_METRIC = {
    Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
    Metric.DOT: faiss.METRIC_INNER_PRODUCT,
    Metric.L2: faiss.METRIC_L2,
}


class Allowed:
    """Which rows (n,) may be returned: a mask, how many it lets through, and where those stand."""

    __slots__ = ("_positions", "mask", "n")

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.mask = mask
        self.n = int(np.count_nonzero(mask))
        self._positions: NDArray[np.int64] | None = None

    @property
    def positions(self) -> NDArray[np.int64]:
        """The positions of the rows let through, ascending; looked for once."""
        if self._positions is None:
            self._positions = np.flatnonzero(self.mask)
        return self._positions

    @property
    def nbytes(self) -> int:
        """The memory it may come to hold."""
        return self.mask.nbytes + 8 * self.n


@dataclass(frozen=True, slots=True)
class Rows:
    """The vectors of a space in memory, as of one commit. Nothing here changes once it is made."""

    part_keys: Keys  # (n,), ascending
    record_keys: Keys  # (n,): whose part each row is
    matrix: Vectors  # (n, dim)
    living: Allowed | None = None  # without the rows deleted since they were written; None where all live
    ascending: bool = False  # whether the record keys are known to ascend, so that they can be looked up

    def __len__(self) -> int:
        return len(self.part_keys)

    @property
    def n_alive(self) -> int:
        """How many rows may be returned at all."""
        return len(self) if self.living is None else self.living.n

    def allowed(self, mask: NDArray[np.bool_]) -> Allowed:
        """The living rows (n,) of `mask`."""
        return Allowed(mask if self.living is None else mask & self.living.mask)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest parts of each query, best first. Every entry is a real part: there are no fillers."""

    ids: NDArray[np.int64]  # (n_queries, k') part keys; k' = min(k, allowed rows)
    scores: NDArray[np.float32]  # (n_queries, k'), higher is better
    record_keys: NDArray[np.int64]  # (n_queries, k'): whose part each is


class Index(ABC):
    """Finds the rows nearest to each query. Parameters travel with each call; nothing is shared between calls."""

    metric: Metric
    rows: Rows

    @abstractmethod
    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: Allowed | None = None,
        *,
        effort: int | None = None,
    ) -> Neighbours:
        """The best k living rows for each of `queries`.

        Args:
            queries: (n_queries, dim) float32; unit rows where the metric is the cosine.
            k: how many, at least 1; fewer come back only where fewer rows are allowed.
            allowed: which of the rows, all of them living; None allows all that live.
            effort: how hard an approximate index should look (its ef_search); None takes its own.
        """
