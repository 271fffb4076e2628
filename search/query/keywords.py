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

from search.catalog import full_text, word_places
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.query.languages import DEFAULT, NONE, Language
from search.vectors import Keys

MOST_WORDS = 256  # of a query are looked for: as many as most text models read
_BYTES = 64 << 20  # of the words asked lately
_OVERHEAD = 300  # bytes of a word that no text has
_MOST_FORMS = 64  # of a word are looked for, the most frequent ones
_SHORTEST_STEM = 3  # letters: what is shorter has no other forms
_K1, _B = 1.2, 0.75  # as in FTS5
_LEAST_IDF = 1e-6

_PIECES = re.compile(r'"([^"]*)"|([^\W_]+)(\*?)')
_RUN = re.compile(f"[{full_text.UNSPACED}]+|[^{full_text.UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is looked for as one: a word, the words of a phrase, or the beginning of a word."""

    shown: str  # as it is told to the user
    words: str  # as FTS5 splits them
    prefix: bool = False
    phrase: bool = False

    @property
    def is_word(self) -> bool:
        """Whether it is one word, which may stand in other forms too."""
        return not self.phrase and not self.prefix and " " not in self.words

    @property
    def expression(self) -> str:
        """For FTS5; what stands in quotes is never read as its syntax, and `words` holds no quotes."""
        return f'"{self.words}" *' if self.prefix else f'"{self.words}"'


def units(query: str) -> list[Unit]:
    """What a query looks for: its words, "phrases" and beginnings of words*, each once, the first 256 of them.

    Of scripts without blanks between words each two neighbouring characters are looked for.
    """
    found: dict[tuple[str, bool, bool], Unit] = {}
    for match in _PIECES.finditer(unicodedata.normalize("NFC", query.replace("\0", " "))):
        phrase, word, star = match.groups()
        if phrase is not None:
            words = " ".join(re.findall(r"[^\W_]+", full_text.spaced(phrase)))
            made = [Unit(f'"{phrase}"', words, phrase=True)] if words else []
        else:
            made = _of_word(word, prefix=bool(star))
        for unit in made:
            found.setdefault((unit.words.casefold(), unit.prefix, unit.phrase), unit)
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
    forms: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    n_bytes: int = 0


class Keywords:
    """BM25 over the records of a collection. Several threads may ask at once."""

    def __init__(self) -> None:
        self._kept = _Kept()
        self._languages: dict[str, Language] = {}
        self._lock = threading.Lock()

    def ranking(self, transaction: Transaction, state: State, query: str, language: str = DEFAULT) -> Ranking:
        """The records that hold some of the query's words, in any of their forms.

        The score is the sum over its units of their BM25 (Robertson & Zaragoza 2009, sec. 3.3) as FTS5 computes it,
        all forms of a word counted as one. Phrases and beginnings of words are taken as they are written. Words that
        at least half of the texts hold, to which it gives next to nothing, and those that hold a question of the
        language together, are left out where there are others.

        Raises:
            CollectionCorrupt: the index of words is damaged.
        """
        wanted = units(query)
        with self._lock:
            spoken = self._language(language)
            stop_words = frozenset[str]() if spoken is None else spoken.stop_words
            telling = [unit for unit in wanted if not (unit.is_word and _folded(unit.words) in stop_words)]
            kept = self._current(transaction, state)
            rare = [unit for unit in telling or wanted if not self._common(transaction, kept, unit)]
            found, looked_for = [], set()
            for unit in rare or telling or wanted:
                forms: tuple[str, ...] = ()
                if spoken is not None and unit.is_word:
                    forms = self._forms(transaction, kept, (language, _folded(unit.words)), spoken)
                if forms and forms in looked_for:
                    continue
                looked_for.add(forms)
                found.append((unit, *self._found(transaction, kept, unit, forms)))
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
        word = _folded(unit.words)
        if word not in kept.common:
            kept.common[word] = 2 * full_text.n_with(transaction, word) >= kept.n_texts
        return kept.common[word]

    def _language(self, name: str) -> Language | None:
        if name == NONE:
            return None
        if name not in self._languages:
            self._languages[name] = Language(name)
        return self._languages[name]

    @staticmethod
    def _forms(
        transaction: Transaction, kept: _Kept, asked: tuple[str, str], spoken: Language
    ) -> tuple[str, ...]:
        """The words of the texts that have the stem of this one, which share all of it but the last letter."""
        if asked not in kept.forms:
            (stem,) = spoken.stems([asked[1]])
            alike: list[tuple[str, int]] = []
            if len(stem) >= _SHORTEST_STEM and stem.isalpha():
                shared = stem[:-1] if len(stem) > _SHORTEST_STEM else stem
                some = word_places.beginning_with(transaction, shared)
                stems = spoken.stems([word for word, _ in some])
                alike = [one for one, its_stem in zip(some, stems, strict=True) if its_stem == stem]
            most = sorted(alike, key=lambda one: (-one[1], one[0]))[:_MOST_FORMS]
            kept.forms[asked] = tuple(sorted({asked[1], *(word for word, _ in most)}))
        return kept.forms[asked]

    @staticmethod
    def _found(
        transaction: Transaction, kept: _Kept, unit: Unit, forms: Sequence[str]
    ) -> tuple[Keys, NDArray[np.float64]]:
        together = len(forms) > 1
        asked = " OR ".join(f'"{form}"' for form in forms) if together else unit.expression
        if asked in kept.found:
            kept.found.move_to_end(asked)
            return kept.found[asked]
        found = _as_one(transaction, forms) if together else full_text.scores(transaction, asked)
        kept.found[asked] = found
        kept.n_bytes += _OVERHEAD + 16 * len(found[0])
        while kept.n_bytes > _BYTES and len(kept.found) > 1:
            _, (keys, _) = kept.found.popitem(last=False)
            kept.n_bytes -= _OVERHEAD + 16 * len(keys)
        return found


def _folded(word: str) -> str:
    """The word as the index holds it: in small letters, without accents."""
    if word.isascii():
        return word.lower()
    letters = unicodedata.normalize("NFD", word.lower())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _as_one(transaction: Transaction, words: Sequence[str]) -> tuple[Keys, NDArray[np.float64]]:
    """Keys, ascending, of the records that hold one of the words, and their BM25 as if all were the same word."""
    keys, often = word_places.counts(transaction, words)
    if not len(keys):
        return keys, np.empty(0, np.float64)
    n_texts, n_words = word_places.totals(transaction)
    idf = max(float(np.log((n_texts - len(keys) + 0.5) / (len(keys) + 0.5))), _LEAST_IDF)
    relative = word_places.lengths(transaction, keys) * n_texts / n_words
    return keys, idf * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * relative))
