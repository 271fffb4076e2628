"""The fields of each question as they come in JSON or in a form: their kinds, their bounds, and what they mean.

The same tables check the requests and write the OpenAPI document, so neither can say what the other does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from search.errors import QueryError
from search.types import Json

MOST_QUERIES = 1_000  # in one request
MOST_HITS = 100_000  # in one answer, over all its queries
MOST_COMPARED = 2_000  # passages compared again for one request
MOST_OF_A_GRAPH = 100_000  # nodes, and edges, of a graph that is asked by
MOST_CHARACTERS = 1_000_000  # of all the queries of one request
_WORDS, _EXPRESSION, _NAME = 100_000, 20_000, 4_000  # characters at the most


class Kind(StrEnum):
    """What a field may hold."""

    TEXT = "a string"
    TEXTS = "an array of strings"
    WHOLE = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    NUMBERS = "an array of numbers, or of such arrays"
    WEIGHTS = "an object of positive numbers"
    EXAMPLES = "an object of positive numbers or dates"
    PAIRS = "an array of pairs of strings"
    GRAPH = "a graph as node-link JSON"


_STRING: dict[str, Json] = {"type": "string"}
_SCHEMAS: Mapping[Kind, dict[str, Json]] = {
    Kind.TEXT: _STRING,
    Kind.TEXTS: {"type": "array", "items": _STRING, "maxItems": MOST_QUERIES},
    Kind.WHOLE: {"type": "integer"},
    Kind.NUMBER: {"type": "number"},
    Kind.FLAG: {"type": "boolean"},
    Kind.NUMBERS: {
        "type": "array",
        "items": {"type": ["number", "array"], "items": {"type": "number"}},
    },
    Kind.WEIGHTS: {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}},
    Kind.EXAMPLES: {
        "type": "object",
        "additionalProperties": {"type": ["number", "string"]},
        "maxProperties": MOST_QUERIES,
    },
    Kind.PAIRS: {
        "type": "array",
        "items": {"type": "array", "items": _STRING, "minItems": 2, "maxItems": 2},
        "maxItems": MOST_QUERIES,
    },
    Kind.GRAPH: {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": {"type": "object"}, "maxItems": MOST_OF_A_GRAPH}
            for name in ("nodes", "links")
        },
        "required": ["nodes", "links"],
    },
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: Mapping[Kind, Callable[[Any], bool]] = {
    Kind.TEXT: lambda value: isinstance(value, str),
    Kind.TEXTS: lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    Kind.WHOLE: lambda value: isinstance(value, int) and not isinstance(value, bool),
    Kind.NUMBER: _is_number,
    Kind.FLAG: lambda value: isinstance(value, bool),
    Kind.NUMBERS: lambda value: isinstance(value, list),  # the numbers themselves are looked at by numpy
    Kind.WEIGHTS: lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    Kind.EXAMPLES: lambda value: (
        isinstance(value, dict) and all(_is_number(one) or isinstance(one, str) for one in value.values())
    ),
    Kind.PAIRS: lambda value: (
        isinstance(value, list) and all(_FITS[Kind.TEXTS](pair) and len(pair) == 2 for pair in value)
    ),
    Kind.GRAPH: lambda value: (
        isinstance(value, dict) and all(isinstance(value.get(name), list) for name in ("nodes", "links"))
    ),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: what it means, what it may hold, and between which bounds; `longest` is in characters."""

    about: str
    kinds: tuple[Kind, ...] = (Kind.TEXT,)
    least: int | None = None
    most: int | None = None
    longest: int | None = None

    @property
    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        alone, *others = (_SCHEMAS[kind] for kind in self.kinds)
        said: dict[str, Json] = {"oneOf": [alone, *others]} if others else dict(alone)
        bounds = {"minimum": self.least, "maximum": self.most, "maxLength": self.longest}
        said |= {key: bound for key, bound in bounds.items() if bound is not None}
        return said | {"description": self.about}


_K = Field("How many hits; 10 if left out.", (Kind.WHOLE,), 1, 10_000)
_WHERE = Field("Only records that match, such as: price < 80 and brand = 'A'.", longest=_EXPRESSION)
_EXPLAIN = Field("Say how each hit was found.", (Kind.FLAG,))

SEARCH: Mapping[str, Field] = {
    "query": Field("Words to search for; the answer is an array of hits.", longest=_WORDS),
    "queries": Field("Several of them; the answer is an array of such arrays.", (Kind.TEXTS,)),
    "image": Field("A picture to search by: its bytes as base64 in JSON, or the file itself in a form."),
    "like": Field("The id of a stored record to search by; it is left out.", longest=_NAME),
    "graph": Field("A whole graph to search by, as networkx writes it for d3.", (Kind.GRAPH,)),
    "vector": Field("A vector to search by, or several.", (Kind.NUMBERS,)),
    "weights": Field(
        "Of several ways of asking together, how much each counts: text, image, graph, like, vector; 1 if left out.",
        (Kind.WEIGHTS,),
    ),
    "region": Field("What of the image to search by: x, y, width and height in its pixels.", (Kind.NUMBERS,)),
    "k": _K,
    "where": _WHERE,
    "space": Field("Which space to search; needed only where several could answer.", longest=_NAME),
    "effort": Field("How hard an approximate index looks.", (Kind.WHOLE,), 1, 100_000),
    "context": Field("How many neighbours of a passage to show on either side.", (Kind.WHOLE,), 0, 100),
    "rerank": Field("Compare the first hits with the words again, token by token: maxsim.", longest=_NAME),
    "rerank_depth": Field("How many of them; 100 if left out.", (Kind.WHOLE,), 1, 1_000),
    "hybrid": Field("Look for the words themselves too.", (Kind.FLAG,)),
    "calibrate": Field("Ask all spaces that can answer, their scores made comparable.", (Kind.FLAG,)),
    "boost": Field(
        "What is added to the score, over fields: log(1 + sales) * 0.1 - age_days(date) / 365.", longest=2_000
    ),
    "min_score": Field("Leave out hits below this score.", (Kind.NUMBER,)),
    "diversity": Field("0: relevance alone; 1: difference alone.", (Kind.NUMBER,), 0, 1),
    "group_by": Field("A field; only the best hit for each of its values.", longest=_NAME),
    "offset": Field("Pass over so many hits, for a page; 0 for the first one.", (Kind.WHOLE,), 0, 10_000),
    "after": Field("The page after the hit that has this cursor, of the same question.", longest=16_384),
    "explain": _EXPLAIN,
}
RECOMMEND: Mapping[str, Field] = {
    "like": Field(
        "The id of a record that is liked, or several; or of each how much it counts, or since when (2026-03-11).",
        (Kind.TEXT, Kind.TEXTS, Kind.EXAMPLES),
    ),
    "dislike": Field(
        "The id of a record that is not, or several; likewise.", (Kind.TEXT, Kind.TEXTS, Kind.EXAMPLES)
    ),
    "user": Field("Instead of likes: a user, as named in the interactions taken in.", longest=_NAME),
    "history": Field(
        "Instead of likes: items taken by somebody who is not known; likewise.",
        (Kind.TEXT, Kind.TEXTS, Kind.EXAMPLES),
    ),
    "pair": Field("Pairs of ids: nearer to the first than to the second.", (Kind.PAIRS,)),
    "half_life": Field("After how many days what has a date counts half; 30 if left out.", (Kind.NUMBER,)),
    "k": _K,
    "where": _WHERE,
    "space": Field(
        "A space to look at, several, or their weights; all if left out.",
        (Kind.TEXT, Kind.TEXTS, Kind.WEIGHTS),
    ),
    "diversity": Field("0: relevance alone; 1: difference alone.", (Kind.NUMBER,), 0, 1),
    "strategy": Field("average, best or linear.", longest=20),
    "exclude": Field("The id of a record that is not to come back, or several.", (Kind.TEXT, Kind.TEXTS)),
    "calibrate": Field("Make the scores of the spaces comparable first.", (Kind.FLAG,)),
    "explain": _EXPLAIN,
}


def checked(given: object, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The fields that were given, each of its kind and within its bounds; what is null counts as left out.

    Raises:
        QueryError: it is no object, or one of its fields is unknown or cannot be used.
    """
    if not isinstance(given, dict):
        raise QueryError('the question is no JSON object; write one, such as {"query": "…"}')
    for name, value in given.items():
        field = fields.get(name)
        if field is None:
            raise QueryError(f"there is no field '{name}'; use {', '.join(fields)}")
        if value is None:
            continue
        if not any(_FITS[kind](value) for kind in field.kinds):
            raise QueryError(f"{name} is {_shown(value)}; give {' or '.join(field.kinds)}")
        if isinstance(value, list | dict) and _many(field.kinds) and len(value) > MOST_QUERIES:
            raise QueryError(f"{name} has {len(value):,} entries; send at most {MOST_QUERIES:,} at a time")
        if isinstance(value, str) and field.longest is not None and len(value) > field.longest:
            raise QueryError(f"{name} has {len(value):,} characters; send at most {field.longest:,}")
        _check_bounds(name, value, field)
    return {name: value for name, value in given.items() if value is not None}


def _many(kinds: tuple[Kind, ...]) -> bool:
    return not {Kind.TEXTS, Kind.EXAMPLES, Kind.PAIRS}.isdisjoint(kinds)


def _check_bounds(name: str, value: Any, field: Field) -> None:
    if (field.least is not None and value < field.least) or (field.most is not None and value > field.most):
        raise QueryError(f"{name} is {value}; give a number from {field.least} to {field.most}")


def from_form(name: str, values: list[str], fields: Mapping[str, Field]) -> Any:
    """The value of a field that came in a form: text as it is, all else as JSON would write it.

    Raises:
        QueryError: it cannot be read.
    """
    kinds = fields[name].kinds if name in fields else (Kind.TEXT,)
    if len(values) > 1 or kinds == (Kind.TEXTS,):
        return values if Kind.TEXTS in kinds else _refuse(name, f"given {len(values)} times", "give it once")
    (value,) = values
    if Kind.TEXT in kinds:
        return value
    listed = kinds == (Kind.NUMBERS,) and not value.lstrip().startswith("[")
    try:
        return orjson.loads(f"[{value}]" if listed else value)  # 0,0,100,100 is said on the command line
    except orjson.JSONDecodeError:
        return _refuse(name, _shown(value), f"give {' or '.join(kinds)}, as in JSON")


def _refuse(name: str, what: str, do: str) -> Any:
    raise QueryError(f"{name} is {what}; {do}")


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:59] + "…"
