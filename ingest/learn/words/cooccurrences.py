"""Counts which words stand near which, as a sparse matrix, in pieces so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from search.errors import SourceError

MOST_PAIRS = 150_000_000  # different pairs held: 1.8 GB of them, and twice that while they are merged


def count_cooccurrences(
    pieces: Iterable[tuple[NDArray[np.int32], NDArray[np.int32]]], n_words: int, window: int
) -> csr_matrix:
    """X (n_words, n_words), symmetric, float64: X[i, j] sums 1 / distance over the places where i and j stand near.

    Both directions count, so a word that stands near itself counts twice, as in the GloVe program.
    Pennington, Socher & Manning 2014, "GloVe", sec. 4.2.

    Args:
        pieces: rows of words in the order of the text, and beside each the number of its line; no pair crosses
            the end of a line, and no line crosses the end of a piece.
        n_words: how many different words there are.
        window: the greatest distance that counts.

    Raises:
        SourceError: there are more different pairs than fit in memory.
    """
    # Pieces are merged like numbers in binary: each is added to one of its own size, so none is copied often.
    merged: list[csr_matrix] = []
    for words, lines in pieces:
        merged.append(_ahead(words, lines, n_words, window))
        while len(merged) > 1 and merged[-2].nnz <= 2 * merged[-1].nnz:
            merged[-2:] = [merged[-2] + merged[-1]]
        if sum(one.nnz for one in merged) > MOST_PAIRS:
            raise SourceError(
                f"these texts hold more than {MOST_PAIRS:,} pairs of words; leave out rarer words by a higher "
                "min_count or fewer most_words"
            )
    total = csr_matrix((n_words, n_words), dtype=np.float64)
    for one in reversed(merged):
        total = total + one
    both = (total + total.T).tocsr()
    both.sort_indices()
    return both


def _ahead(words: NDArray[np.int32], lines: NDArray[np.int32], n_words: int, window: int) -> csr_matrix:
    """The pairs of a piece with the word that comes first as the row."""
    rows, columns, weights = [], [], []
    for distance in range(1, min(window, len(words) - 1) + 1):
        near = lines[distance:] == lines[:-distance]
        rows.append(words[:-distance][near])
        columns.append(words[distance:][near])
        weights.append(np.full(len(rows[-1]), 1.0 / distance))
    if not rows:
        return csr_matrix((n_words, n_words), dtype=np.float64)
    pairs = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return coo_matrix(pairs, shape=(n_words, n_words)).tocsr()
