"""Brings the memory behind a space up to the commit that a reader sees."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np

from search.catalog import consistency, reads
from search.catalog.database import Behind, Transaction
from search.catalog.reads import State
from search.errors import CollectionCorrupt
from search.index import snapshot
from search.index.choose import Wanted, choose
from search.index.contract import Rows
from search.index.tune import Tuning
from search.index.view import Look, Seen, View
from search.layout import Layout
from search.types import Space
from search.vectors import Batch, Keys

log = logging.getLogger(__name__)


def _ahead(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """The same, each read and checked by another thread while the one before is taken in."""
    with ThreadPoolExecutor(1, "nearkin-load") as reader:
        waiting = reader.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = reader.submit(next, batches, None)
            yield batch


def _living(rows: Rows) -> tuple[Keys, Keys]:
    """The part and record keys of the rows that may be returned."""
    if rows.living is None:
        return rows.part_keys, rows.record_keys
    return rows.part_keys[rows.living.mask], rows.record_keys[rows.living.mask]


class Views:
    """The views of a collection, loaded when first asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._views: dict[int, View] = {}
        self._spaces: tuple[int, dict[str, Space]] = (-1, {})
        self._lock = threading.Lock()

    def spaces(self, transaction: Transaction, state: State) -> dict[str, Space]:
        """All spaces by name, read anew only when one of them has changed."""
        seq, spaces = self._spaces
        if seq != state.spaces_seq:
            spaces = reads.spaces(transaction)
            self._spaces = (state.spaces_seq, spaces)
            there = {space.key for space in spaces.values()}
            with self._lock:  # what was dropped is not held any longer
                for key in self._views.keys() - there:
                    del self._views[key]
        return spaces

    def look(self, transaction: Transaction, state: State, space: Space) -> Look:
        """The space as of the reader's commit.

        Raises:
            Behind: the view is already further on, or needs more than a glimpse; read again in a new transaction.
            CollectionCorrupt: packed vectors do not match their checksum.
        """
        view = self._views.get(space.key)
        if view is not None:
            look = view.look
            seen = look.seen
            if seen.commit_seq == state.commit_seq and seen.spaces_seq == state.spaces_seq:
                return look
        if transaction.remembered is not None:  # a glimpse cannot bring a view up to date
            raise Behind
        look = self.view(transaction, state, space).look
        if look.seen.commit_seq != state.commit_seq:  # another thread moved the view on in this very moment
            raise Behind
        return look

    def view(self, transaction: Transaction, state: State, space: Space) -> View:
        """The view behind `look`, at the reader's commit."""
        wanted = Seen(state.commit_seq, state.epoch, state.spaces_seq)
        with self._lock:
            view = self._views.get(space.key)
            if view is None:
                view = self._views[space.key] = self._empty(transaction, space)
        with view.lock:
            seen = view.look.seen
            if seen.commit_seq > state.commit_seq or seen.spaces_seq > state.spaces_seq:
                raise Behind
            if seen != wanted:
                try:
                    self._catch_up(transaction, wanted, space, view)
                    if seen.spaces_seq != state.spaces_seq:
                        self._take_index(transaction, state, space, view)
                except BaseException:
                    # Some of the batches may have been applied: the view must not be told them twice.
                    with self._lock:
                        self._views.pop(space.key, None)
                    raise
            return view

    def _empty(self, transaction: Transaction, space: Space) -> View:
        n = reads.rows_in(transaction, space)
        choice = choose(n, space.dim, Wanted.from_json(reads.wanted(transaction, space)))
        return View(space, choice, n, self._layout.root)

    def _catch_up(self, transaction: Transaction, wanted: Seen, space: Space, view: View) -> None:
        seen = view.look.seen
        if wanted.commit_seq == seen.commit_seq:
            view.settle(np.empty(0, np.int64), wanted, space, pieces=False)
            return
        if view.last_part and wanted.epoch != seen.epoch:
            # Compaction may have dropped rows together with the tombstones that would have told of them.
            view.keep_only(reads.part_keys(transaction, space))
        pieces = reads.has_pieces(transaction, space, view.last_part)
        batches = reads.batches(transaction, space, view.last_part)
        with closing(_ahead(batches) if seen.commit_seq < 0 else batches) as following:
            for batch in following:
                view.apply(batch)
        view.settle(reads.tombstones(transaction, space, seen.commit_seq), wanted, space, pieces=pieces)
        if seen.commit_seq < 0:  # loaded for the first time
            consistency.check_living(transaction, space, *_living(view.look.rows))

    def _take_index(self, transaction: Transaction, state: State, space: Space, view: View) -> None:
        """Search with the index that the catalog vouches for, where it is not the one in memory."""
        vouched = reads.snapshot(transaction, space)
        if vouched is None:
            return
        found = reads.tuning(transaction, space)
        tuning = None if found is None else Tuning.from_json(found)
        if vouched["file"] == view.snapshot and view.structure is not None:
            if tuning != view.tuning:
                view.adopt(view.structure, tuning, view.snapshot)
            return
        view.lay_out_anew()
        try:
            structure = snapshot.read(self._layout, vouched, state.uuid, space, view.look.rows)
        except CollectionCorrupt as error:
            # The truth is in the catalog: until a writer builds the index again, every row is scanned.
            log.warning("%s", error)
        else:
            view.adopt(structure, tuning, vouched["file"])

    def forget(self) -> None:
        """Drop all views; they are loaded again when asked for."""
        with self._lock:
            self._views.clear()
