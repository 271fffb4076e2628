"""Finds the best records of one space: searches its rows as planned, and keeps the best part of each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from search.catalog import neighbours, reads
from search.catalog.checksums import missing_record
from search.catalog.database import Transaction
from search.errors import CollectionCorrupt
from search.index.contract import Allowed, Index, Rows
from search.index.threads import for_queries
from search.index.view import Look
from search.query.plan import Method, Plan, plan
from search.types import Hit, Json, Metric
from search.vectors import Keys, Vectors


@dataclass(frozen=True, slots=True)
class Found:
    """The best part of each of the best records, best first."""

    part_keys: Keys
    record_keys: Keys
    scores: NDArray[np.float32]


def mask_of(rows: Rows, record_keys: Keys) -> NDArray[np.bool_]:
    """Which rows (n,) belong to these records."""
    if not len(rows) or not len(record_keys):
        return np.zeros(len(rows), dtype=bool)
    highest = int(max(rows.record_keys.max(), record_keys.max()))
    wanted = np.zeros(highest + 1, dtype=bool)
    wanted[record_keys] = True
    return np.asarray(wanted[rows.record_keys])


def nearest(
    look: Look, queries: Vectors, k: int, allowed: Allowed | None, effort: int | None = None
) -> tuple[list[Found], Plan]:
    """The best k records for each of `queries` (n_queries, dim), and how they were found.

    Where a record may have many parts the search widens until k different records are found or no row is left, so
    k come back wherever k match. `effort` overrides how hard an approximate index looks.
    """
    rows, index = look.rows, look.approximate
    n_allowed = rows.n_alive if allowed is None else allowed.n
    width = min(k, n_allowed)
    first = plan(rows.n_alive, n_allowed, look.space.dim, max(width, 1), index, effort)
    if not width:
        nothing = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        return [nothing] * len(queries), first
    found: list[Found | None] = [None] * len(queries)
    way = first
    while True:
        searched: Index = index if index is not None and way.method is Method.INDEX else look.flat
        left = [number for number, one in enumerate(found) if one is None]
        asked = queries if len(left) == len(queries) else queries[left]
        with for_queries(len(asked)):
            near = searched.search(asked, width, allowed, effort=effort)
        scores = near.scores
        if (
            look.flat.metric is Metric.COSINE
        ):  # rounding can put one a hair outside; np.clip takes ten times as long
            scores = np.minimum(np.maximum(scores, np.float32(-1)), np.float32(1))
        owners = rows.record_keys[np.searchsorted(rows.part_keys, near.ids)]
        for at, number in enumerate(left):
            one = Found(near.ids[at], owners[at], scores[at])
            if look.pieces:
                one = _best_parts(one, k)
            if len(one.record_keys) >= k or width >= n_allowed:
                found[number] = one
        if all(one is not None for one in found):
            return [one for one in found if one is not None], first
        width = min(width * 4, n_allowed)
        way = plan(rows.n_alive, n_allowed, look.space.dim, width, index, effort)


def _best_parts(found: Found, k: int) -> Found:
    """The first, which is the best, part of each record, of the first k records."""
    _, first = np.unique(found.record_keys, return_index=True)
    first.sort()
    first = first[:k]
    return Found(found.part_keys[first], found.record_keys[first], found.scores[first])


def vectors_of(rows: Rows, part_keys: Sequence[int]) -> Vectors:
    """The vectors (n, dim) of these parts, all of which are living rows.

    Raises:
        CollectionCorrupt: the catalog names one that has no vector.
    """
    wanted = np.asarray(part_keys, dtype=np.int64)
    at = np.minimum(np.searchsorted(rows.part_keys, wanted), len(rows) - 1)
    if not len(rows) or (rows.part_keys[at] != wanted).any():
        raise CollectionCorrupt("a part in the catalog has no vector; restore the collection from a backup")
    return rows.matrix[at]


def hits(
    transaction: Transaction,
    found: Sequence[Found],
    spaces: str | Sequence[Sequence[str]],
    explain: Sequence[Sequence[Mapping[str, Json]]] | None = None,
    *,
    pieces: bool = True,
    context: int = 0,
) -> list[list[Hit]]:
    """What is shown of each record found, for several queries in one question to the catalog.

    `spaces` names the space whose part each was found by, or one for all; `explain` holds what to say of each;
    `pieces` is False where all parts are whole records; `context` is how many neighbours of a piece are put beside it.

    Raises:
        CollectionCorrupt: a record or part is damaged or gone.
    """
    keys = [(one.part_keys if pieces else one.record_keys).tolist() for one in found]
    wanted = keys[0] if len(keys) == 1 else list({key for some in keys for key in some})
    shown = reads.shown(transaction, wanted, pieces=pieces)
    around = neighbours.around(transaction, wanted, context) if context and pieces else {}
    answers = []
    for query, one in enumerate(found):
        scores = one.scores.tolist()
        names = repeat(spaces) if isinstance(spaces, str) else spaces[query]
        told = repeat(None) if explain is None else explain[query]
        owners = one.record_keys.tolist() if pieces else keys[query]
        answer = []
        for key, owner, score, name, said in zip(keys[query], owners, scores, names, told):  # noqa: B905 - without end
            row = shown.get(key)
            if row is None or row[0] != owner:
                raise missing_record(key)
            part = row[5]
            if part is not None and key in around:
                part = part | dict(zip(("before", "after"), around[key], strict=True))
            answer.append(Hit(row[1], score, name, row[3], row[2], row[4], part, said))
        answers.append(answer)
    return answers
