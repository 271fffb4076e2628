"""Texts in runs that are tokenized and encoded together, and their vectors on the way back from the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from search.encoders.contract import Vectors

# Texts are tokenized and sorted by length in runs of this many, so that memory stays bounded; for a GPU in shorter
# ones, of about so many characters, the first ones shorter still, so that it need not wait long for them.
RUN = 16_384
GPU_RUN_CHARACTERS = 1_000_000
_FIRST_SHARE = 8


def runs_of(texts: Sequence[str], characters: int | None) -> Iterator[slice]:
    """The texts in runs of at most RUN; with a number, of about so many characters, the first ones of fewer."""
    start = seen = 0
    least = 0 if characters is None else characters // _FIRST_SHARE
    for number, text in enumerate(texts):
        seen += len(text)
        if number - start + 1 == RUN or (characters is not None and seen >= least):
            yield slice(start, number + 1)
            start, seen, least = number + 1, 0, min(2 * least, characters or 0)
    if start < len(texts):
        yield slice(start, len(texts))


@dataclass(frozen=True, slots=True)
class Started:
    """Vectors (n, dim) float32 that are on their way from the device; `numbers` (n,) are their rows."""

    numbers: NDArray[Any]
    vectors: torch.Tensor
    arrival: torch.cuda.Event | None = None

    def arrived(self) -> Vectors:
        """The vectors, once they are there."""
        if self.arrival is not None:
            self.arrival.synchronize()
        rows: Vectors = self.vectors.numpy()
        return rows


def sent_home(numbers: NDArray[Any], vectors: torch.Tensor) -> Started:
    """Begin to copy vectors into the processor's memory; a GPU does it beside its other work."""
    if vectors.device.type != "cuda":
        return Started(numbers, vectors.cpu())
    home = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
    home.copy_(vectors, non_blocking=True)
    arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrival.record(torch.cuda.current_stream(vectors.device))
    return Started(numbers, home, arrival)
