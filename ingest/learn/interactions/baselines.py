"""What learned vectors must beat: popularity, the floor, and the items most often taken together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.learn.interactions.contract import Ranker
from ingest.sources.interactions import Interactions
from search.errors import ModelError, SourceError

_ENTRIES_AT_ONCE = 1 << 24  # of likeness between some items and all, at the most


def _some(interactions: Interactions) -> None:
    if not len(interactions.indices):
        raise SourceError("there is no interaction to learn from; give some")


class Popularity(Ranker):
    """Each item's number of users, the same for everyone."""

    def learn(self, interactions: Interactions) -> None:
        """See the contract."""
        _some(interactions)
        self._counts = np.bincount(interactions.indices, minlength=interactions.n_items).astype(np.float32)

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """See the contract."""
        return np.repeat(self._counts[None, :], len(users), axis=0)


class ItemKNN(Ranker):
    """The items nearest to those taken, by the cosine of who took them (Deshpande & Karypis 2004).

    `neighbours` of each item are kept; `shrink` takes from the likeness of what few have taken; with `bm25` the
    interactions of users with many count less (k1 1.2, b 0.75).
    """

    def __init__(self, neighbours: int = 100, shrink: float = 10.0, *, bm25: bool = False) -> None:
        if neighbours < 1 or not shrink >= 0:
            raise ModelError("neighbours must be at least 1 and shrink not negative; mend them")
        self.neighbours, self.shrink, self.bm25 = neighbours, shrink, bm25

    def learn(self, interactions: Interactions) -> None:
        """See the contract."""
        from scipy import sparse

        _some(interactions)
        taken = interactions.matrix().copy()
        taken.data = np.ones(len(taken.data), np.float32)
        weighed = _bm25(taken) if self.bm25 else taken
        columns = weighed.tocsc()
        lengths = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=0)).ravel())
        n_items = columns.shape[1]
        step = max(1, _ENTRIES_AT_ONCE // n_items)
        kept = [self._nearest(columns, lengths, slice(at, at + step)) for at in range(0, n_items, step)]
        self._taken, self._likeness = taken, sparse.vstack(kept).tocsr()

    def _nearest(self, columns: Any, lengths: NDArray[np.float32], some: slice) -> Any:
        """Rows of likeness, of these items to their nearest others; among equals those with the lower numbers."""
        from scipy import sparse

        together = (columns[:, some].T @ columns).tocoo()
        row, column = together.row, together.col
        likeness = together.data / (lengths[some][row] * lengths[column] + self.shrink)
        others = (column != row + some.start) & (likeness > 0)
        row, column, likeness = row[others], column[others], likeness[others].astype(np.float32)
        order = np.lexsort((column, -likeness, row))
        first = np.searchsorted(row[order], np.arange(together.shape[0]))
        best = order[np.arange(len(order)) - first[row[order]] < self.neighbours]
        return sparse.csr_matrix((likeness[best], (row[best], column[best])), shape=together.shape)

    def towards(self) -> Any:
        """Sparse rows (n_items, n_items): how much each item speaks for others, being among their neighbours."""
        return self._likeness.T.tocsr()

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """See the contract."""
        # How like item j is to those taken: column j, hence the rows of the taken ones' neighbours.
        return np.asarray((self._taken[users] @ self._likeness.T).toarray(), dtype=np.float32)


def _bm25(taken: Any) -> Any:
    """Interactions weighed as words are in documents, an item a document whose words are its users."""
    from scipy import sparse

    k1, b = 1.2, 0.75
    n_items = taken.shape[1]
    of_users = np.asarray(taken.sum(axis=1)).ravel()
    of_items = np.asarray(taken.sum(axis=0)).ravel()
    rarity = np.log1p((n_items - of_users + 0.5) / (of_users + 0.5))
    length = 1 - b + b * of_items / max(of_items.mean(), 1e-12)
    made = sparse.diags(rarity) @ taken @ sparse.diags((k1 + 1) / (1 + k1 * length))
    return made.tocsr().astype(np.float32)
