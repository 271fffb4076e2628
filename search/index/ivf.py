"""FAISS's inverted files: rows sorted into lists around learned centres, whole or as short codes.

The codes only choose candidates; their scores are then made exact from the rows themselves, which may lie on disk.
"""

from __future__ import annotations

import math

import faiss
import numpy as np
from numpy.typing import NDArray

from search.index.contract import FAISS_METRIC, Rows
from search.index.flat import scores_at
from search.index.structure import Buffer, Kind, Progress, Structure
from search.types import Metric
from search.vectors import Vectors

_SLICE = 65536  # rows added between two reports of progress
_LEARNED_FROM = 64  # rows for each list that its centre is learned from
_REFINED = {Kind.IVF_FLAT: 1, Kind.IVF_SQ8: 2, Kind.IVF_PQ: 8, Kind.IVF_RABITQ: 12}
_LEAST_REFINED = 64
_FULL = 1.5  # lists visited for each that would hold all the rows wanted, were they all in it


def _description(kind: Kind, dim: int, n_lists: int) -> str:
    """The structure in the words of FAISS's factory."""
    codes = {
        Kind.IVF_FLAT: "Flat",
        Kind.IVF_SQ8: "SQ8",
        # Jégou, Douze & Schmid 2011, with 4-bit codes of two numbers each (André et al. 2017: fast scan).
        Kind.IVF_PQ: f"PQ{pieces_of(dim)}x4fs",
        Kind.IVF_RABITQ: "RaBitQ",  # Gao & Long 2024
    }
    return f"IVF{n_lists},{codes[kind]}"


def pieces_of(dim: int) -> int:
    """Into how many equal pieces a row is cut for product quantisation: of two numbers where that goes."""
    return max(m for m in range(1, max(dim // 2, 1) + 1) if dim % m == 0)


def n_lists_for(n: int) -> int:
    """How many lists suit so many rows."""
    return int(max(1, min(4 * math.sqrt(n), n / 39)))


class Lists(Structure):
    """An inverted file over the first `n` rows of a space; effort is the number of lists visited."""

    efforts = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)

    def __init__(self, index: faiss.IndexIVF, kind: Kind, metric: Metric) -> None:
        self._index = index
        self.kind = kind
        self.metric = metric
        self.n = int(index.ntotal)

    @classmethod
    def build(cls, rows: Rows, metric: Metric, kind: Kind, progress: Progress) -> Lists:
        """Learn the centres (and codes) from a sample, then sort all rows in."""
        n, dim = rows.matrix.shape
        n_lists = n_lists_for(n)
        index = faiss.index_factory(dim, _description(kind, dim, n_lists), FAISS_METRIC[metric])
        progress(0, n)
        chosen = np.random.default_rng(0).choice(n, min(n, n_lists * _LEARNED_FROM), replace=False)
        index.train(rows.matrix[np.sort(chosen)])
        return cls._grown(index, rows, 0, kind, metric, progress)

    def extended(self, rows: Rows, progress: Progress) -> Lists:
        """The lists with the rows that came after them, around the same centres."""
        index = faiss.deserialize_index(np.frombuffer(self.to_bytes(), np.uint8))
        return self._grown(index, rows, self.n, self.kind, self.metric, progress)

    @classmethod
    def _grown(
        cls, index: faiss.IndexIVF, rows: Rows, begin: int, kind: Kind, metric: Metric, progress: Progress
    ) -> Lists:
        n = len(rows)
        for start in range(begin, n, _SLICE):
            progress(start - begin, n - begin)
            index.add(np.ascontiguousarray(rows.matrix[start : start + _SLICE]))
        progress(n - begin, n - begin)
        return cls(index, kind, metric)

    @classmethod
    def from_bytes(cls, data: Buffer, kind: Kind, metric: Metric) -> Lists:
        """The lists that `to_bytes` wrote; the caller has checked the bytes against their checksum."""
        return cls(faiss.deserialize_index(np.frombuffer(data, np.uint8)), kind, metric)

    def to_bytes(self) -> Buffer:
        """The centres, and the lists with their codes."""
        found: NDArray[np.uint8] = faiss.serialize_index(self._index)
        return found.data

    def effort_for(self, width: int, effort: int) -> int:
        """At least so many lists that they can hold the rows wanted."""
        n_lists = int(self._index.nlist)
        return min(n_lists, max(effort, math.ceil(_FULL * width * n_lists / max(self.n, 1))))

    def candidates(
        self, rows: Rows, queries: Vectors, width: int, effort: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions (n_queries, width), best first; -1 where the lists visited held too few."""
        parameters = self._parameters(effort)
        if self.kind is Kind.IVF_FLAT:
            distances, positions = self._index.search(queries, width, params=parameters)
            return (-distances if self.metric is Metric.L2 else distances), positions
        rough = min(self.n, max(width * _REFINED[self.kind], width + _LEAST_REFINED))
        _, positions = self._index.search(queries, rough, params=parameters)
        return _refined(rows, queries, positions, width, self.metric)

    def _parameters(self, visited: int) -> faiss.SearchParametersIVF:
        if self.kind is Kind.IVF_RABITQ:
            return faiss.IVFRaBitQSearchParameters(nprobe=visited)
        return faiss.SearchParametersIVF(nprobe=visited)


def _refined(
    rows: Rows, queries: Vectors, positions: NDArray[np.int64], width: int, metric: Metric
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best `width` of the candidates of each query by their exact scores."""
    best = np.full((len(queries), width), -np.inf, np.float32)
    chosen = np.full((len(queries), width), -1, np.int64)
    for number, query in enumerate(queries):
        found = positions[number]
        found = found[found >= 0]
        scores = scores_at(rows.matrix, query, found, metric)
        order = np.argsort(-scores, kind="stable")[:width]
        best[number, : len(order)] = scores[order]
        chosen[number, : len(order)] = found[order]
    return best, chosen
