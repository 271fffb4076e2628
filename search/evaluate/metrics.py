"""How well rankings agree with judgements, by the definitions of trec_eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from search.errors import QueryError

# For each query's id the score of each document found, or the grade of each document judged, by its id.
Run: TypeAlias = Mapping[str, Mapping[str, float]]
Judgements: TypeAlias = Mapping[str, Mapping[str, int]]
Floats: TypeAlias = NDArray[np.float64]

METRICS = ("ndcg", "recall", "map", "mrr", "precision")


def ranking(scores: Mapping[str, float]) -> list[str]:
    """The ids, best first; equal scores by their ids, the last in the alphabet first, as trec_eval has it."""
    return sorted(sorted(scores, reverse=True), key=lambda one: -scores[one])


def of_ranking(found: Sequence[str], grades: Mapping[str, int], k: int) -> dict[str, float]:
    """Each of `METRICS` of one query's ranking, cut at `k`.

    A document counts as relevant from grade 1 on; one that was not judged is not relevant.

    - ndcg: gain is the grade, discount log2(rank + 1), over that of the best order of all that was judged
      (Järvelin & Kekäläinen 2002; trec_eval's ndcg_cut);
    - recall, precision: relevant ones among the first k, over all relevant ones, or over k;
    - map: the precision at each relevant one among the first k, summed, over all relevant ones (map_cut);
    - mrr: 1 over the rank of the first relevant one, 0 beyond k.

    All are 0 where nothing is relevant.
    """
    gains = np.array([max(grades.get(id, 0), 0) for id in found[:k]], dtype=np.float64)
    ideal = np.sort(np.array([grade for grade in grades.values() if grade > 0], dtype=np.float64))[::-1]
    n_relevant = len(ideal)
    if not n_relevant or not len(gains):
        return dict.fromkeys(METRICS, 0.0)
    relevant = gains > 0
    ranks = np.arange(1, len(gains) + 1)
    hits = np.cumsum(relevant)
    first = int(np.argmax(relevant)) + 1 if relevant.any() else 0
    return {
        "ndcg": _discounted(gains) / _discounted(ideal[:k]),
        "recall": float(hits[-1] / n_relevant),
        "map": float((hits / ranks)[relevant].sum() / n_relevant),
        "mrr": 1.0 / first if first else 0.0,
        "precision": float(hits[-1] / k),
    }


def _discounted(gains: Floats) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())


def measured(run: Run, judgements: Judgements, ks: Sequence[int]) -> dict[str, dict[str, float]]:
    """For each metric and cut, such as "ndcg@10", its value for each judged query.

    A judged query that the run has no answer to counts 0 (as with trec_eval's -c).
    """
    values: dict[str, dict[str, float]] = {f"{name}@{k}": {} for k in ks for name in METRICS}
    for query, grades in judgements.items():
        found = ranking(run.get(query, {}))
        for k in ks:
            for name, value in of_ranking(found, grades, k).items():
                values[f"{name}@{k}"][query] = value
    return values


def cuts(k: object) -> tuple[int, ...]:
    """The ranks to cut at, each once, ascending.

    Raises:
        QueryError: one is no whole number of at least 1, or there is none.
    """
    given = tuple(k) if isinstance(k, Sequence) and not isinstance(k, str) else (k,)
    found: set[int] = set()
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int) or one < 1:
            raise QueryError(f"k must be a whole number of at least 1, not {one!r}; say where to cut")
        found.add(one)
    if not found:
        raise QueryError("no k was given; say at which rank to cut, such as 10")
    return tuple(sorted(found))


def binary(judgements: Judgements) -> dict[str, dict[str, int]]:
    """The same, with every grade of at least 1 as 1 and all others as 0."""
    return {
        query: {id: int(grade >= 1) for id, grade in grades.items()} for query, grades in judgements.items()
    }
