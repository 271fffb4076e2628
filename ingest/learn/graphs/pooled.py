"""Learns how pooled vectors of nodes are to be scaled and turned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from ingest.learn.graphs.contract import GraphTrainer, Progress
from ingest.learn.graphs.settings import USUAL, GraphSettings
from search.encoders.graph_items import LabelledGraph
from search.encoders.graph_pooling import POOLINGS, features
from search.encoders.graph_words import node_words
from search.encoders.whole_graphs import to_bytes
from search.errors import ModelError, SourceError

POOLING = "sum"  # where none is said: the size of a graph tells much
MOST_LABELS = 64  # that have a column of their own, the commonest; the others share one
SAMPLE = 20_000  # graphs that are learned from, the first ones
_RANK = 1e-8  # of the strongest variance: weaker directions are rounding


class PooledTrainer(GraphTrainer):
    """The main directions of pooled node vectors, each feature scaled to variance 1.

    Settings: `dim`, `depth` (4) and `pooling` (sum).
    """

    method = "pooled"

    def __init__(self, settings: GraphSettings = USUAL) -> None:
        super().__init__(settings)
        self.pooling = POOLING if settings.pooling is None else settings.pooling
        if self.pooling not in POOLINGS:
            raise ModelError(f"pooling is {self.pooling!r}; use {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]}")

    def _learned(self, graphs: Iterable[LabelledGraph], node_label: str | None, progress: Progress) -> bytes:
        some: list[LabelledGraph] = []
        common: Counter[int] = Counter()
        for graph in graphs:
            if len(some) < SAMPLE:
                some.append(graph)
                common.update(node_words([graph], 0)[0].tolist())
        if not some:
            raise SourceError("there are no graphs to learn from; give at least one that can be read")
        ranked = sorted(common.items(), key=lambda one: (-one[1], one[0]))[:MOST_LABELS]
        labels = np.array(sorted(label for label, _ in ranked), np.uint64)
        pooled = features(some, labels, self.depth, self.pooling)
        centre, spread = pooled.mean(axis=0), pooled.std(axis=0)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-12)
        squares, turned = np.linalg.eigh(
            np.cov(((pooled - centre) * scale).T, bias=True).reshape(len(centre), -1)
        )
        squares, turned = squares[::-1][: self.settings.dim], turned[:, ::-1][:, : self.settings.dim]
        if squares[0] <= 0:
            raise SourceError("the graphs are all alike; give some that differ, or use another method")
        turned = turned[:, squares > squares[0] * _RANK]
        signs = np.sign(turned[np.abs(turned).argmax(axis=0), np.arange(turned.shape[1])])
        projection = scale[:, None] * turned * np.where(signs < 0, -1.0, 1.0)
        tensors = {"words": labels, "centre": centre, "projection": projection}
        return to_bytes(tensors, self._told(node_label) | {"pooling": self.pooling})
