"""Delimited files (.csv, .tsv) as tables: a record per row below a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.sources.contract import Rejected
from ingest.sources.formats import Format
from ingest.sources.lines import MOST_BYTES, Feed, read_lines
from ingest.sources.tables import Row, Table
from search.types import Json

_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_FRACTION = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?")


class Csv(Table):
    """A record per row below a header; .csv by commas (or what else its header is split by), .tsv by tabs.

    In metadata, whole numbers, decimals, true and false become such; what begins with 0 like a postal code,
    NaN and infinities stay strings; an empty cell is left out. The text and the id stay as they are written.
    """

    def _rows(self) -> Iterator[Row | Rejected]:
        csv.field_size_limit(max(csv.field_size_limit(), MOST_BYTES))
        feed = Feed(read_lines(self._input))
        reader = csv.reader(feed, delimiter=self._delimiter(), strict=True)
        header: list[str] = []
        done = False
        while not done:
            feed.begin()
            fault, cells = None, []
            try:
                cells = next(reader)
            except StopIteration:
                done = True
            except csv.Error as error:
                upto = f" (up to line {feed.last})" if feed.last > feed.first else ""
                fault = f"not a row: {error}{upto}"
            yield from (self.rejected(str(line.fault), line.number) for line in feed.drain())
            if fault is None and cells and not header:
                header = _unique(cells)
                continue
            if fault is None and cells and len(cells) != len(header):
                fault = f"{len(cells)} cells where the header has {len(header)}"
            if fault is not None:
                yield self.rejected(fault, feed.first)
            elif cells:
                yield Row(feed.first, dict(zip(header, cells, strict=True)), feed.encoding, feed.guessed)

    def _delimiter(self) -> str:
        if self._input.kind.format is Format.TSV:
            return "\t"
        header = next((line.text for line in read_lines(self._input) if line.text.strip()), "")
        if "," in header:
            return ","
        splitting = [delimiter for delimiter in ";\t|" if delimiter in header]
        return splitting[0] if len(splitting) == 1 else ","

    def _metadata(self, cells: Mapping[str, Any]) -> dict[str, Json]:
        return {name: _typed(cell) for name, cell in cells.items() if cell != ""}


def _typed(cell: str) -> Json:
    bare = cell.strip()
    if _WHOLE.fullmatch(bare):
        return int(bare)
    if _FRACTION.fullmatch(bare):
        return float(bare)
    return {"true": True, "false": False}.get(bare.casefold(), cell)


def _unique(header: Sequence[str]) -> list[str]:
    """Names for all columns: what has none is called by its place, what stands there twice gets a number."""
    names: list[str] = []
    for place, cell in enumerate(header, start=1):
        base = name = cell.strip() or f"column_{place}"
        count = 1
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    return names
