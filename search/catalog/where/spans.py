"""Stretches of sorted values: what a comparison with a declared field is, turned into ranges of its index.

SQLite sorts values of all types in one order, numbers before texts before blobs, and a declared field keeps truths as
blobs. So each comparison between values of one type is one stretch, and its negation at most two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement

from search.catalog.where.literals import Moment, Value, bound


class Sign(StrEnum):
    """A comparison; `!=` is the negation of `=`."""

    EQUAL = "="
    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="


Sorted: TypeAlias = "int | float | str | bytes"


@dataclass(frozen=True, slots=True)
class End:
    """One end of a stretch; an open one leaves the value itself out."""

    value: Sorted
    open: bool = False

    @property
    def place(self) -> tuple[int, Any]:
        """Where SQLite sorts the value."""
        kind = 0 if isinstance(self.value, int | float) else 1 if isinstance(self.value, str) else 2
        return kind, self.value


@dataclass(frozen=True)
class Span:
    """The values between two ends; an end that is None is that of the whole order."""

    low: End | None
    high: End | None

    @cached_property
    def is_point(self) -> bool:
        """Whether it holds a single value."""
        return self.low is not None and self.low == self.high and not self.low.open

    def within(self, other: Span) -> Span:
        """The values in both."""
        lows = [end for end in (self.low, other.low) if end is not None]
        highs = [end for end in (self.high, other.high) if end is not None]
        return Span(
            max(lows, key=lambda end: (end.place, end.open), default=None),
            min(highs, key=lambda end: (end.place, not end.open), default=None),
        )

    def outside(self) -> tuple[Span, ...]:
        """The values that are not in it, as up to two stretches."""
        found = []
        if self.low is not None:
            found.append(Span(None, End(self.low.value, not self.low.open)))
        if self.high is not None:
            found.append(Span(End(self.high.value, not self.high.open), None))
        return tuple(found)

    def holds(self, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """The conditions that a column's value, if it is not NULL, lies in the stretch."""
        if self.is_point and self.low is not None:
            return [column == bound(self.low.value)]
        tests: list[ColumnElement[bool]] = []
        if self.low is not None:
            low = bound(self.low.value)
            tests.append(column > low if self.low.open else column >= low)
        if self.high is not None:
            high = bound(self.high.value)
            tests.append(column < high if self.high.open else column <= high)
        return tests


@dataclass(frozen=True, slots=True)
class Reach:
    """A term on a declared field that is one stretch of its values, or with `dated` of their moments."""

    name: str
    span: Span
    dated: bool


_FALSE, _TRUE = b"\x00", b"\x01"
_FIRST_TEXT, _FIRST_BLOB = "", b""
TEXTS = Span(End(_FIRST_TEXT), End(_FIRST_BLOB, open=True))


def stretch(sign: Sign, value: Value) -> Span:
    """The sorted values of which a comparison with `value` holds: those of its type alone."""
    whole: Span
    at: Sorted
    if isinstance(value, bool):
        whole, at = Span(End(_FALSE), End(_TRUE)), _TRUE if value else _FALSE
    elif isinstance(value, Moment):
        whole, at = Span(None, None), value.microseconds
    elif isinstance(value, str):
        whole, at = TEXTS, value
    else:
        whole, at = Span(None, End(_FIRST_TEXT, open=True)), value
    match sign:
        case Sign.EQUAL:
            return Span(End(at), End(at))
        case Sign.BELOW | Sign.AT_MOST:
            return Span(whole.low, End(at, sign is Sign.BELOW))
        case Sign.ABOVE | Sign.AT_LEAST:
            return Span(End(at, sign is Sign.ABOVE), whole.high)


def beginning(text: str) -> Span:
    """The texts that begin with `text`, which has at least one character."""
    last = ord(text[-1]) + 1
    if last == 0xD800:  # halves of surrogate pairs are no characters
        last = 0xE000
    above = End(text[:-1] + chr(last), open=True) if last <= 0x10FFFF else TEXTS.high
    return Span(End(text), above)
