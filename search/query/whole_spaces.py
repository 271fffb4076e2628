"""Questions about a space as a whole: the senses of its words, its duplicates, labels for its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search.catalog.database import Transaction
from search.catalog.reads import State
from search.catalog.showing import Shown
from search.query import plan
from search.query.asking import Asking
from search.types import Duplicates, Labelling, Record, Sense, Space
from search.vectors import Keys

if TYPE_CHECKING:
    from search.query.duplicates import Sought, Told
    from search.query.label import Task


class WholeSpaces(Asking):
    """The part of an `Asker` that looks at all of a space."""

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
