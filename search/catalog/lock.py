"""One writer at a time, across processes: whoever else wants to write waits, and is told who holds the lock."""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from search.errors import CollectionError, CollectionLocked
from search.layout import Layout


class WriteLock:
    """The right to write to a collection.

    The operating system drops it with the process that holds it, so a dead holder blocks nobody. One thread may
    take it again while it holds it.
    """

    def __init__(self, layout: Layout, wait_s: float) -> None:
        self._layout = layout
        self._wait_s = wait_s
        self._threads = threading.RLock()
        self._file = FileLock(layout.lock, thread_local=False)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._name = json.dumps({"pid": os.getpid(), "host": platform.node(), "open since": since})

    @contextmanager
    def held(self, wait_s: float | None = None) -> Iterator[None]:
        """Hold the lock for the length of the block.

        Raises:
            CollectionLocked: another process kept it for longer than the wait; the message names it.
        """
        with self._threads:
            try:
                self._file.acquire(timeout=self._wait_s if wait_s is None else wait_s)
            except Timeout:
                raise CollectionLocked(self._who()) from None
            except OSError as error:
                raise CollectionError(
                    f"{self._layout.root} cannot be written to ({error.strerror}); check its permissions"
                ) from None
            try:
                if self._file.lock_counter == 1:
                    self._say()
                yield
            finally:
                self._file.release()

    def _say(self) -> None:
        """Leave our name beside the lock, unless it stands there still from the last time."""
        holder = self._layout.holder
        if holder.is_file() and holder.read_text(encoding="utf-8") == self._name:
            return
        holder.write_text(self._name, encoding="utf-8")

    def _who(self) -> str:
        try:
            holder = json.loads(self._layout.holder.read_text(encoding="utf-8"))
            named = f"process {holder['pid']} on {holder['host']} (open since {holder['open since']})"
        except (OSError, ValueError, KeyError):
            named = "another process"  # it has not yet said its name
        return f"{self._layout.root} is being written to by {named}; wait for it to finish and run again"
