"""A question put in several ways at once: words, a picture, a stored record and a vector, each with its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from search.catalog import reads
from search.catalog.database import Transaction
from search.catalog.neighbours import CONTEXTUAL_WORDS
from search.catalog.reads import State
from search.errors import QueryError, UnknownRecord
from search.query import plan
from search.query.follow import Views
from search.query.recommend import Taste, middle
from search.query.request import Asked, given_ways, graphs, pictures, texts, weight_of
from search.types import Json, Metric, Space
from search.vectors import Vectors, as_floats, checked, prepared, unit_rows

if TYPE_CHECKING:
    from search.encoders.contract import Encoder, Item

_LEAST_LENGTH = 1e-6  # of the sum of unit vectors: below it they cancel each other out
_WAYS: tuple[Asked, ...] = ("text", "image", "graph", "like", "vector")


@dataclass(frozen=True, slots=True)
class Mix:
    """What was given, one of each way at most, and how much each counts."""

    weights: Mapping[Asked, float]
    encodable: Mapping[Asked, Item]  # words, picture and graph
    like: str | None = None
    vector: Vectors | None = None  # (dim,)


def mixed(
    query: Any, image: Any, like: Any, vector: Any, weights: Mapping[str, float] | None, graph: Any = None
) -> Mix:
    """The mix as the user put it.

    Raises:
        QueryError: a way holds several questions, or a weight is of what was not given, or no positive number.
    """
    ways = given_ways(query, image, like, vector, graph)
    counts = dict.fromkeys(ways, 1.0)
    if weights is not None and not isinstance(weights, Mapping):
        raise QueryError(f"the weights are a {type(weights).__name__}; give a number for each way of asking")
    for way, weight in (weights or {}).items():
        if way not in _WAYS:
            raise QueryError(f"a weight was given for '{way}'; the ways of asking are {', '.join(_WAYS)}")
        if way not in counts:
            raise QueryError(
                f"a weight was given for {way}, by which nothing is asked; give it, or leave it out"
            )
        counts[way] = weight_of(weight, way)
    if weights is not None and len(ways) < 2:
        raise QueryError(
            "weights are for several ways of asking together; give another way, or leave them out"
        )
    for way, one in (("text", query), ("image", image), ("graph", graph), ("like", like)):
        if isinstance(one, list | tuple):
            raise QueryError(f"several questions by {way} were given in a mix; ask one at a time")
    encodable: dict[Asked, Item] = {}
    if query is not None:
        encodable["text"] = texts(query)[0]
    if image is not None:
        encodable["image"] = pictures(image)[0]
    if graph is not None:
        encodable["graph"] = graphs(graph)[0]
    row = None
    if vector is not None:
        row = as_floats(vector, "the query vectors")
        if row.ndim != 1:
            raise QueryError("a mix takes one vector; give a list of numbers")
        row = checked(row[None, :], what="the query vectors")[0]
    return Mix(counts, encodable, None if like is None else str(like), row)


def takers(spaces: Mapping[str, Space], name: str | None, way: Asked) -> list[Space]:
    """The spaces that words or a picture are looked for in: the one named, or all whose encoder takes them.

    Raises:
        UnknownSpace: there is none.
        WrongModality: the one named cannot take them.
    """
    if name is not None:
        return [plan.space_for(spaces, name, way)]
    able = [space for space in plan.standing(spaces).values() if way in space.encoder.accepts]
    # Words in their context have to be marked in the query; who means them names the space.
    plain = [space for space in able if space.encoder.family != CONTEXTUAL_WORDS]
    return plain or [plan.space_for(spaces, None, way)]


def encoded(
    mix: Mix, spaces: Mapping[Asked, Sequence[Space]], encoder_of: Mapping[int, Encoder]
) -> dict[int, dict[Asked, Vectors]]:
    """By the key of each space, the unit vectors (dim,) of words and picture in it."""
    rows: dict[int, dict[Asked, Vectors]] = {}
    for way, some in spaces.items():
        for space in some:
            (row,) = encoder_of[space.key].encode([mix.encodable[way]], role="query")
            rows.setdefault(space.key, {})[way] = row
    return rows


def tastes(
    mix: Mix,
    name: str | None,
    rows: Mapping[int, Mapping[Asked, Vectors]],
    reading: tuple[Transaction, State, Views],
) -> tuple[list[Taste], list[int], dict[str, Json]]:
    """What the mix asks of each space, the keys of records to leave out, and the weights in each space.

    Within a space the query is the weighted sum of the unit vectors of the ways that it can take, scaled to length
    1. A space counts as much as the ways in it together.

    Args:
        mix: the question.
        name: the one space to look at; None for all that can take some of it.
        rows: what `encoded` made.
        reading: the transaction, its state and the views.

    Raises:
        UnknownRecord: the like is not there, or has no vector in the space.
        UnknownSpace: a way fits no space, or the vector fits several.
        QueryError: the vectors cancel each other out.
    """
    transaction, state, views = reading
    spaces = views.spaces(transaction, state)
    given: dict[str, dict[Asked, Vectors]] = {
        space.name: dict(rows[space.key]) for space in spaces.values() if space.key in rows
    }
    if mix.vector is not None:
        space = plan.space_of_vector(spaces, name, len(mix.vector))
        row = prepared(mix.vector[None, :], space.dim, space.metric, "the query vectors")[0]
        given.setdefault(space.name, {})["vector"] = row
    left_out: list[int] = []
    if mix.like is not None:
        keys = reads.keys_of(transaction, [mix.like])
        if mix.like not in keys:
            raise UnknownRecord(f"no record has the id '{mix.like}'; look it up with: nearkin get")
        left_out = list(keys.values())
        n_there = 0
        for space in [plan.named(spaces, name)] if name is not None else plan.standing(spaces).values():
            parts = reads.parts_of(transaction, space, left_out).get(left_out[0])
            if parts:
                n_there += 1
                look = views.look(transaction, state, space)
                given.setdefault(space.name, {})["like"] = middle(look, parts)
        if not n_there:
            place = "any space" if name is None else f"space '{name}'"
            raise UnknownRecord(f"'{mix.like}' has no vector in {place}; ingest it there, or leave it out")
    wanted = []
    for space in spaces.values():
        if ways := given.get(space.name):
            weight = sum(mix.weights[way] for way in ways)
            look = views.look(transaction, state, space)
            wanted.append(Taste(space, look, weight, _combined(space, mix, ways)))
    told: dict[str, Json] = {
        one: {way: mix.weights[way] for way in _WAYS if way in ways} for one, ways in given.items()
    }
    return wanted, left_out, told


def _combined(space: Space, mix: Mix, ways: Mapping[Asked, Vectors]) -> Vectors:
    """The weighted mean (1, dim) of the vectors, of unit length under the cosine."""
    total = sum(mix.weights[way] for way in ways)
    mean = np.sum([np.float32(mix.weights[way] / total) * row for way, row in ways.items()], axis=0)
    query = np.asarray(mean, dtype=np.float32)[None, :]
    if space.metric is not Metric.COSINE:
        return query
    if float(np.linalg.norm(query)) < _LEAST_LENGTH:
        raise QueryError(
            f"in space '{space.name}' {' and '.join(ways)} cancel each other out; give other weights, or ask by one"
        )
    return unit_rows(query)
