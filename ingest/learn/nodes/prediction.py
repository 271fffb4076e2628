"""A ridge map from vectors of one kind to vectors of nodes, and how good it is on nodes held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import QueryError
from search.vectors import Vectors, unit_rows

FEWEST = 10  # examples
MOST = 20_000  # of more a sample is learned from
_HELD_OUT = 0.2
_MOST_HELD_OUT = 2_000
_NEAREST = 10
_PENALTIES = np.logspace(-3, 3, 13)


@dataclass(frozen=True, slots=True)
class MapQuality:
    """How near predictions for `held_out` examples come, learned from the others.

    `r2` is the share of the variance explained; `cosine` the mean to the true vector; `recall` the share of the ten
    examples nearest to the true vector that are among the ten nearest to the predicted one; `chance` what a
    prediction that is the same for all would reach in recall.
    """

    held_out: int
    r2: float
    cosine: float
    recall: float
    chance: float


@dataclass(frozen=True, slots=True)
class RidgeMap:
    """Predicts (x - mean_in) @ weights + mean_out, of unit length."""

    weights: NDArray[np.float64]  # (dim in, dim out)
    mean_in: NDArray[np.float64]
    mean_out: NDArray[np.float64]
    penalty: float

    def raw(self, given: Vectors) -> NDArray[np.float64]:
        """The predictions (n, dim out) as the regression gives them."""
        found: NDArray[np.float64] = (given - self.mean_in) @ self.weights + self.mean_out
        return found

    def predicted(self, given: Vectors) -> Vectors:
        """Unit vectors (n, dim out) for rows (n, dim in)."""
        return unit_rows(self.raw(given).astype(np.float32))

    def as_long(self, given: Vectors, examples: Vectors, wanted: Vectors) -> Vectors:
        """Predictions (n, dim out) that are on the whole as long as what is `wanted` (m, dim out) of `examples`.

        A ridge draws its predictions together. Where products are compared, as they are they would never come first
        among the true ones, and with unit length too often; among themselves the longer are the likelier.
        """
        usual, drawn = (float(np.linalg.norm(some, axis=1).mean()) for some in (wanted, self.raw(examples)))
        return np.asarray(self.raw(given) * (usual / drawn if drawn > 0 else 1.0), dtype=np.float32)


def learned_map(given: Vectors, wanted: Vectors) -> RidgeMap:
    """The ridge regression (Hoerl & Kennard 1970) of rows (n, dim out) on rows (n, dim in).

    The penalty is the one whose error on each example by the others is least (leave-one-out, in closed form).
    """
    mean_in, mean_out = given.mean(axis=0, dtype=np.float64), wanted.mean(axis=0, dtype=np.float64)
    x, y = given - mean_in, wanted - mean_out
    left, values, right = np.linalg.svd(x, full_matrices=False)
    inside = left.T @ y
    best: tuple[float, float] | None = None
    for penalty in _PENALTIES.tolist():
        shrunk = values**2 / (values**2 + penalty)
        # The mean was taken from the same rows, which leaves each a further 1 / n of itself.
        own = (left**2 @ shrunk) + 1 / len(x)
        error = float((((y - left @ (shrunk[:, None] * inside)) / (1 - own)[:, None]) ** 2).mean())
        if best is None or error < best[0]:
            best = (error, penalty)
    assert best is not None
    penalty = best[1]
    weights = right.T @ ((values / (values**2 + penalty))[:, None] * inside)
    return RidgeMap(weights, mean_in, mean_out, penalty)


def fitted(given: Vectors, wanted: Vectors, seed: int) -> tuple[RidgeMap, MapQuality]:
    """The map of all examples (n rows each), and how good one of four fifths of them is on the rest, by cosines.

    Raises:
        QueryError: there are fewer than FEWEST.
    """
    n = len(given)
    if n < FEWEST:
        raise QueryError(
            f"only {n} records have vectors in both spaces; at least {FEWEST} are needed to learn from"
        )
    order = np.random.default_rng(seed).permutation(n)[:MOST]
    n_held = min(max(1, round(_HELD_OUT * len(order))), _MOST_HELD_OUT)
    held, rest = order[:n_held], order[n_held:]
    part = learned_map(given[rest], wanted[rest])
    raw, true, others = part.raw(given[held]), wanted[held], wanted[rest]
    guessed = unit_rows(raw.astype(np.float32))
    spread = ((true - part.mean_out) ** 2).sum()
    left = ((true - raw) ** 2).sum()
    k = min(_NEAREST, len(rest))
    true, others = unit_rows(true), unit_rows(others)
    near = _nearest(true, others, k)
    same = np.repeat(unit_rows(part.mean_out[None].astype(np.float32)), n_held, axis=0)
    quality = MapQuality(
        held_out=n_held,
        r2=float(1 - left / spread) if spread else 0.0,
        cosine=float(np.einsum("nd,nd->n", guessed, true).mean()),
        recall=_shared(near, _nearest(guessed, others, k)),
        chance=_shared(near, _nearest(same, others, k)),
    )
    return learned_map(given[order], wanted[order]), quality


def _nearest(queries: Vectors, rows: Vectors, k: int) -> NDArray[np.int64]:
    return np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :k]


def _shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(one, other, strict=True)]))
