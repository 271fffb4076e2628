"""The language of where-expressions: parsed by sqlglot, checked, and turned into a condition with bound values.

Fields are those of the metadata (nested ones with dots) and the record's own: `id`, `kind`, `uri`, `text`, and `space`,
the names of the spaces it has vectors in. `metadata.text` is a field of the metadata that has the name of one of these.

A comparison holds only between values of one type, as in JSON: `price < 80` is false where price is the string
"cheap". A field that a record lacks, or that is null, makes a comparison unknown, as in SQL: the record is left out,
under `not` too. `space = 'x'` holds where one of the record's spaces is x, and `space != 'x'` where none is.

Strings compare by their characters, which is right for ISO dates that are all written alike. Beside `date '2024-01-31'`
or `timestamp '2024-01-31T10:00:00+01:00'` a field's string is read as a moment in time: its offset counts (without one
it is UTC), a date alone is its midnight, microseconds are the finest. What is no ISO date is unknown there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeGuard

from sqlalchemy import ColumnElement
from sqlglot import expressions as exp

from search.catalog import fields as declarations
from search.catalog import reads, schema
from search.catalog.database import Transaction
from search.catalog.spelling import hint, shown
from search.catalog.where import faults, literals
from search.catalog.where.columns import Declared, Metadata, Operand, Own, Spaces, joined
from search.catalog.where.condition import Condition, Every, Node, Some
from search.catalog.where.literals import Moment, Value
from search.catalog.where.spans import Sign
from search.errors import FilterError

_OWN: dict[str, Operand] = {
    "id": Own(schema.record.c.id),
    "kind": Own(schema.record.c.kind),
    "uri": Own(schema.record.c.uri),
    "text": Own(schema.record.c.text),
    "space": Spaces(),
}
_METADATA = "metadata."

_SIGNS: dict[type[exp.Expr], tuple[Sign, Sign]] = {  # as it stands, and with its sides changed
    exp.EQ: (Sign.EQUAL, Sign.EQUAL),
    exp.NEQ: (Sign.EQUAL, Sign.EQUAL),
    exp.LT: (Sign.BELOW, Sign.ABOVE),
    exp.LTE: (Sign.AT_MOST, Sign.AT_LEAST),
    exp.GT: (Sign.ABOVE, Sign.BELOW),
    exp.GTE: (Sign.AT_LEAST, Sign.AT_MOST),
}
_DEEPEST = 200  # levels; beyond that the walk would meet Python's recursion limit
_MOST = (
    500  # comparisons: SQLite takes expressions of up to 1,000 levels, and a chain of `or` is one level each
)
_LONGEST_PATTERN = 50_000  # bytes of a `like`, as in SQLite
_MOMENTS: dict[Any, Callable[[str], Moment]] = {
    exp.DataType.Type.DATE: literals.day,
    exp.DataType.Type.DATETIME: literals.time,
    exp.DataType.Type.TIMESTAMP: literals.time,
    exp.DataType.Type.TIMESTAMPTZ: literals.time,
}
_UNDERSTOOD = {"this", "expression", "expressions", "low", "high", "negate", "to"}  # arguments of a node


def asked(transaction: Transaction, expression: str) -> Condition:
    """The condition that an expression states on the records of this catalog.

    Raises:
        FilterError: it cannot be used; see `understood`.
    """
    return understood(
        expression,
        reads.fields(transaction),
        list(reads.spaces(transaction)),
        declarations.declared(transaction),
    )


def parse(expression: str, fields: Collection[str], spaces: Collection[str] = ()) -> ColumnElement[bool]:
    """The test that `expression` states, on the table of records; see `understood`."""
    return understood(expression, fields, spaces).test


def understood(
    expression: str, fields: Collection[str], spaces: Collection[str] = (), declared: Collection[str] = ()
) -> Condition:
    """What `expression` asks of a record.

    Args:
        expression: such as `price < 80 and brand in ('A', 'B')`.
        fields: the metadata fields there are, nested ones with dots.
        spaces: the names of the spaces there are.
        declared: those of the fields whose values are kept sorted.

    Raises:
        FilterError: it cannot be parsed, names a field that no record has, or uses what is not offered.
    """
    tree = faults.parsed(expression, fields)
    translation = _Translation(expression, frozenset(fields), frozenset(spaces), frozenset(declared))
    root = translation.node(tree, 0, denied=False)
    return Condition(root, tuple(translation.undeclared))


class _Translation:
    """One expression on its way to a condition; `not` is pushed down to the comparisons as `denied`."""

    def __init__(
        self, expression: str, fields: frozenset[str], spaces: frozenset[str], declared: frozenset[str]
    ) -> None:
        self._text = expression
        self._fields = fields
        self._spaces = spaces
        self._declared = declared
        self._n_comparisons = 0
        self.undeclared: dict[str, None] = {}

    def node(self, node: exp.Expr, depth: int, *, denied: bool) -> Node:
        if depth > _DEEPEST:
            raise faults.too_deep()
        if not _is_field(node) and any(value for name, value in node.args.items() if name not in _UNDERSTOOD):
            raise self._refused(
                node
            )  # sqlglot knows more than we do, and what it adds must not be passed over
        if node.args.get("negate"):  # how some versions of sqlglot write `not like` and `is not`
            denied = not denied
        if isinstance(node, exp.Paren):
            return self.node(node.this, depth + 1, denied=denied)
        if isinstance(node, exp.And | exp.Or):
            parts = [self.node(part, depth + 1, denied=denied) for part in node.flatten()]
            # By De Morgan, a denied `or` is an `and` of denials.
            return self._every(parts) if isinstance(node, exp.And) != denied else Some(tuple(parts))
        if isinstance(node, exp.Not):
            return self.node(node.this, depth + 1, denied=not denied)
        return self._comparison(node, denied)

    def _every(self, parts: list[Node]) -> Node:
        merged = joined(parts)
        return merged[0] if len(merged) == 1 else Every(merged)

    def _comparison(self, node: exp.Expr, denied: bool) -> Node:
        if type(node) in _SIGNS:
            sign, mirrored = _SIGNS[type(node)]
            field, value = node.this, node.args["expression"]
            if _is_field(value) and not _is_field(field):
                field, value, sign = value, field, mirrored
            return self._compared(field, sign, value, denied != isinstance(node, exp.NEQ))
        if isinstance(node, exp.In):
            return self._listed(node, denied)
        if isinstance(node, exp.Between):
            ends = ((Sign.AT_LEAST, node.args["low"]), (Sign.AT_MOST, node.args["high"]))
            parts = [self._compared(node.this, sign, value, denied) for sign, value in ends]
            return Some(tuple(parts)) if denied else self._every(parts)
        if isinstance(node, exp.Like):
            return self._like(node, denied)
        if isinstance(node, exp.Is):
            if not isinstance(node.args["expression"], exp.Null):
                raise self._refused(node)
            return self._operand(node.this).absent(denied=denied)
        if _is_field(node):  # a bare field: true where it is true
            return self._compared(node, Sign.EQUAL, exp.Boolean(this=True), denied)
        raise self._refused(node)

    def _compared(self, field: exp.Expr, sign: Sign, value: exp.Expr, denied: bool) -> Node:
        operand = self._operand(field)
        stated = self._value(value)
        self._check_type(operand, field, stated, value)
        if sign is Sign.EQUAL:
            self._check_space(operand, stated, value)
        return operand.compared(sign, stated, denied=denied)

    def _listed(self, node: exp.In, denied: bool) -> Node:
        values = node.args.get("expressions")
        if not values:
            raise self._refused(node)
        operand = self._operand(node.this)
        stated = [self._value(value) for value in values]
        for one, value in zip(stated, values, strict=True):
            self._check_type(operand, node.this, one, value)
            self._check_space(operand, one, value)
        return operand.listed(stated, denied=denied)

    def _like(self, node: exp.Like, denied: bool) -> Node:
        operand = self._operand(node.this)
        pattern = self._value(node.args["expression"])
        if not isinstance(pattern, str):
            raise self._fault("like takes a string; give a pattern in quotes, such as '%word%'", node.this)
        if len(pattern.encode()) > _LONGEST_PATTERN:
            raise self._fault(
                f"the pattern of like is longer than {_LONGEST_PATTERN:,} bytes; shorten it", node.this
            )
        return operand.like(pattern, denied=denied)

    def _check_type(self, operand: Operand, field: exp.Expr, stated: Value, value: exp.Expr) -> None:
        """Refuse what can never be equal: a column of strings with anything but a string, or a date."""
        if isinstance(operand, Metadata | Declared) or isinstance(stated, str):
            return
        if isinstance(operand, Own) and isinstance(stated, Moment):
            return
        what = "a date" if isinstance(stated, Moment) else faults.said(value)
        raise self._fault(
            f"'{faults.said(field)}' is a string and cannot be compared with {what}; put the value in quotes",
            field,
        )

    def _check_space(self, operand: Operand, stated: Value, value: exp.Expr) -> None:
        if isinstance(operand, Spaces) and stated not in self._spaces:
            position, name = faults.position(value, self._text), str(stated)
            raise FilterError(
                f"no space is called '{shown(name)}' (character {position + 1}); {hint(name, self._spaces)}",
                position,
            )

    def _operand(self, node: exp.Expr) -> Operand:
        """The field that a comparison is about."""
        self._n_comparisons += 1
        if self._n_comparisons > _MOST:
            raise self._fault(
                f"the where-expression has more than {_MOST} comparisons; write `field in (...)` for many values",
                node,
            )
        if not _is_field(node) or not all(isinstance(part, exp.Identifier) for part in node.parts):
            position = faults.position(node, self._text)
            raise faults.word_of_sql(self._text, self._fields, position) or FilterError(
                f"'{faults.said(node)}' stands where a field should; write field, comparison, value", position
            )
        names = [part.name for part in node.parts]
        dotted = ".".join(names)
        if len(names) == 1 and dotted in _OWN:
            return _OWN[dotted]
        if dotted not in self._fields and dotted.startswith(_METADATA) and len(names) > 1:
            names, dotted = names[1:], dotted.removeprefix(_METADATA)
        if dotted not in self._fields:
            position = faults.position(node, self._text)
            near = hint(dotted, {*self._fields, *_OWN})
            raise FilterError(
                f"no record has a field '{shown(dotted)}' (character {position + 1}); {near}", position
            )
        if '"' in dotted:
            raise self._fault(
                f"the field {shown(dotted)} has a quote in its name and cannot be filtered on; rename it",
                node,
            )
        if dotted in self._declared and names == dotted.split("."):
            return Declared(dotted)
        if names == dotted.split("."):  # only so is it the field that can be declared
            self.undeclared[dotted] = None
        return Metadata(tuple(names))

    def _value(self, node: exp.Expr) -> Value:
        if isinstance(node, exp.Paren):
            return self._value(node.this)
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        if isinstance(node, exp.Neg):
            number = self._value(node.this)
            if isinstance(number, str | bool | Moment):
                raise self._refused(node)
            return -number
        if isinstance(node, exp.Literal):
            return str(node.this) if node.is_string else literals.number(node.this)
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.to.this in _MOMENTS:
            try:
                return _MOMENTS[node.to.this](str(node.this.this))
            except ValueError as error:
                raise self._fault(str(error), node.this) from None
        if isinstance(node, exp.Null):
            raise self._fault(
                "nothing equals null; write `field is null` or `field is not null`", node.parent or node
            )
        if _is_field(node):
            raise self._fault(
                f"'{faults.said(node)}' stands where a value should; put a string in single quotes: "
                f"'{faults.said(node)}'",
                node,
            )
        raise self._refused(node)

    def _fault(self, message: str, node: exp.Expr) -> FilterError:
        return FilterError(message, faults.position(node, self._text))

    def _refused(self, node: exp.Expr) -> FilterError:
        position = faults.position(node, self._text)
        return faults.word_of_sql(self._text, self._fields, position) or FilterError(
            f"'{faults.said(node)}' cannot be used in a where-expression; use {faults.GRAMMAR}", position
        )


def _is_field(node: exp.Expr) -> TypeGuard[exp.Column | exp.Dot]:
    return isinstance(node, exp.Column | exp.Dot)
