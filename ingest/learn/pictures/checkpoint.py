"""Keeps a network that is being learned, so that a run that was killed goes on where it was kept last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ingest.learn.pictures.settings import SimclrSettings
from search.encoders.learned_file import from_file, to_file
from search.errors import ModelUnavailable
from search.partial import whole

FORMAT = "nearkin checkpoint 1"


def fingerprint(method: str, settings: SimclrSettings, pixels: NDArray[np.uint8]) -> str:
    """What is learned from what: 64 hexadecimal digits that change with any of it."""
    said = json.dumps([method, asdict(settings), pixels.shape], sort_keys=True)
    return hashlib.sha256(said.encode() + np.ascontiguousarray(pixels).data).hexdigest()


class Checkpoint:
    """One file, always whole: it is written beside its place and then named.

    Args:
        path: the file; there need not be one.
        fingerprint: of what is learned; a file of something else is as none, and is written over.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint

    def read(self) -> dict[str, Tensor] | None:
        """The state that was kept last of this learning; None where there is none."""
        try:
            tensors, settings = from_file(self._path.read_bytes(), FORMAT, "checkpoint")
        except (FileNotFoundError, ModelUnavailable):
            return None  # a damaged one costs the time that it had saved, and no more
        return tensors if settings.get("fingerprint") == self._fingerprint else None

    def write(self, state: dict[str, Tensor]) -> None:
        """Keep a state in the former one's place, durably.

        Raises:
            CollectionError: the disk is full or read-only, or another process is learning the same.
        """
        with whole(self._path, replace=True, parents=True) as partial:
            partial.write_bytes(to_file(state, {"fingerprint": self._fingerprint}, FORMAT))
