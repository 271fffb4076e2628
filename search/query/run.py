"""Finds the best records of one space: searches its rows as planned, and keeps the best part of each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from search.catalog import reads
from search.index.contract import Rows
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


def allowed_rows(rows: Rows, matching: Keys | None, excluded: Keys | None) -> NDArray[np.bool_] | None:
    """The mask (n,) of rows whose records match and are not excluded; None where all rows are allowed."""
    if matching is None and (excluded is None or not len(excluded)):
        return None
    allowed = np.ones(len(rows), dtype=bool) if matching is None else mask_of(rows, matching)
    if excluded is not None and len(excluded):
        allowed &= ~mask_of(rows, excluded)
    return allowed


def nearest(
    look: Look, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None
) -> tuple[list[Found], Plan]:
    """The best k records for each of `queries` (n_queries, dim), and how they were found.

    A record may have many parts: the search widens until k different records are found or no row is left, so k
    come back wherever k match.
    """
    rows = look.rows
    n_allowed = rows.n_alive if allowed is None else int(np.count_nonzero(rows.alive & allowed))
    n_indexed = look.graph.n_indexed if look.graph is not None else 0
    effort = look.graph.effort if look.graph is not None else 0
    found: list[Found | None] = [None] * len(queries)
    width = min(k, n_allowed)
    chosen = plan(rows.n_alive, n_allowed, n_indexed, max(width, 1), effort)
    while width and any(one is None for one in found):
        way = plan(rows.n_alive, n_allowed, n_indexed, width, effort)
        index = look.graph if way.method is Method.GRAPH and look.graph is not None else look.flat
        open_queries = [number for number, one in enumerate(found) if one is None]
        near = index.search(queries[open_queries], width, allowed, effort=way.effort)
        for number, ids, scores in zip(open_queries, near.ids, near.scores, strict=True):
            one = _best_parts(rows, ids, scores)
            if len(one.record_keys) >= k or width >= n_allowed:
                found[number] = _first(one, k, look.flat.metric)
        width = min(width * 4, n_allowed)
    nothing = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return [nothing if one is None else one for one in found], chosen


def _best_parts(rows: Rows, part_keys: Keys, scores: NDArray[np.float32]) -> Found:
    """The first, which is the best, part of each record."""
    owners = rows.record_keys[np.searchsorted(rows.part_keys, part_keys)]
    _, first = np.unique(owners, return_index=True)
    first.sort()
    return Found(part_keys[first], owners[first], scores[first])


def _first(found: Found, k: int, metric: Metric) -> Found:
    scores = found.scores[:k]
    if metric is Metric.COSINE:
        scores = np.clip(scores, -1, 1)  # rounding can put a cosine a hair outside
    return Found(found.part_keys[:k], found.record_keys[:k], scores)


def vectors_of(rows: Rows, part_keys: Sequence[int]) -> Vectors:
    """The vectors (n, dim) of these parts, all of which are living rows."""
    return rows.matrix[np.searchsorted(rows.part_keys, np.asarray(part_keys, dtype=np.int64))]


def hits(
    connection: Connection,
    found: Sequence[Found],
    spaces: Sequence[Sequence[str]],
    explain: Sequence[Sequence[Mapping[str, Json]]] | None = None,
) -> list[list[Hit]]:
    """What is shown of each record found, for several queries in one question to the catalog.

    `spaces` names, for each, the space whose part it was found by; `explain` likewise holds what to say of it.
    """
    wanted = {key for one in found for key in one.part_keys.tolist()}
    shown = reads.shown(connection, wanted)
    answers = []
    for query, one in enumerate(found):
        answer = []
        for number, (part_key, score) in enumerate(
            zip(one.part_keys.tolist(), one.scores.tolist(), strict=True)
        ):
            row = shown[part_key]
            said = None if explain is None else explain[query][number]
            answer.append(
                Hit(row.id, score, spaces[query][number], row.text, row.uri, row.metadata, row.part, said)
            )
        answers.append(answer)
    return answers
