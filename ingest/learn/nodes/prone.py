"""ProNE: a sparse factorisation of pointwise mutual information, spread over the graph; fast, and good for links."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import NDArray

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

OVERSAMPLED = 10  # directions beyond those wanted, and ...
ROUNDS = 4  # ... rounds of the randomised decomposition
ORDER = 10  # terms of the Chebyshev series
SHIFT = 0.2  # mu: which eigenvalues of the Laplacian are let through ...
WIDTH = 0.5  # theta: ... and how widely around
COLUMNS = 32  # columns that are spread at a time, as each needs five others of its length


class ProNE(SpectralTrainer):
    """Vectors by ProNE (Zhang et al. 2019, "ProNE: Fast and Scalable Network Representation Learning").

    Two things differ from the paper: noise is drawn by the frequency itself (exponent 1, not 3/4), and the
    result keeps the lengths of its principal axes instead of their square roots. Both did better on the PPI
    graph, the second above all when nodes are compared by the cosine. The vectors have unit length.
    """

    family = "prone"

    def _vectors(self, matrix: Sparse, progress: Progress) -> NDArray[np.float32]:
        total = ROUNDS + 1 + -(-self.settings.dim // COLUMNS)
        with products(self.threads) as times:
            progress(0, total)
            vectors = self._factorised(matrix, times, lambda done: progress(done, total))
            spread(matrix, vectors, times, lambda done: progress(ROUNDS + done, total))
        progress(total, total)
        return unit_rows(vectors)

    def _factorised(
        self, matrix: Sparse, times: Times, reached: Callable[[int], None]
    ) -> NDArray[np.float32]:
        """Sec. 3.1: log(p_ij / (share of j in the noise)) for each edge, by a randomised truncated SVD."""
        n = matrix.shape[0]
        chances = scaled(matrix, 1.0 / degrees(matrix))
        noise = np.asarray(chances.sum(axis=0, dtype=np.float64)).ravel()
        information = chances
        information.data = np.log(chances.data / (noise / n)[chances.indices]).astype(np.float32)
        turned = information.T.tocsr()
        rng = np.random.default_rng([self.settings.seed, n])
        width = min(self.settings.dim + OVERSAMPLED, n)
        basis = times(information, rng.standard_normal((n, width), np.float32))
        for round_ in range(ROUNDS):
            basis, _ = scipy.linalg.qr(
                times(information, times(turned, basis)),
                mode="economic",
                overwrite_a=True,
                check_finite=False,
            )
            reached(round_ + 1)
        left, values, _ = scipy.linalg.svd(times(turned, basis).T, full_matrices=False, check_finite=False)
        dim = min(self.settings.dim, n)
        return unit_rows((basis @ left[:, :dim]) * np.sqrt(values[:dim]))


def spread(
    matrix: Sparse,
    vectors: NDArray[np.float32],
    times: Times,
    reached: Callable[[int], None] = lambda _done: None,
) -> None:
    """Spread vectors (n, dim) over the graph, in place, some columns at a time; `reached` is told how many times."""
    for low in range(0, vectors.shape[1], COLUMNS):
        vectors[:, low : low + COLUMNS] = _filtered(matrix, vectors[:, low : low + COLUMNS], times)
        reached(low // COLUMNS + 1)


def _filtered(matrix: Sparse, vectors: NDArray[np.float32], times: Times) -> NDArray[np.float32]:
    """Sec. 3.2: a band-pass filter of the graph's Laplacian, as a Chebyshev series whose weights are Bessel's."""
    around = 1.0 / (degrees(matrix) + 1.0)  # every node with a self-loop

    def smoothed(x: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = (times(matrix, x) + x) * around[:, None].astype(np.float32)
        return result

    def shifted(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.float32(1 - SHIFT) * x - smoothed(x)

    before, now = vectors, np.float32(0.5) * shifted(shifted(vectors)) - vectors
    total = np.float32(scipy.special.iv(0, WIDTH)) * before - np.float32(2 * scipy.special.iv(1, WIDTH)) * now
    for k in range(2, ORDER):
        before, now = now, shifted(shifted(now)) - 2 * now - before
        total += np.float32((-1) ** k * 2 * scipy.special.iv(k, WIDTH)) * now
    rest = vectors - total
    return times(matrix, rest) + rest
