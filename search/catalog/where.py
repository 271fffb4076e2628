"""Where-expressions: parsed by sqlglot, checked, and turned into SQLAlchemy with bound values.

Fields are those of the metadata (nested ones with dots) and `id`, `kind`, `uri`, `text`. A comparison holds
only between values of one type, as in JSON: `price < 80` is false where price is the string "cheap". A field
that a record lacks, or that is null, makes a comparison unknown, as in SQL: the record is left out, under `not`
too.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import sqlglot
from sqlalchemy import ColumnElement, and_, bindparam, func, literal, not_, or_
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from search.catalog import schema
from search.catalog.listing import among
from search.errors import FilterError

_OWN = {
    "id": schema.record.c.id,
    "kind": schema.record.c.kind,
    "uri": schema.record.c.uri,
    "text": schema.record.c.text,
}

_COMPARISONS: dict[type[exp.Expr], Callable[[Any, Any], ColumnElement[bool]]] = {
    exp.EQ: lambda left, right: left == right,
    exp.LT: lambda left, right: left < right,
    exp.LTE: lambda left, right: left <= right,
    exp.GT: lambda left, right: left > right,
    exp.GTE: lambda left, right: left >= right,
}
_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
}
_GRAMMAR = "comparisons, and, or, not, ( ), in, between, like and is null"
_DEEPEST = 200  # levels; beyond that the walk would meet Python's recursion limit
_LONGEST = 100_000  # characters
_MOST = (
    500  # comparisons: SQLite takes expressions of up to 1,000 levels, and a chain of `or` is one level each
)
_LONGEST_PATTERN = 50_000  # bytes of a `like`, as in SQLite
_DATES = (exp.DType.DATE, exp.DType.DATETIME, exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ)
_UNDERSTOOD = {"this", "expression", "expressions", "low", "high", "negate", "to"}  # arguments of a node
_DOTS = 4  # dots of a field that may belong to a key instead of leading a level down
_SHOWN = 60  # characters of a refused piece that a message repeats


def parse(expression: str, fields: Collection[str]) -> ColumnElement[bool]:
    """The condition that `expression` states on the table of records.

    Args:
        expression: such as `price < 80 and brand in ('A', 'B')`.
        fields: the metadata fields there are, nested ones with dots.

    Raises:
        FilterError: it cannot be parsed, names a field that no record has, or uses what is not offered.
    """
    if not isinstance(expression, str):
        raise FilterError(f"the where-expression is a {type(expression).__name__}; give a string", None)
    if not expression.strip():
        raise FilterError("the where-expression is empty; leave it out or write a comparison", 0)
    if len(expression) > _LONGEST:
        raise FilterError(
            f"the where-expression is longer than {_LONGEST:,} characters; pass ids instead", _LONGEST
        )
    if (
        unwritable := next((at for at, c in enumerate(expression) if 0xD800 <= ord(c) < 0xE000), None)
    ) is not None:
        raise FilterError(f"character {unwritable + 1} is half of a surrogate pair; leave it out", unwritable)
    try:
        tree = sqlglot.parse_one(expression, dialect="sqlite", into=exp.Condition)
    except SqlglotError as error:
        position = _fault(error, expression)
        raise FilterError(
            f"the where-expression cannot be read at character {position + 1}, near "
            f"'{' '.join(expression[position : position + 20].split())}'; use {_GRAMMAR}",
            position,
        ) from None
    except RecursionError:
        raise FilterError("the where-expression is nested too deeply; make it flatter", 0) from None
    return _Translation(expression, frozenset(fields)).condition(tree, 0)


def _fault(error: SqlglotError, expression: str) -> int:
    """Where sqlglot met the fault: it counts lines and columns of the token's end from 1."""
    details: list[dict[str, Any]] = getattr(error, "errors", None) or [{}]
    line: int | None = details[0].get("line")
    column: int | None = details[0].get("col")
    if line is None or column is None:
        return 0
    start = sum(len(row) + 1 for row in expression.split("\n")[: line - 1]) + column
    return max(0, min(start - len(details[0].get("highlight") or ""), len(expression) - 1))


class _Translation:
    """One expression on its way to SQLAlchemy."""

    def __init__(self, expression: str, fields: frozenset[str]) -> None:
        self.expression = expression
        self.fields = fields
        self.n_comparisons = 0

    def condition(self, node: exp.Expr, depth: int) -> ColumnElement[bool]:
        if depth > _DEEPEST:
            raise FilterError("the where-expression is nested too deeply; make it flatter", 0)
        named = isinstance(node, exp.Column | exp.Dot)
        if not named and any(value for name, value in node.args.items() if name not in _UNDERSTOOD):
            raise self._refused(
                node
            )  # sqlglot knows more than we do, and what it adds must not be passed over
        if node.args.get("negate"):  # how some versions of sqlglot write `not like` and `is not`
            return not_(self._positive(node, depth))
        return self._positive(node, depth)

    def _positive(self, node: exp.Expr, depth: int) -> ColumnElement[bool]:
        """The condition without the negation that sqlglot may have put into the node."""
        if isinstance(node, exp.Paren):
            return self.condition(node.this, depth + 1)
        if isinstance(node, exp.And | exp.Or):
            parts = [self.condition(part, depth + 1) for part in node.flatten()]
            return and_(*parts) if isinstance(node, exp.And) else or_(*parts)
        if isinstance(node, exp.Not):
            return not_(self.condition(node.this, depth + 1))
        if type(node) in _MIRRORED:
            return self._comparison(node)
        if isinstance(node, exp.In):
            return self._membership(node)
        if isinstance(node, exp.Between):
            low, high = node.args["low"], node.args["high"]
            return and_(self._compare(exp.GTE, node.this, low), self._compare(exp.LTE, node.this, high))
        if isinstance(node, exp.Like):
            return self._like(node)
        if isinstance(node, exp.Is):
            return self._is_null(node)
        if isinstance(node, exp.Column | exp.Dot):  # a bare field: true where it is true
            return self._compare(exp.EQ, node, exp.Boolean(this=True))
        raise self._refused(node)

    def _comparison(self, node: exp.Expr) -> ColumnElement[bool]:
        left, right = node.this, node.args["expression"]
        if isinstance(right, exp.Column | exp.Dot) and not isinstance(left, exp.Column | exp.Dot):
            return self._compare(_MIRRORED[type(node)], right, left)
        return self._compare(type(node), left, right)

    def _compare(self, kind: type[exp.Expr], field: exp.Expr, value: exp.Expr) -> ColumnElement[bool]:
        if kind is exp.NEQ:
            return not_(self._compare(exp.EQ, field, value))
        self._count(field)
        column, types = self._field(field)
        bound = self._value(value)
        held = _COMPARISONS[kind](column, bindparam(None, bound))
        if types is None:
            if not isinstance(bound, str):
                raise FilterError(
                    f"'{self._said(field)}' is a string and cannot be compared with {bound}; "
                    "put the value in quotes",
                    self._position(field),
                )
            return held
        return and_(types.in_(_json_types(bound)), held)

    def _membership(self, node: exp.In) -> ColumnElement[bool]:
        values = node.args.get("expressions")
        if not values:
            raise self._refused(node)
        self._count(node.this)
        column, types = self._field(node.this)
        wanted: dict[tuple[str, ...], list[bool | int | float | str]] = {}
        for value in values:
            bound = self._value(value)
            some = wanted.setdefault(_json_types(bound), [])
            if not isinstance(bound, float) or math.isfinite(
                bound
            ):  # JSON knows no infinity: nothing equals it
                some.append(bound)
        if types is None:
            if list(wanted) != [("text",)]:
                raise FilterError(
                    f"'{self._said(node.this)}' is a string; put each value of the list in quotes",
                    self._position(node.this),
                )
            return among(column, wanted[("text",)])
        return or_(*(and_(types.in_(kinds), among(column, some)) for kinds, some in wanted.items()))

    def _like(self, node: exp.Like) -> ColumnElement[bool]:
        self._count(node.this)
        column, types = self._field(node.this)
        pattern = self._value(node.args["expression"])
        if not isinstance(pattern, str):
            raise FilterError(
                "like takes a string; give a pattern in quotes, such as '%word%'", self._position(node.this)
            )
        if len(pattern.encode()) > _LONGEST_PATTERN:
            raise FilterError(
                f"the pattern of like is longer than {_LONGEST_PATTERN:,} bytes; shorten it",
                self._position(node.this),
            )
        held = column.like(bindparam(None, pattern))
        return held if types is None else and_(types == "text", held)

    def _is_null(self, node: exp.Is) -> ColumnElement[bool]:
        if not isinstance(node.args["expression"], exp.Null):
            raise self._refused(node)
        self._count(node.this)
        column, _ = self._field(node.this)
        return column.is_(None)

    def _count(self, field: exp.Expr) -> None:
        self.n_comparisons += 1
        if self.n_comparisons > _MOST:
            raise FilterError(
                f"the where-expression has more than {_MOST} comparisons; write `field in (...)` for many values",
                self._position(field),
            )

    def _field(self, node: exp.Expr) -> tuple[ColumnElement[Any], ColumnElement[Any] | None]:
        """The value of a field and, for metadata, its JSON type."""
        if not isinstance(node, exp.Column | exp.Dot) or not all(
            isinstance(part, exp.Identifier) for part in node.parts
        ):
            raise FilterError(
                f"'{self._said(node)}' stands where a field should; write field, comparison, value",
                self._position(node),
            )
        names = [part.name for part in node.parts]
        dotted = ".".join(names)
        if len(names) == 1 and dotted in _OWN:
            return _OWN[dotted], None
        if dotted not in self.fields:
            raise self._unknown(dotted, self._position(node))
        if '"' in dotted:
            raise FilterError(
                f"the field {dotted} has a quote in its name and cannot be filtered on; rename it",
                self._position(node),
            )
        document = schema.record.c.metadata
        paths = [literal(path) for path in _paths(names)]
        values = [func.json_extract(document, path) for path in paths]
        types = [func.nullif(func.json_type(document, path), "null") for path in paths]
        if len(paths) == 1:
            return values[0], types[0]
        return func.coalesce(*values), func.coalesce(*types)

    def _value(self, node: exp.Expr) -> bool | int | float | str:
        if isinstance(node, exp.Paren):
            return self._value(node.this)
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        if isinstance(node, exp.Neg):
            number = self._value(node.this)
            if isinstance(number, str | bool):
                raise self._refused(node)
            return -number
        if (  # date '2024-01-01'
            isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.to.this in _DATES
        ):
            return str(node.this.this)
        if isinstance(node, exp.Literal):
            return str(node.this) if node.is_string else _number(node.this)
        if isinstance(node, exp.Null):
            raise FilterError(
                "nothing equals null; write `field is null` or `field is not null`",
                self._position(node.parent),
            )
        if isinstance(node, exp.Column | exp.Dot):
            raise FilterError(
                f"'{self._said(node)}' stands where a value should; put a string in single quotes: "
                f"'{self._said(node)}'",
                self._position(node),
            )
        raise self._refused(node)

    def _unknown(self, name: str, position: int | None) -> FilterError:
        known = sorted({*self.fields, *_OWN})
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known[:12])}"
        return FilterError(
            f"no record has a field '{name}' (character {(position or 0) + 1}); {hint}", position
        )

    def _said(self, node: exp.Expr) -> str:
        """The piece of the expression, as far as a message has room for it."""
        try:
            said = " ".join(node.sql().split())
        except (SqlglotError, RecursionError):
            return node.key
        return said if len(said) <= _SHOWN else said[:_SHOWN] + "…"

    def _position(self, node: exp.Expr | None) -> int | None:
        if node is None:
            return None
        starts = [part.meta["start"] for part in node.find_all(exp.Identifier) if "start" in part.meta]
        return min(starts) if starts else None

    def _refused(self, node: exp.Expr) -> FilterError:
        return FilterError(
            f"'{self._said(node)}' cannot be used in a where-expression; use {_GRAMMAR}", self._position(node)
        )


def _number(digits: str) -> int | float:
    try:
        whole = int(digits)
    except ValueError:
        return float(digits)
    # SQLite's integers have 64 bits; beyond them it compares as a float, and so do we.
    return whole if -(2**63) <= whole < 2**63 else float(whole)


def _paths(names: Sequence[str]) -> Iterator[str]:
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


def _json_types(value: bool | int | float | str) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("true", "false")
    return ("text",) if isinstance(value, str) else ("integer", "real")
