"""Writes the parts of records (their rows, packed vectors, where these came from), and takes them out again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.catalog import checksums, reads
from search.catalog.database import Transaction
from search.catalog.packing import pack
from search.catalog.thumbnails import Thumbnail
from search.types import WHOLE, Part, Space
from search.vectors import Batch, Keys, Vectors

# Of packed vectors in one row: whoever reads it holds it twice for a moment, once in SQLite and once outside.
MOST_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record's vectors came from: the hash of the input, and the file or folder that held it."""

    digest: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """New vectors of a space: row i of `vectors` is part `parts[i]` of record number `owners[i]` of the commit.

    `parts` is None where row i is record number i, whole.
    """

    space: Space
    vectors: Vectors
    owners: Sequence[int] = ()
    parts: Sequence[Part] | None = None
    provenance: Sequence[Provenance] = ()  # one per record, or none at all
    thumbnails: Sequence[Thumbnail | None] = ()  # likewise


def write_pieces(
    transaction: Transaction, pieces: Pieces, keys: Sequence[int], next_part: int, commit_seq: int
) -> int:
    """The part rows, the packed batch, and where they came from; how many parts there are."""
    n = len(pieces.vectors)
    space_key = pieces.space.key
    owners = np.array(keys, dtype=np.int64)
    if pieces.parts is not None:
        owners = owners[np.asarray(pieces.owners, dtype=np.int64)]
    part_keys = np.arange(next_part, next_part + n, dtype=np.int64)
    if n:
        _write_parts(transaction, pieces, part_keys, owners)
        batch = Batch(part_keys, owners, pieces.vectors)
        write_batch(transaction, space_key, commit_seq, batch, pieces=pieces.parts is not None)
    if pieces.provenance:
        transaction.many(
            "insert into synced (space_key, record_key, digest, origin) values (?, ?, ?, ?) "
            "on conflict do update set digest = excluded.digest, origin = excluded.origin",
            [
                (space_key, key, origin.digest, origin.origin)
                for key, origin in zip(keys, pieces.provenance, strict=True)
            ],
        )
    return n


def _write_parts(transaction: Transaction, pieces: Pieces, part_keys: Keys, owners: Keys) -> None:
    n, space_key = len(part_keys), pieces.space.key
    if pieces.parts is None and n > 1 and owners[-1] - owners[0] == n - 1 and (np.diff(owners) == 1).all():
        # New records, whole: both keys count up, and SQLite counts faster than we could tell it each number.
        transaction.sql(
            "insert into part (key, record_key, space_key) with recursive number (i) as "
            "(select 0 union all select i + 1 from number where i < ? - 1) select i + ?, i + ?, ? from number",
            (n, int(part_keys[0]), int(owners[0]), space_key),
        )
        return
    parts = pieces.parts if pieces.parts is not None else [WHOLE] * n
    transaction.many(
        'insert into part (key, record_key, space_key, start, "end", box, label, score, checksum) '
        "values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            _part_row(key, owner, space_key, part)
            for key, owner, part in zip(part_keys.tolist(), owners.tolist(), parts, strict=True)
        ],
    )


def _part_row(key: int, owner: int, space_key: int, part: Part) -> tuple[Any, ...]:
    if part == WHOLE:
        return (key, owner, space_key, *[None] * 6)
    box = None if part.box is None else json.dumps(part.box)
    row = (key, owner, space_key, part.start, part.end, box, part.label, part.score)
    return (*row, checksums.of_part(row))


def write_batch(
    transaction: Transaction, space_key: int, commit_seq: int, batch: Batch, *, pieces: bool
) -> None:
    """Pack the rows into one batch, or into several where one would be too long."""
    step = max(1, MOST_BYTES // (4 * batch.vectors.shape[1]))
    for begin in range(0, len(batch.part_keys), step):
        span = slice(begin, begin + step)
        part_keys = batch.part_keys[span]
        packed = pack(Batch(part_keys, batch.record_keys[span], batch.vectors[span]), pieces=pieces)
        transaction.sql(
            "insert into batch (space_key, commit_seq, n, part_keys, record_keys, vectors, checksum, "
            "first_part, last_part, pieces) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                space_key,
                commit_seq,
                len(part_keys),
                packed.part_keys,
                packed.record_keys,
                packed.vectors,
                packed.checksum,
                int(part_keys[0]),
                int(part_keys[-1]),
                pieces,
            ),
        )


def drop_parts(
    transaction: Transaction, record_keys: Sequence[int], space_keys: Sequence[int], commit_seq: int
) -> None:
    """Take these records out of these spaces: tombstones for the vectors, no part rows, no sync state."""
    if not record_keys or not space_keys:
        return
    leaving = (
        "where record_key in (select value from json_each(?)) "
        "and space_key in (select value from json_each(?))"
    )
    listed = (reads.listed(record_keys), reads.listed(space_keys))
    transaction.sql(
        f"insert into tombstone (part_key, space_key, commit_seq) select key, space_key, ? from part {leaving}",  # noqa: S608 - the condition above
        (commit_seq, *listed),
    )
    transaction.sql(f"delete from part {leaving}", listed)  # noqa: S608 - the condition above
    transaction.sql(f"delete from synced {leaving}", listed)  # noqa: S608 - likewise
