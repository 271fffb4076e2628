"""Checksums of the catalog's rows, so that a changed letter is noticed wherever the row is read for an answer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from search.errors import CollectionCorrupt

_RESTORE = "restore the collection from a backup"


def of_record(
    key: int, id: str, kind: str | None, uri: str | None, text: str | None, metadata: str, /
) -> int:
    """The crc32 of a record as it stands in the catalog.

    The lengths stand in front, -1 for None, so that no letter can move from one field to the next unnoticed.

    Raises:
        TypeError, UnicodeEncodeError: the row is so damaged that a field is of another type, or no text.
    """
    return zlib.crc32(
        f"{key} {len(id)} {-1 if kind is None else len(kind)} {-1 if uri is None else len(uri)} "
        f"{-1 if text is None else len(text)} {id}{kind}{uri}{text}{metadata}".encode()
    )


def check_record(row: Sequence[Any]) -> None:
    """Check a row of `key, id, kind, uri, text, metadata, checksum`.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    key, id, kind, uri, text, metadata, checksum = row
    try:
        if of_record(key, id, kind, uri, text, metadata) == checksum:
            return
    except (TypeError, UnicodeEncodeError):
        pass  # not even its types are right
    raise damaged_record(key, id)


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


def of_part(
    key: int, record_key: int, space_key: int, start: int | None, end: int | None, box: str | None
) -> int:
    """The crc32 of a part that is a piece of its record; a whole one has none."""
    return zlib.crc32(f"{key} {record_key} {space_key} {start} {end} {box}".encode())


def check_part(row: Sequence[Any]) -> None:
    """Check a row of `key, record_key, space_key, start, end, box, checksum`.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    *said, checksum = row
    whole = said[3] is None and said[4] is None and said[5] is None
    if checksum != (None if whole else of_part(*said)):
        raise CollectionCorrupt(f"part {row[0]} does not match its checksum; {_RESTORE}")


def of_space(row: Sequence[Any]) -> int:
    """The crc32 of a space: all but the vectors kept with it."""
    return zlib.crc32(json.dumps(list(row)).encode())


def check_space(row: Sequence[Any], checksum: object) -> None:
    """Check a row of the space's columns, of which the second is its name.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    try:
        if of_space(row) == checksum:
            return
    except TypeError:
        pass  # bytes where a text was
    raise CollectionCorrupt(f"space {row[1]!r} does not match its checksum; {_RESTORE}")


def of_state(uuid: str, *counters: int) -> int:
    """The crc32 of the counters of the catalog."""
    return zlib.crc32(f"{uuid} {counters}".encode())


def check_state(row: Sequence[Any]) -> None:
    """Check a row of the counters, of which the last is their checksum.

    Raises:
        CollectionCorrupt: it is not what was written.
    """
    if of_state(*row[:-1]) != row[-1]:
        raise CollectionCorrupt(f"the counters of the catalog do not match their checksum; {_RESTORE}")
