"""Long texts into passages that fit a model's window, cut where a reader would cut them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import NearkinError

TOKENS = 256
OVERLAP = 32
FEWEST_TOKENS = 8

# A sentence ends with its stop, what closes after it, and white space; a CJK stop needs no white space; a
# blank line ends whatever came before. Possessive, and never from inside a run of stops, so that the time
# stays linear in the text.
_CLOSERS = r"""["'”’»)\]}」』）】]*+"""
_SENTENCE_END = re.compile(rf"(?<![.!?…])[.!?…]++{_CLOSERS}\s++|[。！？]++{_CLOSERS}\s*+|\n[^\S\n]*+\n\s*+")
_LAST_SPACE = 0x3000
_SPACES = np.array([chr(code).isspace() for code in range(_LAST_SPACE + 1)] + [False])


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long passages are, and how many tokens neighbours share; None takes the usual number, or what fits.

    What was said is done or refused, never cut down silently.

    Raises:
        NearkinError: as `check_sizes`, or they are more than the model sees.
    """

    tokens: int | None = None
    overlap: int | None = None

    def __post_init__(self) -> None:
        check_sizes(TOKENS if self.tokens is None else self.tokens, self.overlap or 0)

    def __str__(self) -> str:
        """For the settings that vectors depend on."""
        tokens, overlap = TOKENS if self.tokens is None else self.tokens, self.overlap
        return f"{tokens} {OVERLAP if overlap is None else overlap}"

    def within(self, most: int, model: str) -> tuple[int, int]:
        """Tokens and overlap for a model that sees `most` tokens of a text."""
        if self.tokens is not None and self.tokens > most:
            raise NearkinError(
                f"passages of {self.tokens} tokens are more than '{model}' sees; give --tokens of up to {most}"
            )
        tokens = min(TOKENS, most) if self.tokens is None else self.tokens
        if self.overlap is None:
            return tokens, min(OVERLAP, max((tokens - 1) // 2, 0))
        check_sizes(max(tokens, FEWEST_TOKENS), self.overlap)
        return tokens, self.overlap


def cut(
    text: str, offsets: NDArray[np.int32], *, tokens: int = TOKENS, overlap: int = OVERLAP
) -> list[tuple[int, int]]:
    """The passages of a text, as (start, end) in its characters, without white space at their ends.

    A passage ends at the last sentence end in the second half of its window, else at the last word end there,
    else between two tokens. The next one begins up to `overlap` tokens before that, where a sentence or else
    a word begins. All of the text is in some passage; a text that fits is one passage; white space has none.

    Args:
        text: the text as it is stored.
        offsets: (n, 2) start and end of each of its tokens, in characters (`TextEncoder.token_offsets`).
        tokens: the most tokens of a passage (only a single character of more tokens than that exceeds it).
        overlap: the most tokens that two consecutive passages share.

    Raises:
        NearkinError: `tokens` is below 8, or `overlap` is negative or not below half of `tokens`.
    """
    check_sizes(tokens, overlap)
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    if first >= last:
        return []
    if len(offsets) <= tokens:
        return [(first, last)]
    marks = mark(text, offsets)
    if not len(marks.starts):
        return [(first, last)]
    spans: list[tuple[int, int]] = []
    here = reached = 0
    while reached < len(marks.starts):
        reached = _end(marks, here, tokens, reached)
        start = int(marks.starts[here]) if spans else first
        end = int(marks.starts[reached]) if reached < len(marks.starts) else last
        spans.append((start, start + len(text[start:end].rstrip())))
        here = _restart(marks, here, reached, overlap) if reached < len(marks.starts) else here
    return spans


def check_sizes(tokens: int, overlap: int) -> None:
    """Refuse passages that are too short, or share too much.

    Raises:
        NearkinError: as `cut`.
    """
    if tokens < FEWEST_TOKENS:
        raise NearkinError(f"passages of {tokens} tokens are too short; use {FEWEST_TOKENS} or more")
    if not 0 <= 2 * overlap < tokens:
        raise NearkinError(
            f"passages of {tokens} tokens cannot share {overlap}; use 0 to {(tokens - 1) // 2} for --overlap"
        )


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokens that hold more than white space, m of them.

    `starts` (m,) is the first character of each that is no white space, `number` (m,) its place among all
    tokens; `clean`, `words` and `sentences` (m,) say whether a token, a word, a sentence begins there.
    """

    starts: NDArray[np.int64]
    number: NDArray[np.int64]
    clean: NDArray[np.bool_]
    words: NDArray[np.bool_]
    sentences: NDArray[np.bool_]


def mark(text: str, offsets: NDArray[np.int32]) -> Marks:
    """Where a text may be cut, by the offsets (n, 2) of its tokens."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    space = _SPACES[np.minimum(codes, _LAST_SPACE + 1)]
    size = len(text)
    # The next character at or after each that is no white space: some tokens begin with the space before a word.
    solid = np.where(space, size, np.arange(size))
    solid = np.append(np.minimum.accumulate(solid[::-1])[::-1], size)
    # Offsets rise; where a tokenizer has none for a token (0, 0), it stands where the one before it ended.
    bounded = np.clip(offsets.astype(np.int64), 0, size)
    ends = np.maximum.accumulate(bounded[:, 1])
    starts = np.maximum.accumulate(np.minimum(solid[bounded[:, 0]], ends))
    number = np.flatnonzero(starts < ends)
    starts, ends = starts[number], ends[number]
    clean = np.zeros(len(number), dtype=np.bool_)
    clean[1:] = starts[1:] >= ends[:-1]
    words = clean & space[np.maximum(starts, 1) - 1]
    sentences = np.zeros(len(number), dtype=np.bool_)
    begins = np.fromiter((match.end() for match in _SENTENCE_END.finditer(text)), dtype=np.int64)
    behind = np.searchsorted(
        ends, begins, side="right"
    )  # the first token that ends after the sentence's begin
    inside = behind < len(number)
    behind, begins = behind[inside], begins[inside]
    sentences[behind[starts[behind] >= begins]] = True
    return Marks(starts, number, clean, words, sentences & clean)


def _end(marks: Marks, here: int, tokens: int, reached: int) -> int:
    """The token before which the passage that begins at `here` ends; always after `reached`."""
    number = marks.number
    limit = int(np.searchsorted(number, number[here] + tokens))
    if limit >= len(number):
        return len(number)
    half = int(np.searchsorted(number, number[here] + tokens // 2, side="right"))
    half = max(half, reached + 1)
    for mark in (marks.sentences, marks.words, marks.clean):
        found = np.flatnonzero(mark[half : limit + 1])
        if len(found):
            return half + int(found[-1])
    # One character of very many tokens: end before it if that is progress, else after it.
    found = np.flatnonzero(marks.clean[reached + 1 : half])
    if len(found):
        return reached + 1 + int(found[-1])
    found = np.flatnonzero(marks.clean[limit + 1 :])
    return limit + 1 + int(found[0]) if len(found) else len(number)


def _restart(marks: Marks, here: int, reached: int, overlap: int) -> int:
    """The token at which the next passage begins, up to `overlap` before `reached`."""
    number = marks.number
    earliest = max(int(np.searchsorted(number, number[reached] - overlap)), here + 1)
    middle = int(np.searchsorted(number, number[reached] - overlap // 2, side="right"))
    for mark, latest in ((marks.sentences, middle), (marks.words, reached), (marks.clean, reached)):
        found = np.flatnonzero(mark[earliest:latest])
        if len(found):
            return earliest + int(found[0])
    return reached
