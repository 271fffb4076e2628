"""An encoder whose every similarity can be worked out on paper: a text's vector counts its letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ingest.pipeline import Job, Ready
from ingest.sources.contract import Item, Rejected, Source
from search.encoders.contract import Encoder, Role, Vectors
from search.encoders.contract import Item as Encodable
from search.types import WHOLE, EncoderSpec, Modality, Record
from search.vectors import unit_rows

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


class LetterEncoder(Encoder):
    """(n, 26) counts of the letters a to z, scaled to length 1; `calls` keeps what was encoded."""

    def __init__(self, weights: str = "letters-1") -> None:
        self.spec = EncoderSpec("letters", "letters", Modality.TEXT, 26, ("text",), weights)
        self.calls: list[str] = []

    def encode(self, items: Sequence[Encodable], *, role: Role = "document") -> Vectors:
        self.calls.extend(str(item) for item in items)
        counts = np.array(
            [[str(item).lower().count(letter) for letter in ALPHABET] for item in items], np.float32
        )
        return unit_rows(counts.reshape(len(items), 26))


class Words(Source):
    """Records from a dict of id to text; a text of None is rejected, and one that is an exception is raised."""

    def __init__(self, texts: dict[str, str | Exception | None], origin: str = "/words") -> None:
        self._texts = texts
        self._origin = origin

    def __iter__(self) -> Iterator[Item | Rejected]:
        for id, text in self._texts.items():
            if isinstance(text, Exception):
                raise text
            if text is None:
                yield Rejected(f"{self._origin}/{id}", "cannot be read", id=id)
            else:
                yield Item(
                    Record(id, "text", f"{self._origin}/{id}", text, {"n": len(text)}),
                    self._origin,
                    text.encode("utf-8", "surrogatepass"),
                )

    @property
    def origins(self) -> tuple[str, ...]:
        return (self._origin,)


def whole(items: Sequence[Item]) -> list[Ready | Rejected]:
    """Each text is one part."""
    return [Ready(item, (WHOLE,), (item.record.text or "",)) for item in items]


def job(encoder: Encoder, *, prune: bool = False, settings: str = "whole", space: str = "text") -> Job:
    """A run with the letter encoder."""
    return Job(space, "letters", lambda: encoder, whole, settings, prune=prune)


def collection_path(tmp_path: Path) -> Path:
    """Where the tests of this kind keep their collection."""
    return tmp_path / "collection"
