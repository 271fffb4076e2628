"""Decides, without doing anything, how a space is searched and which space answers a question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from search.errors import QueryError, UnknownSpace, WrongModality
from search.index.approximate import ApproximateIndex
from search.index.costs import Costs
from search.types import Json, Modality, Space


class Method(StrEnum):
    """How the rows of a space are searched."""

    SCAN = "scan"  # score every row: exact
    GATHER = "gather"  # score the allowed rows alone: exact
    INDEX = "index"  # look for candidates in the index, more of them where a filter leaves some out


@dataclass(frozen=True, slots=True)
class Plan:
    """The method, and why: what each way would take, in microseconds for one query."""

    method: Method
    n_rows: int
    n_allowed: int
    scan_us: float
    index_us: float | None = None
    kind: str | None = None
    effort: int | None = None
    candidates: int | None = None

    def to_json(self) -> dict[str, Json]:
        """For `explain`."""
        said: dict[str, Json] = {
            "method": self.method.value,
            "n_rows": self.n_rows,
            "n_allowed": self.n_allowed,
            "scan_us": round(self.scan_us, 1),
        }
        if self.index_us is not None:
            said |= {
                "index": self.kind,
                "index_us": round(self.index_us, 1),
                "effort": self.effort,
                "candidates": self.candidates,
            }
        return said


def plan(
    n_rows: int, n_allowed: int, dim: int, k: int, index: ApproximateIndex | None, effort: int | None = None
) -> Plan:
    """How to find the best k of `n_allowed` among `n_rows` living rows.

    A filter makes the index look for more candidates: of those only one in n_rows / n_allowed may be returned.
    Costs are those measured when the index was tuned, else typical ones. `effort`, if given, is the user's wish for
    the index.
    """
    costs = Costs.typical(dim) if index is None else index.costs
    every, picked = n_rows * costs.scan, n_allowed * costs.gather
    exact = Method.GATHER if n_allowed < n_rows and picked < every else Method.SCAN
    exact_us = min(every, picked if n_allowed < n_rows else every) / 1e3
    if index is None or n_allowed == 0:
        return Plan(exact, n_rows, n_allowed, exact_us)
    width = index.candidates_for(k, n_allowed, n_rows)
    needed = index.structure.effort_for(width, effort or index.effort)
    tail = (len(index.rows) - index.n_indexed) * costs.scan
    index_us = (needed * costs.walk + tail) / 1e3
    method = Method.INDEX if index_us < exact_us else exact
    return Plan(method, n_rows, n_allowed, exact_us, index_us, index.structure.kind.value, needed, width)


def named(spaces: Mapping[str, Space], name: str) -> Space:
    """The space of this name.

    Raises:
        UnknownSpace: there is none; the message lists those there are.
    """
    if name not in spaces:
        there = ", ".join(spaces) or "none yet"
        raise UnknownSpace(f"there is no space '{name}' (there are: {there}); name one of them")
    return spaces[name]


def standing(spaces: Mapping[str, Space]) -> dict[str, Space]:
    """Those that are asked without being named: not those that stand beside another for a change of model."""
    return {name: space for name, space in spaces.items() if space.stands_for is None}


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
    able = [space for space in standing(spaces).values() if kind in space.encoder.accepts]
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
    able = [space for space in standing(spaces).values() if space.dim == dim]
    if not able:
        widths = ", ".join(f"'{space.name}' has {space.dim}" for space in spaces.values()) or "there are none"
        raise UnknownSpace(f"no space has vectors of {dim} numbers ({widths}); check the vector")
    return _only_one(able, f"take a vector of {dim} numbers")


def _only_one(able: Iterable[Space], what: str) -> Space:
    first, *others = able
    if others:
        names = ", ".join(f"'{space.name}'" for space in (first, *others))
        raise UnknownSpace(f"several spaces could {what} ({names}); name one (space=…, --space)")
    return first


def _ways(space: Space) -> str:
    return " or ".join([*space.encoder.accepts, "a stored id", "a vector"])
