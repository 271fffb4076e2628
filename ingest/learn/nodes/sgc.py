"""Simplified graph convolution: features smoothed over the graph, and their principal axes; new nodes are encoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.features import Features, FeatureTrainer
from ingest.learn.nodes.node2vec import without_isolated
from ingest.learn.nodes.spectral import (
    Sparse,
    Times,
    adjacency,
    degrees,
    give_directions,
    products,
    scaled,
    unit_rows,
)
from ingest.learn.nodes.walks import available_threads
from search.errors import ModelError, ModelUnavailable, SourceError
from search.types import EncoderSpec, Json, Modality

EXACT = 2048  # features up to which the axes are solved for; of more they are found by random projections
OVERSAMPLED = 10  # directions beyond those wanted, and ...
ROUNDS = 6  # ... rounds of these
NOISE = 1e-5  # a row this much shorter than those of the features is what rounding left
_FORM = "nearkin sgc 1"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SGCSettings:
    """`dim` numbers per vector; `hops` of smoothing; `seed` of the random projections, where there are any."""

    dim: int = 128
    hops: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "hops"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.seed < 0:
            raise ModelError(f"seed is {self.seed}; give a number that is not negative")


@dataclass(frozen=True, slots=True)
class SmoothedAxes:
    """Encodes a node as the mean of the features around it, on axes `weights` (f, dim), less `offset` (dim,).

    Features are taken less `mean` (f,); of nodes without any nothing is known, which stands for the mean.
    """

    weights: Floats
    mean: Floats
    offset: Floats
    hops: int

    def encode(self, graph: Graph, features: Floats, threads: int | None = None) -> Floats:
        """Vectors (n_nodes, dim) of unit length; zeros where nothing is known of all that is so many hops near.

        Args:
            graph: of new and known nodes; directions do not count.
            features: (n_nodes, f); rows of zeros say nothing.
            threads: None takes all processors.

        Raises:
            ModelError: the features are of another width.
        """
        if features.shape[1] != len(self.weights):
            raise ModelError(
                f"the encoder takes {len(self.weights):,} features of a node, not {features.shape[1]:,}; learn again"
            )
        known = np.asarray(features.any(axis=1))
        axes = np.where(known[:, None], (features - self.mean) @ self.weights, 0).astype(np.float32)
        with products(_threads(threads)) as times:
            smoothing = _Smoothing(adjacency(graph), self.hops, times)
            vectors = smoothing.of(axes) - self.offset
            vectors[smoothing.of(known[:, None].astype(np.float32))[:, 0] == 0] = 0.0
        lengths = np.linalg.norm(features[known], axis=1)
        least = NOISE * np.sqrt((lengths**2).mean()) if len(lengths) else np.inf
        vectors[np.linalg.norm(vectors, axis=1) <= least] = 0.0
        return unit_rows(vectors)

    def turned(self, rotation: NDArray[np.float64]) -> Self:
        """The encoder whose vectors are those of this one times an orthogonal matrix (dim, dim)."""
        turned = {
            name: (getattr(self, name).astype(np.float64) @ rotation).astype(np.float32)
            for name in ("weights", "offset")
        }
        return replace(self, **turned)

    def to_bytes(self) -> bytes:
        """A safetensors file; the same encoder gives the same bytes."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ("weights", "mean", "offset")}
        told = json.dumps({"form": _FORM, "hops": self.hops}, sort_keys=True)
        return save(arrays, metadata={"nearkin": told})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The encoder that `to_bytes` wrote.

        Raises:
            ModelUnavailable: it is damaged, or of another version.
        """
        try:
            length = int.from_bytes(data[:8], "little")
            told = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["nearkin"])
            arrays = load(data)
            if told["form"] == _FORM:
                return cls(arrays["weights"], arrays["mean"], arrays["offset"], int(told["hops"]))
        except (ValueError, LookupError, TypeError, SafetensorError) as error:
            raise ModelUnavailable("the encoder of the nodes is damaged; learn the graph again") from error
        raise ModelUnavailable("the encoder of the nodes is of another version; learn the graph again")


class SGC(FeatureTrainer):
    """Vectors of nodes by simplified graph convolution (Wu et al. 2019) and principal components.

    Each node takes the mean of its neighbours' features and its own, `hops` times; its own counts as much as the mean
    of its edges, so that in a graph without weights this is the convolution of Kipf & Welling 2017 with rows of sum 1.
    The principal axes of what comes out keep their lengths. All of this is linear, so the encoder is one matrix, and a
    node that comes later gets the vector that the same matrix gives it among its neighbours. (GraphSAGE, Hamilton et
    al. 2017, and DGI, Veličković et al. 2019, were slower and worse on Cora.)

    Args:
        settings: None for 128 numbers and 2 hops.
        features: what is known of the nodes; needed to learn.
        threads: how many threads to use; None for all processors this process may use.
    """

    family = "sgc"

    def __init__(
        self,
        settings: SGCSettings | None = None,
        features: Features | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.settings = settings = settings or SGCSettings()
        self.features = features
        self.threads = _threads(threads)
        options: dict[str, Json] = asdict(settings)
        if features is not None:
            options |= {
                "features": features.space,
                "attributes": list(features.attributes),
                "digest": features.digest,
            }
        self.spec = EncoderSpec(self.family, self.family, Modality.GRAPH, settings.dim, options=options)

    def given(self, features: Features) -> Self:
        """The same trainer with these features."""
        return type(self)(self.settings, features, threads=self.threads)

    def fit(self, graph: Graph, *, progress: Callable[[int, int], None] | None = None) -> Floats:
        """Vectors (n_nodes, dim) float32; row i is node i.

        A node without edges gets the vector of its own features, a row of zeros where it has none. Nodes with edges
        about which nothing is known, so many hops around, get one random direction for their component.

        Raises:
            SourceError: the graph has no edges.
            ModelError: there are no features, or none of a node with an edge.
        """
        return self.encoded(self.learned(graph, progress), graph)

    def encoded(self, encoder: SmoothedAxes, graph: Graph) -> Floats:
        """What an encoder makes of the nodes that the features are of, as `fit` gives it."""
        assert self.features is not None
        vectors = encoder.encode(graph, self.features.of(graph), self.threads)
        connected, nodes = without_isolated(graph)
        give_directions(vectors, nodes, adjacency(connected), self.settings.seed)
        return vectors

    def learned(self, graph: Graph, progress: Callable[[int, int], None] | None = None) -> SmoothedAxes:
        """The encoder that `fit` encodes with.

        Raises:
            SourceError: the graph has no edges.
            ModelError: there are no features, or none of a node with an edge.
        """
        if self.features is None:
            raise ModelError("sgc learns from features of nodes; name a space that has them with --features")
        connected, _ = without_isolated(graph)
        if connected.n_nodes == 0:
            raise SourceError("the graph has no edges; nothing can be learned from it")
        reached = progress or (lambda _done, _total: None)
        reached(0, 3)
        rows = self.features.of(connected)
        known = np.asarray(rows.any(axis=1))
        if not known.any():
            raise ModelError(
                f"no node with an edge has features in {self.features.source}; take them in first"
            )
        mean = rows[known].mean(axis=0, dtype=np.float64).astype(np.float32)
        with products(self.threads) as times:
            smoothed = _Smoothing(adjacency(connected), self.settings.hops, times).of(
                np.where(known[:, None], rows - mean, 0).astype(np.float32)
            )
        reached(1, 3)
        centre = smoothed.mean(axis=0, dtype=np.float64).astype(np.float32)
        axes = _principal_axes(smoothed - centre, self.settings)
        reached(2, 3)
        weights = np.zeros((rows.shape[1], self.settings.dim), np.float32)
        weights[:, : axes.shape[1]] = axes
        reached(3, 3)
        return SmoothedAxes(weights, mean, centre @ weights, self.settings.hops)


class _Smoothing:
    """The mean over each node and its neighbours, some times."""

    def __init__(self, matrix: Sparse, hops: int, times: Times) -> None:
        n_neighbours = np.diff(matrix.indptr)
        total = degrees(matrix)
        own = 1.0 / (n_neighbours + 1)
        self._means = scaled(matrix, (1.0 - own) / np.where(total > 0, total, 1.0))
        self._own = own.astype(np.float32)[:, None]
        self._hops, self._times = hops, times

    def of(self, rows: Floats) -> Floats:
        """Rows (n, m) smoothed."""
        for _ in range(self._hops):
            rows = self._times(self._means, rows) + self._own * rows
        return rows


def _principal_axes(rows: Floats, settings: SGCSettings) -> Floats:
    """(f, at most dim) orthonormal columns: the directions in which centred rows (n, f) differ most."""
    n, f = rows.shape
    dim = min(settings.dim, f)
    if f <= EXACT:
        _, vectors = scipy.linalg.eigh(
            rows.T @ rows, subset_by_index=(f - dim, f - 1), check_finite=False, overwrite_a=True
        )
        axes = vectors[:, ::-1]
    else:
        rng = np.random.default_rng([settings.seed, n])
        basis = rng.standard_normal((f, min(dim + OVERSAMPLED, f)), np.float32)
        for _ in range(ROUNDS):
            basis, _ = scipy.linalg.qr(
                rows.T @ (rows @ basis), mode="economic", overwrite_a=True, check_finite=False
            )
        inside = rows @ basis
        _, turn = scipy.linalg.eigh(inside.T @ inside, check_finite=False)
        axes = basis @ turn[:, ::-1][:, :dim]
    # An axis is as good as its opposite: the greatest number of each is made positive.
    greatest = axes[np.abs(axes).argmax(axis=0), np.arange(dim)]
    result: Floats = (axes * np.where(greatest < 0, -1.0, 1.0)).astype(np.float32)
    return result


def _threads(given: int | None) -> int:
    return available_threads() if given is None else max(1, given)
