"""The JSON lines of an export: one record a line; with vectors, the first line also describes the spaces.

A line has id, kind, uri, text and metadata; with vectors also `vectors`, by space a list with one row for each part
of the record. Beside it may stand `parts`, by space, where they are not whole records (start and end, or box with
label and score), and `sources`, by space: what the vectors were made from. The first line has `nearkin` too: the
spaces, and how many records there are, so that a file that was cut off is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.catalog.part_writes import Provenance
from search.exchange.content import Copy, Described, Head, Held, Some, read_object
from search.exchange.gather import Gathered
from search.types import WHOLE, Json, Part, Record
from search.vectors import Vectors

_FIELDS = ("id", "kind", "uri", "text", "metadata")
_BESIDE = ("vectors", "parts", "sources", "nearkin")
_AT_ONCE = 4096  # lines, or so many bytes of them
_MOST_BYTES = 32 << 20


# ---- writing ---------------------------------------------------------------------------------------------------


def write(gathered: Gathered, path: Path, *, vectors: bool) -> None:
    """Write one JSON object a line: the record and, if asked, its vectors by space."""
    first = vectors
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for some in gathered:
            for line in _lines(some, vectors=vectors):
                if first:
                    line["nearkin"] = gathered.head.to_json()
                    first = False
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _lines(some: Some, *, vectors: bool) -> Iterator[dict[str, Json]]:
    begins = {name: np.concatenate([[0], np.cumsum(held.counts)]) for name, held in some.held.items()}
    for number, record in enumerate(some.records):
        line: dict[str, Json] = {
            "id": record.id,
            "kind": record.kind,
            "uri": record.uri,
            "text": record.text,
            "metadata": dict(record.metadata or {}),
        }
        rows: dict[str, Json] = {}
        parts: dict[str, Json] = {}
        sources: dict[str, Json] = {}
        for name, held in some.held.items():
            span = slice(int(begins[name][number]), int(begins[name][number + 1]))
            if span.start < span.stop:
                rows[name] = held.vectors[span].tolist()
                if any(part != WHOLE for part in held.parts[span]):
                    parts[name] = [part.to_json() for part in held.parts[span]]
            source = held.sources[number]
            if source is not None:
                sources[name] = {"origin": source.origin, "digest": source.digest.hex()}
        if vectors:
            line["vectors"] = rows
            line |= {name: told for name, told in (("parts", parts), ("sources", sources)) if told}
        yield line


# ---- reading ---------------------------------------------------------------------------------------------------


class LinesCopy(Copy):
    """A file of JSON lines that `write` made, or another with records alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._head: Head | None = None
        for _, _, data in self._objects():
            if "nearkin" in data:
                self._head = Head.from_json(data["nearkin"], path)
            break
        self._spaces = {} if self._head is None else {space.name: space for space in self._head.spaces}

    @property
    def head(self) -> Head | None:
        return self._head

    def _objects(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """The number of each line, its length in bytes, and the object that it holds."""
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        yield number, len(line), read_object(line.decode("utf-8"))
                    except ValueError as error:
                        raise self.fault(
                            f"it is not a JSON object ({error}); mend the line", number
                        ) from None
        except OSError as error:
            raise self.fault(f"it cannot be read ({error.strerror or error}); check the path") from None

    def __iter__(self) -> Iterator[tuple[Sequence[int], Some]]:
        waiting: list[tuple[int, _Line]] = []
        length = 0
        for number, n_bytes, data in self._objects():
            try:
                waiting.append((number, self._line(data)))
            except ValueError as error:
                raise self.fault(f"{error}; mend the line", number) from None
            length += n_bytes
            if len(waiting) == _AT_ONCE or length > _MOST_BYTES:
                yield self._some(waiting)
                waiting, length = [], 0
        if waiting:
            yield self._some(waiting)

    def _line(self, data: dict[str, Any]) -> _Line:
        """The record and what it has by space; a ValueError says what is wrong with it."""
        unknown = set(data) - {*_FIELDS, *_BESIDE}
        if unknown:
            raise ValueError(
                f"the field '{min(unknown)}' is unknown; fields of your own belong into metadata"
            )
        if "id" not in data:
            raise ValueError("it has no id")
        vectors, parts, sources = (_by_space(data, name) for name in ("vectors", "parts", "sources"))
        undescribed = {*vectors, *parts, *sources} - set(self._spaces)
        if undescribed:
            raise ValueError(
                f"the space '{min(undescribed)}' is not described in the first line, as in an export with vectors"
            )
        rows = {name: _rows(given, self._spaces[name]) for name, given in vectors.items()}
        pieces = {name: _parts(given) for name, given in parts.items()}
        for name, given in pieces.items():
            if len(given) != len(rows.get(name, ())):
                raise ValueError(f"it has {len(given)} parts for other vectors in space '{name}'")
        return _Line(
            Record(data["id"], *(data.get(name) for name in _FIELDS[1:])),
            rows,
            pieces,
            {name: _source(given) for name, given in sources.items()},
        )

    def _some(self, lines: Sequence[tuple[int, _Line]]) -> tuple[Sequence[int], Some]:
        held = {}
        for name, space in self._spaces.items():
            empty = np.empty((0, space.encoder.dim), np.float32)
            rows = [line.vectors.get(name, empty) for _, line in lines]
            held[name] = Held(
                np.array([len(some) for some in rows], dtype=np.int64),
                [
                    part
                    for (_, line), some in zip(lines, rows, strict=True)
                    for part in line.parts.get(name, [WHOLE] * len(some))
                ],
                np.concatenate(rows),
                [line.sources.get(name) for _, line in lines],
            )
        return [number for number, _ in lines], Some([line.record for _, line in lines], held)


class _Line:
    """A record, and its vectors, parts and source in each space."""

    __slots__ = ("parts", "record", "sources", "vectors")

    def __init__(
        self,
        record: Record,
        vectors: Mapping[str, Vectors],
        parts: Mapping[str, Sequence[Part]],
        sources: Mapping[str, Provenance],
    ) -> None:
        self.record = record
        self.vectors = vectors
        self.parts = parts
        self.sources = sources


def _by_space(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    given = data.get(name, {})
    if not isinstance(given, dict):
        raise ValueError(f"its {name} are not an object with a field for each space")
    return given


def _rows(given: Any, space: Described) -> Vectors:
    dim = space.encoder.dim
    if given == []:
        return np.empty((0, dim), np.float32)
    try:
        rows = np.asarray(given if isinstance(given, list) else [])
    except ValueError:  # rows of several lengths
        rows = np.empty(0)
    if rows.ndim != 2 or rows.shape[1] != dim or rows.dtype.kind not in "fiu":
        raise ValueError(f"its vectors in space '{space.name}' are not rows of {dim} numbers")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return rows.astype(np.float32)


def _parts(given: Any) -> list[Part]:
    if not isinstance(given, list):
        raise ValueError("its parts are not lists")
    parts = []
    for one in given:
        if not isinstance(one, dict) or set(one) - {"start", "end", "box", "label", "score"}:
            raise ValueError("a part is not an object with start and end, or box")
        start, end, box = one.get("start"), one.get("end"), one.get("box")
        if any(number is not None and type(number) is not int for number in (start, end)):
            raise ValueError("a part's start or end is not a whole number")
        if box is not None and not (
            isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box)
        ):
            raise ValueError("a part's box is not four numbers")
        label, score = one.get("label"), one.get("score")
        if label is not None and not isinstance(label, str):
            raise ValueError("a part's label is not a string")
        if score is not None and type(score) not in (int, float):
            raise ValueError("a part's score is not a number")
        region = None if box is None else (box[0], box[1], box[2], box[3])
        parts.append(Part(start, end, region, label, None if score is None else float(score)))
    return parts


def _source(given: Any) -> Provenance:
    try:
        origin, digest = given["origin"], bytes.fromhex(given["digest"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("a source has no origin and hexadecimal digest") from None
    if not isinstance(origin, str):
        raise ValueError("a source's origin is not a string")
    return Provenance(digest, origin)
