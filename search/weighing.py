"""How much each ranking counts where several are put together: learned from judged queries, kept, and forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.catalog import reads
from search.errors import CollectionError, QueryError
from search.evaluating import Evaluating
from search.query import mix, plan, preferences
from search.query.hybrid import DEPTH, shares_of
from search.query.request import Options
from search.types import Hit, Space
from search.writer import Writer

if TYPE_CHECKING:
    from search.evaluate.weighing import Learned


class Weighing(Evaluating):
    """The part of a `Collection` that learns weights."""

    def writing(self, wait_s: float | None = None) -> AbstractContextManager[Writer]:
        """See `Collection`."""
        raise NotImplementedError

    def learn_weights(
        self,
        queries: Mapping[str, str] | str | Path,
        judgements: Mapping[str, Mapping[str, int]] | str | Path,
        *,
        k: int = 10,
        hybrid: bool = False,
        space: str | None = None,
        where: str | None = None,
        binary: bool = False,
    ) -> Learned:
        """Learn from judged queries how much each ranking should count, and keep that for the questions to come.

        With `hybrid` that is the ranking by meaning beside that by words; else each of the spaces that can be asked in
        words, as `search(calibrate=True)` asks them. What the weights are worth is told for queries that they were not
        learned from (five-fold cross-validation); they are kept only if those gain.

        Args:
            queries: as in `evaluate`.
            judgements: likewise.
            k: nDCG at this rank is to be as large as can be.
            hybrid: see above.
            space: with `hybrid`, whose ranking by meaning; needed only where several could answer.
            where: a condition on the records.
            binary: count each grade of at least 1 as 1.

        Raises:
            SourceError: a file cannot be read as what it should be.
            QueryError: there are fewer than ten judged queries, only one space to weigh, or see `evaluate`.
            CollectionError: the collection was opened to read only.
        """
        from search.evaluate import labelled, metrics, weighing

        (cut,) = metrics.cuts(k)
        if self._database.read_only:
            raise CollectionError(
                f"{self._layout.root} was opened to read only, and weights are kept in it; open it with mode 'rw'"
            )
        if space is not None and not hybrid:
            raise QueryError("all spaces that can be asked in words are weighed; leave space out")
        judged = labelled.given(queries, judgements, binary=binary)
        self._n_there(judged)
        chosen = self._weighed(space, hybrid=hybrid)
        options = Options(
            max(cut, weighing.CANDIDATES), where, explain=True, hybrid=hybrid, calibrate=not hybrid
        )
        names = ["meaning", "words"] if hybrid else [one.name for one in chosen]
        found = self._asked(
            [judged.words[id] for id in judged.ids], chosen[0].name if hybrid else None, options
        )
        asked = [
            weighing.Asked(
                [hit.id for hit in hits],
                _by_rank(hits, max(cut, DEPTH)) if hybrid else _by_space(hits, names),
                judged.grades[id],
            )
            for id, hits in zip(judged.ids, found, strict=True)
        ]
        learned = weighing.learned(names, asked, cut)
        if learned.kept:
            self._keep(learned.weights, chosen, hybrid=hybrid)
        return learned

    def _keep(self, weights: Mapping[str, float], spaces: Sequence[Space], *, hybrid: bool) -> None:
        with self.writing(), self._database.writing() as transaction:
            for space in spaces:
                kept = preferences.read(transaction, space)
                if hybrid:
                    meaning = weights["meaning"] / (weights["meaning"] + weights["words"])
                    kept = replace(kept, meaning=meaning)
                else:
                    kept = replace(kept, weight=weights[space.name])
                preferences.keep(transaction, space, kept)

    def _weighed(self, space: str | None, *, hybrid: bool) -> list[Space]:
        """The space of a hybrid search, or all that words are looked for in."""
        spaces = self.spaces()
        if hybrid:
            return [plan.space_for(spaces, space, "text")]
        chosen = mix.takers(spaces, None, "text")
        if len(chosen) < 2:
            raise QueryError(
                f"only space '{chosen[0].name}' can be asked in words, so there is nothing to weigh; "
                "learn the weights of hybrid search"
            )
        return chosen

    def forget_weights(self) -> list[str]:
        """Let all rankings count alike again; the spaces that had learned weights."""
        forgotten = []
        with self.writing(), self._database.writing() as transaction:
            for name, space in reads.spaces(transaction).items():
                kept = preferences.read(transaction, space)
                if kept.meaning is not None or kept.weight is not None:
                    preferences.keep(transaction, space, replace(kept, meaning=None, weight=None))
                    forgotten.append(name)
        return forgotten


def _by_rank(hits: Sequence[Hit], depth: int) -> NDArray[np.float64]:
    """What the first ranks of each hit add to its score (n, 2): by meaning and by words."""
    told: list[Any] = [(hit.explain or {})["hybrid"] for hit in hits]
    ranks = [[one["by_meaning"]["rank"] or 0, one["by_words"]["rank"] or 0] for one in told]
    found = np.array(ranks, dtype=np.int64).reshape(-1, 2)
    return shares_of(np.where(found <= depth, found, 0))


def _by_space(hits: Sequence[Hit], names: Sequence[str]) -> NDArray[np.float64]:
    """The score of each hit in each space (n, m), 0 where it has no vector."""
    told: list[Any] = [(hit.explain or {})["scores"] for hit in hits]
    scores = [[one.get(name, 0.0) for name in names] for one in told]
    return np.array(scores, dtype=np.float64).reshape(-1, len(names))
