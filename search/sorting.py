"""What a collection does with the likeness of its own records: finds duplicates, and guesses labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from search.indexing import Progress
from search.query.ask import Asker
from search.types import Duplicates, Labelling
from search.writer import Writer


class Sorting:
    """The part of a `Collection` that compares its records with each other."""

    _asker: Asker

    def writing(self, wait_s: float | None = None) -> AbstractContextManager[Writer]:
        """See `Collection`."""
        raise NotImplementedError

    def delete(self, ids: str | Sequence[str] | None = None, *, where: str | None = None) -> int:
        """See `Collection`."""
        raise NotImplementedError

    def duplicates(
        self,
        space: str | None = None,
        *,
        min_score: float = 0.97,
        keep: str = "largest",
        where: str | None = None,
        delete: bool = False,
        progress: Progress | None = None,
    ) -> list[Duplicates]:
        """Groups of records that are equal, or as near to one that is kept as `min_score`; all pairs are compared.

        Equal are those made from the same content or with the same vector. Of a group that hangs together only by a
        chain, what is not near to the record kept makes groups of its own, or stays out.

        Args:
            space: where they are compared; needed where there are several, and not one of them of pictures.
            min_score: the least cosine. A text counts as the mean of its passages, a picture with objects as its whole.
            keep: "largest" (by the fields width and height, then bytes; the longest text), or "first" (added).
            where: a condition on the records.
            delete: delete all but those that are kept, in one commit.
            progress: is told the space, the records done and those in all.

        Raises:
            QueryError, FilterError, UnknownSpace: see their messages.
        """
        from search.query.duplicates import Sought, kept_of

        sought = Sought(space, min_score, kept_of(keep), where)
        if not delete:
            return self._asker.duplicates(sought, progress)
        with self.writing():
            found = self._asker.duplicates(sought, progress)
            if found:
                self.delete([hit.id for group in found for hit in group.others])
        return found

    def label(
        self,
        field: str,
        *,
        space: str | None = None,
        known: str | None = None,
        unknown: str | None = None,
        method: str = "neighbours",
        k: int | None = None,
        min_confidence: float = 0.6,
        write: bool = False,
    ) -> Labelling:
        """Guess a field of the metadata for records that lack it, from those that have it and are like them.

        The confidence is calibrated on guesses of the known ones, each from the others. What is written is marked by
        a second field, FIELD_confidence; a label with that beside it is never taken for a known one.

        Args:
            field: a field of the metadata (not a nested one): text, whole numbers, true or false.
            space: whose vectors are compared; needed where there are several, and not one of them of pictures.
            known: a condition on the records to learn from; None takes all that have the field.
            unknown: a condition on those to be labelled; None takes all others.
            method: "neighbours", votes of the k nearest weighted by similarity, or "linear", logistic regression.
            k: how many neighbours vote; None means 10.
            min_confidence: below it no label is given.
            write: write the labels given, with their confidence, and take back older guesses that are given no more;
                one commit.

        Raises:
            QueryError: fewer than two different labels are known, or a number makes no sense.
            FilterError, UnknownSpace: see their messages.
        """
        from search.query.label import Task

        task = Task(field, space, known, unknown, method, k, min_confidence)
        if not write:
            return self._asker.label(task)[0]
        with self.writing() as writer:
            told, changed = self._asker.label(task)
            if changed:
                writer.put(changed)
        return told
