"""Declared metadata fields: their values stand in a table of their own, sorted, so that a filter reads no JSON.

An index on the JSON expression itself would be shorter, but it breaks where the same file is opened by two versions of
SQLite: they differ in the last bit of some numbers and in strings with a NUL, and an entry that is not found again
damages the file. What stands here are plain values, which mean the same to each of them.

The table follows the records by triggers, inside the same commits. New records are taken in many at a time, once
`_TOGETHER` are waiting; those from `until` on are not yet here, and are read from their JSON.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.types import NullType

from search.catalog import reads, schema
from search.catalog.database import Transaction
from search.catalog.documents import date_like, moment, paths, typed
from search.catalog.spelling import hint, shown
from search.errors import QueryError

_TOGETHER = 2048  # new records taken in at a time: fewer cost more each, more are read from JSON meanwhile
_OWN = ("id", "kind", "space", "text", "uri")

_metadata = MetaData()

indexed_field = Table(
    "indexed_field",
    _metadata,
    Column("key", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("until", Integer, nullable=False),  # records of this key and above are not yet in indexed_value
)

# Where the values of a field may stand in a document; the first that is there counts.
indexed_path = Table(
    "indexed_path",
    _metadata,
    Column("field_key", Integer, primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    sqlite_with_rowid=False,
)

# The values that are not null: numbers and texts as they are, truths and the rest as in documents.typed.
indexed_value = Table(
    "indexed_value",
    _metadata,
    Column("field_key", Integer, primary_key=True),
    Column("record_key", Integer, primary_key=True),
    Column("value", NullType, nullable=False),  # of any type, so of no affinity
    Column("moment", Integer),  # where the value is the text of a date: see documents.moment
    sqlite_with_rowid=False,
)
_TABLES = ("indexed_value", "indexed_path", "indexed_field")
_TRIGGERS = ("indexed_after_insert", "indexed_after_update", "indexed_after_delete")


def declared(transaction: Transaction) -> list[str]:
    """The names of the declared fields, sorted."""
    there = transaction.value(
        "select count(*) from sqlite_master where type = 'trigger' and name in (?, ?, ?)", _TRIGGERS
    )
    if there != len(_TRIGGERS):  # nothing follows the records, so nothing here may be believed
        return []
    return [row[0] for row in transaction.sql("select name from indexed_field order by name")]


def declare(transaction: Transaction, name: str) -> None:
    """Keep the values of a metadata field sorted from now on; inside a write transaction of the caller's.

    Raises:
        QueryError: no record has such a field, or its name cannot be used.
    """
    if not isinstance(name, str):
        raise QueryError(f"the name of a field is a {type(name).__name__}; give a string")
    known = reads.fields(transaction)
    if name in _OWN and name not in known:
        raise QueryError(f"'{name}' is not in the metadata; only fields of the metadata can be declared")
    if name not in known:
        raise QueryError(f"no record has a field '{shown(name)}'; {hint(name, known)}")
    if '"' in name:
        raise QueryError(
            f"the field {shown(name)} has a quote in its name and cannot be filtered on; rename it"
        )
    if name in declared(transaction):
        _take_in(transaction)
        return
    _prepare(transaction)
    key = transaction.sql("insert into indexed_field (name, until) values (?, 0)", (name,)).lastrowid
    transaction.many(
        "insert into indexed_path (field_key, rank, path) values (?, ?, ?)",
        [(key, rank, path) for rank, path in enumerate(paths(name.split(".")))],
    )
    _take_in(transaction)


def drop(transaction: Transaction, name: str) -> None:
    """Forget the sorted values of a field; inside a write transaction of the caller's.

    Raises:
        QueryError: the field is not declared.
    """
    there = declared(transaction)
    if name not in there:
        raise QueryError(f"the field '{shown(str(name))}' is not declared; {hint(str(name), there)}")
    if len(there) == 1:  # nothing is left, so that filling pays for nothing
        _stop(transaction)
        for table in _TABLES:
            transaction.sql(f"drop table {table}")
        return
    key = transaction.value("select key from indexed_field where name = ?", (name,))
    transaction.sql("delete from indexed_value where field_key = ?", (key,))
    transaction.sql("delete from indexed_path where field_key = ?", (key,))
    transaction.sql("delete from indexed_field where key = ?", (key,))


def problems(transaction: Transaction) -> list[str]:
    """Declared fields whose sorted values are not those of the records, one line for each."""
    if not declared(transaction):
        there = "select count(*) from sqlite_master where name = 'indexed_field'"
        if transaction.value(there):
            return ["the declared fields are no longer followed; declare them again (nearkin index-field)"]
        return []
    value = indexed_value.c
    kept = select(value.field_key, value.record_key, value.value.label("value")).subquery("kept")
    true = (
        select(
            indexed_field.c.key.label("field_key"),
            schema.record.c.key.label("record_key"),
            _value_in(schema.record.c.metadata, indexed_field.c.key).label("value"),
        )
        .where(schema.record.c.key < indexed_field.c.until)
        .subquery("true")
    )
    same = (kept.c.field_key == true.c.field_key) & (kept.c.record_key == true.c.record_key)
    # Versions of SQLite differ in the last bits of a number, which is no damage.
    near = func.abs(kept.c.value - true.c.value) <= func.abs(true.c.value) * literal_column("1e-9")
    alike = (kept.c.value == true.c.value) | ((func.typeof(kept.c.value) == "real") & near)
    missing = select(true.c.field_key).where(
        true.c.value.is_not(None), ~select(kept.c.value).where(same, alike).exists()
    )
    foreign = select(kept.c.field_key).where(
        ~select(true.c.value).where(same, true.c.value.is_not(None)).exists()
    )
    undated = select(value.field_key).where(value.moment.is_distinct_from(moment(value.value)))
    wrong = missing.union_all(foreign, undated).subquery("wrong")
    query = (
        select(indexed_field.c.name, func.count())
        .join(wrong, wrong.c.field_key == indexed_field.c.key)
        .group_by(indexed_field.c.name)
        .order_by(indexed_field.c.name)
    )
    return [
        f"the declared field '{shown(name)}' differs from {n} of the records; drop it (nearkin index-field --drop), "
        "then declare it again"
        for name, n in transaction.execute(query)
    ]


def _text(statement: Any) -> str:
    """A statement of ours as text, for a trigger, which takes no bound values; no name of a user's is in it."""
    return str(statement.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))


def _key_of(name: str) -> ColumnElement[Any]:
    return select(indexed_field.c.key).where(indexed_field.c.name == name).scalar_subquery()


def holding(name: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Keys of the records taken in whose value of the field meets conditions on `indexed_value`."""
    return select(indexed_value.c.record_key.label("key")).where(
        indexed_value.c.field_key == _key_of(name), *conditions
    )


def waiting(name: str, test: ColumnElement[bool]) -> Select[Any]:
    """Keys of the records not yet taken in that pass a test on the table of records."""
    until = select(indexed_field.c.until).where(indexed_field.c.name == name).scalar_subquery()
    return select(schema.record.c.key).where(schema.record.c.key >= until, test)


# ---- the tables and what keeps them in step ---------------------------------------------------------------------


def _value_in(document: ColumnElement[Any], field_key: ColumnElement[Any]) -> ColumnElement[Any]:
    """The value of a field in a document: at the first of its paths where there is one."""
    value = typed(document, indexed_path.c.path)
    return (
        select(value)
        .where(indexed_path.c.field_key == field_key, value.is_not(None))
        .order_by(indexed_path.c.rank)
        .limit(literal_column("1"))
        .correlate_except(indexed_path)
        .scalar_subquery()
    )


def _taking(which: ColumnElement[bool], there: ColumnElement[bool]) -> tuple[str, str]:
    """The statements that take in values, and then the moments that those of them state which are dates.

    Args:
        which: a condition on `record` and `indexed_field`: the records to take in.
        there: the same as a condition on `indexed_value` and `indexed_field`.
    """
    document, field_key = schema.record.c.metadata, indexed_field.c.key
    rows = (
        select(field_key, schema.record.c.key, _value_in(document, field_key))
        .where(which)
        .order_by(field_key, schema.record.c.key)
    )
    # `or ignore` passes over the records that have no value, which the column does not allow.
    taking = insert(indexed_value).prefix_with("or ignore")
    value = indexed_value.c.value
    dating = (
        update(indexed_value)
        .values(moment=moment(value))
        .where(indexed_value.c.field_key.in_(select(field_key)), there, date_like(value))
    )
    return (
        _text(taking.from_select(["field_key", "record_key", "value"], rows)),
        _text(dating),
    )


_NEW = _taking(
    schema.record.c.key >= indexed_field.c.until,
    # One bound for all fields: by its own one for each, SQLite would look at every value of the field.
    indexed_value.c.record_key >= select(func.min(indexed_field.c.until)).scalar_subquery(),
)
_CHANGED = _taking(
    (schema.record.c.key == literal_column("new.key")) & (literal_column("new.key") < indexed_field.c.until),
    indexed_value.c.record_key == literal_column("new.key"),
)
_UNTIL = "update indexed_field set until = (select coalesce(max(key), 0) + 1 from record)"
_FORGET = (
    "delete from indexed_value where field_key in (select key from indexed_field) and record_key = old.key"
)

_STATEMENTS = (
    """create table if not exists indexed_field (
        key integer primary key, name text not null unique, until integer not null)""",
    """create table if not exists indexed_path (
        field_key integer not null, rank integer not null, path text not null,
        primary key (field_key, rank)) without rowid""",
    """create table if not exists indexed_value (
        field_key integer not null, record_key integer not null, value not null, moment integer,
        primary key (field_key, record_key)) without rowid""",
    "create index if not exists indexed_value_by_value on indexed_value (field_key, value)",
    """create index if not exists indexed_value_by_moment on indexed_value (field_key, moment)
        where moment is not null""",
    f"""create trigger indexed_after_insert after insert on record when new.key % {_TOGETHER} = 0 begin
        {_NEW[0]}; {_NEW[1]}; {_UNTIL}; end""",
    f"""create trigger indexed_after_update after update of metadata on record
        when old.metadata is not new.metadata begin {_FORGET}; {_CHANGED[0]}; {_CHANGED[1]}; end""",
    f"create trigger indexed_after_delete after delete on record begin {_FORGET}; end",
)


def _prepare(transaction: Transaction) -> None:
    """Make the tables and triggers, unless they are there and at work."""
    if declared(transaction):
        return
    _stop(transaction)
    for statement in _STATEMENTS:
        transaction.sql(statement)
    for table in _TABLES:  # left from a time without triggers
        transaction.sql(f"delete from {table}")  # noqa: S608 - a name of ours


def _stop(transaction: Transaction) -> None:
    """No longer follow the records."""
    for name in _TRIGGERS:
        transaction.sql(f"drop trigger if exists {name}")


def _take_in(transaction: Transaction) -> None:
    """Take in the records that are waiting."""
    for statement in (*_NEW, _UNTIL):
        transaction.sql(statement)
