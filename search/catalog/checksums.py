"""Checksums of the catalog's rows, so that a changed letter is noticed wherever the row is read for an answer."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import orjson

from search.errors import CollectionCorrupt

_RESTORE = "restore the collection from a backup"
_WHOLE = (None,) * 6  # what stands in the row of a part that is a whole record


def of(values: Sequence[object]) -> int:
    """The crc32 of some values of a row.

    Over the JSON array of them, in UTF-8 and without spaces, so that no letter can move from one to the next
    unnoticed, and what is not there differs from what is empty.

    Args:
        values: whole numbers, texts and None.

    Raises:
        TypeError: the row is so damaged that a value is of another type, or no text.
    """
    return zlib.crc32(orjson.dumps(values))


def check_records(rows: Sequence[tuple[Any, ...]]) -> None:
    """As `check_record` for each of the rows, in less time.

    Raises:
        CollectionCorrupt: one is not what was written.
    """
    sum_up, write = zlib.crc32, orjson.dumps
    try:
        good = all([sum_up(write(row[:6])) == row[6] for row in rows])  # noqa: C419 - by far the quicker
    except TypeError:
        good = False
    if not good:
        for row in rows:
            check_record(row)


def check_record(row: tuple[Any, ...]) -> None:
    """Check a row of `key, id, kind, uri, text, metadata, checksum`.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    if not _fits(row):
        raise damaged_record(row[0], row[1])


def damaged_record(key: int, id: object) -> CollectionCorrupt:
    """The error that names a damaged record; its id may itself be what is damaged."""
    name = id.decode("utf-8", "replace") if isinstance(id, bytes) else str(id)
    return CollectionCorrupt(f"record {key} ({name!r}) does not match its checksum; {_RESTORE}")


def missing_record(key: int) -> CollectionCorrupt:
    """The error for a record or part that a vector belongs to and that cannot be found."""
    return CollectionCorrupt(f"record or part {key} has a vector and is not in the catalog; {_RESTORE}")


def damaged_id(id: str) -> CollectionCorrupt:
    """The error for an id that leads to another record, or nowhere, since the index on ids is damaged."""
    return CollectionCorrupt(f"the catalog's index on ids is damaged near {id!r}; {_RESTORE}")


def of_part(row: Sequence[object]) -> int:
    """The checksum of `key, record_key, space_key, start, end, box, label, score`; labels came later than the rest."""
    return of(row[:6] if tuple(row[6:]) == (None, None) else row)


def check_part(row: tuple[Any, ...]) -> None:
    """Check a row of `key, record_key, space_key, start, end, box, label, score, checksum`.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    if row[3:] == _WHOLE:  # which has no checksum
        return
    if not _fits((*row[:6], row[8]) if row[6:8] == (None, None) else row):
        raise CollectionCorrupt(f"part {row[0]} does not match its checksum; {_RESTORE}")


def check_space(row: tuple[Any, ...]) -> None:
    """Check a row of the space's columns, of which the second is its name and the last the checksum.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    if not _fits(row):
        raise CollectionCorrupt(f"space {row[1]!r} does not match its checksum; {_RESTORE}")


def check_state(row: tuple[Any, ...]) -> None:
    """Check a row of the counters, of which the last is their checksum.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    if not _fits(row):
        raise CollectionCorrupt(f"the counters of the catalog do not match their checksum; {_RESTORE}")


def _fits(row: tuple[Any, ...]) -> bool:
    try:
        return of(row[:-1]) == int(row[-1])
    except (TypeError, ValueError):
        return False
