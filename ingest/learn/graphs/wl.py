"""Learns in which directions of their Weisfeiler-Lehman words graphs differ most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.learn.graphs.contract import GraphTrainer, Progress
from ingest.learn.graphs.vocabulary import read_corpus
from search.encoders.graph_items import LabelledGraph
from search.encoders.graph_projection import weighted
from search.encoders.whole_graphs import to_bytes

_DENSE = 2048  # graphs or words up to which all directions are found exactly
_RANK = 1e-10  # of the strongest variance: weaker directions are rounding
_STEPS = 8  # of the randomised method


class WordProjection(GraphTrainer):
    """The `dim` strongest right singular vectors of the graphs' weighted words and sizes.

    Up to 2,048 graphs or words they are exact; beyond, by randomised subspace iteration (Halko, Martinsson & Tropp
    2011). Where there are fewer graphs than directions, random ones stand in for the rest, so that graphs that come
    later differ in more than the first few did. Settings: `dim`, `depth` (4) and `seed`.
    """

    method = "wl"

    def _learned(self, graphs: Iterable[LabelledGraph], node_label: str | None, progress: Progress) -> bytes:
        corpus = read_corpus(graphs, self.depth)
        dim, seed = self.settings.dim, self.settings.seed
        projection = completed(directions(weighted(corpus.counts, corpus.sizes), dim, seed), dim, seed)
        tensors: dict[str, NDArray[Any]] = {
            "words": corpus.words,
            "projection": projection.astype(np.float32),
        }
        return to_bytes(tensors, self._told(node_label))


def directions(matrix: Any, dim: int, seed: int) -> NDArray[np.float64]:
    """The strongest right singular vectors (v, dim or fewer) of a sparse matrix (n, v), with their signs settled."""
    n, v = matrix.shape
    if min(n, v) <= _DENSE:
        gram = (matrix @ matrix.T if n <= v else matrix.T @ matrix).toarray()
        squares, sides = np.linalg.eigh(gram)
        squares, sides = squares[::-1][:dim], sides[:, ::-1][:, :dim]
        keep = squares > max(float(squares[0]), 1e-300) * _RANK
        squares, sides = squares[keep], sides[:, keep]
        found = np.asarray(matrix.T @ sides / np.sqrt(squares) if n <= v else sides)
    else:
        from sklearn.utils.extmath import randomized_svd

        _, _, transposed = randomized_svd(matrix, dim, n_iter=_STEPS, random_state=seed)
        found = transposed.T
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
    settled: NDArray[np.float64] = found * np.where(signs < 0, -1.0, 1.0)
    return settled


def completed(found: NDArray[np.float64], dim: int, seed: int) -> NDArray[np.float64]:
    """Orthonormal directions (v, k) and random ones at right angles to them, `dim` in all if there is room."""
    v, k = found.shape
    missing = min(dim, v) - k
    if missing <= 0:
        return found
    random = np.random.default_rng([seed, 2]).normal(size=(v, missing))
    random -= found @ (found.T @ random)
    return np.hstack([found, np.linalg.qr(random)[0]])
