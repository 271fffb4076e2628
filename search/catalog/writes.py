"""Changes to the catalog; each runs inside one write transaction of the caller's, so it is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from search.catalog import checksums, full_text, part_writes, reads, thumbnails
from search.catalog.database import Transaction
from search.catalog.metadata_text import FieldNames, decoded, encoded
from search.catalog.part_writes import Pieces
from search.errors import QueryError
from search.failpoints import Step, reached
from search.types import EncoderSpec, Json, Metric, Record, Space
from search.vectors import Keys, Vectors


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit did."""

    added: int = 0
    updated: int = 0
    removed: int = 0


def create_space(
    transaction: Transaction, name: str, metric: Metric, encoder: EncoderSpec, probes: Vectors | None
) -> Space:
    """A new, empty space; the caller has made sure that there is none of this name."""
    # Not SQLite's choice, which is the number of a dropped space again: see succession.drop.
    key = (
        max(reads.state(transaction).spaces_seq, transaction.value("select coalesce(max(key), 0) from space"))
        + 1
    )
    transaction.sql(
        "insert into space (key, name, modality, dim, metric, encoder, probes) values (?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            name,
            encoder.modality.value,
            encoder.dim,
            metric.value,
            json.dumps(encoder.to_json()),
            None if probes is None else probes.astype("<f4").tobytes(),
        ),
    )
    space_changed(transaction, key)
    return Space(key, name, encoder.modality, encoder.dim, metric, encoder)


def space_changed(transaction: Transaction, key: int) -> None:
    """Give the row of a space its checksum, and let readers know."""
    row = transaction.sql(f"select {reads.SPACE} from space where key = ?", (key,)).fetchone()  # noqa: S608 - columns
    transaction.sql("update space set checksum = ? where key = ?", (checksums.of(row), key))
    counters = reads.state(transaction)
    count_on(transaction, replace(counters, spaces_seq=counters.spaces_seq + 1))


def count_on(transaction: Transaction, now: reads.State) -> None:
    """Write the counters."""
    numbers = (now.commit_seq, now.epoch, now.spaces_seq, now.next_record, now.next_part)
    transaction.sql(
        "update state set commit_seq = ?, epoch = ?, spaces_seq = ?, next_record = ?, next_part = ?, checksum = ?",
        (*numbers, checksums.of((now.uuid, *numbers))),
    )


def keep_model(transaction: Transaction, sha256: str, data: bytes) -> None:
    """Keep a learned model under its hash."""
    transaction.sql("insert or ignore into model (sha256, data) values (?, ?)", (sha256, data))


def forget_model(transaction: Transaction, sha256: str | None) -> None:
    """Drop a learned model, if no space is made with it any more."""
    used = [one.encoder.weights for one in reads.spaces(transaction).values() if one.encoder.weights]
    transaction.sql(
        "delete from model where sha256 = ? and sha256 not in (select value from json_each(?))",
        (sha256, reads.listed(used)),
    )


def put(
    transaction: Transaction,
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
    fields: set[str] = set()
    said = [encoded(record, fields) for record in records]
    ids = [record.id for record in records]
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise QueryError(f"id '{twice}' stands twice in one call; give each record once")
    counters = reads.state(transaction)
    commit_seq = counters.commit_seq + 1
    stored = reads.records_of(transaction, ids)
    written = pieces.space if pieces else None
    merged = _with_other_vectors(transaction, stored, written) if merge and stored else set()
    keys = _write_records(transaction, records, said, stored, counters.next_record, merged, commit_seq)
    new_fields = names.new_in(fields)
    if new_fields:
        names.pending |= new_fields
        transaction.many(
            "insert or ignore into field (name) values (?)", [(name,) for name in sorted(new_fields)]
        )
    if stored:
        if written is not None and written.stands_for is None:
            thumbnails.drop_outdated(transaction, [old.key for old in stored.values()], written)
        _drop_stale(transaction, records, stored, written, commit_seq)
    if pieces and pieces.thumbnails:
        made = {key: one for key, one in zip(keys, pieces.thumbnails, strict=True) if one is not None}
        thumbnails.put(transaction, made)
    reached(Step.COMMIT_RECORDS)
    n_parts = (
        part_writes.write_pieces(transaction, pieces, keys, counters.next_part, commit_seq) if pieces else 0
    )
    reached(Step.COMMIT_VECTORS)
    now = replace(
        counters,
        commit_seq=commit_seq,
        next_record=counters.next_record + len(records) - len(stored),
        next_part=counters.next_part + n_parts,
    )
    count_on(transaction, now)
    reached(Step.COMMIT_STATE)
    return Written(added=len(records) - len(stored), updated=len(stored))


def _write_records(
    transaction: Transaction,
    records: Sequence[Record],
    said: Sequence[str | None],
    stored: Mapping[str, reads.Stored],
    next_record: int,
    merged: set[int],
    commit_seq: int,
) -> list[int]:
    """Insert or update the rows; the key of each record, in their order.

    Those whose key is in `merged` keep their kind, and their metadata are joined with the new.
    """
    keys: list[int] = []
    fresh: list[tuple[Any, ...]] = []
    changed: list[tuple[Any, ...]] = []
    before: list[tuple[int, str | None]] = []  # texts that change, as they were
    after: list[tuple[int, str | None]] = []
    for record, metadata in zip(records, said, strict=True):
        old = stored.get(record.id)
        if old is None:
            key = next_record + len(fresh)
            keys.append(key)
            row = (key, record.id, record.kind, record.uri, record.text, metadata or "{}")
            fresh.append((*row, commit_seq, checksums.of(row)))
            continue
        keys.append(old.key)
        kind = record.kind
        if old.key in merged:
            kind = old.record.kind or kind
        if metadata is not None and old.key in merged:
            joined = {**(old.record.metadata or {}), **decoded(metadata)}
            metadata = encoded(Record(record.id, metadata=joined))
        now = (
            old.record.kind if kind is None else kind,
            old.record.uri if record.uri is None else record.uri,
            old.record.text if record.text is None else record.text,
            old.metadata if metadata is None else metadata,
        )
        changed.append((*now, commit_seq, checksums.of((old.key, record.id, *now)), old.key))
        if record.text is not None and record.text != old.record.text:
            before.append((old.key, old.record.text))
            after.append((old.key, record.text))
    if fresh:
        transaction.many(
            "insert into record (key, id, kind, uri, text, metadata, changed, checksum) "
            "values (?, ?, ?, ?, ?, ?, ?, ?)",
            fresh,
        )
    if changed:
        transaction.many(
            "update record set kind = ?, uri = ?, text = ?, metadata = ?, changed = ?, checksum = ? where key = ?",
            changed,
        )
    if after:
        full_text.change(transaction, before, after)
    if fresh:
        full_text.keep_up(transaction, next_record + len(fresh), len(fresh))
    return keys


def _with_other_vectors(
    transaction: Transaction, stored: Mapping[str, reads.Stored], written: Space | None
) -> set[int]:
    """Keys of those records that have vectors in a space other than the one being written."""
    rows = transaction.sql(
        "select distinct record_key from part "
        "where record_key in (select value from json_each(?)) and space_key <> ?",
        (reads.listed(old.key for old in stored.values()), -1 if written is None else written.key),
    )
    return {row[0] for row in rows}


def _drop_stale(
    transaction: Transaction,
    records: Sequence[Record],
    stored: Mapping[str, reads.Stored],
    written: Space | None,
    commit_seq: int,
) -> None:
    """Drop the vectors that this commit replaces, and those made from a text that it changes."""
    if written is not None:
        part_writes.drop_parts(transaction, [old.key for old in stored.values()], [written.key], commit_seq)
    rewritten = [
        stored[record.id].key
        for record in records
        if record.id in stored and record.text is not None and record.text != stored[record.id].record.text
    ]
    if rewritten:
        textual = [
            space.key
            for space in reads.spaces(transaction).values()
            if space.modality == "text" and (written is None or space.key != written.key)
        ]
        part_writes.drop_parts(transaction, rewritten, textual, commit_seq)


def delete_records(transaction: Transaction, keys: Keys) -> int:
    """Delete records with all their parts; how many there were."""
    reached(Step.COMMIT_BEGUN)
    counters = reads.state(transaction)
    commit_seq = counters.commit_seq + 1
    listed = keys.tolist()
    part_writes.drop_parts(
        transaction, listed, [space.key for space in reads.spaces(transaction).values()], commit_seq
    )
    reached(Step.COMMIT_VECTORS)
    those = ("key in (select value from json_each(?))", (reads.listed(listed),))
    full_text.drop_all_of(transaction, *those)
    transaction.sql(f"delete from record where {those[0]}", those[1])  # noqa: S608 - the condition above
    thumbnails.drop_pictureless(transaction, listed)
    reached(Step.COMMIT_RECORDS)
    count_on(transaction, replace(counters, commit_seq=commit_seq))
    reached(Step.COMMIT_STATE)
    return len(listed)


def withdraw(transaction: Transaction, keys: Keys, space: Space, *, keep_records: bool) -> int:
    """Take records out of one space; how many. Those left without any vector are deleted unless kept."""
    reached(Step.COMMIT_BEGUN)
    counters = reads.state(transaction)
    commit_seq = counters.commit_seq + 1
    listed = reads.listed(keys.tolist())
    # A space that is to take this one's place, or had it, must not keep alive what leaves here.
    beside = [one.key for one in reads.spaces(transaction).values() if one.stands_for == space.name]
    part_writes.drop_parts(transaction, keys.tolist(), [space.key, *beside], commit_seq)
    reached(Step.COMMIT_VECTORS)
    if not keep_records:
        homeless = (
            "key in (select value from json_each(?)) "
            "and not exists (select 1 from part where part.record_key = record.key)"
        )
        full_text.drop_all_of(transaction, homeless, (listed,))
        transaction.sql(f"delete from record where {homeless}", (listed,))  # noqa: S608 - the condition above
    thumbnails.drop_pictureless(transaction, keys.tolist())
    transaction.sql(
        "update record set changed = ? where key in (select value from json_each(?))", (commit_seq, listed)
    )
    reached(Step.COMMIT_RECORDS)
    count_on(transaction, replace(counters, commit_seq=commit_seq))
    reached(Step.COMMIT_STATE)
    return len(keys)


def record_snapshot(transaction: Transaction, space: Space, snapshot: Mapping[str, Json] | None) -> None:
    """Vouch for an index file, or for none."""
    said = None if snapshot is None else json.dumps(dict(snapshot))
    transaction.sql("update space set snapshot = ? where key = ?", (said, space.key))
    space_changed(transaction, space.key)


def record_tuning(transaction: Transaction, space: Space, tuning: Mapping[str, Json]) -> None:
    """Keep the search effort chosen for the space's index and the recall measured with it."""
    said = json.dumps({**tuning, "measured_at": datetime.now(UTC).isoformat(timespec="seconds")})
    transaction.sql("update space set tuning = ? where key = ?", (said, space.key))
    space_changed(transaction, space.key)


def record_wanted(transaction: Transaction, space: Space, wanted: Mapping[str, Json]) -> None:
    """Keep what the user asks of the space's index."""
    transaction.sql("update space set wanted = ? where key = ?", (json.dumps(dict(wanted)), space.key))
    space_changed(transaction, space.key)


def record_queries(transaction: Transaction, space: Space, queries: Vectors) -> None:
    """Keep a sample of real queries with the space."""
    transaction.sql(
        "update space set queries = ? where key = ?", (queries.astype("<f4").tobytes(), space.key)
    )


def respecify(transaction: Transaction, space: Space, encoder: EncoderSpec) -> None:
    """Replace the spec of a space whose vectors are all about to be replaced; the width stays."""
    transaction.sql("update space set encoder = ? where key = ?", (json.dumps(encoder.to_json()), space.key))
    space_changed(transaction, space.key)
