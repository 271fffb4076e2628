"""What somebody likes and does not, as given to `recommend`, and what it asks of a space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import numpy as np

from search.errors import QueryError
from search.index.view import Look
from search.query.recommend import Taste, middle
from search.query.request import ids, weight_of
from search.types import Metric, Space
from search.vectors import Vectors, unit_rows

HALF_LIFE_DAYS = 30.0
_OTHERS = 200  # records taken to stand for all others when a linear model is learned
_STEPS = 25
_RIDGE = 1.0


class Strategy(StrEnum):
    """How several examples make one score."""

    AVERAGE = "average"  # near the mean of the likes, less that of the dislikes
    BEST = "best"  # near any one of the likes
    LINEAR = "linear"  # on the likes' side of a line learned on the spot


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples by id, each with its weight, and how they make a score."""

    likes: Mapping[str, float]
    dislikes: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    exclude: tuple[str, ...] = ()
    strategy: Strategy = Strategy.AVERAGE

    @property
    def ids(self) -> list[str]:
        """All of them, each once."""
        paired = [id for pair in self.pairs for id in pair]
        return list(dict.fromkeys([*self.likes, *self.dislikes, *paired]))


def examples(
    likes: object,
    dislikes: object,
    pairs: Iterable[tuple[str, str]],
    exclude: str | Sequence[str],
    strategy: str,
    half_life: float | None,
) -> Examples:
    """The examples as the user gave them; `half_life` is in days, None for 30.

    Raises:
        QueryError: there is no like and no pair, or one of the rest makes no sense.
    """
    days = days_of(half_life, likes, dislikes)
    try:
        chosen = Strategy(strategy)
    except ValueError:
        raise QueryError(f"there is no strategy '{strategy}'; use {', '.join(Strategy)}") from None
    two = _pairs(pairs)
    liked = weighted(likes, "likes", days) or {a: 1.0 for a, _ in two}
    if not liked:
        raise QueryError(
            "recommend needs at least one like, the id of a stored record; or give pairs, a user or a history"
        )
    disliked = weighted(dislikes, "dislikes", days)
    return Examples(liked, disliked, two, tuple(ids(exclude, "exclude")), chosen)


def _pairs(pairs: Any) -> tuple[tuple[str, str], ...]:
    found = []
    for pair in pairs:
        two = [] if isinstance(pair, str) else ids(pair, "a pair")
        if len(two) != 2 or two[0] == two[1]:
            raise QueryError(f"the pair {pair!r} is none; give the id to be like and the id to be unlike")
        found.append((two[0], two[1]))
    return tuple(found)


def days_of(half_life: float | None, *given: object) -> float:
    """After how many days what was given counts half.

    Raises:
        QueryError: it is no positive number, or nothing given has a date.
    """
    if half_life is None:
        return HALF_LIFE_DAYS
    if isinstance(half_life, bool) or not isinstance(half_life, int | float) or not 0 < half_life < math.inf:
        raise QueryError(f"half_life is {half_life!r}; give a number of days")
    dated = any(
        isinstance(one, Mapping) and any(isinstance(value, str | date) for value in one.values())
        for one in given
    )
    if not dated:
        raise QueryError(
            "half_life is for what has dates, and nothing given has one; give dates or leave it out"
        )
    return float(half_life)


def weighted(given: Any, what: str, half_life: float) -> dict[str, float]:
    """Weights by id: numbers as they are; of moments the newest has 1, and one that is `half_life` days older 0.5."""
    if not isinstance(given, Mapping):
        counts: dict[str, float] = {}
        for id in ids(given, what):
            counts[id] = counts.get(id, 0.0) + 1.0
        return counts
    names = ids(list(given), what)
    moments = {id: _days(given[id], id) for id in names if isinstance(given[id], str | date)}
    newest = max(moments.values(), default=0.0)
    weights = {id: 0.5 ** ((newest - days) / half_life) for id, days in moments.items()}
    for id in names:
        if id in moments:
            continue
        weights[id] = weight_of(given[id], f"'{id}'", ", or when it was")
    least = max(weights.values(), default=1.0) * 1e-12  # what is that long ago is not quite forgotten
    return {id: max(weights[id], least) for id in names}


def _days(moment: str | date, id: str) -> float:
    try:
        when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        raise QueryError(
            f"'{id}' was liked at {moment!r}, which is no date; write it as 2026-03-11"
        ) from None
    if not isinstance(when, datetime):
        when = datetime(when.year, when.month, when.day, tzinfo=UTC)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() / 86_400


def taste_of(
    space: Space, look: Look, weight: float, given: Examples, parts: Mapping[str, Sequence[int]]
) -> Taste | None:
    """What the examples ask of a space, or None where no like has a vector in it.

    Args:
        space: the space.
        look: its rows.
        weight: how much it counts.
        given: the examples.
        parts: by id, the part keys of those that have some here.
    """
    rows = {id: middle(look, some) for id, some in parts.items() if some}
    liked = [id for id in given.likes if id in rows]
    if not liked:
        return None
    disliked = [id for id in given.dislikes if id in rows]
    unlike: Vectors | None = None
    if given.strategy is Strategy.BEST:
        alike = len({given.likes[id] for id in liked}) == 1
        if space.metric is Metric.L2 and (disliked or not alike):
            raise QueryError(
                f"strategy best takes neither dislikes nor weights in space '{space.name}', which compares by "
                "distance; leave them out, or use average"
            )
        query = _stacked(rows, liked, given.likes)
        unlike = _stacked(rows, disliked, given.dislikes) if disliked else None
    elif given.strategy is Strategy.LINEAR:
        query = _direction(look, rows, given, liked, disliked)
    else:
        query = _mean(space, rows, given, liked, disliked)
    pairs = [(rows[a], rows[b]) for a, b in given.pairs if a in rows and b in rows]
    return Taste(
        space,
        look,
        weight,
        query,
        unlike=unlike,
        pairs=np.asarray(pairs, dtype=np.float32) if pairs else None,
    )


def _stacked(rows: Mapping[str, Vectors], some: Sequence[str], weights: Mapping[str, float]) -> Vectors:
    """The rows, the heaviest as they are and the others shorter, so that their products count less."""
    counts = np.array([weights[id] for id in some], dtype=np.float32)
    stacked: Vectors = np.stack([rows[id] for id in some]) * (counts / counts.max())[:, None]
    return stacked


def _mean(
    space: Space, rows: Mapping[str, Vectors], given: Examples, liked: Sequence[str], disliked: Sequence[str]
) -> Vectors:
    """The weighted sum of the likes less that of the dislikes, (1, dim).

    Each example counts by its weight, however many parts it has. (Adding and subtracting unit vectors is how analogies
    are solved in Mikolov, Yih & Zweig 2013, sec. 5; with one like it is plain nearest-neighbour search.)
    """
    total = np.sum([np.float32(given.likes[id]) * rows[id] for id in liked], axis=0)
    if disliked:
        total = total - np.sum([np.float32(given.dislikes[id]) * rows[id] for id in disliked], axis=0)
    query = np.asarray(total, dtype=np.float32)[None, :]
    if space.metric is Metric.COSINE:
        return unit_rows(query)
    left = sum(given.likes[id] for id in liked) - sum(given.dislikes[id] for id in disliked)
    return query / np.float32(left if left > 0 else 1)


def _direction(
    look: Look, rows: Mapping[str, Vectors], given: Examples, liked: Sequence[str], disliked: Sequence[str]
) -> Vectors:
    """The direction (1, dim), of unit length, that tells the likes from the dislikes and from records at large.

    By logistic regression with a ridge (Newton's method); the others count together as much as the likes together.
    """
    if look.flat.metric is not Metric.COSINE:
        raise QueryError(
            f"strategy linear needs cosines, which space '{look.space.name}' does not compare by; use average"
        )
    every = np.arange(len(look.rows)) if look.rows.living is None else look.rows.living.positions
    others = every[np.unique(np.linspace(0, len(every) - 1, min(_OTHERS, len(every))).astype(np.int64))]
    at_large = unit_rows(np.asarray(look.rows.matrix[others], dtype=np.float32)).astype(np.float64)
    known = np.stack([rows[id] for id in [*liked, *disliked]]).astype(np.float64)
    weight_of_likes = np.array([given.likes[id] for id in liked])
    x = np.concatenate([known, at_large])
    y = np.concatenate([np.ones(len(liked)), np.zeros(len(disliked) + len(at_large))])
    n = np.concatenate(
        [
            weight_of_likes,
            [given.dislikes[id] for id in disliked],
            np.full(len(at_large), weight_of_likes.sum() / len(at_large)),
        ]
    )
    found = logistic(x, y, n * (len(liked) / weight_of_likes.sum()))
    return unit_rows(np.asarray(found, dtype=np.float32)[None, :])


def logistic(x: Any, y: Any, n: Any, ridge: float = _RIDGE) -> Any:
    """The coefficients (dim,) of a logistic regression of `y` (m,) on `x` (m, dim), each row counting `n` (m,) times.

    With an intercept, which the ridge leaves alone. The rows being few, Newton's steps are taken in their span.
    """
    basis, _ = np.linalg.qr(x.T)  # (dim, r): no coefficient lies outside the span of the rows
    rows = np.concatenate([x @ basis, np.ones((len(x), 1))], axis=1)
    penalty = np.full(rows.shape[1], ridge)
    penalty[-1] = 1e-9
    beta = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(rows @ beta, -30, 30)))
        slope = rows.T @ (n * (p - y)) + penalty * beta
        curve = (rows * (n * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        beta -= step
        if np.abs(step).max() < 1e-10:
            break
    return basis @ beta[:-1]
