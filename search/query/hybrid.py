"""Search by words and by meaning at once: the ranking of BM25 and that of the vectors, fused by their ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from search.catalog import reads
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.index.contract import Allowed, Rows
from search.index.view import Look
from search.query import run
from search.query.asking import Asking
from search.query.keywords import Ranking
from search.query.recommend import Taste, scored
from search.query.request import Options
from search.query.run import Found
from search.query.units import meant
from search.types import Hit, Json, Space
from search.vectors import Keys, Vectors, similarity

if TYPE_CHECKING:
    pass

Answer = TypeVar("Answer")
DEPTH = 100  # of each ranking, the first that count; all k do in any case
CONSTANT = 60  # what softens the difference between the first ranks
EVEN = 0.5  # how much the ranking by meaning counts where nobody has learned better


@dataclass(frozen=True, slots=True)
class Fused:
    """The best records by both rankings, with their rank in each, from 1; 0 where they are not among its first."""

    found: Found
    by_meaning: NDArray[np.int64]
    by_words: NDArray[np.int64]


def fused(
    by_meaning: Keys, by_words: Keys, k: int, weight: float = EVEN
) -> tuple[Keys, NDArray[np.float32], NDArray[np.int64]]:
    """The best k of two rankings by reciprocal rank fusion (Cormack, Clarke & Büttcher 2009, sec. 2).

    Args:
        by_meaning: the keys of one ranking, best first.
        by_words: those of the other.
        k: how many.
        weight: how much the first counts, from 0 to 1; the other counts for the rest.

    Returns:
        Keys (n,), best first, among equals by key; their scores (n,), the weighted sum of 1 / (60 + rank), scaled so
        that the first of both rankings has 1; and their ranks (n, 2), 0 where a ranking has not got them.
    """
    keys = np.union1d(by_meaning, by_words)
    ranks = np.zeros((len(keys), 2), np.int64)
    for column, ranking in enumerate((by_meaning, by_words)):
        ranks[np.searchsorted(keys, ranking), column] = np.arange(1, len(ranking) + 1)
    total = shares_of(ranks) @ np.array([weight, 1 - weight])
    order = np.lexsort((keys, -total))[:k]
    return keys[order], total[order].astype(np.float32), ranks[order]


def shares_of(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each rank, from 1, adds to the score: 61 / (60 + rank); nothing for 0, which is none."""
    return np.where(ranks > 0, (CONSTANT + 1) / (CONSTANT + ranks), 0.0)


class HybridAsking(Asking):
    """The part of an `Asker` that looks for words beside the vectors."""

    _living: tuple[Rows, NDArray[np.bool_]] | None = (
        None  # which records can be found, of the space last asked
    )

    def by_words_too(self, queries: Sequence[str], space: Space, options: Options) -> list[list[Hit]]:
        """Hits for words, a list for each query: among the records that have a vector in the space."""
        vectors, encoding_s = self._encoded([meant(query) for query in queries], space, self.encoder(space))
        return self._found_by_both(space, queries, vectors, options, encoding_s)

    def _found_by_both(
        self, space: Space, queries: Sequence[str], vectors: Vectors, options: Options, encoding_s: float
    ) -> list[list[Hit]]:
        """As `by_words_too`, of queries that are encoded already (n, dim)."""
        return self._read(
            lambda transaction, state: self._both(
                (transaction, state), space, queries, vectors, options, encoding_s
            )
        )

    def _findable(self, rows: Rows, allowed: Allowed | None, next_record: int) -> NDArray[np.bool_]:
        """Whether a record, by its key, may be returned: it has a row that lives and is allowed."""
        held = self._living
        if allowed is None and held is not None and held[0] is rows:
            return held[1]
        usable = allowed or rows.living
        among = np.zeros(next_record, dtype=bool)
        among[rows.record_keys if usable is None else rows.record_keys[usable.mask]] = True
        if allowed is None:
            self._living = (rows, among)
        return among

    def _both(
        self,
        reading: tuple[Transaction, State],
        space: Space,
        queries: Sequence[str],
        vectors: Vectors,
        options: Options,
        encoding_s: float,
    ) -> list[list[Hit]]:
        transaction, state = reading
        look = self._views.look(transaction, state, space)
        preferred = self._preferred.of(transaction, state, space)
        weight = EVEN if preferred.meaning is None else preferred.meaning
        rows, allowed = look.rows, None
        if options.where is not None:
            allowed = self._matching().allowed(transaction, state, look, options.where)
        depth = max(options.k, DEPTH)
        started = time.perf_counter()
        near, way = run.nearest(look, vectors, depth, allowed, options.effort)
        search_ms = (time.perf_counter() - started) * 1e3
        among = self._findable(rows, allowed, state.next_record)
        answers, told = [], []
        for query, vector, meaning in zip(queries, vectors, near, strict=True):
            started = time.perf_counter()
            ranking = self.keywords.ranking(transaction, state, query, preferred.language)
            by_words, bm25 = ranking.first(among, depth)
            keys, scores, ranks = fused(meaning.record_keys, by_words, options.k, weight)
            parts = _parts(transaction, look, vector, meaning, keys, ranks)
            both = Fused(Found(parts, keys, scores), ranks[:, 0], ranks[:, 1])
            words_ms = (time.perf_counter() - started) * 1e3
            answers.append(both.found)
            if options.explain:
                times: dict[str, Json] = {
                    "encode_ms": round(encoding_s * 1e3, 3),
                    "search_ms": round(search_ms, 3),
                    "words_ms": round(words_ms, 3),
                }
                said: dict[str, Json] = {"space": space.name, "plan": way.to_json(), **times}
                if len(queries) > 1:
                    said["together"] = len(queries)  # all were encoded and searched for in these times
                told.append(
                    _explained(
                        look,
                        vector,
                        both,
                        ranking,
                        dict(zip(by_words.tolist(), bm25.tolist(), strict=True)),
                        said,
                    )
                )
        return run.hits(
            transaction,
            self._lately,
            answers,
            space.name,
            told if options.explain else None,
            pieces=look.pieces,
            context=options.context,
        )


def _parts(
    transaction: Transaction,
    look: Look,
    vector: NDArray[np.float32],
    meaning: Found,
    keys: Keys,
    ranks: NDArray[np.int64],
) -> Keys:
    """The part (n,) that is shown of each record: that by which it was found, else the nearest."""
    parts = np.zeros(len(keys), np.int64)
    near = ranks[:, 0] > 0
    parts[near] = meaning.part_keys[ranks[near, 0] - 1]
    if not near.all():  # found by its words alone: the part that is nearest is shown
        others = keys[~near].tolist()
        there = reads.parts_of(transaction, look.space, others)
        parts[~near] = [_nearest_part(look, vector, there[key]) for key in others]
    return parts


def _nearest_part(look: Look, vector: NDArray[np.float32], parts: list[int]) -> int:
    if len(parts) == 1:
        return parts[0]
    near = similarity(run.vectors_of(look.rows, parts), vector[None, :], look.space.metric)[0]
    return parts[int(np.argmax(near))]


def _explained(
    look: Look,
    vector: NDArray[np.float32],
    both: Fused,
    ranking: Ranking,
    bm25: dict[int, float],
    said: dict[str, Json],
) -> list[dict[str, Json]]:
    """What brought each hit: its rank and score by meaning and by words, and which words it holds."""
    keys = both.found.record_keys
    best = scored(Taste(look.space, look, 1.0, vector[None, :]), np.sort(keys))
    cosines = best.scores[np.searchsorted(best.record_keys, keys)]
    told = []
    for number, key in enumerate(keys.tolist()):
        by_meaning, by_words = int(both.by_meaning[number]), int(both.by_words[number])
        told.append(
            {
                **said,
                "hybrid": {
                    "by_meaning": {"rank": by_meaning or None, "score": float(cosines[number])},
                    "by_words": {
                        "rank": by_words or None,
                        "bm25": bm25.get(key),
                        "words": list(ranking.words_of(key)),
                    },
                },
            }
        )
    return told
