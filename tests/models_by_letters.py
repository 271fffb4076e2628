"""Text models that are known by name and load in no time, for tests that change the model of a space."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import Item, Role, TextModel, Vectors
from search.errors import ModelUnavailable
from search.types import EncoderSpec, Modality
from search.vectors import unit_rows

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
# How many letters each sees, from the front of the alphabet or from its end.
SEEN = {"all": 26, "few": 3, "back": -26}
_WORD = re.compile(r"\S+")


class Letters(TextModel):
    """(n, 27): counts of the letters it sees, and a one, scaled to length 1; a token is a word."""

    max_tokens = 1000

    def __init__(self, name: str) -> None:
        if name not in SEEN:
            raise ModelUnavailable(f"there is no model '{name}'; name another")
        self._seen = SEEN[name]
        self.spec = EncoderSpec("letters", name, Modality.TEXT, 27, ("text",), f"weights of {name}")
        self.calls: list[str] = []

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        self.calls += [str(item) for item in items]
        letters = ALPHABET[: self._seen] if self._seen > 0 else ALPHABET[::-1]
        rows = np.zeros((len(items), 27), np.float32)
        for row, item in zip(rows, items, strict=True):
            row[: len(letters)] = [str(item).lower().count(letter) for letter in letters]
            row[26] = 0.1
        return unit_rows(rows)

    def token_offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [
            np.array([match.span() for match in _WORD.finditer(text)], np.int32).reshape(-1, 2)
            for text in texts
        ]


def named(model: str, *_: object, **given: object) -> Letters:
    """In place of `load_named`."""
    return Letters(model)


def of_spec(spec: EncoderSpec, **given: object) -> Letters:
    """In place of `load_spec`."""
    return Letters(spec.model)
