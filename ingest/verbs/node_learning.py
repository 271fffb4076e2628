"""Learns the vectors of a graph's nodes, turned onto those that a space has, and encodes those that come later."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from ingest.learn.nodes.contract import NodeTrainer
from ingest.learn.nodes.features import Features, FeatureTrainer
from ingest.learn.nodes.orientation import Turned, rotated, rotation_onto
from ingest.sources.contract import Graph
from ingest.verbs.graph_stored import node_vectors
from search.catalog import reads
from search.collection import Collection
from search.errors import ModelUnavailable
from search.types import EncoderSpec, Space
from search.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Learned:
    """Vectors (n_nodes, dim), the spec of what made them, its bytes if it can encode later nodes, and the turning."""

    matrix: Vectors
    spec: EncoderSpec
    model: bytes | None
    turned: Turned | None


def learned(
    collection: Collection,
    known: Space | None,
    trainer: NodeTrainer,
    graph: Graph,
    progress: Callable[[int, int], None],
) -> Learned:
    """Learn, and turn onto the vectors of a space that was learned by the same method; None for a new space."""
    encoder = None
    if isinstance(trainer, FeatureTrainer):
        encoder = trainer.learned(graph, progress)
        matrix = trainer.encoded(encoder, graph)
    else:
        matrix = trainer.fit(graph, progress=progress)
    spec, turned = trainer.spec, None
    if known is not None and known.encoder.family == spec.family:
        rows, former = node_vectors(collection.database, known, graph.ids)
        rotation, turned = rotation_onto(matrix, rows, former)
        if rotation is not None:
            matrix = rotated(matrix, rotation)
            encoder = None if encoder is None else encoder.turned(rotation)
    if encoder is None:
        return Learned(matrix, spec, None, turned)
    model = encoder.to_bytes()
    return Learned(matrix, replace(spec, weights=hashlib.sha256(model).hexdigest()), model, turned)


def encoded_later(collection: Collection, space: Space, graph: Graph, features: Features) -> Vectors:
    """What the encoder that a space was learned with makes of the nodes of a graph, (n_nodes, dim) of unit length.

    Raises:
        ModelUnavailable: the encoder is not there, or of another version.
        ModelError: the features are others in number.
    """
    from ingest.learn.nodes.load import load_encoder

    with collection.database.reading() as transaction:
        data = reads.model(transaction, space.encoder.weights or "")
    if data is None:
        raise ModelUnavailable(
            f"the encoder of space '{space.name}' is not there; learn it again with --refit"
        )
    return load_encoder(space.encoder.family, data).encode(graph, features.matrix)
