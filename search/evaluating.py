"""What a collection says of the quality of its own answers, by judged queries and by its own records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.catalog import reads
from search.catalog.database import Database
from search.errors import CollectionError, QueryError
from search.layout import Layout
from search.query import plan
from search.query.answer import Question, answer
from search.query.ask import Asker
from search.query.duplicates import space_of
from search.query.request import Options
from search.types import Hit, Space

if TYPE_CHECKING:
    from search.evaluate.labelled import Evaluation, Judged
    from search.evaluate.unlabelled import Unlabelled


_MOST_SAMPLED = 100_000


class Evaluating:
    """The part of a `Collection` that judges its answers."""

    _asker: Asker
    _database: Database
    _layout: Layout

    def spaces(self) -> dict[str, Space]:
        """See `Collection`."""
        raise NotImplementedError

    def evaluate(
        self,
        queries: Mapping[str, str] | str | Path,
        judgements: Mapping[str, Mapping[str, int]] | str | Path,
        *,
        k: int | Sequence[int] = 10,
        space: str | None = None,
        where: str | None = None,
        rerank: str | None = None,
        hybrid: bool = False,
        calibrate: bool = False,
        binary: bool = False,
        compare: Mapping[str, Mapping[str, float]] | str | Path | None = None,
    ) -> Evaluation:
        """How good the answers to judged queries are: nDCG, recall, MAP, MRR and precision, each cut at `k`.

        Args:
            queries: their words by id, or a file: BEIR's queries.jsonl, or lines of id, tab, words.
            judgements: for each query the grade of each judged document by its id, or a file: TREC's qrels, or BEIR's.
            k: the rank to cut at, or several.
            space: which space to search; needed only where several could answer.
            where: a condition on the records.
            rerank: how the first hits are compared again, as in `search`.
            hybrid: look for the words themselves too, as in `search`.
            calibrate: ask all the spaces that can answer, as in `search`.
            binary: count each grade of at least 1 as 1.
            compare: the run of another set-up (a file of TREC's, or `Evaluation.run`), to be tested against.

        Raises:
            SourceError: a file cannot be read as what it should be.
            QueryError: no query has judgements, the collection holds none of the judged documents, or see `search`.
        """
        from search.evaluate import formats, labelled, metrics

        ks = metrics.cuts(k)
        judged = labelled.given(queries, judgements, binary=binary)
        other = formats.read_run(compare) if isinstance(compare, str | Path) else compare
        n_there = self._n_there(judged)
        options = Options(ks[-1], where, rerank=rerank, hybrid=hybrid, calibrate=calibrate)

        def ask(some: Sequence[str]) -> list[list[Hit]]:
            return self._asked(some, space, options)

        run = labelled.asked(judged.ids, judged.words, ask)
        means, values, compared = labelled.evaluated(run, judged.grades, ks, other)
        return labelled.Evaluation(
            metrics=means,
            values=values,
            run=run,
            unjudged=len(judged.words) - len(judged.ids),
            unasked=sum(query not in judged.words for query in judged.grades),
            absent=len(judged.documents) - n_there,
            compared=compared,
        )

    def _n_there(self, judged: Judged) -> int:
        """How many of the judged documents the collection holds; an error if none."""
        documents = judged.documents
        with self._database.reading() as transaction:
            n_there = len(reads.keys_of(transaction, documents))
        if not n_there:
            few = ", ".join(f"'{id}'" for id in documents[:3])
            raise QueryError(
                f"the collection holds none of the judged documents ({few}); ingest them with the ids judged by"
            )
        return n_there

    def _asked(self, queries: Sequence[str], space: str | None, options: Options) -> list[list[Hit]]:
        """The hits of each query."""
        if options.calibrate:  # over several spaces one question is answered at a time
            return [
                answer(self._asker, Question(words, space=space), options)  # type: ignore[misc] # a list of hits
                for words in queries
            ]
        return answer(  # type: ignore[return-value] # a list of queries has a list of lists
            self._asker, Question(list(queries), space=space), options
        )

    def evaluate_itself(
        self,
        space: str | None = None,
        *,
        sample: int = 200,
        seed: int = 0,
        store: bool = True,
        accept: bool = False,
    ) -> Unlabelled:
        """How good a space is by its own records, without judgements; and whether it has become worse.

        It is compared with the evaluation stored before, record by record. One that is not worse by more than chance
        is stored in its place; a worse one only with `accept`, so that the alarm stays until something was done.

        Args:
            space: its name; needed where there are several.
            sample: how many records to ask about.
            seed: of their choice and of how queries are spoilt; another seed compares with nothing.
            store: whether to keep it, to compare later ones with.
            accept: keep it though it is worse.

        Returns:
            For each sampled record what `search.evaluate.unlabelled.MEASURES` says, and what has changed.

        Raises:
            UnknownSpace: there is none of this name, several and none was named, or nothing in it.
            ModelError: its encoder cannot be had.
            CollectionError: it cannot be kept, since the collection was opened to read only, or the disk is full.
        """
        from search.evaluate import itself, keeping, unlabelled

        _check_sample(sample, seed)
        if accept and not store:
            raise QueryError("a worse evaluation is accepted by storing it; leave out one of the two")
        if store and self._database.read_only:
            raise CollectionError(
                f"{self._layout.root} was opened to read only, and evaluations are kept in it; "
                "open it with mode 'rw', or store nothing"
            )
        spaces = self.spaces()
        chosen = plan.named(spaces, space) if space is not None else space_of(spaces, None)
        now = itself.evaluated(self._asker, chosen, sample=sample, seed=seed)
        file = self._layout.evaluation(chosen.name)
        before = keeping.read(file)
        if before is not None:
            now = unlabelled.against(now, before)
        if store and (accept or not now.worse):
            keeping.write(file, now)
        return now

    def compare_itself(self, space: str, before: str, *, sample: int = 200, seed: int = 0) -> Unlabelled:
        """How good a space is by its own records beside another of the same records; nothing is stored.

        Raises:
            UnknownSpace: there is none of a name, or nothing in it.
            ModelError: an encoder cannot be had.
        """
        from search.evaluate import itself, unlabelled

        _check_sample(sample, seed)
        spaces = self.spaces()
        now, then = (
            itself.evaluated(self._asker, plan.named(spaces, name), sample=sample, seed=seed)
            for name in (space, before)
        )
        return unlabelled.against(now, then)


def _check_sample(sample: object, seed: object) -> None:
    if isinstance(sample, bool) or not isinstance(sample, int) or not 1 <= sample <= _MOST_SAMPLED:
        raise QueryError(f"sample is {sample!r}; give a whole number from 1 to {_MOST_SAMPLED:,}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise QueryError(f"seed is {seed!r}; give a whole number")
