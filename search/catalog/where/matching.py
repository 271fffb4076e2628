"""Finds the records that a condition picks: sorted values first, the records' JSON only where it must be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from search.catalog import schema
from search.catalog.database import Transaction
from search.catalog.listing import among
from search.catalog.where.condition import Condition, Every, Lookup, Node, Rank, Some, Term
from search.vectors import Keys

_FEW = 2_000  # candidates that are quicker to test one by one than to look up a further term for
_PART = 1 / 4  # of the records: where more are candidates, reading all of them is as quick as seeking each
_AT_ONCE = 50_000_000  # records whose keys fit into one text of SQLite, which has at most 10**9 bytes


def matching(transaction: Transaction, condition: Condition) -> Keys:
    """Keys of the records that match, ascending."""
    return _Search(transaction).keys(condition.root)


class _Search:
    """One condition on its way to the keys, within one read transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._last = int(transaction.value("select coalesce(max(key), 0) from record"))

    def keys(self, node: Node) -> Keys:
        if isinstance(node, Every):
            return self._every(node.parts)
        if isinstance(node, Some):
            return self._some(node.parts)
        if node.lookup is None:
            return self._tested(node.test)
        found = self._looked_up(node.lookup)
        return _without(self._all(), found) if node.lookup.complement else found

    def _every(self, parts: Sequence[Node]) -> Keys:
        """Look up what can be, those first that leave few, and test what is left for the rest."""
        found: Keys | None = None
        rest = [part for part in parts if not _can_look_up(part)]
        for part in sorted((part for part in parts if _can_look_up(part)), key=_rank):
            if found is not None and len(found) <= _FEW:
                rest.append(part)
            elif found is None:
                found = self.keys(part)
            elif isinstance(part, Term) and part.lookup is not None and part.lookup.complement:
                found = _without(found, self._looked_up(part.lookup))
            else:
                found = found[np.isin(found, self.keys(part), assume_unique=True)]
        if not rest:
            return self._all() if found is None else found
        test = and_(*(part.test for part in rest))
        if found is None:
            return self._tested(test)
        if not len(found):
            return found
        if len(found) <= max(_FEW, self._last * _PART):
            return self._tested(and_(among(schema.record.c.key, found.tolist()), test))
        return found[np.isin(found, self._tested(test), assume_unique=True)]

    def _some(self, parts: Sequence[Node]) -> Keys:
        found = [self.keys(part) for part in parts if _can_look_up(part)]
        if rest := [part.test for part in parts if not _can_look_up(part)]:
            found.append(self._tested(or_(*rest)))
        return _each_once(np.concatenate(found))

    def _tested(self, test: ColumnElement[bool]) -> Keys:
        return self._sorted([select(schema.record.c.key.label("key")).where(test)])

    def _all(self) -> Keys:
        return self._sorted([select(schema.record.c.key.label("key"))])

    def _looked_up(self, lookup: Lookup) -> Keys:
        return self._sorted(lookup.queries)

    def _sorted(self, queries: Sequence[Select[Any]]) -> Keys:
        """The keys that the queries give, each once.

        They come as one text of numbers with commas: that takes a fifth of the time of as many rows.
        """
        said: list[str | None] = []
        for query in queries:
            keys = query.subquery()
            text = select(func.group_concat(keys.c.key))
            if self._last <= _AT_ONCE:
                said.append(self._transaction.execute(text).fetchone()[0])
                continue
            for first in range(0, self._last + 1, _AT_ONCE):
                within = text.where(keys.c.key >= first, keys.c.key < first + _AT_ONCE)
                said.append(self._transaction.execute(within).fetchone()[0])
        arrays = [np.fromstring(one, np.int64, sep=",") for one in said if one]
        if not arrays:
            return np.empty(0, np.int64)
        return _each_once(np.concatenate(arrays))


def _without(keys: Keys, others: Keys) -> Keys:
    return keys[~np.isin(keys, others, assume_unique=True)]


def _each_once(keys: Keys) -> Keys:
    """The keys, ascending, without repetition; for this np.unique takes several times as long."""
    rising = keys[1:] > keys[:-1]
    if not rising.all():
        keys = np.sort(keys)
        rising = keys[1:] > keys[:-1]
    return keys if rising.all() else keys[np.concatenate(([True], rising))]


def _can_look_up(node: Node) -> bool:
    if isinstance(node, Term):
        return node.lookup is not None
    return all(_can_look_up(part) for part in node.parts)


def _rank(node: Node) -> Rank:
    if isinstance(node, Term):
        return Rank.MOST if node.lookup is None else node.lookup.rank
    ranks = [_rank(part) for part in node.parts]
    return min(ranks) if isinstance(node, Every) else max(ranks)
