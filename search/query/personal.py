"""What a user should see next: the query that a user, or some items taken, make in a space learned from interactions.

Such a space holds users and items; the inner product says how they go together, and its edges who took what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from search.catalog import edges, reads
from search.catalog.database import Transaction
from search.catalog.names import names_of
from search.catalog.reads import State
from search.errors import QueryError, UnknownRecord, UnknownSpace
from search.index.view import Look
from search.query.examples import days_of, weighted
from search.query.follow import Views
from search.query.plan import named
from search.query.recommend import Taste
from search.query.run import mask_of, positions_of, vectors_of
from search.query.together import TOGETHER, together
from search.types import Hit, Json, Space
from search.vectors import Keys, Vectors, unit_rows

USER = "user:"  # what the ids of users begin with, so that none is an item's
LEARNED_FROM = "learned_from"  # the option of a space's spec that says so
INTERACTIONS = "interactions"
HALF_LIFE_ITEMS = (
    "half_life_items"  # the option by which what was taken counts less, the more was taken since
)
RIDGE = "ridge"  # the option of an ALS space: how much of what counts in a row holds its vector near 0
_NEAREST = 3  # of the items taken that are named for a hit
_ALPHA, _RIDGE = 10.0, 0.1  # of the fold-in, where the space was not learned by least squares


def is_personal(space: Space) -> bool:
    """Whether the space was learned from interactions."""
    return space.encoder.options.get(LEARNED_FROM) == INTERACTIONS


@dataclass(frozen=True, slots=True)
class Who:
    """For whom: a user who is stored, or what somebody took, with how much each counts."""

    user: str | None = None
    history: Mapping[str, float] = field(default_factory=dict)
    listed: bool = False  # the history has no weights, but an order: what was taken last stands last


def who(user: object, history: object, half_life: float | None = None) -> Who:
    """For whom something is asked; `half_life` is in days, for a history of dates, None for 30.

    Raises:
        QueryError: both or neither are given, the history is empty, or a weight is not a positive number or a date.
    """
    if (user is None) == (history is None):
        raise QueryError("say for whom; give a user or a history, one of the two")
    days = days_of(half_life, history)
    if user is not None:
        if not isinstance(user, str) or not user:
            raise QueryError(f"the user is {user!r}; give an id as a string")
        return Who(user)
    taken = weighted(history, "history", days)
    if not taken:
        raise QueryError("the history is empty; give the ids of some items, or ask for the nearest of one")
    return Who(None, taken, not isinstance(history, Mapping))


@dataclass(frozen=True, slots=True)
class Personal:
    """A question for somebody: its taste in each space, what is left out, and what was taken, by space."""

    tastes: list[Taste]
    left_out: list[int]
    taken: dict[str, Keys]


@dataclass(frozen=True, slots=True)
class Gram:
    """The sum (dim, dim) of y y' over the vectors of `n` items."""

    products: NDArray[np.float64]
    n: int


def gram_of(items: Vectors) -> Gram:
    """That of these vectors (n, dim)."""
    rows = items.astype(np.float64)
    return Gram(rows.T @ rows, len(rows))


class Users:
    """The keys of all users, and what folding in needs of each space, as of the commit last asked at."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._keys: tuple[int, Keys] = (-1, np.empty(0, np.int64))
        self._grams: dict[int, tuple[int, Gram]] = {}

    def keys(self, transaction: Transaction, state: State) -> Keys:
        """The keys (n,) of the records whose ids say that they are users, ascending."""
        with self._lock:
            seq, keys = self._keys
            if seq != state.commit_seq:
                rows = transaction.sql("select key from record where id >= ? and id < ?", (USER, "user;"))
                keys = np.sort(reads.key_array(rows))
                self._keys = (state.commit_seq, keys)
            return keys

    def gram(self, state: State, look: Look, users: Keys) -> Gram:
        """That of the vectors of all items."""
        with self._lock:
            held = self._grams.get(look.space.key)
            if held is None or held[0] != state.commit_seq:
                rows = look.rows
                items = rows.matrix[rows.allowed(~mask_of(rows, users)).positions]
                held = self._grams[look.space.key] = (state.commit_seq, gram_of(items))
            return held[1]


def personal(
    asked: Who, weights: Mapping[str, float] | None, users: Users, reading: tuple[Transaction, State, Views]
) -> Personal:
    """The query of somebody in each space learned from interactions, or in those named.

    Raises:
        UnknownRecord: there is no such user or item, or it has no vector there.
        UnknownSpace: no space was learned from interactions, or one that was named was not.
        QueryError: the history names a user.
    """
    transaction, state, views = reading
    spaces = _spaces(views.spaces(transaction, state), weights)
    all_users = users.keys(transaction, state)
    asked_keys = _keys(transaction, asked, all_users)
    tastes: list[Taste] = []
    taken: dict[str, Keys] = {}
    for space, weight in spaces:
        look = views.look(transaction, state, space)
        parts = reads.parts_of(transaction, space, list(asked_keys.values()))
        if asked.user is not None:
            (key,) = asked_keys.values()
            if not parts.get(key):
                continue
            query = vectors_of(look.rows, parts[key])[:1]
            found, theirs = edges.neighbours(transaction, space, key)
            counted = dict(zip(found.tolist(), theirs.tolist(), strict=True))
        else:
            there = {id: parts[key] for id, key in asked_keys.items() if parts.get(key)}
            if not there:
                continue
            items = vectors_of(look.rows, [some[0] for some in there.values()])
            counts = _counts(space, asked, there)
            query = folded_in(space, users.gram(state, look, all_users), items, counts)
            counted = {asked_keys[id]: float(count) for id, count in zip(there, counts, strict=True)}
        taken[space.name] = np.array(sorted(counted), dtype=np.int64)
        tastes.append(Taste(space, look, weight, query, together=together(transaction, space, counted)))
    if not tastes:
        names = ", ".join(f"'{space.name}'" for space, _ in spaces)
        what = f"user '{asked.user}' has no" if asked.user is not None else "no item of the history has a"
        raise UnknownRecord(f"{what} vector in {names}; ingest the interactions again, or leave it out")
    # What is in the history and has no vector was taken all the same.
    known = [] if asked.user is not None else list(asked_keys.values())
    left_out = np.unique(np.concatenate([*taken.values(), np.array(known, dtype=np.int64)])).tolist()
    return Personal(tastes, left_out, taken)


def names_one(users: Keys, keys: Keys) -> bool:
    """Whether any of these keys is a user's; `users` are ascending."""
    if not len(users):
        return False
    at = np.minimum(np.searchsorted(users, keys), len(users) - 1)
    return bool((users[at] == keys).any())


def _spaces(spaces: Mapping[str, Space], weights: Mapping[str, float] | None) -> list[tuple[Space, float]]:
    if weights is not None:
        chosen = [(named(spaces, name), weight) for name, weight in weights.items()]
        for space, _ in chosen:
            if not is_personal(space):
                raise UnknownSpace(
                    f"space '{space.name}' was not learned from interactions; recommend there by likes"
                )
        return chosen
    found = [(space, 1.0) for space in spaces.values() if is_personal(space)]
    if not found:
        raise UnknownSpace(
            "no space was learned from interactions; fill one with: nearkin ingest interactions"
        )
    return found


def _keys(transaction: Transaction, asked: Who, users: Keys) -> dict[str, int]:
    if asked.user is not None:
        bare = asked.user.removeprefix(USER)
        found = reads.keys_of(transaction, [USER + bare, asked.user])
        for id in (USER + asked.user, USER + bare):
            if id in found:
                return {id: found[id]}
        raise UnknownRecord(
            f"no user '{asked.user}' is known; give what was taken as a history, or ingest the interactions again"
        )
    found = reads.keys_of(transaction, list(asked.history))
    unknown = [id for id in asked.history if id not in found]
    if unknown:
        said = ", ".join(f"'{id}'" for id in unknown)
        raise UnknownRecord(f"no record has the id {said}; look it up with: nearkin get")
    known_users = set(users.tolist())
    for id, key in found.items():
        if key in known_users:
            raise QueryError(f"'{id}' in the history is a user; give the ids of items")
    return {id: found[id] for id in asked.history}


def _counts(space: Space, asked: Who, ids: Iterable[str]) -> NDArray[np.float64]:
    """How much each of these items of the history counts (n,)."""
    counts = np.array([asked.history[id] for id in ids], dtype=np.float64)
    half_life = space.encoder.options.get(HALF_LIFE_ITEMS)
    if asked.listed and half_life is not None:
        place = {id: number for number, id in enumerate(asked.history)}
        later = len(place) - 1 - np.array([place[id] for id in ids])
        counts = counts * 0.5 ** (later / float(half_life))  # type: ignore[arg-type]
    return counts


def folded_in(space: Space, gram: Gram, items: Vectors, counts: NDArray[np.float64]) -> Vectors:
    """The vector (1, dim) of somebody new who took these items, as if learned with the items' vectors as they are.

    In a space of ALS it is the user's half-step itself (Hu, Koren & Volinsky 2008, eq. 4), with the settings it was
    learned with. In others it is the same least squares, by which what was taken scores 1 and all else 0.

    Args:
        space: where.
        gram: that of all items.
        items: (n, dim) their vectors.
        counts: (n,) how much each counts.
    """
    options = space.encoder.options
    rows, left = items.astype(np.float64), gram.products
    if space.encoder.family in ("als", TOGETHER):
        extra = float(options["alpha"]) * (np.log1p(counts) if options["log"] else counts)  # type: ignore[arg-type]
        if RIDGE in options:
            ridge = float(options[RIDGE]) * float(extra.sum())  # type: ignore[arg-type]
        else:  # as spaces were learned at first: by all that counts, taken or not
            ridge = float(options["regularization"]) * (float(extra.sum()) + gram.n)  # type: ignore[arg-type]
    else:
        extra = _ALPHA * np.ones(len(rows))  # there a pair was taken or not
        ridge = _RIDGE * float(np.trace(left)) / len(left)
    left = left + rows.T @ (rows * extra[:, None]) + ridge * np.eye(len(left))
    return np.linalg.solve(left, rows.T @ (1 + extra)).astype(np.float32)[None, :]


def because(transaction: Transaction, hits: Sequence[Hit], told: Personal) -> list[Hit]:
    """The hits with `because` in their `explain`: of the items taken those nearest to each, by the cosine."""
    keys = reads.keys_of(transaction, [hit.id for hit in hits])
    looks = {taste.space.name: (taste.look, taste.together) for taste in told.tastes}
    for hit in hits:
        names: list[Json] = []
        look, beside = looks[hit.space]
        if beside is not None and (reasons := beside.reasons(keys[hit.id], _NEAREST)):
            ids = names_of(transaction, [key for key, _ in reasons])
            names = [{"id": ids[key], "speaks": round(value, 4)} for key, value in reasons if key in ids]
            hit.explain = {**(hit.explain or {}), "because": names}
            continue
        rows = look.rows
        taken = positions_of(rows, told.taken[hit.space])
        own = positions_of(rows, np.array([keys[hit.id]], dtype=np.int64))
        if len(taken) and len(own):
            likeness = unit_rows(rows.matrix[taken]) @ unit_rows(rows.matrix[own[:1]])[0]
            best = np.argsort(-likeness, kind="stable")[:_NEAREST]
            ids = names_of(transaction, rows.record_keys[taken[best]].tolist())
            names = [
                {"id": ids[key], "likeness": round(float(likeness[at]), 4)}
                for at in best.tolist()
                if (key := int(rows.record_keys[taken[at]])) in ids
            ]
        hit.explain = {**(hit.explain or {}), "because": names}
    return list(hits)
