"""What can be compared: the record's own columns, its spaces, metadata fields; each says how it is tested."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, literal, not_, or_, select

from search.catalog import fields, schema
from search.catalog.documents import FALSE, TRUE, moment, paths
from search.catalog.listing import among
from search.catalog.where.condition import Lookup, Node, Rank, Term
from search.catalog.where.literals import Family, Moment, Value, bound, family
from search.catalog.where.spans import TEXTS, Reach, Sign, Span, beginning, stretch

_COMPARE: dict[Sign, Callable[[Any, Any], ColumnElement[bool]]] = {
    Sign.EQUAL: lambda left, right: left == right,
    Sign.BELOW: lambda left, right: left < right,
    Sign.AT_MOST: lambda left, right: left <= right,
    Sign.ABOVE: lambda left, right: left > right,
    Sign.AT_LEAST: lambda left, right: left >= right,
}
_JSON_TYPES = {
    Family.NUMBER: ("integer", "real"),
    Family.TEXT: ("text",),
    Family.TRUTH: ("true", "false"),
}
_PREFIX = 3  # letters of a pattern's beginning that are looked up, each in both cases


class Operand(ABC):
    """The field's side of a comparison. With `denied` a term is the negation, under which unknown stays unknown."""

    @abstractmethod
    def compared(self, sign: Sign, value: Value, *, denied: bool) -> Term:
        """`field sign value`."""

    @abstractmethod
    def listed(self, values: Sequence[Value], *, denied: bool) -> Term:
        """`field in (values)`."""

    @abstractmethod
    def like(self, pattern: str, *, denied: bool) -> Term:
        """`field like pattern`."""

    @abstractmethod
    def absent(self, *, denied: bool) -> Term:
        """`field is null`."""


def _unless(test: ColumnElement[bool], denied: bool) -> ColumnElement[bool]:
    return not_(test) if denied else test


@dataclass(frozen=True)
class Own(Operand):
    """A column of texts: `id`, `kind`, `uri`, `text`."""

    column: ColumnElement[Any]

    def compared(self, sign: Sign, value: Value, *, denied: bool) -> Term:
        """`field sign value`."""
        if isinstance(value, Moment):
            test = _COMPARE[sign](moment(self.column), literal(value.microseconds))
        else:
            test = _COMPARE[sign](self.column, bound(value))
        return self._term(test, denied, sign is Sign.EQUAL and isinstance(value, str))

    def listed(self, values: Sequence[Value], *, denied: bool) -> Term:
        """`field in (values)`."""
        texts = [value for value in values if isinstance(value, str)]
        moments = [value.microseconds for value in values if isinstance(value, Moment)]
        tests = [among(self.column, texts)] if texts else []
        if moments:
            tests.append(among(moment(self.column), moments))
        return self._term(or_(*tests), denied, not moments)

    def like(self, pattern: str, *, denied: bool) -> Term:
        """`field like pattern`."""
        return self._term(self.column.like(bindparam(None, pattern)), denied, False)

    def absent(self, *, denied: bool) -> Term:
        """`field is null`."""
        return self._term(self.column.is_(None), denied, False)

    def _term(self, test: ColumnElement[bool], denied: bool, few: bool) -> Term:
        if few and not denied and self.column is schema.record.c.id:  # the one that has an index
            return Term(test, Lookup((select(schema.record.c.key).where(test),), Rank.POINT))
        return Term(_unless(test, denied))


@dataclass(frozen=True)
class Spaces(Operand):
    """The names of the spaces that a record has vectors in; a comparison holds if it does for one of them."""

    def compared(self, sign: Sign, value: Value, *, denied: bool) -> Term:
        """`space sign value`."""
        assert isinstance(value, str)
        return self._term(_COMPARE[sign](schema.space.c.name, literal(value)), denied)

    def listed(self, values: Sequence[Value], *, denied: bool) -> Term:
        """`space in (values)`."""
        return self._term(among(schema.space.c.name, [str(value) for value in values]), denied)

    def like(self, pattern: str, *, denied: bool) -> Term:
        """`space like pattern`."""
        return self._term(schema.space.c.name.like(bindparam(None, pattern)), denied)

    def absent(self, *, denied: bool) -> Term:
        """`space is null`: it has no vector at all."""
        return self._term(None, not denied)

    def _term(self, test: ColumnElement[bool] | None, denied: bool) -> Term:
        part = schema.part.c
        inside = [] if test is None else [part.space_key.in_(select(schema.space.c.key).where(test))]
        has_one = exists().where(part.record_key == schema.record.c.key, *inside)
        keys = select(part.record_key.label("key")).where(*inside)
        return Term(_unless(has_one, denied), Lookup((keys,), Rank.MOST, complement=denied))


@dataclass(frozen=True)
class Metadata(Operand):
    """A field of the metadata, read from each record's JSON."""

    names: tuple[str, ...]

    @property
    def _value(self) -> ColumnElement[Any]:
        """The value; a truth is 1 or 0, a list or an object its JSON."""
        return self._first(func.json_extract)

    @property
    def _type(self) -> ColumnElement[Any]:
        """What JSON calls the value's type; NULL where the value is null or absent."""
        return self._first(lambda document, path: func.nullif(func.json_type(document, path), "null"))

    def _first(self, what: Callable[[Any, Any], ColumnElement[Any]]) -> ColumnElement[Any]:
        some = [what(schema.record.c.metadata, literal(path)) for path in paths(self.names)]
        return some[0] if len(some) == 1 else func.coalesce(*some)

    def compared(self, sign: Sign, value: Value, *, denied: bool) -> Term:
        """`field sign value`."""
        if isinstance(value, Moment):
            test = _COMPARE[sign](moment(self._value), literal(value.microseconds))
        else:
            test = self._typed(_COMPARE[sign](self._value, bound(value)), family(value))
        return Term(_unless(test, denied))

    def listed(self, values: Sequence[Value], *, denied: bool) -> Term:
        """`field in (values)`."""
        tests = []
        for kind, some in _by_family(values).items():
            if kind is Family.MOMENT:
                tests.append(among(moment(self._value), some))
            else:
                tests.append(self._typed(_among(self._value, some), kind))
        return Term(_unless(or_(*tests), denied))

    def like(self, pattern: str, *, denied: bool) -> Term:
        """`field like pattern`."""
        held = self._value.like(bindparam(None, pattern))
        return Term(_unless(self._typed(held, Family.TEXT), denied))

    def absent(self, *, denied: bool) -> Term:
        """`field is null`."""
        return Term(_unless(self._value.is_(None), denied))

    def _typed(self, held: ColumnElement[bool], kind: Family) -> ColumnElement[bool]:
        # The comparison first: most records fail it, and are spared the second look.
        return and_(held, self._type.in_(_JSON_TYPES[kind]))


@dataclass(frozen=True)
class Declared(Operand):
    """A declared field of the metadata: looked up in its sorted values, tested as any other."""

    name: str

    @property
    def _read(self) -> Metadata:
        return Metadata(tuple(self.name.split(".")))

    def compared(self, sign: Sign, value: Value, *, denied: bool) -> Term:
        """`field sign value`."""
        test = self._read.compared(sign, value, denied=denied).test
        span = stretch(sign, value)
        return self.reaching(test, span.outside() if denied else (span,), isinstance(value, Moment))

    def reaching(self, test: ColumnElement[bool], spans: Sequence[Span], dated: bool) -> Term:
        """A term that holds where the value, or with `dated` its moment, lies in one of the stretches."""
        column = fields.indexed_value.c.moment if dated else fields.indexed_value.c.value
        conditions = [and_(*span.holds(column)) for span in spans]
        if len(spans) > 1:
            return self._term(test, conditions, Rank.MOST)
        rank = Rank.POINT if spans[0].is_point else Rank.SPAN
        return replace(self._term(test, conditions, rank), reach=Reach(self.name, spans[0], dated))

    def listed(self, values: Sequence[Value], *, denied: bool) -> Term:
        """`field in (values)`."""
        test = self._read.listed(values, denied=denied).test
        value, at = fields.indexed_value.c.value, fields.indexed_value.c.moment
        conditions: list[ColumnElement[bool]] = []
        for kind, some in _by_family(values).items():
            if kind is Family.TRUTH:
                conditions.append(value.in_([TRUE if one else FALSE for one in sorted(set(some))]))
            else:
                conditions.append(_among(at if kind is Family.MOMENT else value, some))
        if denied:
            return self._term(test, [not_(or_(*conditions))], Rank.MOST)
        return self._term(test, conditions, Rank.POINT)

    def like(self, pattern: str, *, denied: bool) -> Term:
        """`field like pattern`."""
        test = self._read.like(pattern, denied=denied).test
        value = fields.indexed_value.c.value
        alike = value.like(bindparam(None, pattern))
        if denied:
            whole = and_(*TEXTS.holds(value), alike)
            return self._term(test, [not_(whole)], Rank.MOST)
        spans = _spans_of(pattern)
        return self._term(test, [and_(*span.holds(value), alike) for span in spans], Rank.SPAN)

    def absent(self, *, denied: bool) -> Term:
        """`field is null`."""
        test = self._read.absent(denied=denied).test
        there = self._read.absent(denied=True).test
        queries = (fields.holding(self.name), fields.waiting(self.name, there))
        return Term(test, Lookup(queries, Rank.MOST, complement=not denied))

    def _term(self, test: ColumnElement[bool], conditions: Sequence[ColumnElement[bool]], rank: Rank) -> Term:
        queries = [fields.holding(self.name, condition) for condition in conditions]
        return Term(test, Lookup((*queries, fields.waiting(self.name, test)), rank))


def joined(parts: Sequence[Node]) -> tuple[Node, ...]:
    """The parts of an `and`, with the stretches of one declared field made into one."""
    found: dict[tuple[str, bool] | int, list[Node]] = {}
    for at, part in enumerate(parts):
        reach = part.reach if isinstance(part, Term) else None
        found.setdefault(at if reach is None else (reach.name, reach.dated), []).append(part)
    return tuple(some[0] if len(some) == 1 else _in_one(some) for some in found.values())


def _in_one(terms: Sequence[Node]) -> Term:
    reaches = [term.reach for term in terms if isinstance(term, Term) and term.reach is not None]
    span = reaches[0].span
    for reach in reaches[1:]:
        span = span.within(reach.span)
    test = and_(*(term.test for term in terms))
    return Declared(reaches[0].name).reaching(test, (span,), reaches[0].dated)


def _by_family(values: Sequence[Value]) -> dict[Family, list[Any]]:
    found: dict[Family, list[Any]] = {}
    for value in values:
        some = found.setdefault(family(value), [])
        some.append(value.microseconds if isinstance(value, Moment) else value)
    return found


def _among(column: ColumnElement[Any], values: Sequence[bool | int | float | str]) -> ColumnElement[bool]:
    """The condition that a column is one of the values; infinity apart, which a JSON array cannot hold."""
    finite = [value for value in values if not isinstance(value, float) or math.isfinite(value)]
    tests = [column == bound(value) for value in set(values) - set(finite)]
    if finite:
        tests.append(among(column, finite))
    return or_(*tests)


def _spans_of(pattern: str) -> list[Span]:
    """Stretches that hold all texts alike to a pattern: from the letters before its first sign for any."""
    prefix = pattern[: min((at for at, sign in enumerate(pattern) if sign in "%_"), default=len(pattern))]
    if not prefix:
        return [TEXTS]
    cases = [
        sorted({letter.lower(), letter.upper()}) if letter.isascii() else [letter]
        for letter in prefix[:_PREFIX]
    ]
    return [beginning("".join(letters)) for letters in product(*cases)]
