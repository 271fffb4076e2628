"""What becomes of the hits once they are found: boosted, cut off below a score, spread out, grouped, paged."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.errors import QueryError
from search.query.boost import Boost, field_of, parsed
from search.query.cursor import Cursor
from search.types import Hit, Json
from search.vectors import Vectors, diverse

_BOOSTED = 1000  # of the first hits can be lifted by a boost, and at least
_SPREAD = 100  # are looked at for diversity, and at least
_POOL = 5  # for each hit wanted
_WIDER = 4  # times as many are asked for while there are too few groups


@dataclass(frozen=True, slots=True)
class Shape:
    """How the hits are to be shaped; as it stands, not at all."""

    min_score: float | None = None
    offset: int | None = None  # None: no pages; 0: the first of them
    diversity: float = 0.0
    group_by: str | None = None
    boost: str | None = None
    after: str | None = None  # the cursor of the hit that the page comes after

    def __post_init__(self) -> None:
        if self.min_score is not None and not _is_number(self.min_score):
            raise QueryError(f"min_score is {self.min_score!r}; give a number, on the scale of the scores")
        if self.offset is not None and (
            isinstance(self.offset, bool) or not isinstance(self.offset, int) or self.offset < 0
        ):
            raise QueryError(
                f"offset must be a whole number of at least 0, not {self.offset!r}; say how many hits to pass over"
            )
        if not _is_number(self.diversity) or not 0 <= self.diversity <= 1:
            raise QueryError(f"diversity is {self.diversity!r}; give a number from 0 to 1")
        if self.group_by is not None and (not isinstance(self.group_by, str) or not self.group_by.strip()):
            raise QueryError(f"group_by is {self.group_by!r}; give the name of a field")
        if self.boost is not None:
            parsed(self.boost)
        if self.after is not None and self.offset is not None:
            raise QueryError("after and offset both say where a page begins; give one of them")
        if self.after is not None and self.diversity:
            raise QueryError(
                "after goes by the order of the scores, and diverse hits have another; page them by offset"
            )

    @property
    def fields(self) -> list[str]:
        """The fields that it reads."""
        boosting = [] if self.boost is None else sorted(parsed(self.boost).fields)
        return boosting + ([] if self.group_by is None else [self.group_by])

    @property
    def paged(self) -> bool:
        """Whether it is a page."""
        return self.offset is not None or self.after is not None

    def wanted(self, k: int, compared: int | None, before: int = 0) -> int:
        """How many hits to look for so that k are left, where `compared` of them are ranked again, if any.

        `before` stood on earlier pages.
        """
        last = (self.offset or before) + k
        if compared is not None:
            if self.after is not None:
                return max(compared, k)  # what lies behind has no place in that order
            return max(last, compared) if self != Shape(offset=self.offset) else last
        if self.boost is not None:
            return max(_POOL * last, _BOOSTED)
        if self.diversity:
            return max(_POOL * last, _SPREAD)
        return last * (_WIDER if self.group_by is not None else 1) + self.paged


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


PLAIN = Shape()


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of a page: which question it belongs to, and after which hit it begins.

    `now` is when the first page was asked for, and `least` how many hits are looked for at least.
    """

    question: str
    after: Cursor | None
    now: float
    least: int = 0

    @property
    def before(self) -> int:
        """How many hits stood on earlier pages."""
        return 0 if self.after is None else self.after.place


def shaped(
    ask: Callable[[int], list[list[Hit]]],
    shape: Shape,
    k: int,
    compared: int | None,
    vectors: Callable[[Sequence[Hit]], Vectors],
    page: Page | None = None,
) -> list[list[Hit]]:
    """The hits of each question, in shape.

    Args:
        ask: gives so many hits for each question.
        shape: what is wanted.
        k: how many.
        compared: how many are ranked again, if any.
        vectors: unit rows (n, dim) of hits.
        page: of one question, where it is a page.
    """
    if page is None:
        page = Page("", None, time.time())
    n = max(shape.wanted(k, compared, page.before), page.least)
    boost = None if shape.boost is None else parsed(shape.boost)
    fixed = shape.after is not None and (compared is not None or boost is not None)
    while True:
        found = ask(n)
        answers = [_one(hits, shape, boost, k, page, vectors) for hits in found]
        if fixed or not any(
            len(hits) == n and _wants_more(hits, some, shape, k)
            for hits, some in zip(found, answers, strict=True)
        ):
            return answers
        n *= _WIDER


def _wants_more(hits: Sequence[Hit], shaped_hits: Sequence[Hit], shape: Shape, k: int) -> bool:
    """Whether those behind the hits could belong on the page."""
    last = hits[-1].score
    if shape.min_score is not None and shape.boost is None and last < shape.min_score:
        return False
    if (shape.group_by is not None or shape.after is not None) and len(shaped_hits) < k:
        return True
    # Among equals the index takes any; a page takes them by id, so it has to see them all.
    plain = shape.boost is None and not shape.diversity
    return shape.paged and plain and bool(shaped_hits) and last == shaped_hits[-1].score


def _one(
    hits: list[Hit],
    shape: Shape,
    boost: Boost | None,
    k: int,
    page: Page,
    vectors: Callable[[Sequence[Hit]], Vectors],
) -> list[Hit]:
    if boost is not None:
        hits = sorted((_boosted(hit, boost, page.now) for hit in hits), key=lambda hit: -hit.score)
    if shape.paged:
        hits = sorted(hits, key=lambda hit: (-hit.score, hit.id))
    if shape.min_score is not None:
        hits = [hit for hit in hits if hit.score >= shape.min_score]
    if shape.group_by is not None:
        hits = _best_of_each(hits, shape.group_by)
    if page.after is not None:
        hits = [hit for hit in hits if page.after.is_before(hit)]
    first = shape.offset or 0
    last = first + k
    if shape.diversity and hits:
        scores = np.array([hit.score for hit in hits], np.float32)
        spread = float(np.ptp(scores)) or 1.0
        relevance = (scores - scores.min()) / np.float32(spread)
        hits = [hits[at] for at in diverse(relevance, vectors(hits), last, shape.diversity)]
    return hits[first:last]


def _boosted(hit: Hit, boost: Boost, now: float) -> Hit:
    added = boost.value(hit.score, hit.metadata, now)
    said = hit.explain
    if said is not None:
        told: dict[str, Json] = {"found_score": hit.score, "added": added}
        said = {**said, "boost": told}
    return replace(hit, score=hit.score + added, explain=said)


def _best_of_each(hits: Sequence[Hit], name: str) -> list[Hit]:
    """The first hit of each value of a field; one without the field is a group of its own."""
    seen: set[str] = set()
    kept = []
    for hit in hits:
        value = field_of(hit.metadata, name)
        if value is not None:
            said = json.dumps(value, sort_keys=True)
            if said in seen:
                continue
            seen.add(said)
        kept.append(hit)
    return kept
