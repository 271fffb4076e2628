"""Dates as people write them, as ISO 8601 where they can be read in one way only."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            *("jan january", "feb february", "mar march", "apr april", "may", "jun june"),
            *("jul july", "aug august", "sep sept september", "oct october", "nov november", "dec december"),
        ),
        start=1,
    )
    for name in names.split()
}
_LONGEST = 40

_YEAR_FIRST = re.compile(r"(\d{4})([-/])(\d{1,2})\2(\d{1,2})")
_DAY_NAMED = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?[ -]([A-Za-z]{3,9})\.?,?[ -](\d{4})")
_NAMED_DAY = re.compile(r"([A-Za-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})")
_WITH_TIME = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?) ?(Z|[+-]\d\d:?\d\d)?"
)
_MAIL = re.compile(
    r"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d(?::\d\d)? (?:[+-]\d{4}|GMT|UTC|UT|Z)"
)


def moment(text: str) -> str | None:
    """The date or moment that all of this text is, as ISO 8601; None where it is none or can be read in two ways.

    `2024-01-31`, `2024/1/31`, `31 Jan 2024`, `January 31st, 2024`, `2024-01-31 10:00:00Z` and dates of e-mail are
    read; `03/04/2024` is not, and neither is `31/12/2024`, since other cells of its column can be read in two ways.
    """
    text = text.strip()
    if not 8 <= len(text) <= _LONGEST or not any(map(str.isdigit, text)):
        return None
    try:
        return _moment(text)
    except (ValueError, OverflowError):
        return None  # the 31st of February


def _moment(text: str) -> str | None:
    if found := _YEAR_FIRST.fullmatch(text):
        return date(int(found[1]), int(found[3]), int(found[4])).isoformat()
    if found := _WITH_TIME.fullmatch(text):
        year, month, day, time, zone = found.groups()
        zone = "+00:00" if zone == "Z" else zone or ""
        return datetime.fromisoformat(f"{year}-{month}-{day}T{time}{zone}").isoformat().replace("+00:00", "Z")
    for pattern, day_at, month_at in ((_DAY_NAMED, 1, 2), (_NAMED_DAY, 2, 1)):
        found = pattern.fullmatch(text)
        month_number = _MONTHS.get(found[month_at].casefold()) if found else None
        if found and month_number:
            return date(int(found[3]), month_number, int(found[day_at])).isoformat()
    if _MAIL.fullmatch(text):
        return iso(parsedate_to_datetime(text))
    return None


def iso(when: datetime) -> str:
    """A moment as ISO 8601, in UTC where its zone is known."""
    if when.tzinfo is None:
        return when.isoformat()
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
