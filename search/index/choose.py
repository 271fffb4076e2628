"""Which kind of index a space should have, and how hard it should look: decided here, done elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.index.flat import FlatIndex
from search.index.hnsw import HnswIndex
from search.types import Json, Metric
from search.vectors import unit_rows

# A scan of so many numbers takes a few milliseconds on one core (64 MB at ~10 GB/s), as long as encoding a query:
# below it nothing is gained by approximation.
FLAT_UP_TO = 1 << 24
TARGET_RECALL = 0.95
_EFFORTS = (16, 32, 64, 128, 256, 512, 1024)
_SAMPLE = 200
_K = 10
_NOISE = 0.3  # length of the noise added to a sampled unit row to make a query near it but not equal


@dataclass(frozen=True, slots=True)
class Tuning:
    """The search effort chosen and the recall@10 that was measured with it; `exact` if no effort reached the target."""

    effort: int
    recall: float
    target: float
    sample: int
    exact: bool

    def to_json(self) -> dict[str, Json]:
        """A JSON object that `from_json` takes back."""
        return {
            "effort": self.effort,
            "recall": self.recall,
            "target": self.target,
            "sample": self.sample,
            "exact": self.exact,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tuning:
        """The tuning that `to_json` wrote."""
        return cls(data["effort"], data["recall"], data["target"], data["sample"], data["exact"])


def wants_graph(n_rows: int, dim: int, n_indexed: int = 0) -> bool:
    """Whether the rows outside the graph are too many to scan for each query."""
    return (n_rows - n_indexed) * dim > FLAT_UP_TO


def measured(index: HnswIndex, target: float = TARGET_RECALL, seed: int = 0) -> Tuning:
    """The least effort whose recall@10 on sampled queries reaches `target`, with the recall it reached.

    The queries are rows of the space with noise added, so that none finds merely itself. Recall is against the
    exact search of the same rows.
    """
    rows = index.rows
    rng = np.random.default_rng(seed)
    alive = np.flatnonzero(rows.alive)
    chosen = np.sort(rng.choice(alive, min(_SAMPLE, len(alive)), replace=False))
    noise = unit_rows(rng.standard_normal((len(chosen), rows.matrix.shape[1]), dtype=np.float32))
    lengths = np.linalg.norm(rows.matrix[chosen], axis=1, keepdims=True)
    queries = np.asarray(rows.matrix[chosen] + _NOISE * lengths * noise, dtype=np.float32)
    if index.metric is Metric.COSINE:
        queries = unit_rows(queries)
    truth = FlatIndex(rows, index.metric).search(queries, _K).ids
    recall = 0.0
    for effort in _EFFORTS:
        found = index.search(queries, _K, effort=effort).ids
        recall = float(
            np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)])
        )
        if recall >= target:
            return Tuning(effort, recall, target, len(chosen), exact=False)
    return Tuning(_EFFORTS[-1], recall, target, len(chosen), exact=True)
