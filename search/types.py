"""The words of the design as frozen dataclasses: what a collection holds and what it answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Any] | dict[str, Any] | None"


class Metric(StrEnum):
    """How two vectors are compared; the score is a similarity in each case, higher is better."""

    COSINE = "cosine"
    DOT = "dot"
    L2 = "l2"  # the score is minus the squared distance


class Modality(StrEnum):
    """What the documents of a space are."""

    TEXT = "text"
    IMAGE = "image"
    GRAPH = "graph"
    VECTOR = "vector"  # given by the user, of any kind


@dataclass(frozen=True, slots=True)
class Record:
    """What the user stores.

    `id` is the user's own name for it, unique in the collection. `metadata` is a JSON object. A field that is
    None (`metadata`: None, not {}) says nothing: on an update the stored value stays.
    """

    id: str
    kind: str | None = None
    uri: str | None = None
    text: str | None = None
    metadata: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The piece of a record that has a vector of its own.

    A passage: text[start:end], in characters of the stored text. A region: `box` is (x, y, width, height) in
    pixels of the upright picture; `label` says what is in it and `score`, from 0 to 1, how sure that is. All None:
    the whole record.
    """

    start: int | None = None
    end: int | None = None
    box: tuple[float, float, float, float] | None = None
    label: str | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Json]:
        """The fields that are set."""
        out: dict[str, Json] = {}
        if self.start is not None:
            out["start"] = self.start
        if self.end is not None:
            out["end"] = self.end
        if self.box is not None:
            out["box"] = list(self.box)
        if self.label is not None:
            out["label"] = self.label
        if self.score is not None:
            out["score"] = self.score
        return out


WHOLE = Part()


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Everything needed to build an encoder again, on another machine and in another year.

    `family` picks the implementation (search.encoders.load); `model` is the name or path as the user gave it;
    `accepts` lists the kinds of query it can encode ("text", "image"), empty for vectors that only a trainer
    makes; `weights` is the sha256 of the weights; `options` holds layer, pooling, prompts and the like.
    """

    family: str
    model: str
    modality: Modality
    dim: int
    accepts: tuple[str, ...] = ()
    weights: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """A JSON object that `from_json` takes back."""
        return asdict(self) | {"accepts": list(self.accepts), "options": dict(self.options)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EncoderSpec:
        """The spec that `to_json` wrote."""
        return cls(
            family=data["family"],
            model=data["model"],
            modality=Modality(data["modality"]),
            dim=int(data["dim"]),
            accepts=tuple(data["accepts"]),
            weights=data["weights"],
            options=dict(data["options"]),
        )


# What the name of a space ends with while it is filled to take the place of another, and after another took its own.
NEXT, OLD = "@next", "@old"


@dataclass(frozen=True, slots=True)
class Space:
    """A named set of vectors made by one encoder or trainer. `key` is its number in the catalog."""

    key: int
    name: str
    modality: Modality
    dim: int
    metric: Metric
    encoder: EncoderSpec

    @property
    def stands_for(self) -> str | None:
        """Of a space that is to take another's place, or had it, the name of that one. It is asked by name only."""
        for ending in (NEXT, OLD):
            if self.name.endswith(ending) and len(self.name) > len(ending):
                return self.name[: -len(ending)]
        return None


@dataclass(slots=True)  # not frozen, which takes several times as long to make: they are made by the thousand
class Hit:
    """One answer: a record, how well it matches (`score`, higher is better), and what of it matched.

    `text` is the passage that matched where the part is a passage, else the record's text. `part` holds
    `start`/`end` or `box` (with the `label` and `score` of a detected object) where the match is a piece of the
    record, else None; on request it holds the text of its neighbours too, `before` and `after`. `explain` is set on
    request, `cursor` on the hits of a page: what follows is asked for with it.
    """

    id: str
    score: float
    space: str
    text: str | None
    uri: str | None
    metadata: Mapping[str, Json]
    part: Mapping[str, Json] | None = None
    explain: Mapping[str, Json] | None = None
    cursor: str | None = None

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object; without the cursor where the hits are no page."""
        told: dict[str, Json] = {
            "id": self.id,
            "score": self.score,
            "space": self.space,
            "text": self.text,
            "uri": self.uri,
            "metadata": dict(self.metadata),
            "part": None if self.part is None else dict(self.part),
            "explain": None if self.explain is None else dict(self.explain),
        }
        return told if self.cursor is None else {**told, "cursor": self.cursor}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands on a map of a space; distances between near ones mean something, directions nothing."""

    id: str
    x: float
    y: float
    text: str | None
    uri: str | None
    metadata: Mapping[str, Json]

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sense:
    """One sense of a word: how many occurrences have it, and its most central ones.

    The score of an example is its cosine to the centre; `part` holds the words around it.
    """

    size: int
    examples: tuple[Hit, ...]

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return {"size": self.size, "examples": [hit.to_json() for hit in self.examples]}


@dataclass(frozen=True, slots=True)
class Duplicates:
    """A record to keep, and those that are equal or nearly equal to it, the nearest first.

    The score of each is its cosine to the one kept; its `explain` says whether it is `exact`ly equal.
    """

    kept: Hit
    others: tuple[Hit, ...]

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return {"kept": self.kept.to_json(), "others": [hit.to_json() for hit in self.others]}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A guessed label: how likely it is to be right (`confidence`, 0 to 1), and whether that is enough to give it."""

    id: str
    label: Json
    confidence: float
    given: bool
    uri: str | None = None

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Labelling:
    """Labels for records without one, the surest first, and how good such guesses are.

    `accuracy` is the share of right guesses when `n_judged` of the `n_examples` labelled records are guessed in
    turn from the others. `classes` has an object for each label: `label`, its `examples`, how many were `judged`,
    how many of them `right`, and how often it was `given`.
    """

    field: str
    method: str
    n_examples: int
    n_judged: int
    accuracy: float
    classes: Sequence[Mapping[str, Json]]
    labels: tuple[Labelled, ...]

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self) | {
            "classes": [dict(one) for one in self.classes],
            "labels": [one.to_json() for one in self.labels],
        }
