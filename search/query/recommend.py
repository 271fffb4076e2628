"""Recommendation from examples: what is near the likes and far from the dislikes, over several spaces at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.index.contract import Allowed
from search.index.flat import scores_at
from search.index.view import Look
from search.query.plan import plan
from search.query.run import Found, mask_of, nearest, positions_of, vectors_of
from search.query.together import Together
from search.types import Json, Metric, Space
from search.vectors import SPARSE, Keys, Vectors, diverse, similarity, unit_rows

_SHORTLIST = 20  # candidates taken from each space for each hit wanted, where a space is not scanned whole
_LEAST = 500
_USUAL = 1000  # rows that say which scores are usual in a space
_LEAST_SPREAD = 1e-6
_FEW = 64  # records left out, which are looked for and passed over; more are told to the index
_ROUNDING = 1e-5  # by which sums may differ that were made in another order, as a share of the largest
_POOL = 5  # candidates looked at for each hit wanted when the hits are to be diverse


@dataclass(frozen=True, slots=True)
class Taste:
    """What is asked of one space: a vector, or several of which the nearest counts.

    `unlike` are vectors of which the nearest counts against a record, and `pairs` (n, 2, dim) vectors of which it
    should be nearer to the first than to the second.
    """

    space: Space
    look: Look
    weight: float
    query: Vectors  # (n, dim); one of them is of unit length under the cosine
    unlike: Vectors | None = None  # (m, dim)
    pairs: Vectors | None = None
    together: Together | None = None  # what speaks for some records beside their vectors

    def scores(self, matrix: Vectors) -> NDArray[np.float32]:
        """Of each row (n,): how near it is, less what counts against it."""
        found = similarity(matrix, self.query, self.space.metric).max(axis=0)
        if self.unlike is not None:
            found = found - np.maximum(similarity(matrix, self.unlike, self.space.metric).max(axis=0), 0)
        if self.pairs is not None:
            for pair in self.pairs:
                near, far = similarity(matrix, pair, self.space.metric)
                found = found + np.minimum(near - far, 0)
        return np.asarray(found, dtype=np.float32)

    def scores_at(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of the rows (n,) that stand there."""
        matrix = self.look.rows.matrix
        if len(positions) == len(matrix):
            return self.scores(matrix)
        if len(self.query) == 1 and self.unlike is None and self.pairs is None:
            return scores_at(
                matrix, self.query[0], positions, self.space.metric
            )  # without copying them together
        return self.scores(matrix[positions])

    def usual(self) -> tuple[float, float]:
        """Mean and deviation of its scores over records at large: up to 1,000 rows, evenly spaced."""
        rows = self.look.rows
        every = np.arange(len(rows)) if rows.living is None else rows.living.positions
        some = every[np.unique(np.linspace(0, len(every) - 1, min(_USUAL, len(every))).astype(np.int64))]
        scores = self.scores(np.asarray(rows.matrix[some], dtype=np.float32))
        return float(scores.mean()), max(float(scores.std()), _LEAST_SPREAD)


@dataclass(frozen=True, slots=True)
class Recommended:
    """The records chosen, best first; for each, the space that speaks most for it and the score in each space.

    `plans` says of each space how its candidates were looked for.
    """

    found: Found
    spaces: list[str]
    scores: list[dict[str, Json]]
    plans: dict[str, Json]


def middle(look: Look, part_keys: Sequence[int]) -> NDArray[np.float32]:
    """The mean of a record's vectors in a space, scaled to length 1 where they are compared by the cosine."""
    rows = look.rows
    vectors = vectors_of(rows, part_keys)
    mean = vectors.mean(axis=0)
    return np.asarray(unit_rows(mean[None, :])[0] if look.flat.metric is Metric.COSINE else mean)


def recommend(
    tastes: Sequence[Taste],
    k: int,
    matching: Keys | None,
    excluded: Keys,
    diversity: float,
    *,
    calibrate: bool = False,
) -> Recommended:
    """The best k records by the weighted mean of their scores in each space.

    A record without a vector in a space has the score 0 there: nothing is known for or against it. Where a space
    has an approximate index the candidates are the best of each space; else every record is a candidate. Either
    way the scores are exact.

    With `calibrate` a score is first told in deviations from the mean over records at large, so that spaces whose
    scores differ in height and spread count alike; then 0 means as near as any record.
    """
    usual = [taste.usual() if calibrate else (0.0, 1.0) for taste in tastes]
    pool = max(k * _POOL, 100) if diversity > 0 else k
    candidates, plans = _candidates(tastes, k, (matching, excluded), usual, pool)
    total = np.zeros(len(candidates), np.float32)
    weight_sum = sum(taste.weight for taste in tastes)
    share = np.full((len(tastes), len(candidates)), -np.inf, np.float32)
    parts = np.zeros((len(tastes), len(candidates)), np.int64)
    for number, taste in enumerate(tastes):
        best = scored(taste, candidates)
        at = np.searchsorted(candidates, best.record_keys)
        mean, deviation = usual[number]
        scores_there = (best.scores - np.float32(mean)) / np.float32(deviation)
        share[number, at] = scores_there * np.float32(taste.weight / weight_sum)
        parts[number, at] = best.part_keys
        total[at] += share[number, at]
    known = np.isfinite(share).any(axis=0)
    order = np.flatnonzero(known)
    order = order[np.lexsort((candidates[order], -total[order]))]
    if diversity > 0:
        order = order[:pool]
        relevance = total[order]
        if calibrate and len(order):  # cosines are taken from it
            relevance = (relevance - relevance.min()) / np.float32(np.ptp(relevance) or 1)
        order = order[
            diverse(relevance, _side_by_side(tastes, parts[:, order], share[:, order]), k, diversity)
        ]
    order = order[:k]
    strongest = np.argmax(share[:, order], axis=0) if len(order) else np.empty(0, np.int64)
    found = Found(parts[strongest, order], candidates[order], total[order])
    names = [tastes[number].space.name for number in strongest]
    scores: list[dict[str, Json]] = [
        {
            taste.space.name: float(share[number, at] * weight_sum / taste.weight)
            for number, taste in enumerate(tastes)
            if np.isfinite(share[number, at])
        }
        for at in order
    ]
    return Recommended(found, names, scores, plans)


def _candidates(
    tastes: Sequence[Taste],
    k: int,
    wanted: tuple[Keys | None, Keys],
    usual: Sequence[tuple[float, float]],
    pool: int,
) -> tuple[Keys, dict[str, Json]]:
    """Keys of the records to score, ascending, the best `pool` among them, and how they were found in each space."""
    matching, excluded = wanted
    found: list[Keys] = []
    plans: dict[str, Json] = {}
    scan_all = all(taste.look.approximate is None for taste in tastes)
    allowed_of: list[Allowed] = []
    for taste in tastes:
        rows = taste.look.rows
        if not scan_all and matching is None and len(excluded) <= _FEW:
            n_wanted = max(k * _SHORTLIST, _LEAST) + len(excluded)
            some, way = nearest(taste.look, taste.query, n_wanted, None)
            found.extend(one.record_keys[~np.isin(one.record_keys, excluded)] for one in some)
            if taste.together is not None:  # of those that have gone meanwhile no row is found
                found.append(np.setdiff1d(taste.together.keys(), excluded))
            plans[taste.space.name] = way.to_json()
            continue
        mask = ~mask_of(rows, excluded)
        if matching is not None:
            mask &= mask_of(rows, matching)
        allowed = rows.allowed(mask)
        if scan_all:
            allowed_of.append(allowed)
            n_rows, n_allowed = rows.n_alive, allowed.n
            plans[taste.space.name] = plan(n_rows, n_allowed, taste.space.dim, k, None).to_json()
        else:
            some, way = nearest(taste.look, taste.query, max(k * _SHORTLIST, _LEAST), allowed)
            found.extend(one.record_keys for one in some)
            if taste.together is not None:
                keys = taste.together.keys()
                found.append(np.intersect1d(keys, rows.record_keys[allowed.mask]))
            plans[taste.space.name] = way.to_json()
    if scan_all:
        return _front(tastes, allowed_of, usual, pool), plans
    return (np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)), plans


def _front(
    tastes: Sequence[Taste], allowed_of: Sequence[Allowed], usual: Sequence[tuple[float, float]], n: int
) -> Keys:
    """The keys of the n best of all records, ascending, and of those that are as good but for rounding.

    Sums stand at the places of the keys, so that nothing has to be sorted.
    """
    highest = max((int(taste.look.rows.record_keys.max(initial=0)) for taste in tastes), default=0)
    total = np.zeros(highest + 1, np.float32)
    known = np.zeros(highest + 1, dtype=bool)
    weight_sum = sum(taste.weight for taste in tastes)
    for taste, allowed, (mean, deviation) in zip(tastes, allowed_of, usual, strict=True):
        if not allowed.n:
            continue
        rows = taste.look.rows
        some = slice(None) if allowed.n == len(rows) else allowed.positions
        owners = rows.record_keys[some]
        # To copy many rows takes longer than to score those that do not count.
        few = allowed.n * SPARSE < len(rows)
        scores = taste.scores(rows.matrix[some]) if few else taste.scores(rows.matrix)[some]
        if taste.together is not None:
            scores = taste.together.scores(owners, scores)
        share = (scores - np.float32(mean)) * np.float32(taste.weight / weight_sum / deviation)
        known[owners] = True
        if taste.look.pieces:
            best = np.full(highest + 1, -np.inf, np.float32)
            np.maximum.at(best, owners, share)
            total += np.where(best > -np.inf, best, np.float32(0))
        else:
            total[owners] += share
    keys = np.flatnonzero(known)
    if n >= len(keys):
        return keys
    totals = total[keys]
    least = -np.partition(-totals, n - 1)[n - 1]
    return np.asarray(keys[totals >= least - _ROUNDING * max(1.0, float(np.abs(totals).max()))])


def scored(taste: Taste, candidates: Keys) -> Found:
    """The best part of each candidate that has one in this space, in the order of the record keys."""
    rows = taste.look.rows
    at = positions_of(rows, candidates)
    scores = taste.scores_at(at)
    owners = rows.record_keys[at]
    if taste.together is not None:
        scores = taste.together.scores(owners, scores)
    order = np.lexsort((-scores, owners))
    owners = owners[order]
    first = np.ones(len(owners), dtype=bool)
    first[1:] = owners[1:] != owners[:-1]
    best = order[first]
    return Found(rows.part_keys[at[best]], owners[first], scores[best])


def _side_by_side(tastes: Sequence[Taste], parts: NDArray[np.int64], share: NDArray[np.float32]) -> Vectors:
    """Rows (n, sum of dims) whose inner product is the weighted mean of the cosines in each space."""
    weight_sum = sum(taste.weight for taste in tastes)
    blocks = []
    for number, taste in enumerate(tastes):
        rows = taste.look.rows
        block = np.zeros((parts.shape[1], taste.space.dim), np.float32)
        there = np.isfinite(share[number])
        block[there] = unit_rows(rows.matrix[np.searchsorted(rows.part_keys, parts[number, there])])
        blocks.append(block * np.float32((taste.weight / weight_sum) ** 0.5))
    return np.concatenate(blocks, axis=1)
