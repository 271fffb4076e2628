"""The contract of a node trainer: a graph in, one vector per node out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.types import EncoderSpec


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph in compressed sparse rows.

    Node i is `ids[i]`; its out-neighbours are `indices[indptr[i]:indptr[i + 1]]`, ascending, without repeats,
    with `weights` beside them (all positive; None where all are 1). An undirected edge stands in both rows.
    """

    ids: tuple[str, ...]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32] | None
    directed: bool

    @property
    def n_nodes(self) -> int:
        """How many nodes there are."""
        return len(self.ids)

    @property
    def n_edges(self) -> int:
        """How many edges there are; an undirected one (a self-loop too) counts once."""
        if self.directed:
            return len(self.indices)
        rows = np.repeat(np.arange(self.n_nodes), np.diff(self.indptr))
        loops = int(np.count_nonzero(rows == self.indices))
        return (len(self.indices) - loops) // 2 + loops


class NodeTrainer(ABC):
    """Learns a vector for each node of a graph; the same graph and seed give the same vectors."""

    spec: EncoderSpec  # accepts nothing: a node's vector cannot be made from a query

    @abstractmethod
    def fit(self, graph: Graph, *, progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Vectors (n_nodes, dim) float32; row i is node i. A node without edges gets a row of zeros.

        `progress` is called with the work done and the work in all, from the calling thread.

        Raises:
            SourceError: the graph has no edges.
        """
