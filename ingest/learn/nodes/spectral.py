"""What the trainers that factorise a matrix share: the graph as that matrix, its products, nodes that get nothing."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numba import njit
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph, NodeTrainer
from ingest.learn.nodes.node2vec import without_isolated
from ingest.learn.nodes.walks import available_threads
from search.errors import ModelError, SourceError
from search.types import EncoderSpec, Modality

ROWS_PER_TASK = 2048  # of a product that one thread computes at a time
Progress: TypeAlias = Callable[[int, int], None]
Sparse: TypeAlias = Any  # scipy.sparse.csr_matrix, which has no types


@dataclass(frozen=True, slots=True)
class SpectralSettings:
    """`dim` numbers per vector; `seed` of whatever a method draws by chance."""

    dim: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ModelError(f"dim is {self.dim}; give at least 1")
        if self.seed < 0:
            raise ModelError(f"seed is {self.seed}; give a number that is not negative")


class SpectralTrainer(NodeTrainer):
    """A trainer that computes the vectors from the adjacency matrix; a directed edge counts in both directions.

    Args:
        settings: None for 128 numbers and seed 0.
        threads: how many threads to use; None for all processors this process may use.
    """

    family: str

    def __init__(self, settings: SpectralSettings | None = None, *, threads: int | None = None) -> None:
        self.settings = settings = settings or SpectralSettings()
        self.threads = available_threads() if threads is None else max(1, threads)
        self.spec = EncoderSpec(
            family=self.family,
            model=self.family,
            modality=Modality.GRAPH,
            dim=settings.dim,
            options=asdict(settings),
        )

    def fit(self, graph: Graph, *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Vectors (n_nodes, dim) float32; row i is node i, a row of zeros where the node has no edge.

        Nodes that the method says nothing about, as in a component too small for the leading vectors, get one
        random direction for their component.

        Raises:
            SourceError: the graph has no edges.
        """
        connected, nodes = without_isolated(graph)
        if connected.n_nodes == 0:
            raise SourceError("the graph has no edges; nothing can be learned from it")
        vectors = np.zeros((graph.n_nodes, self.settings.dim), np.float32)
        matrix = adjacency(connected)
        found = self._vectors(matrix, progress or (lambda _done, _total: None))
        vectors[nodes, : found.shape[1]] = found
        give_directions(vectors, nodes, matrix, self.settings.seed)
        return vectors

    @abstractmethod
    def _vectors(self, matrix: Sparse, progress: Progress) -> NDArray[np.float32]:
        """Vectors (n, at most dim) of the nodes of this symmetric matrix, each of which has an edge."""


def adjacency(graph: Graph) -> Sparse:
    """The symmetric matrix of weights (n, n), float32 in compressed sparse rows."""
    n = graph.n_nodes
    weights = np.ones(len(graph.indices), np.float32) if graph.weights is None else graph.weights
    matrix = scipy.sparse.csr_matrix((weights, graph.indices, graph.indptr), shape=(n, n))
    if graph.directed:
        matrix = (matrix + matrix.T).tocsr()
        matrix.sort_indices()
    return matrix


def degrees(matrix: Sparse) -> NDArray[np.float64]:
    """The sum of each row, (n,)."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()


def scaled(matrix: Sparse, rows: NDArray[np.float64]) -> Sparse:
    """A copy whose rows are multiplied by these numbers (n,)."""
    result = matrix.copy()
    result.data = (matrix.data * np.repeat(rows, np.diff(matrix.indptr))).astype(np.float32)
    return result


def unit_rows(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows divided by their length; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", matrix, matrix))[:, None]
    return (matrix / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


Times: TypeAlias = Callable[[Sparse, NDArray[np.float32]], NDArray[np.float32]]


@contextmanager
def products(threads: int) -> Iterator[Times]:
    """A function for sparse (n, m) times dense (m, dim) float32 by threads, the same bytes for any number of them."""
    with ThreadPoolExecutor(threads) as pool:

        def times(left: Sparse, right: NDArray[np.float32]) -> NDArray[np.float32]:
            right = np.ascontiguousarray(right)
            out = np.empty((left.shape[0], right.shape[1]), np.float32)

            def fill(low: int) -> None:
                high = min(low + ROWS_PER_TASK, len(out))
                _multiply(left.indptr, left.indices, left.data, right, low, high, out)

            tasks = range(0, len(out), ROWS_PER_TASK)
            list(pool.map(fill, tasks) if threads > 1 else map(fill, tasks))
            return out

        yield times


@njit(nogil=True, cache=True)
def _multiply(indptr: Any, indices: Any, data: Any, right: Any, low: int, high: int, out: Any) -> None:
    """Rows `low` to `high` of the product."""
    for row in range(low, high):
        total = out[row]
        total[:] = 0.0
        for k in range(indptr[row], indptr[row + 1]):
            value, other = data[k], right[indices[k]]
            for d in range(len(total)):
                total[d] += value * other[d]


def give_directions(
    vectors: NDArray[np.float32], nodes: NDArray[np.int64], matrix: Sparse, seed: int
) -> None:
    """Fill the rows of zeros among `nodes`, in place: one unit vector for all such nodes of a component."""
    empty = ~vectors[nodes].any(axis=1)
    if not empty.any():
        return
    _, component = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    for number in np.unique(component[empty]):
        # Drawn for the component's first node, so that it does not depend on how many other components there are.
        first = int(np.argmax(component == number))
        direction = np.random.default_rng([seed, int(nodes[first])]).standard_normal(vectors.shape[1])
        chosen = nodes[empty & (component == number)]
        vectors[chosen] = (direction / np.linalg.norm(direction)).astype(np.float32)
