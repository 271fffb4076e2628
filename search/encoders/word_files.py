"""Reads files of word vectors: word2vec (text and binary), GloVe, gzipped texts of both, npz and safetensors.

Formats are told by what is in a file, not by its name. Nothing in it is executed: pickles are refused.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from search.encoders.word_binary import read_binary
from search.encoders.word_table import MOST_NUMBERS, WordTable
from search.errors import SourceError

_LONGEST_LINE = 1 << 21  # bytes; 65,536 numbers of 20 characters are well below
_BLOCK = 1 << 22  # bytes of text parsed together
_LOOKED_AT = 1 << 16  # bytes by which the format is told
_FIRST_LINES = 20
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_MOST_EXPANSION = 100  # numbers in text shrink to a third; what shrinks to a hundredth is a bomb
_EXPANSION_FROM = 1 << 26


class WordFormat(StrEnum):
    """How the words and vectors lie in a file."""

    TEXT = "word2vec text"
    BINARY = "word2vec binary"
    GLOVE = "GloVe text"
    NPZ = "npz"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of a file, its width, and for word2vec how many words its first line announces."""

    format: WordFormat
    dim: int
    announced: int | None = None


def read_words(path: Path) -> WordTable:
    """The words and vectors of a file, in its order; a word that stands twice keeps its first vector.

    word2vec text begins with a line "words dim", GloVe text with the first word; both may be gzipped. An npz
    holds the arrays `words` and `vectors` (and `counts`), a safetensors file what `WordTable.to_bytes` wrote.

    Raises:
        SourceError: the file is missing, is none of these, or is damaged; with the line where it is text.
    """
    layout = layout_of(path)
    if layout.format is WordFormat.NPZ:
        return _npz(path)
    if layout.format is WordFormat.SAFETENSORS:
        return WordTable.from_bytes(_bytes(path), str(path))
    if layout.format is WordFormat.BINARY:
        return read_binary(path, cast("int", layout.announced), layout.dim)
    return _text(path, layout)


def is_word_file(path: Path) -> bool:
    """Whether this is a file whose beginning looks like word vectors (or like a pickle of them)."""
    try:
        layout_of(path)
    except _Pickled:
        return True
    except SourceError:
        return False
    return True


class _Pickled(SourceError):
    """A pickle, which nobody should open who did not write it."""


def layout_of(path: Path) -> Layout:
    """The format of a file of word vectors, told by its first bytes.

    Raises:
        SourceError: it is missing or none of those that can be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
        if head.startswith(_GZIP):
            with gzip.open(path) as inside:
                return _layout(inside.read(_LOOKED_AT), str(path), packed=True)
    except FileNotFoundError:
        raise SourceError("there is no such file; check the path", str(path)) from None
    except (OSError, EOFError) as error:
        raise SourceError(f"it cannot be read ({error}); get the file again", str(path)) from None
    return _layout(head, str(path), packed=False)


def _layout(head: bytes, place: str, *, packed: bool) -> Layout:
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise _Pickled(
            "it is a Python pickle (gensim's own .kv or .model), which can run code; write it once with "
            "KeyedVectors.save_word2vec_format(file, binary=True) and give that file",
            place,
        )
    if head.startswith(_ZIP) and not packed:
        return Layout(WordFormat.NPZ, 0)
    if head[8:9] == b"{" and len(head) > 16 and int.from_bytes(head[:8], "little") < 1 << 32 and not packed:
        return Layout(WordFormat.SAFETENSORS, 0)
    lines = head.split(b"\n")
    first = lines[0].split()
    if len(first) == 2 and first[0].isdigit() and first[1].isdigit():
        words, dim = int(first[0]), int(first[1])
        if not 1 <= dim <= MOST_NUMBERS or words < 1:
            raise SourceError(
                f"its first line announces {words} words of {dim} numbers; give a file with some", place, 1
            )
        if len(lines) < 2 or not _is_row(lines[1], dim):
            if packed:
                raise SourceError("it is gzipped word2vec binary; unpack it with gunzip first", place)
            return Layout(WordFormat.BINARY, dim, words)
        return Layout(WordFormat.TEXT, dim, words)
    # The last line may have been cut by our own reading; a single one counts whole.
    whole = (lines[:-1] or lines)[:_FIRST_LINES]
    widths = [len(line.split(b" ")) - 1 for line in (one.rstrip(b" \t\r") for one in whole) if line]
    # A word may itself hold spaces, or a line be damaged: the width is what most of the first lines say.
    dim = max(set(widths), key=lambda width: (widths.count(width), -width)) if widths else 0
    if dim < 2 or dim > MOST_NUMBERS or not any(_is_row(line, dim) for line in whole):
        raise SourceError(
            "it is not a file of word vectors; give word2vec (text or binary), GloVe, npz or safetensors",
            place,
        )
    return Layout(WordFormat.GLOVE, dim)


def _is_row(line: bytes, dim: int) -> bool:
    fields = line.rstrip(b" \t\r").rsplit(b" ", dim)
    if len(fields) != dim + 1:
        return False
    try:
        [float(field) for field in fields[1:]]
    except ValueError:
        return False
    return True


def _text(path: Path, layout: Layout) -> WordTable:
    """The rows of a text file, parsed a few megabytes at a time."""
    words: list[str] = []
    blocks: list[NDArray[np.float32]] = []
    header = layout.format is WordFormat.TEXT
    line = 1 + header
    with _opened(path) as file:
        if header:
            file.readline(_LONGEST_LINE)
        for lines in _blocks(file, path):
            some, rows = _parsed(lines, layout.dim, str(path), line)
            words += some
            blocks.append(rows)
            line += len(lines)
    if layout.announced is not None and layout.announced != len(words):
        raise SourceError(
            f"it holds {len(words):,} words where its first line announces {layout.announced:,}; get it again",
            str(path),
        )
    vectors = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
    return WordTable.made(words, vectors, place=str(path))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked where it is gzipped; what the reading raises is told as a SourceError."""
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            yield cast("BinaryIO", file)
    except (OSError, EOFError) as error:
        raise SourceError(f"it cannot be read to its end ({error}); get the file again", str(path)) from None


def _blocks(file: BinaryIO, path: Path) -> Iterator[list[bytes]]:
    """Whole lines, a few megabytes at a time, without their ends; empty ones at the very end are left out."""
    size = path.stat().st_size
    read = 0
    rest = b""
    while True:
        block = file.read(_BLOCK)
        read += len(block)
        if read > max(_EXPANSION_FROM, size * _MOST_EXPANSION):
            raise SourceError(
                f"it unpacks to more than {_MOST_EXPANSION} times its size; get another copy", str(path)
            )
        lines = (rest + block).split(b"\n")
        rest = lines.pop() if block else b""
        if len(rest) > _LONGEST_LINE:
            raise SourceError(
                f"a line of it is longer than {_LONGEST_LINE >> 20} MiB; get the file again", str(path)
            )
        if not block:
            while lines and not lines[-1].strip():
                lines.pop()
        if lines:
            yield lines
        if not block:
            return


def _parsed(lines: list[bytes], dim: int, place: str, first: int) -> tuple[list[str], NDArray[np.float32]]:
    """Words and vectors of lines, all at once; only where something is wrong are they looked at one by one."""
    stripped = [line.rstrip(b" \t\r") for line in lines]
    split = [line.split(b" ", 1) for line in stripped]
    numbers = b" ".join([fields[-1] for fields in split])
    if all(len(fields) == 2 and fields[0] for fields in split) and (
        numbers.count(b" ") + 1 == dim * len(lines)
    ):
        rows = _floats(numbers)
        if rows is not None and len(rows) == dim * len(lines) and np.isfinite(rows).all():
            return [fields[0].decode("utf-8", "replace") for fields in split], rows.reshape(-1, dim)
    words: list[str] = []
    vectors = np.empty((len(lines), dim), np.float32)
    for at, line in enumerate(stripped):
        fields = line.rsplit(b" ", dim)
        if len(fields) != dim + 1 or not fields[0].strip():
            n = len(line.split()) - 1
            raise SourceError(
                f"the line holds {max(n, 0)} numbers where the file has {dim}; mend or remove the line",
                place,
                first + at,
            )
        row = _floats(b" ".join(fields[1:]))
        if row is None or len(row) != dim:
            raise SourceError(
                "what follows the word are not numbers; mend or remove the line", place, first + at
            )
        if not np.isfinite(row).all():
            raise SourceError("the vector holds NaN or infinity; mend or remove the line", place, first + at)
        words.append(fields[0].decode("utf-8", "replace"))
        vectors[at] = row
    return words, vectors


def _floats(numbers: bytes) -> NDArray[np.float32] | None:
    """Numbers between spaces, or None if some are none."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older numpy warns of what newer numpy refuses
            return np.fromstring(numbers.decode("ascii"), dtype=np.float32, sep=" ")
    except (ValueError, DeprecationWarning):
        return None


def _npz(path: Path) -> WordTable:
    place = str(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "words" not in arrays or "vectors" not in arrays:
                there = ", ".join(arrays.files) or "nothing"
                raise SourceError(f"it holds {there}; it needs the arrays 'words' and 'vectors'", place)
            words, vectors = arrays["words"], arrays["vectors"]
            counts = arrays.get("counts")
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"it is not a readable npz ({error}); write it with numpy.savez", place) from None
    if words.ndim != 1 or words.dtype.kind != "U" or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise SourceError("'words' must be strings (n,) and 'vectors' numbers (n, dim); save it so", place)
    return WordTable.made(words.tolist(), vectors.astype(np.float32), counts, place=place)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"it cannot be read ({error.strerror}); check its rights", str(path)) from None
