"""NetMF: what DeepWalk learns by walking, computed whole and factorised; for small graphs, where labels count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ingest.learn.nodes.prone import spread
from ingest.learn.nodes.spectral import (
    Progress,
    Sparse,
    SpectralTrainer,
    Times,
    degrees,
    products,
    scaled,
    unit_rows,
)
from search.errors import ModelError

MOST_NODES = 20_000  # a number is kept for each pair of nodes: 1.6 GB for so many
WINDOW = 10  # steps of the walks
OVERSAMPLED = 10  # directions beyond those wanted, and ...
ROUNDS = 4  # ... rounds of the randomised decomposition
ROWS = 64  # of the matrix that are computed at a time


class NetMF(SpectralTrainer):
    """Vectors by NetMF (Qiu et al. 2018, "Network Embedding as Matrix Factorization", algorithm 3), then spread.

    The matrix that DeepWalk factorises by chance, log max(1, vol(G) / T (sum of P^r for r = 1 to T) D^-1) with one
    negative, is computed exactly. As in LightNE (Qiu et al. 2021) the result is spread over the graph by ProNE's
    filter, which makes it good for links, too. The principal axes keep their lengths, where the paper takes the square
    roots; that did better on the PPI graph. The vectors have unit length.

    Time and memory grow with the square of the number of nodes.
    """

    family = "netmf"

    def _vectors(self, matrix: Sparse, progress: Progress) -> NDArray[np.float32]:
        n = matrix.shape[0]
        if n > MOST_NODES:
            raise ModelError(
                f"netmf keeps a number for each pair of nodes, so it takes {MOST_NODES:,} nodes at most, not {n:,}; "
                "use prone"
            )
        blocks = -(-n // ROWS)
        total = blocks + ROUNDS + 1
        with products(self.threads) as times:
            progress(0, total)
            information = window_information(matrix, times, lambda done: progress(done, total))
            vectors = self._factorised(information, lambda done: progress(blocks + done, total))
            del information
            spread(matrix, vectors, times)
        progress(total, total)
        return unit_rows(vectors)

    def _factorised(
        self, information: NDArray[np.float32], reached: Callable[[int], None]
    ) -> NDArray[np.float32]:
        """U S of a randomised truncated decomposition U S V' of the symmetric matrix (Halko et al. 2011)."""
        n = len(information)
        rng = np.random.default_rng([self.settings.seed, n])
        width, dim = min(self.settings.dim + OVERSAMPLED, n), min(self.settings.dim, n)
        basis = information @ rng.standard_normal((n, width), np.float32)
        for round_ in range(ROUNDS):
            basis, _ = scipy.linalg.qr(
                information @ (information @ basis), mode="economic", overwrite_a=True, check_finite=False
            )
            reached(round_ + 1)
        left, values, _ = scipy.linalg.svd((information @ basis).T, full_matrices=False, check_finite=False)
        vectors: NDArray[np.float32] = (basis @ left[:, :dim]) * values[:dim]
        return vectors


def window_information(
    matrix: Sparse, times: Times, reached: Callable[[int], None] = lambda _done: None
) -> NDArray[np.float32]:
    """(n, n) log max(1, vol(G) / T (sum of P^r for r = 1 to T) D^-1), of a symmetric matrix of weights (n, n)."""
    n = matrix.shape[0]
    degree = degrees(matrix)
    steps = scaled(matrix, 1.0 / degree)
    scale = degree.sum() / WINDOW / degree
    out = np.empty((n, n), np.float32)
    for block, low in enumerate(range(0, n, ROWS)):
        some = np.arange(low, min(low + ROWS, n))
        reach = np.zeros((n, len(some)), np.float32)
        reach[some, some - low] = scale[some]
        total = np.zeros_like(reach)
        for _ in range(WINDOW):
            reach = times(steps, reach)
            total += reach
        # The matrix is symmetric, so that columns are rows; these lie together.
        out[some] = np.log(np.maximum(total, 1.0, out=total), out=total).T
        reached(block + 1)
    return out
