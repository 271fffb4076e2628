"""The Weisfeiler-Lehman words of many graphs, gathered as they come by, and those worth keeping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from search.encoders.graph_items import LabelledGraph
from search.encoders.graph_words import Counted, counted
from search.errors import SourceError

MOST_WORDS = 1 << 17  # kept: with 128 numbers each they take 64 MB of the collection
FEWEST_GRAPHS = 2  # that must have a word: one that a single graph has makes it like no other
_NODES_AT_ONCE = 1 << 17


@dataclass(frozen=True, slots=True)
class Corpus:
    """Graphs as counts (n, v) of the words (v,) of a vocabulary, in ascending order; `sizes` (n,) are their nodes."""

    words: NDArray[np.uint64]
    counts: sparse.csr_matrix
    sizes: NDArray[np.int64]


def handfuls(graphs: Iterable[LabelledGraph]) -> Iterator[list[LabelledGraph]]:
    """The graphs, so many at a time as have a bounded number of nodes together."""
    some: list[LabelledGraph] = []
    nodes = 0
    for graph in graphs:
        some.append(graph)
        nodes += graph.n_nodes
        if nodes >= _NODES_AT_ONCE:
            yield some
            some, nodes = [], 0
    if some:
        yield some


def read_corpus(graphs: Iterable[LabelledGraph], depth: int) -> Corpus:
    """The words of graphs that at least two of them have, of those the ones that most have.

    The graphs themselves are not kept. Where no word is in two graphs, all words count.

    Raises:
        SourceError: there are no graphs.
    """
    parts: list[Counted] = []
    sizes: list[int] = []
    for some in handfuls(graphs):
        parts.append(counted(some, depth))
        sizes += [graph.n_nodes for graph in some]
    n = sum(part.n for part in parts)
    if n == 0:
        raise SourceError("there are no graphs to learn from; give at least one that can be read")
    begins = np.cumsum([0, *(part.n for part in parts)])[:-1]
    rows = np.concatenate([part.rows + begin for part, begin in zip(parts, begins, strict=True)])
    words, columns, spread = np.unique(
        np.concatenate([part.words for part in parts]), return_inverse=True, return_counts=True
    )
    counts = np.concatenate([part.counts for part in parts]).astype(np.float64)
    kept = (
        np.flatnonzero(spread >= FEWEST_GRAPHS) if (spread >= FEWEST_GRAPHS).any() else np.arange(len(words))
    )
    if len(kept) > MOST_WORDS:
        kept = np.sort(kept[np.argsort(-spread[kept], kind="stable")[:MOST_WORDS]])
    whole = sparse.csr_matrix((counts, (rows, columns.reshape(-1))), shape=(n, len(words)))
    return Corpus(words[kept], whole[:, kept].tocsr(), np.array(sizes, np.int64))
