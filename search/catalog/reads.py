"""Questions to the catalog; each runs on a connection inside one read transaction of the caller's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from search.catalog import schema
from search.catalog.listing import among
from search.catalog.packing import Packed, unpack
from search.types import EncoderSpec, Json, Metric, Modality, Record, Space
from search.vectors import Batch, Keys

_WHOLE_RECORD = tuple(schema.record.c[name] for name in ("key", "id", "kind", "uri", "text", "metadata"))

# Asked with every query, so given to SQLite as they are: putting them together anew costs more than the answer.
_STATE = "select uuid, commit_seq, epoch, next_record, next_part from state"
_SPACES = "select key, name, modality, dim, metric, encoder from space order by key"
_SHOWN = """
    select part.key, record.key, record.id, record.uri, record.text, record.metadata,
           part.start, part."end", part.box
    from part join record on record.key = part.record_key
    where part.key in (select value from json_each(?))
"""


@dataclass(frozen=True, slots=True)
class State:
    """The counters of the catalog: `commit_seq` moves with each commit, `epoch` with each compaction."""

    uuid: str
    commit_seq: int
    epoch: int
    next_record: int
    next_part: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it stands in the catalog, with its key."""

    key: int
    record: Record


@dataclass(frozen=True, slots=True)
class PartRow:
    """What a hit shows of a part and its record; `text` is the passage where the part is one."""

    part_key: int
    record_key: int
    id: str
    uri: str | None
    text: str | None
    metadata: Mapping[str, Json]
    part: Mapping[str, Json] | None


def _stored(row: Row[Any]) -> Stored:
    return Stored(row.key, Record(row.id, row.kind, row.uri, row.text, json.loads(row.metadata)))


def state(connection: Connection) -> State:
    """The counters, as of the reader's transaction."""
    return State(*connection.exec_driver_sql(_STATE).one())


def spaces(connection: Connection) -> dict[str, Space]:
    """All spaces by name, in the order of their making."""
    return {
        name: Space(
            key, name, Modality(modality), dim, Metric(metric), EncoderSpec.from_json(json.loads(encoder))
        )
        for key, name, modality, dim, metric, encoder in connection.exec_driver_sql(_SPACES)
    }


def snapshot(connection: Connection, space: Space) -> dict[str, Any] | None:
    """What the catalog vouches for of the space's index file, or None."""
    found = connection.execute(
        select(schema.space.c.snapshot).where(schema.space.c.key == space.key)
    ).scalar()
    return None if found is None else json.loads(found)


def tuning(connection: Connection, space: Space) -> dict[str, Any] | None:
    """The search effort chosen for the space's index and the recall measured with it, or None."""
    found = connection.execute(select(schema.space.c.tuning).where(schema.space.c.key == space.key)).scalar()
    return None if found is None else json.loads(found)


def probes(connection: Connection, space: Space) -> bytes | None:
    """The stored vectors of the probe items, as float32 rows, or None."""
    return connection.execute(select(schema.space.c.probes).where(schema.space.c.key == space.key)).scalar()


def model(connection: Connection, sha256: str) -> bytes | None:
    """The bytes of a learned model, or None."""
    return connection.execute(select(schema.model.c.data).where(schema.model.c.sha256 == sha256)).scalar()


def rows_in(connection: Connection, space: Space) -> int:
    """How many rows the space's batches hold, dead ones included."""
    query = select(func.coalesce(func.sum(schema.batch.c.n), 0)).where(schema.batch.c.space_key == space.key)
    return int(connection.execute(query).scalar_one())


def batches(connection: Connection, space: Space, after: int, until: int) -> Iterator[Batch]:
    """The space's batches of commits after `after` up to `until`, in order, each checked against its checksum.

    Raises:
        CollectionCorrupt: a batch does not match its checksum.
    """
    columns = schema.batch.c
    query = (
        select(
            columns.key, columns.n, columns.part_keys, columns.record_keys, columns.vectors, columns.checksum
        )
        .where(columns.space_key == space.key, columns.commit_seq > after, columns.commit_seq <= until)
        .order_by(columns.commit_seq, columns.key)
    )
    with connection.execution_options(stream_results=True).execute(query) as result:
        for key, n, part_keys, record_keys, vectors, checksum in result:
            packed = Packed(part_keys, record_keys, vectors, checksum)
            yield unpack(packed, n, space.dim, f"batch {key} of space '{space.name}'")


def tombstones(connection: Connection, space: Space, after: int = -1) -> Keys:
    """Keys of the space's parts deleted in commits later than `after`, ascending."""
    columns = schema.tombstone.c
    query = (
        select(columns.part_key)
        .where(columns.space_key == space.key, columns.commit_seq > after)
        .order_by(columns.part_key)
    )
    return np.fromiter(connection.execute(query).scalars(), np.int64)


def parts_of(connection: Connection, space: Space, record_keys: Iterable[int]) -> dict[int, list[int]]:
    """The part keys, ascending, of each of these records in the space."""
    columns = schema.part.c
    query = (
        select(columns.record_key, columns.key)
        .where(columns.space_key == space.key, among(columns.record_key, record_keys))
        .order_by(columns.key)
    )
    found: dict[int, list[int]] = {}
    for record_key, key in connection.execute(query):
        found.setdefault(record_key, []).append(key)
    return found


def keys_of(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """The keys of those of `ids` that exist."""
    columns = schema.record.c
    query = select(columns.id, columns.key).where(among(columns.id, ids))
    return {row[0]: row[1] for row in connection.execute(query)}


def records_of(connection: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """Those of `ids` that exist, whole."""
    query = select(*_WHOLE_RECORD).where(among(schema.record.c.id, ids))
    return {row.id: _stored(row) for row in connection.execute(query)}


def all_records(connection: Connection, where: ColumnElement[bool] | None = None) -> Iterator[Stored]:
    """Every record that matches, in the order in which they were first added."""
    query: Select[Any] = select(*_WHOLE_RECORD).order_by(schema.record.c.key)
    if where is not None:
        query = query.where(where)
    with connection.execution_options(stream_results=True).execute(query) as result:
        for row in result:
            yield _stored(row)


def matching(connection: Connection, where: ColumnElement[bool]) -> Keys:
    """Keys of the records that match, ascending."""
    query = select(schema.record.c.key).where(where).order_by(schema.record.c.key)
    return np.fromiter(connection.execute(query).scalars(), np.int64)


def count(connection: Connection, where: ColumnElement[bool] | None = None) -> int:
    """How many records there are, or match."""
    query = select(func.count()).select_from(schema.record)
    if where is not None:
        query = query.where(where)
    return int(connection.execute(query).scalar_one())


def shown(connection: Connection, part_keys: Iterable[int]) -> dict[int, PartRow]:
    """What a hit shows of each of these parts."""
    found: dict[int, PartRow] = {}
    for row in connection.exec_driver_sql(_SHOWN, (json.dumps(list(part_keys)),)):
        part_key, record_key, id, uri, words, metadata, start, end, box = row
        piece: dict[str, Json] = {}
        if start is not None:
            piece |= {"start": start, "end": end}
            # Cut here, not by SQLite, for which a text ends at a NUL character.
            words = None if words is None else words[start:end]
        if box is not None:
            piece["box"] = json.loads(box)
        found[part_key] = PartRow(part_key, record_key, id, uri, words, json.loads(metadata), piece or None)
    return found


def fields(connection: Connection) -> list[str]:
    """The names of all metadata fields that records have had, nested ones with dots, sorted."""
    return list(connection.execute(select(schema.field.c.name).order_by(schema.field.c.name)).scalars())


def digests(connection: Connection, space: Space, ids: Sequence[str]) -> dict[str, bytes]:
    """The hash of the input behind each of these records' vectors in the space, where one is known."""
    record, synced = schema.record.c, schema.synced.c
    query = (
        select(record.id, synced.digest)
        .join_from(schema.record, schema.synced, synced.record_key == record.key)
        .where(synced.space_key == space.key, among(record.id, ids))
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def ids_from(connection: Connection, space: Space, origins: Sequence[str]) -> Iterator[str]:
    """Ids of the records whose vectors in the space came from one of these origins."""
    record, synced = schema.record.c, schema.synced.c
    query = (
        select(record.id)
        .join_from(schema.synced, schema.record, synced.record_key == record.key)
        .where(synced.space_key == space.key, among(synced.origin, origins))
        .order_by(record.key)
    )
    return iter(connection.execute(query).scalars().all())


def ids_in(connection: Connection, space: Space) -> list[str]:
    """Ids of the records that have a vector in the space, in the order in which they were first added."""
    record, part = schema.record.c, schema.part.c
    inside = select(part.record_key).where(part.space_key == space.key)
    return list(
        connection.execute(select(record.id).where(record.key.in_(inside)).order_by(record.key)).scalars()
    )


def origins(connection: Connection, space: Space) -> list[str]:
    """The files and folders that the space's vectors came from, sorted."""
    columns = schema.synced.c
    query = select(columns.origin).where(columns.space_key == space.key).distinct().order_by(columns.origin)
    return list(connection.execute(query).scalars())


def counts(connection: Connection) -> dict[int, tuple[int, int]]:
    """For each space key: how many records have vectors in it, and how many parts they have."""
    rows = connection.exec_driver_sql(
        "select space_key, count(distinct record_key), count(*) from part group by space_key"
    )
    return {key: (records, parts) for key, records, parts in rows}
