"""Reads the text of a where-expression, and says of each fault where it stands and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import sqlglot
from sqlglot import TokenType
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from search.catalog.spelling import shown
from search.errors import FilterError

GRAMMAR = "comparisons, and, or, not, ( ), in, between, like and is null"
_LONGEST = 100_000  # characters
_DIALECT = "sqlite"
_CLOSED = re.compile(
    r"""'[^']*' | "[^"]*" | `[^`]*` | \[[^]]*] | --[^\n]* | /\*.*?\*/""", re.DOTALL | re.VERBOSE
)
_OPENED = re.compile(r"""['"`[]|/\*""")


def parsed(expression: str, fields: Collection[str]) -> exp.Expr:
    """The tree of an expression, as sqlglot understands it.

    Raises:
        FilterError: it is no text, too long, or cannot be read.
    """
    if not isinstance(expression, str):
        raise FilterError(f"the where-expression is a {type(expression).__name__}; give a string", 0)
    if not expression.strip():
        raise FilterError("the where-expression is empty; leave it out or write a comparison", 0)
    if len(expression) > _LONGEST:
        raise FilterError(
            f"the where-expression is longer than {_LONGEST:,} characters; pass ids instead", _LONGEST
        )
    for at, sign in enumerate(expression):
        if 0xD800 <= ord(sign) < 0xE000:
            raise FilterError(f"character {at + 1} is half of a surrogate pair; leave it out", at)
        if sign == "\0":  # SQLite's texts end there
            raise FilterError(f"character {at + 1} is NUL, which cannot be compared; leave it out", at)
    words = _tokens(expression)
    if words and words[0].text.lower() == "if":  # sqlglot would take it for a command, and warn
        raise word_of_sql(expression, fields, words[0].start) or _unreadable(expression, words[0].start)
    try:
        tree: exp.Expr = sqlglot.parse_one(expression, dialect=_DIALECT, into=exp.Condition)
    except SqlglotError as error:
        at = _fault(error, expression)
        raise word_of_sql(expression, fields, at) or _unreadable(expression, at) from None
    except RecursionError:
        raise too_deep() from None
    return tree


def too_deep() -> FilterError:
    """The error for an expression of too many levels."""
    return FilterError("the where-expression is nested too deeply; make it flatter", 0)


def _unreadable(expression: str, position: int) -> FilterError:
    near = " ".join(expression[position : position + 20].split())
    return FilterError(
        f"the where-expression cannot be read at character {position + 1}, near '{near}'; use {GRAMMAR}",
        position,
    )


def word_of_sql(expression: str, fields: Collection[str], position: int) -> FilterError | None:
    """The error for a field whose name is a word of SQL, if one stands at the fault or before it."""
    for token in reversed(_tokens(expression)):
        if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER):  # the latter is quoted already
            continue
        if token.start <= position and token.text in fields and not _may_be_field(token.text):
            return FilterError(
                f"'{token.text}' (character {token.start + 1}) is a word of SQL too; "
                f'put the field in double quotes: "{token.text}"',
                token.start,
            )
    return None


def _tokens(expression: str) -> list[Any]:
    try:
        return sqlglot.tokenize(expression, dialect=_DIALECT)
    except SqlglotError:
        return []


def _may_be_field(word: str) -> bool:
    """Whether sqlglot takes a word for a field without quotes."""
    try:
        tree: Any = sqlglot.parse_one(f"({word} = 1)", dialect=_DIALECT, into=exp.Condition)
    except SqlglotError:
        return False
    return (
        isinstance(tree, exp.Paren)
        and isinstance(tree.this, exp.EQ)
        and isinstance(tree.this.this, exp.Column)
    )


def _fault(error: SqlglotError, expression: str) -> int:
    """Where sqlglot met the fault: it counts lines and columns of the token's end from 1."""
    details: list[dict[str, Any]] = getattr(error, "errors", None) or [{}]
    line: int | None = details[0].get("line")
    column: int | None = details[0].get("col")
    if line is None or column is None:
        return _unclosed(expression)
    start = sum(len(row) + 1 for row in expression.split("\n")[: line - 1]) + column
    return max(0, min(start - len(details[0].get("highlight") or ""), len(expression) - 1))


def _unclosed(expression: str) -> int:
    """Where the quote or comment begins that nothing ends; that alone sqlglot does not place."""
    at = 0
    while at < len(expression):
        closed = _CLOSED.match(expression, at)
        if closed is None and _OPENED.match(expression, at):
            return at
        at = closed.end() if closed else at + 1
    return 0


def said(node: exp.Expr) -> str:
    """The piece of the expression, as far as a message has room for it."""
    try:
        return shown(node.sql())
    except (SqlglotError, RecursionError):
        return node.key


def position(node: exp.Expr, expression: str) -> int:
    """The character at which a piece of the expression begins, as near as it is known."""
    there: exp.Expr | None = node
    words = said(node).lower()
    while there is not None:
        starts: list[int] = [
            part.meta["start"] for part in there.find_all(exp.Identifier, exp.Literal) if "start" in part.meta
        ]
        if not starts and there is node:  # such as null, or true
            starts = [token.start for token in _tokens(expression) if token.text.lower() == words]
        if starts:
            return min(starts)
        there = there.parent
    return len(expression) - len(expression.lstrip())
