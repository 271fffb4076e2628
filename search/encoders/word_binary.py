"""Reads word2vec's binary format by a memory map: each word up to a space, then its float32 numbers."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from search.encoders.word_table import WordTable
from search.errors import SourceError

_LONGEST_WORD = 4096  # bytes
_SPACE, _LINE_END = b" ", 0x0A


def read_binary(path: Path, n_words: int, dim: int) -> WordTable:
    """The words and vectors of a binary word2vec file whose first line said `n_words` and `dim`.

    Raises:
        SourceError: it is shorter than it says, has a word without an end, or numbers that are not finite.
    """
    place = str(path)
    width = 4 * dim
    with path.open("rb") as file:
        begin = len(file.readline(256))
        size = path.stat().st_size
        # At least a letter, a space and the numbers: what is announced must fit before room is made for it.
        if begin + n_words * (width + 1) > size:
            raise SourceError(
                f"it announces {n_words:,} words of {dim} numbers and is too short for them; get the file again",
                place,
            )
        vectors = np.empty((n_words, dim), np.float32)
        words: list[str] = []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            here = begin
            for row in range(n_words):
                while here < size and data[here] == _LINE_END:  # some writers end each row with one
                    here += 1
                space = data.find(_SPACE, here, here + _LONGEST_WORD)
                if space <= here or space + 1 + width > size:
                    raise SourceError(
                        f"word {row + 1:,} of {n_words:,} is damaged or cut off; get the file again", place
                    )
                words.append(data[here:space].decode("utf-8", "replace"))
                here = space + 1 + width
                vectors[row] = np.frombuffer(data[space + 1 : here], "<f4")
            if data[here : here + 2].strip():
                raise SourceError(
                    f"more stands behind the {n_words:,} words that it announces; get the file again", place
                )
    return WordTable.made(words, vectors, place=place)
