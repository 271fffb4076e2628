"""Learns GloVe vectors from the user's own texts: weighted least squares on co-occurrences, by AdaGrad, in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from ingest.learn.words.cooccurrences import count_cooccurrences
from ingest.learn.words.corpus import Corpus
from ingest.learn.words.settings import WordSettings
from search.encoders.device import choose_device
from search.encoders.word_table import WordTable
from search.errors import SourceError

X_MAX, ALPHA = 100.0, 0.75  # Pennington et al. 2014, sec. 3 and 4.2
LEARNING_RATE = 0.05
LARGEST_BATCH, SMALLEST_BATCH = 4096, 16  # pairs whose gradients are taken together
_BATCHES = 256  # at least so many steps in a pass, where there are pairs enough
_WINDOW = 10
_WORDS_AT_ONCE = 500_000  # of text that pairs are counted in: ten times as many pairs


@dataclass(frozen=True, slots=True)
class GloveState:
    """The model while it is learned: row i of `weights` is word i's vector, then its bias; `contexts` alike.

    `squares` hold AdaGrad's sums of squared gradients of each. All (2, n_words, dim + 1): words, then contexts.
    """

    weights: Tensor
    squares: Tensor


def learn_glove(
    corpus: Corpus,
    settings: WordSettings,
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> WordTable:
    """Vectors of the words of a corpus: the sums of GloVe's word and context vectors.

    On a CPU the same corpus, settings and seed give the same vectors; on a GPU sums are made in no fixed order, and
    the vectors are the same up to rounding.
    Pennington, Socher & Manning 2014, "GloVe: Global vectors for word representation".

    Args:
        corpus: the texts.
        settings: width, window, rarity, passes, seed.
        device: auto, cpu, cuda, cuda:N or mps.
        progress: called with the passes done and the passes in all.

    Raises:
        SourceError: too few words stand often enough, or they have too many pairs.
    """
    vocabulary = corpus.vocabulary(settings.fewest(corpus.n_words), settings.most_words)
    rows = {word: row for row, word in enumerate(vocabulary)}
    counted = count_cooccurrences(
        corpus.encoded(rows, _WORDS_AT_ONCE),
        len(rows),
        _WINDOW if settings.window is None else settings.window,
    )
    if not counted.nnz:
        raise SourceError("no two words stand near each other in these texts; give longer texts")
    passes = settings.glove_passes(corpus.n_words)
    where = choose_device(device)
    state = begin(len(rows), settings.dim, settings.seed, where)
    pairs = Pairs.of(counted, where)
    for done in range(passes):
        for batch in batches(len(pairs.logs), settings.seed + done):
            step(state, pairs, batch.to(where))
        if progress is not None:
            progress(done + 1, passes)
    vectors = state.weights[..., :-1].sum(0).cpu().numpy()
    counts = np.fromiter(vocabulary.values(), np.int64, len(vocabulary))
    return WordTable.made(list(vocabulary), vectors, counts, place="glove")


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs that stand near each other: `rows` and `columns` (n,), and their counts as logarithm and weight."""

    rows: Tensor
    columns: Tensor
    logs: Tensor
    weights: Tensor

    @classmethod
    def of(cls, counted: csr_matrix, device: torch.device) -> Pairs:
        """Those of a matrix of co-occurrences; the weight is min(1, x / 100) ** 0.75."""
        pairs = counted.tocoo()
        values: NDArray[np.float64] = pairs.data
        weights = np.minimum(values / X_MAX, 1.0) ** ALPHA
        return cls(
            torch.from_numpy(pairs.row.astype(np.int64)).to(device),
            torch.from_numpy(pairs.col.astype(np.int64)).to(device),
            torch.from_numpy(np.log(values).astype(np.float32)).to(device),
            torch.from_numpy(weights.astype(np.float32)).to(device),
        )


def begin(n_words: int, dim: int, seed: int, device: torch.device) -> GloveState:
    """Vectors and biases drawn evenly from -0.5 / dim to 0.5 / dim, and sums of squares of 1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand((2, n_words, dim + 1), generator=generator) - 0.5) / dim
    return GloveState(drawn.to(device), torch.ones((2, n_words, dim + 1), device=device))


def batches(n: int, seed: int) -> Iterator[Tensor]:
    """The numbers below `n` in random order, a batch at a time.

    Few pairs make small batches: the vectors of a small vocabulary need as many steps as those of a large one.
    """
    size = min(max(n // _BATCHES, SMALLEST_BATCH), LARGEST_BATCH)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for start in range(0, n, size):
        yield order[start : start + size]


def step(state: GloveState, pairs: Pairs, batch: Tensor) -> Tensor:
    """One step of AdaGrad on the pairs of a batch; the loss there before it.

    The loss is the sum of weight * (w . c + b + b' - log x)^2 / 2 over the pairs.
    """
    rows, columns = pairs.rows[batch], pairs.columns[batch]
    words, contexts = state.weights[0, rows], state.weights[1, columns]
    difference = (
        (words[:, :-1] * contexts[:, :-1]).sum(1) + words[:, -1] + contexts[:, -1] - pairs.logs[batch]
    )
    pull = (pairs.weights[batch] * difference)[:, None]
    # The gradient of a bias is the pull itself: as if the other side's last number were 1.
    contexts[:, -1] = 1
    words[:, -1] = 1
    _adagrad(state.weights[0], state.squares[0], rows, pull * contexts)
    _adagrad(state.weights[1], state.squares[1], columns, pull * words)
    return 0.5 * (pull[:, 0] * difference).sum()


def _adagrad(weights: Tensor, squares: Tensor, rows: Tensor, gradients: Tensor) -> None:
    """Duchi, Hazan & Singer 2011: each number moves by its gradient over the root of all its squared gradients."""
    touched, places = torch.unique(rows, return_inverse=True)
    total = torch.zeros((len(touched), gradients.shape[1]), dtype=gradients.dtype, device=gradients.device)
    total.index_add_(0, places, gradients)
    sums = squares[touched] + total * total
    squares[touched] = sums
    weights[touched] -= LEARNING_RATE * total / sums.sqrt()
