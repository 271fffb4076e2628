"""Row maths on numpy arrays: checking, normalising, scoring, the best k, and choosing a diverse subset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from search.errors import QueryError
from search.types import Metric

Vectors: TypeAlias = NDArray[np.float32]
Keys: TypeAlias = NDArray[np.int64]

_SHORTEST = 1e-12  # below this a vector has no direction worth keeping
_ROUNDING = 1e-6  # of the length of a row that was scaled to 1: measured, 2e-7 at any width
_NEARLY = 1e-3
_SMALLEST, _LARGEST = 1e-15, 1e15  # outside, the square of a number leaves the precise range of float32
SPARSE = 4  # gather the usable rows where fewer than one in so many is usable
_NEAR = 256  # rows compared at a time under L2, so that they stay in the cache
_PLAIN = (1e-12, 1e12)  # squared lengths that float32 holds without loss
_BLOCK = 1 << 24  # scores held at once in a batch of queries: 64 MB


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one space: row i of `vectors` belongs to part `part_keys[i]` of record `record_keys[i]`."""

    part_keys: Keys  # (n,), ascending
    record_keys: Keys  # (n,)
    vectors: Vectors  # (n, dim)


def as_floats(numbers: Any, what: str = "vectors") -> Vectors:
    """`numbers` as a C-ordered float32 array of any shape; never the caller's own memory changed.

    Raises:
        QueryError: not real numbers.
    """
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which `checked` refuses
            given = np.asarray(numbers)
            if given.dtype.kind not in "fiubO":  # complex numbers would lose a half, strings would be parsed
                raise TypeError(f"they are of the type {given.dtype}")
            return np.asarray(given, dtype=np.float32, order="C")
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise QueryError(
            f"{what} are not an array of numbers ({said}); give a float matrix (n, dim)"
        ) from None


def checked(matrix: Any, dim: int | None = None, what: str = "vectors") -> Vectors:
    """`matrix` as a C-ordered (n, dim) float32 array; never the caller's own memory changed.

    Args:
        matrix: anything numpy can read as numbers, two-dimensional.
        dim: the width it must have; None takes any.
        what: how to call it in the message.

    Raises:
        QueryError: not numbers, not two-dimensional, the wrong width, or NaN or infinity in a row.
    """
    rows = as_floats(matrix, what)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise QueryError(f"{what} have the shape {rows.shape}; give a matrix (n, dim)")
    if dim is not None and rows.shape[1] != dim:
        raise QueryError(
            f"{what} have {rows.shape[1]} dimensions where the space has {dim}; use its own model"
        )
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise QueryError(f"{what} hold NaN or infinity in row {bad[0]}; remove or repair the row")
    return rows


def _largest(matrix: Vectors) -> Vectors:
    """The largest absolute number of each row (n,), without a copy of the matrix."""
    return np.asarray(np.maximum(matrix.max(axis=1), -matrix.min(axis=1)), dtype=np.float32)


def unit_rows(matrix: Vectors) -> Vectors:
    """A copy of (n, dim) with each row scaled to length 1; a row of zeros stays zero.

    A row that has this length already, but for rounding, is kept bit for bit: what was stored once and is stored
    again, by an import for one, stays the same for ever.
    """
    largest = _largest(matrix)
    odd = (largest > _LARGEST) | (largest < _SMALLEST)  # their squares leave the range of float32
    if not odd.any():
        return _scaled(matrix)
    lengths = np.linalg.norm(np.where(odd[:, None], 0, matrix), axis=1)
    lengths[odd] = np.linalg.norm(matrix[odd].astype(np.float64), axis=1)
    return _scaled(matrix, lengths)


def _scaled(matrix: Vectors, lengths: NDArray[np.floating[Any]] | None = None) -> Vectors:
    """A copy of (n, dim) with each row divided by its length (n,), unless that is 1 but for rounding."""
    lengths = np.linalg.norm(matrix, axis=1) if lengths is None else lengths
    lengths[np.abs(lengths - 1) <= _ROUNDING] = 1
    return np.asarray(matrix / np.maximum(lengths, _SHORTEST)[:, None], dtype=np.float32)


def _units(matrix: Any, dim: int | None) -> Vectors | None:
    """Float32 rows (n, dim) at length 1 if all is well with them; None where they take a closer look.

    The squares of their lengths tell, in one pass: one is out of the ordinary wherever a number is (NaN compares with
    nothing). Rows that have the length already are given back as they are, not as a copy.
    """
    if not (isinstance(matrix, np.ndarray) and matrix.dtype == np.float32 and matrix.ndim == 2):
        return None
    if len(matrix) == 1:
        return _unit_row(matrix, dim)
    if matrix.shape[1:] != (dim,) or not matrix.flags.c_contiguous or not len(matrix):
        return None
    squares = np.einsum("nd,nd->n", matrix, matrix)
    if not ((squares > _PLAIN[0]) & (squares < _PLAIN[1])).all():
        return None
    return matrix if (np.abs(squares - 1) <= _ROUNDING).all() else _scaled(matrix)


def _unit_row(matrix: Vectors, dim: int | None) -> Vectors | None:
    """As `_units` for a single row, by which most questions are asked."""
    if matrix.shape != (1, dim):
        return None
    square = float(np.vdot(matrix[0], matrix[0]))
    if not _PLAIN[0] < square < _PLAIN[1]:
        return None
    if abs(square - 1) <= _ROUNDING:
        return matrix
    if abs(square - 1) < _NEARLY:  # `unit_rows` adds up more carefully
        return None
    return np.asarray(matrix * np.float32(square**-0.5), dtype=np.float32)


def prepared(matrix: Any, dim: int | None, metric: Metric, what: str = "vectors") -> Vectors:
    """`matrix` checked, and of unit length where the metric is the cosine.

    Raises:
        QueryError: as `checked`; or a row of zeros under the cosine, since it has no direction; or, under another
            metric, numbers so large that a score could be infinite.
    """
    if metric is Metric.COSINE and (quick := _units(matrix, dim)) is not None:
        return quick
    rows = checked(matrix, dim, what)
    largest = _largest(rows)
    if metric is not Metric.COSINE:
        large = np.flatnonzero(largest > _LARGEST / rows.shape[1] ** 0.5)
        if len(large):
            raise QueryError(f"{what} hold numbers too large to compare in row {large[0]}; scale them down")
        return rows
    zero = np.flatnonzero(largest < _SHORTEST)
    if len(zero):
        raise QueryError(
            f"{what} hold only zeros in row {zero[0]}; a cosine needs a direction, leave the row out"
        )
    return unit_rows(rows)


def similarity(matrix: Vectors, queries: Vectors, metric: Metric) -> NDArray[np.float32]:
    """Scores (n_queries, n) of each row of `matrix` (n, dim) for each of `queries` (n_queries, dim)."""
    if metric is not Metric.L2:
        return np.asarray(queries @ matrix.T, dtype=np.float32)
    # |q|^2 - 2qx + |x|^2 would be faster for many queries, but loses all digits where rows are far from the origin
    # and near each other.
    scores = np.empty((len(queries), len(matrix)), np.float32)
    for begin in range(0, len(matrix), _NEAR):
        rows = matrix[begin : begin + _NEAR]
        for number, query in enumerate(queries):
            offsets = rows - query
            np.einsum("nd,nd->n", offsets, offsets, out=scores[number, begin : begin + _NEAR])
    return np.negative(scores, out=scores)


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k best of `scores` (n,), best first; among equals the earlier position first."""
    n = len(scores)
    if k >= n:
        chosen = np.arange(n)
    else:
        kth = -np.partition(-scores, k - 1)[k - 1]
        chosen = np.flatnonzero(scores >= kth)
    return chosen[np.argsort(-scores[chosen], kind="stable")][:k].astype(np.int64)


def exact_search(
    matrix: Vectors, queries: Vectors, k: int, metric: Metric, usable: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions and scores (n_queries, min(k, usable rows)) of the best rows for each query, by scanning.

    `usable` is a mask (n,) over the rows; None allows all. Few usable rows are gathered and scored alone;
    many are scored where they stand, which costs less than copying them.
    """
    n = len(matrix)
    if usable is not None:
        n_usable = int(np.count_nonzero(usable))
        if n_usable * SPARSE < n:
            chosen = np.flatnonzero(usable)
            positions, best = exact_search(matrix[chosen], queries, k, metric)
            return chosen[positions], best
        k = min(k, n_usable)
    k = min(k, n)
    positions = np.empty((len(queries), k), np.int64)
    best = np.empty((len(queries), k), np.float32)
    if k == 0:
        return positions, best
    step = max(1, _BLOCK // n)
    for begin in range(0, len(queries), step):
        block = similarity(matrix, queries[begin : begin + step], metric)
        if usable is not None:
            block[:, ~usable] = -np.inf
        for row, scores in enumerate(block, begin):
            positions[row] = top_k(scores, k)
            best[row] = scores[positions[row]]
    return positions, best


def diverse(relevance: NDArray[np.float32], matrix: Vectors, k: int, diversity: float) -> NDArray[np.int64]:
    """Positions of k candidates chosen by maximal marginal relevance, in the order chosen.

    Each step takes the candidate with the best (1 - diversity) * relevance - diversity * (largest cosine to
    those already taken) (Carbonell & Goldstein 1998, sec. 2).

    Args:
        relevance: (n,) scores, higher is better.
        matrix: (n, dim) unit rows of the candidates.
        k: how many to choose.
        diversity: 0 keeps the order of relevance; 1 looks at difference alone.
    """
    left = np.ones(len(relevance), dtype=bool)
    nearest = np.zeros(len(relevance), dtype=np.float32)
    chosen: list[int] = []
    for step in range(min(k, len(relevance))):
        penalty = nearest if step else np.zeros_like(nearest)
        value = np.where(left, (1 - diversity) * relevance - diversity * penalty, -np.inf)
        best = int(np.argmax(value))
        chosen.append(best)
        left[best] = False
        closeness = matrix @ matrix[best]
        nearest = closeness if step == 0 else np.maximum(nearest, closeness)
    return np.array(chosen, dtype=np.int64)
