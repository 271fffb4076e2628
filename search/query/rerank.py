"""Puts the first hits of a search into a better order, by a comparison that is too dear to make with every row."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from search.errors import QueryError, WrongModality
from search.types import Hit, Json
from search.vectors import Vectors, unit_rows

if TYPE_CHECKING:
    from search.encoders.contract import Encoder
    from search.encoders.cross import CrossEncoder
    from search.encoders.text import TextEncoder

DEPTH = 100  # of the first hits are compared again
_AT_ONCE = 64  # passages whose token vectors are in memory together
_LEAST = -1.0  # the score of what has no token to compare


class Rerank(StrEnum):
    """Ways to compare again."""

    MAXSIM = "maxsim"  # late interaction: each token of the query with each token of the passage
    CROSS_ENCODER = "cross-encoder"  # a network that reads both together


def kind_of(name: str) -> Rerank:
    """The way that is named: maxsim, or else a cross-encoder by its name or folder.

    Raises:
        QueryError: there is no name.
    """
    if not isinstance(name, str) or not name.strip():
        raise QueryError(f"rerank is {name!r}; give {Rerank.MAXSIM}, or a cross-encoder by name or folder")
    return Rerank.MAXSIM if name == Rerank.MAXSIM else Rerank.CROSS_ENCODER


def late_interaction(encoder: Encoder, space: str) -> TextEncoder:
    """The encoder, as one that has token vectors.

    Raises:
        WrongModality: it has none.
    """
    from search.encoders.text import TextEncoder

    if not isinstance(encoder, TextEncoder):
        raise WrongModality(
            f"space '{space}' ({encoder.spec.model}) has no token vectors for maxsim; "
            "search a space made by a text encoder, or leave rerank out"
        )
    return encoder


def by_maxsim(
    encoder: TextEncoder, queries: Sequence[str], answers: Sequence[Sequence[Hit]], k: int, *, explain: bool
) -> list[list[Hit]]:
    """The hits of each query in the order of their MaxSim, the k best of them, with it as their score.

    With `explain` each is told its former score too.
    """
    started = time.perf_counter()
    scores = maxsim(encoder, queries, [[hit.text for hit in hits] for hits in answers])
    told = {"kind": Rerank.MAXSIM.value} if explain else None
    return _ranked(answers, scores, k, told, time.perf_counter() - started)


def by_cross_encoder(
    encoder: CrossEncoder, queries: Sequence[str], answers: Sequence[Sequence[Hit]], k: int, *, explain: bool
) -> list[list[Hit]]:
    """The hits of each query in the order a cross-encoder gives them, the k best, with its output as their score.

    (Nogueira & Cho 2019, sec. 3.) A hit without a text is compared as an empty one.
    """
    started = time.perf_counter()
    pairs = [(query, hit.text or "") for query, hits in zip(queries, answers, strict=True) for hit in hits]
    flat = iter(encoder.scores(pairs).tolist())
    scores = [[next(flat) for _ in hits] for hits in answers]
    told = {"kind": Rerank.CROSS_ENCODER.value, "model": encoder.model} if explain else None
    return _ranked(answers, scores, k, told, time.perf_counter() - started)


def _ranked(
    answers: Sequence[Sequence[Hit]],
    scores: Sequence[Sequence[float]],
    k: int,
    told: Mapping[str, Json] | None,
    taken_s: float,
) -> list[list[Hit]]:
    """The hits of each query by these scores, best first, among equals in their former order; `told` is for explain."""
    ranked = []
    for hits, some in zip(answers, scores, strict=True):
        order = np.argsort(-np.array(some), kind="stable")[:k]
        said = None
        if told is not None:
            said = {**told, "depth": len(hits), "rerank_ms": round(taken_s * 1e3, 3)}
        ranked.append([_scored(hits[i], some[i], said) for i in order])
    return ranked


def maxsim(
    encoder: TextEncoder, queries: Sequence[str], passages: Sequence[Sequence[str | None]]
) -> list[list[float]]:
    """For each query and each of its passages the mean, over the query's tokens, of their best cosine in the passage.

    The token vectors are the encoder's last hidden states; each passage is encoded once, whoever asks for it.
    (Khattab & Zaharia 2020, sec. 3, with the mean in place of the sum, so that it stays a cosine; they train for
    it, which here nobody did.)

    Returns:
        The scores, between -1 and 1; -1 where a passage has no text or no token.

    Raises:
        QueryError: a query has no token.
    """
    asked: list[Vectors] = []
    for query, (_, vectors) in zip(queries, encoder.token_vectors(queries, role="query"), strict=True):
        if not len(vectors):
            raise QueryError(f"the model sees no token in the query {query!r}; ask in words")
        asked.append(unit_rows(vectors))
    wanted: dict[str, list[tuple[int, int]]] = {}
    for number, some in enumerate(passages):
        for place, text in enumerate(some):
            if text:
                wanted.setdefault(text, []).append((number, place))
    scores = [[_LEAST] * len(some) for some in passages]
    texts = sorted(wanted, key=len)
    for begin in range(0, len(texts), _AT_ONCE):
        block = texts[begin : begin + _AT_ONCE]
        for text, (_, vectors) in zip(block, encoder.token_vectors(block, role="document"), strict=True):
            if len(vectors):
                tokens = unit_rows(vectors)
                for number, place in wanted[text]:
                    scores[number][place] = _best_matches(asked[number], tokens)
    return scores


def _best_matches(query: Vectors, passage: Vectors) -> float:
    """The mean over rows of `query` (m, dim) of their largest product with a row of `passage` (n, dim)."""
    return float((query @ passage.T).max(axis=1).mean())


def _scored(hit: Hit, score: float, said: Mapping[str, Json] | None) -> Hit:
    if said is None:
        return replace(hit, score=score)
    told = {**said, "first_score": hit.score, "score": score}
    return replace(hit, score=score, explain={**(hit.explain or {}), "rerank": told})
