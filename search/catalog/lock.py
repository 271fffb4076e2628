"""One writer at a time, across processes: whoever else wants to write waits, and is told who holds the lock."""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO

from search.errors import CollectionError, CollectionLocked
from search.layout import Layout

log = logging.getLogger(__name__)  # the command line shows it

_TELL_AFTER_S = 0.5  # of waiting
_LOOK_AGAIN_S = 0.01  # between two tries while another holds the lock


class WriteLock:
    """The right to write to a collection.

    The operating system drops it with the process that holds it, so a dead holder blocks nobody. One thread may
    take it again while it holds it.
    """

    def __init__(self, layout: Layout, wait_s: float) -> None:
        self._layout = layout
        self._wait_s = wait_s
        self._threads = threading.RLock()
        self._file: IO[bytes] | None = None  # kept open: to open it anew costs more than a small commit
        self._depth = 0
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._name = json.dumps({"pid": os.getpid(), "host": platform.node(), "open since": since})
        self._holder = layout.holder
        self._said: tuple[int, int] | None = None  # the holder file as we left it: inode, time of the change

    @contextmanager
    def held(self, wait_s: float | None = None) -> Iterator[None]:
        """Hold the lock for the length of the block.

        Raises:
            CollectionLocked: another process kept it for longer than the wait; the message names it.
        """
        with self._threads:
            if not self._depth:
                try:
                    self._take(self._wait_s if wait_s is None else wait_s)
                    self._say()
                except OSError as error:
                    self.close()
                    raise CollectionError(
                        f"{self._layout.root} cannot be written to ({error.strerror}); check its permissions"
                    ) from None
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth and self._file is not None:
                    import portalocker

                    portalocker.unlock(self._file)

    def _take(self, wait_s: float) -> None:
        if self._file is None:
            self._file = self._layout.lock.open("ab")
            weakref.finalize(self, self._file.close)  # should nobody close the collection
        import portalocker  # 20 ms, of which those who only read should pay nothing

        flags = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
        started = time.monotonic()
        give_up, told = started + wait_s, False
        while True:
            try:
                portalocker.lock(self._file, flags)
            except portalocker.AlreadyLocked:
                if time.monotonic() >= give_up:
                    raise CollectionLocked(f"{self._who()}; wait for it to finish and run again") from None
                if not told and time.monotonic() - started >= _TELL_AFTER_S:
                    log.info("%s; waiting up to %.0f s for it to finish", self._who(), wait_s)
                    told = True
                time.sleep(_LOOK_AGAIN_S)
            else:
                return

    def _say(self) -> None:
        """Leave our name beside the lock, unless it stands there still from the last time."""
        holder = self._holder
        if self._said is not None and self._said == _mark(holder):
            return
        holder.write_text(self._name, encoding="utf-8")
        self._said = _mark(holder)

    def _who(self) -> str:
        try:
            holder = json.loads(self._layout.holder.read_text(encoding="utf-8"))
            named = f"process {holder['pid']} on {holder['host']} (open since {holder['open since']})"
        except (OSError, ValueError, KeyError):
            named = "another process"  # it has not yet said its name
        return f"{self._layout.root} is being written to by {named}"

    def close(self) -> None:
        """Give the file back, and the lock with it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _mark(path: os.PathLike[str]) -> tuple[int, int] | None:
    """What tells a file from a later one of the same name."""
    try:
        there = os.stat(path)  # noqa: PTH116 - quicker than Path.stat, and done with every commit
    except FileNotFoundError:
        return None
    return there.st_ino, there.st_mtime_ns
