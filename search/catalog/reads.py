"""Questions to the catalog; each runs inside one read transaction of the caller's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import orjson

from search.catalog.database import Transaction
from search.catalog.metadata_text import decoded
from search.catalog.packing import Packed, keys, unpack
from search.types import EncoderSpec, Json, Metric, Modality, Record, Space
from search.vectors import Batch, Keys

# Lists travel as one JSON array: no limit on their length, and one compiled statement for all lengths. A short list
# of keys is quicker as so many question marks.
_FEW = 128

_STATE = "select uuid, commit_seq, epoch, spaces_seq, next_record, next_part from state"
_RECORD = "key, id, kind, uri, text, metadata"


@dataclass(frozen=True, slots=True)
class State:
    """The counters of the catalog.

    `commit_seq` moves with each commit, `epoch` with each compaction, `spaces_seq` with each change to a space:
    a new one, another model, another index.
    """

    uuid: str
    commit_seq: int
    epoch: int
    spaces_seq: int
    next_record: int
    next_part: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it stands in the catalog, with its key."""

    key: int
    record: Record


# What a hit shows: id, uri, text (the passage where the part is one), metadata, and the part as JSON or None.
Shown: TypeAlias = "tuple[str, str | None, str | None, dict[str, Json], dict[str, Json] | None]"


def listed(values: Iterable[int | str]) -> str:
    """A list as one value to bind, for `in (select value from json_each(?))`."""
    return orjson.dumps(list(values)).decode()


def stored(row: Sequence[Any]) -> Stored:
    """The record in a row of `key, id, kind, uri, text, metadata`."""
    key, id, kind, uri, text, metadata = row
    return Stored(key, Record(id, kind, uri, text, decoded(metadata)))


def key_array(rows: Iterable[Sequence[Any]]) -> Keys:
    """The first column of the rows."""
    return np.array([row[0] for row in rows], dtype=np.int64)


def state(transaction: Transaction) -> State:
    """The counters, as of the reader's transaction."""
    return State(*transaction.sql(_STATE).fetchone())


def spaces(transaction: Transaction) -> dict[str, Space]:
    """All spaces by name, in the order of their making."""
    return {
        name: Space(
            key, name, Modality(modality), dim, Metric(metric), EncoderSpec.from_json(json.loads(encoder))
        )
        for key, name, modality, dim, metric, encoder in transaction.sql(
            "select key, name, modality, dim, metric, encoder from space order by key"
        )
    }


def _of_space(transaction: Transaction, column: str, space: Space) -> dict[str, Any] | None:
    found = transaction.value(f"select {column} from space where key = ?", (space.key,))  # noqa: S608 - ours
    return None if found is None else json.loads(found)


def snapshot(transaction: Transaction, space: Space) -> dict[str, Any] | None:
    """What the catalog vouches for of the space's index file, or None."""
    return _of_space(transaction, "snapshot", space)


def tuning(transaction: Transaction, space: Space) -> dict[str, Any] | None:
    """The search effort chosen for the space's index and the recall measured with it, or None."""
    return _of_space(transaction, "tuning", space)


def wanted(transaction: Transaction, space: Space) -> dict[str, Any] | None:
    """What the user asked of the space's index (recall, memory), or None."""
    return _of_space(transaction, "wanted", space)


def queries(transaction: Transaction, space: Space) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The sample of real queries (n, dim) kept with the space; n may be 0."""
    blob = transaction.value("select queries from space where key = ?", (space.key,)) or b""
    return np.frombuffer(blob, "<f4").reshape(-1, space.dim)


def probes(transaction: Transaction, space: Space) -> bytes | None:
    """The stored vectors of the probe items, as float32 rows, or None."""
    found: bytes | None = transaction.value("select probes from space where key = ?", (space.key,))
    return found


def model(transaction: Transaction, sha256: str) -> bytes | None:
    """The bytes of a learned model, or None."""
    found: bytes | None = transaction.value("select data from model where sha256 = ?", (sha256,))
    return found


def rows_in(transaction: Transaction, space: Space) -> int:
    """How many rows the space's batches hold, dead ones included."""
    found = transaction.value("select coalesce(sum(n), 0) from batch where space_key = ?", (space.key,))
    return int(found)


def batches(
    transaction: Transaction, space: Space, after_part: int = 0, until_part: int | None = None
) -> Iterator[Batch]:
    """The space's batches that hold parts after `after_part` (up to `until_part`), in order, each checked.

    The first may begin with parts up to `after_part`: compaction joins batches.

    Raises:
        CollectionCorrupt: a batch does not match its checksum.
    """
    rows = transaction.sql(
        "select key, n, part_keys, record_keys, vectors, checksum from batch "
        "where space_key = ? and last_part > ? and first_part <= ? order by first_part",
        (space.key, after_part, (1 << 62) if until_part is None else until_part),
    )
    for key, n, part_keys, record_keys, vectors, checksum in rows:
        packed = Packed(part_keys, record_keys, vectors, checksum)
        yield unpack(packed, n, space.dim, f"batch {key} of space '{space.name}'")


def part_keys(transaction: Transaction, space: Space) -> Keys:
    """The keys of all parts whose vectors stand in the catalog, dead ones included, ascending."""
    blobs = transaction.sql(
        "select part_keys from batch where space_key = ? order by first_part", (space.key,)
    )
    return np.concatenate([np.empty(0, np.int64), *(keys(blob) for (blob,) in blobs)])


def has_pieces(transaction: Transaction, space: Space, after_part: int = 0) -> bool:
    """Whether parts after `after_part` may be pieces of records (passages, regions) and not whole ones."""
    return bool(
        transaction.value(
            "select exists (select 1 from batch where space_key = ? and last_part > ? and pieces)",
            (space.key, after_part),
        )
    )


def tombstones(transaction: Transaction, space: Space, after: int = -1) -> Keys:
    """Keys of the space's parts deleted in commits later than `after`, ascending."""
    rows = transaction.sql(
        "select part_key from tombstone where space_key = ? and commit_seq > ? order by part_key",
        (space.key, after),
    )
    return key_array(rows)


def parts_of(transaction: Transaction, space: Space, record_keys: Iterable[int]) -> dict[int, list[int]]:
    """The part keys, ascending, of each of these records in the space."""
    rows = transaction.sql(
        "select record_key, key from part where space_key = ? "
        "and record_key in (select value from json_each(?)) order by key",
        (space.key, listed(record_keys)),
    )
    found: dict[int, list[int]] = {}
    for record_key, key in rows:
        found.setdefault(record_key, []).append(key)
    return found


def keys_of(transaction: Transaction, ids: Sequence[str]) -> dict[str, int]:
    """The keys of those of `ids` that exist."""
    return dict(
        transaction.sql(
            "select id, key from record where id in (select value from json_each(?))", (listed(ids),)
        )
    )


def records_of(transaction: Transaction, ids: Sequence[str]) -> dict[str, Stored]:
    """Those of `ids` that exist, whole."""
    rows = transaction.sql(
        f"select {_RECORD} from record where id in (select value from json_each(?))",  # noqa: S608 - columns
        (listed(ids),),
    )
    return {row[1]: stored(row) for row in rows}


@lru_cache(maxsize=2 * _FEW + 2)
def _shown(n: int, pieces: bool) -> str:
    """The question for what is shown of `n` records, or parts of records; n = 0 takes a JSON array."""
    among = ",".join("?" * n) if n else "select value from json_each(?)"
    if not pieces:
        return f"select key, id, uri, text, metadata from record where key in ({among})"  # noqa: S608 - marks
    return (
        'select part.key, id, uri, text, metadata, start, "end", box '  # noqa: S608 - question marks
        f"from part join record on record.key = part.record_key where part.key in ({among})"
    )


def shown(transaction: Transaction, wanted: Sequence[int], *, pieces: bool) -> dict[int, Shown]:
    """What a hit shows, by the key of the part; or, where parts are whole records, by that of the record."""
    few = 0 < len(wanted) <= _FEW
    rows = transaction.sql(
        _shown(len(wanted) if few else 0, pieces), wanted if few else (listed(wanted),)
    ).fetchall()
    if not pieces:
        return {key: (id, uri, text, decoded(metadata), None) for key, id, uri, text, metadata in rows}
    found: dict[int, Shown] = {}
    for key, id, uri, text, metadata, start, end, box in rows:
        piece: dict[str, Json] = {}
        words = text
        if start is not None:
            piece |= {"start": start, "end": end}
            # Cut here, not by SQLite, for which a text ends at a NUL character.
            words = None if text is None else text[start:end]
        if box is not None:
            piece["box"] = json.loads(box)
        found[key] = (id, uri, words, decoded(metadata), piece or None)
    return found


def fields(transaction: Transaction) -> list[str]:
    """The names of all metadata fields that records have had, nested ones with dots, sorted."""
    return [row[0] for row in transaction.sql("select name from field order by name")]


def digests(transaction: Transaction, space: Space, ids: Sequence[str]) -> dict[str, bytes]:
    """The hash of the input behind each of these records' vectors in the space, where one is known."""
    return dict(
        transaction.sql(
            "select record.id, synced.digest from record join synced on synced.record_key = record.key "
            "where synced.space_key = ? and record.id in (select value from json_each(?))",
            (space.key, listed(ids)),
        )
    )


def ids_from(transaction: Transaction, space: Space, origins: Sequence[str]) -> list[str]:
    """Ids of the records whose vectors in the space came from one of these origins."""
    rows = transaction.sql(
        "select record.id from synced join record on record.key = synced.record_key "
        "where synced.space_key = ? and synced.origin in (select value from json_each(?)) order by record.key",
        (space.key, listed(origins)),
    )
    return [row[0] for row in rows]


def ids_in(transaction: Transaction, space: Space) -> list[str]:
    """Ids of the records that have a vector in the space, in the order in which they were first added."""
    rows = transaction.sql(
        "select id from record where key in (select record_key from part where space_key = ?) order by key",
        (space.key,),
    )
    return [row[0] for row in rows]


def origins(transaction: Transaction, space: Space) -> list[str]:
    """The files and folders that the space's vectors came from, sorted."""
    rows = transaction.sql(
        "select distinct origin from synced where space_key = ? order by origin", (space.key,)
    )
    return [row[0] for row in rows]


def counts(transaction: Transaction) -> dict[int, tuple[int, int]]:
    """For each space key: how many records have vectors in it, and how many parts they have."""
    rows = transaction.sql(
        "select space_key, count(distinct record_key), count(*) from part group by space_key"
    )
    return {key: (records, parts) for key, records, parts in rows}


def changed_since(transaction: Transaction, commit_seq: int) -> Keys:
    """Keys of the records added or changed in commits later than this, ascending; deleted ones are not told."""
    rows = transaction.sql("select key from record where changed > ? order by key", (commit_seq,))
    return key_array(rows)
