"""Texts into the words that stand in them, each with the passage around it, for an encoder of words in context."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingest.passages import Lengths, cut
from ingest.pipeline import Ready
from ingest.sources.contract import Item, Rejected
from search.encoders.contract import Occurrence
from search.errors import SourceError
from search.types import Part

if TYPE_CHECKING:
    from search.encoders.contract import TextModel

_EMPTY = 1 / 1024  # of the memory for one handful is taken by a text that no part counts for
_ANY_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words_pattern(words: Sequence[str]) -> re.Pattern[str]:
    """What finds these words in a text, whole and whatever their case; without any, every word.

    Raises:
        SourceError: one has neither letter nor digit.
    """
    if not words:
        return _ANY_WORD
    for word in words:
        if not _ANY_WORD.search(word):
            raise SourceError(f"{word!r} is no word; name words with letters or digits")
    longest_first = sorted({word.strip() for word in words}, key=lambda word: (-len(word), word))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)


class WordsInContext:
    """Finds each occurrence of some words, or of all, with the text around it that the model is to read.

    The text is cut into windows of so many tokens that share up to twice the overlap; a word is read in that
    window in which it has most on its poorer side, so about half of the overlap at least, save at the text's ends. A
    text without the words is stored without vectors.
    """

    def __init__(self, reader: Callable[[], TextModel], words: Sequence[str], lengths: Lengths) -> None:
        """Raises SourceError where a word is none; `reader` is the text model that reads the words."""
        self._reader = reader
        self._pattern = words_pattern(words)
        self._lengths = lengths

    def __call__(self, items: Sequence[Item]) -> list[Ready | Rejected]:
        texts = [item.record.text or "" for item in items]
        reader = self._reader()
        tokens, shared = self._lengths.within(reader.max_tokens, reader.spec.model)
        overlap = min(2 * shared, max((tokens - 1) // 2, 0))
        outcome: list[Ready | Rejected] = []
        for item, text, offsets in zip(items, texts, reader.token_offsets(texts), strict=True):
            if not text.strip():
                place = item.file or str(item.record.uri or item.origin)
                outcome.append(Rejected(place, "there are no words in it", item.line, item.record.id))
                continue
            windows = cut(text, offsets, tokens=tokens, overlap=overlap)
            found = [
                span
                for span in (match.span() for match in self._pattern.finditer(text))
                if _seen(offsets, span)
            ]
            outcome.append(
                Ready(
                    item,
                    tuple(Part(start, end) for start, end in found),
                    tuple(_in_window(text, windows, span) for span in found),
                    weight=0.0 if found else _EMPTY,
                )
            )
        return outcome


def _seen(offsets: NDArray[np.int32], span: tuple[int, int]) -> bool:
    """Whether the model has a token there: some tokenizers drop characters that they do not know."""
    at = int(np.searchsorted(offsets[:, 1], span[0], side="right"))
    return at < len(offsets) and int(offsets[at, 0]) < span[1]


def _in_window(text: str, windows: Sequence[tuple[int, int]], span: tuple[int, int]) -> Occurrence:
    """The occurrence in the window where it stands farthest from the nearer end; ends of the text are no ends."""
    start, end = span

    def room(window: tuple[int, int]) -> float:
        left = np.inf if window == windows[0] else start - window[0]
        right = np.inf if window == windows[-1] else window[1] - end
        return float(min(left, right))

    holding = [window for window in windows if window[0] <= start and end <= window[1]]
    if not holding:  # a word that is longer than a window, or was cut by one
        return Occurrence(text[start:end], 0, end - start)
    first, last = max(holding, key=room)
    return Occurrence(text[first:last], start - first, end - first)
