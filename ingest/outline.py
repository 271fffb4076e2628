"""The outline of a Markdown text: its sections under their headings, and what in it is better left in one piece."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_LINE_END = re.compile(r"\r\n|\r|\n")
# What some tools keep about a text stands before it between two lines of dashes, which Markdown takes for a heading.
_FRONT_MATTER = re.compile(
    r"\A---[^\S\r\n]*(?:\r\n|\r|\n)(?:(?s:.*?)[\r\n])?(?:---|\.\.\.)[^\S\r\n]*(?=[\r\n]|\Z)"
)
_CODE = ("fence", "code_block")
_LINED = ("bullet_list_open", "ordered_list_open", "table_open")


@dataclass(frozen=True, slots=True)
class Section:
    """What stands from one heading to the next, whatever their levels.

    `start` is the first character of the heading, `body` the first one behind it; `level` is 1 to 6; `path` names
    the headings above it and then its own. Before the first heading: level 0, no path.
    """

    start: int
    body: int
    level: int
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """The sections of a text in their order, and spans of characters (start, end) in it.

    `code` are blocks of code with their fences, `lines` are headings and each line of a list or table; `blocks` are
    the characters at which a paragraph, list, table, block of code or quotation begins.
    """

    sections: tuple[Section, ...]
    code: tuple[tuple[int, int], ...]
    lines: tuple[tuple[int, int], ...]
    blocks: tuple[int, ...]


def outline(text: str) -> Outline:
    """The outline of a text by CommonMark, with tables; headings within lists and quotations are not sections."""
    front = _FRONT_MATTER.match(text)
    skipped = 0 if front is None else front.end()
    seen = "".join(_LINE_END.findall(text[:skipped])) + text[skipped:]
    tokens = _parser().parse(seen)
    starts = [0, *(match.end() for match in _LINE_END.finditer(text)), len(text)]

    def span(first: int, behind: int) -> tuple[int, int]:
        return starts[min(first, len(starts) - 1)], starts[min(behind, len(starts) - 1)]

    sections = [Section(0, 0, 0, ())]
    sections += _sections(tokens, [span(*token.map) if token.map else (0, 0) for token in tokens])
    code, lines, blocks = [], [(one.start, one.body) for one in sections[1:]], []
    for token in tokens:
        if token.map is None or token.nesting < 0:
            continue
        blocks.append(span(*token.map)[0])
        if token.type in _CODE:
            code.append(span(*token.map))
        elif token.type in _LINED:
            lines += [
                one for number in range(*token.map) if text[slice(*(one := span(number, number + 1)))].strip()
            ]
    return Outline(tuple(sections), tuple(code), tuple(sorted(set(lines))), tuple(sorted(set(blocks))))


def lines_of(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The lines of text[start:end], as (start, end) in the whole text."""
    starts = [start, *(match.end() for match in _LINE_END.finditer(text, start, end))]
    return [(one, behind) for one, behind in zip(starts, [*starts[1:], end], strict=True) if one < behind]


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["normalize", "block"])  # what stands within a line is of no interest here
    return parser


def _sections(tokens: Sequence[Token], spans: Sequence[tuple[int, int]]) -> Iterator[Section]:
    above: list[tuple[int, str]] = []
    for number, token in enumerate(tokens):
        if token.type != "heading_open" or token.level:
            continue
        level = int(token.tag[1:])
        above = [one for one in above if one[0] < level]
        words = " ".join(tokens[number + 1].content.split())
        if words:
            above.append((level, words))
        yield Section(*spans[number], level, tuple(words for _, words in above))
