"""Skip-gram with negative sampling over integer sequences, in parallel and with the same bytes for any threads."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ingest.learn.nodes.chance import GAMMA, HALF, LOW, below, mixed, stream, unit
from ingest.learn.nodes.step import LANES, sgd_step
from ingest.learn.nodes.transitions import END
from search.errors import ModelError

ENTRIES_PER_ROW = 16  # of a block's table of negatives, on average; a table is faster than an alias table
ENTRIES_OF_RAREST = 4  # as many entries as give the rarest row this many ...
MOST_ENTRIES = 1 << 18  # ... but not more than this
DRAWN = 3  # negatives per pair, at most; where more are asked for, each counts for several
ROWS_PER_TASK = 256  # sequences that one thread thins out at a time
# One salt for each use of chance, so that the streams of a walk number do not meet.
_THIN, _WINDOW, _NEGATIVE = 0x51A7, 0x3C0B, 0x77E9

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SkipGramSettings:
    """How vectors are learned (Mikolov et al. 2013).

    `window` is the greatest distance of a context, drawn anew for each token from 1 to `window`; `negatives` is
    what negatives count for, per pair: where that is more than three, three are drawn and count for all; `sample` is
    the frequency above which tokens are thinned out (0: never); the learning rate falls linearly from `rate` to
    `last_rate` over all epochs.
    """

    dim: int = 128
    window: int = 10
    negatives: int = 5
    epochs: int = 1
    rate: float = 0.025
    last_rate: float = 1e-4
    sample: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "window", "negatives", "epochs"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}; give at least 1")
        if not 0 < self.last_rate <= self.rate <= 1:
            raise ModelError(f"rate is {self.rate} down to {self.last_rate}; give falling numbers in (0, 1]")
        if not (math.isfinite(self.sample) and self.sample >= 0):
            raise ModelError(f"sample is {self.sample}; give 0 for no thinning, or a small positive number")


class Blocks(NamedTuple):
    """Tokens dealt out to blocks, the most frequent first, so that blocks weigh about the same.

    `codes` (n,) int32 is (block << shift) | row inside the block; each block has `size` rows (the last ones of
    some blocks stay unused).
    """

    n_blocks: int
    size: int
    shift: int
    codes: NDArray[np.int32]


class Pairs(NamedTuple):
    """The contexts of all centers of one block, grouped by the context's block, then by center.

    Group g = block * size + center holds contexts[ends[g - 1]:ends[g]], as rows inside their block;
    `per_center` says how many contexts a center has in all blocks together.
    """

    contexts: NDArray[np.int32]
    ends: NDArray[np.int32]
    per_center: NDArray[np.int32]


class Noise(NamedTuple):
    """Negatives of one block: `table` holds each row as often as it is to be drawn.

    `per_pair` are drawn, on average, and each counts `weight` times.
    """

    table: NDArray[np.int32]
    per_pair: float
    weight: np.float32


def deal(frequencies: NDArray[np.int64]) -> Blocks:
    """The blocks of a vocabulary; their number follows from its size alone, never from the threads."""
    n = len(frequencies)
    count = 1 if n < 32 else 4 if n < 256 else 8 if n < 4096 else 16
    size = -(-n // count)
    shift = max(1, (size - 1).bit_length())
    rank = np.empty(n, np.int64)
    rank[np.argsort(-frequencies, kind="stable")] = np.arange(n)
    return Blocks(count, size, shift, ((rank % count << shift) | rank // count).astype(np.int32))


def keep_chances(frequencies: NDArray[np.int64], sample: float) -> NDArray[np.float64]:
    """The chance that an occurrence of each token is kept, as in the word2vec program of Mikolov et al. 2013."""
    if sample == 0:
        return np.ones(len(frequencies))
    ratio: NDArray[np.float64] = sample * float(frequencies.sum()) / np.maximum(frequencies, 1)
    return np.minimum(1.0, np.sqrt(ratio) + ratio)


def aligned_zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros that begin at a cache line, so that no vector of a row lies across two (about a twentieth faster)."""
    size = 4 * math.prod(shape)
    memory = np.zeros(size + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + size].view(np.float32).reshape(shape)


@njit(nogil=True, cache=True)
def _thin(rows: Array, first: int, codes: Array, keep: Array, seed: int) -> None:
    """Replace tokens by their codes in place, dropping frequent ones by chance; END fills the rest of a row."""
    for row in range(rows.shape[0]):
        state = stream(seed, first + row)
        kept = 0
        for k in range(rows.shape[1]):
            token = rows[row, k]
            if token == END:
                break
            state += GAMMA
            if unit(state) < keep[token]:
                rows[row, kept] = codes[token]
                kept += 1
        rows[row, kept:] = END


@njit(nogil=True, cache=True)
def _gather(
    rows: Array, first: int, block: int, blocks: tuple[int, int, int, Array], window: int, seed: int
) -> Pairs:
    """The pairs of the tokens in `rows` whose center is in this block, each token with a window of its own."""
    n_blocks, size, shift, _ = blocks  # a plain tuple, as for `_train`
    mask = (1 << shift) - 1
    length = rows.shape[1]
    ends = np.zeros(n_blocks * size, np.int32)
    per_center = np.zeros(size, np.int32)
    contexts = np.empty(0, np.int32)
    for writing in (False, True):
        if writing:
            total = 0
            for group in range(len(ends)):  # counts become the places where groups begin
                count = ends[group]
                ends[group] = total
                per_center[group % size] += count
                total += count
            contexts = np.empty(total, np.int32)
        for row in range(rows.shape[0]):
            state = stream(seed, first + row)
            for k in range(length):
                code = rows[row, k]
                if code == END:
                    break
                if code >> shift != block:
                    continue
                reach = window - below(mixed(state + np.uint64(k) * GAMMA), window)
                center = code & mask
                for other in range(max(0, k - reach), min(length, k + reach + 1)):
                    context = rows[row, other]
                    if context == END:
                        break
                    if other == k:
                        continue
                    group = (context >> shift) * size + center
                    if writing:
                        contexts[ends[group]] = context & mask
                    ends[group] += 1
    return Pairs(contexts, ends, per_center)


@njit(nogil=True, cache=True)
def _train(
    tiles: tuple[int, ...],
    inputs: Array,
    outputs: Array,
    given: tuple[Array, Array, Array],
    block: int,
    drawn: tuple[Array, float, Any],
    rate: float,
    state: Any,
) -> None:
    """Train the centers of one block (rows `inputs`) against contexts and negatives of another (`outputs`).

    `given` are Pairs and `drawn` is Noise as plain tuples: numba looks at a named one for 0.1 ms in each call.

    The number of a center's negatives follows from its contexts in *all* blocks (a fraction is settled by
    chance), so a negative is as likely as if it were drawn from the whole vocabulary.
    """
    size = inputs.shape[0]
    pairs, noise = Pairs(given[0], given[1], given[2]), Noise(drawn[0], drawn[1], drawn[2])
    per_step = 16  # targets between two moves of the center
    targets = np.empty(4096, np.int32)
    span = np.uint64(len(noise.table))
    for center in range(size):
        if pairs.per_center[center] == 0:
            continue
        group = block * size + center
        low = np.int64(pairs.ends[group - 1]) if group > 0 else 0
        positives = pairs.ends[group] - low
        state += GAMMA
        total = positives + np.int64(pairs.per_center[center] * noise.per_pair + unit(state))
        if total >= len(targets):
            targets = np.empty(2 * total, np.int32)
        for k in range(0, total, 2):  # two from each number; what the last writes behind the end is not read
            state += GAMMA
            bits = mixed(state)
            targets[k] = noise.table[((bits >> HALF) * span) >> HALF]
            targets[k + 1] = noise.table[((bits & LOW) * span) >> HALF]
        if positives > 0:  # evenly spread among the negatives
            apart = (total << 20) // positives
            for k in range(positives):
                targets[(k * apart) >> 20] = ~pairs.contexts[low + k]
        for k in range(0, total, per_step):
            sgd_step(
                tiles,
                inputs,
                center,
                outputs,
                targets,
                k,
                min(k + per_step, total),
                rate,
                noise.weight,
            )


class SkipGram:
    """Learns one vector per token from sequences of tokens.

    Parallel without races: tokens lie in blocks; a chunk of sequences is turned into pairs by (center's block,
    context's block), and pairs of blocks that share neither side are trained at the same time, as Zhu et al.
    2019 (GraphVite) do. Which pairs of blocks go together, and every random number, depend on the data and the
    seed alone, so the result has the same bytes for any number of threads.

    Args:
        frequencies: (n,) how often each token is expected; only the proportions matter.
        settings: how to learn.
    """

    def __init__(self, frequencies: NDArray[np.int64], settings: SkipGramSettings) -> None:
        self.settings = settings
        self.blocks = blocks = deal(frequencies)
        self._keep = keep_chances(frequencies, settings.sample)
        codes = blocks.codes.astype(np.int64)
        self.rows = (codes >> blocks.shift) * blocks.size + (codes & ((1 << blocks.shift) - 1))
        n, dim, width = len(frequencies), settings.dim, -(-settings.dim // LANES) * LANES
        self._tiles = (0,) * (width // LANES)
        shape = (blocks.n_blocks, blocks.size, width)
        self._inputs, self._outputs = aligned_zeros(shape), aligned_zeros(shape)
        start = np.random.default_rng([settings.seed, 1]).random((n, dim), np.float32)
        self._inputs.reshape(-1, width)[self.rows, :dim] = (start - np.float32(0.5)) / np.float32(dim)
        mass = np.zeros(blocks.n_blocks * blocks.size)
        mass[self.rows] = np.maximum(frequencies, 1) ** 0.75
        self.noise = [self._noise_of(part, mass.sum()) for part in mass.reshape(blocks.n_blocks, blocks.size)]

    def _noise_of(self, mass: NDArray[np.float64], total: float) -> Noise:
        """The negatives of a block: each row in its share of the table (to one entry)."""
        reached = np.cumsum(mass)
        rare = math.ceil(ENTRIES_OF_RAREST * reached[-1] / mass[mass > 0].min())
        n_entries = max(ENTRIES_PER_ROW * len(mass), min(rare, MOST_ENTRIES))
        entries = (np.arange(n_entries) + 0.5) * (reached[-1] / n_entries)
        table = np.searchsorted(reached, entries).astype(np.int32)
        drawn = min(self.settings.negatives, DRAWN)
        weight = np.float32(self.settings.negatives / drawn)
        return Noise(table, drawn * float(reached[-1] / total), weight)

    def contexts(self) -> NDArray[np.float32]:
        """The output vectors as they are now: (n, dim) float32; a token's vector against these gives its scores."""
        rows = self._outputs.reshape(-1, self._outputs.shape[2])[self.rows, : self.settings.dim]
        return np.ascontiguousarray(rows)

    def vectors(self) -> NDArray[np.float32]:
        """The vectors as they are now: (n, dim) float32, row i is token i."""
        rows = self._inputs.reshape(-1, self._inputs.shape[2])[self.rows, : self.settings.dim]
        return np.ascontiguousarray(rows)

    def learn(
        self, rows: NDArray[np.int32], first: int, rate: float, pool: ThreadPoolExecutor | None
    ) -> None:
        """Take in a chunk of sequences.

        Args:
            rows: (m, length) int32 tokens, -1 after the end of a sequence; overwritten.
            first: the number of the first sequence among all.
            rate: the learning rate of this chunk.
            pool: whose threads share the work; None to work in the calling thread.
        """
        run = map if pool is None else pool.map
        n_blocks, seed = self.blocks.n_blocks, self.settings.seed

        def train(center: int, context: int) -> None:
            chance = np.random.SeedSequence([seed, _NEGATIVE, first, center, context])
            state = chance.generate_state(1, np.uint64)[0]
            inputs, outputs, noise = self._inputs[center], self._outputs[context], self.noise[context]
            _train(
                self._tiles,
                inputs,
                outputs,
                tuple(pairs[center]),
                context,
                tuple(noise),
                np.float32(rate),
                state,
            )

        pairs = self.pairs(rows, first, pool)
        for turn in range(n_blocks):  # in a turn, no two tasks touch the same rows
            list(run(train, range(n_blocks), [(k + turn) % n_blocks for k in range(n_blocks)]))

    def pairs(self, rows: NDArray[np.int32], first: int, pool: ThreadPoolExecutor | None) -> list[Pairs]:
        """The pairs of a chunk of sequences, one `Pairs` for each block of centers; `rows` is overwritten."""
        run = map if pool is None else pool.map
        blocks, window, seed = self.blocks, self.settings.window, self.settings.seed

        def thin(low: int) -> None:
            _thin(rows[low : low + ROWS_PER_TASK], first + low, blocks.codes, self._keep, seed ^ _THIN)

        def gather(block: int) -> Pairs:
            return Pairs(*_gather(rows, first, block, tuple(blocks), window, seed ^ _WINDOW))

        list(run(thin, range(0, len(rows), ROWS_PER_TASK)))
        return list(run(gather, range(blocks.n_blocks)))
