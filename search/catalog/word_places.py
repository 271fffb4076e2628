"""Where words stand in the texts, as the index of words knows it: which, how often, in how long a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from search.catalog import reads
from search.catalog.database import Transaction
from search.vectors import Keys

_LAST = "\U0010ffff"  # behind every letter
_AVERAGES = 1  # FTS5's own record of how many texts and words there are
_BITS, _GOES_ON = 7, 0x80  # of a number in SQLite's varying length


def beginning_with(transaction: Transaction, prefix: str) -> list[tuple[str, int]]:
    """The words of the index that begin so, and how many texts hold each."""
    rows = transaction.sql(
        "select term, doc from word_count where term >= ? and term < ?", (prefix, prefix + _LAST)
    )
    return [(str(term), int(n)) for term, n in rows]


def counts(transaction: Transaction, words: Sequence[str]) -> tuple[Keys, NDArray[np.int64]]:
    """Keys, ascending, of the records that hold one of the words, and how often they hold any of them."""
    # It lives in the connection, not in the file: collections that were made before have it too.
    transaction.sql(
        "create virtual table if not exists temp.word_place using fts5vocab ('main', 'word', 'instance')"
    )
    places: list[int] = []
    for word in words:
        places += [
            row[0] for row in transaction.sql("select doc from temp.word_place where term = ?", (word,))
        ]
    keys, found = np.unique(np.array(places, dtype=np.int64), return_counts=True)
    return keys, found.astype(np.int64)


def lengths(transaction: Transaction, keys: Keys) -> NDArray[np.int64]:
    """How many words the text of each of these records (n,) has; their keys ascend, and each has a text."""
    rows = transaction.sql(
        "select sz from word_docsize where id in (select value from json_each(?)) order by id",
        (reads.listed(keys.tolist()),),
    )
    return np.array([next(_numbers(row[0])) for row in rows], dtype=np.int64)


def totals(transaction: Transaction) -> tuple[int, int]:
    """How many texts there are, and how many words in all of them."""
    numbers = _numbers(transaction.value("select block from word_data where id = ?", (_AVERAGES,)) or b"")
    return next(numbers, 0), next(numbers, 0)


def _numbers(data: bytes) -> Iterator[int]:
    """The numbers in a blob of SQLite's varying length, none of which is beyond 56 bits."""
    number = 0
    for byte in data:
        number = number << _BITS | byte & ~_GOES_ON
        if byte < _GOES_ON:
            yield number
            number = 0
