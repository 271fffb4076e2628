"""What is known of nodes beside their edges, and what the trainers that learn from it have in common."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph, NodeTrainer


@dataclass(frozen=True, slots=True)
class Features:
    """Row i of `matrix` (n, f) float32 is of the node `ids[i]`; a row of zeros says nothing.

    `source` says where they are, in messages. What the user has named is `space`, or `attributes` of the nodes; neither
    where the graph brought a matrix.
    """

    ids: tuple[str, ...]
    matrix: NDArray[np.float32]
    source: str
    space: str | None = None
    attributes: tuple[str, ...] = ()

    def of(self, graph: Graph) -> NDArray[np.float32]:
        """The rows (n_nodes, f) of a graph's nodes; zeros for those that nothing is known of."""
        if graph.ids == self.ids:
            return self.matrix
        place = {id: k for k, id in enumerate(self.ids)}
        at = np.array([place.get(id, -1) for id in graph.ids], np.int64)
        rows = np.zeros((graph.n_nodes, self.matrix.shape[1]), np.float32)
        rows[at >= 0] = self.matrix[at[at >= 0]]
        return rows

    @property
    def digest(self) -> str:
        """The same for the same features of the same nodes, as hex digits."""
        state = hashlib.blake2b(repr((self.ids, self.matrix.shape)).encode(), digest_size=16)
        state.update(np.ascontiguousarray(self.matrix, "<f4").data)
        return state.hexdigest()


class NodeEncoder(Protocol):
    """What such a trainer has learned: it encodes any node of any graph by its features and its neighbours'."""

    def encode(
        self, graph: Graph, features: NDArray[np.float32], threads: int | None = None
    ) -> NDArray[np.float32]:
        """Vectors (n_nodes, dim) of unit length for features (n_nodes, f); zeros where nothing is known."""

    def turned(self, rotation: NDArray[np.float64]) -> Self:
        """The encoder whose vectors are those of this one times an orthogonal matrix (dim, dim)."""

    def to_bytes(self) -> bytes:
        """A safetensors file; the same encoder gives the same bytes."""


class FeatureTrainer(NodeTrainer):
    """A trainer that learns an encoder from the features of nodes, so that later nodes need no training."""

    @abstractmethod
    def given(self, features: Features) -> Self:
        """The same trainer with these features."""

    @abstractmethod
    def encoded(self, encoder: Any, graph: Graph) -> NDArray[np.float32]:
        """What an encoder that was `learned` makes of the nodes of a graph, as `fit` gives it."""

    @abstractmethod
    def learned(self, graph: Graph, progress: Callable[[int, int], None] | None = None) -> NodeEncoder:
        """The encoder that `fit` encodes with.

        Raises:
            SourceError: the graph has no edges.
            ModelError: there are no features, or none of a node with an edge.
        """
