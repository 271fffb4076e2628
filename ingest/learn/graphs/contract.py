"""The contract of a graph trainer: whole graphs in, an encoder of such graphs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import ClassVar

from ingest.learn.graphs.settings import USUAL, GraphSettings
from search.encoders.graph_items import LabelledGraph
from search.types import Json

Progress = Callable[[int, int], None]


class GraphTrainer(ABC):
    """Learns from graphs how to tell such graphs apart; the same graphs and settings give the same encoder.

    `method` is its name, as the encoder has it too; `usual_depth` how far it looks where that is not said.

    Args:
        settings: how to learn.
    """

    method: ClassVar[str]
    usual_depth: ClassVar[int] = 4

    def __init__(self, settings: GraphSettings = USUAL) -> None:
        self.settings = settings
        self.depth = self.usual_depth if settings.depth is None else settings.depth

    def fit(
        self,
        graphs: Iterable[LabelledGraph],
        *,
        node_label: str | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """An encoder, as the bytes of a safetensors file for `search.encoders.whole_graphs`.

        The result does not depend on how many threads there are, the linear algebra's among them.

        Args:
            graphs: are gone through once; each has at least one node.
            node_label: the attribute that their labels came from, which the encoder is to know; None: no attribute.
            progress: called with the work done and the work in all.

        Raises:
            SourceError: there are none, or nothing can be learned from them.
        """
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # sums of several threads are rounded otherwise
            return self._learned(graphs, node_label, progress or (lambda done, total: None))

    @abstractmethod
    def _learned(self, graphs: Iterable[LabelledGraph], node_label: str | None, progress: Progress) -> bytes:
        """What `fit` gives."""

    def _told(self, node_label: str | None) -> dict[str, Json]:
        """What every encoder is told of how it was made; the threads make no difference."""
        asked = {name: value for name, value in asdict(self.settings).items() if name != "threads"}
        return {"method": self.method, "depth": self.depth, "node_label": node_label, "settings": asked}
