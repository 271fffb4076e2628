"""Pages that neither overlap nor leave gaps: where one ended, as a short text that the next one is asked with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from search.errors import QueryError
from search.types import Hit

_LONGEST = 16_384  # characters of a cursor: an id may be long
_MOST = 10**9  # hits
_DIGITS = 16  # of the hash that says which question it was


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last hit of a page: its place among all, counted from 1, its score and id; and of which question it was.

    `now` is when the first page was asked for, in seconds since 1970: by it the age of a date is reckoned on all pages.
    """

    question: str
    place: int
    score: float
    id: str
    now: float

    def __str__(self) -> str:
        said = json.dumps([self.question, self.place, self.score.hex(), self.id, self.now.hex()])
        return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")

    def is_before(self, hit: Hit) -> bool:
        """Whether the hit comes later: by its score, among equals by its id."""
        return hit.id != self.id and (-hit.score, hit.id) > (-self.score, self.id)


def cursor_of(after: object) -> Cursor:
    """The cursor that was given.

    Raises:
        QueryError: it is none.
    """
    wrong = QueryError("after is no cursor; give the cursor of the last hit of the page before")
    if not isinstance(after, str) or not 0 < len(after) <= _LONGEST:
        raise wrong
    try:
        said = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True)
        question, place, score, id, now = json.loads(said)
        found = Cursor(question, place, float.fromhex(score), id, float.fromhex(now))
    except (binascii.Error, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise wrong from None
    right = isinstance(question, str) and isinstance(id, str) and isinstance(place, int)
    if (
        not right
        or isinstance(place, bool)
        or not 0 < place < _MOST
        or not np.isfinite([found.score, found.now]).all()
    ):
        raise wrong
    return found


def name_of(asked: Sequence[Any], said: Sequence[Any], uuid: str) -> str:
    """A short name of a question to a collection: of all that decides the order of its hits, and of nothing else.

    Args:
        asked: what was given: words, picture, id, vector, space, weights.
        said: what was said beside it, of plain values.
        uuid: of the collection.
    """
    parts = [uuid, *map(_said, asked), repr(list(said))]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _said(one: Any) -> str:
    """What was given, so that equal things are said alike."""
    if one is None or isinstance(one, str):
        return repr(one)
    if isinstance(one, Path):
        return repr(str(one))
    if isinstance(one, dict):
        return repr(sorted(one.items()))
    if hasattr(one, "tobytes") and hasattr(one, "mode"):  # a picture
        return f"{one.mode} {one.size} {hashlib.sha256(one.tobytes()).hexdigest()}"
    return repr(np.asarray(one, dtype=np.float64).tolist())


def marked(hits: Sequence[Hit], question: str, before: int, now: float) -> list[Hit]:
    """The hits of a page, each with a cursor that leads to what comes after it; `before` stood on earlier pages."""
    return [
        replace(hit, cursor=str(Cursor(question, before + place, hit.score, hit.id, now)))
        for place, hit in enumerate(hits, 1)
    ]
