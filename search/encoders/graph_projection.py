"""Graphs by their Weisfeiler-Lehman words, projected onto the directions in which those learned from differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.encoders.contract import Vectors
from search.encoders.graph_items import LabelledGraph
from search.encoders.whole_graphs import GraphModel, Tensors
from search.types import Json

if TYPE_CHECKING:
    from scipy import sparse


class ProjectedWords(GraphModel):
    """log(1 + count) of each word, scaled to length 1 and projected.

    The inner product of two rows before the projection is a Weisfeiler-Lehman subtree kernel (Shervashidze et al.
    2011, sec. 3.2); the projection (v, dim) keeps its strongest directions (latent semantic analysis, Deerwester et
    al. 1990). A graph that comes later is projected exactly as the first ones were.
    """

    def _take(self, tensors: Tensors, settings: Mapping[str, Json]) -> int:
        self._projection = np.asarray(tensors["projection"], np.float32)
        v, dim = self._projection.shape
        if v != len(self.words):
            raise ValueError("a row for each word")
        return int(dim)

    def _described(self, graphs: Sequence[LabelledGraph]) -> Vectors:
        return np.asarray(weighted(self.matrix(graphs)) @ self._projection, np.float32)


def weighted(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log(1 + count), each row scaled to length 1 (a row of nothing stays so)."""
    from scipy import sparse

    told = counts.copy()
    told.data = np.log1p(told.data)
    lengths = np.sqrt(np.asarray(told.multiply(told).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(lengths, 1e-12)) @ told
