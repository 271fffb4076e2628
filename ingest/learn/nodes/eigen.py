"""Laplacian eigenmaps and locally linear embedding of a graph: the ends of the spectrum of a sparse matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
from numpy.typing import NDArray

from ingest.learn.nodes.spectral import Progress, Sparse, SpectralSettings, SpectralTrainer, degrees
from search.errors import ModelError

DENSE = 400  # nodes up to which all eigenvectors are computed, and four times as many as are asked for
TOLERANCE = 1e-7
USUAL_PRODUCTS = 4000  # until the iteration converges; only progress is measured by it
NOISE = 1e-5  # a row this much shorter than the others is what rounding left

Matrix = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Eigenmaps(SpectralTrainer):
    """Vectors by Laplacian eigenmaps (Belkin & Niyogi 2003): L y = lambda D y, the smallest but the trivial ones.

    The eigenvectors have y' D y = the sum of all weights, so that the root mean square, weighted by degree, is 1.
    In a graph of several components the smallest eigenvalues of all are taken, without the constant vector of each.
    """

    family = "eigenmaps"

    def _vectors(self, matrix: Sparse, progress: Progress) -> NDArray[np.float32]:
        degree = degrees(matrix)
        half = scipy.sparse.diags(degree**-0.5)
        near = (half @ matrix.astype(np.float64) @ half).tocsr()
        trivial = _constants(matrix, np.sqrt(degree))
        # I - near has its eigenvalues in [0, 2]; the trivial ones move behind them, to 3.
        found = _smallest(
            lambda x: x - near @ x + 3.0 * (trivial @ (trivial.T @ x)), trivial.shape, self.settings, progress
        )
        scaled: NDArray[np.float32] = (found * np.sqrt(degree.sum() / degree)[:, None]).astype(np.float32)
        return scaled


class LocallyLinear(SpectralTrainer):
    """Vectors by locally linear embedding (Roweis & Saul 2000), on graphs as in Goyal & Ferrara 2018, sec. 3.2.

    Each node is to be the weighted mean of its neighbours: the smallest eigenvectors of (I - W)'(I - W), where
    W is the matrix of weights with rows that sum to 1, without the constant one of each component. Root mean
    square 1.
    """

    family = "lle"

    def _vectors(self, matrix: Sparse, progress: Progress) -> NDArray[np.float32]:
        n = matrix.shape[0]
        means = scipy.sparse.diags(1.0 / degrees(matrix)) @ matrix.astype(np.float64)
        rest = (scipy.sparse.identity(n, format="csr") - means).tocsr()
        turned = rest.T.tocsr()
        trivial = _constants(matrix, np.ones(n))
        # The greatest eigenvalue is at most the product of the two norms that are easy to compute.
        behind = 1.0 + float(abs(rest).sum(axis=1).max() * abs(rest).sum(axis=0).max())
        found = _smallest(
            lambda x: turned @ (rest @ x) + behind * (trivial @ (trivial.T @ x)),
            trivial.shape,
            self.settings,
            progress,
        )
        scaled: NDArray[np.float32] = (found * np.sqrt(n)).astype(np.float32)
        return scaled


def _constants(matrix: Sparse, values: NDArray[np.float64]) -> Sparse:
    """(n, components) sparse: in the column of a component these values of its nodes, scaled to length 1."""
    n = len(values)
    count, component = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    lengths = np.sqrt(np.bincount(component, values**2, count))
    entries = (values / lengths[component], (np.arange(n), component))
    return scipy.sparse.csr_matrix(entries, shape=(n, count))


def _smallest(
    product: Matrix, shape: tuple[int, int], settings: SpectralSettings, progress: Progress
) -> NDArray[np.float64]:
    """The eigenvectors of the smallest eigenvalues, ascending: (n, at most dim) float64, columns of length 1.

    Args:
        product: what the symmetric matrix makes of a vector (n,) or of (n, m); its trivial ends moved away.
        shape: (n, how many eigenvectors are trivial).
        settings: how many are wanted, and the seed of the first vector.
        progress: told how far it is.

    Raises:
        ModelError: the iteration does not converge.
    """
    n, n_trivial = shape
    k = min(settings.dim, n - n_trivial)
    done = 0

    def counted(x: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal done
        done += 1
        progress(min(done, USUAL_PRODUCTS - 1), USUAL_PRODUCTS)
        return product(x)

    if n <= max(DENSE, 4 * settings.dim):
        progress(0, USUAL_PRODUCTS)
        whole = product(np.eye(n))
        _, vectors = scipy.linalg.eigh((whole + whole.T) / 2)
        vectors = vectors[:, :k]
    else:
        operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=counted, dtype=np.float64)
        start = np.random.default_rng([settings.seed, n]).standard_normal(n)
        try:
            _, vectors = scipy.sparse.linalg.eigsh(operator, k, which="SA", v0=start, tol=TOLERANCE)
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            raise ModelError(
                "the eigenvectors of this graph do not converge; ask for fewer with --dim, or use prone"
            ) from error
    # An eigenvector is as good as its opposite: the greatest number of each is made positive.
    greatest = vectors[np.abs(vectors).argmax(axis=0), np.arange(k)]
    vectors = vectors * np.where(greatest < 0, -1.0, 1.0)
    lengths = np.linalg.norm(vectors, axis=1)
    vectors[lengths <= NOISE * np.sqrt(k / n)] = 0.0
    progress(USUAL_PRODUCTS, USUAL_PRODUCTS)
    result: NDArray[np.float64] = vectors
    return result
