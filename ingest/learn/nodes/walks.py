"""Random walks over a graph in compressed sparse rows, compiled, parallel and the same for any number of threads."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.transitions import (
    EDGES_PER_WORD,
    Rows,
    alias_rows,
    fill_filter,
    first_order,
    second_order,
)
from search.errors import ModelError

ROWS_PER_TASK = 256  # walks that one thread takes at a time


@dataclass(frozen=True, slots=True)
class WalkSettings:
    """How walks are taken (Grover & Leskovec 2016, sec. 3.2).

    `walks` start at each node, each of `length` nodes. `p` is the return parameter and `q` the in-out parameter;
    with both 1 the walk is first-order, as in DeepWalk (Perozzi et al. 2014). With `gamma` the walk is that of
    node2vec+ (Liu, Hirn & Krishnan 2023): an edge that is weaker than the mean of its node's edges and `gamma`
    standard deviations counts as near in part only. Without weights that changes nothing.
    """

    walks: int = 10
    length: int = 80
    p: float = 1.0
    q: float = 1.0
    seed: int = 0
    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.gamma is not None and not math.isfinite(self.gamma):
            raise ModelError(f"gamma is {self.gamma}; give a number of standard deviations, such as 0 or 1")
        for name in ("p", "q"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ModelError(f"{name} is {value}; give a positive number")
        if self.walks < 1:
            raise ModelError(f"walks is {self.walks}; give at least 1 per node")
        if self.length < 2:
            raise ModelError(f"length is {self.length}; a walk needs at least 2 nodes")
        if self.seed < 0:
            raise ModelError(f"seed is {self.seed}; give a number that is not negative")

    @property
    def second_order(self) -> bool:
        """Whether a step depends on the node before."""
        return not (self.p == 1.0 and self.q == 1.0)


def available_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def weak_under(
    owners: NDArray[np.int64], weights: NDArray[np.float32], totals: NDArray[np.float64], gamma: float
) -> NDArray[np.float64]:
    """(n,) the mean weight of each node's edges and `gamma` standard deviations; 0 for a node that leads nowhere."""
    degrees = np.maximum(np.bincount(owners, minlength=len(totals)), 1)
    means = totals / degrees
    spread = np.sqrt(np.bincount(owners, (weights - means[owners]) ** 2, len(totals)) / degrees)
    # Rounding must not make edges weak that are all the same.
    return np.maximum(means + gamma * spread, 0.0) * (1 - 1e-6)


class Walker:
    """Takes the walks of a graph in numbered order, any stretch of them at a time.

    Walk `w` depends on the graph, the settings and `w` only. Walks are numbered round by round: a round starts
    once at each node that has an edge of either direction, in an order shuffled anew.
    """

    def __init__(self, graph: Graph, settings: WalkSettings) -> None:
        self.graph = graph
        self.settings = settings
        touched = np.diff(graph.indptr) > 0
        touched[graph.indices] = True
        self.nodes: NDArray[np.int32] = np.flatnonzero(touched).astype(np.int32)
        self.n_walks = len(self.nodes) * settings.walks
        n = 0 if graph.weights is None else len(graph.indices)
        weights = np.empty(0, np.float32) if graph.weights is None else graph.weights
        accept, alias, totals = np.empty(n, np.uint32), np.empty(n, np.int32), np.empty(0)
        if n > 0:
            alias_rows(graph.indptr, weights, accept, alias)
            owners = np.repeat(np.arange(graph.n_nodes), np.diff(graph.indptr))
            totals = np.bincount(owners, weights, graph.n_nodes).astype(np.float64)
        thresholds = np.empty(0)
        if n > 0 and settings.gamma is not None:
            thresholds = weak_under(owners, weights, totals, settings.gamma)
        # A filter for node2vec+ would not help: there the strength of an edge counts, not that it is there.
        asks = settings.q != 1.0 and len(thresholds) == 0
        n_edges = len(graph.indices) if graph.directed else len(graph.indices) // 2
        words = 1 << max(0, (n_edges // EDGES_PER_WORD).bit_length()) if asks else 0
        self.rows = Rows(
            graph.indptr,
            graph.indices,
            graph.directed,
            weights,
            accept,
            alias,
            totals,
            thresholds,
            np.zeros(words, np.uint64),
        )
        if asks:
            fill_filter(self.rows)
        nearest = max(1.0, 1.0 / settings.q)
        back = 1.0 / settings.p / nearest
        self.biases = np.array([min(1.0, back), 1.0 / nearest, 1.0 / settings.q / nearest])
        self.excess = max(0.0, back - 1.0)
        self._order: tuple[int, NDArray[np.int32]] = (-1, self.nodes)

    def starts(self, first: int, count: int) -> NDArray[np.int32]:
        """The nodes where walks `first` to `first + count - 1` begin."""
        pieces = []
        while count > 0:
            round_number, offset = divmod(first, len(self.nodes))
            if self._order[0] != round_number:
                rng = np.random.default_rng([self.settings.seed, round_number])
                self._order = (round_number, rng.permutation(self.nodes))
            piece = self._order[1][offset : offset + count]
            pieces.append(piece)
            first, count = first + len(piece), count - len(piece)
        return np.concatenate(pieces) if pieces else np.empty(0, np.int32)

    def walk(self, first: int, count: int, pool: ThreadPoolExecutor | None = None) -> NDArray[np.int32]:
        """Walks `first` to `first + count - 1`.

        `pool` shares the work out among its threads. Returns (count, length) int32 node numbers; -1 fills a
        walk after a dead end.
        """
        starts = self.starts(first, count)
        out = np.empty((count, self.settings.length), np.int32)

        def fill(low: int) -> None:
            high = min(count, low + ROWS_PER_TASK)
            self._fill(starts[low:high], first + low, out[low:high])

        list((map if pool is None else pool.map)(fill, range(0, count, ROWS_PER_TASK)))
        return out

    def _fill(self, starts: NDArray[np.int32], first: int, out: NDArray[np.int32]) -> None:
        if self.settings.second_order:
            second_order(tuple(self.rows), self.biases, self.excess, starts, first, self.settings.seed, out)
        else:
            first_order(tuple(self.rows), starts, first, self.settings.seed, out)
