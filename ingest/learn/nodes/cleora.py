"""Cleora: random vectors averaged over neighbours a few times; the fastest, for graphs of web scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.learn.nodes.spectral import (
    Progress,
    Sparse,
    SpectralTrainer,
    degrees,
    products,
    scaled,
    unit_rows,
)

ROUNDS = 3  # of averaging; two to five did worse on the PPI graph, more make all nodes alike


class Cleora(SpectralTrainer):
    """Vectors by averaging over neighbours (Rychalska et al. 2021, "Cleora"), at unit length after each round.

    Where the paper hashes the names of nodes into the first vectors, they are drawn from the seed.
    """

    family = "cleora"

    def _vectors(self, matrix: Sparse, progress: Progress) -> NDArray[np.float32]:
        means = scaled(matrix, 1.0 / degrees(matrix))
        rng = np.random.default_rng([self.settings.seed, matrix.shape[0]])
        vectors = rng.random((matrix.shape[0], self.settings.dim), np.float32) * 2 - 1
        with products(self.threads) as times:
            for round_ in range(ROUNDS):
                progress(round_, ROUNDS)
                vectors = unit_rows(times(means, vectors))
        progress(ROUNDS, ROUNDS)
        return vectors
