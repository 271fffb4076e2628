"""Places in the plane for the records of a space."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.catalog.metadata_text import decoded
from search.catalog.reads import Shown
from search.errors import QueryError
from search.maps.projection import chosen, projected
from search.query.one_each import OneEach
from search.types import Place


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
