"""Classes from examples: by the votes of neighbours or a linear probe, with a confidence that is calibrated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.types import Metric
from search.vectors import Vectors, exact_search

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]

TEMPERATURE = 0.07
_MOST_JUDGED = 5_000  # labelled records whose own label is guessed, to say how good the guesses are
_FOLDS = 5
_ISOTONIC = 1_000  # judged ones from which the confidence may be any rising function of the share of votes
_SEED = 0
_AT_ONCE = 2_048  # records guessed at a time


@dataclass(frozen=True, slots=True)
class Guesses:
    """For each record the class that got most, and its share of the votes (or its probability), not calibrated."""

    classes: Classes  # (n,)
    shares: Floats  # (n,)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the labelled rows `rows` (m,) were guessed to be by the others, and which of these guesses are right."""

    rows: NDArray[np.int64]
    guesses: Guesses
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """The share of right guesses."""
        return float(self.right.mean())


def judged_rows(n: int) -> NDArray[np.int64]:
    """Which of n labelled rows are judged: all, or a seeded sample of them."""
    return np.sort(np.random.default_rng(_SEED).permutation(n)[:_MOST_JUDGED])


# ---- votes of neighbours -----------------------------------------------------------------------------------------


def votes(
    labelled: Vectors, classes: Classes, queries: Vectors, k: int, own: NDArray[np.int64] | None = None
) -> Guesses:
    """The class with most votes among the k nearest labelled rows of each query, and its share of them.

    A neighbour of cosine s votes with exp(s / 0.07) (Wu et al. 2018, "Unsupervised feature learning via
    non-parametric instance discrimination", sec. 3.4).

    Args:
        labelled: (n, dim) of unit length.
        classes: (n,) from 0.
        queries: (m, dim) of unit length.
        k: how many neighbours vote.
        own: (m,) the labelled row that each query itself is, which has no vote; None where they are others.
    """
    n_classes = int(classes.max()) + 1
    found = np.empty(len(queries), np.int64)
    shares = np.empty(len(queries), np.float64)
    for begin in range(0, len(queries), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        near, scores = exact_search(labelled, queries[some], k + (own is not None), Metric.COSINE)
        weights = np.exp((scores.astype(np.float64) - scores[:, :1]) / TEMPERATURE)
        if own is not None:
            # The last has no vote where the query itself is not among them: copies of it can stand before.
            itself = near == own[some, None]
            itself[~itself.any(axis=1), -1] = True
            weights[itself] = 0
        tally = np.zeros((len(near), n_classes))
        np.add.at(tally, (np.arange(len(near))[:, None], classes[near]), weights)
        found[some] = tally.argmax(axis=1)
        shares[some] = tally.max(axis=1) / tally.sum(axis=1)
    return Guesses(found, shares)


def leave_one_out(labelled: Vectors, classes: Classes, k: int) -> Judged:
    """What each labelled row (or each of a sample) is by the votes of the others."""
    rows = judged_rows(len(labelled))
    guesses = votes(labelled, classes, labelled[rows], k, rows)
    return Judged(rows, guesses, guesses.classes == classes[rows])


# ---- a linear probe ----------------------------------------------------------------------------------------------


def fitted(labelled: Vectors, classes: Classes) -> Callable[[Vectors], Guesses]:
    """A multinomial logistic regression on the standardised vectors (scikit-learn, C = 1), as a guesser."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Standardised together and not column by column: directions of little variance stay small.
    scale = float(labelled.std(axis=0).mean()) or 1.0
    model = make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=2000))
    model.fit(labelled / np.float32(scale), classes)
    known = np.asarray(model.classes_, dtype=np.int64)

    def guess(queries: Vectors) -> Guesses:
        chances = (
            model.predict_proba(queries / np.float32(scale)) if len(queries) else np.empty((0, len(known)))
        )
        best = chances.argmax(axis=1) if len(queries) else np.empty(0, np.int64)
        return Guesses(known[best], chances[np.arange(len(queries)), best].astype(np.float64))

    return guess


def cross_validated(labelled: Vectors, classes: Classes) -> Judged:
    """What each labelled row is by a probe that was fitted without its fold; five folds, each class spread evenly."""
    rows = np.arange(len(labelled))
    found, shares = np.empty(len(rows), np.int64), np.empty(len(rows), np.float64)
    for test in _folds(classes):
        train = np.setdiff1d(rows, test)
        if len(np.unique(classes[train])) == 1:  # nothing to tell apart
            found[test], shares[test] = classes[train[0]], 1.0
            continue
        guesses = fitted(labelled[train], classes[train])(labelled[test])
        found[test], shares[test] = guesses.classes, guesses.shares
    return Judged(rows, Guesses(found, shares), found == classes)


def _folds(classes: Classes) -> Iterator[NDArray[np.int64]]:
    """The rows of each fold; those of a class go round the folds in a seeded order."""
    n = len(classes)
    shuffled = np.random.default_rng(_SEED).permutation(n)
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    for fold in range(min(_FOLDS, n)):
        yield np.sort(by_class[fold :: min(_FOLDS, n)])


# ---- confidence --------------------------------------------------------------------------------------------------


def calibrated(judged: Judged) -> Callable[[Floats], Floats]:
    """How often guesses of a given share are right, fitted to the judged ones.

    Isotonic regression where there are many (Zadrozny & Elkan 2002), else a sigmoid (Platt 1999, with his prior
    on the targets), so that a few right guesses do not make a certainty.
    """
    right, shares = judged.right, judged.guesses.shares
    n_right, n = int(right.sum()), len(right)
    least, most = 1 / (n + 2), (n + 1) / (n + 2)
    if n_right in (0, n):
        return lambda some: np.full(len(some), (n_right + 1) / (n + 2))
    if n >= _ISOTONIC:
        from sklearn.isotonic import IsotonicRegression

        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(shares, right)
        return lambda some: np.clip(curve.predict(some), least, most) if len(some) else np.empty(0)
    return _sigmoid(shares, right)


def _sigmoid(shares: Floats, right: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
    """Platt's sigmoid, which rises or is flat: more votes never make a guess less likely."""
    from scipy.optimize import minimize
    from scipy.special import expit

    n_right, n_wrong = int(right.sum()), int((~right).sum())
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))

    def loss(given: Floats) -> tuple[float, Floats]:
        slope, offset = given
        z = slope * shares + offset
        # -log of the likelihood, by log(1 + exp) so that large z do not overflow
        value = float(np.sum(np.logaddexp(0, z) - target * z))
        off = expit(z) - target
        return value, np.array([np.sum(off * shares), np.sum(off)])

    best = minimize(loss, np.zeros(2), jac=True, bounds=[(0, None), (None, None)], method="L-BFGS-B").x
    slope, offset = (float(one) for one in best)
    return lambda some: np.asarray(expit(slope * some + offset), dtype=np.float64)
