"""Rows of tokens in batches: which rows go together, and how much of it is padding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from search.encoders.device import sent

# So many tokens of texts of one length make a batch of their own, which needs no padding and no mask.
EXACT = 256
# One more batch costs a processor what so many places do; and so much of a batch may be padding besides.
SPARE = 32
_SLACK = 0.03


@dataclass(frozen=True, slots=True)
class TextStats:
    """What an encoder has done so far: texts, tokens, places of padding beside them, and batches."""

    texts: int = 0
    tokens: int = 0
    padding: int = 0
    batches: int = 0

    @property
    def padded_share(self) -> float:
        """The part of all places that the network worked on for nothing, 0 to 1."""
        return self.padding / max(self.tokens + self.padding, 1)

    def __add__(self, other: TextStats) -> TextStats:
        return TextStats(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.padding + other.padding,
            self.batches + other.batches,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as tokens, one behind the other.

    Args:
        ids: (n_tokens,) int64.
        starts: (n_texts + 1,) int64, where each text begins, and the end of the last.
        types: (n_tokens,) int64 token types, None where all are 0.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    types: NDArray[np.int64] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n_texts,) tokens of each."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, each padded at its end to the longest, on the device of a network.

    At its end for every network: places count from the first token, and in a decoder no token sees what comes
    behind it, so that a row gives the same in any company.

    Args:
        ids: (rows, width) int64.
        lengths: (rows,) int64.
        kept: (n_tokens,) int64, which of the rows * width places are tokens; None where all are.
        types: (rows, width) int64 token types, None where all are 0.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    kept: torch.Tensor | None = None
    types: torch.Tensor | None = None

    @property
    def full(self) -> bool:
        """Whether all rows are as long as the longest: no padding, no mask."""
        return self.kept is None

    def mask(self) -> torch.Tensor:
        """(rows, width) bool, True where there is a token."""
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        return places[None, :] < self.lengths[:, None]


class Network(ABC):
    """A transformer: rows of tokens in, a vector for each token out.

    `width` is the length of those vectors, `depth` the number of its layers.
    """

    width: int
    depth: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def states(self, batch: Batch, layers: tuple[int, ...]) -> torch.Tensor:
        """(rows, width of the batch, width) hidden states, the average of these layers (0: the embeddings).

        What stands at places of padding means nothing.
        """


def plan_batches(
    lengths: NDArray[np.int64], budget: int, *, exact: int = EXACT, spare: int = SPARE
) -> list[NDArray[np.int64]]:
    """Row numbers in batches, longest rows first, so that no batch padded to its longest exceeds `budget`.

    Rows of one length that make `exact` tokens together are not mixed with shorter ones: they need no
    padding. Else a batch ends before its padding comes to more than `spare` and 3% of its tokens.

    Args:
        lengths: (n,) tokens of each row.
        budget: the most tokens of a batch, padding included; one row alone may be longer.
        exact: in tokens.
        spare: how many places of padding cost as much as one more batch.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    batches, start = [], 0
    while start < len(order):
        longest = max(int(-falling[start]), 1)
        size = max(1, budget // longest)
        same = int(np.searchsorted(falling, falling[start], side="right")) - start
        if same * longest >= exact:
            size = min(size, same)
        tokens = -falling[start : start + size].cumsum()
        padding = longest * np.arange(1, len(tokens) + 1) - tokens
        # The padding only grows, row by row; the first row adds none.
        size = max(1, int(np.count_nonzero(padding <= spare + _SLACK * tokens)))
        batches.append(order[start : start + size])
        start += size
    return batches


def gather(rows: Rows, batch: NDArray[np.int64], device: torch.device) -> Batch:
    """The rows of these numbers, padded, on the device."""
    lengths = rows.lengths[batch]
    width = int(lengths.max())
    places = rows.starts[batch][:, None] + np.arange(width)
    kept = None
    if not (lengths == width).all():
        kept = np.flatnonzero(np.arange(width) < lengths[:, None])
        # Behind a row's end stands its last token once more: any id will do where nobody looks.
        np.minimum(places, (rows.starts[batch + 1] - 1)[:, None], out=places)
    return Batch(
        ids=_sent(rows.ids[places], device),
        lengths=_sent(lengths, device),
        kept=None if kept is None else _sent(kept, device),
        types=None if rows.types is None else _sent(rows.types[places], device),
    )


def _sent(numbers: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(numbers)
    return sent(tensor, device) if device.type == "cuda" else tensor.to(device)
