"""Brings the memory behind a space up to the commit that a reader sees."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Connection

from search.catalog import reads
from search.catalog.reads import State
from search.errors import CollectionCorrupt
from search.index import snapshot
from search.index.choose import Tuning
from search.index.view import Look, View
from search.layout import Layout
from search.types import Space

log = logging.getLogger(__name__)


class Behind(Exception):
    """Another thread has already moved the view past the commit that this reader sees."""


class Views:
    """The views of a collection, loaded when first asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._views: dict[int, View] = {}
        self._lock = threading.Lock()

    def look(self, connection: Connection, state: State, space: Space) -> Look:
        """The space as of the reader's commit.

        Raises:
            Behind: the view is already further on; read again in a new transaction.
            CollectionCorrupt: packed vectors do not match their checksum.
        """
        look = self.view(connection, state, space).look
        if look.commit_seq != state.commit_seq:  # another thread moved the view on in this very moment
            raise Behind
        return look

    def view(self, connection: Connection, state: State, space: Space) -> View:
        """The view behind `look`, at the reader's commit."""
        with self._lock:
            view = self._views.get(space.key)
            if view is None or view.epoch < state.epoch:
                view = self._load(connection, state, space)
                self._views[space.key] = view
                return view
        if view.epoch > state.epoch or view.look.commit_seq > state.commit_seq:
            raise Behind
        if view.look.commit_seq < state.commit_seq:
            try:
                with view.lock:
                    self._catch_up(connection, state, view)
            except BaseException:
                # Some of the batches may have been applied: the view must not be told them twice.
                with self._lock:
                    self._views.pop(space.key, None)
                raise
        if view.look.commit_seq != state.commit_seq:
            raise Behind
        return view

    def _load(self, connection: Connection, state: State, space: Space) -> View:
        view = View(space, state.epoch, capacity=reads.rows_in(connection, space))
        self._catch_up(connection, state, view)
        vouched = reads.snapshot(connection, space)
        if vouched is not None:
            found = reads.tuning(connection, space)
            try:
                graph = snapshot.read(self._layout, vouched, state.uuid, space, view.look.rows)
            except CollectionCorrupt as error:
                # The truth is in the catalog: until a writer builds the index again, every row is scanned.
                log.warning("%s", error)
            else:
                view.adopt(graph, None if found is None else Tuning.from_json(found))
        return view

    def _catch_up(self, connection: Connection, state: State, view: View) -> None:
        after = view.look.commit_seq
        if after >= state.commit_seq:
            return
        for batch in reads.batches(connection, view.space, after, state.commit_seq):
            view.apply(batch)
        view.settle(reads.tombstones(connection, view.space, after), state.commit_seq)

    def forget(self) -> None:
        """Drop all views; they are loaded again when asked for."""
        with self._lock:
            self._views.clear()
