"""Small pictures of records, kept in the catalog for the pages that show hits."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from search.catalog.database import Transaction
from search.catalog.reads import listed
from search.errors import CollectionCorrupt
from search.types import Modality, Space

_AMONG = "record_key in (select value from json_each(?))"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture: `data` is a WebP file, no side of it is longer than `side` pixels."""

    data: bytes
    side: int


def put(transaction: Transaction, thumbnails: Mapping[int, Thumbnail]) -> None:
    """Keep thumbnails by the keys of their records, in the place of those that are there."""
    transaction.many(
        "insert or replace into thumbnail (record_key, side, data, checksum) values (?, ?, ?, ?)",
        [(key, one.side, one.data, _checksum(key, one.data)) for key, one in thumbnails.items()],
    )


def drop_outdated(transaction: Transaction, record_keys: Sequence[int], space: Space) -> None:
    """Drop those of records whose vectors in a space of pictures are about to be replaced."""
    if space.modality is not Modality.IMAGE:
        return
    transaction.sql(
        f"delete from thumbnail where {_AMONG} and exists "  # noqa: S608 - the condition above
        "(select 1 from part where part.record_key = thumbnail.record_key and space_key = ?)",
        (listed(record_keys), space.key),
    )


def drop_pictureless(transaction: Transaction, record_keys: Sequence[int]) -> None:
    """Drop those of records that are gone, or have no vector in a space of pictures any more."""
    transaction.sql(
        f"delete from thumbnail where {_AMONG} and not exists (select 1 from part "  # noqa: S608 - the condition above
        "join space on space.key = part.space_key where part.record_key = thumbnail.record_key and modality = ?)",
        (listed(record_keys), Modality.IMAGE.value),
    )


def get(transaction: Transaction, id: str) -> bytes | None:
    """The thumbnail of a record; None where it has none, or there is no such record.

    Raises:
        CollectionCorrupt: it does not match its checksum.
    """
    row = transaction.sql(
        "select record_key, data, thumbnail.checksum from thumbnail join record on record.key = record_key "
        "where record.id = ?",
        (id,),
    ).fetchone()
    if row is None:
        return None
    key, data, checksum = row
    if not _fits(key, data, checksum):
        raise _damaged(key)
    return bytes(data)


def lacking(transaction: Transaction, ids: Sequence[str], side: int) -> dict[str, int]:
    """The key of each of these records that has no thumbnail of this size, by id."""
    rows = transaction.sql(
        "select id, key from record where id in (select value from json_each(?)) and not exists "
        "(select 1 from thumbnail where record_key = record.key and side = ?)",
        (listed(ids), side),
    )
    return dict(rows.fetchall())


def size(transaction: Transaction) -> tuple[int, int]:
    """How many there are, and their bytes."""
    count, n_bytes = transaction.sql("select count(*), sum(length(data)) from thumbnail").fetchone()
    return count, n_bytes or 0


def problems(transaction: Transaction) -> Iterator[str]:
    """One line for each that is damaged, or of no record."""
    for key, data, checksum in transaction.sql("select record_key, data, checksum from thumbnail"):
        if not _fits(key, data, checksum):
            yield str(_damaged(key))
    for (key,) in transaction.sql(
        "select record_key from thumbnail where record_key not in (select key from record)"
    ):
        yield f"the thumbnail of record {key} is of no record; restore a backup"


def _checksum(key: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(key.to_bytes(8, "little")))


def _fits(key: int, data: object, checksum: object) -> bool:
    return isinstance(data, bytes) and _checksum(key, data) == checksum


def _damaged(key: int) -> CollectionCorrupt:
    return CollectionCorrupt(
        f"the thumbnail of record {key} does not match its checksum; restore the collection from a backup"
    )
