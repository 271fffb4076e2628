"""Changes to the catalog; each runs inside one write transaction of the caller's, so it is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, delete, exists, insert, literal, select, update

from search.catalog import reads, schema
from search.catalog.listing import among
from search.catalog.packing import pack
from search.errors import QueryError
from search.failpoints import Step, reached
from search.types import EncoderSpec, Json, Metric, Part, Record, Space
from search.vectors import Batch, Keys, Vectors

_MOST_BYTES = 1 << 28  # of packed vectors in one row: SQLite refuses a blob of 1,000,000,000
_DEEPEST = 100  # levels of metadata: far from the recursion limits of those who will read them


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record's vectors came from: the hash of the input, and the file or folder that held it."""

    digest: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """New vectors of a space: row i of `vectors` is part `parts[i]` of record number `owners[i]` of the commit."""

    space: Space
    owners: Sequence[int]
    parts: Sequence[Part]
    vectors: Vectors
    provenance: Sequence[Provenance] = ()  # one per record, or none at all


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit did."""

    added: int = 0
    updated: int = 0
    removed: int = 0


@dataclass(slots=True)
class FieldNames:
    """The metadata fields already in the catalog, so that only new names are written."""

    known: set[str] = field(default_factory=set)

    def new_in(self, records: Sequence[Record]) -> set[str]:
        """The dotted names of fields in these records that are not yet known."""
        found: set[str] = set()
        for record in records:
            if record.metadata:
                found.update(_names(record.metadata))
        return found - self.known


def _names(metadata: Mapping[str, Json], prefix: str = "") -> Iterator[str]:
    for name, value in metadata.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{name}.")


def checked_json(record: Record) -> str | None:
    """The record's metadata as JSON text, or None where it says nothing.

    Raises:
        QueryError: the id is empty or not a string, a field has the wrong type, or the metadata are not JSON.
    """
    if not isinstance(record.id, str) or not record.id:
        raise QueryError(
            f"a record's id must be a string with at least one character, not {record.id!r}; set it"
        )
    if "\0" in record.id:  # SQLite's JSON, by which ids are looked up, ends a string there
        raise QueryError(f"the id {record.id!r} holds a NUL character; leave it out")
    for name in ("kind", "uri", "text"):
        value = getattr(record, name)
        if value is not None and not isinstance(value, str):
            raise QueryError(
                f"record '{record.id}': {name} must be a string, not {type(value).__name__}; convert it"
            )
    metadata: Any = record.metadata
    if metadata is not None and not isinstance(metadata, Mapping):
        kind = type(metadata).__name__
        raise QueryError(f"record '{record.id}': metadata must be a JSON object, not {kind}; give a dict")
    try:
        if metadata is not None:
            _check_levels(metadata)
        said = None if metadata is None else json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        for value in (record.id, record.kind, record.uri, record.text, said):
            if value is not None:
                value.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise QueryError(f"record {record.id!r}: cannot be stored ({error}); use plain JSON values") from None
    return said


def _check_levels(metadata: Mapping[str, Json]) -> None:
    """Refuse keys that JSON would turn into strings, and nesting that a reader could not follow."""
    level: list[Any] = [metadata]
    for _ in range(_DEEPEST):
        if not level:
            return
        below: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                for key in value:
                    if not isinstance(key, str):
                        raise TypeError(f"the key {key!r} is not a string")
                below += value.values()
            elif isinstance(value, list | tuple):
                below += value
        # Each once, or a value that holds itself twice would double at every level.
        level = list(
            {id(value): value for value in below if isinstance(value, Mapping | list | tuple)}.values()
        )
    if level:
        raise ValueError(f"the metadata are nested more than {_DEEPEST} levels deep")


def create_space(
    connection: Connection, name: str, metric: Metric, encoder: EncoderSpec, probes: Vectors | None
) -> Space:
    """A new, empty space; the caller has made sure that there is none of this name."""
    key = connection.execute(
        insert(schema.space).values(
            name=name,
            modality=encoder.modality.value,
            dim=encoder.dim,
            metric=metric.value,
            encoder=json.dumps(encoder.to_json()),
            probes=None if probes is None else probes.astype("<f4").tobytes(),
        )
    ).inserted_primary_key
    assert key is not None
    return Space(int(key[0]), name, encoder.modality, encoder.dim, metric, encoder)


def keep_model(connection: Connection, sha256: str, data: bytes) -> None:
    """Keep a learned model under its hash."""
    connection.execute(insert(schema.model).prefix_with("or ignore").values(sha256=sha256, data=data))


def put(
    connection: Connection,
    records: Sequence[Record],
    pieces: Pieces | None,
    names: FieldNames,
    *,
    merge: bool,
) -> Written:
    """Add or update records and, where `pieces` are given, replace their vectors in that space.

    A field of a record that is None leaves the stored value; metadata are replaced. With `merge`, a record
    that has vectors in another space too keeps its kind, and its metadata are joined with the new key by key.
    Where the text of a record changes, vectors made
    from its old text in other spaces are dropped with it.

    Raises:
        QueryError: a record cannot be stored, or an id stands twice; nothing is written then.
    """
    reached(Step.COMMIT_BEGUN)
    said = [checked_json(record) for record in records]
    ids = [record.id for record in records]
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise QueryError(f"id '{twice}' stands twice in one call; give each record once")
    counters = reads.state(connection)
    commit_seq = counters.commit_seq + 1
    stored = reads.records_of(connection, ids)
    written = pieces.space if pieces else None
    merged = _with_other_vectors(connection, stored, written) if merge and stored else set()
    keys = _write_records(connection, records, said, stored, counters.next_record, merged)
    new_fields = names.new_in(records)
    if new_fields:
        connection.execute(
            insert(schema.field).prefix_with("or ignore"), [{"name": name} for name in sorted(new_fields)]
        )
    _drop_stale(connection, records, stored, written, commit_seq)
    reached(Step.COMMIT_RECORDS)
    n_parts = _write_pieces(connection, pieces, keys, counters.next_part, commit_seq) if pieces else 0
    reached(Step.COMMIT_VECTORS)
    connection.execute(
        update(schema.state).values(
            commit_seq=commit_seq,
            next_record=counters.next_record + len(records) - len(stored),
            next_part=counters.next_part + n_parts,
        )
    )
    reached(Step.COMMIT_STATE)
    return Written(added=len(records) - len(stored), updated=len(stored))


def _write_records(
    connection: Connection,
    records: Sequence[Record],
    said: Sequence[str | None],
    stored: Mapping[str, reads.Stored],
    next_record: int,
    merged: set[int],
) -> list[int]:
    """Insert or update the rows; the key of each record, in their order.

    Those whose key is in `merged` keep their kind, and their metadata are joined with the new.
    """
    keys: list[int] = []
    fresh: list[tuple[Any, ...]] = []
    changed: list[tuple[Any, ...]] = []
    for record, metadata in zip(records, said, strict=True):
        old = stored.get(record.id)
        if old is None:
            keys.append(next_record + len(fresh))
            fresh.append((keys[-1], record.id, record.kind, record.uri, record.text, metadata or "{}"))
            continue
        keys.append(old.key)
        kind = record.kind
        if old.key in merged:
            kind = old.record.kind or kind
        if metadata is not None and old.key in merged:
            joined = {**(old.record.metadata or {}), **(record.metadata or {})}
            metadata = json.dumps(joined, ensure_ascii=False)
        changed.append((kind, record.uri, record.text, metadata, old.key))
    if fresh:
        connection.exec_driver_sql(
            "insert into record (key, id, kind, uri, text, metadata) values (?, ?, ?, ?, ?, ?)", fresh
        )
    if changed:
        connection.exec_driver_sql(
            "update record set kind = coalesce(?, kind), uri = coalesce(?, uri), text = coalesce(?, text), "
            "metadata = coalesce(?, metadata) where key = ?",
            changed,
        )
    return keys


def _with_other_vectors(
    connection: Connection, stored: Mapping[str, reads.Stored], written: Space | None
) -> set[int]:
    """Keys of those records that have vectors in a space other than the one being written."""
    columns = schema.part.c
    query = (
        select(columns.record_key)
        .where(among(columns.record_key, [old.key for old in stored.values()]))
        .where(columns.space_key != (written.key if written is not None else -1))
        .distinct()
    )
    return set(connection.execute(query).scalars())


def _drop_stale(
    connection: Connection,
    records: Sequence[Record],
    stored: Mapping[str, reads.Stored],
    written: Space | None,
    commit_seq: int,
) -> None:
    """Drop the vectors that this commit replaces, and those made from a text that it changes."""
    existing = [old.key for old in stored.values()]
    if written is not None and existing:
        drop_parts(connection, existing, [written.key], commit_seq)
    rewritten = [
        stored[record.id].key
        for record in records
        if record.id in stored and record.text is not None and record.text != stored[record.id].record.text
    ]
    if rewritten:
        textual = [
            space.key
            for space in reads.spaces(connection).values()
            if space.modality == "text" and (written is None or space.key != written.key)
        ]
        drop_parts(connection, rewritten, textual, commit_seq)


def _write_pieces(
    connection: Connection, pieces: Pieces, keys: Sequence[int], next_part: int, commit_seq: int
) -> int:
    """The part rows, the packed batch, and where they came from; how many parts there are."""
    n = len(pieces.parts)
    space_key = pieces.space.key
    owners = np.asarray(keys, dtype=np.int64)[np.asarray(pieces.owners, dtype=np.int64)]
    part_keys = np.arange(next_part, next_part + n, dtype=np.int64)
    if n:
        connection.exec_driver_sql(
            'insert into part (key, record_key, space_key, start, "end", box) values (?, ?, ?, ?, ?, ?)',
            [
                (
                    key,
                    owner,
                    space_key,
                    part.start,
                    part.end,
                    None if part.box is None else json.dumps(part.box),
                )
                for key, owner, part in zip(part_keys.tolist(), owners.tolist(), pieces.parts, strict=True)
            ],
        )
        write_batch(connection, space_key, commit_seq, Batch(part_keys, owners, pieces.vectors))
    if pieces.provenance:
        connection.exec_driver_sql(
            "insert into synced (space_key, record_key, digest, origin) values (?, ?, ?, ?) "
            "on conflict do update set digest = excluded.digest, origin = excluded.origin",
            [
                (space_key, key, origin.digest, origin.origin)
                for key, origin in zip(keys, pieces.provenance, strict=True)
            ],
        )
    return n


def write_batch(connection: Connection, space_key: int, commit_seq: int, batch: Batch) -> None:
    """Pack the rows into one batch, or into several where one would be too long for SQLite."""
    step = max(1, _MOST_BYTES // (4 * batch.vectors.shape[1]))
    for begin in range(0, len(batch.part_keys), step):
        span = slice(begin, begin + step)
        packed = pack(Batch(batch.part_keys[span], batch.record_keys[span], batch.vectors[span]))
        connection.exec_driver_sql(
            "insert into batch (space_key, commit_seq, n, part_keys, record_keys, vectors, checksum) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (
                space_key,
                commit_seq,
                len(batch.part_keys[span]),
                packed.part_keys,
                packed.record_keys,
                packed.vectors,
                packed.checksum,
            ),
        )


def drop_parts(
    connection: Connection, record_keys: Sequence[int], space_keys: Sequence[int], commit_seq: int
) -> None:
    """Take these records out of these spaces: tombstones for the vectors, no part rows, no sync state."""
    if not record_keys or not space_keys:
        return
    part, synced = schema.part.c, schema.synced.c
    leaving = and_(among(part.record_key, record_keys), among(part.space_key, space_keys))
    connection.execute(
        insert(schema.tombstone).from_select(
            ["part_key", "space_key", "commit_seq"],
            select(part.key, part.space_key, literal(commit_seq)).where(leaving),
        )
    )
    connection.execute(delete(schema.part).where(leaving))
    connection.execute(
        delete(schema.synced).where(
            among(synced.record_key, record_keys), among(synced.space_key, space_keys)
        )
    )


def delete_records(connection: Connection, keys: Keys) -> int:
    """Delete records with all their parts; how many there were."""
    reached(Step.COMMIT_BEGUN)
    commit_seq = reads.state(connection).commit_seq + 1
    listed = keys.tolist()
    drop_parts(connection, listed, [space.key for space in reads.spaces(connection).values()], commit_seq)
    reached(Step.COMMIT_VECTORS)
    connection.execute(delete(schema.record).where(among(schema.record.c.key, listed)))
    reached(Step.COMMIT_RECORDS)
    connection.execute(update(schema.state).values(commit_seq=commit_seq))
    reached(Step.COMMIT_STATE)
    return len(listed)


def withdraw(connection: Connection, keys: Keys, space: Space, *, keep_records: bool) -> int:
    """Take records out of one space; how many. Those left without any vector are deleted unless kept."""
    reached(Step.COMMIT_BEGUN)
    commit_seq = reads.state(connection).commit_seq + 1
    listed = keys.tolist()
    drop_parts(connection, listed, [space.key], commit_seq)
    reached(Step.COMMIT_VECTORS)
    if not keep_records:
        has_part = exists().where(schema.part.c.record_key == schema.record.c.key)
        connection.execute(delete(schema.record).where(among(schema.record.c.key, listed), ~has_part))
    reached(Step.COMMIT_RECORDS)
    connection.execute(update(schema.state).values(commit_seq=commit_seq))
    reached(Step.COMMIT_STATE)
    return len(keys)


def record_snapshot(connection: Connection, space: Space, snapshot: Mapping[str, Json] | None) -> None:
    """Vouch for an index file, or for none."""
    said = None if snapshot is None else json.dumps(dict(snapshot))
    connection.execute(update(schema.space).where(schema.space.c.key == space.key).values(snapshot=said))


def record_tuning(connection: Connection, space: Space, tuning: Mapping[str, Json]) -> None:
    """Keep the search effort chosen for the space's index and the recall measured with it."""
    said = json.dumps({**tuning, "measured_at": datetime.now(UTC).isoformat(timespec="seconds")})
    connection.execute(update(schema.space).where(schema.space.c.key == space.key).values(tuning=said))


def respecify(connection: Connection, space: Space, encoder: EncoderSpec) -> None:
    """Replace the spec of a space whose vectors are all about to be replaced; the width stays."""
    said = json.dumps(encoder.to_json())
    connection.execute(update(schema.space).where(schema.space.c.key == space.key).values(encoder=said))
