"""How sure a mean over queries is, and whether two set-ups differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from search.evaluate.metrics import Floats
from search.types import Json

_DRAWS = 10_000
_EXACT_UP_TO = 12  # pairs that differ: 2 ** 12 ways to give them signs are all tried
_AT_ONCE = 1 << 21  # numbers drawn together


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries with the 95% interval of its bootstrap (percentiles; Efron 1979)."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Difference:
    """How the mean differs between two set-ups on the same queries (`now` less `before`), and what chance makes of it.

    `p_t` is of the paired t-test, `p_randomisation` of the paired randomisation test (Smucker, Allan & Carterette
    2007), both two-sided; `p_worse` is one-sided, of the latter: how likely chance makes it so much worse.
    """

    now: float
    before: float
    difference: float
    low: float
    high: float
    p_t: float
    p_randomisation: float
    p_worse: float
    n: int

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self)


def interval(values: Sequence[float] | Floats, seed: int = 0) -> Interval:
    """The mean of one value for each query, and its 95% interval."""
    given = np.asarray(values, dtype=np.float64)
    n, mean = len(given), float(np.mean(given))
    if n < 2 or not np.ptp(given):
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(seed)
    means = np.concatenate([given[rng.integers(0, n, (some, n))].mean(axis=1) for some in _draws(n)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean, float(low), float(high))


def difference(now: Sequence[float] | Floats, before: Sequence[float] | Floats, seed: int = 0) -> Difference:
    """Compare two set-ups by their values for the same queries, in the same order; there is at least one."""
    first, second = np.asarray(now, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if first.shape != second.shape or not len(first):
        raise ValueError("the two set-ups must have a value each for the same queries")
    differences = first - second
    around = interval(differences, seed)
    two_sided, worse = _randomised(differences, seed)
    return Difference(
        now=float(first.mean()),
        before=float(second.mean()),
        difference=around.mean,
        low=around.low,
        high=around.high,
        p_t=_t_test(differences),
        p_randomisation=two_sided,
        p_worse=worse,
        n=len(first),
    )


def _t_test(differences: Floats) -> float:
    """The two-sided p-value of the paired t-test."""
    if not differences.any():
        return 1.0
    if len(differences) < 2:
        return 1.0  # one pair says nothing
    if not np.ptp(differences):
        return 0.0  # by the same amount everywhere
    from scipy.special import stdtr  # the distribution alone: scipy.stats takes seconds to import

    n = len(differences)
    t = differences.mean() / (differences.std(ddof=1) / np.sqrt(n))
    return float(2 * stdtr(n - 1, -abs(t)))


def _randomised(differences: Floats, seed: int) -> tuple[float, float]:
    """Two-sided, and one-sided for worse: how often random signs make a sum as far out as this one.

    Pairs that do not differ change no sum. Of few pairs all signs are tried; else the sum as it is counts as one
    draw, so that no p is 0 (Phipson & Smyth 2010).
    """
    moved = differences[differences != 0]
    n = len(moved)
    if not n:
        return 1.0, 1.0
    sum_ = float(moved.sum())
    slack = 1e-9 * float(np.abs(moved).sum())
    if n <= _EXACT_UP_TO:
        signs = 1.0 - 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
        sums = signs @ np.abs(moved)
        return float((np.abs(sums) >= abs(sum_) - slack).mean()), float((sums <= sum_ + slack).mean())
    rng = np.random.default_rng(seed)
    extreme, worse = 1, 1
    for some in _draws(n):
        sums = rng.choice(np.array([-1.0, 1.0]), (some, n)) @ moved
        extreme += int((np.abs(sums) >= abs(sum_) - slack).sum())
        worse += int((sums <= sum_ + slack).sum())
    return extreme / (_DRAWS + 1), worse / (_DRAWS + 1)


def _draws(n: int) -> list[int]:
    """How many draws over n numbers to make at a time, `_DRAWS` in all."""
    step = max(1, min(_DRAWS, _AT_ONCE // n))
    return [min(step, _DRAWS - begin) for begin in range(0, _DRAWS, step)]


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979)."""
    order = np.argsort(p_values)
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, number in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        corrected[number] = highest
    return corrected
