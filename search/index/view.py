"""One space in memory: its rows, the index over them, and the commit up to which both are true."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from search.index.choose import TARGET_RECALL, Tuning, measured, wants_graph
from search.index.contract import Rows
from search.index.flat import FlatIndex
from search.index.hnsw import DEFAULT_EFFORT, Graph, HnswIndex
from search.index.rows import RowBuffer
from search.types import Space
from search.vectors import Batch, Keys


@dataclass(frozen=True, slots=True)
class Look:
    """A space as of one commit: what a query searches from its beginning to its end."""

    commit_seq: int
    flat: FlatIndex
    graph: HnswIndex | None

    @property
    def rows(self) -> Rows:
        """The rows that both indexes search."""
        return self.flat.rows


class View:
    """The memory behind a space. Changes are applied in the order of their commits; a `Look` never changes."""

    def __init__(self, space: Space, epoch: int, capacity: int) -> None:
        self.space = space
        self.epoch = epoch
        self.lock = threading.Lock()  # held by whoever applies changes
        self._buffer = RowBuffer(space.dim, space.metric, capacity)
        self._graph: Graph | None = None
        self.tuning: Tuning | None = None
        self.look = Look(-1, FlatIndex(self._buffer.rows(), space.metric), None)

    def apply(self, batch: Batch) -> None:
        """Append the rows of one batch; they are seen from the next `settle` on."""
        self._buffer.append(batch.part_keys, batch.record_keys, batch.vectors)

    def settle(self, dead: Keys, commit_seq: int) -> None:
        """Mark rows dead and show everything applied so far as the state of the space at `commit_seq`."""
        self._buffer.bury(dead)
        rows = self._buffer.rows()
        self.look = Look(commit_seq, FlatIndex(rows, self.space.metric), self._indexed(rows))

    def _indexed(self, rows: Rows) -> HnswIndex | None:
        if self._graph is None or (self.tuning is not None and self.tuning.exact):
            return None
        effort = DEFAULT_EFFORT if self.tuning is None else self.tuning.effort
        return HnswIndex(rows, self.space.metric, self._graph, self._buffer.storage(self._graph.n), effort)

    def adopt(self, graph: Graph, tuning: Tuning | None) -> None:
        """Search with this graph, which covers the first `graph.n` rows, from now on."""
        self._graph = graph
        self.tuning = tuning
        look = self.look
        self.look = Look(look.commit_seq, look.flat, self._indexed(look.rows))

    @property
    def n_indexed(self) -> int:
        """How many rows the graph covers; 0 without one."""
        return 0 if self._graph is None else self._graph.n

    def needs_graph(self) -> bool:
        """Whether too many rows are scanned for each query."""
        rows = self.look.rows
        return rows.n_alive > 0 and wants_graph(len(rows), self.space.dim, self.n_indexed)

    def build(
        self, progress: Callable[[int, int], None] | None = None, target: float = TARGET_RECALL
    ) -> tuple[Graph, Tuning]:
        """Build a graph over all rows, measure it, and search with it from now on."""
        rows = self.look.rows
        graph = Graph.build(rows.matrix, self.space.metric, progress)
        storage = self._buffer.storage(graph.n)
        tuning = measured(HnswIndex(rows, self.space.metric, graph, storage, DEFAULT_EFFORT), target)
        self.adopt(graph, tuning)
        return graph, tuning
