"""Looks for damage in every file of a collection, and names what it finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from search.catalog import checksums, edges, full_text, migrations, reads, thumbnails
from search.catalog.database import Database, Transaction
from search.catalog.metadata_text import FieldNames, decoded, encoded
from search.errors import CollectionCorrupt, NearkinError
from search.index import snapshot
from search.index.contract import Rows
from search.index.tune import Tuning
from search.layout import Layout
from search.types import Record, Space
from search.vectors import Keys

_FEW_LINES = 20  # told of one kind
_AT_ONCE = 1000  # records looked at together
# What comes of content that no nearkin wrote, where no checksum stands in front of it.
_UNREADABLE = (ArithmeticError, LookupError, TypeError, ValueError, MemoryError)


def check(layout: Layout, database: Database) -> list[str]:
    """One line for each thing found damaged; none if all is well."""
    found: list[str] = []

    def look(what: str, at: Callable[[Transaction], Iterator[str]]) -> None:
        lines: list[str] = []
        try:
            with database.reading() as transaction:
                lines.extend(at(transaction))
        except NearkinError as error:
            lines.append(str(error))
        except _UNREADABLE as error:
            lines.append(f"{what} cannot be read ({_one_line(error)}); restore the collection from a backup")
        found.extend(line for line in lines if line not in found)

    look("the catalog", _pages)
    look("the catalog", lambda transaction: _size(transaction, layout))
    look("the layout of the catalog", _tables)
    look("the records", _records)
    look("the parts", _parts)
    look("the learned models", _models)
    look("the thumbnails", thumbnails.problems)
    spaces: list[Space] = []
    look("the spaces", lambda transaction: _spaces(transaction, spaces))
    for space in spaces:
        look(f"space '{space.name}'", partial(_space, database, layout, space))
        look(f"the edges of space '{space.name}'", partial(_edges, space))
    look("the declared fields", _declared)
    look("the index of words", lambda _: iter(full_text.problems(database)))
    return found


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _pages(transaction: Transaction) -> Iterator[str]:
    try:
        for (line,) in transaction.sql(f"pragma integrity_check({_FEW_LINES})"):
            if line != "ok":
                yield f"the catalog is damaged: {_one_line(line)}; restore a backup"
    except sqlite3.Error as error:
        yield f"the catalog is damaged: {_one_line(error)}; restore a backup"


def _size(transaction: Transaction, layout: Layout) -> Iterator[str]:
    """The file against the number of its pages; while there is a log, pages may stand in that alone."""
    log = layout.catalog.with_name(f"{layout.catalog.name}-wal")
    if log.exists() and log.stat().st_size:
        return
    said = int(transaction.value("pragma page_count")) * int(transaction.value("pragma page_size"))
    there = layout.catalog.stat().st_size
    if said != there and not (log.exists() and log.stat().st_size):
        yield f"the catalog has {there} bytes, and its pages make {said}; restore a backup"


def _tables(transaction: Transaction) -> Iterator[str]:
    """The tables against those that the migrations make."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    try:
        fresh = Transaction(made)
        for step in migrations.MIGRATIONS[: migrations.version(transaction)]:
            step(fresh)
        there = _laid_out(transaction)
        for name, true in _laid_out(fresh).items():
            if there.get(name) != true:
                yield f"the layout of the {name} in the catalog is damaged; restore a backup"
    finally:
        made.close()


def _laid_out(transaction: Transaction) -> dict[str, list[Any]]:
    """The columns of each table and index by its name."""
    found: dict[str, list[Any]] = {}
    for kind, name in transaction.sql("select type, name from sqlite_master order by name").fetchall():
        if kind in ("table", "index"):
            pragma = f"pragma_{'table' if kind == 'table' else 'index'}_xinfo"
            found[f"{kind} '{name}'"] = transaction.sql(f"select * from {pragma}(?)", (name,)).fetchall()  # noqa: S608 - two names
    return found


def _records(transaction: Transaction) -> Iterator[str]:
    """Each record against its checksum, and its fields against the names known."""
    last_commit = reads.state(transaction).commit_seq
    known = FieldNames(set(reads.fields(transaction)))
    named: set[str] = set()
    n_damaged = 0
    with transaction.as_bytes():
        rows = transaction.sql(
            "select key, id, kind, uri, text, metadata, checksum, changed, "
            "typeof(id), typeof(kind), typeof(uri), typeof(text), typeof(metadata) from record order by key"
        )
        for *row, changed, id, kind, uri, text, metadata in rows:
            try:
                if {id, metadata} != {b"text"} or {kind, uri, text} - {b"text", b"null"}:
                    raise checksums.damaged_record(row[0], row[1])
                whole = tuple(value.decode() if isinstance(value, bytes) else value for value in row)
                checksums.check_record(whole)
                if not 0 <= changed <= last_commit:
                    raise checksums.damaged_record(row[0], row[1])
                encoded(Record(whole[1], metadata=decoded(whole[5])), named)
            except (CollectionCorrupt, UnicodeDecodeError):
                n_damaged += 1
                if n_damaged <= _FEW_LINES:
                    yield str(checksums.damaged_record(row[0], row[1]))
    if n_damaged > _FEW_LINES:
        yield f"{n_damaged - _FEW_LINES} more records do not match their checksums; restore a backup"
    for name in sorted(known.new_in(named)):
        yield f"the metadata field {name!r} is not among the names of fields; restore a backup"


def _parts(transaction: Transaction) -> Iterator[str]:
    rows = transaction.sql(
        'select key, record_key, space_key, start, "end", box, label, score, checksum from part '
        'where start is not null or "end" is not null or box is not null '
        "or label is not null or score is not null or checksum is not null"
    )
    for row in rows:
        try:
            checksums.check_part(row)
        except CollectionCorrupt as error:
            yield str(error)
    homeless = transaction.sql(
        "select key from part where record_key not in (select key from record) "
        "or space_key not in (select key from space) limit ?",
        (_FEW_LINES,),
    )
    for (key,) in homeless:
        yield f"part {key} is of no record or no space; restore a backup"
    homeless = transaction.sql(
        "select key from batch where space_key not in (select key from space) limit ?", (_FEW_LINES,)
    )
    for (key,) in homeless:
        yield f"batch {key} is of no space; restore a backup"


def _models(transaction: Transaction) -> Iterator[str]:
    for (sha256,) in transaction.sql("select sha256 from model").fetchall():
        try:
            reads.model(transaction, sha256)
        except CollectionCorrupt as error:
            yield str(error)


def _spaces(transaction: Transaction, into: list[Space]) -> Iterator[str]:
    yield from ()
    into.extend(reads.spaces(transaction).values())


def _edges(space: Space, transaction: Transaction) -> Iterator[str]:
    yield from edges.problems(transaction, space)


def _space(database: Database, layout: Layout, space: Space, transaction: Transaction) -> Iterator[str]:
    keys, records = _stored(transaction, space)
    alive = ~np.isin(keys, reads.tombstones(transaction, space))
    rows = transaction.sql(
        "select key, record_key from part where space_key = ? order by key", (space.key,)
    ).fetchall()
    named = np.array(rows, dtype=np.int64).reshape(-1, 2)
    if not np.array_equal(named, np.stack([keys[alive], records[alive]], axis=1)):
        yield f"space '{space.name}': its parts and its vectors do not match; restore a backup"
    kept = transaction.value("select length(queries) from space where key = ?", (space.key,)) or 0
    if kept % (4 * space.dim):
        yield f"space '{space.name}': the queries kept with it are damaged; restore a backup"
    found = reads.tuning(transaction, space)
    if found is not None:
        Tuning.from_json(found)
    yield from _index(
        database, transaction, layout, space, Rows(keys, records, np.empty((len(keys), 0), np.float32))
    )


def _index(
    database: Database, transaction: Transaction, layout: Layout, space: Space, rows: Rows
) -> Iterator[str]:
    """The index file that the catalog vouches for; unless another one has taken its place meanwhile."""
    vouched = reads.snapshot(transaction, space)
    if vouched is None:
        return
    try:
        snapshot.read(layout, vouched, reads.state(transaction).uuid, space, rows)
    except CollectionCorrupt as error:
        with database.reading() as later:
            replaced = reads.snapshot(later, space) != vouched
        if not replaced:
            yield f"space '{space.name}': {error} by the next ingest or by: nearkin compact"


def _stored(transaction: Transaction, space: Space) -> tuple[Keys, Keys]:
    """The part and record keys of the space's batches, each checked."""
    stored, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for batch in reads.batches(transaction, space):
        stored.append(batch.part_keys)
        owners.append(batch.record_keys)
    return np.concatenate(stored), np.concatenate(owners)


def _declared(transaction: Transaction) -> Iterator[str]:
    from search.catalog import fields  # by SQLAlchemy, which a question without a filter need not wait for

    yield from fields.problems(transaction)
