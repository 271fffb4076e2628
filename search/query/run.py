"""Finds the best records of one space: searches its rows as planned, and keeps the best part of each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from search.catalog import neighbours
from search.catalog.checksums import missing_record
from search.catalog.database import Transaction
from search.catalog.metadata_text import decoded
from search.errors import CollectionCorrupt
from search.index.contract import Allowed, Index, Neighbours, Rows
from search.index.threads import for_queries
from search.index.view import Look
from search.query.lately import Lately
from search.query.plan import Method, Plan, plan
from search.types import Hit, Json, Metric
from search.vectors import Keys, Vectors

_SPARSE = 16  # rows for each record that is looked up, below which all rows are passed through


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


def positions_of(rows: Rows, record_keys: Keys) -> NDArray[np.int64]:
    """Where the living rows of these records (n,), each given once and ascending, stand; ascending."""
    if not rows.ascending or len(record_keys) * _SPARSE > len(rows):
        return rows.allowed(mask_of(rows, record_keys)).positions
    begins = np.searchsorted(rows.record_keys, record_keys, side="left")
    counts = np.searchsorted(rows.record_keys, record_keys, side="right") - begins
    ends = np.cumsum(counts)
    at: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
        begins - ends + counts, counts
    )
    return at if rows.living is None else at[rows.living.mask[at]]


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
    if not len(queries):
        return [], first
    if not width:
        nothing = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        return [nothing] * len(queries), first
    near = _searched(look, queries, width, allowed, first, effort)
    found = list(map(Found, near.ids, near.record_keys, near.scores))
    if not look.pieces:
        return found, first
    found = [_best_parts(one, k) for one in found]
    while width < n_allowed:
        short = [number for number, one in enumerate(found) if len(one.record_keys) < k]
        if not short:
            break
        width = min(width * 4, n_allowed)
        way = plan(rows.n_alive, n_allowed, look.space.dim, width, index, effort)
        near = _searched(look, queries[short], width, allowed, way, effort)
        for number, *more in zip(short, near.ids, near.record_keys, near.scores, strict=True):
            found[number] = _best_parts(Found(*more), k)
    return found, first


def _searched(
    look: Look, queries: Vectors, width: int, allowed: Allowed | None, way: Plan, effort: int | None
) -> Neighbours:
    """The best parts by the planned method; under the cosine no score is outside -1 to 1."""
    searched: Index = look.flat
    if way.method is Method.INDEX and look.approximate is not None:
        searched = look.approximate
    with for_queries(len(queries)):
        near = searched.search(queries, width, allowed, effort=effort)
    if look.flat.metric is Metric.COSINE:
        # Rounding can put one a hair outside: the best are at the beginning, the worst at the end.
        best, worst = near.scores[:, 0], near.scores[:, -1]
        if (best[0] > 1 or worst[0] < -1) if len(queries) == 1 else (best.max() > 1 or worst.min() < -1):
            near = replace(near, scores=np.clip(near.scores, -1, 1))
    return near


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
    lately: Lately,
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
    shown = lately.shown(transaction, wanted, pieces=pieces)
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
            _, id, uri, text, metadata, part = row
            if part is not None:
                part = dict(part)  # the reader's own
                if key in around:
                    part["before"], part["after"] = around[key]
            answer.append(Hit(id, score, name, text, uri, decoded(metadata), part, said))
        answers.append(answer)
    return answers
