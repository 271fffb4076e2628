"""Judges a set-up by queries whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from search.errors import QueryError
from search.evaluate import formats, metrics, significance
from search.evaluate.metrics import Judgements, Run
from search.evaluate.significance import Difference, Interval
from search.types import Hit, Json

_LEVEL = 0.05
_AT_ONCE = 1000  # queries asked together

# Answers queries in words, a list of hits for each.
Ask = Callable[[Sequence[str]], list[list[Hit]]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good the answers to judged queries are.

    `metrics` has for each metric and cut, such as "ndcg@10", the mean over the queries with its 95% interval, and
    `values` that of each query. `compared` has the difference to the run given to compare with. `run` holds the
    scores of the hits, to be written or compared with. `unjudged` counts queries that nothing is judged for, which
    are left out; `unasked` judged queries that are not among the queries; `absent` judged documents that the
    collection does not hold, which count as not found.
    """

    metrics: Mapping[str, Interval]
    values: Mapping[str, Mapping[str, float]]
    run: Run
    unjudged: int = 0
    unasked: int = 0
    absent: int = 0
    compared: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def n_queries(self) -> int:
        """How many queries were asked."""
        return len(self.run)

    @property
    def worse(self) -> list[str]:
        """The metrics that are worse than the other run's by more than chance.

        One-sided randomisation tests, corrected by Holm (1979) over all metrics, 5%.
        """
        corrected = significance.holm([one.p_worse for one in self.compared.values()])
        return [
            name
            for (name, one), p in zip(self.compared.items(), corrected, strict=True)
            if one.difference < 0 and p < _LEVEL
        ]

    def to_json(self) -> dict[str, Json]:
        """All but the run, as a JSON object."""
        return {
            "queries": self.n_queries,
            "unjudged": self.unjudged,
            "unasked": self.unasked,
            "absent": self.absent,
            "metrics": {name: one.to_json() for name, one in self.metrics.items()},
            "compared": {name: one.to_json() for name, one in self.compared.items()},
            "worse": list(self.worse),
            "values": {name: dict(one) for name, one in self.values.items()},
        }


def judged_queries(queries: Mapping[str, str], judgements: Judgements) -> list[str]:
    """The ids of the queries that something is judged for, in their order.

    Raises:
        QueryError: there is none.
    """
    if not queries:
        raise QueryError("there are no queries; give at least one")
    if not any(judgements.values()):
        raise QueryError("nothing is judged; give the grade of at least one document")
    both = [id for id in queries if judgements.get(id)]
    if not both:
        few = ", ".join(f"'{id}'" for id in list(queries)[:3])
        others = ", ".join(f"'{id}'" for id in list(judgements)[:3])
        raise QueryError(
            f"no query has judgements (queries are {few}, judgements are for {others}); check that both count alike"
        )
    return both


@dataclass(frozen=True, slots=True)
class Judged:
    """Queries and judgements as they were given: the ids of the queries that something is judged for, their words, and
    the grades of documents for each query."""

    ids: Sequence[str]
    words: Mapping[str, str]
    grades: Judgements

    @property
    def documents(self) -> list[str]:
        """The ids of all documents judged for one of the queries, in order."""
        return sorted({id for query in self.ids for id in self.grades[query]})


def given(
    queries: Mapping[str, str] | str | Path,
    judgements: Mapping[str, Mapping[str, int]] | str | Path,
    *,
    binary: bool,
) -> Judged:
    """Queries and judgements from dicts or files.

    Raises:
        SourceError: a file cannot be read as what it should be.
        QueryError: no query has judgements.
    """
    words = formats.read_queries(queries) if isinstance(queries, str | Path) else dict(queries)
    read = formats.read_judgements(judgements) if isinstance(judgements, str | Path) else judgements
    grades = metrics.binary(read) if binary else read
    return Judged(judged_queries(words, grades), words, grades)


def asked(ids: Sequence[str], queries: Mapping[str, str], ask: Ask) -> dict[str, dict[str, float]]:
    """A run: the score of each hit for each of these queries."""
    run: dict[str, dict[str, float]] = {}
    for begin in range(0, len(ids), _AT_ONCE):
        some = ids[begin : begin + _AT_ONCE]
        for id, hits in zip(some, ask([queries[one] for one in some]), strict=True):
            run[id] = {hit.id: hit.score for hit in hits}
    return run


def evaluated(
    run: Run, judgements: Judgements, ks: Sequence[int], other: Run | None = None
) -> tuple[dict[str, Interval], dict[str, dict[str, float]], dict[str, Difference]]:
    """The metrics of a run over its queries, their values for each, and how they differ from another run's.

    Raises:
        QueryError: the other run has none of the queries.
    """
    judged = {query: judgements[query] for query in run}
    values = metrics.measured(run, judged, ks)
    means = {name: significance.interval(list(one.values())) for name, one in values.items()}
    if other is None:
        return means, values, {}
    if not any(query in other for query in run):
        raise QueryError("the run to compare with has none of the queries; check that both number them alike")
    before = metrics.measured(other, judged, ks)
    compared = {
        name: significance.difference(
            np.array(list(one.values())), np.array([before[name][query] for query in one])
        )
        for name, one in values.items()
    }
    return means, values, compared
