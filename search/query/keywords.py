"""Ranks records by the words of a query: BM25, added up word by word.

Where a word occurs is read once, and what commits change is followed in memory: the texts that came or changed since
are indexed there too, and stand in for what the catalog said of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.catalog import full_text, occurrences, reads
from search.catalog.database import Behind, Transaction
from search.catalog.occurrences import Occurrences, Totals
from search.catalog.reads import State
from search.query.recent import Recent
from search.query.units import Unit, units
from search.vectors import Keys

_BYTES = 64 << 20  # of the words asked lately
_OVERHEAD = 300  # bytes of a word that no text has
_MOST_RECENT = 5_000  # texts that are followed in memory; then all is read anew
_MOST_COUNTED = 20_000  # words whose number of texts is remembered
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
            total = np.bincount(inverse, np.concatenate([some for _, _, some in self.by_unit]), len(keys))
            kept = among[keys]
            return keys[kept], total[kept].astype(np.float64)
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


@dataclass(slots=True)
class _Unit:
    """Where a unit occurs as the catalog said when it was asked, and its keys and scores as of a later commit."""

    said: Occurrences
    commit_seq: int
    keys: Keys
    scores: NDArray[np.float64]

    @property
    def n_bytes(self) -> int:
        return _OVERHEAD + 28 * len(self.said.keys)


class _Texts:
    """The lengths of all texts and the words asked lately, as of a commit; it is told of each later one."""

    def __init__(self, transaction: Transaction, state: State) -> None:
        self.uuid, self.commit_seq = state.uuid, state.commit_seq
        self.recent = Recent()
        self.found: OrderedDict[tuple[str, bool], _Unit] = OrderedDict()
        self.n_bytes = 0
        self._n_holding: dict[str, tuple[int, int]] = {}  # by word, and how many texts had moved by then
        self._n_moved = 0  # texts that came, changed or went since the beginning
        self.until = 0  # the key from which on texts wait to be taken in by the catalog's index
        keys, lengths = occurrences.lengths(transaction)
        self.lengths = np.full(max(state.next_record, int(keys[-1]) + 1 if len(keys) else 0), -1, np.int32)
        self.lengths[keys] = lengths
        self._settled = self.lengths.copy()  # the same, but -1 for texts that `recent` knows better
        self.totals = Totals(len(keys), int(lengths.sum()))
        for texts in full_text.waiting(transaction):
            self._set(*self.recent.put(texts))
            self._n_moved += len(texts)
        if not self._agrees(transaction):
            raise occurrences.damaged()

    def follow(self, transaction: Transaction, state: State) -> bool:
        """Bring all up to a later commit; False where it is better read anew."""
        n_waiting = state.next_record - full_text.until(transaction)
        rows = transaction.sql(
            "select key, text from record where changed > ? limit ?",  # in no order: by key all would be read
            (self.commit_seq, n_waiting + _MOST_RECENT + 1),
        ).fetchall()
        if len(rows) + self.recent.n > n_waiting + _MOST_RECENT:
            return False
        if state.next_record > len(self.lengths):
            room = max(state.next_record, len(self.lengths) * 5 // 4) - len(self.lengths)
            self.lengths = np.concatenate([self.lengths, np.full(room, -1, np.int32)])
            self._settled = np.concatenate([self._settled, np.full(room, -1, np.int32)])
        touched = reads.key_array(rows)
        self._set(touched, np.full(len(touched), -1, np.int32))
        if texts := [(key, text) for key, text in rows if text]:
            self._set(*self.recent.put(texts))
        self._n_moved += len(touched)
        self.commit_seq = state.commit_seq
        if self._agrees(transaction):
            return True
        # Something was deleted, which leaves no other trace.
        late = "select key from record where key >= ? and text is not null and text <> ''"
        waiting = reads.key_array(transaction.sql(late, (self.until,)))
        there = np.concatenate([occurrences.keys(transaction), waiting])
        held = np.flatnonzero(self.lengths >= 0)
        gone = held[~np.isin(held, there, assume_unique=True)]
        self._set(gone, np.full(len(gone), -1, np.int32))
        self._n_moved += len(gone)
        return self._agrees(transaction)

    def _agrees(self, transaction: Transaction) -> bool:
        """Whether these are the texts of the catalog: as many words in its index, and as many that wait."""
        self.until = full_text.until(transaction)
        late = self.lengths[self.until :]
        late = late[late >= 0]
        indexed = Totals(self.totals.n_texts - len(late), self.totals.n_words - int(late.sum()))
        if indexed != occurrences.totals(transaction):
            return False
        if not len(late):
            return True
        count = "select count(*) from record where key >= ? and text is not null and text <> ''"
        return bool(transaction.value(count, (self.until,)) == len(late))

    def _set(self, keys: Keys, lengths: NDArray[np.int32]) -> None:
        before = self.lengths[keys]
        n = self.totals.n_texts - np.count_nonzero(before >= 0) + np.count_nonzero(lengths >= 0)
        words = self.totals.n_words - before[before >= 0].sum() + lengths[lengths >= 0].sum()
        self.lengths[keys] = lengths
        self._settled[keys] = -1
        self.totals = Totals(int(n), int(words))

    def common(self, transaction: Transaction, word: str) -> bool:
        """Whether at least half of the texts hold a word, so that it tells nothing."""
        n, moved = self._n_holding.get(word, (0, -1))
        # Since it was counted, each text that moved may have made one more or one less.
        slack = self._n_moved - moved
        if moved < 0 or (2 * (n - slack) < self.totals.n_texts <= 2 * (n + slack) and slack):
            n, slack = occurrences.n_with(transaction, word), 0
            if self.recent.n:
                late = self.recent.of_word(word).keys
                n += int(np.count_nonzero(self.lengths[late[late >= self.until]] >= 0))
            if len(self._n_holding) >= _MOST_COUNTED:
                self._n_holding.clear()
            self._n_holding[word] = n, self._n_moved
        return 2 * (n - slack) >= self.totals.n_texts

    def scored(
        self, transaction: Transaction, unit: Unit, terms: Sequence[str]
    ) -> tuple[Keys, NDArray[np.float64]]:
        """The keys (n,), ascending, of the texts that hold a unit, and its BM25 in each."""
        asked = (unit.words, unit.prefix)
        held = self.found.get(asked)
        if held is None:
            if len(terms) == 1 and not unit.prefix:
                said = occurrences.of_word(transaction, terms[0])
            else:
                indexed = occurrences.totals(transaction)
                said = occurrences.of_expression(transaction, unit.expression, indexed, self.lengths)
            held = self.found[asked] = _Unit(said, -1, said.keys, np.empty(0))
            self.n_bytes += held.n_bytes
            while self.n_bytes > _BYTES and len(self.found) > 1:
                self.n_bytes -= self.found.popitem(last=False)[1].n_bytes
        self.found.move_to_end(asked)
        if held.commit_seq != self.commit_seq:
            now, lengths = self._now(held.said, unit, terms)
            held.keys, held.scores, held.commit_seq = now.keys, self._bm25(now, lengths), self.commit_seq
        return held.keys, held.scores

    def _now(
        self, said: Occurrences, unit: Unit, terms: Sequence[str]
    ) -> tuple[Occurrences, NDArray[np.int32]]:
        """Where a unit occurs now: as the catalog said, but for the texts that moved; and the lengths (n,) of those."""
        if said.keys.size and int(said.keys[-1]) >= len(self.lengths):
            raise occurrences.damaged()
        lengths = self._settled[said.keys]
        if lengths.size and lengths.min() < 0:
            if not self._n_moved:
                raise occurrences.damaged()
            stays = lengths >= 0
            said, lengths = Occurrences(said.keys[stays], said.counts[stays]), lengths[stays]
        if not self.recent.n:
            return said, lengths
        if len(terms) == 1 and not unit.prefix:
            late = self.recent.of_word(terms[0])
        else:
            late = self.recent.of_expression(unit.expression)
        alive = late.keys[self.lengths[late.keys] >= 0]
        if not len(alive):
            return said, lengths
        keys = np.concatenate([said.keys, alive])
        counts = np.concatenate([said.counts, late.counts[self.lengths[late.keys] >= 0]])
        lengths = np.concatenate([lengths, self.lengths[alive]])
        if len(said.keys) and alive[0] < said.keys[-1]:
            order = np.argsort(keys, kind="stable")
            keys, counts, lengths = keys[order], counts[order], lengths[order]
        return Occurrences(keys, counts), lengths

    def _bm25(self, found: Occurrences, lengths: NDArray[np.int32]) -> NDArray[np.float64]:
        weight = occurrences.idf(self.totals.n_texts, len(found.keys)) * (occurrences.K1 + 1)
        beside = occurrences.lengthened(lengths, self.totals)
        beside += found.counts
        return np.asarray(weight * found.counts / beside)


class Keywords:
    """BM25 over the records of a collection. Several threads may ask at once."""

    def __init__(self) -> None:
        self._texts: _Texts | None = None
        self._lock = threading.Lock()

    def ranking(self, transaction: Transaction, state: State, query: str) -> Ranking:
        """The records that hold some of the query's words.

        The score is the sum over its units of their BM25 (Robertson & Zaragoza 2009, sec. 3.3) as FTS5 computes it.
        Words that at least half of the texts hold, to which it gives next to nothing, are left out where there are
        others.

        Raises:
            CollectionCorrupt: the index of words is damaged.
            Behind: another thread has followed a later commit; read again in a new transaction.
        """
        with self._lock:
            texts = self._at(transaction, state)
            wanted = [(unit, texts.recent.terms(unit.words)) for unit in units(query)]
            wanted = [(unit, terms) for unit, terms in wanted if terms]
            rare = [
                (unit, terms)
                for unit, terms in wanted
                if unit.prefix or len(terms) > 1 or not texts.common(transaction, terms[0])
            ]
            found = [(unit, *texts.scored(transaction, unit, terms)) for unit, terms in rare or wanted]
        return Ranking([one for one in found if len(one[1])])

    def _at(self, transaction: Transaction, state: State) -> _Texts:
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
        texts = self._texts = _Texts(transaction, state)
        return texts
