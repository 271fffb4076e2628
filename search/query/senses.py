"""The senses of a word: its occurrences, sorted by what they mean where they stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.catalog.database import Transaction
from search.catalog.neighbours import CONTEXTUAL_WORDS
from search.catalog.occurrences import occurrences
from search.errors import QueryError, UnknownRecord, WrongModality
from search.index.view import Look
from search.query import run
from search.query.lately import Lately
from search.query.run import Found
from search.types import Sense, Space
from search.vectors import Vectors, unit_rows

CONTEXT = 8  # words shown on either side of an occurrence
MOST_SENSES = 8
# Below this silhouette the occurrences are one sense: of the words in tests/senses.py 11 of 12 with two senses are
# above, and 17 of 24 with one are below.
_LEAST_SILHOUETTE = 0.3
_SAMPLE = 2000  # occurrences that are clustered; the others join the nearest sense
_SEED = 0


def word_space(space: Space) -> None:
    """Refuse a space whose vectors are not of words in their context.

    Raises:
        WrongModality: it holds something else.
    """
    if space.encoder.family != CONTEXTUAL_WORDS:
        raise WrongModality(
            f"space '{space.name}' holds no words in their context; make one with: nearkin ingest text --level word"
        )


def senses(transaction: Transaction, look: Look, word: str, examples: int, context: int) -> list[Sense]:
    """The senses of a word in a space, the most frequent first, each with its most central occurrences.

    Raises:
        QueryError: no word was given.
        UnknownRecord: it does not occur among the space's words.
        CollectionCorrupt: a record or part is damaged.
    """
    if not word.strip():
        raise QueryError("no word was given; name one")
    keys = np.array(occurrences(transaction, look.space, word.strip()), dtype=np.int64).reshape(-1, 2)
    if not len(keys):
        raise UnknownRecord(
            f"'{word}' does not occur among the words of space '{look.space.name}'; "
            "ingest it with: nearkin ingest text --level word"
        )
    vectors = unit_rows(run.vectors_of(look.rows, keys[:, 0].tolist()))
    labels = cluster(vectors)
    found, sizes = [], []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        centre = unit_rows(vectors[own].mean(axis=0, keepdims=True))[0]
        closeness = vectors[own] @ centre
        central = np.argsort(-closeness, kind="stable")[:examples]
        found.append(Found(keys[own[central], 0], keys[own[central], 1], closeness[central]))
        sizes.append(len(own))
    hits = run.hits(transaction, Lately(), found, look.space.name, context=context)
    told = [Sense(size, tuple(some)) for size, some in zip(sizes, hits, strict=True)]
    return sorted(told, key=lambda sense: -sense.size)


def cluster(vectors: Vectors) -> NDArray[np.int64]:
    """The cluster (n,) of each of these unit vectors (n, dim): k-means, with the k of the best silhouette.

    One cluster where no silhouette (Rousseeuw 1987, by cosine) is clear enough, or there are too few to say.
    """
    n = len(vectors)
    if n < 3:
        return np.zeros(n, dtype=np.int64)
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    chosen = np.sort(np.random.default_rng(_SEED).permutation(n)[:_SAMPLE])
    sample = vectors[chosen]
    n_distinct = len(np.unique(sample, axis=0))
    best, centres = _LEAST_SILHOUETTE, None
    for k in range(2, min(MOST_SENSES, n_distinct, len(sample) - 1) + 1):
        model = KMeans(k, n_init=10, random_state=_SEED).fit(sample)
        if len(np.unique(model.labels_)) < 2:
            continue
        clear = float(silhouette_score(sample, model.labels_, metric="cosine"))
        if clear > best:
            best, centres = clear, model.cluster_centers_
    if centres is None:
        return np.zeros(n, dtype=np.int64)
    return _nearest(vectors, centres)


def _nearest(vectors: Vectors, centres: Vectors) -> NDArray[np.int64]:
    """The nearest of the centres for each vector, by Euclid as k-means has it."""
    points = np.asarray(centres, dtype=np.float32)
    distances = (points**2).sum(axis=1) - 2 * vectors @ points.T
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)
