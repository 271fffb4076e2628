"""Random walks over a graph in compressed sparse rows, compiled, parallel and the same for any number of threads."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph
from search.errors import ModelError

LANES = 64  # walks that one thread advances in turn, so that their cache misses overlap
ROWS_PER_TASK = 256  # walks that one thread takes at a time
END = -1  # fills a walk after a dead end

Array: TypeAlias = NDArray[Any]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_UNIT = 2.0**-53


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


@njit(inline="always")
def mixed(state: Any) -> Any:
    """64 random bits from a counter (Steele, Lea & Flood 2014, SplitMix64)."""
    state = (state ^ (state >> np.uint64(30))) * _MIX1
    state = (state ^ (state >> np.uint64(27))) * _MIX2
    return state ^ (state >> np.uint64(31))


@njit(inline="always")
def stream(seed: int, number: int) -> Any:
    """The first counter of the random stream that belongs to `number` under `seed`."""
    return mixed(mixed(np.uint64(seed) + _GAMMA) ^ (np.uint64(number) * _GAMMA + np.uint64(1)))


@njit(inline="always")
def below(bits: Any, bound: int) -> Any:
    """A whole number in [0, bound) from the upper half of 64 random bits."""
    return np.int64(((bits >> _HALF) * np.uint64(bound)) >> _HALF)


@njit(nogil=True, cache=True)
def alias_rows(indptr: Array, weights: Array, accept: Array, alias: Array) -> None:
    """Fill one alias table per row of the graph (Vose 1991), in O(edges) memory for all rows together.

    Entry k of a row is kept when the lower 32 random bits are not above `accept[k]`; else entry `alias[k]` of
    that row stands in for it.
    """
    widest = 0
    for row in range(len(indptr) - 1):
        widest = max(widest, indptr[row + 1] - indptr[row])
    scaled = np.empty(widest, np.float64)
    stack = np.empty(widest, np.int64)
    for row in range(len(indptr) - 1):
        low, size = indptr[row], indptr[row + 1] - indptr[row]
        total = 0.0
        for k in range(size):
            total += weights[low + k]
        small, large = 0, size  # two stacks that grow towards each other in one array
        for k in range(size):
            scaled[k] = weights[low + k] / total * size
            accept[low + k] = np.uint32(0xFFFFFFFF)
            alias[low + k] = k
            if scaled[k] < 1.0:
                stack[small] = k
                small += 1
            else:
                large -= 1
                stack[large] = k
        while small > 0 and large < size:
            small -= 1
            lesser, greater = stack[small], stack[large]
            accept[low + lesser] = np.uint32(max(0.0, scaled[lesser]) * 4294967295.0)
            alias[low + lesser] = greater
            scaled[greater] -= 1.0 - scaled[lesser]
            if scaled[greater] < 1.0:
                large += 1
                stack[small] = greater
                small += 1


class Rows(NamedTuple):
    """A graph as the compiled code takes it; all from the weights on are empty where all weights are 1."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    directed: bool
    weights: NDArray[np.float32]
    accept: NDArray[np.uint32]
    alias: NDArray[np.int32]
    totals: NDArray[np.float64]  # of the weights of each row
    thresholds: NDArray[np.float64]  # under which an edge of a node is weak; empty but for node2vec+


@njit(inline="always")
def _proposal(rows: Rows, low: int, degree: int, bits: Any) -> Any:
    """A neighbour drawn by weight from the row that begins at `low`."""
    k = below(bits, degree)
    if len(rows.accept) > 0 and np.uint32(bits & _LOW) > rows.accept[low + k]:
        k = np.int64(rows.alias[low + k])
    return rows.indices[low + k]


@njit(nogil=True, cache=True)
def first_order(rows: Rows, starts: Array, first: int, seed: int, out: Array) -> None:
    """Fill `out` (walks, length) with first-order walks; row r is walk number `first + r`."""
    lows, degrees = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    states, at = np.empty(LANES, np.uint64), np.empty(LANES, np.int32)
    n_walks, length = out.shape
    for group in range(0, n_walks, LANES):
        lanes = min(LANES, n_walks - group)
        for lane in range(lanes):
            states[lane] = stream(seed, first + group + lane)
            at[lane] = starts[group + lane]
            out[group + lane, 0] = at[lane]
        for step in range(1, length):
            # Two passes: the loads of one pass do not wait for each other.
            for lane in range(lanes):
                lows[lane] = rows.indptr[at[lane]]
                degrees[lane] = rows.indptr[at[lane] + 1] - lows[lane]
            for lane in range(lanes):
                if degrees[lane] > 0:
                    states[lane] += _GAMMA
                    at[lane] = _proposal(rows, lows[lane], degrees[lane], mixed(states[lane]))
                    out[group + lane, step] = at[lane]
                else:
                    out[group + lane, step] = END


@njit(inline="always")
def _place(indices: Array, low: int, high: int, node: int) -> int:
    """Where the ascending slice indices[low:high] holds `node`; -1 if it does not."""
    end = high
    while low < high:
        middle = (low + high) >> 1
        if indices[middle] < node:
            low = middle + 1
        else:
            high = middle
    return low if low < end and indices[low] == node else -1


@njit(inline="always")
def _edge(rows: Rows, before: int, node: int) -> Any:
    """Where the edge from `before` to `node` stands, or its twin in the other row; -1 if there is none."""
    low, high = rows.indptr[before], rows.indptr[before + 1]
    if not rows.directed:  # an edge stands in both rows: search the shorter one
        other, end = rows.indptr[node], rows.indptr[node + 1]
        if end - other < high - low:
            return _place(rows.indices, other, end, before)
    return _place(rows.indices, low, high, node)


@njit(inline="always")
def _bias(rows: Rows, before: int, at: int, node: int, biases: Array) -> Any:
    """The search bias of a step from `at` to `node`: 1/p to go back, 1 beside the node before, 1/q further away.

    In node2vec+ a weak edge from the node before counts as near by its strength, and as the lesser of near and
    away where the step itself would take a weak edge.
    """
    if node == before:
        return biases[0]
    place = _edge(rows, before, node)
    if len(rows.thresholds) == 0:
        return biases[1] if place >= 0 else biases[2]
    strength = 0.0
    if place >= 0:
        if rows.weights[place] >= rows.thresholds[node]:
            return biases[1]
        strength = rows.weights[place] / rows.thresholds[node]
    own = rows.weights[_place(rows.indices, rows.indptr[at], rows.indptr[at + 1], node)]
    if own < rows.thresholds[at]:
        return min(biases[1], biases[2])
    return biases[2] + (biases[1] - biases[2]) * strength


@njit(inline="always")
def _odds(rows: Rows, before: int, node: int, excess: float) -> float:
    """The chance that a step goes back at once: the share of `excess`, of going back, in all that is proposed."""
    low, high = rows.indptr[node], rows.indptr[node + 1]
    back, total = 1.0, np.float64(high - low)
    if rows.directed or len(rows.weights) > 0:
        place = _place(rows.indices, low, high, before)
        if place < 0:
            return 0.0
        if len(rows.weights) > 0:
            back, total = np.float64(rows.weights[place]), rows.totals[node]
    return excess * back / (total + excess * back)


@njit
def _exact_step(rows: Rows, before: int, node: int, biases: Array, excess: float, unit: float) -> Any:
    """The next node drawn from the exact distribution; O(degree), for where rejection would take too long."""
    low, high = rows.indptr[node], rows.indptr[node + 1]
    chances = np.empty(high - low)
    for k in range(low, high):
        to = rows.indices[k]
        weight = np.float64(rows.weights[k]) if len(rows.weights) > 0 else 1.0
        chances[k - low] = weight * (
            _bias(rows, before, node, to, biases) + (excess if to == before else 0.0)
        )
    rest = unit * chances.sum()
    for k in range(high - low):
        rest -= chances[k]
        if rest < 0.0:
            return rows.indices[low + k]
    return rows.indices[high - 1]


@njit(inline="always")
def _kept(rows: Rows, before: int, at: int, node: int, biases: Array, unit: float) -> Any:
    """Whether a proposed node is kept; looks for the edge from the node before only where that decides it."""
    if node == before:
        return unit < biases[0]
    if unit < min(biases[1], biases[2]):
        return True
    if unit >= max(biases[1], biases[2]):
        return False
    return unit < _bias(rows, before, at, node, biases)


@njit(inline="always")
def _unit(state: Any) -> float:
    """A number in [0, 1) with 53 random bits."""
    return np.float64(mixed(state) >> np.uint64(11)) * _UNIT


@njit(nogil=True, cache=True)
def second_order(
    rows: Rows, biases: Array, excess: float, starts: Array, first: int, seed: int, out: Array
) -> None:
    """Fill `out` (walks, length) with node2vec walks by rejection; row r is walk number `first + r`.

    `biases` are alpha for going back, staying near and going away, over max(1, 1/q), the first cut down to 1;
    `excess` is what was cut off. A step goes back at once with the chance that the excess makes; else a
    neighbour is proposed by weight and kept with probability `biases`; a lane that rejects tries again in the
    next round. After 64 + degree rejections in a row the step is drawn exactly instead, which leaves the
    distribution as it is and bounds the work for extreme p and q.
    """
    n_walks, length = out.shape
    walk, steps, refused = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    states, odds = np.empty(LANES, np.uint64), np.empty(LANES, np.float64)
    at, before, proposed = np.empty(LANES, np.int32), np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    for group in range(0, n_walks, LANES):
        lanes = min(LANES, n_walks - group)
        for lane in range(lanes):
            walk[lane], steps[lane], refused[lane] = group + lane, 1, 0
            states[lane], odds[lane] = stream(seed, first + group + lane), 0.0
            at[lane], before[lane] = starts[group + lane], END
            out[group + lane, 0] = at[lane]
        while lanes > 0:
            for lane in range(lanes):
                low = rows.indptr[at[lane]]
                degree = rows.indptr[at[lane] + 1] - low
                proposed[lane] = END
                if degree > 0:
                    states[lane] += _GAMMA
                    proposed[lane] = _proposal(rows, low, degree, mixed(states[lane]))
            lane = 0
            while lane < lanes:
                node, came, to = at[lane], before[lane], proposed[lane]
                degree = rows.indptr[node + 1] - rows.indptr[node]
                keep = True
                if came != END and degree > 1:
                    states[lane] += _GAMMA
                    unit = _unit(states[lane])
                    if unit < odds[lane]:
                        to = came
                    elif refused[lane] >= 64 + degree:
                        states[lane] += _GAMMA
                        to = _exact_step(rows, came, node, biases, excess, _unit(states[lane]))
                    else:  # what is left of the unit above the odds is uniform again
                        keep = _kept(rows, came, node, to, biases, (unit - odds[lane]) / (1.0 - odds[lane]))
                if to == END:  # a dead end
                    out[walk[lane], steps[lane] :] = END
                    steps[lane] = length
                elif keep:
                    before[lane], at[lane], refused[lane] = node, to, 0
                    out[walk[lane], steps[lane]] = to
                    steps[lane] += 1
                    if excess > 0.0:
                        odds[lane] = _odds(rows, node, to, excess)
                else:
                    refused[lane] += 1
                if steps[lane] >= length:  # the last lane moves into the place of the finished one
                    lanes -= 1
                    walk[lane], steps[lane], refused[lane] = walk[lanes], steps[lanes], refused[lanes]
                    states[lane], odds[lane], at[lane] = states[lanes], odds[lanes], at[lanes]
                    before[lane], proposed[lane] = before[lanes], proposed[lanes]
                else:
                    lane += 1


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
        self.rows = Rows(
            graph.indptr, graph.indices, graph.directed, weights, accept, alias, totals, thresholds
        )
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
            second_order(self.rows, self.biases, self.excess, starts, first, self.settings.seed, out)
        else:
            first_order(self.rows, starts, first, self.settings.seed, out)
