"""How much of what a user took still counts: less, the more was taken since."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.sources.interactions import Interactions
from search.errors import SourceError


def faded(interactions: Interactions, half_life_items: float | None) -> NDArray[np.float32]:
    """For each interaction (n,) a half to the power of how many came later of the same user, by `half_life_items`.

    None: 1 for each. What came at the same time goes by the item's number.

    Raises:
        SourceError: there are no times.
    """
    n = len(interactions.indices)
    if half_life_items is None:
        return np.ones(n, np.float32)
    if interactions.times is None:
        raise SourceError(
            "a half-life needs to know what was taken when; name the column of times, or say that lines are ordered"
        )
    order = np.lexsort((interactions.indices, interactions.times, interactions.users))
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    later = interactions.indptr[1:][interactions.users] - 1 - place
    return np.asarray(0.5 ** (later / half_life_items), dtype=np.float32)
