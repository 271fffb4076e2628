"""A condition on records, as a tree that says of each term how it is tested and how it is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, and_, or_

from search.catalog.where.spans import Reach


class Rank(IntEnum):
    """How many records a term is likely to leave, so that those which leave few are looked up first."""

    POINT = 0
    SPAN = 1
    MOST = 2


@dataclass(frozen=True, slots=True)
class Lookup:
    """Queries that together give the keys of the records for which a term holds, without reading the records.

    With `complement` they give those for which it does not hold.
    """

    queries: tuple[Select[Any], ...]
    rank: Rank
    complement: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison; `test` is true of the table's records for which it holds, and false or NULL of others.

    `reach` says what it looks up, where that is one stretch of sorted values: such terms can be joined.
    """

    test: ColumnElement[bool]
    lookup: Lookup | None = None
    reach: Reach | None = None


@dataclass(frozen=True)
class Every:
    """True where all parts are."""

    parts: tuple[Node, ...]

    @cached_property
    def test(self) -> ColumnElement[bool]:
        """The parts' tests in one."""
        return and_(*(part.test for part in self.parts))


@dataclass(frozen=True)
class Some:
    """True where one part is."""

    parts: tuple[Node, ...]

    @cached_property
    def test(self) -> ColumnElement[bool]:
        """The parts' tests in one."""
        return or_(*(part.test for part in self.parts))


# There is no node for `not`: it is pushed down to the terms, where what is unknown stays unknown.
Node: TypeAlias = "Term | Every | Some"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a where-expression asks of a record.

    `undeclared` names the metadata fields that it compares and that have no index.
    """

    root: Node
    undeclared: tuple[str, ...]

    @property
    def test(self) -> ColumnElement[bool]:
        """The condition on the table of records, for a query that reads them anyway."""
        return self.root.test
