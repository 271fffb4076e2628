"""What the ways of searching cost, in nanoseconds: measured where an index was tuned, else typical."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.types import Json

_BYTE_IN_ORDER = 0.1  # nanoseconds to score a byte of a row read in order: 10 GB/s
_BYTE_ELSEWHERE = 0.06  # of rows picked out: few enough to stay in the cache
_ROW_ELSEWHERE = 12.0
_ROWS_A_STEP = 24  # rows a walk looks at for each unit of effort: the neighbours of a node that are new to it


@dataclass(frozen=True, slots=True)
class Costs:
    """Nanoseconds for one query."""

    scan: float  # a row of a scan over all rows
    gather: float  # a row picked out
    walk: float  # a unit of effort

    @classmethod
    def typical(cls, dim: int) -> Costs:
        """What these cost on a common machine."""
        row = dim * 4
        gather = row * _BYTE_ELSEWHERE + _ROW_ELSEWHERE
        return cls(row * _BYTE_IN_ORDER, gather, _ROWS_A_STEP * (gather + 40))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Costs:
        """The costs that `to_json` wrote."""
        return cls(**data)

    def to_json(self) -> dict[str, Json]:
        """A JSON object."""
        return {name: round(value, 1) for name, value in asdict(self).items()}
