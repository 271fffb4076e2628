"""The contract of a node trainer: a graph in, one vector per node out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ingest.sources.contract import Graph
from search.types import EncoderSpec

__all__ = ["Graph", "NodeTrainer"]


class NodeTrainer(ABC):
    """Learns a vector for each node of a graph; the same graph and seed give the same vectors."""

    spec: EncoderSpec  # accepts nothing: a node's vector cannot be made from a query

    @abstractmethod
    def fit(self, graph: Graph, *, progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Vectors (n_nodes, dim) float32; row i is node i.

        A node without edges gets a row of zeros, unless the method learns from features and the node has some.

        `progress` is called with the work done and the work in all, from the calling thread.

        Raises:
            SourceError: the graph has no edges.
        """
