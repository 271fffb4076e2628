"""Questions to the catalog; each runs inside one read transaction of the caller's."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import orjson

from search.catalog import checksums
from search.catalog.database import Transaction, undecodable
from search.catalog.metadata_text import decoded
from search.catalog.packing import Packed, keys, unpack
from search.errors import CollectionCorrupt
from search.types import EncoderSpec, Metric, Modality, Record, Space
from search.vectors import Batch, Keys

Row: TypeAlias = "tuple[Any, ...]"

# What the checksum of a row is over.
STATE = "uuid, commit_seq, epoch, spaces_seq, next_record, next_part"
SPACE = "key, name, modality, dim, metric, encoder, snapshot, tuning, wanted"
_STATE = f"select {STATE}, checksum from state"  # noqa: S608 - columns
RECORD = "key, id, kind, uri, text, metadata, checksum"


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
    """A record as it stands in the catalog, with its key and its metadata as text."""

    key: int
    record: Record
    metadata: str


def listed(values: Iterable[int | str]) -> str:
    """A list as one value to bind, for `in (select value from json_each(?))`: of any length, compiled once."""
    return orjson.dumps(list(values)).decode()


def stored(row: Row) -> Stored:
    """The record in a row of `key, id, kind, uri, text, metadata, checksum`.

    Raises:
        CollectionCorrupt: it does not match its checksum.
    """
    checksums.check_record(row)
    key, id, kind, uri, text, metadata, _ = row
    return Stored(key, Record(id, kind, uri, text, decoded(metadata)), metadata)


def all_readable(transaction: Transaction, text: str, values: Sequence[Any]) -> list[Row]:
    """The rows of such a question as `readable` gives, in one list.

    Raises:
        CollectionCorrupt: see `readable`.
    """
    try:
        return transaction.sql(text, values).fetchall()
    except sqlite3.OperationalError:
        return list(readable(transaction, lambda: transaction.sql(text, values)))


def readable(transaction: Transaction, ask: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """The rows of a question whose first two columns are a record's key and id.

    Raises:
        CollectionCorrupt: a text in a row is no text any more; SQLite would not say in which.
    """
    try:
        for row in ask():  # not `yield from`, which would close the cursor, if only after its connection
            yield row
    except sqlite3.OperationalError as error:
        if not undecodable(error):
            raise
        with transaction.as_bytes():
            for row in ask():  # not `yield from`, which would close the cursor, if only after its connection
                if any(isinstance(value, bytes) and not _is_text(value) for value in row):
                    raise checksums.damaged_record(row[0], row[1]) from None
        raise


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def key_array(rows: Iterable[Sequence[Any]]) -> Keys:
    """The first column of the rows."""
    return np.array([row[0] for row in rows], dtype=np.int64)


def state(transaction: Transaction) -> State:
    """The counters, as of the reader's transaction.

    Raises:
        CollectionCorrupt: they do not match their checksum.
    """
    return State(*state_row(transaction)[:-1])


def state_row(transaction: Transaction) -> Row:
    """The counters with their checksum, in the order of the fields of `State`.

    Raises:
        CollectionCorrupt: they do not match their checksum.
    """
    row: Row | None = transaction.sql(_STATE).fetchone()
    if row is None:
        raise CollectionCorrupt("the catalog has lost its counters; restore the collection from a backup")
    checksums.check_state(row)
    return row


def spaces(transaction: Transaction) -> dict[str, Space]:
    """All spaces by name, in the order of their making.

    Raises:
        CollectionCorrupt: one does not match its checksum.
    """
    found: dict[str, Space] = {}
    for row in transaction.sql(f"select {SPACE}, checksum from space order by key"):  # noqa: S608 - columns
        checksums.check_space(row)
        key, name, modality, dim, metric, encoder, *_ = row
        spec = EncoderSpec.from_json(json.loads(encoder))
        found[name] = Space(key, name, Modality(modality), dim, Metric(metric), spec)
    return found


def _of_space(transaction: Transaction, column: str, space: Space) -> dict[str, Any] | None:
    found = transaction.value(f"select {column} from space where key = ?", (space.key,))  # noqa: S608 - ours
    try:
        return None if found is None else json.loads(found)
    except (TypeError, ValueError):
        raise CollectionCorrupt(
            f"the {column} of space '{space.name}' cannot be read; restore the collection from a backup"
        ) from None


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
    """The bytes of a learned model, or None.

    Raises:
        CollectionCorrupt: they are not those that were kept.
    """
    found: bytes | None = transaction.value("select data from model where sha256 = ?", (sha256,))
    if found is not None and hashlib.sha256(found).hexdigest() != sha256:
        raise CollectionCorrupt(
            f"the model {sha256} does not match its checksum; restore the collection from a backup"
        )
    return found


def rows_in(transaction: Transaction, space: Space) -> int:
    """How many rows the space's batches hold, dead ones included."""
    # By the length of the keys and not by `n`, which no checksum covers before the batch is read.
    found = transaction.value(
        "select coalesce(sum(length(part_keys)), 0) / 8 from batch where space_key = ?", (space.key,)
    )
    return int(found)


def batches(
    transaction: Transaction, space: Space, after_part: int = 0, until_part: int | None = None
) -> Generator[Batch, None, None]:
    """The space's batches that hold parts after `after_part` (up to `until_part`), in order, each checked.

    The first may begin with parts up to `after_part`: compaction joins batches.

    Raises:
        CollectionCorrupt: a batch does not match its checksum.
    """
    rows = transaction.sql(
        "select key, n, part_keys, record_keys, vectors, checksum, pieces from batch "
        "where space_key = ? and last_part > ? and first_part <= ? order by last_part",
        (space.key, after_part, (1 << 62) if until_part is None else until_part),
    )
    for key, n, part_keys, record_keys, vectors, checksum, pieces in rows:
        packed = Packed(part_keys, record_keys, vectors, checksum)
        yield unpack(packed, n, space.dim, f"batch {key} of space '{space.name}'", pieces=bool(pieces))


def part_keys(transaction: Transaction, space: Space) -> Keys:
    """The keys of all parts whose vectors stand in the catalog, dead ones included, ascending."""
    blobs = transaction.sql(
        "select part_keys from batch where space_key = ? order by last_part", (space.key,)
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
    """The part keys, ascending, of each of these records in the space.

    Raises:
        CollectionCorrupt: a record leads to a part of another one.
    """
    found: dict[int, list[int]] = {}
    # The first from the index on records, the second from the part itself.
    for record_key, true, key in transaction.sql(
        "select led.record_key, part.record_key, part.key from part as led join part on part.key = led.key "
        "where part.space_key = ? and led.record_key in (select value from json_each(?)) order by part.key",
        (space.key, listed(record_keys)),
    ):
        if record_key != true:
            raise CollectionCorrupt(
                f"part {key} is not of record {record_key}; restore the collection from a backup"
            )
        found.setdefault(record_key, []).append(key)
    return found


def keys_of(transaction: Transaction, ids: Sequence[str]) -> dict[str, int]:
    """The keys of those of `ids` that exist.

    Raises:
        CollectionCorrupt: an id leads to another record.
    """
    found: dict[str, int] = {}
    # The first from the index on ids, the second from the record itself.
    for id, true, key in transaction.sql(
        "select led.id, record.id, led.key from record as led left join record on record.key = led.key "
        "where led.id in (select value from json_each(?))",
        (listed(ids),),
    ):
        if id != true:
            raise checksums.damaged_id(id)
        found[id] = key
    return found


def records_of(transaction: Transaction, ids: Sequence[str]) -> dict[str, Stored]:
    """Those of `ids` that exist, whole.

    Raises:
        CollectionCorrupt: one does not match its checksum.
    """
    text = f"select {RECORD} from record where id in (select value from json_each(?))"  # noqa: S608 - columns
    values = (listed(ids),)
    return {row[1]: stored(row) for row in all_readable(transaction, text, values)}


def living_fields(transaction: Transaction) -> list[str]:
    """Of `fields`, those whose name stands in the metadata of some record that is there now.

    Read until one is found; so it takes long only for fields that have gone or are rare, at memory speed.
    """
    living = []
    for name in fields(transaction):
        steps = name.split(".")
        # The last step of the way, which is a key of an object; it may have dots itself.
        keys = [json.dumps(".".join(steps[n:]), ensure_ascii=False) + ":" for n in range(len(steps))]
        held = " or ".join(["instr(metadata, ?)"] * len(keys))
        if transaction.value(f"select exists (select 1 from record where {held})", keys):  # noqa: S608 - no values
            living.append(name)
    return living


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


def changed_of(transaction: Transaction, ids: Sequence[str]) -> dict[str, int]:
    """The last commit that touched each of these records or its parts, of those that are there."""
    return dict(
        transaction.sql(
            "select id, changed from record where id in (select value from json_each(?))", (listed(ids),)
        )
    )
