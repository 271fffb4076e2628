"""The numbered steps that bring a catalog of any age to today's schema, each in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from search.catalog import checksums, full_text, reads
from search.catalog.database import Database, Transaction
from search.errors import CollectionError
from search.failpoints import Step, reached

# "near" in ASCII: lets `file` and other tools tell a catalog from any other SQLite file.
APPLICATION_ID = 0x6E656172
_AT_ONCE = 10_000  # records read and given their checksums together


def _first(transaction: Transaction) -> None:
    for statement in (
        """create table state (
            id integer primary key check (id = 1), uuid text not null, commit_seq integer not null,
            epoch integer not null, next_record integer not null, next_part integer not null)""",
        """create table record (
            key integer primary key, id text not null unique, kind text, uri text, text text,
            metadata text not null)""",
        """create table space (
            key integer primary key, name text not null unique, modality text not null, dim integer not null,
            metric text not null, encoder text not null, probes blob, snapshot text, tuning text)""",
        """create table part (
            key integer primary key, record_key integer not null, space_key integer not null,
            start integer, "end" integer, box text)""",
        "create index part_by_record on part (record_key)",
        """create table batch (
            key integer primary key, space_key integer not null, commit_seq integer not null,
            n integer not null, part_keys blob not null, record_keys blob not null, vectors blob not null,
            checksum integer not null)""",
        "create index batch_by_space on batch (space_key, commit_seq)",
        """create table tombstone (
            part_key integer primary key, space_key integer not null, commit_seq integer not null)""",
        "create index tombstone_by_space on tombstone (space_key, commit_seq)",
        "create table model (sha256 text primary key not null, data blob not null)",
        """create table synced (
            space_key integer not null, record_key integer not null, digest blob not null,
            origin text not null, primary key (space_key, record_key)) without rowid""",
        "create table field (name text primary key not null) without rowid",
        "create table migration (number integer primary key, applied text not null)",
    ):
        transaction.sql(statement)
    transaction.sql("insert into state values (1, ?, 0, 0, 1, 1)", (str(uuid.uuid4()),))
    transaction.sql(f"pragma application_id = {APPLICATION_ID}")


def _second(transaction: Transaction) -> None:
    """Readers follow a commit by what changed, and compaction without loading all again."""
    for statement in (
        "alter table state add column spaces_seq integer not null default 0",
        "alter table record add column changed integer not null default 0",
        "create index record_by_changed on record (changed)",
        "alter table space add column wanted text",
        "alter table space add column queries blob",
        "alter table record add column checksum integer not null default 0",
        "alter table part add column checksum integer",
        "alter table space add column checksum integer not null default 0",
        "alter table state add column checksum integer not null default 0",
        "alter table batch add column first_part integer not null default 0",
        "alter table batch add column last_part integer not null default 0",
        "alter table batch add column pieces integer not null default 1",
        "drop index batch_by_space",
        "create index batch_by_part on batch (space_key, last_part)",
    ):
        transaction.sql(statement)
    ends = transaction.sql("select substr(part_keys, 1, 8), substr(part_keys, -8), key from batch").fetchall()
    transaction.many(
        "update batch set first_part = ?, last_part = ? where key = ?",
        [(int.from_bytes(first, "little"), int.from_bytes(last, "little"), key) for first, last, key in ends],
    )
    # Whole numbers of more than 64 bits: see metadata_text.decoded.
    transaction.sql(
        "update record set metadata = ' ' || metadata where metadata glob ?", (f"*{'[0-9]' * 19}*",)
    )
    _sum_up(transaction)


def _sum_up(transaction: Transaction) -> None:
    """Give the rows that are there their checksums."""
    last = 0
    while rows := transaction.sql(
        "select key, id, kind, uri, text, metadata from record where key > ? order by key limit ?",
        (last, _AT_ONCE),
    ).fetchall():
        transaction.many(
            "update record set checksum = ? where key = ?",
            [(checksums.of(row), row[0]) for row in rows],
        )
        last = rows[-1][0]
    pieces = transaction.sql(
        'select key, record_key, space_key, start, "end", box from part '
        'where start is not null or "end" is not null or box is not null'
    ).fetchall()
    transaction.many(
        "update part set checksum = ? where key = ?", [(checksums.of(row), row[0]) for row in pieces]
    )
    spaces = transaction.sql(f"select {reads.SPACE} from space").fetchall()  # noqa: S608 - columns
    transaction.many(
        "update space set checksum = ? where key = ?", [(checksums.of(row), row[0]) for row in spaces]
    )
    counters = transaction.sql(f"select {reads.STATE} from state").fetchone()  # noqa: S608 - columns
    transaction.sql("update state set checksum = ?", (checksums.of(counters),))


def _third(transaction: Transaction) -> None:
    """A region of a picture may say what is in it. (The checksum of a part without a label stays what it was.)"""
    transaction.sql("alter table part add column label text")
    transaction.sql("alter table part add column score real")


def _fourth(transaction: Transaction) -> None:
    """Thumbnails of pictures."""
    transaction.sql(
        """create table thumbnail (
            record_key integer primary key, side integer not null, data blob not null,
            checksum integer not null)"""
    )


def _fifth(transaction: Transaction) -> None:
    """The edges of graphs."""
    transaction.sql(
        """create table graph (
            space_key integer primary key, directed integer not null, n_blocks integer not null,
            n_entries integer not null, added text not null, checksum integer not null)"""
    )
    transaction.sql(
        """create table edge_block (
            key integer primary key, space_key integer not null, layer integer not null, side integer not null,
            first integer not null, last integer not null, n_nodes integer not null, n_entries integer not null,
            loops integer not null, wide integer not null, weighted integer not null, data blob not null,
            checksum integer not null)"""
    )
    transaction.sql("create index edge_block_by_node on edge_block (space_key, layer, side, last)")


def _sixth(transaction: Transaction) -> None:
    """The words of the texts."""
    full_text.lay_out(transaction)


def _seventh(transaction: Transaction) -> None:
    """The words of new texts may wait."""
    transaction.sql(full_text.UNTIL)
    transaction.sql("insert into words_until select 1, next_record from state")


# Append only: a step that has been released is never edited, since collections of its time are out there.
MIGRATIONS: tuple[Callable[[Transaction], None], ...] = (
    _first,
    _second,
    _third,
    _fourth,
    _fifth,
    _sixth,
    _seventh,
)
CURRENT = len(MIGRATIONS)


def version(transaction: Transaction) -> int:
    """The number of the last migration that this catalog has seen; 0 for an empty file."""
    return int(transaction.value("pragma user_version"))


def check_ours(database: Database) -> None:
    """Refuse an SQLite file that another program made, before anything in it is touched.

    Raises:
        CollectionError: it is not a catalog of nearkin's, or a newer nearkin wrote it.
    """
    if not database.path.exists():
        return
    application, found, n_tables = database.identity()
    if application != APPLICATION_ID and (application or found or n_tables):
        raise CollectionError(f"{database.path} is the database of another program; name another directory")
    check_readable(found)


def check_readable(found: int) -> None:
    """Refuse a catalog from the future.

    Raises:
        CollectionError: it was written by a newer nearkin.
    """
    if found > CURRENT:
        raise CollectionError(
            f"the collection was written by a newer nearkin (format {found}, this one knows up to {CURRENT}); "
            "upgrade with: pip install --upgrade nearkin"
        )


def migrate(database: Database) -> None:
    """Apply what is missing, each step with its own record in one transaction.

    Raises:
        CollectionError: the catalog was written by a newer nearkin.
    """
    while True:
        with database.writing() as transaction:
            found = version(transaction)
            check_readable(found)
            if found == CURRENT:
                return
            MIGRATIONS[found](transaction)
            transaction.sql(
                "insert into migration values (?, ?)",
                (found + 1, datetime.now(UTC).isoformat(timespec="seconds")),
            )
            reached(Step.MIGRATION_APPLIED)
            transaction.sql(f"pragma user_version = {found + 1}")
