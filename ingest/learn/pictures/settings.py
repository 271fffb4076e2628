"""What can be said of how a network is learned from pictures."""

from __future__ import annotations

from dataclasses import dataclass

from search.encoders.load import SMALL_NETWORK
from search.errors import SourceError

_PICTURES_SEEN = 200_000  # by all epochs together, each in two views
_LEAST_EPOCHS, _MOST_EPOCHS = 20, 200


@dataclass(frozen=True, slots=True)
class SimclrSettings:
    """How to learn; the defaults suit digits of 8 x 8 pixels and photographs alike, on a processor.

    Args:
        network: "small", or "torchvision:NAME"; it begins with random weights.
        epochs: how often each picture is seen, in two views; None takes 200 for up to 1,000 pictures, and of more
            so many that 200,000 are seen, at least 20 times each.
        batch: how many pictures are told apart in a step; None takes a sixteenth of them, from 32 to 256.
        side: what pictures are resized to, in pixels; None takes their own size where they are small (at least 16),
            else 64.
        width: channels of the small network's first stage.
        dim: width of the vectors: so many of the strongest directions are kept, at most what the network gives.
        flip: whether a mirrored picture is the same picture; None says yes unless all are small and grey, as
            letters and digits are.
        temperature: of the loss; small ones count near views more.
        rate: the greatest learning rate (AdamW).
        decay: weight decay.
        compared: width of the rows that are compared while learning.
        most_pictures: how many pictures are learned from; a sample of a larger set.
        seed: for the first weights, the order, the views and the sample.
    """

    network: str = SMALL_NETWORK
    epochs: int | None = None
    batch: int | None = None
    side: int | None = None
    width: int = 16
    dim: int = 256
    flip: bool | None = None
    temperature: float = 0.2
    rate: float = 3e-3
    decay: float = 1e-4
    compared: int = 128
    most_pictures: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.epochs, self.width, self.dim, self.compared)
        if any(one is not None and one < 1 for one in counts) or min(self.temperature, self.rate) <= 0:
            raise SourceError(
                "epochs, width, dim, temperature and rate of a network to be learned must be above 0; correct them"
            )
        if self.decay < 0 or self.seed < 0:
            raise SourceError("decay and seed must not be below 0; correct them")
        if self.most_pictures < 2 or (self.batch is not None and self.batch < 2):
            raise SourceError(
                "a network learns by telling pictures apart: batch and most_pictures must be at least 2; correct them"
            )
        if self.side is not None and not 8 <= self.side <= 512:
            raise SourceError(
                f"pictures of {self.side} pixels a side are not learned from; take a side of 8 to 512"
            )

    @property
    def is_small(self) -> bool:
        """Whether it is the small network."""
        return self.network == SMALL_NETWORK

    def epochs_of(self, n: int) -> int:
        """How often each of n pictures is seen."""
        if self.epochs is not None:
            return self.epochs
        return min(max(_PICTURES_SEEN // n, _LEAST_EPOCHS), _MOST_EPOCHS)

    def batch_of(self, n: int) -> int:
        """How many of n pictures are told apart in a step."""
        return min(n, self.batch if self.batch is not None else min(max(n // 16, 32), 256))
