"""Builds and keeps the indexes of one collection, in a thread of its own, while questions and commits go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from search.catalog import full_text, reads, writes
from search.catalog.database import Behind, Database
from search.errors import CollectionCorrupt, CollectionError, NearkinError
from search.failpoints import Step, reached
from search.index import choose, snapshot
from search.index.choose import Wanted
from search.index.structure import Kind
from search.index.view import Built, View
from search.layout import Layout
from search.query.follow import Views
from search.query.queries import Queries
from search.types import Space
from search.vectors import Vectors

log = logging.getLogger(__name__)

# Told the space, the rows done and the rows in all.
Progress: TypeAlias = Callable[[str, int, int], None]


_WORDS_AT_ONCE = 2_000  # records whose words are taken in by one commit: it holds others up for some 20 ms
_TRIES = 3  # rounds in which the rows move away under an index that is being built


class _Stopped(Exception):
    """The collection is being closed: what was being built is let go."""


class Indexer:
    """Looks after the indexes: one thread builds at a time, and whoever wants to know may wait for it."""

    def __init__(self, layout: Layout, database: Database, views: Views, real: Queries) -> None:
        self._layout = layout
        self._database = database
        self._views = views
        self._real = real
        self._building = threading.RLock()  # held by whoever builds
        self._thread: threading.Thread | None = None
        self._threads = threading.Lock()
        self._again = False  # whether to look once more when the present round is done
        self._words_alone = True  # whether that is for the words alone
        self._stop = threading.Event()
        self._failed: NearkinError | None = None

    def start(self, *, words_alone: bool = False) -> None:
        """See to all spaces, or to the words of the texts alone, in the background; returns at once."""
        with self._threads:
            self._again = True
            self._words_alone &= words_alone
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="nearkin-index")
                self._thread.start()

    def _run(self) -> None:
        try:
            self._rounds()
        finally:  # or whoever waits for this thread would wait for ever, should it die of something unforeseen
            with self._threads:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _rounds(self) -> None:
        while True:
            with self._threads:
                if not self._again or self._stop.is_set():
                    self._thread = None
                    return
                words_alone, self._again, self._words_alone = self._words_alone, False, True
            try:
                if words_alone:
                    self._take_in_words()
                else:
                    self.bring_up_to_date()
            except _Stopped:
                continue
            except MemoryError:
                self._failed = CollectionError(
                    "there is too little memory to build an index, every row is scanned; "
                    "give it less to hold with: nearkin tune --memory"
                )
                log.warning("%s", self._failed)
            except NearkinError as error:
                # Every row can still be scanned, so this is no reason to fail a commit that is long done.
                self._failed = error
                log.warning("an index could not be built: %s", error)

    def wait(self) -> None:
        """Wait until the background has nothing left to do.

        Raises:
            CollectionError: an index could not be written since the last wait.
        """
        while (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def close(self, *, at_once: bool) -> None:
        """Let the background finish, or stop it at its next step, which loses nothing but its work."""
        if at_once:
            self._stop.set()
        try:
            self.wait()
        except NearkinError as error:
            log.warning("%s", error)
        except (KeyboardInterrupt, SystemExit):  # SIGTERM arrives as the latter
            self._stop.set()
            self.wait()
            raise
        finally:
            self._stop.set()

    @property
    def busy(self) -> bool:
        """Whether the background is at work."""
        return self._thread is not None

    def bring_up_to_date(self, progress: Progress | None = None) -> None:
        """Build what is missing or behind, in this thread.

        Raises:
            CollectionError: an index cannot be written.
        """
        with self._building:
            self._take_in_words()
            with self._database.reading() as transaction:
                spaces = reads.spaces(transaction)
            for space in spaces.values():
                if self._may_be_due(space):
                    self._bring_up(space, progress)

    def _take_in_words(self) -> None:
        with self._database.reading() as transaction:
            left = reads.state(transaction).next_record - full_text.until(transaction)
        while left:
            if self._stop.is_set():
                raise _Stopped
            with self._database.writing() as transaction:
                left = full_text.take_in(transaction, reads.state(transaction).next_record, _WORDS_AT_ONCE)
            reached(Step.WORDS_TAKEN_IN)

    def _may_be_due(self, space: Space) -> bool:
        """Whether a look at the rows themselves is worth its memory: not where few rows need no index."""
        with self._database.reading() as transaction:
            n = reads.rows_in(transaction, space)
            wanted = Wanted.from_json(reads.wanted(transaction, space))
            return reads.snapshot(transaction, space) is not None or choose.due(n, n, space.dim, 0, wanted)

    def _bring_up(self, space: Space, progress: Progress | None) -> None:
        def told(done: int, total: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            if progress is not None:
                progress(space.name, done, total)

        for _ in range(_TRIES):
            view, wanted, queries, missing = self._now(space)
            if not view.due(wanted) and not missing:
                return
            built = view.built(wanted, told, queries)
            if built is None:  # the rows have become few, or the user wants them scanned
                self._vouch(space, view, None, queries)
                view.let_go()
                return
            if self._vouch(space, view, built, queries):
                return
        log.info("space '%s' changes faster than its index is built; it will be tried again", space.name)

    def _now(self, space: Space) -> tuple[View, Wanted, Vectors, bool]:
        """The view at the latest commit, what is wanted of its index, the queries known, and if there should be one.

        The view may hold an index that the catalog vouches for no more, since compaction dropped rows of it.
        """
        while True:
            try:
                with self._database.reading() as transaction:
                    state = reads.state(transaction)
                    view = self._views.view(transaction, state, space)
                    wanted = Wanted.from_json(reads.wanted(transaction, space))
                    vouched = reads.snapshot(transaction, space)
                    kept = reads.queries(transaction, space)
                    missing = (
                        view.look.rows.n_alive > 0 and view.chosen(wanted) is not Kind.FLAT
                        if vouched is None
                        else self._damaged(state.uuid, space, view, vouched)
                    )
            except Behind:
                continue
            fresh = self._real.of(space)
            return view, wanted, fresh if len(fresh) >= len(kept) else kept, missing

    def _damaged(self, uuid: str, space: Space, view: View, vouched: dict[str, object]) -> bool:
        """Whether the index that the catalog vouches for cannot be used; it is then moved out of the way."""
        if view.structure is not None:
            return False
        try:
            snapshot.read(self._layout, vouched, uuid, space, view.look.rows)
        except CollectionCorrupt:
            moved = snapshot.quarantine(self._layout, str(vouched["file"]))
            log.warning("the index of space '%s' was damaged and is kept at %s", space.name, moved)
            return True
        return False

    def _vouch(
        self,
        space: Space,
        view: View,
        built: Built | None,
        queries: Vectors,
    ) -> bool:
        """Keep what was built, unless its rows have moved in the meantime; whether it was kept."""
        with self._database.reading() as transaction:
            uuid = reads.state(transaction).uuid
        kept = (
            None if built is None else snapshot.write(self._layout, uuid, space, built.rows, built.structure)
        )
        with self._database.writing() as transaction:
            if built is not None and kept is not None:
                rows = built.rows.part_keys
                there = reads.part_keys(transaction, space)
                if not np.array_equal(there[: len(rows)], rows) or not snapshot.exists(self._layout, kept):
                    snapshot.discard(self._layout, kept)
                    return False
                writes.record_tuning(transaction, space, built.tuning.to_json())
            writes.record_snapshot(transaction, space, None if kept is None else kept.to_json())
            if len(queries):
                writes.record_queries(transaction, space, queries)
        reached(Step.SNAPSHOT_RECORDED)
        if built is not None and kept is not None:
            view.adopt_built(built, kept.file)
        self._sweep()
        return True

    def _sweep(self) -> None:
        """Delete index files that the catalog does not vouch for, while nobody can be about to vouch for one."""
        with self._database.writing() as transaction:
            vouched = {
                there["file"]
                for space in reads.spaces(transaction).values()
                if (there := reads.snapshot(transaction, space)) is not None
            }
            snapshot.sweep(self._layout, vouched)
