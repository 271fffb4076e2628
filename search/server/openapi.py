"""The OpenAPI description of the server, written from the tables that its requests are checked by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from search.server.fields import MOST_QUERIES, RECOMMEND, SEARCH, Field
from search.types import Json
from search.version import __version__

_TEXT: dict[str, Json] = {"type": "string"}
_TEXT_OR_NONE: dict[str, Json] = {"type": ["string", "null"]}
_WHOLE: dict[str, Json] = {"type": "integer"}
_OBJECT: dict[str, Json] = {"type": "object"}
_OBJECT_OR_NONE: dict[str, Json] = {"type": ["object", "null"]}


def _object(
    properties: Mapping[str, Json], *, needed: bool = True, optional: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    made: dict[str, Json] = {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "additionalProperties": False,
    }
    return made | {"required": list(properties)} if needed else made


def _array(items: Json) -> dict[str, Json]:
    return {"type": "array", "items": items}


def _named(name: str) -> dict[str, Json]:
    return {"$ref": f"#/components/schemas/{name}"}


def _question(fields: Mapping[str, Field]) -> dict[str, Json]:
    return _object({name: field.schema for name, field in fields.items()}, needed=False)


_PART = {
    "start": _WHOLE,
    "end": _WHOLE,
    "box": {**_array({"type": "number"}), "description": "x, y, width, height in pixels"},
    "label": _TEXT,
    "score": {"type": "number", "description": "How sure the label is."},
    "before": _TEXT,
    "after": _TEXT,
}
_SCHEMAS: dict[str, Json] = {
    "Search": _question(SEARCH),
    "Recommend": _question(RECOMMEND),
    "Hit": _object(
        {
            "id": _TEXT,
            "score": {"type": "number", "description": "A similarity: higher is better."},
            "space": _TEXT,
            "text": {**_TEXT_OR_NONE, "description": "The passage that matched, or the record's text."},
            "uri": _TEXT_OR_NONE,
            "metadata": _OBJECT,
            "part": {
                "type": ["object", "null"],
                "properties": _PART,
                "description": "Which piece of the record matched; null for the whole of it.",
            },
            "explain": _OBJECT_OR_NONE,
        },
        optional={"cursor": {**_TEXT, "description": "Of a hit on a page: what to give as after."}},
    ),
    "Record": _object(
        {"id": _TEXT, "kind": _TEXT_OR_NONE, "uri": _TEXT_OR_NONE, "text": _TEXT_OR_NONE, "metadata": _OBJECT}
    ),
    "Space": _object(
        {
            "name": _TEXT,
            "modality": _TEXT,
            "model": _TEXT,
            "dim": _WHOLE,
            "metric": _TEXT,
            "accepts": {**_array(_TEXT), "description": "What it can be asked by, beside ids and vectors."},
            "records": _WHOLE,
            "vectors": _WHOLE,
            "index": _OBJECT,
        }
    ),
    "Health": _object({"status": _TEXT, "version": _TEXT}),
    "Error": {
        "type": "object",
        "properties": {
            "error": {**_TEXT, "description": "What is wrong."},
            "do": {**_TEXT_OR_NONE, "description": "What to do about it."},
            "position": {**_WHOLE, "description": "Where in the where-expression, in characters from 0."},
        },
        "required": ["error", "do"],
        "additionalProperties": False,
    },
}
_ERRORS = {
    "400": "The request cannot be read.",
    "404": "There is no such record, or it has no vector in the spaces asked.",
    "413": "The request is too large.",
    "415": "The request is neither JSON nor a form.",
    "422": "The question cannot be answered as it is asked.",
}
# What any request may be answered with.
_ALWAYS = {
    "401": "The server's token is missing or another.",
    "403": "The host or the page that asks is not allowed.",
    "408": "The request took too long to arrive.",
    "500": "The server or the collection failed.",
    "503": "Too much waits already, or a model cannot be had; Retry-After says in how many seconds to try again.",
}


def _answer(schema: Json, what: str, *errors: str, media: str = "application/json") -> dict[str, Json]:
    said: dict[str, Json] = {"200": {"description": what, "content": {media: {"schema": schema}}}}
    for status, about in ({status: _ERRORS[status] for status in errors} | _ALWAYS).items():
        said[status] = {
            "description": about,
            "content": {"application/json": {"schema": _named("Error")}},
        }
    return said


def _asks(summary: str, name: str, answer: dict[str, Json]) -> dict[str, Json]:
    content: dict[str, Json] = {"application/json": {"schema": _named(name)}}
    if name == "Search":
        file: dict[str, Json] = {"type": "string", "contentMediaType": "application/octet-stream"}
        form = {field: spec.schema for field, spec in SEARCH.items()} | {"image": file}
        content["multipart/form-data"] = {"schema": _object(form, needed=False)}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": answer,
        }
    }


def _gives(summary: str, answer: dict[str, Json], *parameters: Json) -> dict[str, Json]:
    said: dict[str, Json] = {"summary": summary, "responses": answer}
    return {"get": said | {"parameters": list(parameters)} if parameters else said}


def _parameter(name: str, place: str, about: str, schema: Json = _TEXT) -> dict[str, Json]:
    return {"name": name, "in": place, "required": True, "description": about, "schema": schema}


@cache
def document() -> dict[str, Any]:
    """The description, as OpenAPI 3.1."""
    hits = _array(_named("Hit"))
    one_or_many: dict[str, Json] = {"oneOf": [hits, _array(hits)]}
    id = _parameter("id", "path", "The id of a record; a slash in it is written %2F.")
    ids = _parameter(
        "id", "query", "Repeat it for more.", {**_array(_TEXT), "minItems": 1, "maxItems": MOST_QUERIES}
    )
    nullable: dict[str, Json] = {"oneOf": [_named("Record"), {"type": "null"}]}
    asked = ("400", "404", "413", "415", "422")
    searched = _answer(
        one_or_many, "Hits, best first; for several questions an array of them for each.", *asked
    )
    picture = _answer(_TEXT, "A WebP of at most 320 x 320 pixels.", "404", media="image/webp")
    paths = {
        "/search": _asks(
            "Find what is nearest to words, a picture, a stored record or a vector", "Search", searched
        ),
        "/recommend": _asks(
            "Find what is near the liked records and far from the others",
            "Recommend",
            _answer(hits, "Hits, best first.", *asked),
        ),
        "/records": _gives(
            "Some records, null for each that is not there",
            _answer(_array(nullable), "In the order asked.", "422"),
            ids,
        ),
        "/records/{id}": _gives("A record", _answer(_named("Record"), "The record.", "404"), id),
        "/records/{id}/picture": _gives("A small picture of a record that is one", picture, id),
        "/spaces": _gives("The spaces", _answer(_array(_named("Space")), "All of them.")),
        "/info": _gives("What the collection holds", _answer(_OBJECT, "As nearkin info --json tells it.")),
        "/health": _gives("Whether the catalog can be read", _answer(_named("Health"), "It can.")),
        "/openapi.json": _gives("This description", _answer(_OBJECT, "OpenAPI 3.1.")),
        "/": _gives("A page to ask from", _answer(_TEXT, "HTML.", media="text/html")),
    }
    schemes = {"token": {"type": "http", "scheme": "bearer"}, "password": {"type": "http", "scheme": "basic"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nearkin",
            "version": __version__,
            "description": "Asks one collection. The token is needed where the server was started with one.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "securitySchemes": schemes},
        "security": [{}, {"token": []}, {"password": []}],
    }
