"""Answers as JSON: hits and records with the fields of the command line, and every error with a status of its own."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import orjson
from starlette.responses import Response

from search.errors import (
    CollectionLocked,
    EncoderDrift,
    FilterError,
    MissingExtra,
    ModelError,
    ModelUnavailable,
    NearkinError,
    QueryError,
    SourceError,
    UnknownRecord,
)
from search.types import Hit, Json, Record

log = logging.getLogger(__name__)

RETRY_S = 1
# The first that fits counts.
_STATUS: tuple[tuple[type[NearkinError], int], ...] = (
    (UnknownRecord, 404),
    (ModelUnavailable, 503),
    (CollectionLocked, 503),
    (MissingExtra, 501),
    (EncoderDrift, 500),
    (QueryError, 422),
    (ModelError, 422),
    (SourceError, 422),
)


class Refused(Exception):
    """A request that gets no further, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def as_json(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON; dataclasses become objects."""
    return Response(encoded(data), status, headers, "application/json")


def encoded(data: Any) -> bytes:
    """JSON in UTF-8, also of what orjson refuses: whole numbers beyond 64 bits, halves of surrogate pairs."""
    try:
        return orjson.dumps(data, _plain, orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:
        return json.dumps(data, default=_plain, separators=(",", ":")).encode("ascii")


def _plain(value: Any) -> Any:
    if isinstance(value, Hit):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def record(one: Record) -> dict[str, Json]:
    """A record as a JSON object."""
    return {
        "id": one.id,
        "kind": one.kind,
        "uri": one.uri,
        "text": one.text,
        "metadata": dict(one.metadata or {}),
    }


def refusal(status: int, message: str, position: int | None = None) -> Response:
    """{"error": what is wrong, "do": what to do}, from a message that says both with a semicolon between."""
    what, semicolon, do = " ".join(message.split()).rpartition("; ")
    said: dict[str, Json] = {"error": what, "do": do} if semicolon else {"error": do, "do": None}
    if position is not None:
        said["position"] = position
    return as_json(said, status, {"Retry-After": str(RETRY_S)} if status == 503 else None)


def failure(error: Exception) -> Response:
    """What to answer where an error ended the work."""
    if isinstance(error, Refused):
        return refusal(error.status, str(error))
    if isinstance(error, NearkinError):
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if status == 500:
            log.error("%s", error)
        return refusal(status, str(error), error.position if isinstance(error, FilterError) else None)
    if isinstance(error, MemoryError):
        return refusal(503, "out of memory; ask for less at a time, or later")
    # What went wrong inside is for whoever runs the server, not for whoever asks it.
    log.error(
        "%s: %s; this is a bug, please report it with what NEARKIN_TRACEBACK=1 prints",
        type(error).__name__,
        error,
        exc_info=error if os.environ.get("NEARKIN_TRACEBACK") else None,
    )
    return refusal(500, "the server failed; its log says why")
