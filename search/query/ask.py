"""Answers each way of asking, from one read transaction: which space, which rows may match, which hits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from search.catalog import reads
from search.catalog.database import Behind, Database, Transaction
from search.catalog.reads import Row, Shown, State
from search.errors import CollectionError, QueryError, UnknownRecord
from search.index.contract import Allowed
from search.index.view import Look
from search.query import plan, rerank, run
from search.query.examples import Examples, taste_of
from search.query.follow import Views
from search.query.hybrid import HybridAsking
from search.query.keywords import Keywords
from search.query.lately import Lately
from search.query.personal import Users, Who, because, is_personal, personal
from search.query.queries import Queries
from search.query.recommend import Taste, middle, recommend
from search.query.request import Options
from search.query.words import TOKENS, WordsOfMany
from search.types import Duplicates, EncoderSpec, Hit, Json, Labelling, Record, Sense, Space
from search.uncollected import uncollected
from search.vectors import Keys, Vectors, as_floats, checked, prepared, unit_rows

if TYPE_CHECKING:
    from search.encoders.contract import Encoder, Item
    from search.encoders.cross import CrossEncoder
    from search.query.duplicates import Sought, Told
    from search.query.label import Task
    from search.query.matches import Matches
    from search.query.mix import Mix

Answer = TypeVar("Answer")
_TOGETHER = 125  # queries searched at a time in a long batch
_READ_AGAIN = 100  # times a reader starts anew because another thread moved on; each takes microseconds


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


class Asker(HybridAsking):
    """Asks the spaces of one collection; keeps the encoders it has loaded."""

    def __init__(self, database: Database, views: Views, device: str, precision: str) -> None:
        self._database = database
        self._views = views
        self._device, self._precision = device, precision
        self._encoders: dict[int, tuple[EncoderSpec, Encoder]] = {}
        self._cross: dict[str, CrossEncoder] = {}
        self._loading = threading.Lock()
        self._words: dict[int, tuple[Encoder, Space, WordsOfMany]] = {}
        self._matches: Matches | None = None  # made with the first filter
        # The counters as last read, and whether they were the same the time before: then a glimpse is worth a try.
        self._remembered: tuple[Row, State] | None = None
        self._steady = False
        self._lately = Lately()
        self.keywords = Keywords()
        self._users = Users()
        self.real = Queries()

    def _read(self, question: Callable[[Transaction, State], Answer], *, by_glimpse: bool = False) -> Answer:
        """Ask within one read transaction; again where another thread has moved on in between.

        With `by_glimpse` a question whose answer ends in `reads.shown`, and needs nothing else from the catalog while
        nothing changes, is first asked without a transaction.
        """
        if by_glimpse and self._steady and (remembered := self._remembered) is not None:
            row, state = remembered
            try:
                with self._database.glimpse(row) as glimpse:
                    return question(glimpse, state)
            except Behind:
                self._steady = False
        for _ in range(_READ_AGAIN):
            try:
                with self._database.reading() as transaction:
                    return question(transaction, self._state(transaction))
            except Behind:
                continue
        raise CollectionError(f"{self._database.path} changes faster than it can be read; ask again")

    def _state(self, transaction: Transaction) -> State:
        row = reads.state_row(transaction)
        remembered = self._remembered
        if remembered is not None and remembered[0] == row:
            self._steady = True
            return remembered[1]
        state = State(*row[:-1])
        self._remembered, self._steady = (row, state), False
        return state

    def looked(self, space: Space, question: Callable[[Transaction, Look], Answer]) -> Answer:
        """The answer to a question about the rows of a space, as of one commit."""
        return self._read(
            lambda transaction, state: question(transaction, self._views.look(transaction, state, space))
        )

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

                with self._database.reading() as transaction:
                    stored = reads.probes(transaction, space)
                    weights = space.encoder.weights
                    data = reads.model(transaction, weights) if weights else None
                device = load.Device(self._device, self._precision)
                encoder = load.load_spec(space.encoder, data=data, device=device)
                if stored is not None:
                    probes.check(encoder, space, stored)
                held = self._encoders[space.key] = (space.encoder, encoder)
            return held[1]

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
        if options.hybrid:
            found = self.by_words_too([str(one) for one in items], chosen, first)
        elif len(items) == 1 and isinstance(items[0], str):
            found = [self._words_of_many(chosen, encoder).ask(items[0], first)]
        else:
            queries, encoding_s = self._encoded(items, chosen, encoder)
            found = self._found(chosen, queries, first, encoding_s)
        if again is None:
            return found
        words = [str(one) for one in items]
        if again is rerank.Rerank.MAXSIM:
            return rerank.by_maxsim(interacting, words, found, options.k, explain=options.explain)
        return rerank.by_cross_encoder(cross, words, found, options.k, explain=options.explain)

    def _cross_encoder(self, name: str) -> CrossEncoder:
        with self._loading:
            if name not in self._cross:
                from search.encoders.cross import CrossEncoder

                self._cross[name] = CrossEncoder.from_name(
                    name, device=self._device, precision=self._precision
                )
            return self._cross[name]

    def _words_of_many(self, space: Space, encoder: Encoder) -> WordsOfMany:
        """Where the words that several threads ask of a space at once are answered together."""
        with self._loading:
            held = self._words.get(space.key)
            if held is None or held[0] is not encoder or held[1] != space:
                made = WordsOfMany(
                    lambda words: self._encoded(words, space, encoder),
                    lambda queries, options, encoding_s: self._found(space, queries, options, encoding_s),
                    getattr(encoder, "max_tokens", TOKENS),
                )
                held = self._words[space.key] = (encoder, space, made)
            return held[2]

    def _encoded(self, items: Sequence[Item], space: Space, encoder: Encoder) -> tuple[Vectors, float]:
        """The queries (n, dim), and how many seconds they took."""
        started = time.perf_counter()
        queries = encoder.encode(items, role="query")
        encoding_s = time.perf_counter() - started
        self.real.remember(space, queries)
        return queries, encoding_s

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

    def _matching(self) -> Matches:
        """The filters asked so far; what they need takes long to import, and many a process asks without one."""
        if self._matches is None:
            from search.query.matches import Matches

            self._matches = Matches()
        return self._matches

    def senses(self, word: str, space: str, examples: int, context: int) -> list[Sense]:
        """The senses of a word in a space of words in their context."""
        from search.query import senses

        def question(transaction: Transaction, state: State) -> list[Sense]:
            chosen = plan.named(self._views.spaces(transaction, state), space)
            senses.word_space(chosen)
            look = self._views.look(transaction, state, chosen)
            return senses.senses(transaction, look, word, examples, context)

        return self._read(question)

    def duplicates(self, sought: Sought, told: Told | None) -> list[Duplicates]:
        """Groups of records that are equal or nearly so in a space."""
        from search.query import duplicates
        from search.query.one_each import OneEach, one_each

        def vectors(transaction: Transaction, state: State) -> tuple[Space, OneEach, dict[int, bytes]]:
            space = duplicates.space_of(self._views.spaces(transaction, state), sought.space)
            matching = None
            if sought.where is not None:
                matching = self._matching().keys(transaction, state, sought.where)
            given = one_each(transaction, self._views.look(transaction, state, space), matching)
            return space, given, duplicates.contents(transaction, space)

        # Long work, for which no transaction waits; what is gone meanwhile is left out.
        space, given, known = self._read(vectors)
        equal, together = duplicates.groups(given, known, sought.min_score, told, space.name)
        keys = duplicates.keys_in(given, together)
        shown = self._read(lambda transaction, state: duplicates.shown_of(transaction, keys))
        return duplicates.chosen(given, equal, together, shown, sought, space)

    def label(self, task: Task) -> tuple[Labelling, list[Record]]:
        """Labels for records that have none, and the records with them, where they differ from what is stored."""
        from search.query import label
        from search.query.duplicates import shown_of, space_of
        from search.query.one_each import OneEach, one_each

        def read(
            transaction: Transaction, state: State
        ) -> tuple[OneEach, Mapping[int, Shown], list[Keys | None]]:
            space = space_of(self._views.spaces(transaction, state), task.space)
            given = one_each(transaction, self._views.look(transaction, state, space))
            matching = [
                None if where is None else self._matching().keys(transaction, state, where)
                for where in (task.known, task.unknown)
            ]
            return given, shown_of(transaction, given.record_keys.tolist()), matching

        given, shown, (known, unknown) = self._read(read)
        found = label.examples(task, given, shown, known, unknown)
        told = label.labelling(task, given, shown, found)
        return told, label.records(task, shown, told)

    def recommend(
        self, given: Examples, weights: Mapping[str, float] | None, diversity: float, options: Options
    ) -> list[Hit]:
        """Hits near the likes and far from the dislikes."""
        return self._read(
            lambda transaction, state: self._recommend(transaction, state, given, weights, diversity, options)
        )

    def _recommend(
        self,
        transaction: Transaction,
        state: State,
        given: Examples,
        weights: Mapping[str, float] | None,
        diversity: float,
        options: Options,
    ) -> list[Hit]:
        keys = reads.keys_of(transaction, given.ids)
        unknown = [id for id in given.ids if id not in keys]
        if unknown:
            raise UnknownRecord(f"no record has the id {_names(unknown)}; look it up with: nearkin get")
        spaces = self._views.spaces(transaction, state)
        tastes, homeless = [], dict.fromkeys(given.likes)
        for name, weight in (weights or dict.fromkeys(plan.standing(spaces), 1.0)).items():
            space = plan.named(spaces, name)
            there = reads.parts_of(transaction, space, keys.values())
            parts = {id: there[key] for id, key in keys.items() if key in there}
            for id in parts:
                homeless.pop(id, None)
            look = self._views.look(transaction, state, space)
            if (wanted := taste_of(space, look, weight, given, parts)) is not None:
                tastes.append(wanted)
        if homeless:
            place = "the spaces asked" if weights else "any space"
            raise UnknownRecord(
                f"{_names(homeless)} has no vector in {place}; ingest it there, or leave it out"
            )
        left_out = {*keys.values(), *reads.keys_of(transaction, given.exclude).values()}
        found = self._best(transaction, state, tastes, list(left_out), diversity, options)
        if options.explain:
            from search.query.why import explained

            liked_keys = {id: keys[id] for id in given.likes}
            found = explained(transaction, found, liked_keys, [taste.space for taste in tastes])
        return found

    def recommend_to(
        self, asked: Who, weights: Mapping[str, float] | None, diversity: float, options: Options
    ) -> list[Hit]:
        """Hits for a user, or for somebody who took some items."""

        def question(transaction: Transaction, state: State) -> list[Hit]:
            told = personal(asked, weights, self._users, (transaction, state, self._views))
            found = self._best(transaction, state, told.tastes, told.left_out, diversity, options)
            return because(transaction, found, told) if options.explain else found

        return self._read(question)

    def read(self, question: Callable[[Transaction, State, Views], Answer]) -> Answer:
        """The answer to a question that is put together elsewhere, from one read transaction."""
        return self._read(lambda transaction, state: question(transaction, state, self._views))

    def mixed(self, mix: Mix, space: str | None, options: Options) -> list[Hit]:
        """Hits near what was given in several ways together."""
        from search.query import mix as mixing

        chosen = self._read(
            lambda transaction, state: {
                way: mixing.takers(self._views.spaces(transaction, state), space, way)
                for way in mix.encodable
            }
        )
        encoders = {one.key: self.encoder(one) for some in chosen.values() for one in some}
        rows = mixing.encoded(mix, chosen, encoders)

        def question(transaction: Transaction, state: State) -> list[Hit]:
            tastes, left_out, told = mixing.tastes(mix, space, rows, (transaction, state, self._views))
            return self._best(transaction, state, tastes, left_out, 0.0, options, {"ways": told})

        return self._read(question)

    def _best(
        self,
        transaction: Transaction,
        state: State,
        tastes: Sequence[Taste],
        left_out: Sequence[int],
        diversity: float,
        options: Options,
        told: Mapping[str, Json] | None = None,
    ) -> list[Hit]:
        """The hits for what is asked of several spaces; `told` is said of each of them beside its scores."""
        excluded = np.array(sorted(left_out), dtype=np.int64)
        if any(is_personal(one.space) for one in tastes):
            users = self._users.keys(transaction, state)
            if not np.isin(users, excluded).any():  # only who asks by a user wants users
                excluded = np.union1d(excluded, users)
        matching = None
        if options.where is not None:
            matching = self._matching().keys(transaction, state, options.where)
        chosen = recommend(tastes, options.k, matching, excluded, diversity, calibrate=options.calibrate)
        said = None
        if options.explain:
            said = [[{"scores": scores, "plans": chosen.plans, **(told or {})} for scores in chosen.scores]]
        return run.hits(
            transaction,
            self._lately,
            [chosen.found],
            [chosen.spaces],
            said,
            context=options.context,
        )[0]


def _names(ids: Iterable[str]) -> str:
    return ", ".join(f"'{id}'" for id in ids)
