"""Ranks records by the words of a query: BM25, added up word by word; what words asked lately gave is kept."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from search.catalog import full_text
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.vectors import Keys

MOST_WORDS = 256  # of a query are looked for: as many as most text models read
_BYTES = 64 << 20  # of the words asked lately
_OVERHEAD = 300  # bytes of a word that no text has

_PIECES = re.compile(r'"([^"]*)"|([^\W_]+)(\*?)')
_RUN = re.compile(f"[{full_text.UNSPACED}]+|[^{full_text.UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is looked for as one: a word, the words of a phrase, or the beginning of a word."""

    shown: str  # as it is told to the user
    words: str  # as FTS5 splits them
    prefix: bool = False

    @property
    def expression(self) -> str:
        """For FTS5; what stands in quotes is never read as its syntax, and `words` holds no quotes."""
        return f'"{self.words}" *' if self.prefix else f'"{self.words}"'


def units(query: str) -> list[Unit]:
    """What a query looks for: its words, "phrases" and beginnings of words*, each once, the first 256 of them.

    Of scripts without blanks between words each two neighbouring characters are looked for.
    """
    found: dict[tuple[str, bool], Unit] = {}
    for match in _PIECES.finditer(unicodedata.normalize("NFC", query.replace("\0", " "))):
        phrase, word, star = match.groups()
        if phrase is not None:
            words = " ".join(re.findall(r"[^\W_]+", full_text.spaced(phrase)))
            made = [Unit(f'"{phrase}"', words)] if words else []
        else:
            made = _of_word(word, prefix=bool(star))
        for unit in made:
            found.setdefault((unit.words.casefold(), unit.prefix), unit)
        if len(found) >= MOST_WORDS:
            break
    return list(found.values())[:MOST_WORDS]


def _of_word(word: str, *, prefix: bool) -> list[Unit]:
    made: list[Unit] = []
    for run in _RUN.findall(word):
        if full_text.spaced(run) == run:
            made.append(Unit(run + "*" * prefix, run, prefix))
        elif len(run) == 1:
            made.append(Unit(run, run))
        else:
            made += [Unit(pair, " ".join(pair)) for pair in map("".join, pairwise(run))]
    return made


def without_marks(query: str) -> str:
    """The query as the text model should read it: without the quotes of phrases and the stars of prefixes."""
    return re.sub(r'(?<=\w)\*|"', " ", query)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Records that hold some of the words, by key ascending, with their BM25; and by which units they were found."""

    keys: Keys
    scores: NDArray[np.float64]
    by_unit: Sequence[tuple[Unit, Keys]]

    def words_of(self, key: int) -> list[str]:
        """What of the query a record holds."""
        return [unit.shown for unit, keys in self.by_unit if _holds(keys, key)]


def _holds(keys: Keys, key: int) -> bool:
    at = int(np.searchsorted(keys, key))
    return at < len(keys) and int(keys[at]) == key


@dataclass(slots=True)
class _Kept:
    """What the words asked lately gave, as of one commit."""

    commit: tuple[str, int] = ("", -1)
    n_texts: int = 0
    found: OrderedDict[str, tuple[Keys, NDArray[np.float64]]] = field(default_factory=OrderedDict)
    common: dict[str, bool] = field(default_factory=dict)
    n_bytes: int = 0


class Keywords:
    """BM25 over the records of a collection. Several threads may ask at once."""

    def __init__(self) -> None:
        self._kept = _Kept()
        self._lock = threading.Lock()

    def ranking(self, transaction: Transaction, state: State, query: str) -> Ranking:
        """The records that hold some of the query's words.

        The score is the sum over its units of their BM25 (Robertson & Zaragoza 2009, sec. 3.3) as FTS5 computes it.
        Words that at least half of the texts hold, to which it gives next to nothing, are left out where there are
        others.

        Raises:
            CollectionCorrupt: the index of words is damaged.
        """
        wanted = units(query)
        with self._lock:
            kept = self._current(transaction, state)
            rare = [unit for unit in wanted if not self._common(transaction, kept, unit)]
            found = [(unit, *self._found(transaction, kept, unit)) for unit in rare or wanted]
        found = [one for one in found if len(one[1])]
        if not found:
            return Ranking(np.empty(0, np.int64), np.empty(0, np.float64), [])
        keys, inverse = np.unique(np.concatenate([keys for _, keys, _ in found]), return_inverse=True)
        added = np.concatenate([scores for _, _, scores in found])
        scores: NDArray[np.float64] = np.bincount(inverse, added, len(keys)).astype(np.float64)
        return Ranking(keys, scores, [(unit, some) for unit, some, _ in found])

    def _current(self, transaction: Transaction, state: State) -> _Kept:
        commit = (state.uuid, state.commit_seq)
        if self._kept.commit != commit:
            self._kept = _Kept(commit, full_text.count(transaction))
        return self._kept

    @staticmethod
    def _common(transaction: Transaction, kept: _Kept, unit: Unit) -> bool:
        """Whether at least half of the texts hold this word, so that it tells nothing."""
        if unit.prefix or " " in unit.words:
            return False
        folded = unicodedata.normalize("NFD", unit.words.lower())
        word = "".join(letter for letter in folded if not unicodedata.combining(letter))
        if word not in kept.common:
            kept.common[word] = 2 * full_text.n_with(transaction, word) >= kept.n_texts
        return kept.common[word]

    @staticmethod
    def _found(transaction: Transaction, kept: _Kept, unit: Unit) -> tuple[Keys, NDArray[np.float64]]:
        asked = unit.expression
        if asked in kept.found:
            kept.found.move_to_end(asked)
            return kept.found[asked]
        found = kept.found[asked] = full_text.scores(transaction, asked)
        kept.n_bytes += _OVERHEAD + 16 * len(found[0])
        while kept.n_bytes > _BYTES and len(kept.found) > 1:
            _, (keys, _) = kept.found.popitem(last=False)
            kept.n_bytes -= _OVERHEAD + 16 * len(keys)
        return found
