"""The contract of a source: it yields what it can read and says why it rejects the rest; it never ends a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search.types import Record


@dataclass(frozen=True, slots=True)
class Item:
    """One record that a source has read.

    `origin` names the file or folder that it came from, as an absolute path: what vanishes from an origin is
    what `--prune` removes. `digest` is a hash of all that would be embedded or stored, so that an unchanged
    item is not encoded again. `picture` is the file to encode where the record is a picture.
    """

    record: Record
    origin: str
    digest: bytes
    picture: Path | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that could not be used: where it stands (`line` is 1-based) and why."""

    file: str
    reason: str
    line: int | None = None
    id: str | None = None


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
