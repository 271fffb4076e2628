"""The contract of a source: it yields what it can read and says why it rejects the rest; it never ends a run.

A graph is read whole, as a value of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.types import Record

if TYPE_CHECKING:
    from search.encoders.graph_items import LabelledGraph
    from search.encoders.pictures import PictureFile


@dataclass(frozen=True, slots=True)
class Item:
    """One record that a source has read.

    `origin` names the file or folder that it came from, as an absolute path: what vanishes from an origin is
    what `--prune` removes. `digest` is a hash of all that would be embedded or stored, so that an unchanged
    item is not encoded again. `picture` is the file to encode where the record is a picture (or a frame of it, or its
    bytes in an archive), `pixels` how many it has; `graph` the graph to encode where the record is one. `file` and
    `line` (1-based) say where it stands, for messages.
    `markup`: the text is Markdown-like, its headings are lines that begin with `#` and its code stands between
    fences. `encoding`: how its bytes were decoded, where they were not plain UTF-8.
    """

    record: Record
    origin: str
    digest: bytes
    picture: Path | PictureFile | None = None
    pixels: int = 0
    file: str | None = None
    line: int | None = None
    markup: bool = False
    encoding: str | None = None
    graph: LabelledGraph | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that could not be used: where it stands (`line` is 1-based) and why."""

    file: str
    reason: str
    line: int | None = None
    id: str | None = None

    def said(self) -> str:
        """In one line."""
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph in compressed sparse rows.

    Node i is `ids[i]`; its out-neighbours are `indices[indptr[i]:indptr[i + 1]]`, ascending, without repeats,
    with `weights` beside them (all positive; None where all are 1). An undirected edge stands in both rows.
    """

    ids: tuple[str, ...]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32] | None
    directed: bool

    @property
    def n_nodes(self) -> int:
        """How many nodes there are."""
        return len(self.ids)

    @property
    def n_edges(self) -> int:
        """How many edges there are; an undirected one (a self-loop too) counts once."""
        if self.directed:
            return len(self.indices)
        rows = np.repeat(np.arange(self.n_nodes), np.diff(self.indptr))
        loops = int(np.count_nonzero(rows == self.indices))
        return (len(self.indices) - loops) // 2 + loops


class Source(ABC):
    """Records read lazily from the user's files."""

    @abstractmethod
    def __iter__(self) -> Iterator[Item | Rejected]:
        """Each input once, in a stable order; a bad one as `Rejected`, never as an exception."""

    @property
    @abstractmethod
    def origins(self) -> tuple[str, ...]:
        """The origins that this source covers whole, so that what is missing from them is gone."""

    def __len__(self) -> int:
        """How many inputs are expected, for a progress bar; 0 where it is not known before reading."""
        return 0
