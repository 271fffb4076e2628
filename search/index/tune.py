"""The recall contract: how good an index is, measured against exact search, and how hard it must look to be so."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.index.approximate import ApproximateIndex
from search.index.contract import Rows
from search.index.costs import Costs
from search.index.flat import FlatIndex, scores_at
from search.index.structure import Structure
from search.index.threads import for_queries
from search.types import Json, Metric
from search.vectors import Vectors, unit_rows

_K = 10
_MOST_QUERIES = 1000
_LEAST_QUERIES = 400
_WORK = 2e11  # floating-point operations that finding the truth may take: a second or two
_FEW_REAL = 100  # real queries; with fewer, queries are made up from the rows
_NOISE = 0.3  # length of the noise added to a sampled unit row to make a query near it but not equal
_Z = 1.96  # of the 95% interval
_TIMED = 24  # single queries timed to learn the costs


@dataclass(frozen=True, slots=True)
class Tuning:
    """The least effort that reached the target, and the recall@10 measured with it.

    `low` and `high` bound it with 95% confidence; `exact` is set if no effort reached the target, and every row is
    scanned instead.
    """

    effort: int
    recall: float
    low: float
    high: float
    target: float
    sample: int
    queries: str  # "real" or "perturbed rows"
    exact: bool
    n: int  # rows when it was measured
    costs: Costs | None = None

    def to_json(self) -> dict[str, Json]:
        """A JSON object that `from_json` takes back."""
        return asdict(self) | {"costs": None if self.costs is None else self.costs.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tuning:
        """The tuning that `to_json` wrote, also in the first format."""
        costs = data.get("costs")
        return cls(
            effort=data["effort"],
            recall=data["recall"],
            low=data.get("low", data["recall"]),
            high=data.get("high", data["recall"]),
            target=data["target"],
            sample=data["sample"],
            queries=data.get("queries", "perturbed rows"),
            exact=data["exact"],
            n=data.get("n", 0),
            costs=None if costs is None else Costs.from_json(costs),
        )


def tuned(
    rows: Rows, metric: Metric, structure: Structure, target: float, real: Vectors | None = None
) -> Tuning:
    """The least effort whose recall@10 is at least `target` with 95% confidence.

    Recall is against the exact search of the same rows. The queries are real ones (n, dim) where there are enough,
    else rows of the space with noise added, so that none finds merely itself.
    """
    n, dim = rows.matrix.shape
    queries, kind = _sample(rows, metric, int(_WORK / (2 * n * dim)), real)
    index = ApproximateIndex(rows, metric, structure, structure.efforts[0])
    truth = FlatIndex(rows, metric).search(queries, _K)
    share = np.ones(len(queries))
    effort = structure.efforts[-1]
    reached = False
    for effort in structure.efforts:
        found = index.search(queries, _K, effort=effort)
        share = recall_of_each(found.scores, truth.scores)
        reached = interval(share)[0] >= target
        if reached:
            break
    low, high = interval(share)
    costs = _measured_costs(index, queries, effort)
    return Tuning(effort, float(share.mean()), low, high, target, len(queries), kind, not reached, n, costs)


def _sample(rows: Rows, metric: Metric, affordable: int, real: Vectors | None) -> tuple[Vectors, str]:
    size = max(_LEAST_QUERIES, min(_MOST_QUERIES, affordable))
    if real is not None and len(real) >= _FEW_REAL:
        return real[-size:], "real"
    rng = np.random.default_rng(0)
    alive = np.arange(len(rows)) if rows.living is None else rows.living.positions
    chosen = np.sort(rng.choice(alive, size, replace=len(alive) < size))
    noise = unit_rows(rng.standard_normal((len(chosen), rows.matrix.shape[1]), dtype=np.float32))
    lengths = np.linalg.norm(rows.matrix[chosen], axis=1, keepdims=True)
    queries = np.asarray(rows.matrix[chosen] + _NOISE * lengths * noise, dtype=np.float32)
    return (unit_rows(queries) if metric is Metric.COSINE else queries), "perturbed rows"


def recall_of_each(found: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of each query's hits that score no worse than the k-th of the truth: so ties count as found."""
    worst = truth[:, -1:]
    slack = 1e-5 * np.maximum(np.abs(worst), 1e-3)  # the two sum in another order
    return np.asarray((found >= worst - slack).mean(axis=1), dtype=np.float64)


def interval(share: NDArray[np.float64]) -> tuple[float, float]:
    """Wilson's 95% interval of the mean of each query's share.

    The hits of a query are found together, so they are not so many trials: how much the queries differ tells for
    how many trials each may count.
    """
    mean, n = float(share.mean()), float(len(share))
    spread = float(share.var(ddof=1)) if len(share) > 1 else 0.0
    if spread > 0:
        n = min(n * mean * (1 - mean) / spread, n * _K)
    middle = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, min(middle - half, mean)), min(1.0, max(middle + half, mean))  # but for rounding


def _measured_costs(index: ApproximateIndex, queries: Vectors, effort: int) -> Costs:
    """What a unit of effort, a row scanned and a row picked out take here, for one query on one core."""
    rows, structure = index.rows, index.structure
    with for_queries(1):
        return _timed(rows, structure, index.metric, queries, effort)


def _timed(rows: Rows, structure: Structure, metric: Metric, queries: Vectors, effort: int) -> Costs:
    few = queries[: min(_TIMED, len(queries))]
    walk = _least_ns(lambda i: structure.candidates(rows, few[i : i + 1], _K, effort), len(few)) / effort
    some = np.sort(np.random.default_rng(1).choice(len(rows), min(1000, len(rows)), replace=False))
    gather = _least_ns(lambda i: scores_at(rows.matrix, few[i], some, metric), len(few)) / len(some)
    front = Rows(rows.part_keys[:20000], rows.record_keys[:20000], rows.matrix[:20000])
    flat = FlatIndex(front, metric)
    scan = _least_ns(lambda i: flat.search(few[i : i + 1], _K), len(few)) / len(front)
    return Costs(scan, gather, walk)


def _least_ns(call: Callable[[int], object], times: int) -> float:
    spent = []
    for number in range(times):
        begin = time.perf_counter_ns()
        call(number)
        spent.append(time.perf_counter_ns() - begin)
    return float(np.min(spent))  # the machine may be busy: what it takes undisturbed is what is compared
