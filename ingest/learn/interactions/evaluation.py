"""How good rankings of items are: all items ranked, metrics with confidence intervals, splits without leaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.learn.interactions.contract import Ranker
from ingest.sources.interactions import Interactions
from search.errors import SourceError
from search.vectors import top_k

METRICS = ("recall", "ndcg", "map")
_RESAMPLES = 1000
_USERS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Measured:
    """What rankings of length k reach over the users that have something held out.

    `means` and `intervals` (95%, by bootstrap over users) are by metric; `coverage` is the share of items that were
    recommended to anyone; `novelty` the mean of -log2 of the share of users that took what was recommended (Vargas &
    Castells 2011). `per_user` holds each metric (n,) for the `users` (n,).
    """

    k: int
    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    coverage: float
    novelty: float
    users: NDArray[np.int64]
    per_user: Mapping[str, NDArray[np.float64]]


def measure(
    ranker: Ranker, train: Interactions, held_out: Interactions, k: int = 20, seed: int = 0
) -> Measured:
    """Rank all items that a user has not taken in `train`, and compare the first k with those held out.

    Items that nobody has taken in `train` are not ranked, as nothing was learned of them: where one is held out, it
    counts as not found.

    Recall is the share of them among the k; nDCG has gains of 1 and the best that k places allow as its ideal; MAP
    divides by the smaller of k and how many there are. Both sets have the same users and items; equal scores go by the
    item's number.

    Raises:
        SourceError: nothing was held out.
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    taken = np.bincount(train.indices, minlength=train.n_items)
    if not len(users):
        raise SourceError("nothing was held out to measure with; split otherwise")
    found = np.concatenate(
        [
            _ranked(ranker, train, users[at : at + _USERS_AT_ONCE], taken == 0, k)
            for at in range(0, len(users), _USERS_AT_ONCE)
        ]
    )
    keys = held_out.users.astype(np.int64) * held_out.n_items + held_out.indices
    sought = users[:, None] * held_out.n_items + found
    right = np.isin(sought, keys) & (found >= 0)
    per_user = _metrics(right, np.diff(held_out.indptr)[users], k)
    shown = found[found >= 0]
    novelty = -np.log2(np.maximum(taken[shown], 1) / train.n_users)
    return Measured(
        k,
        {name: float(values.mean()) for name, values in per_user.items()},
        {name: _interval(values, seed) for name, values in per_user.items()},
        len(np.unique(shown)) / train.n_items,
        float(novelty.mean()) + 0.0 if len(shown) else 0.0,  # not -0
        users,
        per_user,
    )


def _ranked(
    ranker: Ranker, train: Interactions, users: NDArray[np.int64], unknown: NDArray[np.bool_], k: int
) -> NDArray[np.int64]:
    """The first k items (n, k) for each user without those taken or unknown; -1 where there are no more."""
    scores = np.array(ranker.scores(users), dtype=np.float32)
    scores[:, unknown] = -np.inf
    ranked = np.full((len(users), k), -1, np.int64)
    for row, user in enumerate(users):
        scores[row, train.indices[train.indptr[user] : train.indptr[user + 1]]] = -np.inf
        best = top_k(scores[row], k)
        best = best[np.isfinite(scores[row, best])]
        ranked[row, : len(best)] = best
    return ranked


def _metrics(right: NDArray[np.bool_], n_held: NDArray[np.int64], k: int) -> dict[str, NDArray[np.float64]]:
    """By name (n,), from which of the k places (n, k) are right and how many would be."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0], np.cumsum(discount)])[np.minimum(n_held, k)]
    precision = np.cumsum(right, axis=1) / np.arange(1, k + 1)
    return {
        "recall": right.sum(axis=1) / n_held,
        "ndcg": (right * discount).sum(axis=1) / ideal,
        "map": (precision * right).sum(axis=1) / np.minimum(n_held, k),
    }


def _interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Where the mean lies with 95%: the percentile bootstrap (Efron 1979) over users."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def difference(first: Measured, second: Measured, metric: str, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean of `first` less that of `second` over the same users, paired by user."""
    return _interval(first.per_user[metric] - second.per_user[metric], seed)


def leave_last_out(given: Interactions) -> tuple[Interactions, Interactions]:
    """Each user's last item held out, of the users that have two or more.

    Raises:
        SourceError: there are no times to go by.
    """
    times = _times(given)
    users = given.users
    order = np.lexsort((given.indices, times, users))
    last = np.zeros(len(order), dtype=bool)
    ends = given.indptr[1:][np.diff(given.indptr) > 1] - 1
    last[order[ends]] = True
    return given.where(~last), given.where(last)


def temporal(given: Interactions, share: float = 0.2) -> tuple[Interactions, Interactions]:
    """What happened last, over all users alike, held out: the future is not known to anyone.

    Raises:
        SourceError: there are no times to go by, or the share leaves nothing on one side.
    """
    times = _times(given)
    if not 0 < share < 1:
        raise SourceError(f"the share held out is {share}; give a number between 0 and 1")
    later = times > np.quantile(times, 1 - share)
    if not later.any() or later.all():
        raise SourceError("the times are too much alike to split by; leave the last out instead")
    return given.where(~later), given.where(later)


def at_random(given: Interactions, share: float = 0.2, seed: int = 0) -> tuple[Interactions, Interactions]:
    """Interactions held out by chance. What happened after them is learned from: figures flatter the method.

    Raises:
        SourceError: the share leaves nothing on one side.
    """
    chosen = np.random.default_rng(seed).random(len(given.indices)) < share
    if not chosen.any() or chosen.all():
        raise SourceError(f"a share of {share} leaves nothing on one side; give another")
    return given.where(~chosen), given.where(chosen)


def _times(given: Interactions) -> NDArray[np.float64]:
    if given.times is None:
        raise SourceError("the interactions have no times to split by; name the column that holds them")
    return given.times
