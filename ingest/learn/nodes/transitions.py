"""The steps of random walks in compiled code: neighbours by weight, search biases, and what tells edges quickly."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ingest.learn.nodes.chance import GAMMA, LOW, below, mixed, stream, unit

LANES = 64  # walks that one thread advances in turn, so that their cache misses overlap
END = -1  # fills a walk after a dead end
PATIENCE = 64  # and the degree on top: rejections in a row before a step is drawn exactly
EDGES_PER_WORD = 4  # of the filter; one in about fifty pairs without an edge then passes it

Array: TypeAlias = NDArray[Any]

_MIX = np.uint64(0xBF58476D1CE4E5B9)
_OPEN = -1.0  # the bias of a proposal that depends on an edge
_SURE = 2.0  # the bias of a step that is not refused


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
    filter: NDArray[np.uint64]  # tells most pairs that have no edge (`edge_filter`); empty: not made


@njit
def _named(given: tuple[Any, ...]) -> Any:
    """Rows from a plain tuple: numba looks at a named one for 0.1 ms in each call from Python."""
    return Rows(given[0], given[1], given[2], given[3], given[4], given[5], given[6], given[7], given[8])


# Arrays are handed to these one by one: taking one out of the tuple within a loop counts its references each time
# (which the compiler sees through in `first_order` alone).
@njit
def _drawn(accept: Array, alias: Array, low: int, degree: int, bits: Any) -> Any:
    """Where a neighbour stands that is drawn by weight from the row that begins at `low`."""
    k = below(bits, degree)
    if len(accept) > 0 and np.uint32(bits & LOW) > accept[low + k]:
        k = np.int64(alias[low + k])
    return low + k


@njit(inline="always")
def _neighbour(rows: Rows, low: int, degree: int, bits: Any) -> Any:
    """As `_drawn`, but the neighbour itself, and from the tuple."""
    k = below(bits, degree)
    if len(rows.accept) > 0 and np.uint32(bits & LOW) > rows.accept[low + k]:
        k = np.int64(rows.alias[low + k])
    return rows.indices[low + k]


@njit(nogil=True, cache=True)
def first_order(given: tuple[Any, ...], starts: Array, first: int, seed: int, out: Array) -> None:
    """Fill `out` (walks, length) with first-order walks; row r is walk number `first + r`; `given` are the Rows."""
    rows = _named(given)
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
            # Two passes: the loads of one pass do not wait for each other. Here the arrays stay in the tuple: with
            # each under a name of its own, as below, these walks take two and a half times as long.
            for lane in range(lanes):
                lows[lane] = rows.indptr[at[lane]]
                degrees[lane] = rows.indptr[at[lane] + 1] - lows[lane]
            for lane in range(lanes):
                if degrees[lane] > 0:
                    states[lane] += GAMMA
                    at[lane] = _neighbour(rows, lows[lane], degrees[lane], mixed(states[lane]))
                    out[group + lane, step] = at[lane]
                else:
                    out[group + lane, step] = END


@njit
def _place(indices: Array, low: int, high: int, node: int) -> Any:
    """Where the ascending slice indices[low:high] holds `node`; -1 if it does not."""
    size = high - low
    if size <= 0:
        return -1
    while size > 1:  # without a branch on what is found
        half = size >> 1
        low = low + half if indices[low + half] <= node else low
        size -= half
    return low if indices[low] == node else -1


@njit
def _edge(indptr: Array, indices: Array, directed: bool, before: int, node: int) -> Any:
    """Where the edge from `before` to `node` stands, or its twin in the other row; -1 if there is none."""
    low, high = indptr[before], indptr[before + 1]
    if not directed:  # an edge stands in both rows: search the shorter one
        other, end = indptr[node], indptr[node + 1]
        if end - other < high - low:
            return _place(indices, other, end, before)
    return _place(indices, low, high, node)


@njit
def filter_place(n_words: int, directed: bool, before: int, node: int) -> Any:
    """Which word of the filter, and which bits of it, an edge from `before` to `node` sets."""
    low, high = np.uint64(before), np.uint64(node)
    if not directed and node < before:
        low, high = high, low
    bits = (low << np.uint64(32) | high) * GAMMA
    bits = (bits ^ (bits >> np.uint64(32))) * _MIX
    word = np.int64((bits >> np.uint64(16)) & np.uint64(n_words - 1))
    first = np.uint64(1) << (bits >> np.uint64(58))
    return word, first | np.uint64(1) << ((bits >> np.uint64(52)) & np.uint64(63))


@njit(nogil=True, cache=True)
def fill_filter(rows: Rows) -> None:
    """Set the bits of all edges in the filter, which is a Bloom filter of two bits in one word (Putze et al. 2007).

    One cache miss tells that a pair has no edge, as nearly all pairs have that a walk asks about on a sparse graph,
    where a search in a list of neighbours takes several, one after the other.
    """
    indptr, indices, filter = rows.indptr, rows.indices, rows.filter
    for node in range(len(indptr) - 1):
        for place in range(indptr[node], indptr[node + 1]):
            if rows.directed or node <= indices[place]:
                word, bits = filter_place(len(filter), rows.directed, node, indices[place])
                filter[word] |= bits


@njit
def _bias(rows: Rows, before: int, at: int, node: int, biases: Array) -> Any:
    """The search bias of a step from `at` to `node`: 1/p to go back, 1 beside the node before, 1/q further away.

    In node2vec+ a weak edge from the node before counts as near by its strength, and as the lesser of near and
    away where the step itself would take a weak edge.
    """
    if node == before:
        return biases[0]
    place = _edge(rows.indptr, rows.indices, rows.directed, before, node)
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


@njit
def _share(weights: Array, totals: Array, place: int, node: int, excess: float) -> Any:
    """The share of `excess` of the edge that goes back from `node` (-1: there is none) in all that is proposed."""
    if place < 0:
        return 0.0
    back = excess * np.float64(weights[place])
    return back / (totals[node] + back)


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


@njit(nogil=True, cache=True)
def second_order(
    given: tuple[Any, ...], biases: Array, excess: float, starts: Array, first: int, seed: int, out: Array
) -> None:
    """Fill `out` (walks, length) with node2vec walks by rejection; row r is walk number `first + r`.

    `given` are the Rows. `biases` are alpha for going back, staying near and going away, over max(1, 1/q), the first
    cut down to 1; `excess` is what was cut off. A step goes back at once with the chance that the excess makes; else a
    neighbour is proposed by weight and kept with probability `biases`; a lane that rejects tries again in the
    next round. After PATIENCE + degree rejections in a row the step is drawn exactly instead, which leaves the
    distribution as it is and bounds the work for extreme p and q.

    A round goes over the lanes several times, so that the loads of one pass do not wait for each other: where the
    rows of the nodes lie, the proposals, the words of the filter, and only then the edges that may be there.
    """
    rows = _named(given)
    n_walks, length = out.shape
    indptr, indices, weights, totals = rows.indptr, rows.indices, rows.weights, rows.totals
    accept, alias, filter, directed = rows.accept, rows.alias, rows.filter, rows.directed
    plain, filtered = len(rows.thresholds) == 0, len(rows.filter) > 0
    sure, never = min(biases[1], biases[2]), max(biases[1], biases[2])
    walk, steps, refused = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    lows, degrees = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    states, rests = np.empty(LANES, np.uint64), np.empty(LANES, np.float64)
    words, bits, wanted = np.empty(LANES, np.uint64), np.empty(LANES, np.uint64), np.empty(LANES, np.float64)
    at, before, proposed = np.empty(LANES, np.int32), np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    for group in range(0, n_walks, LANES):
        lanes = min(LANES, n_walks - group)
        for lane in range(lanes):
            walk[lane], steps[lane], refused[lane] = group + lane, 1, 0
            states[lane], at[lane], before[lane] = (
                stream(seed, first + group + lane),
                starts[group + lane],
                END,
            )
            out[group + lane, 0] = at[lane]
        while lanes > 0:
            for lane in range(lanes):
                lows[lane] = indptr[at[lane]]
                degrees[lane] = indptr[at[lane] + 1] - lows[lane]
            for lane in range(lanes):
                proposed[lane] = END
                if degrees[lane] > 0:
                    states[lane] += GAMMA
                    place = _drawn(accept, alias, lows[lane], degrees[lane], mixed(states[lane]))
                    proposed[lane] = indices[place]
            for lane in range(lanes):
                came, to = before[lane], proposed[lane]
                wanted[lane], rests[lane] = _SURE, 0.0
                if came == END or degrees[lane] < 2:
                    continue
                states[lane] += GAMMA
                chance = unit(states[lane])
                odds = 0.0
                if excess > 0.0:
                    if len(weights) > 0:
                        place = _place(indices, lows[lane], lows[lane] + degrees[lane], came)
                        odds = _share(weights, totals, place, at[lane], excess)
                    elif not directed or _place(indices, lows[lane], lows[lane] + degrees[lane], came) >= 0:
                        odds = excess / (np.float64(degrees[lane]) + excess)
                returns = chance < odds
                if refused[lane] >= PATIENCE + degrees[lane] and not returns:
                    states[lane] += GAMMA
                    proposed[lane] = _exact_step(rows, came, at[lane], biases, excess, unit(states[lane]))
                    continue
                # What is left of the chance above the odds is uniform again.
                rests[lane] = (chance - odds) / (1.0 - odds)
                proposed[lane] = came if returns else to
                wanted[lane] = _SURE if returns else biases[0] if to == came else _OPEN
                if filtered:
                    word, bits[lane] = filter_place(len(filter), directed, came, to)
                    words[lane] = filter[word]
            lane = 0
            while lane < lanes:
                to, rest, bias = proposed[lane], rests[lane], wanted[lane]
                # Which way these go nobody foresees, so they are selections where they can be, not branches.
                maybe = not filtered or words[lane] & bits[lane] == bits[lane]
                is_open = bias == _OPEN
                if is_open and maybe and sure <= rest < never:
                    if plain:
                        place = _edge(indptr, indices, directed, before[lane], to)
                        bias = biases[1] if place >= 0 else biases[2]
                    else:
                        bias = _bias(rows, before[lane], at[lane], to, biases)
                elif is_open:
                    bias = biases[2] if not maybe else sure
                kept = rest < bias
                if to == END:  # a dead end
                    out[walk[lane], steps[lane] :] = END
                    steps[lane] = length
                else:
                    out[walk[lane], steps[lane]] = to  # what is refused is written over
                    steps[lane] += kept
                    before[lane] = at[lane] if kept else before[lane]
                    at[lane] = to if kept else at[lane]
                    refused[lane] = 0 if kept else refused[lane] + 1
                if steps[lane] >= length:  # the last lane moves into the place of the finished one
                    lanes -= 1
                    walk[lane], steps[lane], refused[lane] = walk[lanes], steps[lanes], refused[lanes]
                    states[lane], at[lane], before[lane] = states[lanes], at[lanes], before[lanes]
                    proposed[lane], wanted[lane], rests[lane] = proposed[lanes], wanted[lanes], rests[lanes]
                    words[lane], bits[lane] = words[lanes], bits[lanes]
                else:
                    lane += 1
