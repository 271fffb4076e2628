"""Writes the records of a collection to a file, in the format that its name says."""

from __future__ import annotations

from pathlib import Path

from search.catalog.database import Transaction
from search.errors import QueryError
from search.exchange import lines
from search.exchange.gather import Gathered
from search.exchange.take_in import LINES, PARQUET, need_pyarrow
from search.partial import whole


def export(transaction: Transaction, target: Path, expression: str | None, *, vectors: bool) -> int:
    """Write one record a line or a row, with its vectors if asked; how many there were.

    The file has its name when it is whole and durable; one of that name that was there before stays until then.

    Args:
        transaction: one of reading: what is written meanwhile is not in the file.
        target: its suffix decides: .parquet, or .jsonl (so does none).
        expression: which records; None takes all.
        vectors: whether vectors, and the spaces' descriptions, are written too.

    Raises:
        QueryError: the suffix is of neither format.
        MissingExtra: it is Parquet, and pyarrow is not installed.
        CollectionError: the file cannot be written.
    """
    suffix = target.suffix.lower()
    if suffix not in (*LINES, *PARQUET):
        raise QueryError(f"'{target.name}' is of no known format; end it with .parquet or .jsonl")
    if suffix in PARQUET:
        need_pyarrow()
    with (
        whole(target, replace=True) as partial,
        Gathered(transaction, expression, vectors=vectors, scratch=partial.parent) as gathered,
    ):
        if suffix in LINES:
            lines.write(gathered, partial, vectors=vectors)
        else:
            from search.exchange import parquet

            parquet.write(gathered, partial)
    return gathered.head.n_records
