"""How the edges of a graph are to be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from search.errors import SourceError

TYPE_MARK = ":"  # between type and id, in the ids of typed nodes
LITERAL = "="  # a type that begins so is meant as it is, and is no column


@dataclass(frozen=True, slots=True)
class EdgeFormat:
    """How the edges of a graph are to be read; None leaves it to the file and to the usual names.

    Args:
        directed: whether edges have a direction.
        source, target, weight: the columns of a table that hold these; `weight` also names the attribute of edges
            in formats that have any.
        source_type, target_type: the columns that hold the types of the ends, or `=customer` for one type for all.
            A node of a type has the id `type:id`, so that equal ids of two types are two nodes, and its `type`
            in its metadata.
        edge_type: the column that holds the type of an edge.
        type_weights: what the weight of edges of a type is multiplied by; 1 for the types not named, 0 leaves
            their edges out.
        format: the format, by the suffix that stands for it (`csv`, `gml.gz`), where the file's name does not say.
        query: what is asked of a database.
    """

    directed: bool | None = None
    source: str | None = None
    target: str | None = None
    weight: str | None = None
    source_type: str | None = None
    target_type: str | None = None
    edge_type: str | None = None
    type_weights: Mapping[str, float] = field(default_factory=dict)
    format: str | None = None
    query: str | None = None

    def __post_init__(self) -> None:
        if bool(self.edge_type) != bool(self.type_weights):
            raise SourceError(
                "types of edges count by their weights; give both the column and a weight for at least one type"
            )
        for name, weight in self.type_weights.items():
            if not 0 <= weight < math.inf:
                raise SourceError(f"the weight {weight} of edges of type '{name}' is none; give 0 or more")
        for literal in (self.source_type, self.target_type):
            if literal is not None and literal.startswith(LITERAL):
                _check_type(literal.removeprefix(LITERAL))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are asked for by name, `weight` aside."""
        given = (self.source, self.target, self.source_type, self.target_type, self.edge_type)
        return tuple(each for each in given if each is not None)


ANY_EDGES = EdgeFormat()


def _check_type(name: str) -> None:
    if not name or TYPE_MARK in name or "\0" in name:
        raise SourceError(
            f"'{name}' cannot be the type of nodes; give a word without '{TYPE_MARK}', as ids become type:id"
        )
