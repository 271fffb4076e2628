"""The ids of records by their keys."""

from __future__ import annotations

from collections.abc import Iterable

from search.catalog import reads
from search.catalog.database import Transaction


def names_of(transaction: Transaction, keys: Iterable[int]) -> dict[int, str]:
    """The id of each of the records with these keys that is there."""
    rows = transaction.sql(
        "select key, id from record where key in (select value from json_each(?))", (reads.listed(keys),)
    )
    return dict(rows.fetchall())
