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


@dataclass(frozen=True, slots=True)
class Rows:
    """The vectors of a space in memory, as of one commit. Nothing here changes once it is made."""

    part_keys: Keys  # (n,), ascending
    record_keys: Keys  # (n,): whose part each row is
    matrix: Vectors  # (n, dim)
    alive: NDArray[np.bool_]  # (n,): False for rows deleted since they were written
    n_alive: int

    def __len__(self) -> int:
        return len(self.part_keys)

    def positions(self, part_keys: Keys) -> NDArray[np.int64]:
        """Positions of the living rows among `part_keys`, in ascending order."""
        at = np.searchsorted(self.part_keys, part_keys)
        at = at[at < len(self)]
        wanted = np.zeros(len(self), dtype=bool)
        wanted[at] = True
        found = np.flatnonzero(wanted & self.alive)
        return found[np.isin(self.part_keys[found], part_keys)]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest parts of each query, best first. Every entry is a real part: there are no fillers."""

    ids: NDArray[np.int64]  # (n_queries, k') part keys; k' = min(k, allowed rows)
    scores: NDArray[np.float32]  # (n_queries, k'), higher is better


class Index(ABC):
    """Finds the rows nearest to each query. Parameters travel with each call; nothing is shared between calls."""

    metric: Metric
    rows: Rows

    @abstractmethod
    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        effort: int | None = None,
    ) -> Neighbours:
        """The best k living rows for each of `queries`.

        Args:
            queries: (n_queries, dim) float32; unit rows where the metric is the cosine.
            k: how many, at least 1; fewer come back only where fewer rows are allowed.
            allowed: (n,) mask over the rows; None allows all.
            effort: how hard an approximate index should look (its ef_search); None takes its own.
        """
