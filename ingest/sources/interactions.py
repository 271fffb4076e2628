"""Who took what: the interactions of users with items, numbered and packed, from arrays or from the user's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edges import GREATEST, usable
from search.errors import SourceError

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, slots=True)
class Interactions:
    """Interactions in compressed sparse rows, a row a user.

    User u is `user_ids[u]`; the items taken stand in `indices[indptr[u]:indptr[u + 1]]`, ascending and without
    repeats, with `weights` beside them (positive: how often, or how much). `times` are the seconds since 1970 of the
    last time; None where the source tells none.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    times: NDArray[np.float64] | None = None

    @property
    def n_users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return len(self.item_ids)

    @property
    def users(self) -> NDArray[np.int32]:
        """The user (n,) of each interaction, ascending."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.indptr))

    def matrix(self) -> sparse.csr_matrix:
        """The weights as a sparse matrix (n_users, n_items) float32, not to be written to."""
        from scipy import sparse

        return sparse.csr_matrix(
            (self.weights, self.indices, self.indptr), shape=(self.n_users, self.n_items)
        )

    def once(self) -> Interactions:
        """The same, each pair with the weight 1."""
        return replace(self, weights=np.ones(len(self.weights), np.float32))

    def where(self, kept: NDArray[np.bool_]) -> Interactions:
        """The interactions of a mask (n,) alone, of the same users and items."""
        users = self.users[kept]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=self.n_users))]).astype(np.int64)
        times = None if self.times is None else self.times[kept]
        return Interactions(
            self.user_ids, self.item_ids, indptr, self.indices[kept], self.weights[kept], times
        )


def from_pairs(
    users: Sequence[str], items: Sequence[str], weights: Any = None, times: Any = None
) -> Interactions:
    """Interactions from columns: the ids of users and items, what each pair counts for (1), and when (seconds).

    A pair that stands several times counts for the sum, at the last of its times. Users and items are numbered in the
    order of their ids.

    Raises:
        SourceError: there is none, or a weight is not a positive number.
    """
    if not len(users):
        raise SourceError("there is no interaction to learn from; give some")
    user_ids, user = np.unique(np.asarray(users, dtype=object).astype(str), return_inverse=True)
    item_ids, item = np.unique(np.asarray(items, dtype=object).astype(str), return_inverse=True)
    counted = np.ones(len(user), np.float64) if weights is None else np.asarray(weights, dtype=np.float64)
    if not usable(counted).all():
        raise SourceError("a weight is not a positive number; leave such interactions out")
    names = tuple(map(str, user_ids)), tuple(map(str, item_ids))
    return numbered(*names, user, item, counted, None if times is None else np.asarray(times, np.float64))


def numbered(
    user_ids: tuple[str, ...],
    item_ids: tuple[str, ...],
    user: NDArray[Any],
    item: NDArray[Any],
    weights: NDArray[np.float64],
    times: NDArray[np.float64] | None,
) -> Interactions:
    """Interactions from the numbers (n,) of users and items; those that stand again are added up."""
    pair = user.astype(np.int64) * len(item_ids) + item
    distinct, place = np.unique(pair, return_inverse=True)
    total = np.bincount(place, weights=weights, minlength=len(distinct))
    total = np.minimum(total, GREATEST)
    last = None
    if times is not None:
        last = np.full(len(distinct), -np.inf)
        np.maximum.at(last, place, times)
    counts = np.bincount(distinct // len(item_ids), minlength=len(user_ids))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Interactions(
        user_ids,
        item_ids,
        indptr,
        (distinct % len(item_ids)).astype(np.int32),
        total.astype(np.float32),
        last,
    )
