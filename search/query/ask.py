"""Answers each way of asking, from one read transaction: which space, which rows may match, which hits."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sqlalchemy import Connection

from search.catalog import reads, where
from search.catalog.database import Database
from search.errors import CollectionError, QueryError, UnknownRecord
from search.query import plan, run
from search.query.follow import Behind, Views
from search.query.recommend import recommend, taste
from search.query.request import Options
from search.types import EncoderSpec, Hit, Json, Space
from search.vectors import Keys, Vectors, as_floats, checked, prepared

if TYPE_CHECKING:
    from search.encoders.contract import Encoder, Item

Answer = TypeVar("Answer")
_FILTERS_KEPT = 64
_READ_AGAIN = 100  # times a reader starts anew because another thread moved on; each takes microseconds


def vectors(vector: Any) -> tuple[bool, Vectors]:
    """A given vector or batch of them as (n, dim) rows, and whether it was a single one.

    Raises:
        QueryError: not numbers, or of more than two dimensions.
    """
    given = as_floats(vector, "the query vectors")
    if given.ndim == 0:
        raise QueryError(f"the vector is the number {vector!r}; give a list of floats")
    return given.ndim == 1, checked(np.atleast_2d(given), what="the query vectors")


class Asker:
    """Asks the spaces of one collection; keeps the encoders it has loaded."""

    def __init__(self, database: Database, views: Views, device: str) -> None:
        self._database = database
        self._views = views
        self._device = device
        self._encoders: dict[int, tuple[EncoderSpec, Encoder]] = {}
        self._loading = threading.Lock()
        self._matches = Matches()

    def _read(self, question: Callable[[Connection], Answer]) -> Answer:
        """Ask within one read transaction; again where another thread has moved on in between."""
        for _ in range(_READ_AGAIN):
            try:
                with self._database.reading() as connection:
                    return question(connection)
            except Behind:
                continue
        raise CollectionError(f"{self._database.path} changes faster than it can be read; ask again")

    def encoder(self, space: Space) -> Encoder:
        """The encoder that made the space, checked against what it gave then.

        Raises:
            ModelUnavailable: it is not on this machine.
            EncoderDrift: it gives other vectors now.
        """
        with self._loading:
            held = self._encoders.get(space.key)
            if held is None or held[0] != space.encoder:  # another process may have trained it anew
                from search.encoders import load, probes

                with self._database.reading() as connection:
                    stored = reads.probes(connection, space)
                    weights = space.encoder.weights
                    data = reads.model(connection, weights) if weights else None
                encoder = load.load_spec(space.encoder, data=data, device=load.Device(self._device))
                if stored is not None:
                    probes.check(encoder, space, stored)
                held = self._encoders[space.key] = (space.encoder, encoder)
            return held[1]

    def by_item(
        self, items: Sequence[Item], kind: str, space: str | None, options: Options
    ) -> list[list[Hit]]:
        """Hits for words or pictures, a list for each."""
        chosen = self._read(lambda connection: plan.space_for(reads.spaces(connection), space, kind))
        started = time.perf_counter()
        queries = self.encoder(chosen).encode(items, role="query")
        encoding_s = time.perf_counter() - started
        return self._read(lambda connection: self._nearest(connection, chosen, queries, options, encoding_s))

    def by_vector(self, queries: Vectors, space: str | None, options: Options) -> list[list[Hit]]:
        """Hits for given vectors, a list for each."""

        def question(connection: Connection) -> list[list[Hit]]:
            chosen = plan.space_of_vector(reads.spaces(connection), space, queries.shape[1])
            rows = prepared(queries, chosen.dim, chosen.metric, "the query vectors")
            return self._nearest(connection, chosen, rows, options, 0.0)

        return self._read(question)

    def _nearest(
        self, connection: Connection, space: Space, queries: Vectors, options: Options, encoding_s: float
    ) -> list[list[Hit]]:
        started = time.perf_counter()
        state = reads.state(connection)
        look = self._views.look(connection, state, space)
        matching = self._matches.keys(connection, state, options.where)
        found, way = run.nearest(look, queries, options.k, run.allowed_rows(look.rows, matching, None))
        said: dict[str, Json] = {
            "space": space.name,
            "plan": way.to_json(),
            "encode_ms": round(encoding_s * 1e3, 3),
            "search_ms": round((time.perf_counter() - started) * 1e3, 3),
        }
        names = [[space.name] * len(one.part_keys) for one in found]
        told = [[said] * len(one.part_keys) for one in found] if options.explain else None
        return run.hits(connection, found, names, told)

    def recommend(
        self,
        likes: Sequence[str],
        dislikes: Sequence[str],
        weights: Mapping[str, float] | None,
        diversity: float,
        options: Options,
    ) -> list[Hit]:
        """Hits near the likes and far from the dislikes."""
        return self._read(
            lambda connection: self._recommend(connection, likes, dislikes, weights, diversity, options)
        )

    def _recommend(
        self,
        connection: Connection,
        likes: Sequence[str],
        dislikes: Sequence[str],
        weights: Mapping[str, float] | None,
        diversity: float,
        options: Options,
    ) -> list[Hit]:
        keys = reads.keys_of(connection, [*likes, *dislikes])
        unknown = list(dict.fromkeys(id for id in [*likes, *dislikes] if id not in keys))
        if unknown:
            raise UnknownRecord(f"no record has the id {_names(unknown)}; look it up with: nearkin get")
        spaces, state = reads.spaces(connection), reads.state(connection)
        examples = (likes, dislikes)
        tastes, homeless = [], dict.fromkeys(likes)
        for name, weight in (weights or dict.fromkeys(spaces, 1.0)).items():
            space = plan.named(spaces, name)
            parts = reads.parts_of(connection, space, keys.values())
            liked, disliked = ([parts.get(keys[id], []) for id in some] for some in examples)
            for id, there in zip(likes, liked, strict=True):
                if there:
                    homeless.pop(id, None)
            if any(liked):
                look = self._views.look(connection, state, space)
                tastes.append(taste(space, look, weight, liked, disliked))
        if homeless:
            place = "the spaces asked" if weights else "any space"
            raise UnknownRecord(
                f"{_names(homeless)} has no vector in {place}; ingest it there, or leave it out"
            )
        excluded = np.array(sorted(keys.values()), dtype=np.int64)
        matching = self._matches.keys(connection, state, options.where)
        chosen = recommend(tastes, options.k, matching, excluded, diversity)
        said = [[{"scores": scores} for scores in chosen.scores]] if options.explain else None
        return run.hits(connection, [chosen.found], [chosen.spaces], said)[0]


class Matches:
    """Keys of the records that match a where-expression, kept while no commit has changed the records."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Keys] = OrderedDict()
        self._lock = threading.Lock()

    def keys(self, connection: Connection, state: reads.State, expression: str | None) -> Keys | None:
        """The keys, ascending; None where there is no expression.

        Raises:
            FilterError: the expression cannot be used.
        """
        if expression is None:
            return None
        name = (expression, state.commit_seq)
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        keys = reads.matching(connection, where.parse(expression, reads.fields(connection)))
        with self._lock:
            self._kept[name] = keys
            while len(self._kept) > _FILTERS_KEPT:
                self._kept.popitem(last=False)
        return keys


def _names(ids: Iterable[str]) -> str:
    return ", ".join(f"'{id}'" for id in ids)
