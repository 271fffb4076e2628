"""Places in the plane for the records of a space."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.catalog.database import Transaction
from search.catalog.metadata_text import decoded
from search.catalog.reads import State
from search.catalog.showing import Shown
from search.errors import QueryError
from search.maps.projection import chosen, projected
from search.query.duplicates import shown_of, space_of
from search.query.follow import Views
from search.query.one_each import OneEach, one_each
from search.types import Place


def drawn(
    transaction: Transaction,
    state: State,
    views: Views,
    asked: tuple[str | None, str | None],
    bounds: tuple[int, int],
) -> tuple[OneEach, Mapping[int, Shown]]:
    """The vectors to draw, and what is shown of their records.

    `asked` is the space and the condition, `bounds` the seed and how many at most.
    """
    name, where = asked
    space = space_of(views.spaces(transaction, state), name)
    matching = None
    if where is not None:
        from search.query.matches import (
            Matches,
        )  # with SQLAlchemy, which a question without a filter does without

        matching = Matches().keys(transaction, state, where)
    given = sample(one_each(transaction, views.look(transaction, state, space), matching), *bounds)
    return given, shown_of(transaction, given.record_keys.tolist())


def sample(given: OneEach, seed: int, most: int) -> OneEach:
    """All of them, or of more than `most` a sample, in their order.

    Raises:
        QueryError: there is none.
    """
    n = len(given.record_keys)
    if not n:
        raise QueryError("there is no vector to draw; ask for more, or name another space")
    if n <= most:
        return given
    kept = np.sort(np.random.default_rng(seed).permutation(n)[:most])
    return OneEach(given.record_keys[kept], given.vectors[kept])


def placed(given: OneEach, shown: Mapping[int, Shown], method: str, seed: int) -> list[Place]:
    """The records with their places; those that are gone meanwhile are left out."""
    places = projected(given.vectors, chosen(method, len(given.vectors)), seed)
    found = []
    for key, (x, y) in zip(given.record_keys.tolist(), places.tolist(), strict=True):
        row = shown.get(key)
        if row is not None:
            found.append(Place(row.id, x, y, row.text, row.uri, decoded(row.metadata)))
    return found
