"""Implicit ALS: vectors of users and items by alternating least squares over all pairs, compiled."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ingest.learn.interactions.contract import Factors, FactorTrainer, Progress
from ingest.learn.interactions.recency import faded
from ingest.sources.interactions import Interactions
from search.errors import ModelError, SourceError
from search.query.personal import HALF_LIFE_ITEMS, INTERACTIONS, LEARNED_FROM, RIDGE
from search.types import EncoderSpec, Modality
from search.vectors import Vectors

_ROWS_PER_TASK = 512


@dataclass(frozen=True, slots=True)
class ALSSettings:
    """How the vectors are learned (Hu, Koren & Volinsky 2008).

    `dim` numbers per vector; a pair of weight w counts 1 + `alpha` w times as much as one that was not taken.
    `regularization` holds the vectors near 0, by so much of what the pairs of a row count more (as in Zhou et al. 2008,
    "Large-scale parallel collaborative filtering for the Netflix Prize"), so that it means the same in a small set and
    in a large one, in a dense and in a sparse one. `epochs` times both sides are solved for, each by `steps` of
    conjugate gradient (Takács, Pilászy & Tikk 2011). `log` takes log(1 + w) for w: who plays a song a hundred times
    likes it more, but not a hundred times. `threads` None for all processors; they change nothing in the result. With
    `half_life_items` the vectors of users go by what they took last: of two interactions the one after which so many
    others were taken counts half.
    """

    dim: int = 128
    alpha: float = 5.0
    regularization: float = 0.15
    epochs: int = 15
    steps: int = 3
    log: bool = True
    seed: int = 0
    threads: int | None = None
    half_life_items: float | None = None

    def __post_init__(self) -> None:
        for name in ("dim", "epochs", "steps"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}; give at least 1")
        for name in ("alpha", "regularization", "half_life_items"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ModelError(f"{name} is {value}; give a positive number")


class ImplicitALS(FactorTrainer):
    """Weighted least squares on taken and not taken, all pairs counted (Hu, Koren & Volinsky 2008)."""

    def __init__(self, settings: ALSSettings = ALSSettings()) -> None:
        self.settings = settings
        told = ("alpha", "epochs", "steps", "log", "seed")
        options = {LEARNED_FROM: INTERACTIONS, **{name: getattr(settings, name) for name in told}}
        options[RIDGE] = settings.regularization
        if settings.half_life_items is not None:
            options[HALF_LIFE_ITEMS] = settings.half_life_items
        self.spec = EncoderSpec("als", "als", Modality.GRAPH, settings.dim, options=options)

    def fit(self, interactions: Interactions, *, progress: Progress | None = None) -> Factors:
        """See the contract."""
        if not len(interactions.indices):
            raise SourceError("there is no interaction to learn from; give some")
        told = self.settings
        taken = interactions.matrix().copy()
        taken.data = confidence(taken.data, told.alpha, log=told.log)
        takers = taken.T.tocsr()
        rng = np.random.default_rng(told.seed)
        users = np.zeros((interactions.n_users, told.dim), np.float32)
        items = (rng.standard_normal((interactions.n_items, told.dim)) * 0.1).astype(np.float32)
        with ThreadPoolExecutor(told.threads or cpu_count() or 1, "nearkin-als") as workers:
            for epoch in range(told.epochs):
                half_step(taken, users, items, told.regularization, told.steps, workers)
                half_step(takers, items, users, told.regularization, told.steps, workers)
                if progress is not None:
                    progress(epoch + 1, told.epochs)
            if told.half_life_items is not None:
                lately = interactions.matrix().copy()
                lately.data = confidence(
                    lately.data * faded(interactions, told.half_life_items), told.alpha, log=told.log
                )
                taken = lately
            # The users last, so that they are what a fold-in of their own items gives.
            half_step(taken, users, items, told.regularization, told.dim, workers)
        return Factors(users, items)


def confidence(weights: NDArray[np.float32], alpha: float, *, log: bool) -> NDArray[np.float32]:
    """How much more a pair counts than one that was not taken (n,): the paper's c - 1."""
    return np.asarray(alpha * (np.log1p(weights) if log else weights), dtype=np.float32)


def half_step(
    taken: Any,
    rows: Vectors,
    columns: Vectors,
    regularization: float,
    steps: int,
    workers: ThreadPoolExecutor,
) -> None:
    """Solve for `rows` (n, dim) in place, with `columns` (m, dim) as they are.

    Args:
        taken: (n, m) sparse rows of c - 1, positive where taken.
        rows: where the search for the solution begins, and what it comes to.
        columns: the other side.
        regularization: by so much of the sum of c - 1 in a row its vector is held near 0.
        steps: of conjugate gradient.
        workers: what solves for several rows at once.
    """
    gram = columns.T.astype(np.float64) @ columns.astype(np.float64)
    gram = gram.astype(np.float32)
    totals = np.asarray(taken.sum(axis=1), dtype=np.float64).ravel()
    ridges = (regularization * totals).astype(np.float32)
    indptr, indices, extra = taken.indptr.astype(np.int64), taken.indices.astype(np.int32), taken.data
    spans = [(at, min(at + _ROWS_PER_TASK, len(rows))) for at in range(0, len(rows), _ROWS_PER_TASK)]
    for solved in [
        workers.submit(_solve, indptr, indices, extra, rows, columns, gram, ridges, steps, *span)
        for span in spans
    ]:
        solved.result()


@njit(nogil=True, cache=True, fastmath=True)
def _solve(  # type: ignore[no-untyped-def]
    indptr, indices, extra, rows, columns, gram, ridges, steps, begin, end
):
    """Conjugate gradient on (gram + ridge + sum of extra y y') x = sum of (1 + extra) y, for the rows begin to end."""
    dim = rows.shape[1]
    x = np.empty(dim, np.float32)
    r = np.empty(dim, np.float32)
    p = np.empty(dim, np.float32)
    ap = np.empty(dim, np.float32)
    for row in range(begin, end):
        first, last = indptr[row], indptr[row + 1]
        if first == last:
            rows[row] = 0
            continue
        x[:] = rows[row]
        ridge = ridges[row]
        for a in range(dim):
            r[a] = -ridge * x[a]
        for b in range(dim):
            for a in range(dim):
                r[a] -= gram[b, a] * x[b]
        for at in range(first, last):
            y = columns[indices[at]]
            dot = np.float32(0)
            for a in range(dim):
                dot += y[a] * x[a]
            pull = np.float32(1) + extra[at] * (np.float32(1) - dot)
            for a in range(dim):
                r[a] += pull * y[a]
        square = np.float32(0)
        for a in range(dim):
            p[a] = r[a]
            square += r[a] * r[a]
        for _ in range(steps):
            if square < 1e-12:
                break
            for a in range(dim):
                ap[a] = ridge * p[a]
            for b in range(dim):
                for a in range(dim):
                    ap[a] += gram[b, a] * p[b]
            for at in range(first, last):
                y = columns[indices[at]]
                dot = np.float32(0)
                for a in range(dim):
                    dot += y[a] * p[a]
                dot *= extra[at]
                for a in range(dim):
                    ap[a] += dot * y[a]
            bend = np.float32(0)
            for a in range(dim):
                bend += p[a] * ap[a]
            if bend <= 0:
                break
            length = square / bend
            now = np.float32(0)
            for a in range(dim):
                x[a] += length * p[a]
                r[a] -= length * ap[a]
                now += r[a] * r[a]
            turn = now / square
            for a in range(dim):
                p[a] = r[a] + turn * p[a]
            square = now
        rows[row] = x
