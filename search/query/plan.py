"""Decides, without doing anything, how a space is searched and which space answers a question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from search.errors import QueryError, UnknownSpace, WrongModality
from search.types import Json, Modality, Space

# What one visit to a node of the graph costs, in rows of a scan: its neighbours are scattered over memory, a scan
# reads in order. Measured on 100,000 x 384 rows.
_VISIT = 6.0
_LINKS = 32  # neighbours of a node at the lowest level of the graph
_GATHER = 2.0  # a gathered row is first copied
_MOST_EFFORT = 2048


class Method(StrEnum):
    """How the rows of a space are searched."""

    SCAN = "scan"  # score every allowed row: exact
    GRAPH = "graph"  # walk the HNSW graph, past the rows that are not allowed


@dataclass(frozen=True, slots=True)
class Plan:
    """The method, and why: costs are in rows scanned."""

    method: Method
    n_rows: int
    n_allowed: int
    scan_cost: float
    graph_cost: float | None = None
    effort: int | None = None

    def to_json(self) -> dict[str, Json]:
        """For `explain`."""
        said = asdict(self) | {"method": self.method.value}
        return {name: value for name, value in said.items() if value is not None}


def plan(n_rows: int, n_allowed: int, n_indexed: int, k: int, effort: int) -> Plan:
    """How to find the best k of `n_allowed` among `n_rows` living rows, `n_indexed` of which are in the graph.

    A filter makes the graph walk longer: of the nodes it visits only one in n_rows / n_allowed counts.
    """
    scan_cost = float(n_rows) if n_allowed == n_rows else n_allowed * _GATHER
    if n_indexed == 0 or n_allowed == 0:
        return Plan(Method.SCAN, n_rows, n_allowed, scan_cost)
    selectivity = n_allowed / n_rows
    needed = min(int(max(effort, 2 * k) / selectivity), _MOST_EFFORT)
    tail = n_rows - min(n_indexed, n_rows)
    graph_cost = needed * _LINKS * _VISIT + tail
    method = Method.GRAPH if graph_cost < scan_cost and k <= needed else Method.SCAN
    return Plan(method, n_rows, n_allowed, scan_cost, graph_cost, needed)


def named(spaces: Mapping[str, Space], name: str) -> Space:
    """The space of this name.

    Raises:
        UnknownSpace: there is none; the message lists those there are.
    """
    if name not in spaces:
        there = ", ".join(spaces) or "none yet"
        raise UnknownSpace(f"there is no space '{name}' (there are: {there}); name one of them")
    return spaces[name]


def space_for(spaces: Mapping[str, Space], name: str | None, kind: str) -> Space:
    """The space that answers a question put in `kind` ("text" or "image").

    Raises:
        UnknownSpace: none can, or several could and none was named.
        WrongModality: the named one cannot.
    """
    if name is not None:
        space = named(spaces, name)
        if kind not in space.encoder.accepts:
            raise WrongModality(
                f"space '{name}' ({space.encoder.model}) cannot be asked by {kind}; "
                f"ask it by {_ways(space)}, or name another space"
            )
        return space
    able = [space for space in spaces.values() if kind in space.encoder.accepts]
    if not able:
        hint = (
            "; ".join(f"'{space.name}' by {_ways(space)}" for space in spaces.values()) or "it is still empty"
        )
        raise UnknownSpace(
            f"no space of the collection can be asked by {kind} ({hint}); ingest something that can"
        )
    own = [space for space in able if space.modality == Modality(kind)]
    return _only_one(own or able, f"be asked by {kind}")


def space_of_vector(spaces: Mapping[str, Space], name: str | None, dim: int) -> Space:
    """The space that a given vector of `dim` numbers belongs to.

    Raises:
        UnknownSpace: none has this width, or several have and none was named.
        QueryError: the named one has another width.
    """
    if name is not None:
        space = named(spaces, name)
        if space.dim != dim:
            raise QueryError(
                f"the vector has {dim} numbers where space '{name}' has {space.dim}; use its own model"
            )
        return space
    able = [space for space in spaces.values() if space.dim == dim]
    if not able:
        widths = ", ".join(f"'{space.name}' has {space.dim}" for space in spaces.values()) or "there are none"
        raise UnknownSpace(f"no space has vectors of {dim} numbers ({widths}); check the vector")
    return _only_one(able, f"take a vector of {dim} numbers")


def _only_one(able: Iterable[Space], what: str) -> Space:
    first, *others = able
    if others:
        names = ", ".join(f"'{space.name}'" for space in (first, *others))
        raise UnknownSpace(f"several spaces could {what} ({names}); name one with space")
    return first


def _ways(space: Space) -> str:
    return " or ".join([*space.encoder.accepts, "a stored id", "a vector"])
