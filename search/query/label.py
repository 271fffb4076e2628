"""Labels for records that have none, from those that have one: reads the records, and says what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from search.catalog.metadata_text import decoded
from search.catalog.showing import Shown
from search.errors import QueryError
from search.query import classify
from search.query.one_each import OneEach
from search.types import Json, Labelled, Labelling, Record
from search.vectors import Keys

MIN_CONFIDENCE = 0.6
NEIGHBOURS = 10


class Method(StrEnum):
    """How a label is found."""

    NEIGHBOURS = "neighbours"  # votes of the k nearest
    LINEAR = "linear"  # logistic regression


@dataclass(frozen=True, slots=True)
class Task:
    """What to label, and how.

    `known` and `unknown` are where-expressions, None for the records that have the field and those that have not.

    Raises:
        QueryError: a wish makes no sense.
    """

    field: str
    space: str | None = None
    known: str | None = None
    unknown: str | None = None
    method: str = Method.NEIGHBOURS
    k: int | None = None
    min_confidence: float = MIN_CONFIDENCE

    def __post_init__(self) -> None:
        if not isinstance(self.field, str) or not self.field.strip():
            raise QueryError(f"the field to label is {self.field!r}; name a field of the metadata")
        if self.field.endswith(CONFIDENCE):
            raise QueryError(f"'{self.field}' would be taken for a confidence; give the field another name")
        if self.method not in tuple(Method):
            raise QueryError(f"labels cannot be found by {self.method!r}; use {' or '.join(Method)}")
        if self.k is not None and self.method != Method.NEIGHBOURS:
            raise QueryError(f"k is how many neighbours vote, and {self.method} asks none; leave it out")
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise QueryError(
                f"k must be a whole number of at least 1, not {self.k!r}; say how many neighbours vote"
            )
        least = self.min_confidence
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise QueryError(f"the least confidence is {least!r}; give a number from 0 to 1")


# A field that is written beside a label that was guessed; where it stands the label is no example for others.
CONFIDENCE = "_confidence"


@dataclass(frozen=True, slots=True)
class Examples:
    """The labelled rows, their classes by number, and the rows to be labelled."""

    known: NDArray[np.int64]
    classes: NDArray[np.int64]
    labels: Sequence[Json]  # of each class
    unknown: NDArray[np.int64]


def examples(
    task: Task, given: OneEach, shown: Mapping[int, Shown], known: Keys | None, unknown: Keys | None
) -> Examples:
    """Which records are examples, and which are to be labelled; a guessed label is never an example.

    Args:
        task: what to label.
        given: the vectors.
        shown: the records.
        known: the keys of those that match `task.known`; None where it says nothing.
        unknown: likewise.

    Raises:
        QueryError: there are not two labels, nothing to learn from, or a value that is no label.
    """
    may_teach = _mask(given, known)
    may_learn = _mask(given, unknown)
    names: dict[str, int] = {}
    labels: list[Json] = []
    taught, classes, learning = [], [], []
    for row, key in enumerate(given.record_keys.tolist()):
        if key not in shown:
            continue
        metadata = decoded(shown[key].metadata)
        value = metadata.get(task.field)
        own = value is not None and task.field + CONFIDENCE not in metadata
        if own and may_teach[row]:
            if not isinstance(value, str | int):
                raise QueryError(
                    f"the {task.field} of '{shown[key].id}' is {json.dumps(value)}; labels are text, whole numbers, "
                    "true or false: choose another field, or leave the record out with --from"
                )
            name = json.dumps(value)
            if name not in names:
                names[name] = len(labels)
                labels.append(value)
            taught.append(row)
            classes.append(names[name])
        elif may_learn[row] and (unknown is not None or not own):
            learning.append(row)
    if len(labels) < 2:
        told = f"have the one label {json.dumps(labels[0])}" if labels else "have none"
        raise QueryError(
            f"there is nothing to tell apart: the records with vectors in the space {told} in the field "
            f"'{task.field}'; label some of each kind by hand first"
        )
    return Examples(
        np.array(taught, np.int64), np.array(classes, np.int64), labels, np.array(learning, np.int64)
    )


def _mask(given: OneEach, keys: Keys | None) -> NDArray[np.bool_]:
    return np.ones(len(given.record_keys), dtype=bool) if keys is None else np.isin(given.record_keys, keys)


def labelling(task: Task, given: OneEach, shown: Mapping[int, Shown], found: Examples) -> Labelling:
    """The labels guessed, the surest first, and how good such guesses are among the examples themselves."""
    vectors, queries = given.vectors[found.known], given.vectors[found.unknown]
    if task.method == Method.NEIGHBOURS:
        k = task.k or NEIGHBOURS
        judged = classify.leave_one_out(vectors, found.classes, k)
        guesses = classify.votes(vectors, found.classes, queries, k)
    else:
        judged = classify.cross_validated(vectors, found.classes)
        guesses = classify.fitted(vectors, found.classes)(queries)
    confidence = classify.calibrated(judged)(guesses.shares)
    labels = []
    for row, number, sure in zip(found.unknown, guesses.classes.tolist(), confidence.tolist(), strict=True):
        one = shown[int(given.record_keys[row])]
        labels.append(
            Labelled(one.id, found.labels[number], round(sure, 4), sure >= task.min_confidence, one.uri)
        )
    labels.sort(key=lambda one: -one.confidence)
    counts: list[dict[str, Json]] = []
    sure_of = np.bincount(guesses.classes[confidence >= task.min_confidence], minlength=len(found.labels))
    for number, label in enumerate(found.labels):
        own = found.classes[judged.rows] == number
        counts.append(
            {
                "label": label,
                "examples": int((found.classes == number).sum()),
                "judged": int(own.sum()),
                "right": int(judged.right[own].sum()),
                "given": int(sure_of[number]),
            }
        )
    counts.sort(key=lambda one: (-int(str(one["examples"])), json.dumps(one["label"])))
    return Labelling(
        task.field,
        str(task.method),
        len(found.known),
        len(judged.rows),
        judged.accuracy,
        counts,
        tuple(labels),
    )


def records(task: Task, shown: Mapping[int, Shown], told: Labelling) -> list[Record]:
    """The records as they are to be written: with label and confidence, or without an older guess."""
    by_id = {one.id: decoded(one.metadata) for one in shown.values()}
    confidence = task.field + CONFIDENCE
    changed = []
    for one in told.labels:
        before = by_id[one.id]
        after = dict(before)
        if one.given:
            after |= {task.field: one.label, confidence: one.confidence}
        elif confidence in after:
            after.pop(task.field, None)
            del after[confidence]
        if after != before:
            changed.append(Record(one.id, metadata=after))
    return changed
