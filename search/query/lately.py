"""What hits have shown lately, kept in memory for as long as nothing in the catalog changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from search.catalog import showing
from search.catalog.database import Transaction
from search.catalog.reads import Row
from search.catalog.showing import Shown

_BYTES = 16 << 20  # kept altogether
_LARGEST = 1 << 14  # of one row: long texts would drive out what is quick to find again
_OVERHEAD = 400  # of a row in memory, beside its texts
_PATIENCE = 4  # once there is no more room, rows kept are let go when so many more for each were read in vain


@dataclass(slots=True)
class _Kept:
    """Rows as of one state of the counters: of whole records by their keys, of parts by theirs."""

    counters: Row | None = None
    whole: dict[int, Shown] = field(default_factory=dict)
    parts: dict[int, Shown] = field(default_factory=dict)
    n_bytes: int = 0
    n_passed: int = 0  # rows read since there is no more room


class Lately:
    """The rows behind the hits shown last, checked when they were read. Several threads may ask at once."""

    def __init__(self) -> None:
        self._kept = _Kept()

    def shown(self, transaction: Transaction, wanted: Sequence[int], *, pieces: bool) -> dict[int, Shown]:
        """As `showing.shown`; what is in memory is not read again, so there may be more than was wanted.

        Raises:
            Behind: in a glimpse, where the counters are no longer those remembered.
            CollectionCorrupt: a record or part does not match its checksum.
        """
        counters = transaction.remembered
        if counters is None:  # in a transaction: something has just changed
            return showing.shown(transaction, wanted, pieces=pieces)
        kept = self._kept
        if kept.counters is not counters or kept.n_passed > _PATIENCE * (len(kept.whole) + len(kept.parts)):
            kept = self._kept = _Kept(counters)
        found = kept.parts if pieces else kept.whole
        missing = [key for key in wanted if key not in found]
        fresh = showing.shown(
            transaction, missing, pieces=pieces
        )  # asks for the counters, if for nothing else
        if not fresh:
            return found
        known = {key: found[key] for key in wanted if key in found}  # not all: there may be thousands
        if kept.n_bytes > _BYTES:
            kept.n_passed += len(fresh)
            return known | fresh
        for key, row in fresh.items():
            size = _OVERHEAD + len(row.metadata) + len(row.text or "")
            if size <= _LARGEST:
                found[key] = row
                kept.n_bytes += size
        return known | fresh
