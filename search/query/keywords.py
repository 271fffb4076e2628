"""Ranks records by the words of a query, in all their forms: BM25, added up word by word."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.catalog import full_text
from search.catalog.database import Behind, Transaction
from search.catalog.reads import State
from search.query.languages import DEFAULT, NONE, Language
from search.query.texts import Sought, Texts
from search.query.units import Unit, units
from search.vectors import Keys

_MOST_FORMS = 64  # of a word are looked for, the most frequent ones
_SHORTEST_STEM = 3  # letters: what is shorter has no other forms
_SPARSE = 16  # records for each one found, above which they are sorted together instead of added up in place


@dataclass(frozen=True, slots=True)
class Ranking:
    """Records that hold some of the words: for each unit their keys (n,), ascending, and its BM25 for each (n,)."""

    by_unit: Sequence[tuple[Unit, Keys, NDArray[np.float64]]]

    def first(self, among: NDArray[np.bool_], depth: int) -> tuple[Keys, NDArray[np.float64]]:
        """The best `depth` of the records that may be returned, and their BM25; among equals by key.

        Args:
            among: whether a record may be returned, by its key.
            depth: how many at the most.
        """
        keys, scores = self._added(among)
        if len(keys) > depth:
            least = -np.partition(-scores, depth - 1)[depth - 1]
            keys, scores = keys[scores >= least], scores[scores >= least]
        order = np.argsort(-scores, kind="stable")[:depth]
        return keys[order], scores[order]

    def _added(self, among: NDArray[np.bool_]) -> tuple[Keys, NDArray[np.float64]]:
        if not self.by_unit:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        if sum(len(keys) for _, keys, _ in self.by_unit) * _SPARSE < len(among):
            every = np.concatenate([keys for _, keys, _ in self.by_unit])
            keys, inverse = np.unique(every, return_inverse=True)
            added = np.bincount(inverse, np.concatenate([some for _, _, some in self.by_unit]), len(keys))
            kept = among[keys]
            return keys[kept], added[kept].astype(np.float64)
        total = np.zeros(len(among))
        for _, keys, scores in self.by_unit:
            total[keys] += scores  # each key once
        total *= among
        keys = np.flatnonzero(total > 0)  # as each score is
        return keys, total[keys]

    def words_of(self, key: int) -> list[str]:
        """What of the query a record holds."""
        return [unit.shown for unit, keys, _ in self.by_unit if _holds(keys, key)]


def _holds(keys: Keys, key: int) -> bool:
    at = int(np.searchsorted(keys, key))
    return at < len(keys) and int(keys[at]) == key


class Keywords:
    """BM25 over the records of a collection. Several threads may ask at once."""

    def __init__(self) -> None:
        self._texts: Texts | None = None
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
            Behind: another thread has followed a later commit; read again in a new transaction.
        """
        with self._lock:
            spoken = self._language(language)
            stop_words = frozenset[str]() if spoken is None else spoken.stop_words
            texts = self._at(transaction, state)
            wanted = [(unit, terms) for unit in units(query) if (terms := texts.recent.terms(unit.words))]
            telling = [
                (unit, terms) for unit, terms in wanted if not (unit.is_word and terms[0] in stop_words)
            ]
            forms = {
                unit: self._forms(transaction, texts, terms[0], spoken)
                for unit, terms in telling or wanted
                if spoken is not None and unit.is_word and len(terms) == 1
            }
            rare = [
                (unit, terms)
                for unit, terms in telling or wanted
                if unit.prefix or len(terms) > 1 or not texts.common(transaction, terms[0])
            ]
            sought: dict[tuple[Sought, bool], Unit] = {}
            for unit, terms in rare or telling or wanted:
                if unit.prefix or len(terms) > 1:
                    one = Sought(expression=unit.expression)
                else:
                    one = Sought(forms.get(unit, terms))
                sought.setdefault((one, unit.phrase), unit)  # two forms of a word are one
            found = [(unit, *texts.scored(transaction, one)) for (one, _), unit in sought.items()]
        return Ranking([one for one in found if len(one[1])])

    def _at(self, transaction: Transaction, state: State) -> Texts:
        texts = self._texts
        if texts is not None and texts.uuid == state.uuid:
            if texts.commit_seq == state.commit_seq:
                texts.until = full_text.until(transaction)  # which moves by itself
                return texts
            if texts.commit_seq > state.commit_seq:
                raise Behind
            try:
                if texts.follow(transaction, state):
                    return texts
            except BaseException:
                self._texts = None  # it may have followed in part
                raise
        texts = self._texts = Texts(transaction, state)
        return texts

    def _language(self, name: str) -> Language | None:
        if name == NONE:
            return None
        if name not in self._languages:
            self._languages[name] = Language(name)
        return self._languages[name]

    @staticmethod
    def _forms(transaction: Transaction, texts: Texts, word: str, spoken: Language) -> tuple[str, ...]:
        """The words of the texts that have the stem of this one, which share all of it but the last letter."""
        (stem,) = spoken.stems([word])
        if len(stem) < _SHORTEST_STEM or not stem.isalpha():
            return (word,)
        shared = stem[:-1] if len(stem) > _SHORTEST_STEM else stem

        def alike(*, anew: bool = False) -> dict[str, int]:
            some = texts.beginning_with(transaction, shared, word, anew=anew)
            stems = spoken.stems(list(some))
            return {one: n for (one, n), its in zip(some.items(), stems, strict=True) if its == stem}

        found = alike()
        if len(found) > _MOST_FORMS:
            found = alike(anew=True)
            most = sorted(found, key=lambda one: (-found[one], one))[:_MOST_FORMS]
            return tuple(sorted({*most, *({word} & found.keys())}))
        return tuple(sorted(found)) or (word,)
