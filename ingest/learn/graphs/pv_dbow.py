"""PV-DBOW with negative sampling in compiled code, in parallel and with the same bytes for any number of threads."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from ingest.learn.nodes.chance import mixed, stream
from ingest.learn.nodes.skipgram import aligned_zeros
from ingest.learn.nodes.step import LANES, sgd_step

Array: TypeAlias = NDArray[Any]

MOST_BLOCKS = 8  # of documents and of words; as many threads find work
FEWEST_PER_BLOCK = 16
ENTRIES_PER_WORD = 16  # of a table of negatives, on average
DRAWN = 2  # negatives a word, at most; where more are asked for, each counts for several
_PER_STEP = 6  # words, true or drawn, between two moves of the document
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_UNIT = 2.0**-53


@dataclass(frozen=True, slots=True)
class DbowSettings:
    """How words are learned: `epochs` over all of them; the rate falls linearly from `rate` to `last_rate`."""

    dim: int
    epochs: int
    negatives: int = 5
    rate: float = 0.025
    last_rate: float = 1e-4
    seed: int = 0


class Cell(NamedTuple):
    """The words that the documents of one block have in one block of words.

    Document d has `words[ends[d]:ends[d + 1]]`, rows inside their block, each as often as `counts` says.
    """

    ends: NDArray[np.int64]
    words: NDArray[np.int32]
    counts: NDArray[np.int32]


@njit(nogil=True, cache=True)
def train_cell(
    tiles: tuple[int, ...],
    documents: Array,
    outputs: Array,
    cell: Cell,
    totals: Array,
    noise: tuple[Array, float, float],
    rate: float,
    chance: tuple[int, int, int],
) -> None:
    """Train the documents of a block (rows) on their words in one block of `outputs`, and these with them.

    A document draws `noise[1]` negatives for each of its words in *all* blocks (a fraction is settled by chance), each
    row of this block as likely as `noise[0]` holds it, each counting `noise[2]` times. So a negative is as likely as
    if it were drawn from the whole vocabulary. `chance` is the seed, and the number of documents before this block's
    and of documents in all blocks, which tell the streams of random numbers apart.
    """
    table, per_word, weight = noise
    targets = np.empty(1024, np.int32)
    span = np.uint64(len(table))
    for document in range(len(cell.ends) - 1):
        if totals[document] == 0:
            continue
        low, high = cell.ends[document], cell.ends[document + 1]
        positives = np.int64(0)
        for k in range(low, high):
            positives += cell.counts[k]
        state = stream(chance[0], chance[1] + document * chance[2])
        state += _GAMMA
        unit = np.float64(mixed(state) >> np.uint64(11)) * _UNIT
        total = positives + np.int64(totals[document] * per_word + unit)
        if total > len(targets):
            targets = np.empty(2 * total, np.int32)
        for k in range(total):
            state += _GAMMA
            targets[k] = table[((mixed(state) >> _HALF) * span) >> _HALF]
        place = np.int64(0)
        for k in range(low, high):
            for _ in range(cell.counts[k]):  # evenly spread among the negatives
                targets[place * total // positives] = ~cell.words[k]
                place += 1
        for k in range(0, total, _PER_STEP):
            until = min(k + _PER_STEP, total)
            sgd_step(tiles, documents, document, outputs, targets, k, until, rate, weight)


class Dbow:
    """Learns a vector for each word (and each document) from counts of words in documents.

    Parallel without races: documents and words are dealt into blocks; at one time each block of documents is trained
    with another block of words (as Zhu et al. 2019, GraphVite, do for nodes). Which goes with which, and every random
    number, depend on counts and seed alone, so the result has the same bytes for any number of threads.
    Le & Mikolov 2014, sec. 2.3; Mikolov et al. 2013, eq. 4.

    Args:
        counts: (n, v) how often each document has each word; whole numbers.
        settings: how to learn.
    """

    def __init__(self, counts: sparse.csr_matrix, settings: DbowSettings) -> None:
        self.settings = settings
        n, v = counts.shape
        self.n_blocks = max(1, min(MOST_BLOCKS, n // FEWEST_PER_BLOCK, v // FEWEST_PER_BLOCK))
        frequencies = np.asarray(counts.sum(axis=0)).ravel()
        order = np.argsort(-frequencies, kind="stable")
        self._places = np.empty(v, np.int64)  # of a word: the frequent ones spread over the blocks
        self._places[order] = np.arange(v)
        self._sizes = -(-n // self.n_blocks), -(-v // self.n_blocks)
        width = -(-settings.dim // LANES) * LANES
        self._tiles = (0,) * (width // LANES)
        self.documents = aligned_zeros((self.n_blocks, self._sizes[0], width))
        self.outputs = aligned_zeros((self.n_blocks, self._sizes[1], width))
        start = np.random.default_rng([settings.seed, 1]).random((n, settings.dim), np.float32)
        numbers = np.arange(n)
        self.documents[numbers % self.n_blocks, numbers // self.n_blocks, : settings.dim] = (
            start - np.float32(0.5)
        ) / np.float32(settings.dim)
        self.noise = frequencies**0.75 / max((frequencies**0.75).sum(), 1e-300)
        self._cells = [self._cells_of(counts, block) for block in range(self.n_blocks)]
        totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.int64)
        self._totals = [totals[block :: self.n_blocks] for block in range(self.n_blocks)]
        self._tables = [self._table_of(block) for block in range(self.n_blocks)]

    def _cells_of(self, counts: sparse.csr_matrix, block: int) -> list[Cell]:
        some = counts[block :: self.n_blocks].tocoo()
        places = self._places[some.col]
        owner, rows = places % self.n_blocks, (places // self.n_blocks).astype(np.int32)
        n = some.shape[0]
        cells = []
        for other in range(self.n_blocks):
            here = np.flatnonzero(owner == other)
            order = here[np.lexsort((rows[here], some.row[here]))]
            ends = np.concatenate([[0], np.cumsum(np.bincount(some.row[order], minlength=n))])
            cells.append(Cell(ends.astype(np.int64), rows[order], some.data[order].astype(np.int32)))
        return cells

    def _table_of(self, block: int) -> tuple[Array, float, float]:
        """The negatives of a block of words: each row in its share, and how many are drawn for a word."""
        drawn = min(self.settings.negatives, DRAWN)
        mine = np.flatnonzero(self._places % self.n_blocks == block)
        mass = np.zeros(self._sizes[1])
        mass[self._places[mine] // self.n_blocks] = self.noise[mine]
        reached = np.cumsum(mass)
        n_entries = ENTRIES_PER_WORD * len(mass)
        entries = (np.arange(n_entries) + 0.5) * (reached[-1] / n_entries)
        table = np.searchsorted(reached, entries).astype(np.int32)
        return table, drawn * float(reached[-1]), float(self.settings.negatives / drawn)

    def learn(self, threads: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Go over all words as often as the settings say."""
        settings, blocks = self.settings, range(self.n_blocks)
        with ThreadPoolExecutor(threads) as pool:
            for epoch in range(settings.epochs):
                if progress is not None:
                    progress(epoch, settings.epochs)
                rate = max(settings.last_rate, settings.rate * (1 - epoch / settings.epochs))
                for turn in blocks:  # in a turn, no two blocks touch the same rows

                    def train(block: int, turn: int = turn, epoch: int = epoch, rate: float = rate) -> None:
                        self._train(block, (block + turn) % self.n_blocks, epoch, rate)

                    list(pool.map(train, blocks))
        if progress is not None:
            progress(settings.epochs, settings.epochs)

    def _train(self, block: int, other: int, epoch: int, rate: float) -> None:
        number = (epoch * self.n_blocks + other) * self.n_blocks * self._sizes[0] + block
        table, per_word, weight = self._tables[other]
        train_cell(
            self._tiles,
            self.documents[block],
            self.outputs[other],
            self._cells[block][other],
            self._totals[block],
            (table, per_word, np.float32(weight)),
            np.float32(rate),
            (self.settings.seed, number, self.n_blocks),
        )

    def words(self) -> NDArray[np.float32]:
        """The words' vectors as they are now: (v, dim) float32."""
        rows = self.outputs[self._places % self.n_blocks, self._places // self.n_blocks]
        return np.ascontiguousarray(rows[:, : self.settings.dim])
