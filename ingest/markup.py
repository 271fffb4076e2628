"""Markdown texts into passages that keep to their sections, and know under which headings they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.outline import Outline, Section, lines_of, outline
from ingest.passages import OVERLAP, TOKENS, Marks, check_sizes, mark

BETWEEN = " > "  # stands between the headings of a context
_CONTEXT = 4  # a context takes at most a fourth of the tokens of a passage
_TINY = 8  # a section of at most an eighth of them is tiny

Flags = NDArray[np.bool_]
Count = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage, text[start:end], and the headings above it that are not in it ("" if there are none)."""

    start: int
    end: int
    context: str


def cut_markup(
    text: str, offsets: NDArray[np.int32], count: Count, *, tokens: int = TOKENS, overlap: int = OVERLAP
) -> list[Passage]:
    """The passages of a Markdown text, in their order, without white space at their ends.

    A passage goes from one section into the next only if that one lies deeper, or both are tiny (an eighth of
    `tokens` or less). Where not all fits, a passage ends before a deeper heading, else at the end of a sentence, a
    block, a list's item or a table's row, else at a word's end: in the second half of its window if there is such a
    place. A block of code stays whole where it fits, and is cut at its lines' ends where it does not; a line of a
    list or table stays whole where it fits; no passage ends with a heading if that can be helped. Within a section
    passages overlap as those of `ingest.passages.cut` do. All of the text is in some passage.

    Args:
        text: the text as it is stored.
        offsets: (n, 2) start and end of each of its tokens, in characters.
        count: how many tokens each of some strings has.
        tokens: the most tokens of a passage together with its context and the line end between them. A context that
            would take more than a fourth of them loses its outer headings.
        overlap: the most tokens that two consecutive passages share.

    Raises:
        NearkinError: the sizes make no sense.
    """
    check_sizes(tokens, overlap)
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    if first >= last:
        return []
    marks = mark(text, offsets)
    if not len(marks.starts):
        return [Passage(first, last, "")]
    told = outline(text)
    contexts = _contexts(told.sections, count, tokens // _CONTEXT)
    plan = _Plan(text, marks, told, contexts, tokens, overlap)
    passages: list[Passage] = []
    for begin, behind in plan.runs():
        for here, reached in plan.cut(begin, behind):
            start = int(marks.starts[here]) if passages else first
            end = int(marks.starts[reached]) if reached < len(marks.starts) else last
            passages.append(Passage(start, start + len(text[start:end].rstrip()), plan.context(here)[0]))
    return passages


# Of a section: the context of a passage that begins with its heading, and of one that begins behind it; each with
# its tokens.
_Context = tuple[tuple[str, int], tuple[str, int]]


def _contexts(sections: Sequence[Section], count: Count, most: int) -> list[_Context]:
    paths = list(dict.fromkeys(path for one in sections for path in (one.path[:-1], one.path) if path))
    said = list(dict.fromkeys(BETWEEN.join(path[outer:]) for path in paths for outer in range(len(path))))
    sizes = dict(zip(said, count([f"{one}\n" for one in said]), strict=True))

    def fitting(path: tuple[str, ...]) -> tuple[str, int]:
        for outer in range(len(path)):
            context = BETWEEN.join(path[outer:])
            if sizes[context] <= most:
                return context, sizes[context]
        return "", 0

    kept = {path: fitting(path) for path in paths} | {(): ("", 0)}
    return [(kept[one.path[:-1]], kept[one.path]) for one in sections]


class _Plan:
    """Where a text may be cut. Places are numbers of its m tokens that hold more than white space."""

    def __init__(
        self,
        text: str,
        marks: Marks,
        told: Outline,
        contexts: Sequence[_Context],
        tokens: int,
        overlap: int,
    ) -> None:
        self._number, self._clean = marks.number, marks.clean
        self._contexts, self._tokens, self._overlap = contexts, tokens, overlap
        self._sections = told.sections
        self._m = len(marks.starts)
        self._starts = marks.starts
        begins = np.array([one.start for one in told.sections], dtype=np.int64)
        self._section = np.searchsorted(begins, marks.starts, side="right") - 1
        self._begins = np.zeros(self._m, dtype=np.bool_)
        self._begins[1:] = self._section[1:] != self._section[:-1]
        self._kept_until = np.zeros(self._m, dtype=np.int64)
        inside = np.zeros(self._m, dtype=np.bool_)
        large = self._keep(inside, told.code)
        code_lines = [line for start, end in large for line in lines_of(text, start, end)]
        self._keep(inside, [*told.lines, *code_lines])
        free = marks.clean & ~inside
        self._behind_heading = self._at([one.body for one in told.sections[1:]]) & free
        free &= ~self._behind_heading
        blocks = self._at([*told.blocks, *(start for start, _ in code_lines)])
        self._sentences = (marks.sentences | blocks) & free
        self._words = marks.words & free
        self._tiers = (self._begins & free, self._sentences, self._words, free)

    def _at(self, characters: Sequence[int]) -> Flags:
        """The tokens that begin at these characters, or are the first behind them."""
        flags = np.zeros(self._m + 1, dtype=np.bool_)
        flags[np.searchsorted(self._starts, np.array(characters, dtype=np.int64))] = True
        return flags[:-1]

    def _keep(self, inside: Flags, pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Mark what is within those pieces that fit into a passage; the pieces that do not."""
        edges = np.searchsorted(self._starts, np.array(pieces, dtype=np.int64).reshape(-1, 2))
        large: list[tuple[int, int]] = []
        for piece, (begin, behind) in zip(pieces, edges.tolist(), strict=True):
            if begin == behind:
                continue
            n_context = max(size for _, size in self._contexts[self._section[begin]])
            if self._size(begin, behind) > self._tokens - n_context:
                large.append(piece)
                continue
            inside[begin + 1 : behind] = True
            self._kept_until[begin] = max(self._kept_until[begin], behind)
        return large

    def _size(self, begin: int, behind: int) -> int:
        """How many tokens there are from one place up to another, those of white space among them."""
        return int(self._number[behind - 1] - self._number[begin]) + 1

    def context(self, here: int) -> tuple[str, int]:
        """The context of a passage that begins here, and its tokens."""
        at_heading, behind_it = self._contexts[int(self._section[here])]
        return at_heading if here == 0 or self._begins[here] else behind_it

    def runs(self) -> list[tuple[int, int]]:
        """Stretches that no passage crosses the ends of."""
        firsts = np.concatenate([[0], np.flatnonzero(self._begins), [self._m]]).tolist()
        tiny = self._tokens // _TINY
        runs = [0]
        for before, first, behind in zip(firsts, firsts[1:], firsts[2:], strict=False):
            upper, lower = (self._sections[self._section[place]].level for place in (before, first))
            both_tiny = max(self._size(before, first), self._size(first, behind)) <= tiny
            if lower <= upper and not both_tiny:
                runs.append(first)
        return list(zip(runs, [*runs[1:], self._m], strict=True))

    def cut(self, begin: int, behind: int) -> list[tuple[int, int]]:
        """The passages of a run: the place where each begins, and that behind it."""
        spans: list[tuple[int, int]] = []
        here = reached = begin
        while reached < behind:
            reached = self._end(here, reached, behind)
            spans.append((here, reached))
            if reached < behind:
                here = self._restart(here, reached)
        return spans

    def _end(self, here: int, reached: int, behind: int) -> int:
        number, room = self._number, self._tokens - self.context(here)[1]
        limit = int(np.searchsorted(number, number[here] + room))
        if limit >= behind:
            return behind
        half = max(int(np.searchsorted(number, number[here] + room // 2, side="right")), reached + 1)
        for low, high in ((half, limit + 1), (reached + 1, half)):
            for tier in self._tiers:
                found = np.flatnonzero(tier[low:high])
                if len(found):
                    return low + int(found[-1])
        for last_resort in (self._behind_heading, self._clean):
            found = np.flatnonzero(last_resort[reached + 1 : limit + 1])
            if len(found):
                return reached + 1 + int(found[-1])
        found = np.flatnonzero(self._clean[limit + 1 : behind])  # a character of very many tokens
        return limit + 1 + int(found[0]) if len(found) else behind

    def _restart(self, here: int, reached: int) -> int:
        if self._begins[reached]:
            return reached
        number = self._number
        earliest = max(int(np.searchsorted(number, number[reached] - self._overlap)), here + 1)
        middle = int(np.searchsorted(number, number[reached] - self._overlap // 2, side="right"))
        for tier, latest in ((self._sentences, middle), (self._words, reached), (self._tiers[-1], reached)):
            found = np.flatnonzero(tier[earliest:latest])
            if len(found):
                again = earliest + int(found[0])
                kept = int(self._kept_until[reached])
                fits = not kept or self._size(again, kept) <= self._tokens - self.context(again)[1]
                return again if fits else reached
        return reached
