"""What an approximate index is built on: a FAISS structure over the first rows of a space, of one of several kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from search.index.contract import Rows
from search.types import Metric
from search.vectors import Vectors

# Told rows done and rows in all; it may raise to stop the work, which leaves nothing behind.
Progress: TypeAlias = Callable[[int, int], None]


Buffer: TypeAlias = "bytes | memoryview"


class Kind(StrEnum):
    """The kinds of index; all but the first are approximate."""

    FLAT = "flat"
    HNSW = "hnsw"
    IVF_FLAT = "ivf-flat"
    IVF_SQ8 = "ivf-sq8"
    IVF_PQ = "ivf-pq"
    IVF_RABITQ = "ivf-rabitq"


class Structure(ABC):
    """Finds rows near a query among the first `n` rows of a space. It does not change once it is made."""

    kind: Kind
    metric: Metric
    n: int
    efforts: tuple[int, ...]  # the settings of `effort` worth trying, from quick to thorough

    @abstractmethod
    def candidates(
        self, rows: Rows, queries: Vectors, width: int, effort: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions (n_queries, width) of rows near each query, best first; -1 where too few were found.

        Scores are exact. Dead rows may be among the positions.

        Args:
            rows: the rows of the space, of which the first `n` are those that this was made of.
            queries: (n_queries, dim).
            width: how many to look for.
            effort: how hard to look, as `effort_for` gives it.
        """

    @abstractmethod
    def effort_for(self, width: int, effort: int) -> int:
        """The effort it takes to find `width` rows, and at least `effort`.

        It is ef_search of a graph, and the number of lists visited of an inverted file.
        """

    @abstractmethod
    def extended(self, rows: Rows, progress: Progress) -> Structure:
        """Another one that covers all of `rows`, of which the first `n` are those of this one."""

    @abstractmethod
    def to_bytes(self) -> Buffer:
        """All that is needed to have it again, but not the rows."""
