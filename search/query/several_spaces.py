"""Questions asked of several spaces at once: examples, a user's taste, a mix of ways of asking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from search.catalog import reads
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.errors import UnknownRecord
from search.query import plan, run
from search.query.asking import Asking
from search.query.examples import Examples, taste_of
from search.query.personal import Who, because, is_personal, names_one, personal
from search.query.recommend import Taste, recommend
from search.query.request import Options
from search.types import Hit, Json, Metric

if TYPE_CHECKING:
    from search.query.mix import Mix


class SeveralSpaces(Asking):
    """The part of an `Asker` that puts the scores of several spaces together."""

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
        self,
        asked: Who,
        weights: Mapping[str, float] | None,
        diversity: float,
        options: Options,
        exclude: Sequence[str] = (),
    ) -> list[Hit]:
        """Hits for a user, or for somebody who took some items; none of those excluded."""

        def question(transaction: Transaction, state: State) -> list[Hit]:
            told = personal(asked, weights, self._users, (transaction, state, self._views))
            left_out = {*told.left_out, *reads.keys_of(transaction, exclude).values()}
            found = self._best(transaction, state, told.tastes, list(left_out), diversity, options)
            if options.explain:
                from search.query.why import taken_alike

                found = because(transaction, found, told)
                found = taken_alike(transaction, found, told.taken, [one.space for one in told.tastes])
            return found

        return self._read(question)

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
            if options.calibrate and list(mix.weights) == ["text"]:  # what weights are learned for
                tastes = [
                    replace(taste, weight=taste.weight * learned)
                    if (learned := self._preferred.of(transaction, state, taste.space).weight)
                    else taste
                    for taste in tastes
                ]
            found = self._best(transaction, state, tastes, left_out, 0.0, options, {"ways": told})
            if options.explain and mix.like is not None:
                from search.query.why import explained

                found = explained(transaction, found, {mix.like: left_out[0]}, [one.space for one in tastes])
            return found

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
            if not names_one(users, excluded):  # only who asks by a user wants users
                excluded = np.concatenate([excluded, users])
        matching = None
        if options.where is not None:
            matching = self._matching().keys(transaction, state, options.where)
        # Inner products and distances know no common measure with the scores of another space.
        mixed = len(tastes) > 1 and any(one.space.metric is not Metric.COSINE for one in tastes)
        calibrate = options.calibrate or mixed
        chosen = recommend(tastes, options.k, matching, excluded, diversity, calibrate=calibrate)
        said = None
        if options.explain:
            said = [
                [
                    {"scores": scores, "plans": chosen.plans, "calibrated": calibrate, **(told or {})}
                    for scores in chosen.scores
                ]
            ]
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
