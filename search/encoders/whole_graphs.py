"""The encoders of whole graphs that are learned from the user's own: what all of them have in common."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import Encoder, Item, Role, Vectors
from search.encoders.graph_items import LabelledGraph, labelled
from search.encoders.graph_words import MOST_DEPTH, counted
from search.errors import EncoderDrift, ModelUnavailable, QueryError
from search.types import EncoderSpec, Json, Modality
from search.vectors import unit_rows

if TYPE_CHECKING:
    from scipy import sparse

FAMILY = "whole-graphs"
FORMAT = "nearkin whole graphs 1"
GRAPHS_AT_ONCE = 4096
_ADVICE = "ingest the graphs again"
_VANISHED = 1e-9  # of a vector's usual length: below it there is no direction

Tensors = Mapping[str, NDArray[Any]]


class GraphModel(Encoder):
    """Turns whole graphs into unit vectors by what `ingest.learn.graphs` has learned.

    Args:
        tensors: what was learned, by name; `words` (v,) uint64, ascending, are those of the vocabulary.
        settings: `method`, `depth` (how far Weisfeiler-Lehman words see), `node_label` and what else the method needs.
        weights: the sha256 of the file that these came from.

    Raises:
        ModelUnavailable: they do not fit each other.
    """

    def __init__(self, tensors: Tensors, settings: Mapping[str, Json], weights: str) -> None:
        try:
            self.words = np.asarray(tensors["words"], np.uint64)
            self.depth = int(str(settings["depth"]))
            dim = self._take(tensors, settings)
        except (LookupError, TypeError, ValueError) as error:
            raise ModelUnavailable(
                f"the learned graph encoder does not fit its own settings; {_ADVICE}"
            ) from error
        if not 0 <= self.depth <= MOST_DEPTH or (self.words[1:] <= self.words[:-1]).any():
            raise ModelUnavailable(f"the learned graph encoder does not fit its own settings; {_ADVICE}")
        self.node_label = None if settings["node_label"] is None else str(settings["node_label"])
        self.spec = EncoderSpec(
            family=FAMILY,
            model=str(settings["method"]),
            modality=Modality.GRAPH,
            dim=dim,
            accepts=("graph",),
            weights=weights,
            options={name: value for name, value in settings.items() if name != "method"},
        )

    @abstractmethod
    def _take(self, tensors: Tensors, settings: Mapping[str, Json]) -> int:
        """Take what was learned; the width of the vectors."""

    @abstractmethod
    def _described(self, graphs: Sequence[LabelledGraph]) -> Vectors:
        """Vectors (n, dim) of any length; zeros where nothing of a graph is known."""

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of graphs, (n, dim) float32, row i for item i.

        Args:
            items: LabelledGraphs, networkx graphs, sparse matrices, or paths of files.
            role: makes no difference to a graph.

        Raises:
            WrongModality: an item is no graph.
            SourceError: a graph cannot be read, or has no nodes.
            QueryError: a graph has nothing in common with those learned from.
        """
        rows, known = self.attempted([labelled(item, self.node_label) for item in items])
        if not known.all():
            raise QueryError(
                "a graph has nothing in common with those that the space was learned from; give another"
                + ("" if self.node_label is None else f", whose nodes have a '{self.node_label}' as theirs")
            )
        return rows

    def attempted(self, graphs: Sequence[LabelledGraph]) -> tuple[Vectors, NDArray[np.bool_]]:
        """Unit vectors (n, dim), and which (n,) are right: the others have nothing in common with what was learned."""
        rows = np.zeros((len(graphs), self.spec.dim), np.float32)
        for begin in range(0, len(graphs), GRAPHS_AT_ONCE):
            some = slice(begin, begin + GRAPHS_AT_ONCE)
            rows[some] = self._described(graphs[some])
        known = np.linalg.norm(rows, axis=1) > _VANISHED
        rows[known] = unit_rows(rows[known])
        rows[~known] = 0
        return rows, known

    def knows(self, graphs: Sequence[LabelledGraph]) -> NDArray[np.bool_]:
        """(n,) whether each graph can be encoded."""
        return self.attempted(graphs)[1]

    def matrix(self, graphs: Sequence[LabelledGraph]) -> sparse.csr_matrix:
        """How often each word of the vocabulary stands in each graph: (n, v) float64; other words are passed over."""
        return counts_of(graphs, self.depth, self.words)


def counts_of(graphs: Sequence[LabelledGraph], depth: int, words: NDArray[np.uint64]) -> sparse.csr_matrix:
    """How often each of some words (v,), ascending, stands in each graph: (n, v) float64."""
    from scipy import sparse

    found = counted(graphs, depth)
    places = np.searchsorted(words, found.words)
    known = places < len(words)
    known[known] = words[places[known]] == found.words[known]
    shape = (len(graphs), len(words))
    entries = found.counts[known].astype(np.float64)
    return sparse.csr_matrix((entries, (found.rows[known], places[known])), shape=shape)


def to_bytes(tensors: Tensors, settings: Mapping[str, Json]) -> bytes:
    """The safetensors file of an encoder; the same tensors and settings give the same bytes."""
    from safetensors.numpy import save

    told = json.dumps({"format": FORMAT, **settings}, sort_keys=True)
    return bytes(
        save({k: np.ascontiguousarray(v) for k, v in sorted(tensors.items())}, metadata={"nearkin": told})
    )


def from_bytes(data: bytes) -> GraphModel:
    """The encoder that `to_bytes` wrote.

    Raises:
        ModelUnavailable: the bytes are damaged, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        length = int.from_bytes(data[:8], "little")
        settings = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["nearkin"])
        form = settings.pop("format")
        tensors = load(data)
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelUnavailable(f"the learned graph encoder is damaged; {_ADVICE}") from error
    if form != FORMAT:
        raise ModelUnavailable(f"the learned graph encoder is of another version of nearkin; {_ADVICE}")
    weights = hashlib.sha256(data).hexdigest()
    method = settings.get("method")
    model: type[GraphModel]
    if method == "wl":
        from search.encoders.graph_projection import ProjectedWords

        model = ProjectedWords
    elif method == "graph2vec":
        from search.encoders.graph2vec import Graph2Vec

        model = Graph2Vec
    elif method == "pooled":
        from search.encoders.graph_pooling import PooledNodes

        model = PooledNodes
    else:
        raise ModelUnavailable(f"this nearkin has no graph encoder '{method}'; upgrade it")
    return model(tensors, settings, weights)


def from_spec(spec: EncoderSpec, *, data: bytes | None) -> GraphModel:
    """The encoder that a space was made with.

    Raises:
        ModelUnavailable: the bytes are missing or damaged.
        EncoderDrift: they are of another encoder.
    """
    if data is None:
        raise ModelUnavailable(f"the learned '{spec.model}' encoder is missing; {_ADVICE}")
    encoder = from_bytes(data)
    if encoder.spec.weights != spec.weights:
        raise EncoderDrift(
            f"the learned '{spec.model}' encoder is not the one that the space was made with "
            f"(sha256 {spec.weights}); ingest the graphs into a new space"
        )
    return encoder
