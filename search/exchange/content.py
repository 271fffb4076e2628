"""What an exported file holds, whatever its format: the spaces, described, and records with their vectors."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.catalog.part_writes import Provenance
from search.errors import SourceError
from search.types import EncoderSpec, Json, Metric, Part, Record
from search.vectors import Vectors
from search.version import __version__

FORMAT = 1  # of the description; a file with a higher number is of a newer nearkin
FLOAT = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Described:
    """A space as a file describes it, so that the same one can be made again, searchable by words again.

    `probes` are the float32 rows by which a changed model is noticed; `model` the bytes of a learned one.
    `full`: every record has a part in the space. `single`: none has more than one. `pieces`: some part is not a
    whole record. `labelled`: some part says what is in it. `synced`: where the vectors came from is known of some.
    """

    name: str
    encoder: EncoderSpec
    metric: Metric
    probes: bytes | None = None
    model: bytes | None = None
    full: bool = True
    single: bool = True
    pieces: bool = False
    synced: bool = False
    labelled: bool = False

    def to_json(self) -> dict[str, Json]:
        """A JSON object that `from_json` takes back."""
        return {
            "name": self.name,
            "metric": self.metric.value,
            "encoder": self.encoder.to_json(),
            "probes": _text(self.probes),
            "model": _text(self.model),
            "full": self.full,
            "single": self.single,
            "pieces": self.pieces,
            "synced": self.synced,
            "labelled": self.labelled,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Described:
        """The description that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is not such a description.
        """
        encoder = EncoderSpec.from_json(data["encoder"])
        probes = _bytes(data["probes"])
        if encoder.dim < 1 or len(probes or b"") % (encoder.dim * FLOAT.itemsize):
            raise ValueError(f"space {data['name']!r} has {encoder.dim} dimensions, and other probes")
        return cls(
            name=data["name"],
            encoder=encoder,
            metric=Metric(data["metric"]),
            probes=probes,
            model=_bytes(data["model"]),
            full=data["full"],
            single=data["single"],
            pieces=data["pieces"],
            synced=data["synced"],
            labelled=data.get("labelled", False),  # not in the first files
        )


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


@dataclass(frozen=True, slots=True)
class Head:
    """What stands once in a file: how many records it holds, and the spaces of their vectors."""

    n_records: int
    spaces: tuple[Described, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """A JSON object that `from_json` takes back."""
        return {
            "format": FORMAT,
            "nearkin": __version__,
            "records": self.n_records,
            "spaces": [space.to_json() for space in self.spaces],
        }

    @classmethod
    def from_json(cls, data: Any, path: Path) -> Head:
        """The head that `to_json` wrote, as an object or as the bytes of one.

        Raises:
            SourceError: it is damaged, or of a newer nearkin.
        """
        try:
            if isinstance(data, bytes):
                data = read_object(data.decode("utf-8"))
            if data["format"] > FORMAT:
                raise SourceError(
                    f"it was exported by a newer nearkin ({data['nearkin']}); upgrade with: "
                    "pip install --upgrade nearkin",
                    str(path),
                )
            spaces = tuple(Described.from_json(space) for space in data["spaces"])
            if len({space.name for space in spaces}) < len(spaces):
                raise ValueError("a space stands twice in it")
            return cls(int(data["records"]), spaces)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            said = " ".join(str(error).split())
            raise SourceError(
                f"its description of the spaces is damaged ({said}); export it again", str(path)
            ) from None


@dataclass(frozen=True, slots=True)
class Held:
    """What a handful of records has in one space.

    Record i has `counts[i]` parts; `parts` and the rows of `vectors` (n, dim) are those of the first record, then
    those of the second, and so on. `sources` says for each record what its vectors were made from, or None.
    """

    counts: NDArray[np.int64]
    parts: Sequence[Part]
    vectors: Vectors
    sources: Sequence[Provenance | None]


@dataclass(frozen=True, slots=True)
class Some:
    """A handful of records, and what they have in each space by its name."""

    records: Sequence[Record]
    held: Mapping[str, Held]


class Copy(ABC):
    """An exported file that is read. It is opened by `search.exchange.take_in.opened`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def head(self) -> Head | None:
        """What the file says of itself; None where it holds records alone and says nothing."""

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Sequence[int], Some]]:
        """The records in handfuls, with the 1-based line or row of each.

        Raises:
            SourceError: a line or row is not what it should be; it names the file and the line.
        """

    def fault(self, reason: str, row: int | None = None) -> SourceError:
        """The error that names this file and the row."""
        return SourceError(reason, str(self.path), row)


def read_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        ValueError: it is not one; the message says why.
    """
    try:
        data = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__}, not an object")
    return data


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
