"""Questions to the catalog that hold a where-expression."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from search.catalog import fields, reads, schema, where
from search.catalog.database import Transaction
from search.errors import CollectionCorrupt
from search.vectors import Keys

__all__ = ["count", "fields", "matching", "records", "undeclared"]

_RECORD = tuple(
    schema.record.c[name] for name in ("key", "id", "kind", "uri", "text", "metadata", "checksum")
)


def matching(transaction: Transaction, expression: str, changed_since: int | None = None) -> Keys:
    """Keys of the records that match, ascending; of all, or of those changed in commits later than that.

    Raises:
        FilterError: the expression cannot be used.
    """
    condition = where.asked(transaction, expression)
    if changed_since is None:
        return where.matching(transaction, condition)
    changed = select(schema.record.c.key).where(schema.record.c.changed > changed_since, condition.test)
    return reads.key_array(transaction.execute(changed.order_by(schema.record.c.key)))


def undeclared(transaction: Transaction, expression: str) -> tuple[str, ...]:
    """The metadata fields that an expression compares, and that a declaration would make quick to look up."""
    return where.asked(transaction, expression).undeclared


def count(transaction: Transaction, expression: str) -> int:
    """How many records match.

    Raises:
        FilterError: the expression cannot be used.
    """
    return len(matching(transaction, expression))


def records(transaction: Transaction, expression: str | None = None) -> Iterator[reads.Stored]:
    """Every record, or every one that matches, in the order in which they were first added.

    Raises:
        CollectionCorrupt: one does not match its checksum, or is missing.
        FilterError: the expression cannot be used.
    """
    query = select(*_RECORD).order_by(schema.record.c.key)
    if expression is not None:
        query = query.where(where.asked(transaction, expression).test)
    n = 0
    for row in reads.readable(transaction, lambda: transaction.execute(query)):
        yield reads.stored(row)
        n += 1
    # Counted by an index, so that a page which has lost records does not lose them silently.
    if expression is None and n != transaction.value(
        "select count(*) from record indexed by record_by_changed"
    ):
        raise CollectionCorrupt("records are missing in the catalog; restore the collection from a backup")
