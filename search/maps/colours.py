"""Which colour each point of a map has, by a field of the metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from search.errors import QueryError
from search.types import Json

# Okabe & Ito's colours, which people with any colour vision tell apart, and some more.
CLASSES = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#a6761d",
    "#332288",
    "#b8a800",
    "#aa4499",
)
PLAIN, REST = "#0072b2", "#b0b0b0"
_SCALE = (
    (68, 1, 84),
    (59, 82, 139),
    (33, 145, 140),
    (94, 201, 98),
    (253, 231, 37),
)  # viridis at its quarters
_STEPS = 5  # of a scale that the legend names
_NOTHING = "none"


@dataclass(frozen=True, slots=True)
class Colours:
    """`of_point` has a #rrggbb for each point; `legend` the names of colours, in order."""

    of_point: Sequence[str]
    legend: Sequence[tuple[str, str]]


def coloured(metadata: Sequence[Mapping[str, Json]], field: str | None) -> Colours:
    """The colours of points with these metadata.

    Numbers of more than ten values get a scale, all else a colour for each of the ten most frequent values. A field of
    an object in the metadata is named with dots.

    Raises:
        QueryError: no record has the field.
    """
    if field is None:
        return Colours([PLAIN] * len(metadata), [])
    values = [_value(one, field.split(".")) for one in metadata]
    there = [value for value in values if value is not None]
    if not there:
        raise QueryError(f"none of the records has a field '{field}'; see the fields with: nearkin info")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        numbers = [float(value) for value in there]  # type: ignore[arg-type]
        if len(set(numbers)) > len(CLASSES):
            return _scaled(values, min(numbers), max(numbers))
    told = [None if value is None else value if isinstance(value, str) else str(value) for value in values]
    frequent = [name for name, _ in Counter(one for one in told if one is not None).most_common(len(CLASSES))]
    frequent.sort()
    colour = dict(zip(frequent, CLASSES, strict=False))
    legend = list(colour.items())
    others = {one for one in told if one is not None} - set(frequent)
    if others:
        legend.append((f"{len(others):,} others", REST))
    if len(there) < len(values):
        legend.append((_NOTHING, REST))
    return Colours([REST if one is None else colour.get(one, REST) for one in told], legend)


def _value(metadata: Mapping[str, Json], steps: Sequence[str]) -> Json:
    value: Json = dict(metadata)
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _scaled(values: Sequence[Json], low: float, high: float) -> Colours:
    span = high - low
    numbers = [None if value is None else (float(value) - low) / span for value in values]  # type: ignore[arg-type]
    legend = [(f"{low + span * at:.6g}", _between(at)) for at in np.linspace(0, 1, _STEPS).tolist()]
    if None in numbers:
        legend.append((_NOTHING, REST))
    return Colours([REST if at is None else _between(at) for at in numbers], legend)


def _between(at: float) -> str:
    """The colour of the scale at 0 to 1."""
    place = at * (len(_SCALE) - 1)
    number = min(int(place), len(_SCALE) - 2)
    (lower, upper) = list(pairwise(_SCALE))[number]
    mixed = [round(a + (b - a) * (place - number)) for a, b in zip(lower, upper, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)
