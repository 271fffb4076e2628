"""Cuts a text into words, the same way when vectors are learned, when texts are encoded and when they are asked for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

# Letters and digits, with the apostrophes inside a word. Other marks are no words.
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SEAMS = re.compile(r"['’_]+")
_MOST_REMEMBERED = 1_000_000

UNKNOWN = -1


def words_of(text: str) -> list[str]:
    """The words of a text, as they are written; letters and their accents are put together (NFC)."""
    return _WORD.findall(text if text.isascii() else unicodedata.normalize("NFC", text))


def spans_of(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, in characters."""
    return [found.span() for found in _WORD.finditer(text)]


class Forms(dict[str, int]):
    """The row of a written form in a vocabulary, found once and remembered.

    A form that is not in the vocabulary is looked for in lower case, then by the longest known piece between
    apostrophes and underscores (*john's* as *john*). -1 where none is known.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def __missing__(self, form: str) -> int:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        row = self[form] = self._found(form)
        return row

    def _found(self, form: str) -> int:
        vocabulary = self._vocabulary
        for written in (form, form.lower()):
            if written in vocabulary:
                return vocabulary[written]
        for piece in sorted(_SEAMS.split(form), key=len, reverse=True):
            for written in (piece, piece.lower()):
                if written in vocabulary:
                    return vocabulary[written]
        return UNKNOWN
