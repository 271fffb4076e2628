"""Items that were taken together: what speaks for an item to somebody, of all that he took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.catalog import edges
from search.catalog.database import Transaction
from search.types import Space
from search.vectors import Keys

TOGETHER = "item-knn"  # the family of spaces that keep with each item those most often taken with it
SHARE = (
    "share"  # the option of such a space: how much the product of the vectors counts beside the neighbours
)


@dataclass(frozen=True, slots=True)
class Together:
    """Each item taken, an item that it speaks for, and how much: three arrays (n,).

    `share` is how much the inner product of the vectors counts beside their sum.
    """

    taken: Keys
    items: Keys
    values: NDArray[np.float32]
    share: float

    def keys(self) -> Keys:
        """The items (m,) that anything speaks for, ascending."""
        return np.unique(self.items)

    def scores(self, record_keys: Keys, products: NDArray[np.float32]) -> NDArray[np.float32]:
        """What speaks for each of these records (n,), `products` (n,) being those of their vectors."""
        keys, place = np.unique(self.items, return_inverse=True)
        found = products * np.float32(self.share)
        if not len(keys):
            return found
        sums = np.bincount(place, weights=self.values, minlength=len(keys))
        at = np.minimum(np.searchsorted(keys, record_keys), len(keys) - 1)
        return np.asarray(found + np.where(keys[at] == record_keys, sums[at], 0), dtype=np.float32)

    def reasons(self, item: int, n: int) -> list[tuple[int, float]]:
        """The n items taken that speak most for this one, and how much."""
        theirs = np.flatnonzero(self.items == item)
        best = theirs[np.argsort(-self.values[theirs], kind="stable")][:n]
        return [(int(self.taken[at]), float(self.values[at])) for at in best]


def together(transaction: Transaction, space: Space, counts: Mapping[int, float]) -> Together | None:
    """What the items taken speak for, each with how much it counts, by record key; None in other spaces.

    Raises:
        CollectionCorrupt: what is stored of it is damaged.
    """
    if space.encoder.family != TOGETHER:
        return None
    nodes = np.array(sorted(counts), dtype=np.int64)
    taken, items = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    values = [np.empty(0, np.float32)]
    for node, targets, likeness in edges.learned_from(transaction, space, nodes):
        taken.append(np.full(len(targets), node, dtype=np.int64))
        items.append(targets)
        values.append(likeness * np.float32(counts[node]))
    share = float(space.encoder.options[SHARE])  # type: ignore[arg-type]
    return Together(np.concatenate(taken), np.concatenate(items), np.concatenate(values), share)
