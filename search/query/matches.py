"""Which records match a where-expression, and which rows those are: kept, and brought up to date by what changed."""

from __future__ import annotations

import shlex
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from search.catalog import conditions, reads
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.index.contract import Allowed, Rows
from search.index.view import Look
from search.query.run import mask_of
from search.vectors import Keys

_BYTES = 128 << 20  # kept for all expressions together
_OVERHEAD = 1000  # bytes of an expression that matches nothing


@dataclass(slots=True)
class _Kept:
    """What is known of one expression as of a commit."""

    commit_seq: int
    keys: Keys
    rows: dict[int, tuple[Rows, Allowed]] = field(default_factory=dict)  # by space key

    @property
    def nbytes(self) -> int:
        return _OVERHEAD + self.keys.nbytes + sum(allowed.nbytes for _, allowed in self.rows.values())


class Matches:
    """The where-expressions asked last, with the records and rows that match them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def allowed(self, transaction: Transaction, state: State, look: Look, expression: str) -> Allowed:
        """The living rows of the space whose records match.

        Raises:
            FilterError: the expression cannot be used.
        """
        kept = self._current(transaction, state, expression)
        rows, key = look.rows, look.space.key
        held = kept.rows.get(key)
        if held is not None and held[0] is rows:
            return held[1]
        allowed = rows.allowed(mask_of(rows, kept.keys))
        with self._lock:
            kept.rows[key] = (rows, allowed)
            self._shrink()
        return allowed

    def keys(self, transaction: Transaction, state: State, expression: str) -> Keys:
        """The keys of the records that match, ascending; among them may be some of deleted records.

        Raises:
            FilterError: the expression cannot be used.
        """
        return self._current(transaction, state, expression).keys

    @staticmethod
    def advice(transaction: Transaction, expression: str) -> str | None:
        """What would make the expression quicker when it is first asked; None if nothing would."""
        names = conditions.undeclared(transaction, expression)
        if not names:
            return None
        return "every record was read; keep the values sorted with: " + "; ".join(
            f"nearkin index-field {shlex.quote(name)}" for name in names
        )

    def _current(self, transaction: Transaction, state: State, expression: str) -> _Kept:
        with self._lock:
            kept = self._kept.get(expression)
            if kept is not None:
                self._kept.move_to_end(expression)
        if kept is not None and kept.commit_seq == state.commit_seq:
            return kept
        if kept is not None and kept.commit_seq < state.commit_seq:
            # Numbers of records are never used twice, so a deleted record that is still listed matches no row.
            changed = reads.changed_since(transaction, kept.commit_seq)
            now = conditions.matching(transaction, expression, kept.commit_seq)
            keys = np.union1d(np.setdiff1d(kept.keys, changed, assume_unique=True), now)
        else:
            keys = conditions.matching(transaction, expression)
        fresh = _Kept(state.commit_seq, keys)
        with self._lock:
            there = self._kept.get(expression)
            if there is None or there.commit_seq < fresh.commit_seq:
                self._kept[expression] = fresh
                self._shrink()
        return fresh

    def _shrink(self) -> None:
        """Forget what was asked longest ago until the rest has room; called with the lock held."""
        total = sum(kept.nbytes for kept in self._kept.values())
        while total > _BYTES and len(self._kept) > 1:
            total -= self._kept.popitem(last=False)[1].nbytes
