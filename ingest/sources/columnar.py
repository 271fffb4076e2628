"""Parquet files as tables, a batch of rows in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from ingest.sources.contract import Rejected
from ingest.sources.dates import iso
from ingest.sources.documents.contract import one_line
from ingest.sources.inputs import size_of
from ingest.sources.tables import Row, Table
from search.errors import MissingExtra
from search.types import Json

_BATCH = 256
_BUFFER = 2**20


class Parquet(Table):
    """A record per row. Metadata keep their types; dates become ISO 8601; nulls and raw bytes are left out."""

    def _rows(self) -> Iterator[Row | Rejected]:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtra("reading Parquet", "parquet") from error
        number = 0
        with self._input.seekable() as file:
            if not size_of(file):
                return
            try:
                opened = parquet.ParquetFile(file, buffer_size=_BUFFER)
                for batch in opened.iter_batches(batch_size=_BATCH):
                    for cells in batch.to_pylist():
                        number += 1
                        yield Row(number, _jsonable(cells))
            except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
                told = one_line(str(error))[:200]
                begin = "damaged from here on" if number else "damaged, or no Parquet file"
                yield self.rejected(f"{begin}: {told}", number + 1 if number else None)

    def _metadata(self, cells: Mapping[str, Any]) -> dict[str, Json]:
        return dict(cells)


def _jsonable(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The cells that say something, as JSON."""
    plain = ((name, _plain(cell)) for name, cell in cells.items())
    return {name: cell for name, cell in plain if cell is not None}


def _plain(value: Any) -> Json:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return _jsonable(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, bytes) else str(value)
