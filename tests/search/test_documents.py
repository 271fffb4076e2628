"""Moments as SQLite works them out, beside Python's; and where a dotted field may stand."""

from __future__ import annotations

import random
import sqlite3
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import literal_column
from sqlalchemy.dialects.sqlite import dialect

from search.catalog.documents import moment, paths

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT = f"select {moment(literal_column('?1')).compile(dialect=dialect())}"


def microseconds(said: str | float | None) -> int | None:
    connection = sqlite3.connect(":memory:")
    (found,) = connection.execute(MOMENT, (said,)).fetchone()
    connection.close()
    return None if found is None else int(found)


def test_moments_are_those_of_python() -> None:
    draw = random.Random(4)
    connection = sqlite3.connect(":memory:")
    for _ in range(5000):
        micros = draw.choice([0, 1, 999_999, draw.randrange(10**6)])
        at = EPOCH + timedelta(seconds=draw.randrange(-62_000_000_000, 253_000_000_000), microseconds=micros)
        said = at.replace(tzinfo=None).isoformat(
            sep=draw.choice("T "),
            timespec=draw.choice(["minutes", "seconds", "milliseconds", "microseconds"]),
        ) + draw.choice(["", "Z", "+00:00", "+02:00", "-05:30", "+14:00", "-11:45"])
        meant = datetime.fromisoformat(said)
        expected = (meant if meant.tzinfo else meant.replace(tzinfo=UTC)) - EPOCH
        assert connection.execute(MOMENT, (said,)).fetchone()[0] == expected // timedelta(microseconds=1), (
            said
        )
    connection.close()


@pytest.mark.parametrize("year", [1900, 2000, 2023, 2024])
def test_only_days_that_there_are(year: int) -> None:
    for month in range(14):
        for day in range(33):
            said = f"{year}-{month:02}-{day:02}"
            try:
                days = (date.fromisoformat(said) - EPOCH.date()).days
            except ValueError:
                assert microseconds(said) is None, said
            else:
                assert microseconds(said) == days * 86_400_000_000, said


@pytest.mark.parametrize(
    "said",
    [
        "",
        "now",
        "2460000.5",
        "10:00",
        "2024-1-1",
        "20240101",
        " 2024-01-01",
        "2024-01-01 ",
        "2024-01-01T",
        "2024-01-01x",
        "2024-01-01Z",
        "2024-01-01T10",
        "2024-01-01  10:00",
        "2024-01-01T25:00",
        "2024-01-01T10:60",
        "2024-01-01T10:00:60",
        "2024-01-01T10:00:005",
        "2024-01-01T10:00.5",
        "2024-01-01T10:00:00.",
        "2024-01-01T10:00:00.5e3",
        "2024-01-01T10:00+0200",
        "2024-01-01T10:00+2:00",
        "2024-01-01T10:00 utc",
        "2024-02-30T10:00",
        "٢٠٢٤-01-01",
        2024.0,
        None,
    ],
)
def test_what_is_no_moment(said: str | float | None) -> None:
    assert microseconds(said) is None


def test_finer_than_microseconds_is_dropped() -> None:
    assert microseconds("1970-01-01T00:00:00.9999999") == 999_999
    assert microseconds("1969-12-31T23:59:59.000001999Z") == -999_999


def test_where_a_dotted_field_may_stand() -> None:
    assert list(paths(["a"])) == ['$."a"']
    assert list(paths(["a", "b"])) == ['$."a"."b"', '$."a.b"']
    assert list(paths(["a", "b", "c"])) == ['$."a"."b"."c"', '$."a.b"."c"', '$."a"."b.c"', '$."a.b.c"']
    assert list(paths(["tab\t", "ÿ"])) == ['$."tab\\t"."ÿ"', '$."tab\\t.ÿ"']
