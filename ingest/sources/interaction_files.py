"""Files of interactions: tables with a row for each, and lists with a user and the items taken on each line."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ingest.sources.columnar import Parquet
from ingest.sources.columns import as_id, find, first_of, has, listed, names_of
from ingest.sources.contract import Rejected
from ingest.sources.dates import moment
from ingest.sources.delimited import Csv
from ingest.sources.edges import is_usable
from ingest.sources.formats import Format, kind_of
from ingest.sources.inputs import Input, input_of, shown, why
from ingest.sources.interactions import Interactions, numbered
from ingest.sources.lines import read_lines
from ingest.sources.objects import JsonLines
from ingest.sources.tables import Row, Table, Wanted
from ingest.sources.texts import absolute
from search.errors import SourceError

USER_NAMES = ("user", "user_id", "userid", "customer", "customer_id", "visitor", "visitor_id")
ITEM_NAMES = ("item", "item_id", "itemid", "product", "product_id", "sku", "movie_id", "movieid")
WEIGHT_NAMES = ("weight", "rating", "quantity", "count")
TIME_NAMES = ("timestamp", "time", "datetime", "date", "created_at")
_MILLISECONDS = 1e11  # a number of seconds so large is one of milliseconds: in seconds it is the year 5138
_NAMES = ".csv, .tsv, .jsonl, .parquet or .txt"


@dataclass(frozen=True, slots=True)
class InteractionFormat:
    """Which columns hold what; None finds them by their usual names, and does without a weight or a time.

    `user` and `item` are the ids, `weight` how much an interaction counts (a rating, how many), `time` when it was: a
    date, or seconds or milliseconds since 1970. `ordered` says of .txt files that the items of a line stand in the
    order in which they were taken; their places then are the times.
    """

    user: str | None = None
    item: str | None = None
    weight: str | None = None
    time: str | None = None
    ordered: bool = False


@dataclass(slots=True)
class InteractionFiles:
    """What was read: the interactions, how many rows there were, how many stood there again, and what was rejected."""

    interactions: Interactions
    rows: int
    merged: int
    digest: bytes
    rejected: list[Rejected]


@dataclass(slots=True)
class _Columns:
    """The interactions while they are read."""

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    user: list[int] = field(default_factory=list)
    item: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    timed: bool = False
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, user: str, item: str, weight: float = 1.0, time: float = -math.inf) -> None:
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.weight.append(weight)
        self.time.append(time)


class _Rows(Table):
    """A table whose rows are taken as they stand."""

    def _peek(self) -> None:
        """Nothing: no column of these is a text."""

    def rows(self) -> Any:
        """The rows, and what cannot be read as rejections."""
        return self._rows()


class _Csv(_Rows, Csv):
    pass


class _Lines(_Rows, JsonLines):
    pass


class _Parquet(_Rows, Parquet):
    pass


_TABLES: dict[Format, type[_Rows]] = {
    Format.CSV: _Csv,
    Format.TSV: _Csv,
    Format.LINES: _Lines,
    Format.PARQUET: _Parquet,
}


def read_interactions(
    paths: Sequence[Path], form: InteractionFormat = InteractionFormat()
) -> InteractionFiles:
    """All interactions of some files together; a pair that stands several times counts for the sum.

    In a .txt file each line holds a user and the items taken, split by blanks.

    Raises:
        SourceError: a file does not exist or is of another kind, lacks a column that was named, or none of its columns
            is known to hold the users or the items; or nothing in them can be used.
        MissingExtra: a file needs a package that is not installed.
    """
    read = _Columns()
    for path in paths:
        root = absolute(path)
        kind = kind_of(root.name)
        if not root.is_file():
            raise SourceError("there is no such file; check the path", shown(path))
        if kind is None or (kind.format not in _TABLES and kind.format is not Format.TEXT):
            raise SourceError(f"cannot read interactions from such files; use {_NAMES}", shown(path))
        kind.require()
        given = input_of(root, root, kind)
        try:
            if kind.format is Format.TEXT:
                _refuse_columns(form, given)
                _take_lists(given, read, ordered=form.ordered)
            elif form.ordered:
                raise SourceError("only the lines of .txt are ordered; name the column of times", shown(path))
            else:
                _take_table(_TABLES[kind.format](given, Wanted()), form, given, read)
        except OSError as error:
            raise SourceError(f"{why(error)}; check the file", shown(path)) from error
    if not read.user:
        told = f" ({read.rejected[0].said()})" if read.rejected else ""
        raise SourceError(f"there is no interaction to learn from{told}; give some", shown(paths[0]))
    return _put_together(read)


def _put_together(read: _Columns) -> InteractionFiles:
    """Users and items numbered by the order of their ids, so that the order of the rows changes nothing."""
    places, names = [], []
    for ids in (read.users, read.items):
        given = list(ids)
        order = sorted(range(len(given)), key=given.__getitem__)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        places.append(place)
        names.append(tuple(given[number] for number in order))
    user, item = places[0][read.user], places[1][read.item]
    times = np.array(read.time) if read.timed else None
    made = numbered(names[0], names[1], user, item, np.array(read.weight), times)
    hashed = hashlib.blake2b(digest_size=16)
    for some in names:
        hashed.update("\0".join(some).encode("utf-8", "surrogatepass") + b"\1")
    for column in (made.indptr, made.indices, made.weights, made.times):
        if column is not None:
            hashed.update(np.ascontiguousarray(column).tobytes())
    merged = len(read.user) - len(made.indices)
    return InteractionFiles(made, len(read.user) + len(read.rejected), merged, hashed.digest(), read.rejected)


def _refuse_columns(form: InteractionFormat, given: Input) -> None:
    if form != InteractionFormat(ordered=form.ordered):
        raise SourceError("a .txt file has no columns to name; leave them out", shown(given.file))


def _take_lists(given: Input, read: _Columns, *, ordered: bool) -> None:
    read.timed |= ordered
    for line in read_lines(given):
        if line.fault is not None:
            read.rejected.append(Rejected(shown(given.file), str(line.fault), line.number))
            continue
        words = line.text.split()
        if len(words) == 1:
            read.rejected.append(
                Rejected(shown(given.file), "a user who took nothing", line.number, shown(words[0]))
            )
        for place, item in enumerate(words[1:]):
            read.add(words[0], item, time=float(place) if ordered else -math.inf)


def _take_table(table: _Rows, form: InteractionFormat, given: Input, read: _Columns) -> None:
    columns: dict[str, str | None] | None = None
    for row in table.rows():
        if isinstance(row, Rejected):
            read.rejected.append(row)
            continue
        if columns is None:
            columns = _columns(row.cells, form, given)
            read.timed |= columns["time"] is not None
        reason = _take_row(row, columns, read)
        if reason:
            read.rejected.append(Rejected(shown(given.file), reason, row.line))


def _columns(cells: Mapping[str, Any], form: InteractionFormat, given: Input) -> dict[str, str | None]:
    usual = {"user": USER_NAMES, "item": ITEM_NAMES, "weight": WEIGHT_NAMES, "time": TIME_NAMES}
    chosen: dict[str, str | None] = {}
    for what, names in usual.items():
        named: str | None = getattr(form, what)
        if named is not None and not has(cells, named):
            raise SourceError(
                f"no column {named!r} for the {what}; there are: {listed(names_of(cells))}", shown(given.file)
            )
        chosen[what] = named or first_of(cells, names)
        if chosen[what] is None and what in ("user", "item"):
            raise SourceError(
                f"cannot tell which column is the {what}; name it with --{what}: {listed(names_of(cells))}",
                shown(given.file),
            )
    if chosen["user"] == chosen["item"]:
        raise SourceError(
            f"users and items are both in {chosen['user']!r}; name two columns", shown(given.file)
        )
    return chosen


def _take_row(row: Row, columns: Mapping[str, str | None], read: _Columns) -> str | None:
    """Take a row in; or why it cannot be used."""
    ids = []
    for what in ("user", "item"):
        cell = find(row.cells, str(columns[what]))
        id = as_id(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)
        if id is None or not id.strip():
            return f"no {what} in {columns[what]!r}"
        ids.append(id.strip())
    weight, time = 1.0, -math.inf
    if columns["weight"] is not None:
        cell = find(row.cells, columns["weight"])
        counted = _number(cell)
        if counted is None or not is_usable(counted):
            return f"the weight in {columns['weight']!r} is {_short(cell)}, and not a positive number"
        weight = counted
    if columns["time"] is not None:
        cell = find(row.cells, columns["time"])
        when = _moment(cell)
        if when is None:
            return f"the time in {columns['time']!r} is {_short(cell)}, and neither a date nor a number of seconds"
        time = when
    read.add(ids[0], ids[1], weight, time)
    return None


def _short(cell: object) -> str:
    told = repr(cell)
    return told if len(told) <= 40 else f"{told[:39]}…"


def _number(cell: object) -> float | None:
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _moment(cell: object) -> float | None:
    """Seconds since 1970."""
    number = _number(cell)
    if number is not None:
        return (number / 1000 if abs(number) >= _MILLISECONDS else number) if math.isfinite(number) else None
    told = moment(cell) if isinstance(cell, str) else None
    if told is None:
        return None
    at = datetime.fromisoformat(told)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
