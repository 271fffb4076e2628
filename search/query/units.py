"""What a query looks for in the texts: words, "phrases", beginnings of words*, and pairs of unspaced characters."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from search.catalog import full_text

MOST_WORDS = 256  # of a query are looked for: as many as most text models read

_PIECES = re.compile(r'"([^"]*)"|([^\W_]+)(\*?)')
_RUN = re.compile(f"[{full_text.UNSPACED}]+|[^{full_text.UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is looked for as one: a word, the words of a phrase, or the beginning of a word."""

    shown: str  # as it is told to the user
    words: str  # as FTS5 splits them
    prefix: bool = False
    phrase: bool = False

    @property
    def is_word(self) -> bool:
        """Whether it is one word, which may stand in other forms too."""
        return not self.phrase and not self.prefix and " " not in self.words

    @property
    def expression(self) -> str:
        """For FTS5; what stands in quotes is never read as its syntax, and `words` holds no quotes."""
        return f'"{self.words}" *' if self.prefix else f'"{self.words}"'


def units(query: str) -> list[Unit]:
    """What a query looks for: its words, "phrases" and beginnings of words*, each once, the first 256 of them.

    Of scripts without blanks between words each two neighbouring characters are looked for.
    """
    found: dict[tuple[str, bool, bool], Unit] = {}
    for match in _PIECES.finditer(unicodedata.normalize("NFC", query.replace("\0", " "))):
        phrase, word, star = match.groups()
        if phrase is not None:
            words = " ".join(re.findall(r"[^\W_]+", full_text.spaced(phrase)))
            made = [Unit(f'"{phrase}"', words, phrase=True)] if words else []
        else:
            made = _of_word(word, prefix=bool(star))
        for unit in made:
            found.setdefault((unit.words.casefold(), unit.prefix, unit.phrase), unit)
        if len(found) >= MOST_WORDS:
            break
    return list(found.values())[:MOST_WORDS]


def _of_word(word: str, *, prefix: bool) -> list[Unit]:
    made: list[Unit] = []
    for run in _RUN.findall(word):
        if full_text.spaced(run) == run:
            made.append(Unit(run + "*" * prefix, run, prefix))
        elif len(run) == 1:
            made.append(Unit(run, run))
        else:
            made += [Unit(pair, " ".join(pair)) for pair in map("".join, pairwise(run))]
    return made


def meant(query: str) -> str:
    """The query as a text model should read it: without the quotes of phrases and the stars of beginnings."""
    return re.sub(r'(?<=\w)\*|"', " ", query).strip() or query
