"""Random numbers in compiled code: streams that are counted, so that any place of any of them is reached at once."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # between two counters of a stream
HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)
UNIT = 2.0**-53
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@njit(inline="always")
def mixed(state: Any) -> Any:
    """64 random bits from a counter (Steele, Lea & Flood 2014, SplitMix64)."""
    state = (state ^ (state >> np.uint64(30))) * _MIX1
    state = (state ^ (state >> np.uint64(27))) * _MIX2
    return state ^ (state >> np.uint64(31))


@njit(inline="always")
def stream(seed: int, number: int) -> Any:
    """The first counter of the random stream that belongs to `number` under `seed`."""
    return mixed(mixed(np.uint64(seed) + GAMMA) ^ (np.uint64(number) * GAMMA + np.uint64(1)))


@njit(inline="always")
def below(bits: Any, bound: int) -> Any:
    """A whole number in [0, bound) from the upper half of 64 random bits."""
    return np.int64(((bits >> HALF) * np.uint64(bound)) >> HALF)


@njit(inline="always")
def unit(state: Any) -> float:
    """A number in [0, 1) with 53 random bits from a counter."""
    return np.float64(mixed(state) >> np.uint64(11)) * UNIT
