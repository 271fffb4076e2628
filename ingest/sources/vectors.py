"""Vectors made elsewhere: numpy files and JSON lines."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ingest.sources.contract import Rejected
from search.encoders.word_files import read_words
from search.errors import SourceError
from search.types import Json
from search.vectors import Vectors


@dataclass(frozen=True, slots=True)
class VectorFile:
    """Rows of a file: `matrix` (n, dim) float32, an id and, where there are any, metadata for each."""

    ids: list[str]
    matrix: Vectors
    metadata: list[Mapping[str, Json] | None] | None
    rejected: tuple[Rejected, ...] = ()


def read_vectors(path: Path) -> VectorFile:
    """Read .npz (arrays `ids` and `vectors`), .npy (ids are row numbers), .jsonl (id, vector, other fields), or words.

    Words are in word2vec text or binary, or GloVe text, these also gzipped: each word is an id.

    In .jsonl a line that cannot be used is rejected; the width is that of the first good line.

    Raises:
        SourceError: the file is missing, is none of these, or holds no vector.
    """
    if not path.is_file():
        raise SourceError("there is no such file; check the path", str(path))
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _npz(path)
    if suffix == ".npy":
        matrix = _rows(_array(path), path)
        return VectorFile([str(row) for row in range(len(matrix))], matrix, None)
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl(path)
    if suffix in (".txt", ".vec", ".bin", ".gz", ".safetensors"):
        return _words(path)
    raise SourceError(
        f"'{suffix}' is not a vector file; give .npz, .npy, .jsonl, or word vectors (.txt, .vec, .bin, .gz)",
        str(path),
    )


def _words(path: Path) -> VectorFile:
    """A file of word vectors: each word is an id; its count, where the file has it, is metadata."""
    table = read_words(path)
    there = np.abs(table.vectors).max(axis=1) > 0
    if not there.any():
        raise SourceError("all of its vectors are zeros; give a file with some that are not", str(path))
    rejected = [
        Rejected(str(path), "the vector is all zeros", id=table.words[row]) for row in np.flatnonzero(~there)
    ]
    if table.repeated:
        rejected.append(Rejected(str(path), f"{table.repeated} later rows are of words that stood before"))
    metadata: list[Mapping[str, Json] | None] | None = None
    if table.counts is not None:
        metadata = [{"count": int(count)} for count in table.counts[there]]
    ids = [word for word, kept in zip(table.words, there.tolist(), strict=True) if kept]
    return VectorFile(ids, table.vectors[there], metadata, tuple(rejected))


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"it is not a numpy file ({error}); write it with numpy.save", str(path)) from None


def _rows(array: Any, path: Path) -> Vectors:
    if array.ndim != 2 or not len(array) or array.dtype.kind not in "fiu":
        shape = "x".join(str(size) for size in array.shape)
        raise SourceError(
            f"it holds {shape} of {array.dtype}, not rows of numbers; give a matrix (n, dim)", str(path)
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _npz(path: Path) -> VectorFile:
    with _array(path) as arrays:
        if "vectors" not in arrays or "ids" not in arrays:
            there = ", ".join(arrays.files) or "nothing"
            raise SourceError(f"it holds {there}; it needs the arrays 'ids' and 'vectors'", str(path))
        try:
            ids, matrix = arrays["ids"], _rows(arrays["vectors"], path)
        except ValueError as error:  # an array of Python objects would need pickle
            raise SourceError(
                f"an array cannot be read ({error}); save ids as strings or numbers", str(path)
            ) from None
    if ids.shape != (len(matrix),):
        raise SourceError(f"it holds {ids.size} ids for {len(matrix)} vectors; give one for each", str(path))
    return VectorFile([str(id) for id in ids.tolist()], matrix, None)


def _jsonl(path: Path) -> VectorFile:
    ids: list[str] = []
    rows: list[list[float]] = []
    metadata: list[Mapping[str, Json] | None] = []
    rejected: list[Rejected] = []
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                id, row, rest = _line(line, len(rows[0]) if rows else None)
                if id in seen:
                    raise SourceError(f"duplicate id '{id}': it stands already in line {seen[id]}")
            except SourceError as error:
                rejected.append(Rejected(str(path), str(error), line=number))
                continue
            seen[id] = number
            ids.append(id)
            rows.append(row)
            metadata.append(rest)
    if not rows:
        why = f"; the first line: {rejected[0].reason}" if rejected else ""
        raise SourceError(f"no line of it holds an id and a vector{why}", str(path))
    return VectorFile(ids, np.asarray(rows, dtype=np.float32), metadata, tuple(rejected))


def _line(line: str, dim: int | None) -> tuple[str, list[float], dict[str, Json]]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise SourceError(f"not JSON ({error})") from None
    if not isinstance(data, dict) or "id" not in data or "vector" not in data:
        raise SourceError("not an object with the fields id and vector")
    id = data.pop("id")
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise SourceError("the id is neither a string nor a whole number")
    try:
        row = np.asarray(data.pop("vector"), dtype=np.float32)
    except (TypeError, ValueError):
        raise SourceError("the vector is not a list of numbers") from None
    if row.ndim != 1 or not len(row) or not np.isfinite(row).all() or not np.any(row):
        raise SourceError("the vector is empty, all zeros, or holds NaN or infinity")
    if dim is not None and len(row) != dim:
        raise SourceError(f"the vector has {len(row)} numbers where the first has {dim}")
    return str(id), row.tolist(), data
