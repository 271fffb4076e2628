"""Which kind of index a space should have, and when: decided here, done elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.errors import QueryError
from search.index.ivf import pieces_of
from search.index.structure import Kind
from search.types import Json

# A scan of so many numbers takes a few milliseconds on one core (64 MB at ~10 GB/s), as long as encoding a query:
# below it nothing is gained by approximation.
FLAT_UP_TO = 1 << 24
TARGET_RECALL = 0.95
# Once there is an index, rows outside it are scanned for each query: a few of them, or a small share.
_TAIL_NUMBERS = 1 << 21
_TAIL_SHARE = 0.02
_MOST_DEAD = 0.3  # of the rows in an index; with more it is built anew, since each query passes over them
_GRAPH_UP_TO = 4_000_000  # rows; building a longer graph takes hours
_LEAST_CODED = 16  # rows that the 16 values of a 4-bit code can be learned from
_LINK_BYTES = 160  # of a row in an HNSW graph of 16 links
_SHARE_OF_MEMORY = 0.7  # of what the machine has, where the user named no limit


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks of a space's index; None leaves the choice to nearkin."""

    recall: float = TARGET_RECALL
    memory: int | None = None  # bytes that the index and the vectors may take
    kind: Kind | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Wanted:
        """What `to_json` wrote; the default where nothing was asked."""
        if data is None or "recall" not in data:  # other wishes stand beside it
            return cls()
        kind = data["kind"]
        return cls(data["recall"], data["memory"], None if kind is None else Kind(kind))

    def to_json(self) -> dict[str, Json]:
        """A JSON object."""
        return asdict(self) | {"kind": None if self.kind is None else self.kind.value}


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind of index, and whether the vectors must lie on disk to keep within the memory."""

    kind: Kind
    on_disk: bool


def choose(n: int, dim: int, wanted: Wanted) -> Choice:
    """The kind of index for `n` rows.

    Few rows are scanned; a graph is quickest while it and the vectors fit the memory; then lists with codes, the
    longest that fit, since longer codes need fewer rows to be looked at again.
    """
    memory = wanted.memory if wanted.memory is not None else int(_installed() * _SHARE_OF_MEMORY)
    rows = n * (dim * 4 + 16)
    sizes = {
        Kind.FLAT: rows,
        Kind.HNSW: rows + n * _LINK_BYTES,
        Kind.IVF_FLAT: rows * 2 + n * 8,
        Kind.IVF_SQ8: rows + n * (dim + 8),
        Kind.IVF_PQ: rows + n * (pieces_of(dim) // 2 + 8),
        Kind.IVF_RABITQ: rows + n * (dim // 8 + 16),
    }
    if wanted.kind is not None:
        kind = Kind.FLAT if wanted.kind is Kind.IVF_PQ and n < _LEAST_CODED else wanted.kind
        return Choice(kind, sizes[kind] > memory)
    if n * dim <= FLAT_UP_TO:
        return Choice(Kind.FLAT, rows > memory)
    if sizes[Kind.HNSW] <= memory and n <= _GRAPH_UP_TO:
        return Choice(Kind.HNSW, False)
    if sizes[Kind.IVF_SQ8] <= memory:
        return Choice(Kind.IVF_SQ8, False)
    coded = [Kind.IVF_SQ8, Kind.IVF_RABITQ]
    if pieces_of(dim) * 4 >= dim:  # pieces of at most four numbers: with longer ones the codes say too little
        coded.insert(1, Kind.IVF_PQ)
    for kind in coded:
        if sizes[kind] - n * dim * 4 <= memory:
            return Choice(kind, True)
    return Choice(coded[-1], True)


def _installed() -> int:
    """Bytes of memory the machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 8 << 30


def due(n: int, n_alive: int, dim: int, n_indexed: int, wanted: Wanted) -> bool:
    """Whether an index should be made, or made to cover more rows."""
    if n_indexed == 0:
        return n_alive > 0 and choose(n, dim, wanted).kind is not Kind.FLAT
    return (n - n_indexed) * dim > max(min(_TAIL_NUMBERS, FLAT_UP_TO), _TAIL_SHARE * n_indexed * dim)


def too_many_dead(n: int, n_alive: int) -> bool:
    """Whether an index should be built anew for the dead rows in it."""
    return n - n_alive > _MOST_DEAD * n


def parse_bytes(said: str | int) -> int:
    """A size such as 512M, 4G or 2_000_000_000 in bytes.

    Raises:
        ValueError: it cannot be read.
    """
    if isinstance(said, int):
        size = float(said)
    else:
        word = said.strip().upper().removesuffix("B").removesuffix("I")
        power = "KMGT".find(word[-1:]) + 1 if word else 0
        size = float(word[:-1] if power else word) * 1024**power
    if not math.isfinite(size) or size < 1:
        raise ValueError(said)
    return int(size)


def asked_of(recall: float | None, memory: str | int | None, kind: str | None) -> dict[str, Any]:
    """The fields of `Wanted` that a user names, checked; those that are None, or left out, stay as they were.

    Raises:
        QueryError: a wish cannot be read.
    """
    wishes: dict[str, Any] = {}
    if recall is not None:
        if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0.5 <= recall <= 1:
            raise QueryError(f"the recall is {recall!r}; give a number from 0.5 to 1")
        wishes["recall"] = float(recall)
    if memory is not None:
        try:
            wishes["memory"] = parse_bytes(memory)
        except ValueError:
            raise QueryError(f"the memory {memory!r} cannot be read; give it as 512M or 4G") from None
    if kind is not None and kind != "auto":
        try:
            wishes["kind"] = Kind(kind)
        except ValueError:
            raise QueryError(
                f"there is no index of the kind '{kind}'; use auto or {', '.join(Kind)}"
            ) from None
    elif kind == "auto":
        wishes["kind"] = None
    return wishes
