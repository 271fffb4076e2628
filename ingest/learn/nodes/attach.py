"""Vectors for nodes that come later, solved from the vectors of their neighbours; those stay as they are."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.spectral import adjacency, degrees
from search.vectors import unit_rows

ROUNDS = 50
ENOUGH = 1e-6


def attached(graph: Graph, known: NDArray[np.bool_], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors for the nodes that are not known: each the mean of its neighbours, by the weights of the edges.

    That is the condition of locally linear embedding (Roweis & Saul 2000; harmonic functions, Zhu, Ghahramani &
    Lafferty 2003), solved by iteration, since new nodes may be neighbours of each other.

    Args:
        graph: with the new nodes and edges; directions do not count.
        known: (n,) which nodes have a vector.
        vectors: (n, dim), of unit length where known; other rows are not looked at.

    Returns:
        (n, dim) of unit length; known ones as they were, zeros for new nodes that no path leads from to a known one.
    """
    result = np.where(known[:, None], vectors, 0).astype(np.float32)
    new = np.flatnonzero(~known)
    if not len(new):
        return result
    matrix = adjacency(graph)[new]
    total = degrees(matrix)
    matrix = scipy.sparse.diags((1.0 / np.where(total > 0, total, 1.0)).astype(np.float32)) @ matrix
    fixed = matrix[:, known] @ result[known]
    among = matrix[:, new]
    solved = fixed.copy()
    for _ in range(ROUNDS):
        following = fixed + among @ solved
        moved = float(np.abs(following - solved).max(initial=0.0))
        solved = following
        if moved < ENOUGH:
            break
    result[new] = unit_rows(np.ascontiguousarray(solved, dtype=np.float32))
    return result
