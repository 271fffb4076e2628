"""The texts to learn words from, cut into words once and kept in a temporary file, so that any corpus fits."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from search.encoders.words import words_of
from search.errors import SourceError

LONGEST_LINE = 10_000  # words; gensim passes over what stands behind them in one sentence
_MOST_COUNTED = 20_000_000  # different words held while counting; then the rarest are dropped


class Corpus:
    """Texts as lines of lower-case words in a temporary file; a context manager that removes it.

    A line is one text, or a piece of one that is longer than 10,000 words. `counts` holds how often each word
    stands in it, `n_words` how many there are in all.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.n_words = 0
        self._folder = tempfile.TemporaryDirectory(prefix="nearkin-words-")
        self.path = Path(self._folder.name) / "words.txt"
        dropped_below = 1
        try:
            with self.path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
                for text in texts:
                    words = words_of(text.lower())
                    self.counts.update(words)
                    self.n_words += len(words)
                    for begin in range(0, len(words), LONGEST_LINE):
                        file.write(" ".join(words[begin : begin + LONGEST_LINE]) + "\n")
                    while len(self.counts) > _MOST_COUNTED:
                        dropped_below += 1
                        self.counts = Counter({w: n for w, n in self.counts.items() if n >= dropped_below})
        except BaseException:
            self._folder.cleanup()
            raise

    def __iter__(self) -> Iterator[list[str]]:
        """The words of each line."""
        with self.path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line.split()

    def vocabulary(self, fewest: int, most_words: int) -> dict[str, int]:
        """The words that stand at least `fewest` times with their counts, the commonest first, then by letters.

        Raises:
            SourceError: no word is that common.
        """
        kept = sorted(((-n, word) for word, n in self.counts.items() if n >= fewest))[:most_words]
        if len(kept) < 2:
            raise SourceError(
                f"fewer than two words stand {fewest} times or more in these {self.n_words:,} words; "
                "give more text, or a model that is already learned"
            )
        return {word: -n for n, word in kept}

    def encoded(
        self, rows: dict[str, int], at_least: int
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Rows of the known words, and for each the number of its line, in pieces of whole lines."""
        some: list[int] = []
        lines: list[NDArray[np.int32]] = []
        for number, words in enumerate(self):
            before = len(some)
            some += [rows[word] for word in words if word in rows]
            lines.append(np.full(len(some) - before, number, np.int32))
            if len(some) >= at_least:
                yield np.asarray(some, np.int32), np.concatenate(lines)
                some, lines = [], []
        if some:
            yield np.asarray(some, np.int32), np.concatenate(lines)

    def __enter__(self) -> Corpus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
