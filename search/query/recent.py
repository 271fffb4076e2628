"""Texts that came or changed lately, in an FTS5 table in memory; and queries cut into words by the same tokenizer."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.catalog import full_text, postings
from search.catalog.database import Transaction
from search.catalog.postings import Occurrences
from search.vectors import Keys

_MOST_TERMS = 20_000  # of words of queries that are remembered as the index holds them


class Recent:
    """An index like the catalog's, of a few texts, in memory. It is used by one thread at a time."""

    def __init__(self) -> None:
        # Whoever holds the lock uses it, so that it may be made by one thread and closed by another.
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, connection.close)
        self._transaction = Transaction(connection)
        for statement in full_text.IN_MEMORY:
            self._transaction.sql(statement)
        self._terms: dict[str, tuple[str, ...]] = {}
        self._lengths = np.empty(0, np.int32)  # by key, as far as there are texts; -1 where there is none
        self.n = 0

    def put(self, texts: Sequence[tuple[int, str]]) -> tuple[Keys, NDArray[np.int32]]:
        """Take in texts by their keys, in place of those that were there; the keys (n,) and their words (n,)."""
        self._transaction.sql("begin")
        self._transaction.many(
            "insert or replace into word (rowid, text) values (?, ?)",
            [(key, full_text.spaced(text)) for key, text in texts],
        )
        self._transaction.sql("commit")
        keys, lengths = postings.lengths(self._transaction, np.array([key for key, _ in texts], np.int64))
        if len(keys) and keys[-1] >= len(self._lengths):
            room = np.full(int(keys[-1]) + 1 - len(self._lengths), -1, np.int32)
            self._lengths = np.concatenate([self._lengths, room])
        self._lengths[keys] = lengths
        self.n = int(self._transaction.value("select count(*) from word_docsize"))
        return keys, lengths

    def terms(self, words: str) -> tuple[str, ...]:
        """The words in a query as an index holds them: small letters, no accents, in their order."""
        if words.isascii():  # letters, digits and blanks alone: nothing to be told by the tokenizer
            return tuple(words.lower().split())
        found = self._terms.get(words)
        if found is None:
            if len(self._terms) >= _MOST_TERMS:
                self._terms.clear()
            self._transaction.sql("insert or replace into asked (rowid, text) values (1, ?)", (words,))
            rows = self._transaction.sql("select term from asked_at order by offset").fetchall()
            found = self._terms[words] = tuple(row[0] for row in rows)
        return found

    def beginning_with(self, prefix: str) -> list[tuple[str, Keys]]:
        """The words of these texts that begin so, and the keys (n,) of the texts that hold each."""
        return postings.places_beginning_with(self._transaction, prefix)

    def of(self, forms: Sequence[str], expression: str = "") -> Occurrences:
        """Where any of some words occurs, given as an index holds them, or what an expression says."""
        if not expression:
            return postings.of_words(self._transaction, forms)
        totals = postings.totals(self._transaction)
        return postings.of_expression(self._transaction, expression, totals, self._lengths)
