"""Where the features of a graph's nodes come from, and where those that come with the graph are kept: in a space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingest.learn.nodes.features import Features
from ingest.sources.contract import Item
from ingest.sources.edges import GraphFile
from ingest.verbs.graph_stored import node_vectors
from ingest.verbs.opening import ROWS_PER_COMMIT
from search.catalog import reads
from search.catalog.part_writes import Provenance
from search.collection import Collection
from search.errors import CollectionError, ModelError, SourceError, UnknownSpace
from search.query.follow import Views
from search.query.one_each import one_each
from search.types import EncoderSpec, Json, Metric, Modality, Record, Space
from search.vectors import Vectors, unit_rows
from search.writer import Writer, check_trainable

if TYPE_CHECKING:
    from ingest.learn.nodes.load import NodeSettings

SUFFIX = "_attributes"  # what the name of the space ends with that keeps the attributes of a graph's nodes
FAMILY = "attributes"
MOST_BYTES = 1 << 30  # of a matrix of attributes, all its zeros written out
_FEWER = "take fewer columns"


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes that came with a graph: row i of `matrix` (n, f) is of the node `ids[i]`, zeros where it has none.

    `spec` and `metric` are those of the space that keeps them: rows of a matrix at unit length, compared by the cosine;
    single attributes as they stand to mean and deviation, compared by the distance.
    """

    ids: tuple[str, ...]
    matrix: Vectors
    spec: EncoderSpec
    metric: Metric


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """The features that the nodes of one space are learned from: the vectors of the space `name`.

    `own` are attributes that have been read with a graph, and are to be kept there. `chosen` is what the user has
    named: a space, or attributes of the nodes.
    """

    name: str
    own: Attributes | None
    chosen: tuple[str | None, tuple[str, ...]]

    @classmethod
    def of(
        cls, collection: Collection | None, space: str, settings: NodeSettings, read: GraphFile
    ) -> FeatureSource:
        """What the settings ask for.

        Raises:
            UnknownSpace: the space that is named is not there.
            ModelError: nothing is named, and the graph has no matrix of attributes.
            SourceError: no node has an attribute that is named, or it is no number, or the matrix is too large.
            CollectionError: the space of the attributes holds others, of another number.
        """
        chosen = (settings.features, settings.attributes)
        spaces = {} if collection is None else collection.spaces()
        if settings.features is not None:
            if settings.features not in spaces:
                raise UnknownSpace(
                    f"there is no space '{settings.features}' to take features from; see those there are with: "
                    "nearkin info"
                )
            if settings.features == space:
                raise CollectionError(
                    f"space '{space}' cannot be learned from itself; name another one with --features"
                )
            return cls(settings.features, None, chosen)
        if not settings.attributes and read.matrix is None:
            raise ModelError(
                "sgc learns from features of nodes: name a space that has them with --features, or attributes of the "
                "nodes with --attribute"
            )
        own = (
            _standardised(told_of(collection, read), settings.attributes, None)
            if settings.attributes
            else _rows_of(read)
        )
        there = spaces.get(space + SUFFIX)
        if there is not None:
            check_trainable(there, own.spec, own.metric)
        return cls(space + SUFFIX, own, chosen)

    @classmethod
    def stored(cls, collection: Collection, space: Space, read: GraphFile | None = None) -> FeatureSource:
        """What a space was learned from, with the attributes of a graph that is added to it."""
        options = space.encoder.options
        name, attributes = options.get("features"), options.get("attributes")
        chosen = (
            name if isinstance(name, str) else None,
            tuple(map(str, attributes if isinstance(attributes, list) else [])),
        )
        if chosen[0] is not None:
            return cls(chosen[0], None, chosen)
        own, kept = None, collection.spaces().get(space.name + SUFFIX)
        if read is not None and kept is not None:
            if chosen[1]:
                own = _standardised(told_of(collection, read), chosen[1], kept.encoder.options)
            elif read.matrix is not None:
                own = _rows_of(read)
                check_trainable(kept, own.spec, own.metric)
        return cls(space.name + SUFFIX, own, chosen)

    def among(self, ids: Set[str]) -> FeatureSource:
        """Without the attributes that were read of other nodes."""
        if self.own is None:
            return self
        chosen = [k for k, id in enumerate(self.own.ids) if id in ids]
        some = replace(self.own, ids=tuple(self.own.ids[k] for k in chosen), matrix=self.own.matrix[chosen])
        return replace(self, own=some)

    def features(self, collection: Collection | None, ids: Sequence[str]) -> Features:
        """The features of these nodes: those that were read with the graph, and those that are kept."""
        space = None if collection is None else collection.spaces().get(self.name)
        width = space.dim if space is not None else 0 if self.own is None else self.own.matrix.shape[1]
        matrix = np.zeros((len(ids), width), np.float32)
        if space is not None and collection is not None:
            at, rows = _kept(collection, space, ids)
            matrix[at] = rows
        if self.own is not None:
            place = {id: k for k, id in enumerate(self.own.ids)}
            found = np.array([place.get(id, -1) for id in ids], np.int64)
            matrix[found >= 0] = self.own.matrix[found[found >= 0]]
        return Features(tuple(ids), matrix, self.name, *self.chosen)

    def renew(self, collection: Collection, writer: Writer, items: Sequence[Item]) -> None:
        """Keep what was read in place of what was kept before; `items` are the nodes that there are now."""
        if self.own is None:
            return
        space = writer.trained_space(self.name, self.own.spec, self.own.metric)
        there = {item.record.id for item in items}
        known = np.asarray(self.own.matrix.any(axis=1))
        silent = {id for id, is_known in zip(self.own.ids, known.tolist(), strict=True) if not is_known}
        outdated = [id for id in collection.ids_in(space) if id not in there or id in silent]
        if outdated:
            writer.withdraw(outdated, space, keep_records=True)
        self._put(writer, space, np.flatnonzero(known), items)

    def add(self, writer: Writer, items: Sequence[Item]) -> None:
        """Keep what was read of these nodes, which are new."""
        if self.own is None or not items:
            return
        space = writer.space(self.name, self.own.spec, metric=self.own.metric)
        some = self.among({item.record.id for item in items})
        assert some.own is not None
        some._put(writer, space, np.flatnonzero(some.own.matrix.any(axis=1)), items)

    def _put(self, writer: Writer, space: Space, chosen: NDArray[np.int64], items: Sequence[Item]) -> None:
        assert self.own is not None
        origins = {item.record.id: item.origin for item in items}
        for begin in range(0, len(chosen), ROWS_PER_COMMIT):
            some = chosen[begin : begin + ROWS_PER_COMMIT]
            rows, ids = self.own.matrix[some], [self.own.ids[k] for k in some.tolist()]
            digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
            writer.put(
                [Record(id) for id in ids],
                rows,
                space,
                provenance=[Provenance(digest, origins[id]) for digest, id in zip(digests, ids, strict=True)],
                merge=True,
            )


def _kept(collection: Collection, space: Space, ids: Sequence[str]) -> tuple[NDArray[np.int64], Vectors]:
    """Which of these nodes have a vector in a space, and the vectors: attributes as they are, others of unit length."""
    if space.encoder.family == FAMILY:
        return node_vectors(collection.database, space, ids)
    with collection.database.reading() as transaction:
        views, state = Views(collection.layout), reads.state(transaction)
        found = one_each(transaction, views.look(transaction, state, space))
        keys = reads.keys_of(transaction, ids)
    row = {key: k for k, key in enumerate(found.record_keys.tolist())}
    pairs = [(k, row[keys[id]]) for k, id in enumerate(ids) if keys.get(id) in row]
    at, rows = (np.array(some, np.int64) for some in (zip(*pairs, strict=True) if pairs else ((), ())))
    return at, found.vectors[rows]


def _rows_of(read: GraphFile) -> Attributes:
    """The matrix of attributes in a graph's file, its rows at unit length."""
    assert read.matrix is not None
    n, f = read.matrix.rows.shape
    if 4 * n * f > MOST_BYTES:
        raise SourceError(
            f"the {f:,} attributes of {n:,} nodes would take {4 * n * f / 1e9:.1f} GB; {_FEWER}"
        )
    rows = unit_rows(read.matrix.rows.toarray().astype(np.float32))
    spec = EncoderSpec(FAMILY, FAMILY, Modality.VECTOR, f)
    return Attributes(read.matrix.ids, rows, spec, Metric.COSINE)


def told_of(collection: Collection | None, read: GraphFile) -> dict[str, Mapping[str, Json]]:
    """The attributes of each node: those that the graph brings, and the metadata of records that are there already."""
    found: dict[str, Mapping[str, Json]] = {}
    for begin in range(0, read.graph.n_nodes, ROWS_PER_COMMIT):
        ids = read.graph.ids[begin : begin + ROWS_PER_COMMIT]
        records = [None] * len(ids) if collection is None else collection.get(list(ids))
        for id, record in zip(ids, records, strict=True):
            kept = {} if record is None or record.metadata is None else record.metadata
            found[id] = {**kept, **read.attributes.get(id, {})}
    return found


def _standardised(
    given: Mapping[str, Mapping[str, Json]], names: tuple[str, ...], before: Mapping[str, Json] | None
) -> Attributes:
    """Attributes of nodes that are numbers, less their mean and by their standard deviation.

    These are the ones of `before` where it is given, for nodes that are added to others.
    """
    ids = tuple(given)
    values = np.full((len(ids), len(names)), np.nan)
    for row, id in enumerate(ids):
        for column, name in enumerate(names):
            value = given[id].get(name)
            if value is not None:
                values[row, column] = _number(value, name, id)
    told = ~np.isnan(values)
    if before is None:
        for column, name in enumerate(names):
            if not told[:, column].any():
                others = sorted({each for some in given.values() for each in some})
                has = f"they have {', '.join(others[:20])}" if others else "they have none"
                raise SourceError(f"no node has the attribute '{name}'; {has}")
        means = np.nanmean(values, axis=0)
        scales = np.nanstd(values, axis=0)
    else:
        means, scales = (np.array(before[each], np.float64) for each in ("means", "scales"))
    rows = np.where(told, (values - means) / np.where(scales > 0, scales, 1.0), 0.0).astype(np.float32)
    options: dict[str, Json] = {"names": list(names), "means": means.tolist(), "scales": scales.tolist()}
    spec = EncoderSpec(FAMILY, FAMILY, Modality.VECTOR, len(names), options=options)
    return Attributes(ids, rows, spec, Metric.L2)


def _number(value: Json, name: str, id: str) -> float:
    number = (
        float(value)
        if isinstance(value, float) or (isinstance(value, int) and abs(value) < 1e300)
        else np.inf
    )
    if not abs(number) < 1e150:  # a deviation needs its square
        raise SourceError(
            f"the attribute '{name}' of node '{id[:40]}' is {str(value)[:40]!r} and no number; leave it out"
        )
    return number
