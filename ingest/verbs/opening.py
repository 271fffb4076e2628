"""What every filling verb begins with: its paths, and an open collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import search
from ingest.pipeline import Job
from ingest.report import Options
from search.collection import Collection
from search.errors import CollectionNotFound, SourceError
from search.writer import check_same

Paths: TypeAlias = str | Path | Sequence[str | Path]

DEFAULT = Options()
ROWS_PER_COMMIT = 65536  # where vectors are at hand already: long commits, to write at the disk's speed


def listed(paths: Paths) -> list[Path]:
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise SourceError("no path was given; name at least one file or folder")
    return [Path(one).expanduser() for one in several]


@contextmanager
def opened(collection: Collection | str | Path, *, must_write: bool = True) -> Iterator[Collection | None]:
    """An open collection; one opened here is closed again. Without `must_write` None stands for an absent one."""
    if isinstance(collection, Collection):
        yield collection
        return
    try:
        opened = search.open(collection, "rw" if must_write else "r")
    except CollectionNotFound:
        if must_write:
            raise
        yield None
        return
    with opened:
        yield opened


@contextmanager
def filled(collection: Collection | str | Path, job: Job, *, chosen: bool) -> Iterator[Collection]:
    """The open collection; a model that cannot be had is told before a new collection is made for it.

    With `chosen` more was said of the model than its name, and the space must have been made with that, even where
    nothing is left to encode.
    """
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(job.space)
    if known is None or known.encoder.model != job.model:
        job.encoder()
    elif chosen:
        check_same(known, job.encoder().spec)
    with opened(collection) as there:
        assert there is not None
        yield there
