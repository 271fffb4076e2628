"""Graphs by their Weisfeiler-Lehman words and their size, projected onto the directions in which graphs differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import Vectors
from search.encoders.graph_items import LabelledGraph
from search.encoders.whole_graphs import GraphModel, Tensors
from search.types import Json

if TYPE_CHECKING:
    from scipy import sparse

SIZE_PLACES = 208  # on the logarithmic scale of sizes, every 0.1 from one node to 10^9
SIZE_WEIGHT = 0.5  # of the size's vector beside that of the words, which has length 1
_WIDTH = 0.2  # of a size on that scale: one half as large again is about a third as like


class ProjectedWords(GraphModel):
    """log(1 + count) of each word, scaled to length 1, and the number of nodes; projected.

    The inner product of two graphs' words before the projection is a Weisfeiler-Lehman subtree kernel (Shervashidze
    et al. 2011, sec. 3.2); to it a quarter of a Gaussian kernel of the logarithms of their sizes is added, without
    which rings of 8 and of 100 nodes would be the same. The projection (v + SIZE_PLACES, dim) keeps the strongest
    directions (latent semantic analysis, Deerwester et al. 1990). A graph that comes later is projected exactly as the
    first ones were.
    """

    def _take(self, tensors: Tensors, settings: Mapping[str, Json]) -> int:
        self._projection = np.asarray(tensors["projection"], np.float32)
        rows, dim = self._projection.shape
        if rows != len(self.words) + SIZE_PLACES:
            raise ValueError("a row for each word and place")
        return int(dim)

    def _described(self, graphs: Sequence[LabelledGraph]) -> Vectors:
        counts = self.matrix(graphs)
        told = weighted(counts, np.array([graph.n_nodes for graph in graphs]))
        rows = np.asarray(told @ self._projection, np.float32)
        rows[np.diff(counts.indptr) == 0] = 0  # a size alone says nothing
        return rows


def weighted(counts: sparse.csr_matrix, sizes: NDArray[np.int64]) -> sparse.csr_matrix:
    """What is projected of each graph, (n, v + SIZE_PLACES), by its words (n, v) and its number of nodes (n,)."""
    from scipy import sparse

    told = counts.copy()
    told.data = np.log1p(told.data)
    lengths = np.sqrt(np.asarray(told.multiply(told).sum(axis=1)).ravel())
    words = sparse.diags(1 / np.maximum(lengths, 1e-12)) @ told
    return sparse.hstack([words, sparse.csr_matrix(SIZE_WEIGHT * size_code(sizes))]).tocsr()


def size_code(sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Unit vectors (n, SIZE_PLACES) whose inner products fall with the quotient of two sizes."""
    away = np.log(sizes)[:, None] - 0.1 * np.arange(SIZE_PLACES)[None]
    near: NDArray[np.float64] = np.exp(-(away**2) / (2 * _WIDTH**2))
    near[near < 1e-6] = 0
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    return near
