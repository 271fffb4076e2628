"""Puts edges into compressed sparse rows, in compiled code."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@njit(nogil=True, cache=True)
def _by_column(sources: Array, targets: Array, weights: Array, columns: Array, mirrored: bool) -> Any:
    """The rows and weights of the edges, and with `mirrored` of their reverses, in order of the column; `columns`
    (n + 1,) is filled with where each begins."""
    for i in range(len(sources)):
        columns[targets[i] + 1] += 1
        if mirrored and sources[i] != targets[i]:
            columns[sources[i] + 1] += 1
    for column in range(len(columns) - 1):
        columns[column + 1] += columns[column]
    size, free = columns[-1], columns[:-1].copy()
    rows, values = np.empty(size, np.int32), np.empty(size if len(weights) else 0, np.float64)
    for i in range(len(sources)):
        source, target = sources[i], targets[i]
        at = free[target]
        free[target] += 1
        rows[at] = source
        if len(weights):
            values[at] = weights[i]
        if mirrored and source != target:
            at = free[source]
            free[source] += 1
            rows[at] = target
            if len(weights):
                values[at] = weights[i]
    return rows, values


@njit(nogil=True, cache=True)
def compressed_rows(
    sources: Array, targets: Array, weights: Array, n: int, mirrored: bool
) -> tuple[Array, Array, Array, int, int]:
    """The adjacency matrix in compressed sparse rows, by two counting sorts: time and memory are O(edges + nodes).

    Returns:
        indptr (n + 1,) int64, indices (m,) int32, the sums of the weights (m,) float64 (empty as `weights` is),
        how many edges were merged into others, and how many self-loops there are.
    """
    columns = np.zeros(n + 1, np.int64)
    rows, values = _by_column(sources, targets, weights, columns, mirrored)
    indptr = columns.copy()
    if not mirrored:
        indptr[:] = 0
        for i in range(len(rows)):
            indptr[rows[i] + 1] += 1
        for row in range(n):
            indptr[row + 1] += indptr[row]
    free = indptr[:-1].copy()
    indices, data = np.empty(len(rows), np.int32), np.empty(len(values), np.float64)
    for column in range(n):  # ascending, so the columns of a row come in order
        for i in range(columns[column], columns[column + 1]):
            at = free[rows[i]]
            free[rows[i]] += 1
            indices[at] = column
            if len(values):
                data[at] = values[i]
    merged, loops, at = 0, 0, 0
    low: Any = np.int64(0)
    for row in range(n):
        high, k = indptr[row + 1], low
        while k < high:
            until = k + 1
            while until < high and indices[until] == indices[k]:
                until += 1
            column = indices[k]
            if len(data):
                if until - k > 1:  # an order of its own: the sum does not depend on the order of the lines
                    data[k:until] = np.sort(data[k:until])
                total = 0.0
                for each in range(k, until):
                    total += data[each]
                data[at] = total
            indices[at] = column
            if not mirrored or column >= row:
                merged += until - k - 1
            if column == row:
                loops += 1
            at += 1
            k = until
        low = high
        indptr[row + 1] = at
    return indptr, indices[:at].copy(), data[: at if len(data) else 0].copy(), merged, loops
