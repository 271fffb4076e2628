"""All pairs of unit vectors whose cosine is above a bound, exactly and in bounded memory, and what they connect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search.vectors import Vectors

Told = Callable[[int, int], None]  # rows done, rows in all

_ROWS, _COLUMNS = 1024, 8192  # of a tile of cosines: 32 MB
_MOST_PAIRS = 1 << 22  # kept before they are reduced to what they connect
_AXES = 64  # of the projection by which most pairs are ruled out
_WORTHWHILE = 4  # times as many dimensions before it is worth it
_SAMPLE = 10_000  # rows that the axes are fitted to
_SLACK = 2e-4  # of a squared distance, for float32
_FEW = 0.02  # the share of a tile's pairs up to which they are better looked at one by one


def connected(vectors: Vectors, min_score: float, told: Told | None = None) -> NDArray[np.int64]:
    """The component (n,) of each row where rows are joined whose cosine is `min_score` or more.

    Every pair is considered. A component is named by its first row.

    Pairs are first compared along the few directions in which the rows differ most: no distance grows by a
    projection, so that a pair too far apart there is too far apart.

    Args:
        vectors: (n, dim) of unit length.
        min_score: the bound.
        told: is told how far it is.
    """
    n, dim = vectors.shape
    left, right, bound = vectors, vectors, min_score
    projected = dim >= _WORTHWHILE * _AXES and n > _SAMPLE // 4
    if projected:
        left, right = _sides(vectors)
        bound = min_score - 1 - _SLACK
    joined = _Joined(n)
    for begin in range(0, n, _ROWS):
        block = slice(begin, min(begin + _ROWS, n))
        for start in range(begin, n, _COLUMNS):
            tile = slice(start, min(start + _COLUMNS, n))
            near = left[block] @ right[tile].T >= bound
            rows, columns = np.nonzero(near)
            later = rows + begin < columns + start
            rows, columns = rows[later] + begin, columns[later] + start
            if projected and len(rows):
                rows, columns = _verified(vectors, block, tile, (rows, columns), min_score)
            joined.add(rows, columns)
        if told is not None:
            told(block.stop, n)
    return joined.components()


def _sides(vectors: Vectors) -> tuple[Vectors, Vectors]:
    """Rows (n, axes + 2) of which the inner product is minus half the squared distance of the projections."""
    n, dim = vectors.shape
    sample = vectors[:: max(1, n // _SAMPLE)].astype(np.float64)
    _, axes = np.linalg.eigh(np.cov(sample, rowvar=False))  # the last have the largest variance
    low = np.asarray(vectors @ axes[:, dim - _AXES :].astype(np.float32))
    half = 0.5 * np.einsum("nd,nd->n", low, low)[:, None]
    one = np.ones_like(half)
    return np.hstack([low, -half, one]), np.hstack([low, one, -half])


def _verified(
    vectors: Vectors,
    block: slice,
    tile: slice,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    min_score: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of the pairs whose cosine reaches the bound."""
    rows, columns = pairs
    if len(rows) > _FEW * (block.stop - block.start) * (tile.stop - tile.start):
        cosines = vectors[block] @ vectors[tile].T
        near = cosines[rows - block.start, columns - tile.start] >= min_score
    else:
        near = np.empty(len(rows), dtype=bool)
        for begin in range(0, len(rows), _COLUMNS):
            some = slice(begin, begin + _COLUMNS)
            near[some] = np.einsum("nd,nd->n", vectors[rows[some]], vectors[columns[some]]) >= min_score
    return rows[near], columns[near]


class _Joined:
    """Pairs so far, reduced now and then to as many as it takes to say what they connect."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._n_pairs = 0

    def add(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Join row to column, for each of them."""
        if len(rows):
            self._pairs.append((rows, columns))
            self._n_pairs += len(rows)
        if self._n_pairs > _MOST_PAIRS:
            first = self.components()
            others = np.flatnonzero(first != np.arange(self._n))
            self._pairs, self._n_pairs = [(first[others], others)], 0

    def components(self) -> NDArray[np.int64]:
        """The component (n,) of each row, named by its first row."""
        rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in self._pairs)])
        columns = np.concatenate([np.empty(0, np.int64), *(columns for _, columns in self._pairs)])
        return components(self._n, rows, columns)


def components(n: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The component (n,) of each of n things, named by its first, where `rows[i]` and `columns[i]` are joined."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, n))
    _, labels = connected_components(edges, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def stars(
    vectors: Vectors, order: NDArray[np.int64], min_score: float
) -> list[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
    """Groups within one component: the first row in `order` that is left, with all left that are near to it.

    Args:
        vectors: (n, dim) of unit length.
        order: (n,) the rows, the best to keep first.
        min_score: how near the others must be to the one that is kept.

    Returns:
        For each group the row kept, the rows (m,) near to it in the given order, and their cosines (m,); rows near to
        none that is kept are in no group.
    """
    found = []
    left = np.asarray(order, dtype=np.int64)
    while len(left) > 1:
        centre, others = int(left[0]), left[1:]
        cosines = np.asarray(vectors[others] @ vectors[centre], dtype=np.float32)
        near = cosines >= min_score
        if near.any():
            found.append((centre, others[near], cosines[near]))
        left = others[~near]
    return found
