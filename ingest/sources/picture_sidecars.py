"""What stands beside a picture in a file of the same name: a caption (.txt), fields (.json), a class (.cls)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.sources.encodings import decode
from ingest.sources.inputs import why
from ingest.sources.tables import dated
from search.types import Json

SUFFIXES = (".json", ".txt", ".cls")
MOST_BYTES = 1 << 20
_CAPTIONS = ("caption", "text")  # fields that are the record's text


class UnreadableSidecar(ValueError):
    """A sidecar that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One such file: its name, and where its bytes are."""

    name: str
    stored: Path | Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Told:
    """What sidecars or a row say of a picture; `content` is what they said it with, for the digest."""

    text: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    content: bytes = b""


NOTHING = Told()


def names_beside(name: str, there: Collection[str]) -> Iterator[str]:
    """Of the files that are there, those that belong to a picture of this name: `a.json`, `a.jpg.json` to `a.jpg`."""
    stem, dot, _ = name.rpartition(".")
    for suffix in SUFFIXES:
        for begin in (stem, name) if dot else (name,):
            if begin + suffix in there:
                yield begin + suffix


def read_sidecars(sidecars: Sequence[Sidecar]) -> Told:
    """What they say together; a field's caption gives way to a .txt.

    Raises:
        UnreadableSidecar: one of them cannot be read.
    """
    if not sidecars:
        return NOTHING
    text: str | None = None
    metadata: dict[str, Json] = {}
    content = b""
    for sidecar in sidecars:
        data = _bytes(sidecar)
        content += len(data).to_bytes(8, "little") + data
        if sidecar.name.casefold().endswith(".json"):
            metadata |= _fields(sidecar.name, data)
            continue
        try:
            words = decode(data).text.strip()
        except UnicodeDecodeError as error:
            raise UnreadableSidecar(
                f"{sidecar.name} beside it is no text ({error.reason}); mend it"
            ) from error
        if sidecar.name.casefold().endswith(".cls"):
            metadata["class"] = int(words) if words.isdecimal() and len(words) < 16 else words
        elif words:
            text = words
    for name in _CAPTIONS:
        value = metadata.get(name)
        if isinstance(value, str) and text is None and value.strip():
            text = value.strip()
            del metadata[name]
        elif isinstance(value, str) and value.strip() == text:
            del metadata[name]
    return Told(text, dated(metadata), content)


def _bytes(sidecar: Sidecar) -> bytes:
    try:
        if isinstance(sidecar.stored, Path):
            with sidecar.stored.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        else:
            data = sidecar.stored()
    except OSError as error:
        raise UnreadableSidecar(f"{sidecar.name} beside it cannot be read ({why(error)}); mend it") from error
    if len(data) > MOST_BYTES:
        raise UnreadableSidecar(
            f"{sidecar.name} beside it is larger than {MOST_BYTES >> 20} MiB; make it smaller"
        )
    return data


def _fields(name: str, data: bytes) -> dict[str, Json]:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        said = json.loads(data, parse_constant=refuse)
        if not isinstance(said, dict):
            raise ValueError("it holds no object")
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnreadableSidecar(f"{name} beside it is no JSON object ({reason}); mend it") from error
    return said
