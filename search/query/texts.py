"""What is known of the texts for ranking by words, followed from commit to commit.

Where a word occurs is read once. What commits change is followed in memory: the texts that came or changed since, and
those that wait for the catalog's index of words, are indexed there, and stand in for what the catalog said of them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.catalog import full_text, postings, reads
from search.catalog.database import Transaction
from search.catalog.postings import Occurrences, Totals
from search.catalog.reads import State
from search.query.recent import Recent
from search.vectors import Keys

_BYTES = 64 << 20  # of the words asked lately
_OVERHEAD = 300  # bytes of a word that no text has
_MOST_RECENT = 5_000  # texts that are followed in memory beside those that wait; then all is read anew
_MOST_COUNTED = 20_000  # words whose number of texts is remembered
_MOST_BEGINNINGS = 2_000  # of words, for which it is remembered which words begin so


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for as one: a word in some forms, as the index holds them; or an FTS5 expression of one phrase."""

    forms: tuple[str, ...] = ()
    expression: str = ""


@dataclass(slots=True)
class _Held:
    """Where something occurs as the catalog said when it was asked, and its keys and scores as of a later commit."""

    said: Occurrences
    commit_seq: int
    keys: Keys
    scores: NDArray[np.float64]

    @property
    def n_bytes(self) -> int:
        return _OVERHEAD + 28 * len(self.said.keys)


class Texts:
    """The lengths of all texts and where words asked lately stand, as of a commit; it is told of each later one."""

    def __init__(self, transaction: Transaction, state: State) -> None:
        self.uuid, self.commit_seq = state.uuid, state.commit_seq
        self.recent = Recent()
        self._found: OrderedDict[Sought, _Held] = OrderedDict()
        self._n_bytes = 0
        # By beginning, as of which commit and which texts taken in.
        self._vocabulary: dict[str, tuple[tuple[int, int], dict[str, int]]] = {}
        self._n_holding: dict[str, tuple[int, int]] = {}  # by word, and how many texts had moved by then
        self._n_moved = 0  # texts that came, changed or went since the beginning
        self.until = 0  # the key from which on texts wait to be taken in by the catalog's index
        keys, lengths = postings.lengths(transaction)
        self.lengths = np.full(max(state.next_record, int(keys[-1]) + 1 if len(keys) else 0), -1, np.int32)
        self.lengths[keys] = lengths
        self._settled = self.lengths.copy()  # the same, but -1 for texts that `recent` knows better
        self.totals = Totals(len(keys), int(lengths.sum()))
        for texts in full_text.waiting(transaction):
            self._set(*self.recent.put(texts))
            self._n_moved += len(texts)
        if not self._agrees(transaction):
            raise postings.damaged()

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
        there = np.concatenate([postings.keys(transaction), waiting])
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
        if indexed != postings.totals(transaction):
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
            n, slack = postings.n_with(transaction, word), 0
            if self.recent.n:
                late = self.recent.of((word,)).keys
                n += int(np.count_nonzero(self.lengths[late[late >= self.until]] >= 0))
            self._counted(word, n)
        return 2 * (n - slack) >= self.totals.n_texts

    def _counted(self, word: str, n: int) -> None:
        if len(self._n_holding) >= _MOST_COUNTED:
            self._n_holding.clear()
        self._n_holding[word] = n, self._n_moved

    def beginning_with(
        self, transaction: Transaction, prefix: str, word: str, *, anew: bool = False
    ) -> dict[str, int]:
        """The words of the texts that begin so, of which `word` may be one, and how many texts hold each.

        What was read lately is gone by, with the words of texts that moved since; the numbers are of now where it is
        read `anew`.
        """
        now = (self.commit_seq, self.until)
        as_of, found = self._vocabulary.get(prefix, (None, {}))
        if as_of is None or (anew and as_of != now):
            as_of, found = now, postings.beginning_with(transaction, prefix)
            if len(self._vocabulary) >= _MOST_BEGINNINGS:
                self._vocabulary.clear()
            self._vocabulary[prefix] = as_of, found
        if self.recent.n:
            found = dict(found)
            for late, keys in self.recent.beginning_with(prefix):
                alive = keys[self.lengths[keys] >= 0]
                if len(alive):
                    found[late] = found.get(late, 0) + int(np.count_nonzero(alive >= self.until))
        if as_of == now and word not in self._n_holding:
            self._counted(word, found.get(word, 0))  # need not be asked once more
        return found

    def scored(self, transaction: Transaction, sought: Sought) -> tuple[Keys, NDArray[np.float64]]:
        """The keys (n,), ascending, of the texts that hold it, and its BM25 in each."""
        held = self._found.get(sought)
        if held is None:
            if sought.expression:
                indexed = postings.totals(transaction)
                said = postings.of_expression(transaction, sought.expression, indexed, self.lengths)
            else:
                said = postings.of_words(transaction, sought.forms)
            held = self._found[sought] = _Held(said, -1, said.keys, np.empty(0))
            self._n_bytes += held.n_bytes
            while self._n_bytes > _BYTES and len(self._found) > 1:
                self._n_bytes -= self._found.popitem(last=False)[1].n_bytes
        self._found.move_to_end(sought)
        if held.commit_seq != self.commit_seq:
            now, lengths = self._now(held.said, sought)
            held.keys, held.scores, held.commit_seq = now.keys, self._bm25(now, lengths), self.commit_seq
        return held.keys, held.scores

    def _now(self, said: Occurrences, sought: Sought) -> tuple[Occurrences, NDArray[np.int32]]:
        """Where it occurs now: as the catalog said, but for the texts that moved; and the lengths (n,) of those."""
        if said.keys.size and int(said.keys[-1]) >= len(self.lengths):
            raise postings.damaged()
        lengths = self._settled[said.keys]
        if lengths.size and lengths.min() < 0:
            if not self._n_moved:
                raise postings.damaged()
            stays = lengths >= 0
            said, lengths = Occurrences(said.keys[stays], said.counts[stays]), lengths[stays]
        if not self.recent.n:
            return said, lengths
        late = self.recent.of(sought.forms, sought.expression)
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
        weight = postings.idf(self.totals.n_texts, len(found.keys)) * (postings.K1 + 1)
        beside = postings.lengthened(lengths, self.totals)
        beside += found.counts
        return np.asarray(weight * found.counts / beside)
