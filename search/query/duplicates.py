"""Duplicates in a space: records that are equal or nearly so, and which of them to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from search.catalog import showing
from search.catalog.database import Transaction
from search.catalog.inputs import FULL_BYTES, WHOLE_BYTES
from search.catalog.metadata_text import decoded
from search.catalog.showing import Shown
from search.errors import QueryError, UnknownSpace
from search.query import plan
from search.query.one_each import OneEach
from search.query.pairs import components, connected, stars
from search.types import Duplicates, Hit, Json, Modality, Space
from search.vectors import Keys

Told = Callable[[str, int, int], None]
MIN_SCORE = 0.97
_SAME = 0.999  # the least cosine of what the model made of one content, in other company
ROUNDING = 1e-6  # what a cosine in float32 may fall short by


class Keep(StrEnum):
    """Which of several duplicates is kept."""

    LARGEST = "largest"  # the most pixels, then the most bytes; of texts the longest; then the first
    FIRST = "first"  # the one that was added first


@dataclass(frozen=True, slots=True)
class Sought:
    """What to look for.

    Raises:
        QueryError: a wish makes no sense.
    """

    space: str | None = None
    min_score: float = MIN_SCORE
    keep: Keep = Keep.LARGEST
    where: str | None = None

    def __post_init__(self) -> None:
        score = self.min_score
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 < score <= 1:
            raise QueryError(f"the least score of a duplicate is {score!r}; give a number above 0, up to 1")


def kept_of(name: str) -> Keep:
    """Which to keep, by its name.

    Raises:
        QueryError: there is no such.
    """
    try:
        return Keep(name)
    except ValueError:
        raise QueryError(f"duplicates cannot be kept by {name!r}; keep the {' or '.join(Keep)}") from None


def space_of(spaces: Mapping[str, Space], name: str | None) -> Space:
    """The space that records are compared in: the one named, or the only one of pictures, or the only one.

    Raises:
        UnknownSpace: there is none, or none was named of several.
    """
    if name is not None:
        return plan.named(spaces, name)
    spaces = plan.standing(spaces)
    pictures = [space for space in spaces.values() if space.modality is Modality.IMAGE]
    able = pictures if len(pictures) == 1 else list(spaces.values())
    if len(able) == 1:
        return able[0]
    if not able:
        raise UnknownSpace("the collection has no space yet; ingest something into it first")
    raise UnknownSpace(f"several spaces are there ({', '.join(spaces)}); name one with --space")


def contents(transaction: Transaction, space: Space) -> dict[int, bytes]:
    """The hash of the picture or text that each record's vectors were made of, where it is known.

    Of other things the hash may be of more than the record: all nodes of a graph have that of the graph.
    """
    if space.modality not in (Modality.IMAGE, Modality.TEXT):
        return {}
    length = WHOLE_BYTES if space.modality is Modality.IMAGE else FULL_BYTES
    rows = transaction.sql(
        "select record_key, digest from synced where space_key = ? and length(digest) = ?",
        (space.key, length),
    )
    # That of a text is told apart from the rest that a run has read of its record.
    return {key: digest[WHOLE_BYTES:] or digest for key, digest in rows}


def groups(
    given: OneEach, known: Mapping[int, bytes], min_score: float, told: Told | None, name: str
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """What is equal, and what belongs together.

    Returns:
        For each record (n,) the first that is equal to it, by its content or its vector; and the rows of each
        component of two or more.
    """
    equal = _equal(given, known)
    distinct, inverse = np.unique(equal, return_inverse=True)
    near = connected(
        given.vectors if len(distinct) == len(equal) else given.vectors[distinct],
        min_score - ROUNDING,
        None if told is None else lambda done, of: told(name, done, of),
    )
    component = near[inverse]
    order = np.argsort(component, kind="stable")
    cuts = np.flatnonzero(np.diff(component[order])) + 1
    return equal, [some for some in np.split(order, cuts) if len(some) > 1]


def _equal(given: OneEach, known: Mapping[int, bytes]) -> NDArray[np.int64]:
    """For each record (n,) the first that it is joined to by the same content or the same vector."""
    n = len(given.record_keys)
    if not n:
        return np.empty(0, np.int64)
    first: dict[bytes, int] = {}
    by_content = np.arange(n)
    for row, key in enumerate(given.record_keys.tolist()):
        if (content := known.get(key)) is not None:
            by_content[row] = first.setdefault(content, row)
    vectors = np.ascontiguousarray(given.vectors)
    # The model gives the same for the same, but for rounding; where it did not, the hash was of something else.
    later = np.flatnonzero(by_content != np.arange(n))
    apart = np.einsum("nd,nd->n", vectors[later], vectors[by_content[later]]) < _SAME
    by_content[later[apart]] = later[apart]
    first.clear()
    by_vector = np.array(
        [
            first.setdefault(blake2b(vector, digest_size=16).digest(), row)
            for row, vector in enumerate(vectors)
        ],
        dtype=np.int64,
    )
    rows = np.arange(n)
    return components(n, np.concatenate([rows, rows]), np.concatenate([by_content, by_vector]))


def chosen(
    given: OneEach,
    equal: NDArray[np.int64],
    together: Sequence[NDArray[np.int64]],
    shown: Mapping[int, Shown],
    sought: Sought,
    space: Space,
) -> list[Duplicates]:
    """The groups, those with the most duplicates first: in each the record to keep, and those near to it."""
    found = []
    for rows in together:
        keys = given.record_keys[rows]
        there = np.array([key in shown for key in keys.tolist()], dtype=bool)
        rows, keys = rows[there], keys[there]
        ranks = [_rank(shown[key], key, sought.keep, space) for key in keys.tolist()]
        order = np.array(sorted(range(len(rows)), key=lambda i: ranks[i]), dtype=np.int64)
        vectors = given.vectors[rows]
        for centre, others, cosines in _stars(vectors, equal[rows], order, sought.min_score - ROUNDING):
            hits = [
                _hit(shown[int(keys[row])], min(float(cosine), 1.0), space, exact=bool(same))
                for row, cosine, same in zip(
                    others.tolist(), cosines, equal[rows[others]] == equal[rows[centre]], strict=True
                )
            ]
            hits.sort(key=lambda hit: -hit.score)
            found.append(Duplicates(_hit(shown[int(keys[centre])], 1.0, space), tuple(hits)))
    return sorted(found, key=lambda group: -len(group.others))


def _stars(
    vectors: NDArray[np.float32], equal: NDArray[np.int64], order: NDArray[np.int64], min_score: float
) -> list[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
    """As `stars`; equal ones are near to each other whatever their vectors."""
    if len(np.unique(equal)) == 1:
        centre, others = int(order[0]), order[1:]
        return [(centre, others, np.ones(len(others), np.float32))]
    # One vector for all that are equal: that of the first of them.
    _, first, inverse = np.unique(equal, return_index=True, return_inverse=True)
    return stars(vectors[first[inverse]], order, min_score)


def _rank(one: Shown, key: int, keep: Keep, space: Space) -> tuple[float, ...]:
    """What comes first is kept."""
    if keep is Keep.FIRST:
        return (key,)
    if space.modality is Modality.TEXT:
        return (-len(one.text or ""), key)
    metadata = decoded(one.metadata)
    pixels = _number(metadata.get("width")) * _number(metadata.get("height"))
    return (-pixels, -_number(metadata.get("bytes")), -len(one.text or ""), key)


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _hit(one: Shown, score: float, space: Space, *, exact: bool | None = None) -> Hit:
    said: dict[str, Json] | None = None if exact is None else {"exact": exact}
    return Hit(one.id, score, space.name, one.text, one.uri, decoded(one.metadata), None, said)


def keys_in(given: OneEach, together: Sequence[NDArray[np.int64]]) -> list[int]:
    """The keys of the records in these groups."""
    every: Keys = given.record_keys[np.concatenate([np.empty(0, np.int64), *together])]
    return [int(key) for key in every]


def shown_of(transaction: Transaction, keys: Sequence[int]) -> dict[int, Shown]:
    """What is shown of these records, of those that are there still."""
    return showing.shown(transaction, keys, pieces=False)
