"""Likely missing edges of a graph: regressions on the products of two nodes' vectors, and on their degrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.catalog import edges
from search.catalog.database import Transaction
from search.errors import QueryError, UnknownRecord
from search.index.view import Look
from search.query.one_each import OneEach, one_each
from search.query.run import Found
from search.query.why import Kin
from search.types import Space
from search.vectors import Keys, Vectors

EXAMPLES = 20_000  # edges that the regression is learned from, beside as many pairs without one
_SMALL = 500_000  # edges up to which all are read, so that no pair with an edge is taken for one without
_DRAWN = 8  # pairs drawn for each that is wanted, at most: in a dense graph most have an edge
_MOST_ITERATIONS = 1_000
# The inverse of the penalty for each example: vectors know the edges that they were learned from too well.
_EASE = 12.0

Pairs = NDArray[np.int64]  # (n, 2)


@dataclass(frozen=True, slots=True)
class Linker:
    """How likely two nodes are linked: sigmoid(weights . (a * b) * dim + popular * log((1 + d)(1 + e)) + bias).

    a and b are of unit length (the Hadamard operator of Grover & Leskovec 2016, table 1); d and e are the degrees,
    whose product is preferential attachment (Liben-Nowell & Kleinberg 2007), and the edge that is asked about does not
    count in them. The log-odds of two regressions are added up, as if they were independent: vectors know the edges
    that they were learned from, so that beside them degrees would seem to say little, or the contrary. Both answers
    have the same chance a priori: of the pairs that it was learned from half are edges.
    """

    weights: NDArray[np.float64]  # (dim,)
    popular: float
    bias: float

    def scores(
        self, vector: Vectors, others: Vectors, degree: float, degrees: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """The probabilities (n,) for one node (dim,) of some degree and others (n, dim) of degrees (n,)."""
        query = (self.weights * vector * len(vector)).astype(np.float32)
        return sigmoid(others @ query + (self.popular * (np.log1p(degrees) + np.log1p(degree)) + self.bias))

    def of_pairs(self, left: Vectors, right: Vectors, degrees: NDArray[np.float64]) -> NDArray[np.float32]:
        """The probabilities (n,) for rows (n, dim) side by side, of degrees (n, 2)."""
        products = np.einsum("nd,nd,d->n", left, right, self.weights.astype(np.float32))
        return sigmoid(products * left.shape[1] + (self.popular * np.log1p(degrees).sum(axis=1) + self.bias))


def sigmoid(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x.astype(np.float64))), dtype=np.float32)


def learned(left: Vectors, right: Vectors, degrees: NDArray[np.float64], linked: NDArray[np.bool_]) -> Linker:
    """The regressions on pairs of unit rows (n, dim) and whether each is linked.

    `degrees` (n, 2) are those of the nodes in all of the graph that is learned from, the pair's own edge included.
    """
    from sklearn.linear_model import LogisticRegression

    products = (left * right).astype(np.float64) * left.shape[1]
    by_vectors = LogisticRegression(C=_EASE / len(products), max_iter=_MOST_ITERATIONS).fit(products, linked)
    popular = np.log1p(degrees - linked[:, None]).sum(axis=1, keepdims=True)
    by_degrees = LogisticRegression().fit(popular, linked)
    return Linker(
        by_vectors.coef_[0],
        float(by_degrees.coef_[0, 0]),
        float(by_vectors.intercept_[0] + by_degrees.intercept_[0]),
    )


def missing(
    transaction: Transaction, look: Look, kin: Kin, like: int, drawn: tuple[int, int], name: str
) -> Found:
    """The nodes that a node is likeliest to lack an edge to, best first; `drawn` is how many, and the seed.

    Raises:
        UnknownRecord: the node has no vector in the space.
        QueryError: there are no examples to learn from.
    """
    k, seed = drawn
    nodes = one_each(transaction, look)
    at = int(np.searchsorted(nodes.record_keys, like))
    if at == len(nodes.record_keys) or nodes.record_keys[at] != like:
        raise UnknownRecord(f"'{name}' has no vector in space '{look.space.name}'; take in its edges first")
    linker, degrees = learned_from(transaction, look.space, nodes, seed)
    scores = linker.scores(nodes.vectors[at], nodes.vectors, degrees[at], degrees)
    free = ~np.isin(nodes.record_keys, kin.around(like)[0])
    free[at] = False
    candidates = np.flatnonzero(free)
    best = candidates[np.lexsort((nodes.record_keys[candidates], -scores[candidates]))][:k]
    return Found(keys_of_parts(look, nodes.record_keys[best]), nodes.record_keys[best], scores[best])


def keys_of_parts(look: Look, record_keys: Keys) -> Keys:
    """The key of the first living part of each of these records, all of which have one."""
    rows = look.rows
    at = np.arange(len(rows)) if rows.living is None else np.flatnonzero(rows.living.mask)
    order = at[np.argsort(rows.record_keys[at], kind="stable")]
    return rows.part_keys[order[np.searchsorted(rows.record_keys[order], record_keys)]]


def learned_from(
    transaction: Transaction, space: Space, nodes: OneEach, seed: int
) -> tuple[Linker, NDArray[np.float64]]:
    """The regression on a sample of the stored edges and of pairs without one, between nodes that have vectors.

    Beside it the degrees (n,) of all these nodes.

    Raises:
        QueryError: no edge, or no pair without one, joins two such nodes.
    """
    rng = np.random.default_rng(seed)
    pairs, whole = _stored_pairs(transaction, space, rng)
    n = len(nodes.record_keys)
    places = np.searchsorted(nodes.record_keys, pairs)
    known = places < len(nodes.record_keys)
    known &= nodes.record_keys[np.minimum(places, len(nodes.record_keys) - 1)] == pairs
    every = places[known.all(axis=1)]
    every = every[every[:, 0] != every[:, 1]]
    if whole:
        degrees = np.bincount(every.ravel(), minlength=n).astype(np.float64)
    else:
        degrees = _stored_degrees(transaction, space, nodes.record_keys)
    edges_chosen = every[rng.permutation(len(every))[:EXAMPLES]]
    # Only nodes that stand in the graph: others, whose vectors are predicted, may lack edges for want of knowledge.
    linked = np.unique(every) if whole else np.unique(edges_chosen)
    others = without_edge(rng, linked, every, n, len(edges_chosen))
    if not len(edges_chosen) or not len(others):
        raise QueryError(
            f"space '{space.name}' has no edges, or no two nodes without one; there is nothing to learn links from"
        )
    both = np.concatenate([edges_chosen, others])
    is_edge = np.arange(len(both)) < len(edges_chosen)
    linker = learned(nodes.vectors[both[:, 0]], nodes.vectors[both[:, 1]], degrees[both], is_edge)
    return linker, degrees


def without_edge(
    rng: np.random.Generator, nodes: NDArray[np.int64], known: Pairs, n: int, wanted: int
) -> Pairs:
    """Up to `wanted` different pairs (m, 2) of these nodes that are not among the known edges, in either direction.

    Args:
        rng: what they are drawn with.
        nodes: numbers below n.
        known: (e, 2) edges by such numbers.
        n: how many numbers there are.
        wanted: how many pairs.
    """
    if len(nodes) < 2:
        return np.empty((0, 2), np.int64)
    taken = np.unique(np.sort(known, axis=1) @ np.array([n, 1]))
    drawn = np.sort(nodes[rng.integers(0, len(nodes), (_DRAWN * wanted, 2))], axis=1)
    drawn = drawn[drawn[:, 0] != drawn[:, 1]]
    codes = drawn @ np.array([n, 1])
    _, first = np.unique(codes, return_index=True)
    first = np.sort(first[~np.isin(codes[first], taken)])
    return np.asarray(drawn[first[:wanted]], dtype=np.int64)


def _stored_pairs(transaction: Transaction, space: Space, rng: np.random.Generator) -> tuple[Pairs, bool]:
    """Edges (m, 2) by the keys of their ends, and whether these are all; of a large graph, those of some blocks."""
    told = edges.state(transaction, space)
    whole = told is None or told.n_edges <= _SMALL
    found = [np.empty((0, 2), np.int64)]
    for layer in (edges.READ, edges.ADDED):
        blocks = (
            edges.every(transaction, space, layer)
            if whole
            else edges.some(transaction, space, layer, rng, 4 * EXAMPLES)
        )
        for rows in blocks:
            owners = np.repeat(rows.nodes, np.diff(rows.indptr))
            found.append(np.stack([owners, rows.targets], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0), whole


def _stored_degrees(transaction: Transaction, space: Space, record_keys: Keys) -> NDArray[np.float64]:
    """How many neighbours each of these records has; deleted ones count until the collection is compacted."""
    told = edges.state(transaction, space)
    sides = (edges.OUT, edges.IN) if told is not None and told.directed else (edges.OUT,)
    degrees = np.zeros(len(record_keys))
    for layer in (edges.READ, edges.ADDED):
        for side in sides:
            for rows in edges.every(transaction, space, layer, side):
                at = np.minimum(np.searchsorted(record_keys, rows.nodes), len(record_keys) - 1)
                known = record_keys[at] == rows.nodes
                # A node with many neighbours stands in several blocks, but once in each.
                degrees[at[known]] += np.diff(rows.indptr)[known]
    return degrees
