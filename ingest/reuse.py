"""Vectors that need not be made again: of a text met before in this run, or that the space holds already."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ingest.sources.contract import Item
from ingest.sync import Sync
from search.catalog import inputs, reads
from search.catalog.database import Database
from search.encoders.contract import Attempt
from search.encoders.contract import Item as Encodable
from search.types import Part, Space
from search.vectors import Vectors

MOST_BYTES = 64 << 20  # of vectors kept for the case that their text comes again
_ENTRY_BYTES = 300  # beside the numbers: the key, the array around them, the places in the dict

# Cuts texts: for each item that can be cut, itself, its parts, and what is encoded of each.
Cut = Callable[[Sequence[Item]], Iterable[tuple[Item, tuple[Part, ...], tuple[Encodable, ...]]]]


class Memo:
    """Vectors by the hash of the text encoded; those not asked for longest are forgotten first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._rows: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()  # one thread finds what is stored, another encodes

    def get(self, key: bytes) -> Vectors | None:
        """The vector (dim,) of this text, if it is kept."""
        with self._lock:
            row = self._rows.get(key)
            if row is not None:
                self._rows.move_to_end(key)
            return row

    def keep(self, key: bytes, row: Vectors) -> None:
        """Keep a copy of a vector (dim,)."""
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
                return
            self._rows[key] = row.copy()
            self._bytes += row.nbytes + _ENTRY_BYTES
            while self._bytes > self._most_bytes:
                _, old = self._rows.popitem(last=False)
                self._bytes -= old.nbytes + _ENTRY_BYTES


@dataclass(slots=True)
class _Row:
    """A vector (dim,) that is there, or will be when what asked for it first has been encoded."""

    vector: Vectors | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of some texts or pictures, those `to_encode`, with the `keys` of texts; `rows` are all, None for pictures."""

    to_encode: list[Encodable]
    keys: list[bytes]
    rows: list[_Row] | None


class Reuse:
    """Says what no vector is at hand for, and is to be encoded. `reused` counts the others.

    A stored vector is taken again where the same text, cut by the same settings, stands in the space: in the
    former version of the record, or in a record of another id with the same whole text. Both are compared as
    texts, not by their hashes alone.
    """

    def __init__(self, database: Database, space: Space, memo: Memo | None = None) -> None:
        self._database = database
        self._space = space
        self._memo = Memo() if memo is None else memo
        self._contents: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None
        self._coming: dict[bytes, _Row] = {}  # of texts that are being encoded
        self.reused = 0

    def look(self, new: Sequence[Item], changed: Sequence[Item], sync: Sync, cut: Cut) -> None:
        """Keep the stored vectors that some of these inputs will need."""
        from_record = self._former(changed, sync) | self._same_text(new, sync)
        if not from_record:
            return
        with self._database.reading() as transaction:
            keys = sorted(set(from_record.values()))
            texts = inputs.texts(transaction, keys)
            stored = inputs.passages(transaction, self._space, keys)
        items = {item.record.id: item for item in (*new, *changed)}
        # Cut as it stands there: what was encoded of each passage may hold more than its own words.
        former = [
            replace(items[id], record=replace(items[id].record, text=texts[key]))
            for id, key in from_record.items()
            if key in texts and key in stored
        ]
        for item, parts, encodable in cut(former):
            there, vectors = stored[from_record[item.record.id]]
            if there != parts:
                continue
            for text, row in zip(encodable, vectors, strict=True):
                if isinstance(text, str):
                    self._memo.keep(_hash(text), row)

    def wanted(self, encodable: Sequence[Encodable]) -> Wanted:
        """What of these texts or pictures is to be encoded: equal texts once, and none that is being encoded already.

        `taken` is to be called with what came of it, in the order of these calls.
        """
        texts = [one for one in encodable if isinstance(one, str)]
        if len(texts) != len(encodable):
            return Wanted(list(encodable), [], None)
        rows: list[_Row] = []
        missing: dict[bytes, str] = {}
        here: dict[bytes, _Row] = {}
        for text in texts:
            key = _hash(text)
            row = here.get(key)
            if row is None:
                row = here[key] = self._row(key)
                if row.vector is None and key not in self._coming:
                    self._coming[key] = row
                    missing[key] = text
            rows.append(row)
        return Wanted(list(missing.values()), list(missing), rows)

    def taken(self, wanted: Wanted, outcome: Attempt) -> Attempt:
        """Vectors of all that was asked for, of what was encoded of it."""
        if wanted.rows is None:
            return outcome
        for key, row, done in zip(wanted.keys, outcome.vectors, outcome.done, strict=True):
            cell = self._coming.pop(key)
            if done:
                cell.vector = row
                self._memo.keep(key, row)
        vectors = np.zeros((len(wanted.rows), self._space.dim), dtype=np.float32)
        known = np.array([row.vector is not None for row in wanted.rows], dtype=np.bool_)
        for place, row in enumerate(wanted.rows):
            if row.vector is not None:
                vectors[place] = row.vector
        self.reused += int(known.sum()) - int(outcome.done.sum())
        return Attempt(vectors, known, outcome.error)

    def _row(self, key: bytes) -> _Row:
        coming = self._coming.get(key)
        return _Row(self._memo.get(key)) if coming is None else coming

    def _former(self, changed: Sequence[Item], sync: Sync) -> dict[str, int]:
        """Of changed texts cut as before, the key of the record that holds the former version, by id."""
        ids = [
            item.record.id
            for item in changed
            if item.record.text is not None and item.picture is None and sync.cut_as_before(item)
        ]
        if not ids:
            return {}
        with self._database.reading() as transaction:
            return reads.keys_of(transaction, ids)

    def _same_text(self, new: Sequence[Item], sync: Sync) -> dict[str, int]:
        """Of new texts, the key of a record whose text has the same hash, by id."""
        if not new:
            return {}
        if self._contents is None:
            with self._database.reading() as transaction:
                self._contents = inputs.contents(transaction, self._space)
        hashes, keys = self._contents
        found: dict[str, int] = {}
        if not len(hashes):
            return found
        for item in new:
            if item.record.text is None or item.picture is not None:
                continue
            content = np.frombuffer(sync.content(item), "<u8")[0]
            place = int(np.searchsorted(hashes, content))
            if place < len(hashes) and hashes[place] == content:
                found[item.record.id] = int(keys[place])
        return found


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
