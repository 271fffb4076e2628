"""A small language for what is added to the score of a hit, over the fields of its record: parsed, never executed."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from search.errors import QueryError
from search.types import Json

_LONGEST = 2_000  # characters
_DAY_S = 86_400.0
_FUNCTIONS: Mapping[str, tuple[int | None, Callable[..., float]]] = {
    "log": (1, math.log),
    "sqrt": (1, math.sqrt),
    "exp": (1, math.exp),
    "abs": (1, abs),
    "min": (None, min),
    "max": (None, max),
}
_KNOWN = "+ - * /, log, sqrt, exp, abs, min, max, age_days(FIELD) and coalesce(FIELD, NUMBER)"


@dataclass(frozen=True, slots=True)
class Boost:
    """An expression, and the fields that it reads."""

    tree: ast.expr
    fields: frozenset[str]

    def value(self, score: float, metadata: Mapping[str, Json], now: float) -> float:
        """What the expression comes to for a hit.

        A field that is missing, or no number, makes nothing of the term that it stands in; so does what has no value,
        such as the logarithm of 0. True counts as 1, false as 0.

        Args:
            score: of the hit.
            metadata: of its record.
            now: seconds since 1970, for `age_days`.
        """
        return _value(self.tree, score, metadata, now) or 0.0


def parsed(expression: str) -> Boost:
    """The expression as the user wrote it, such as `log(1 + sales) * 0.1 - age_days(date) / 365`.

    Raises:
        QueryError: it cannot be read, or holds what is not in the language.
    """
    if not isinstance(expression, str) or not expression.strip():
        raise QueryError(
            f"boost is {expression!r}; write what is added to the score, such as log(1 + sales) * 0.1"
        )
    if len(expression) > _LONGEST:
        raise QueryError(f"boost has {len(expression):,} characters; write at most {_LONGEST:,}")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        fields: set[str] = set()
        _check(tree, fields)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it cannot be read"
        raise QueryError(f"boost '{expression[:80]}' cannot be read ({reason}); use {_KNOWN}") from None
    return Boost(tree, frozenset(fields))


def _check(node: ast.expr, fields: set[str]) -> None:
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(float(value) if abs(value) < 1e300 else math.inf):
                raise QueryError("boost holds a number that is too large; use a smaller one")
        case ast.Name() | ast.Attribute():
            name = _name(node)
            if name != "score":
                fields.add(name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, fields)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            _check(left, fields)
            _check(right, fields)
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
            _check_call(function, arguments)
            for one in arguments:
                _check(one, fields)
        case _:
            raise QueryError(f"boost cannot hold '{ast.unparse(node)[:60]}'; use {_KNOWN}")


def _check_call(function: str, arguments: list[ast.expr]) -> None:
    wanted: int | None
    if function == "age_days":
        wanted = 1
        if arguments and not isinstance(arguments[0], ast.Name | ast.Attribute):
            raise QueryError("age_days takes the name of a field with dates; write age_days(date)")
    elif function == "coalesce":
        wanted = 2
    elif function in _FUNCTIONS:
        wanted = _FUNCTIONS[function][0]
    else:
        raise QueryError(f"boost knows no {function}; use {_KNOWN}")
    if len(arguments) != wanted if wanted is not None else not arguments:
        raise QueryError(f"{function} in the boost takes {wanted or 'one or more'} arguments; give as many")


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    raise QueryError(f"boost cannot hold '{ast.unparse(node)[:60]}'; use {_KNOWN}")


def _value(node: ast.expr, score: float, metadata: Mapping[str, Json], now: float) -> float | None:
    def of(one: ast.expr) -> float | None:
        return _value(one, score, metadata, now)

    found: float | None = None
    try:
        match node:
            case ast.Constant(value=value):
                found = float(value)  # type: ignore[arg-type] # _check saw to it
            case ast.Name(id="score"):
                found = score
            case ast.Name() | ast.Attribute():
                found = _number(field_of(metadata, _name(node)))
            case ast.UnaryOp(op=sign, operand=operand):
                value = of(operand)
                found = None if value is None else -value if isinstance(sign, ast.USub) else value
            case ast.BinOp(left=left, op=op, right=right):
                found = _combined(op, of(left), of(right))
            case ast.Call(func=ast.Name(id="age_days"), args=[when]):
                moment = _moment(field_of(metadata, _name(when)))
                found = None if moment is None else (now - moment) / _DAY_S
            case ast.Call(func=ast.Name(id="coalesce"), args=[first, second]):
                first_value = of(first)
                found = of(second) if first_value is None else first_value
            case ast.Call(func=ast.Name(id=function), args=arguments):
                values = [of(one) for one in arguments]
                if None not in values:
                    found = float(_FUNCTIONS[function][1](*values))
    except (ArithmeticError, ValueError):
        return None
    return found if found is not None and math.isfinite(found) else None


def _combined(op: ast.operator, left: float | None, right: float | None) -> float | None:
    if isinstance(op, ast.Add | ast.Sub):  # a term without a value adds nothing
        if left is None and right is None:
            return None
        return (left or 0.0) + (right or 0.0) * (1 if isinstance(op, ast.Add) else -1)
    if left is None or right is None:
        return None
    return left * right if isinstance(op, ast.Mult) else left / right


def field_of(metadata: Mapping[str, Json], name: str) -> Json:
    """The field of this name, a nested one with dots; None if it is not there."""
    if name in metadata:
        return metadata[name]
    value: Any = metadata
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value  # type: ignore[no-any-return]


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, bool | int | float) else None


def _moment(value: Json) -> float | None:
    """Seconds since 1970 of a date as ISO 8601 writes it; without a zone it is taken as UTC."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
