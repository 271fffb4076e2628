"""Answers each way of asking, from one read transaction: which space, which rows may match, which hits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from search.catalog import reads
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.errors import QueryError
from search.index.contract import Allowed
from search.index.view import Look
from search.query import plan, rerank, run
from search.query.hybrid import HybridAsking
from search.query.recommend import middle
from search.query.request import Options
from search.query.several_spaces import SeveralSpaces
from search.query.whole_spaces import WholeSpaces
from search.query.words import TOKENS, WordsOfMany
from search.types import Hit, Json, Space
from search.uncollected import uncollected
from search.vectors import Vectors, as_floats, checked, prepared, unit_rows

if TYPE_CHECKING:
    from search.encoders.contract import Encoder, Item

_TOGETHER = 125  # queries searched at a time in a long batch


def vectors(vector: Any) -> tuple[bool, Vectors]:
    """A given vector or batch of them as (n, dim) rows, and whether it was a single one.

    Raises:
        QueryError: not numbers, or of more than two dimensions.
    """
    given = as_floats(vector, "the query vectors")
    if given.ndim == 0:
        raise QueryError(f"the vector is the number {vector!r}; give a list of floats")
    if given.ndim == 1 and len(given):
        return True, given[None, :]
    return False, checked(given, what="the query vectors")


class Asker(HybridAsking, SeveralSpaces, WholeSpaces):
    """Asks the spaces of one collection; keeps the encoders it has loaded."""

    def by_item(
        self, items: Sequence[Item], kind: str, space: str | None, options: Options
    ) -> list[list[Hit]]:
        """Hits for words or pictures, a list for each."""
        again = None if options.rerank is None else rerank.kind_of(options.rerank)
        chosen = self._read(
            lambda transaction, state: plan.space_for(self._views.spaces(transaction, state), space, kind)
        )
        encoder = self.encoder(chosen)
        first = options
        if again is not None:
            if again is rerank.Rerank.MAXSIM:
                interacting = rerank.late_interaction(encoder, chosen.name)
            else:
                cross = self._cross_encoder(str(options.rerank))
            first = replace(options, k=max(options.k, options.rerank_depth or rerank.DEPTH))
        if len(items) == 1 and isinstance(items[0], str):
            found = [self._words_of_many(chosen, encoder).ask(items[0], first)]
        elif options.hybrid:
            found = self.by_words_too([str(one) for one in items], chosen, first)
        else:
            queries, encoding_s = self._encoded(items, chosen, encoder)
            found = self._found(chosen, queries, first, encoding_s)
        if again is None:
            return found
        words = [str(one) for one in items]
        if again is rerank.Rerank.MAXSIM:
            return rerank.by_maxsim(interacting, words, found, options.k, explain=options.explain)
        return rerank.by_cross_encoder(cross, words, found, options.k, explain=options.explain)

    def _words_of_many(self, space: Space, encoder: Encoder) -> WordsOfMany:
        """Where the words that several threads ask of a space at once are answered together."""
        with self._loading:
            held = self._words.get(space.key)
            if held is None or held[0] is not encoder or held[1] != space:
                made = WordsOfMany(
                    lambda words: self._encoded(words, space, encoder),
                    lambda words, queries, options, encoding_s: (
                        self._found_by_both(space, words, queries, options, encoding_s)
                        if options.hybrid
                        else self._found(space, queries, options, encoding_s)
                    ),
                    getattr(encoder, "max_tokens", TOKENS),
                )
                held = self._words[space.key] = (encoder, space, made)
            return held[2]

    def _found(self, space: Space, queries: Vectors, options: Options, encoding_s: float) -> list[list[Hit]]:
        return self._read(
            lambda transaction, state: self._nearest(transaction, state, space, queries, options, encoding_s),
            by_glimpse=options.plain,
        )

    def check_fields(self, names: Sequence[str]) -> None:
        """Refuse names that are no field of any record.

        Raises:
            QueryError: one is none.
        """
        known = self._read(lambda transaction, _: reads.fields(transaction)) if names else []
        for name in names:
            if name not in known:
                raise QueryError(
                    f"no record has a field '{name}'; there are: {', '.join(known) or 'none yet'}"
                )

    def vectors_of_hits(self, hits: Sequence[Hit]) -> Vectors:
        """Unit rows (n, sum of dims) of the records, each in the space it was found in; zeros where it is gone."""

        def question(transaction: Transaction, state: State) -> Vectors:
            keys = reads.keys_of(transaction, [hit.id for hit in hits])
            spaces = self._views.spaces(transaction, state)
            blocks = []
            for name in dict.fromkeys(hit.space for hit in hits):
                space = plan.named(spaces, name)
                block = np.zeros((len(hits), space.dim), np.float32)
                look = self._views.look(transaction, state, space)
                parts = reads.parts_of(transaction, space, keys.values())
                for row, hit in enumerate(hits):
                    if hit.space == name and (there := parts.get(keys.get(hit.id, -1))):
                        block[row] = middle(look, there)
                blocks.append(unit_rows(block))
            return np.concatenate(blocks, axis=1)

        return self._read(question)

    def by_vector(self, queries: Vectors, space: str | None, options: Options) -> list[list[Hit]]:
        """Hits for given vectors, a list for each."""

        def question(transaction: Transaction, state: State) -> list[list[Hit]]:
            spaces = self._views.spaces(transaction, state)
            chosen = plan.space_of_vector(spaces, space, queries.shape[1])
            rows = prepared(queries, chosen.dim, chosen.metric, "the query vectors")
            answer = self._nearest(transaction, state, chosen, rows, options, 0.0)
            self.real.remember(chosen, rows)
            return answer

        return self._read(question, by_glimpse=options.plain)

    def _nearest(
        self,
        transaction: Transaction,
        state: State,
        space: Space,
        queries: Vectors,
        options: Options,
        encoding_s: float,
    ) -> list[list[Hit]]:
        matching = None if options.where is None else self._matching()  # its imports are not the search
        started = time.perf_counter()
        look = self._views.look(transaction, state, space)
        allowed = None
        if matching is not None and options.where is not None:
            allowed = matching.allowed(transaction, state, look, options.where)
        if len(queries) >= 2 * _TOGETHER and not options.explain:
            return self._in_turns(transaction, look, queries, allowed, options)
        found, way = run.nearest(look, queries, options.k, allowed, options.effort)
        if not options.explain:
            return run.hits(
                transaction,
                self._lately,
                found,
                space.name,
                pieces=look.pieces,
                context=options.context,
            )
        said: dict[str, Json] = {
            "space": space.name,
            "plan": way.to_json(),
            "encode_ms": round(encoding_s * 1e3, 3),
            "search_ms": round((time.perf_counter() - started) * 1e3, 3),
        }
        if len(queries) > 1:
            said["together"] = len(queries)  # the times are of all of them
        if options.where is not None and (advice := self._matching().advice(transaction, options.where)):
            said["advice"] = advice
        told = [[said] * len(one.part_keys) for one in found]
        return run.hits(
            transaction,
            self._lately,
            found,
            space.name,
            told,
            pieces=look.pieces,
            context=options.context,
        )

    def _in_turns(
        self,
        transaction: Transaction,
        look: Look,
        queries: Vectors,
        allowed: Allowed | None,
        options: Options,
    ) -> list[list[Hit]]:
        """As `_nearest` for many queries: while some are searched for, the hits of those before are put together."""
        some = [queries[begin : begin + _TOGETHER] for begin in range(0, len(queries), _TOGETHER)]
        answers: list[list[Hit]] = []
        with uncollected(), ThreadPoolExecutor(1, "nearkin-search") as ahead:
            waiting = ahead.submit(run.nearest, look, some[0], options.k, allowed, options.effort)
            for following in [*some[1:], None]:
                found, _ = waiting.result()
                if following is not None:
                    waiting = ahead.submit(run.nearest, look, following, options.k, allowed, options.effort)
                answers += run.hits(
                    transaction,
                    self._lately,
                    found,
                    look.space.name,
                    pieces=look.pieces,
                    context=options.context,
                )
        return answers
