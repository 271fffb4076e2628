"""How well missing edges are foretold: some are held out, all is learned without them, and they are ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph, NodeTrainer
from ingest.sources.graph_union import without_edges
from search.errors import SourceError
from search.query.links import learned, without_edge
from search.vectors import unit_rows

Pairs = NDArray[np.int64]  # (n, 2)
_ROWS = 50_000  # pairs that are scored at a time
_MOST_LEARNED = 100_000  # edges that the regression is learned from


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """The area under the ROC curve and the average precision of a score, over held-out edges and pairs without one."""

    auc: float
    average_precision: float


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What came of holding out `held_out` edges against as many pairs without one; `kept` were learned from.

    `scores` has an entry for each way of ranking: "regression" on the products of the vectors and the degrees,
    "cosine", and what needs no vectors: "degrees" (preferential attachment), "common neighbours" and "Adamic-Adar".
    """

    method: str
    held_out: int
    kept: int
    scores: Mapping[str, LinkQuality]


def evaluated(
    trainer: NodeTrainer,
    graph: Graph,
    share: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> LinkReport:
    """Hold out a share of the edges, learn without them, and see whether they rank above pairs without an edge.

    As Grover & Leskovec 2016, sec. 4.4; but edges are held out wherever they are, so that nodes may lose their last.
    The regression is learned from the edges that are kept and as many pairs without one. Directions do not count.

    Args:
        trainer: learns the vectors.
        graph: all edges; self-loops are left aside.
        share: of the edges that are held out, between 0 and 1.
        seed: of what is held out and drawn.
        progress: is told how the learning goes on.

    Raises:
        SourceError: there are too few edges for this, or no pairs without one.
    """
    if not 0 < share < 1:
        raise SourceError(f"the share to hold out is {share}; give a number between 0 and 1, such as 0.1")
    rng = np.random.default_rng(seed)
    every = edge_pairs(graph)
    every = every[rng.permutation(len(every))]
    n_held = round(share * len(every))
    held, kept = every[:n_held], every[n_held:]
    part = without_edges(graph, held)
    n = graph.n_nodes
    linked = np.unique(every)
    n_examples = min(len(kept), _MOST_LEARNED)
    others = without_edge(rng, linked, every, n, n_held + n_examples)
    if not n_held or not len(kept) or len(others) < 2:
        raise SourceError(
            "the graph has too few edges, or pairs without one, to hold some out; give a larger one"
        )
    against = others[: max(1, len(others) * n_held // (n_held + n_examples))]
    examples = others[len(against) :]
    vectors = unit_rows(trainer.fit(part, progress=progress))
    pairs = np.concatenate([held, against])
    is_edge = np.arange(len(pairs)) < len(held)
    shown = np.concatenate([kept[:n_examples], examples])
    degrees = np.bincount(edge_pairs(part).ravel(), minlength=n).astype(np.float64)
    linker = learned(
        vectors[shown[:, 0]], vectors[shown[:, 1]], degrees[shown], np.arange(len(shown)) < n_examples
    )
    left, right = vectors[pairs[:, 0]], vectors[pairs[:, 1]]
    common, adamic_adar = neighbourhoods(part, pairs)
    scores = {
        "regression": linker.of_pairs(left, right, degrees[pairs]),
        "cosine": np.einsum("nd,nd->n", left, right),
        "degrees": np.log1p(degrees[pairs]).sum(axis=1),
        "common neighbours": common,
        "Adamic-Adar": adamic_adar,
    }
    return LinkReport(
        trainer.spec.model,
        len(held),
        len(kept),
        {name: quality(is_edge, score) for name, score in scores.items()},
    )


def quality(is_edge: NDArray[np.bool_], scores: NDArray[np.floating]) -> LinkQuality:
    """How well the scores (n,) part edges from other pairs."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return LinkQuality(float(roc_auc_score(is_edge, scores)), float(average_precision_score(is_edge, scores)))


def neighbourhoods(graph: Graph, pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each pair (n, 2) the common neighbours (n,), and the sum of 1 / log(degree) over them (n,).

    (Liben-Nowell & Kleinberg 2007, after Adamic & Adar 2003.) Weights, directions and self-loops do not count.
    """
    n = graph.n_nodes
    ends = edge_pairs(graph)
    both = np.concatenate([ends, ends[:, ::-1]])
    matrix = scipy.sparse.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (n, n))
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    rare = np.where(degree > 1, 1.0 / np.log(np.maximum(degree, 2)), 0.0)
    weighed = (matrix @ scipy.sparse.diags(rare)).tocsr()
    common, adamic_adar = np.empty(len(pairs)), np.empty(len(pairs))
    for low in range(0, len(pairs), _ROWS):
        some = pairs[low : low + _ROWS]
        right = matrix[some[:, 1]]
        for out, left in ((common, matrix), (adamic_adar, weighed)):
            out[low : low + len(some)] = np.asarray(left[some[:, 0]].multiply(right).sum(axis=1)).ravel()
    return common, adamic_adar


def edge_pairs(graph: Graph) -> Pairs:
    """The edges (n, 2), each once and with the lesser node first; without self-loops."""
    sources = np.repeat(np.arange(graph.n_nodes), np.diff(graph.indptr))
    ends = np.sort(np.stack([sources, graph.indices.astype(np.int64)], axis=1), axis=1)
    return np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
