"""Turns newly learned vectors onto those that were there before, so that a space keeps its orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.vectors import unit_rows


@dataclass(frozen=True, slots=True)
class Turned:
    """How near the vectors of the `shared` nodes are to the former ones: the mean cosine before and after turning."""

    shared: int
    cosine_before: float
    cosine_after: float


def turned_onto(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], before: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Turned | None]:
    """The vectors after the rotation (or reflection) that brings shared nodes nearest to where they were.

    Inner products, and so all similarities, stay as they are.

    Args:
        vectors: (n, dim) as they were learned; not changed.
        rows: (m,) which of them were there before.
        before: (m, dim) their former vectors.

    Returns:
        Vectors (n, dim), and what it came to; None where no node is shared.
    """
    rotation, told = rotation_onto(vectors, rows, before)
    return (vectors if rotation is None else rotated(vectors, rotation)), told


def rotated(vectors: NDArray[np.float32], rotation: NDArray[np.float64]) -> NDArray[np.float32]:
    """Vectors (n, dim) times a matrix (dim, dim)."""
    return (vectors.astype(np.float64) @ rotation).astype(np.float32)


def rotation_onto(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], before: NDArray[np.float32]
) -> tuple[NDArray[np.float64] | None, Turned | None]:
    """The orthogonal matrix (dim, dim) of `turned_onto`, and what it comes to; None where no node is shared.

    The orthogonal Procrustes problem (Schönemann 1966), solved for unit vectors.
    """
    now, then = unit_rows(vectors[rows]).astype(np.float64), unit_rows(before).astype(np.float64)
    there = now.any(axis=1) & then.any(axis=1)
    now, then = now[there], then[there]
    if not len(now):
        return None, None
    left, _, right = np.linalg.svd(now.T @ then)
    rotation: NDArray[np.float64] = left @ right
    told = Turned(
        shared=len(now),
        cosine_before=float(np.einsum("nd,nd->n", now, then).mean()),
        cosine_after=float(np.einsum("nd,nd->n", now @ rotation, then).mean()),
    )
    return rotation, told
