"""What SQLite is asked about a value inside a JSON document: where it stands, its typed value, its moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, and_, case, cast, func, literal_column, or_

_DOTS = 4  # dots of a field that may belong to a key instead of leading a level down
_DATE: ColumnElement[str] = literal_column("'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'")
_DATE_LIKE: ColumnElement[str] = literal_column("'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'")
_DATE_AND_TIME: ColumnElement[str] = literal_column(
    "'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][T ][0-9][0-9]:[0-9][0-9]*'"
)
_EPOCH = 210_866_760_000  # seconds from the beginning of the Julian days to 1970

# Where SQLite has one order for all values (numbers, then texts, then blobs), so that one index serves
# comparisons of each type: truths and what cannot be compared are kept as blobs.
FALSE: ColumnElement[bytes] = literal_column("x'00'")
TRUE: ColumnElement[bytes] = literal_column("x'01'")
OTHER: ColumnElement[bytes] = literal_column("x'02'")  # a list or an object


def paths(names: Sequence[str]) -> Iterator[str]:
    """JSON paths of a dotted field: each name a level of its own, then with dots that belong to a key."""
    for joins in range(1 << min(len(names) - 1, _DOTS)):
        keys = [names[0]]
        for at, name in enumerate(names[1:]):
            if joins >> at & 1:
                keys[-1] += f".{name}"
            else:
                keys.append(name)
        # As JSON writes the key, since SQLite compares it as it is written there.
        yield "$" + "".join(f".{json.dumps(key, ensure_ascii=False)}" for key in keys)


def typed(document: ColumnElement[Any], path: ColumnElement[Any]) -> ColumnElement[Any]:
    """The value at `path`: a number or text as it is, a truth, list or object as a blob; NULL if it is absent."""
    return case(
        {
            literal_column("'true'"): TRUE,
            literal_column("'false'"): FALSE,
            literal_column("'array'"): OTHER,
            literal_column("'object'"): OTHER,
        },
        value=func.json_type(document, path),
        else_=func.json_extract(document, path),
    )


def date_like(value: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a value begins as a date does; `moment` is NULL for all others."""
    return value.op("glob", is_comparison=True)(_DATE_LIKE)


def moment(text: ColumnElement[Any]) -> ColumnElement[Any]:
    """Microseconds since 1970 (UTC) that an ISO date or time states; NULL for any other text.

    A date alone is its first moment; a time without an offset is UTC. The fraction of a second is read apart
    from the rest, since versions of SQLite differ in how they round it.
    """
    day = _piece(text, 1, 10)
    is_date = and_(
        or_(text.op("glob")(_DATE), text.op("glob")(_DATE_AND_TIME)),
        # SQLite takes 30 February; `+0 days` makes it count, which turns that into a day of March.
        or_(
            _piece(text, 9, 2) <= literal_column("'28'"),
            func.date(day, literal_column("'+0 days'")) == day,
        ),
    )
    # Up to the second, then the offset: what follows the digits of the fraction.
    whole = _piece(text, 1, 19).op("||")(
        func.ltrim(func.substr(text, literal_column("20")), literal_column("'.0123456789'"))
    )
    # Microseconds; what is finer is dropped.
    fraction = cast(literal_column("'0'").op("||")(_piece(text, 20, 7)), Float)
    micros = cast(fraction * literal_column("1e6") + literal_column("0.5"), Integer)
    has_fraction = _piece(text, 20, 1) == literal_column("'.'")
    # julianday is NULL for what is no time.
    precise = case((func.julianday(text).is_not(None), _seconds(whole) * literal_column("1000000") + micros))
    return case((is_date, case((has_fraction, precise), else_=_seconds(text) * literal_column("1000000"))))


def _seconds(text: ColumnElement[Any]) -> ColumnElement[Any]:
    seconds = cast(func.julianday(text) * literal_column("86400.0") + literal_column("0.5"), Integer)
    return seconds - literal_column(str(_EPOCH))


def _piece(text: ColumnElement[Any], first: int, length: int) -> ColumnElement[Any]:
    return func.substr(text, literal_column(str(first)), literal_column(str(length)))
