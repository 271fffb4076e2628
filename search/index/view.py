"""One space in memory: its rows, the index over them, and the commit up to which both are true."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

from search.index import choose, tune
from search.index.approximate import ApproximateIndex
from search.index.choose import Choice, Wanted
from search.index.contract import Rows
from search.index.flat import FlatIndex
from search.index.hnsw import Graph
from search.index.ivf import Lists
from search.index.rows import RowBuffer
from search.index.structure import Kind, Progress, Structure
from search.index.tune import Tuning
from search.types import Space
from search.vectors import Batch, Keys, Vectors


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of the catalog that a look shows."""

    commit_seq: int
    epoch: int
    spaces_seq: int


@dataclass(frozen=True, slots=True)
class Look:
    """A space as of one commit: what a query searches from its beginning to its end."""

    seen: Seen
    space: Space
    flat: FlatIndex
    approximate: ApproximateIndex | None
    pieces: bool  # whether parts may be pieces of records

    @property
    def rows(self) -> Rows:
        """The rows that both indexes search."""
        return self.flat.rows


@dataclass(frozen=True, slots=True)
class Built:
    """A structure made in the background: of which rows, laid out how, and how good it is."""

    rows: Rows
    layout: int
    structure: Structure
    tuning: Tuning


class View:
    """The memory behind a space. Changes are applied in the order of their commits; a `Look` never changes."""

    def __init__(self, space: Space, choice: Choice, capacity: int, folder: Path) -> None:
        self.lock = threading.Lock()  # held by whoever applies changes
        self.snapshot: str | None = None  # the file that the structure stands in, if it does
        self.tuning: Tuning | None = None
        self.structure: Structure | None = None
        self.layout = 0  # moves when positions of rows change
        self._buffer = RowBuffer(space.dim, space.metric, capacity, folder if choice.on_disk else None)
        self.look = Look(
            Seen(-1, -1, -1), space, FlatIndex(self._buffer.rows(), space.metric), None, pieces=False
        )

    @property
    def last_part(self) -> int:
        """The key of the last part applied; 0 if there is none."""
        return self._buffer.last_part

    def apply(self, batch: Batch) -> None:
        """Append the rows of one batch that are new; they are seen from the next `settle` on."""
        begin = int(batch.part_keys.searchsorted(self._buffer.last_part, side="right"))
        self._buffer.append(batch.part_keys[begin:], batch.record_keys[begin:], batch.vectors[begin:])

    def keep_only(self, part_keys: Keys) -> None:
        """Mark the rows dead that compaction has dropped."""
        self._buffer.keep_only(part_keys)

    def settle(self, dead: Keys, seen: Seen, space: Space, *, pieces: bool) -> None:
        """Mark rows dead and show everything applied so far as the state of the space at `seen`."""
        self._buffer.bury(dead)
        self.look = replace(self.look, seen=seen, space=space, pieces=pieces or self.look.pieces)
        self._show()

    def _show(self) -> None:
        rows = self._buffer.rows()
        metric = self.look.space.metric
        index = None
        if self.structure is not None and not (self.tuning is not None and self.tuning.exact):
            if isinstance(self.structure, Graph):
                self.structure.over(self._buffer.storage(self.structure.n))
            effort = self.structure.efforts[-1] if self.tuning is None else self.tuning.effort
            costs = None if self.tuning is None else self.tuning.costs
            index = ApproximateIndex(rows, metric, self.structure, effort, costs)
        self.look = replace(self.look, flat=FlatIndex(rows, metric), approximate=index)

    def lay_out_anew(self) -> None:
        """Let go of the rows that the catalog has no more, and of the structure that counts them."""
        if self._buffer.n_gone:
            self._buffer = self._buffer.without_gone()
            self.structure, self.snapshot, self.tuning = None, None, None
            self.layout += 1
            self._show()

    def adopt(self, structure: Structure, tuning: Tuning | None, snapshot: str | None) -> None:
        """Search with this structure, which covers the first `structure.n` rows, from now on."""
        self.structure, self.tuning, self.snapshot = structure, tuning, snapshot
        self._show()

    def adopt_built(self, built: Built, snapshot: str) -> None:
        """Search with what was built from now on, unless the rows have been laid out anew since."""
        with self.lock:
            if built.layout == self.layout:
                self.adopt(built.structure, built.tuning, snapshot)

    def let_go(self) -> None:
        """Scan every row from now on."""
        with self.lock:
            self.structure, self.tuning, self.snapshot = None, None, None
            self._show()

    @property
    def n_indexed(self) -> int:
        """How many rows the structure covers; 0 without one."""
        return 0 if self.structure is None else self.structure.n

    def chosen(self, wanted: Wanted) -> Kind:
        """The kind of index that suits the rows there are now."""
        return choose.choose(len(self.look.rows), self.look.space.dim, wanted).kind

    def due(self, wanted: Wanted) -> bool:
        """Whether an index should be made, or made anew, or cover more rows."""
        rows = self.look.rows
        return (
            choose.due(len(rows), rows.n_alive, self.look.space.dim, self.n_indexed, wanted)
            or (self.structure is not None and self.structure.kind is not self.chosen(wanted))
            or (self.n_indexed > 0 and choose.too_many_dead(len(rows), rows.n_alive))
            or (self.tuning is not None and self.tuning.target != wanted.recall)
        )

    def built(self, wanted: Wanted, progress: Progress, queries: Vectors | None = None) -> Built | None:
        """A structure over the rows there are now, tuned; None where the rows should be scanned.

        The one there is grows where it can. If it then no longer reaches the recall wanted, it is built anew; what
        does not reach it either is kept, but every row is scanned. Nothing is changed here: see `adopt`.
        """
        with self.lock:
            self.lay_out_anew()
            look, old, layout = self.look, self.structure, self.layout
            rows, metric = look.rows, look.space.metric
            kind = choose.choose(len(rows), look.space.dim, wanted).kind
            if kind is Kind.FLAT or not rows.n_alive:
                return None
            storage = self._buffer.storage(len(rows)) if kind is Kind.HNSW else None

        def tuned(structure: Structure) -> Tuning:
            if isinstance(structure, Graph):
                assert storage is not None
                structure.over(storage)
            return tune.tuned(rows, metric, structure, wanted.recall, queries)

        if (
            old is not None
            and old.kind is kind
            and old.n <= len(rows)
            and not choose.too_many_dead(len(rows), rows.n_alive)
        ):
            # The structure that is searched now keeps its rows; what grows is a copy.
            grown = old.extended(rows, progress)
            tuning = tuned(grown)
            if not tuning.exact:
                return Built(rows, layout, grown, tuning)
        fresh = (
            Graph.build(rows, metric, progress)
            if kind is Kind.HNSW
            else Lists.build(rows, metric, kind, progress)
        )
        return Built(rows, layout, fresh, tuned(fresh))
