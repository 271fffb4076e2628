"""Values written in a where-expression: their types, and the moments that dates and times state."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, bindparam, func

from search.catalog.spelling import shown

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """What `date '…'` and `timestamp '…'` state: microseconds since 1970, UTC."""

    microseconds: int


Value: TypeAlias = "bool | int | float | str | Moment"


class Family(StrEnum):
    """Types of which a comparison holds only between values of one and the same."""

    NUMBER = "number"
    TEXT = "text"
    TRUTH = "truth"
    MOMENT = "moment"


def family(value: Value) -> Family:
    """The type of a value, as comparisons see it."""
    if isinstance(value, bool):
        return Family.TRUTH
    if isinstance(value, Moment):
        return Family.MOMENT
    return Family.TEXT if isinstance(value, str) else Family.NUMBER


def number(digits: str) -> int | float:
    """The number that digits state.

    SQLite's integers have 64 bits; beyond them it compares as a float, and so do we.
    """
    try:
        whole = int(digits)
    except ValueError:
        return float(digits)
    return whole if -(2**63) <= whole < 2**63 else float(whole)


def day(said: str) -> Moment:
    """The first moment (UTC) of `date 'YYYY-MM-DD'`.

    Raises:
        ValueError: there is no such date, or it is written in another way.
    """
    if not _DATE.fullmatch(said):
        raise ValueError(f"'{shown(said)}' is not a date; write it as date '2024-01-31'")
    try:
        return Moment((date.fromisoformat(said) - _EPOCH.date()) // timedelta(microseconds=1))
    except ValueError:
        raise ValueError(f"there is no day '{said}'; write an existing one") from None


def time(said: str) -> Moment:
    """The moment of `timestamp 'YYYY-MM-DD HH:MM:SS.ffffff+HH:MM'`; without an offset it is UTC.

    Raises:
        ValueError: there is no such time, or it is written in another way.
    """
    if not _TIME.fullmatch(said):
        raise ValueError(f"'{shown(said)}' is not a time; write it as timestamp '2024-01-31T10:00:00+01:00'")
    try:
        stated = datetime.fromisoformat(said)
        if stated.tzinfo is None:
            stated = stated.replace(tzinfo=UTC)
        return Moment((stated - _EPOCH) // timedelta(microseconds=1))
    except ValueError:
        raise ValueError(f"there is no time '{said}'; write an existing one") from None


def bound(value: bool | int | float | str | bytes) -> ColumnElement[Any]:
    """The value as SQLite is given it.

    A fraction travels as JSON: versions of SQLite differ in the last bit that they read of its digits, and it must
    equal the same number in a record's metadata, which is read that way.
    """
    if isinstance(value, float) and math.isfinite(value):
        return func.json_extract(bindparam(None, json.dumps(value)), bindparam(None, "$"))
    return bindparam(None, value)
