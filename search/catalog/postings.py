"""Reads an FTS5 table of words: in which texts something occurs and how often, how long the texts are, how many."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.catalog.database import Transaction
from search.catalog.reads import listed
from search.errors import CollectionCorrupt
from search.vectors import Keys

K1, B = 1.2, 0.75  # of BM25, as FTS5 has them
_LEAST_IDF = 1e-6  # of what more than half of the texts hold, likewise
# One row for each time that a word stands in a text. Temporary: it only shows what the table of words holds.
_INSTANCES = "create virtual table if not exists temp.word_at using fts5vocab (main, word, 'instance')"
_LAST = "\U0010ffff"  # behind every letter
_AVERAGES = 1  # the row of FTS5's own data that holds how many texts there are and how many words they have


@dataclass(frozen=True, slots=True)
class Occurrences:
    """The texts that hold something: their keys (n,), ascending, and how often each holds it (n,)."""

    keys: Keys
    counts: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Totals:
    """How many texts there are, and how many words they have together."""

    n_texts: int
    n_words: int


def idf(n_texts: int, n_holding: int) -> float:
    """The weight of what `n_holding` of `n_texts` hold (Robertson & Zaragoza 2009, eq. 3.3)."""
    return max(math.log((n_texts - n_holding + 0.5) / (n_holding + 0.5)), _LEAST_IDF)


def lengthened(lengths: NDArray[np.int32], totals: Totals) -> NDArray[np.float64]:
    """What a count is compared with in BM25: K1, more for texts longer (in words) than the mean, less for shorter."""
    mean = totals.n_words / max(totals.n_texts, 1)
    return np.asarray(K1 * (1 - B + B * lengths / max(mean, 1e-12)), dtype=np.float64)


@contextmanager
def damage_told() -> Iterator[None]:
    """Say of SQLite's complaint about a damaged table which it is, and what to do.

    Raises:
        CollectionCorrupt: the index of words is damaged.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "malformed" not in str(error) and "corrupt" not in str(error):
            raise
        raise damaged() from error


def damaged() -> CollectionCorrupt:
    """The error for an index of words that cannot be answered from."""
    return CollectionCorrupt("the index of words is damaged; build it anew with: nearkin compact")


def of_words(transaction: Transaction, words: Sequence[str]) -> Occurrences:
    """Where any of some words occurs, given as the index holds them (small letters, no accents).

    Raises:
        CollectionCorrupt: the index of words is damaged.
    """
    transaction.sql(_INSTANCES)
    several = []
    with damage_told():
        for word in words:
            # All in one value: to make a row in Python takes longer than SQLite takes to find it.
            told = transaction.value("select group_concat(doc) from temp.word_at where term = ?", (word,))
            several.append(_numbers(told))
    docs = several[0] if len(several) == 1 else np.sort(np.concatenate([np.empty(0, np.int64), *several]))
    if not len(docs):
        return Occurrences(docs, np.empty(0, np.int32))
    begins = np.flatnonzero(np.concatenate([[True], docs[1:] != docs[:-1]]))
    return Occurrences(docs[begins], np.diff(begins, append=len(docs)).astype(np.int32))


def of_expression(
    transaction: Transaction, expression: str, totals: Totals, lengths: NDArray[np.int32]
) -> Occurrences:
    """Where a phrase or the beginning of a word occurs, given as an FTS5 expression of one phrase.

    FTS5 does not tell how often, only the BM25 that follows from it; so that is undone.

    Args:
        transaction: of the table.
        expression: one phrase, perhaps with a star.
        totals: of the texts of the table.
        lengths: (highest key + 1,) words of each of its texts, by key.

    Raises:
        CollectionCorrupt: the index of words is damaged.
    """
    with damage_told():
        rows = transaction.sql(
            "select rowid, -rank from word where word match ? order by rowid", (expression,)
        ).fetchall()
    if not rows:
        return Occurrences(np.empty(0, np.int64), np.empty(0, np.int32))
    found, scored = zip(*rows, strict=True)
    keys, scores = np.array(found, dtype=np.int64), np.array(scored, dtype=np.float64)
    if keys[-1] >= len(lengths) or (lengths[keys] < 0).any():
        raise damaged()
    weight = idf(totals.n_texts, len(keys)) * (K1 + 1)
    counts = scores * lengthened(lengths[keys], totals) / (weight - scores)
    return Occurrences(keys, np.rint(counts).astype(np.int32))


def n_with(transaction: Transaction, word: str) -> int:
    """How many texts hold a word, given as the index holds it; 0 if none does.

    Raises:
        CollectionCorrupt: the index of words is damaged.
    """
    with damage_told():
        return int(transaction.value("select doc from word_count where term = ?", (word,)) or 0)


def beginning_with(transaction: Transaction, prefix: str) -> dict[str, int]:
    """The words of the index that begin so, and how many texts hold each.

    Raises:
        CollectionCorrupt: the index of words is damaged.
    """
    with damage_told():
        rows = transaction.sql(
            "select term, doc from word_count where term >= ? and term < ?", (prefix, prefix + _LAST)
        )
        return {str(term): int(n) for term, n in rows}


def places_beginning_with(transaction: Transaction, prefix: str) -> list[tuple[str, Keys]]:
    """The words of the index that begin so, and the keys (n,), ascending, of the texts that hold each."""
    transaction.sql(_INSTANCES)
    rows = transaction.sql(
        "select term, group_concat(doc) from temp.word_at where term >= ? and term < ? group by term",
        (prefix, prefix + _LAST),
    )
    return [(str(term), np.unique(_numbers(docs))) for term, docs in rows]


def totals(transaction: Transaction) -> Totals:
    """The totals as FTS5 keeps them."""
    block = transaction.value("select block from word_data where id = ?", (_AVERAGES,))
    numbers = _varints(block or b"").tolist()
    return Totals(*numbers) if len(numbers) == 2 else Totals(0, 0)


def lengths(transaction: Transaction, among: Keys | None = None) -> tuple[Keys, NDArray[np.int32]]:
    """The keys (n,) of the texts, ascending, and how many words each has (n,); of all, or of those `among`.

    Raises:
        CollectionCorrupt: the index of words is damaged.
    """
    which = ""
    values: tuple[str, ...] = ()
    if among is not None:
        which, values = " where id in (select value from json_each(?))", (listed(among.tolist()),)
    ids, sizes = transaction.sql(
        f"select group_concat(id), group_concat(hex(sz), '') from word_docsize{which}",  # noqa: S608 - ours
        values,
    ).fetchone()
    found = np.fromstring(ids or "", dtype=np.int64, sep=",")
    words = _varints(bytes.fromhex(sizes or "")).astype(np.int32)
    if len(found) != len(words):
        raise damaged()
    order = np.argsort(found, kind="stable")
    return found[order], words[order]


def keys(transaction: Transaction) -> Keys:
    """The keys (n,) of the texts, ascending."""
    return _numbers(transaction.value("select group_concat(id) from word_docsize"))


def _numbers(text: str | None) -> Keys:
    """Whole numbers with commas between them, ascending."""
    found = np.fromstring(text or "", dtype=np.int64, sep=",")
    return found if (found[1:] >= found[:-1]).all() else np.sort(found)


def _varints(data: bytes) -> NDArray[np.int64]:
    """SQLite's numbers of variable length: 7 bits a byte, the highest first, of which the last is below 128."""
    read = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(read < 128)
    read = read[: ends[-1] + 1] if len(ends) else read[:0]
    begins = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    steps = np.repeat(ends, ends - begins + 1) - np.arange(len(read)) if len(ends) else ends
    shifted = (read & 127).astype(np.int64) << (7 * np.minimum(steps, 8))
    return np.add.reduceat(shifted, begins) if len(ends) else np.empty(0, np.int64)
