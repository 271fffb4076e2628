"""What is written beside its place and takes its name only when it is whole and durable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from search.errors import CollectionError
from search.failpoints import Step, reached
from search.layout import sync_directory


@contextmanager
def whole(target: Path, *, replace: bool = False, parents: bool = False) -> Iterator[Path]:
    """A path at which to write a file or to fill a directory that becomes `target` when the block ends.

    Everything written is fsync'd, then renamed. If the block raises, or the process dies, nothing of it stands
    under the name; what a dead process left beside it is cleared away by the next one that writes there.

    Args:
        target: the name to be had in the end.
        replace: whether a file of that name may be there already; it stays as it is until the very end.
        parents: whether to make the directories above it where there are none.

    Raises:
        CollectionError: there is something, another process is writing it, or the disk is full or read-only.
    """
    try:
        fresh = _make_parents(target) if parents else []
        target.parent.stat()  # or the lock would make it
        lock = FileLock(target.with_name(f".{target.name}.partial.lock"))
        with _alone(lock, target):
            _refuse_existing(target, replace=replace)
            partial = target.with_name(f".{target.name}.partial")
            _remove(partial)
            try:
                yield partial
                reached(Step.COPY_WRITTEN)
                _sync(partial)
                reached(Step.COPY_SYNCED)
                _refuse_existing(target, replace=replace)
                partial.replace(target)
            except BaseException:
                _remove(partial)
                raise
            for directory in (target.parent, *fresh):
                sync_directory(directory)
            reached(Step.COPY_NAMED)
    except OSError as error:
        place = target if error.filename is None else error.filename
        raise CollectionError(
            f"{target} cannot be written ({error.strerror or error}: {place}); check the path and the disk"
        ) from None


def _make_parents(target: Path) -> list[Path]:
    """Make the directories above; those that hold a new name, and have to be made durable with it."""
    fresh = []
    above = target.parent
    while not above.exists():
        above = above.parent
        fresh.append(above)
    target.parent.mkdir(parents=True, exist_ok=True)
    return fresh


@contextmanager
def _alone(lock: FileLock, target: Path) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CollectionError(
            f"{target} is being written by another process; wait for it, or name another place"
        ) from None
    try:
        yield
    finally:
        # While it is held: whoever has opened it meanwhile finds that it is gone, and begins anew.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _refuse_existing(target: Path, *, replace: bool) -> None:
    if not replace and (target.exists() or target.is_symlink()):
        raise CollectionError(f"{target} exists already; name a new place, nothing is overwritten")
    if replace and target.is_dir():
        raise CollectionError(f"{target} is a directory; name a file")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _sync(path: Path) -> None:
    """Make a file durable, or a directory with all that it holds."""
    if path.is_dir():
        for below in path.iterdir():
            _sync(below)
        sync_directory(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
