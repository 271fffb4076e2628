"""Queries made from what is stored: a sentence of a text, and texts and pictures a little spoilt."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*(?=\S)|\n+")
_SHORTEST, _LONGEST = 20, 300  # characters of a sentence worth asking by
_ONE_IN = 8  # words of a text that are dropped, and as many that are misspelt
_KEPT = 0.85  # of a picture's sides when it is cropped


def drawn(seed: int, id: str, what: str) -> np.random.Generator:
    """Random numbers that depend on the seed, the record and the use alone: a larger collection changes none."""
    digest = hashlib.blake2b(f"{seed}\0{what}\0{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def sampled(ids: list[str], n: int, seed: int) -> list[str]:
    """`n` of the ids, those whose hashes are least: most of them are the same after the collection has grown."""

    def place(id: str) -> bytes:
        return hashlib.blake2b(f"{seed}\0{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()

    return sorted(ids, key=lambda one: (place(one), one))[:n]


def sentence(text: str, rng: np.random.Generator) -> str | None:
    """A sentence of the text, not its first (which is often a title) where there are others; None for no words."""
    whole = text.strip()
    if not any(letter.isalnum() for letter in whole):
        return None
    pieces = [piece.strip() for piece in _SENTENCE.split(whole)]
    long = [piece for piece in pieces if len(piece) >= _SHORTEST and any(c.isalnum() for c in piece)]
    if not long:
        return whole[:_LONGEST]
    chosen = long[int(rng.integers(1, len(long)))] if len(long) > 1 else long[0]
    return chosen[:_LONGEST]


def misspelt(text: str, rng: np.random.Generator) -> str:
    """The text with about one word in eight dropped and one in eight with two letters swapped; at least one of each.

    Of a single word only letters are swapped.
    """
    words = text.split()
    n = -(-len(words) // _ONE_IN)
    for at in rng.permutation([i for i, word in enumerate(words) if len(word) > 2])[:n].tolist():
        word = words[at]
        letter = int(rng.integers(0, len(word) - 1))
        words[at] = word[:letter] + word[letter + 1] + word[letter] + word[letter + 2 :]
    if len(words) > 1:
        dropped = set(rng.permutation(len(words))[: min(n, len(words) - 1)].tolist())
        words = [word for at, word in enumerate(words) if at not in dropped]
    return " ".join(words)


def cropped(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture mirrored, and cropped to 85% of its sides somewhere."""
    from PIL import ImageOps

    width, height = (max(1, round(side * _KEPT)) for side in picture.size)
    left = int(rng.integers(0, picture.width - width + 1))
    top = int(rng.integers(0, picture.height - height + 1))
    return ImageOps.mirror(picture.crop((left, top, left + width, top + height)))
