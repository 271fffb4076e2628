"""What a collection should hold and answer, in a dict and plain numpy, for the state machine that compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

DIMS = {"v": 4, "w": 3}
IDS = [f"r{i}" for i in range(40)]
ids_drawn = st.lists(st.sampled_from(IDS), min_size=1, max_size=12, unique=True)
spaces_drawn = st.sampled_from(sorted(DIMS))
wheres = st.sampled_from(
    [None, "i < 20", "even", "not even", "i = 7", "i in (1, 2, 3, 30)", "i > 99", "note is null", "note > 2"]
)
ks = st.sampled_from([1, 3, 10, 1000])


@dataclass
class Kept:
    """A record of the model."""

    metadata: dict[str, Any]
    text: str | None = None
    vectors: dict[str, np.ndarray] = field(default_factory=dict)


def chosen(where: str | None, metadata: dict[str, Any]) -> bool:
    return {
        None: True,
        "i < 20": metadata["i"] < 20,
        "even": metadata["even"],
        "not even": not metadata["even"],
        "i = 7": metadata["i"] == 7,
        "i in (1, 2, 3, 30)": metadata["i"] in (1, 2, 3, 30),
        "i > 99": False,
        "note > 2": (metadata.get("note") or 0) > 2,
        "note is null": metadata.get("note") is None,
    }[where]


def rows(seed: int, n: int, dim: int) -> np.ndarray:
    """Unit rows; a small seed gives coarse ones, so that there are ties."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(-1, 2, (n, dim)) + 0.0 if seed % 3 == 0 else rng.standard_normal((n, dim))
    drawn[~drawn.any(axis=1)] = 1
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
