"""What SQLite is asked about a value inside a JSON document: where it stands, its typed value, its moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, and_, case, cast, func, literal_column

_DOTS = 4  # dots of a field that may belong to a key instead of leading a level down
_DATE_LIKE: ColumnElement[str] = literal_column("'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'")
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
    day = func.substr(text, literal_column("1"), literal_column("10"))
    behind = func.substr(text, literal_column("20"))
    # Up to the second, then the offset: what follows the digits of the fraction.
    whole = func.substr(text, literal_column("1"), literal_column("19")).op("||")(
        func.ltrim(behind, literal_column("'.0123456789'"))
    )
    seconds = cast(func.julianday(whole) * literal_column("86400.0") + literal_column("0.5"), Integer)
    fraction = literal_column("'0'").op("||")(
        func.substr(text, literal_column("20"), literal_column("7"))  # microseconds; the rest is dropped
    )
    micros = cast(cast(fraction, Float) * literal_column("1e6") + literal_column("0.5"), Integer)
    # `+0 days` makes SQLite count, which turns 30 February into a day of March.
    is_date = and_(
        date_like(text),
        func.date(day, literal_column("'+0 days'")) == day,
        func.julianday(text).is_not(None),
    )
    return case((is_date, (seconds - literal_column(str(_EPOCH))) * literal_column("1000000") + micros))
