"""item-kNN: with each item those most often taken with it, and vectors of ALS for what these say nothing of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.learn.interactions.als import ALSSettings, ImplicitALS
from ingest.learn.interactions.baselines import ItemKNN
from ingest.learn.interactions.contract import Factors, FactorTrainer, Progress
from ingest.learn.interactions.recency import faded
from ingest.sources.interactions import Interactions
from search.errors import ModelError
from search.query.together import SHARE, TOGETHER
from search.types import EncoderSpec, Modality


@dataclass(frozen=True, slots=True)
class TogetherSettings:
    """How likeness is counted (Deshpande & Karypis 2004), and what the vectors beside it are.

    `neighbours` of each item are kept; `shrink` takes from the likeness of what few have taken. What a user took counts
    half once `half_life_items` others were taken since; None for alike. The inner product of the vectors (of `dim`
    numbers, learned in `epochs`) counts for `share` of a likeness of 1, which ranks what no neighbour speaks for.
    """

    dim: int = 128
    neighbours: int = 100
    shrink: float = 20.0
    half_life_items: float | None = None
    share: float = 0.2
    epochs: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ModelError(f"neighbours is {self.neighbours}; give at least 1")
        for name in ("shrink", "share"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ModelError(f"{name} is {value}; give a number that is not negative")


class Together(FactorTrainer):
    """What was taken with what the user took, summed up; weights do not count: a pair was taken or not."""

    def __init__(self, settings: TogetherSettings = TogetherSettings()) -> None:
        self.settings = settings
        self._vectors = ImplicitALS(
            ALSSettings(
                dim=settings.dim,
                epochs=settings.epochs,
                half_life_items=settings.half_life_items,
                seed=settings.seed,
            )
        )
        options = {
            **self._vectors.spec.options,
            "neighbours": settings.neighbours,
            "shrink": settings.shrink,
            SHARE: settings.share,
        }
        self.spec = EncoderSpec(TOGETHER, TOGETHER, Modality.GRAPH, settings.dim, options=options)

    def fit(self, interactions: Interactions, *, progress: Progress | None = None) -> Factors:
        """See the contract."""
        once = interactions.once()
        made = self._vectors.fit(once, progress=progress)
        knn = ItemKNN(self.settings.neighbours, self.settings.shrink)
        knn.learn(once)
        counts = faded(once, self.settings.half_life_items)
        self._given = once, counts
        return Factors(made.users, made.items, knn.towards(), counts)

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """See the contract."""
        from scipy import sparse

        assert self.factors is not None
        once, counts = self._given
        taken = sparse.csr_matrix((counts, once.indices, once.indptr), shape=(once.n_users, once.n_items))
        summed = (taken[users] @ self.factors.together).toarray()
        return np.asarray(summed + np.float32(self.settings.share) * super().scores(users), dtype=np.float32)
