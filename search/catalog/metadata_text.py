"""Records on their way into the catalog and out of it: their fields checked, their metadata as JSON text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from search.errors import QueryError
from search.types import Json, Record

_FIELDS = {"id", "kind", "uri", "text", "metadata"}  # of a record
_DEEPEST = 100  # levels of metadata: far from the recursion limits of those who will read them
_LARGEST = 1 << 63  # whole numbers from here on do not fit the 64 bits that orjson reads
# In front of metadata with such numbers, so that `decoded` gives them to the slower reader that keeps them whole.
_SLOWLY = " "


@dataclass(slots=True)
class FieldNames:
    """The metadata fields already in the catalog, so that only new names are written."""

    known: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)  # written by the transaction in progress

    def settle(self, *, committed: bool) -> None:
        """The transaction is over: what it wrote is known, or is not there."""
        if committed:
            self.known |= self.pending
        self.pending.clear()

    def new_in(self, names: set[str]) -> set[str]:
        """Those of the names that are not yet known."""
        return names - self.known - self.pending


def _names(metadata: Mapping[str, Json], prefix: str = "") -> Iterator[str]:
    for name, value in metadata.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{name}.")


def record_of(given: Record | Mapping[str, Any]) -> Record:
    """A record as given by the user, checked for its fields' names.

    Raises:
        QueryError: it is no record and no mapping with the fields of one.
    """
    if isinstance(given, Record):
        return given
    if type(given) is not dict and not isinstance(given, Mapping):
        raise QueryError(f"a record is a {type(given).__name__}; give a Record or a mapping with its fields")
    if not given.keys() <= _FIELDS or "id" not in given:
        unknown = set(given) - _FIELDS
        what = f"has the unknown field {min(unknown, key=str)!r}" if unknown else "has no id"
        raise QueryError(f"a record {what}; its fields are id, kind, uri, text and metadata (for all else)")
    return Record(**given)


def encoded(record: Record, names: set[str] | None = None) -> str | None:
    """The record's metadata as JSON text, or None where it says nothing.

    Args:
        record: all its fields are checked.
        names: the dotted names of its metadata fields are added to these.

    Raises:
        QueryError: the id is empty or not a string, a field has the wrong type, or the metadata are not JSON.
    """
    id, kind, uri, text = record.id, record.kind, record.uri, record.text
    metadata: Any = record.metadata
    if type(id) is not str or not id or "\0" in id:
        _check_id(id)
    for name, value in (("kind", kind), ("uri", uri), ("text", text)):
        if value is not None and not isinstance(value, str):
            raise QueryError(
                f"record '{id}': {name} must be a string, not {type(value).__name__}; convert it"
            )
    if metadata is not None and type(metadata) is not dict and not isinstance(metadata, Mapping):
        what = type(metadata).__name__
        raise QueryError(f"record '{id}': metadata must be a JSON object, not {what}; give a dict")
    try:
        for value in (id, kind, uri, text):
            if value is not None and not value.isascii():
                value.encode("utf-8")
        if metadata is None:
            return None
        said = _quickly(metadata)
        if said is None:
            said = _slowly(metadata)
            if names is not None:
                names.update(_names(metadata))
        elif names is not None:
            names.update(metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise QueryError(f"record {id!r}: cannot be stored ({error}); use plain JSON values") from None
    return said


def _check_id(id: object) -> None:
    if not isinstance(id, str) or not id:
        raise QueryError(f"a record's id must be a string with at least one character, not {id!r}; set it")
    if "\0" in id:  # SQLite's JSON, by which ids are looked up, ends a string there
        raise QueryError(f"the id {id!r} holds a NUL character; leave it out")


def decoded(text: str) -> dict[str, Json]:
    """The metadata that `encoded` wrote."""
    found: dict[str, Json] = json.loads(text) if text.startswith(_SLOWLY) else orjson.loads(text)
    return found


def _quickly(metadata: Mapping[str, Json]) -> str | None:
    """The text by orjson, where it writes exactly what the standard library would: it is laxer, silently; else None."""
    if type(metadata) is not dict:
        return None
    for value in metadata.values():
        kind = type(value)
        if kind is str or kind is bool or value is None:
            continue
        if kind is int and -_LARGEST <= value < _LARGEST:
            continue
        if kind is float and math.isfinite(value):
            continue
        return None
    try:
        return orjson.dumps(metadata).decode()
    except TypeError:  # a key that is no plain string
        return None


def _slowly(metadata: Mapping[str, Json]) -> str:
    long_numbers = _check_levels(metadata)
    said = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    said.encode("utf-8")
    return _SLOWLY + said if long_numbers else said


def _check_levels(metadata: Mapping[str, Json]) -> bool:
    """Refuse keys that JSON would turn into strings, and nesting that a reader could not follow.

    Returns:
        Whether there is a whole number of more than 64 bits.
    """
    long_numbers = False
    level: list[Any] = [metadata]
    for _ in range(_DEEPEST):
        if not level:
            return long_numbers
        below: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                for key in value:
                    if not isinstance(key, str):
                        raise TypeError(f"the key {key!r} is not a string")
                below += value.values()
            elif isinstance(value, list | tuple):
                below += value
        long_numbers = long_numbers or any(
            isinstance(value, int) and not -_LARGEST <= value < _LARGEST for value in below
        )
        # Each once, or a value that holds itself twice would double at every level.
        level = list(
            {id(value): value for value in below if isinstance(value, Mapping | list | tuple)}.values()
        )
    if level:
        raise ValueError(f"the metadata are nested more than {_DEEPEST} levels deep")
    return long_numbers
