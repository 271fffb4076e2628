"""Reads a question from a request, and asks the collection."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from search.collection import Collection
from search.encoders.pictures import PictureFile, open_picture
from search.errors import QueryError
from search.query.cursor import cursor_of
from search.query.rerank import DEPTH, Rerank
from search.server.answers import Refused
from search.server.fields import (
    MOST_CHARACTERS,
    MOST_COMPARED,
    MOST_HITS,
    MOST_OF_A_GRAPH,
    MOST_QUERIES,
    Field,
    checked,
    from_form,
)
from search.types import Hit

_JSON = "application/json"
_FORM = "multipart/form-data"


async def read(request: Request, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The fields of a question, checked; `image` as bytes.

    Raises:
        Refused: it is neither JSON nor a form, or cannot be read.
        QueryError: a field cannot be used.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _JSON:
        try:
            given = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise Refused(400, f"the question is no JSON ({error}); mend it") from None
        asked = checked(given, fields)
        if "image" in asked:
            asked["image"] = _from_base64(asked["image"])
        return asked
    if kind == _FORM:
        return await _from_form(request, fields)
    raise Refused(415, f"the question is of type '{kind}'; send {_JSON}, or {_FORM} with a picture")


async def _from_form(request: Request, fields: Mapping[str, Field]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    image: bytes | None = None
    try:
        async with request.form(max_files=1, max_fields=200) as form:
            for name in form:
                values = form.getlist(name)
                (first, *_) = values
                if isinstance(first, UploadFile):
                    if name != "image" or "image" not in fields:
                        raise QueryError(f"a file was sent as '{name}'; send a picture, as 'image'")
                    image = await first.read()
                else:
                    given[name] = from_form(name, [str(value) for value in values], fields)
    except HTTPException as error:  # the library's word for a form that cannot be read
        raise Refused(400, f"the form cannot be read ({error.detail}); mend it") from None
    if "image" in given:
        raise QueryError("image is text; send the file itself, or base64 in JSON")
    asked = checked(given, fields)
    return asked if image is None else asked | {"image": image}


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise QueryError("image is no base64; encode the bytes of the file, with + and /") from None


def picture(data: bytes) -> Image.Image:
    """A picture that was sent, its kind and size looked at before it is decoded.

    Raises:
        SourceError: it is no picture, damaged or too large.
        MissingExtra: its format needs a package that is not installed.
    """
    return open_picture(PictureFile("image", lambda: data))


def graph(given: Mapping[str, Any]) -> Any:
    """A graph that was sent, as networkx has it.

    Raises:
        QueryError: it is none, or too large.
    """
    for name in ("nodes", "links"):
        if len(given[name]) > MOST_OF_A_GRAPH:
            raise QueryError(f"the graph has {len(given[name]):,} {name}; send at most {MOST_OF_A_GRAPH:,}")
        if not all(isinstance(one, Mapping) for one in given[name]):
            raise QueryError(
                f"one of the graph's {name} is no object; send nodes with ids, and links between them"
            )
    from search.encoders.graph_files import from_node_link

    try:
        return from_node_link(given)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise QueryError(
            f"the graph cannot be used ({reason}); send nodes with ids, and links between them"
        ) from None


def search(collection: Collection, asked: Mapping[str, Any]) -> list[Hit] | list[list[Hit]]:
    """The hits, for `queries` and for several vectors a list of them for each.

    Raises:
        NearkinError: see `Collection.search`.
    """
    named = dict(asked)
    queries = named.pop("queries", None)
    if queries is not None:
        if "query" in named:
            raise QueryError("query and queries were given together; ask by one of them")
        named["query"] = queries
    vector = named.get("vector")
    several = vector if vector and isinstance(vector[0], list) else queries
    n, k = 1 if several is None else len(several), named.get("k", 10) + named.get("offset", 0)
    if "after" in named:
        k += cursor_of(named["after"]).place
    if {"boost", "diversity", "group_by"} & named.keys():
        k = max(5 * k, 1_000)  # so many are looked at
    if n > MOST_QUERIES:
        raise QueryError(f"{n:,} vectors; send at most {MOST_QUERIES:,} at a time")
    if sum(map(len, queries or ())) > MOST_CHARACTERS:
        raise QueryError(f"the queries have too many characters; send at most {MOST_CHARACTERS:,} at a time")
    if n * k > MOST_HITS:
        raise QueryError(f"{n:,} questions with k of {k:,}; ask for at most {MOST_HITS:,} hits at a time")
    if (
        named.get("rerank", Rerank.MAXSIM) != Rerank.MAXSIM
    ):  # else a client could name any folder of the machine
        raise QueryError(f"rerank is '{named['rerank'][:60]}'; over HTTP it can be {Rerank.MAXSIM} alone")
    if "rerank" in named and n * max(named.get("rerank_depth", DEPTH), k) > MOST_COMPARED:
        raise QueryError(f"too much to compare again; keep queries times depth or k under {MOST_COMPARED:,}")
    if "image" in named:
        named["image"] = picture(named["image"])
    if "graph" in named:
        named["graph"] = graph(named["graph"])
    found: list[Hit] | list[list[Hit]] = collection.search(**named)
    return found


def recommend(collection: Collection, asked: Mapping[str, Any]) -> list[Hit]:
    """The hits.

    Raises:
        NearkinError: see `Collection.recommend`.
    """
    named = dict(asked)
    likes, dislikes = named.pop("like", ()), named.pop("dislike", ())
    pairs, spaces = named.pop("pair", ()), named.pop("space", None)
    return collection.recommend(likes, dislikes, pairs=pairs, spaces=spaces, **named)
