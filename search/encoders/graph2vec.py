"""graph2vec: the vector by which a graph's Weisfeiler-Lehman words are foretold best, the words' own held fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import Vectors
from search.encoders.graph_items import LabelledGraph
from search.encoders.whole_graphs import GraphModel, Tensors
from search.types import Json

PENALTY = 3e-2  # on half the squared length: a word that is everywhere must not carry the vector off
_STEPS = 30  # of Newton's method, at most; about eight are needed
_CLOSE = 1e-7  # of the objective a step gains: then it has converged
_HALVINGS = 30
_PULL = 1e-6  # on a vector of 0, below which it stays there

Floats = NDArray[np.float64]


class Graph2Vec(GraphModel):
    """The vector v of a graph that makes its words likely (Narayanan et al. 2017; PV-DBOW of Le & Mikolov 2014).

    With the words' vectors u held as they were learned, v maximises over the words w of the graph
    mean log s(v . u_w) + k E log s(-v . u_noise) - penalty |v|^2 / 2, where s is the sigmoid. The expectation over
    noise is taken exactly of its expansion to the second order, log s(-x) = -log 2 - x / 2 - x^2 / 8; so no negatives
    are drawn, the maximum is the only one, and the same graph has the same vector whatever stands beside it. All
    graphs are described so, those learned from too.

    With C = L L' the matrix of all that is quadratic in v, words z = L^-1 u and c = L^-1 k E u / 2, it is
    v = L'^-1 (x - c), where x minimises |x|^2 / 2 - mean log s(x . z - c . z).
    """

    def _take(self, tensors: Tensors, settings: Mapping[str, Json]) -> int:
        from scipy.linalg import solve_triangular

        self._outputs = np.asarray(tensors["outputs"], np.float64)
        self._mean = np.asarray(tensors["noise mean"], np.float64)
        self._square = np.asarray(tensors["noise square"], np.float64)
        self._negatives = int(str(settings["negatives"]))
        v, dim = self._outputs.shape
        if v != len(self.words) or self._mean.shape != (dim,) or self._square.shape != (dim, dim):
            raise ValueError("a row for each word")
        if not all(np.isfinite(one).all() for one in (self._outputs, self._mean, self._square)):
            raise ValueError("numbers that are none")
        self._root = np.linalg.cholesky(self._negatives / 4 * self._square + PENALTY * np.eye(dim))
        self._turned = np.ascontiguousarray(solve_triangular(self._root, self._outputs.T, lower=True).T)
        self._shift = solve_triangular(self._root, self._negatives / 2 * self._mean, lower=True)
        return int(dim)

    def _described(self, graphs: Sequence[LabelledGraph]) -> Vectors:
        from scipy.linalg import solve_triangular

        counts = self.matrix(graphs)
        rows = np.zeros((len(graphs), self._outputs.shape[1]))
        for number in range(len(graphs)):
            some = slice(counts.indptr[number], counts.indptr[number + 1])
            if some.start < some.stop:
                told, words = counts.data[some], self._turned[counts.indices[some]]
                rows[number] = _best(words, words @ self._shift, told / told.sum()) - self._shift
        rows = solve_triangular(self._root, rows.T, lower=True, trans="T").T
        rows[np.diff(counts.indptr) == 0] = 0
        return np.asarray(rows, np.float32)

    def knows(self, graphs: Sequence[LabelledGraph]) -> NDArray[np.bool_]:
        """(n,) whether each graph can be encoded: whether anything pulls its vector away from 0."""
        counts = self.matrix(graphs)
        shares = counts.multiply(1 / np.maximum(counts.sum(axis=1), 1)).tocsr()
        slopes = (shares @ self._outputs - self._negatives * self._mean) / 2
        known: NDArray[np.bool_] = (np.diff(counts.indptr) > 0) & (np.abs(slopes).max(axis=1) > _PULL)
        return known

    def objective(self, vector: Floats, outputs: Floats, shares: Floats) -> float:
        """What is maximised, for words with these vectors (w, dim) and shares (w,) of the graph; less a constant."""
        noise = self._mean @ vector / 2 + vector @ self._square @ vector / 8
        likely = -np.logaddexp(0, -(outputs @ vector)) @ shares
        return float(likely - self._negatives * noise - PENALTY * (vector @ vector) / 2)


def _best(words: Floats, shifts: Floats, shares: Floats) -> Floats:
    """The x (dim,) that minimises |x|^2 / 2 - shares . log s(words x - shifts), for words (w, dim).

    By Newton's method with halved steps; what is solved in each has as many unknowns as there are words, or numbers in
    a vector if these are fewer.
    """
    w, dim = words.shape
    alike = words @ words.T if w <= dim else None

    def step_along(slope: Floats, curved: Floats) -> Floats:
        if alike is None:
            return np.asarray(np.linalg.solve(np.eye(dim) + (words.T * curved) @ words, slope))
        root = np.sqrt(curved)  # the same by the matrix inversion lemma
        inner = np.linalg.solve(np.eye(w) + root[:, None] * alike * root, root * (words @ slope))
        return np.asarray(slope - words.T @ (root * inner))

    def cost(at: Floats, scores: Floats) -> float:
        return float(at @ at / 2 + np.logaddexp(0, -scores) @ shares)

    best, scores = np.zeros(dim), -shifts
    reached = cost(best, scores)
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-scores))
        slope = (shares * (1 - likely)) @ words - best
        step = step_along(slope, shares * likely * (1 - likely))
        moved = words @ step
        for _ in range(_HALVINGS):
            gained = reached - cost(best + step, scores + moved)
            if gained >= 0:
                break
            step, moved = step / 2, moved / 2
        else:
            break
        best, scores, reached = best + step, scores + moved, reached - gained
        if gained < _CLOSE:
            break
    return best
