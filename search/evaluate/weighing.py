"""Learns from judgements how much each of several rankings should count, and what that is worth on other queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from search.errors import QueryError
from search.evaluate import significance
from search.evaluate.metrics import Floats
from search.evaluate.significance import Difference
from search.types import Json

CANDIDATES = 200  # of each query are put in order
_FEWEST = 10  # queries
_FOLDS = 5
_RATIOS = 2.0 ** (np.arange(-6, 7) / 2)  # a ranking counts an eighth of the first to eight times as much
_ROUNDS = 10
_LEAST_GAIN = 1e-9


@dataclass(frozen=True, slots=True)
class Asked:
    """The candidates of one query: their ids, what each ranking says of each (n, m), and the grades judged by id."""

    ids: Sequence[str]
    scores: Floats
    grades: Mapping[str, int]
    _gains: Floats = field(init=False, repr=False)
    _ideal: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        gains = np.array([max(self.grades.get(id, 0), 0) for id in self.ids], dtype=np.float64)
        ideal = np.sort(np.array([grade for grade in self.grades.values() if grade > 0], np.float64))[::-1]
        object.__setattr__(self, "_gains", gains)
        object.__setattr__(self, "_ideal", ideal)

    def ndcg(self, weights: Floats, k: int) -> float:
        """nDCG@k of the candidates in the order of the weighted sum (m,) of their scores; equals as they stand."""
        best = self._ideal[:k]
        if not len(best):
            return 0.0
        found = self._gains[np.argsort(-(self.scores @ weights), kind="stable")[:k]]
        return _discounted(found) / _discounted(best)


def _discounted(gains: Floats) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())


@dataclass(frozen=True, slots=True)
class Learned:
    """Weights, the largest of which is 1, and what they are worth.

    `held_out` compares nDCG@`k` with that of equal weights, each query with weights learned from others. `kept` says
    whether they were taken for questions to come: only where the held-out queries gain.
    """

    weights: Mapping[str, float]
    k: int
    held_out: Difference
    kept: bool

    def to_json(self) -> dict[str, Json]:
        """A JSON object."""
        return {
            "weights": dict(self.weights),
            "k": self.k,
            "held_out": self.held_out.to_json(),
            "kept": self.kept,
        }


def learned(names: Sequence[str], asked: Sequence[Asked], k: int, seed: int = 0) -> Learned:
    """Weights for the rankings of these names, and their worth by five-fold cross-validation.

    Raises:
        QueryError: there are too few queries to learn from.
    """
    if len(asked) < _FEWEST:
        raise QueryError(
            f"weights are learned from at least {_FEWEST} judged queries, and there are {len(asked)}; judge more"
        )
    fold_of = np.random.default_rng(seed).permutation(len(asked)) % _FOLDS
    equal = np.ones(len(names))
    before = np.array([one.ndcg(equal, k) for one in asked])
    now = np.empty(len(asked))
    for fold in range(_FOLDS):
        weights = searched([one for one, its in zip(asked, fold_of, strict=True) if its != fold], k)
        for at in np.flatnonzero(fold_of == fold).tolist():
            now[at] = asked[at].ndcg(weights, k)
    held_out = significance.difference(now, before)
    final = searched(asked, k)
    final = final / final.max()
    return Learned(
        dict(zip(names, final.tolist(), strict=True)), k, held_out, held_out.difference > _LEAST_GAIN
    )


def searched(asked: Sequence[Asked], k: int) -> Floats:
    """The weights (m,) with the best mean nDCG@k; of equals those nearest to equal weights.

    One after the other is tried at each ratio to the first, until none gains.
    """
    m = asked[0].scores.shape[1]
    weights = np.ones(m)
    best = _mean(asked, weights, k)
    for _ in range(_ROUNDS):
        gained = False
        for at in range(1, m):
            for ratio in sorted(_RATIOS, key=lambda one: abs(np.log(one))):
                tried = weights.copy()
                tried[at] = ratio
                if (value := _mean(asked, tried, k)) > best + _LEAST_GAIN:
                    best, weights, gained = value, tried, True
        if not gained:
            break
    return weights


def _mean(asked: Sequence[Asked], weights: Floats, k: int) -> float:
    return float(np.mean([one.ndcg(weights, k) for one in asked]))
