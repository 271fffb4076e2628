"""What can be said of how word vectors are learned."""

from __future__ import annotations

from dataclasses import dataclass

from search.errors import SourceError

_MANY_WORDS = 1_000_000
_WIDE = 300
_SEEN_AT_LEAST = 5_000_000  # words that a small corpus is gone through for, all passes together
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 50


@dataclass(frozen=True, slots=True)
class WordSettings:
    """How word vectors are learned; None takes what suits the method and the size of the corpus.

    Args:
        dim: numbers per vector.
        window: words on either side that count as context; None is 5 for word2vec, 10 for GloVe.
        min_count: rarer words are left out; None is 5 from a million words on, 2 below.
        epochs: passes over the corpus (word2vec) or the co-occurrences (GloVe); None is 5 for word2vec on a large
            corpus and up to 50 on a small one; for GloVe 50, and 100 on a small corpus or from 300 dimensions on
            (Pennington et al. 2014, sec. 4.2; a small corpus gained from twice as many).
        negative: word2vec's negative samples for each context.
        most_words: only so many of the commonest words are kept.
        seed: the same texts, settings and seed give the same vectors.
        workers: word2vec's threads; more than one is quicker, and no longer gives the same vectors each time.
    """

    dim: int = 100
    window: int | None = None
    min_count: int | None = None
    epochs: int | None = None
    negative: int = 5
    most_words: int = 200_000
    seed: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        given = (
            self.dim,
            self.window,
            self.min_count,
            self.epochs,
            self.negative,
            self.most_words,
            self.workers,
        )
        if any(value is not None and value < 1 for value in given) or self.seed < 0:
            raise SourceError("settings for learning words must be whole numbers from 1; correct them")

    def fewest(self, n_words: int) -> int:
        """The `min_count` for a corpus of `n_words` words."""
        if self.min_count is not None:
            return self.min_count
        return 5 if n_words >= _MANY_WORDS else 2

    def glove_passes(self, n_words: int) -> int:
        """GloVe's `epochs` for a corpus of `n_words` words."""
        if self.epochs is not None:
            return self.epochs
        return 100 if n_words < _MANY_WORDS or self.dim >= _WIDE else 50

    def passes(self, n_words: int) -> int:
        """word2vec's `epochs` for a corpus of `n_words` words."""
        if self.epochs is not None:
            return self.epochs
        return min(max(-(-_SEEN_AT_LEAST // max(n_words, 1)), _FEWEST_EPOCHS), _MOST_EPOCHS)
