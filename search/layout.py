"""Where the files of a collection stand in its directory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one collection. The catalog is the truth; all else can be thrown away."""

    root: Path

    @property
    def catalog(self) -> Path:
        """The SQLite file (its -wal and -shm stand beside it)."""
        return self.root / "catalog.sqlite"

    @property
    def indexes(self) -> Path:
        """Snapshots of the approximate indexes."""
        return self.root / "indexes"

    @property
    def quarantine(self) -> Path:
        """Snapshots that were found damaged; kept for inspection, never read."""
        return self.root / "quarantine"

    @property
    def rejects(self) -> Path:
        """One file per ingest run that had to skip inputs."""
        return self.root / "rejects"

    def checkpoint(self, space: str) -> Path:
        """What a network that is being learned for a space goes on from; gone when the space is there."""
        return self.root / "learning" / f"{hashlib.sha256(space.encode()).hexdigest()[:16]}.safetensors"

    def evaluation(self, space: str) -> Path:
        """How good a space was by its own records, to compare with; can be thrown away."""
        return self.root / "evaluations" / f"{hashlib.sha256(space.encode()).hexdigest()[:16]}.json"

    @property
    def lock(self) -> Path:
        """Locked by whoever writes."""
        return self.root / "write.lock"

    @property
    def holder(self) -> Path:
        """Who holds the lock, in words, for the message that another writer gets."""
        return self.root / "write.holder"


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (a rename is safe only after this)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
