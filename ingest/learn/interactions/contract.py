"""The contract of what learns from interactions: it ranks all items for any user; most do it by vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.sources.interactions import Interactions
from search.types import EncoderSpec
from search.vectors import Vectors

Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Factors:
    """Vectors of users (n_users, dim) and of items (n_items, dim), float32; their inner product is the score.

    `together`, where there is one, holds sparse rows (n_items, n_items): how much it speaks for each item that the
    item of the row was taken; `counts` (n,) then says how much each interaction counts in that.
    """

    users: Vectors
    items: Vectors
    together: Any | None = None
    counts: NDArray[np.float32] | None = None


class Ranker(ABC):
    """Scores items for users; the same interactions and seed give the same scores."""

    @abstractmethod
    def learn(self, interactions: Interactions) -> None:
        """Learn from these.

        Raises:
            SourceError: there is none.
        """

    @abstractmethod
    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores (n, n_items) of all items for each of `users` (n,), higher is better; those taken are among them."""


class FactorTrainer(Ranker):
    """Learns a vector for each user and each item."""

    spec: EncoderSpec  # accepts nothing: a user's vector is made from what was taken, not from words
    factors: Factors | None = None

    @abstractmethod
    def fit(self, interactions: Interactions, *, progress: Progress | None = None) -> Factors:
        """The vectors; user u of the interactions is row u of `users`, and so are the items.

        A user without interactions gets a row of zeros where there is nothing to go by.
        `progress` is called with the work done and the work in all.

        Raises:
            SourceError: there is no interaction.
        """

    def learn(self, interactions: Interactions) -> None:
        """As `fit`, to be asked for scores."""
        self.factors = self.fit(interactions)

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """The inner products."""
        assert self.factors is not None
        return np.asarray(self.factors.users[users] @ self.factors.items.T, dtype=np.float32)
