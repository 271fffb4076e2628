"""Questions to the catalog that hold a where-expression, put together with SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sqlalchemy import ColumnElement, func, select

from search.catalog import reads, schema, where
from search.catalog.database import Transaction
from search.vectors import Keys

_RECORD = tuple(schema.record.c[name] for name in ("key", "id", "kind", "uri", "text", "metadata"))


def condition(transaction: Transaction, expression: str) -> ColumnElement[bool]:
    """The condition that a where-expression states.

    Raises:
        FilterError: it cannot be used.
    """
    return where.parse(expression, reads.fields(transaction))


def matching(transaction: Transaction, expression: str, changed_since: int | None = None) -> Keys:
    """Keys of the records that match, ascending; of all, or of those changed in commits later than that.

    Raises:
        FilterError: the expression cannot be used.
    """
    query = select(schema.record.c.key).where(condition(transaction, expression))
    if changed_since is not None:
        query = query.where(schema.record.c.changed > changed_since)
    rows = transaction.execute(query.order_by(schema.record.c.key))
    return np.array([row[0] for row in rows.fetchall()], dtype=np.int64)


def count(transaction: Transaction, expression: str | None) -> int:
    """How many records there are, or match.

    Raises:
        FilterError: the expression cannot be used.
    """
    query = select(func.count()).select_from(schema.record)
    if expression is not None:
        query = query.where(condition(transaction, expression))
    return int(transaction.execute(query).fetchone()[0])


def records(transaction: Transaction, expression: str | None = None) -> Iterator[reads.Stored]:
    """Every record, or every one that matches, in the order in which they were first added.

    Raises:
        FilterError: the expression cannot be used.
    """
    query = select(*_RECORD).order_by(schema.record.c.key)
    if expression is not None:
        query = query.where(condition(transaction, expression))
    return map(reads.stored, transaction.execute(query))
