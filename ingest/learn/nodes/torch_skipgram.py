"""Skip-gram with negative sampling in torch: a batch of sequences at a time, as products of small matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding

from ingest.learn.nodes.skipgram import SkipGramSettings, keep_chances
from ingest.learn.nodes.torch_walks import below, counted, streams, units
from ingest.learn.nodes.transitions import END

NOISE_PER_SEQUENCE = (
    64  # negatives that all centers of a sequence share; each counts for less the more there are
)
STALE = (
    4.0  # a row takes the gradients of so many of its occurrences in a batch in full, more only in the mean
)
# The salts of `skipgram`, so that both trainers keep the same tokens and take the same windows.
_THIN, _WINDOW, _NEGATIVE = 0x51A7, 0x3C0B, 0x77E9


class Drawn(NamedTuple):
    """Sequences with all that chance decides about them, ready to be learned from."""

    tokens: torch.Tensor  # (m, length) int64; 0 where there is none
    there: torch.Tensor  # (m, length) bool
    pairs: torch.Tensor  # (m, length, length) bool, [center, context]
    noise: torch.Tensor  # (m, NOISE_PER_SEQUENCE) int64 tokens


class TorchSkipGram:
    """Learns one vector per token from sequences of tokens, on a torch device.

    Tokens are kept and windows drawn as by `skipgram.SkipGram`. What differs: negatives are shared by the
    centers of a sequence, with a weight that makes them `negatives` per pair; the gradients of a batch are summed
    by row and taken together, those of a row that occurs often scaled down, as their sum would overshoot. Sums
    are sorted ones, so the same seed gives the same bytes on one device.

    Args:
        frequencies: (n,) how often each token is expected; only the proportions matter.
        settings: how to learn.
        device: where.
    """

    def __init__(
        self, frequencies: NDArray[np.int64], settings: SkipGramSettings, device: torch.device
    ) -> None:
        self.settings, self.device = settings, device
        n, dim = len(frequencies), settings.dim
        keep = keep_chances(frequencies, settings.sample)
        self._keep = None if (keep >= 1).all() else torch.from_numpy(keep).to(device)
        start = np.random.default_rng([settings.seed, 1]).random((n, dim), np.float32)
        self._inputs = torch.from_numpy((start - np.float32(0.5)) / np.float32(dim)).to(device)
        self._outputs = torch.zeros_like(self._inputs)
        mass = np.cumsum(np.maximum(frequencies, 1) ** 0.75)
        self._noise = torch.from_numpy(mass / mass[-1]).to(device)

    def vectors(self) -> NDArray[np.float32]:
        """The vectors as they are now: (n, dim) float32, row i is token i."""
        return self._inputs.to("cpu", copy=True).numpy()

    def contexts(self) -> NDArray[np.float32]:
        """The output vectors as they are now: (n, dim) float32."""
        return self._outputs.to("cpu", copy=True).numpy()

    def drawn(self, rows: torch.Tensor, first: int) -> Drawn:
        """What is to be learned from sequences: (m, length) int32 tokens on the device, -1 after the end of each.

        `first` is the number of the first sequence among all. Each sequence is for itself, so many batches can be
        drawn at once.
        """
        numbers = torch.arange(first, first + len(rows), device=self.device)
        rows = self.thinned(rows, numbers)
        return Drawn(
            rows.clamp(min=0).long(), rows != END, self.pairs(rows, numbers), self.negatives(numbers)
        )

    def learn(self, batch: Drawn, rate: float) -> None:
        """Take in a batch of sequences at this learning rate."""
        tokens, there, pairs, noise = batch
        share = self.settings.negatives / NOISE_PER_SEQUENCE
        with _short_products(self.device):
            of_tokens, of_contexts, of_noise = ascent(
                self._inputs[tokens], self._outputs[tokens], self._outputs[noise], pairs, share
            )
        _move(self._inputs, tokens.view(-1), of_tokens, there.view(-1), rate)
        _move(
            self._outputs,
            torch.cat([tokens.view(-1), noise.view(-1)]),
            torch.cat([of_contexts.flatten(0, 1), of_noise.flatten(0, 1)]),
            torch.cat([there.view(-1), there.new_ones(noise.numel())]),
            rate,
        )

    def thinned(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """The sequences without the frequent tokens that chance drops; END fills the rest of a row."""
        if self._keep is None:
            return rows
        places = torch.arange(1, rows.shape[1] + 1, device=self.device)
        chances = units(counted(streams(self.settings.seed ^ _THIN, numbers), places))
        dropped = (rows == END) | (chances >= self._keep[rows.clamp(min=0)])
        order = dropped.to(torch.uint8).sort(dim=1, stable=True).indices
        return torch.where(dropped, END, rows).gather(1, order)

    def pairs(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Which places of a sequence are contexts of which: (m, length, length) bool, [center, context]."""
        window = self.settings.window
        places = torch.arange(rows.shape[1], device=self.device)
        drawn = below(counted(streams(self.settings.seed ^ _WINDOW, numbers), places), window)
        there = rows != END
        reach = torch.where(there, window - drawn, 0).to(torch.int16)  # 0 makes no pairs
        distance = (places[:, None] - places).abs().to(torch.int16)
        distance.fill_diagonal_(torch.iinfo(torch.int16).max)
        pairs = distance <= reach[:, :, None]
        return pairs.logical_and_(there[:, None, :])

    def negatives(self, numbers: torch.Tensor) -> torch.Tensor:
        """(m, NOISE_PER_SEQUENCE) tokens, drawn by their frequencies to the power of 3/4."""
        places = torch.arange(1, NOISE_PER_SEQUENCE + 1, device=self.device)
        chances = units(counted(streams(self.settings.seed ^ _NEGATIVE, numbers), places))
        return torch.searchsorted(self._noise, chances, right=True).clamp_(max=len(self._noise) - 1)


def _move(
    table: torch.Tensor, tokens: torch.Tensor, gradients: torch.Tensor, there: torch.Tensor, rate: float
) -> None:
    """Move each row along the sum of its gradients; `there` says which of them count as occurrences."""
    n, dim = table.shape
    # The backward pass of an embedding sorts by row before it adds, on every device.
    weight = table.detach().requires_grad_()
    (total,) = torch.autograd.grad(embedding(tokens, weight), weight, gradients.reshape(-1, dim))
    # Whole numbers have the same sum in any order.
    occurrences = torch.zeros(n, dtype=torch.int32, device=table.device).scatter_add_(0, tokens, there.int())
    table.addcmul_(total, (STALE / occurrences.clamp_(min=1)).clamp_(max=1.0)[:, None], value=rate)


def ascent(
    centers: torch.Tensor, contexts: torch.Tensor, noise: torch.Tensor, pairs: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of the log-likelihood of Mikolov et al. 2013, eq. 4, summed over the pairs of each sequence.

    Args:
        centers: (m, length, dim) input vectors of the tokens.
        contexts: (m, length, dim) output vectors of the same tokens.
        noise: (m, k, dim) output vectors of the negatives.
        pairs: (m, length, length) bool, [center, context].
        share: how much each negative counts, per pair of a center.

    Returns:
        The gradients of `centers`, `contexts` and `noise`, in their shapes.
    """
    right = torch.bmm(centers, contexts.mT).neg_().sigmoid_().mul_(pairs)
    weights = pairs.sum(2, keepdim=True, dtype=torch.float32).mul_(-share)
    wrong = torch.bmm(centers, noise.mT).sigmoid_().mul_(weights)
    of_centers = torch.baddbmm(torch.bmm(right, contexts), wrong, noise)
    return of_centers, torch.bmm(right.mT, centers), torch.bmm(wrong.mT, centers)


@contextmanager
def _short_products(device: torch.device) -> Iterator[None]:
    """On CUDA, matrix products round their inputs to TF32 (10 bits): several times as fast, and as good here."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
