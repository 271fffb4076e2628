"""The hand that writes: holds the collection's lock and turns each call into one durable commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from search.catalog import edges, reads, succession, writes
from search.catalog.database import Database, Transaction
from search.catalog.metadata_text import FieldNames
from search.catalog.part_writes import Pieces, Provenance
from search.catalog.thumbnails import Thumbnail
from search.catalog.thumbnails import put as keep_thumbnails
from search.catalog.writes import Written
from search.errors import CollectionError, QueryError, UnknownSpace
from search.failpoints import Step, reached
from search.query.preferences import unlearned
from search.types import EncoderSpec, Json, Metric, Part, Record, Space
from search.vectors import Vectors, prepared

_IDS_AT_ONCE = 65_536  # ids that are looked up together


class Writer:
    """Commits to one collection; made by `Collection.writing`, which holds the lock for its life.

    Each method is whole and durable when it returns, or has changed nothing when it raises.
    """

    def __init__(self, database: Database, names: FieldNames) -> None:
        self._database = database
        self._names = names
        self._open: Transaction | None = None  # the transaction of `together`, while it lasts

    def space(
        self,
        name: str,
        encoder: EncoderSpec,
        *,
        metric: Metric = Metric.COSINE,
        probes: Vectors | None = None,
        model: bytes | None = None,
    ) -> Space:
        """The space of this name, made now if there is none.

        Args:
            name: how the user calls it.
            encoder: what makes its vectors.
            metric: how they are compared.
            probes: (n, dim) vectors of the probe items, to notice a changed model later.
            model: the bytes of a learned model, to be kept in the catalog.

        Raises:
            CollectionError: there is one, and another model made it.
        """
        if not isinstance(name, str) or not name.strip() or any("\ud800" <= c <= "\udfff" for c in name):
            raise CollectionError(f"a space cannot be called {name!r}; give it at least one letter")
        with self._committing() as transaction:
            there = reads.spaces(transaction).get(name)
            if there is None:
                if model is not None:
                    writes.keep_model(transaction, hashlib.sha256(model).hexdigest(), model)
                return writes.create_space(transaction, name, metric, encoder, probes)
        check_same(there, encoder, metric)
        return there

    def trained_space(
        self, name: str, encoder: EncoderSpec, metric: Metric = Metric.COSINE, *, model: bytes | None = None
    ) -> Space:
        """The space of a trainer, whose vectors are all about to be replaced, so that its settings may change.

        Args:
            name: how the user calls it.
            encoder: what makes its vectors; its `weights` are the hash of `model`, where there is one.
            metric: how they are compared.
            model: the bytes of what was learned beside the vectors, to be kept in place of the former.

        Raises:
            CollectionError: there is one of another kind or width.
        """
        with self._committing() as transaction:
            if model is not None:
                writes.keep_model(transaction, hashlib.sha256(model).hexdigest(), model)
            there = reads.spaces(transaction).get(name)
            if there is None:
                return writes.create_space(transaction, name, metric, encoder, None)
            check_trainable(there, encoder, metric)
            writes.respecify(transaction, there, encoder)
            writes.forget_model(transaction, there.encoder.weights)
        return Space(there.key, name, encoder.modality, there.dim, there.metric, encoder)

    def put(
        self,
        records: Sequence[Record],
        vectors: Vectors | None = None,
        space: Space | None = None,
        *,
        parts: Sequence[Sequence[Part]] | None = None,
        provenance: Sequence[Provenance] = (),
        thumbnails: Sequence[Thumbnail | None] = (),
        merge: bool = False,
    ) -> Written:
        """Add or update records with, where given, their vectors in one space, as one commit.

        Args:
            records: each id once.
            vectors: (n, dim), the parts of the first record, then those of the second, and so on.
            space: where the vectors belong.
            parts: the parts of each record; None where each record is one part.
            provenance: for each record, what its vectors were made from; empty if unknown.
            thumbnails: for each record its thumbnail, or None; empty if there are none.
            merge: keep the kind and join metadata key by key where a record has vectors in other spaces too.

        Raises:
            QueryError: a record or a vector cannot be stored; nothing is written.
        """
        pieces = None
        if vectors is not None:
            if space is None:
                raise UnknownSpace("vectors were given without a space; name the space that they belong to")
            rows = prepared(vectors, space.dim, space.metric)
            pieces = replace(_pieces(records, rows, space, parts, provenance), thumbnails=thumbnails)
        with self._committing() as transaction:
            return writes.put(transaction, records, pieces, self._names, merge=merge)

    def put_edges(
        self, space: Space, layer: int, graph: edges.NamedRows, *, added: Mapping[str, str]
    ) -> None:
        """Replace the edges of one layer of a space's graph, between records that are there.

        Args:
            space: whose graph.
            layer: `edges.READ` or `edges.ADDED`.
            graph: its rows.
            added: for each file that edges were added from a hash of what it held.

        Raises:
            QueryError: a node is no record.
        """
        with self._committing() as transaction:
            keys = np.empty(len(graph.ids), np.int64)
            for begin in range(0, len(keys), _IDS_AT_ONCE):
                some = graph.ids[begin : begin + _IDS_AT_ONCE]
                found = reads.keys_of(transaction, some)
                if len(found) < len(some):
                    lost = next(id for id in some if id not in found)
                    raise QueryError(f"the node '{lost}' is no record; add it first")
                keys[begin : begin + len(some)] = [found[id] for id in some]
            edges.replace_edges(transaction, space, layer, graph.sides(keys))
            edges.set_state(transaction, space, directed=graph.directed, added=added)

    def put_thumbnails(self, made: Mapping[int, Thumbnail]) -> None:
        """Keep thumbnails of records that are there, by their keys, as one commit."""
        with self._committing() as transaction:
            keep_thumbnails(transaction, made)

    def delete(self, keys: Sequence[int]) -> int:
        """Delete records by their keys, with all their vectors; how many there were."""
        with self._committing() as transaction:
            return writes.delete_records(transaction, np.asarray(keys, dtype=np.int64))

    def withdraw(self, ids: Sequence[str], space: Space, *, keep_records: bool = False) -> int:
        """Take records out of one space; how many. Those left without any vector are deleted unless kept."""
        with self._committing() as transaction:
            keys = list(reads.keys_of(transaction, ids).values())
            return (
                writes.withdraw(
                    transaction, np.asarray(keys, dtype=np.int64), space, keep_records=keep_records
                )
                if keys
                else 0
            )

    def take_over(self, current: Space, successor: Space) -> None:
        """Let a space have the name of another, which is then the old one, as one commit.

        What the successor holds beyond the current one is taken out of it.

        Raises:
            UnknownSpace: one of them is not there under its name any more.
        """
        with self._committing() as transaction:
            beyond = succession.surplus(transaction, current, successor)
            if len(beyond):
                writes.withdraw(transaction, beyond, successor, keep_records=True)
            succession.exchange(transaction, current, successor)

    def changed(self, ids: Sequence[str]) -> dict[str, int]:
        """The commit that last touched each of these records, of those that are there."""
        with self._committing() as transaction:
            return reads.changed_of(transaction, ids)

    def wish_alike(self, space: Space, other: Space) -> None:
        """Want of the index of a space what is wanted of another's."""
        with self._committing() as transaction:
            wanted = reads.wanted(transaction, other)
            if wanted is not None:
                writes.record_wanted(transaction, space, unlearned(wanted))

    def note(self, space: Space, name: str, value: Json) -> None:
        """Keep something with a space, beside what is wanted of its index."""
        with self._committing() as transaction:
            wanted = reads.wanted(transaction, space) or {}
            writes.record_wanted(transaction, space, {**wanted, name: value})

    def drop_space(self, space: Space) -> int:
        """Drop a space with its vectors, as one commit; how many parts it had. Records stay."""
        with self._committing() as transaction:
            return succession.drop(transaction, space)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one commit of all the calls in the block: whole when it ends, absent if it raises."""
        with self._committing() as transaction:
            self._open = transaction
            try:
                yield
            finally:
                self._open = None

    @contextmanager
    def _committing(self) -> Iterator[Transaction]:
        if self._open is not None:
            yield self._open
            return
        committed = False
        try:
            with self._database.writing() as transaction:
                yield transaction
            committed = True
        finally:
            self._names.settle(committed=committed)
        reached(Step.COMMIT_DONE)


def _pieces(
    records: Sequence[Record],
    rows: Vectors,
    space: Space,
    parts: Sequence[Sequence[Part]] | None,
    provenance: Sequence[Provenance],
) -> Pieces:
    n = len(records) if parts is None else sum(map(len, parts))
    if parts is not None and len(parts) != len(records):
        raise QueryError(
            f"the parts of {len(parts)} records were given for {len(records)}; give them for each"
        )
    if n != len(rows):
        raise QueryError(f"{len(rows)} vectors were given for {n} records; give one for each")
    if parts is None:
        return Pieces(space, rows, provenance=provenance)
    owners = [number for number, some in enumerate(parts) for _ in some]
    return Pieces(space, rows, owners, [part for some in parts for part in some], provenance)


def check_same(there: Space, encoder: EncoderSpec, metric: Metric = Metric.COSINE) -> None:
    """Refuse an encoder whose vectors cannot be compared with those of a space.

    Raises:
        CollectionError: another model made the space, or the same one with other settings.
    """
    made = there.encoder
    if encoder.dim != there.dim:
        raise CollectionError(
            f"space '{there.name}' ({made.model}) has {there.dim} dimensions, and these vectors ({encoder.model}) "
            f"have {encoder.dim}; give another name with --space"
        )
    if metric is not there.metric:
        raise CollectionError(
            f"space '{there.name}' compares by {there.metric}, not by {metric}; give another name with --space"
        )
    same_weights = (
        made.weights == encoder.weights if made.weights and encoder.weights else made.model == encoder.model
    )
    same_options = json.dumps(dict(made.options), sort_keys=True) == json.dumps(
        dict(encoder.options), sort_keys=True
    )
    if made.family == encoder.family and same_weights and same_options:
        return
    how = "" if made.model != encoder.model else f", with {_differences(made, encoder)}"
    raise CollectionError(
        f"space '{there.name}' was made by {made.model}, and this is {encoder.model}{how}; "
        "give another name with --space"
    )


def check_trainable(there: Space, encoder: EncoderSpec, metric: Metric = Metric.COSINE) -> None:
    """Refuse a trainer whose vectors cannot take the place of those of a space.

    Raises:
        CollectionError: they are of another kind or width, or compared otherwise.
    """
    if there.metric is not metric:
        raise CollectionError(
            f"space '{there.name}' ({there.encoder.model}) compares by {there.metric}, and {encoder.model} "
            f"by {metric}; give another name with --space"
        )
    if there.encoder.accepts and not encoder.accepts:
        raise CollectionError(
            f"space '{there.name}' was made by the encoder {there.encoder.model}, and {encoder.model} is none; "
            "give another name with --space"
        )
    if there.modality is not encoder.modality or there.dim != encoder.dim:
        raise CollectionError(
            f"space '{there.name}' holds {there.modality} vectors of {there.dim} dimensions made by "
            f"{there.encoder.model}, not {encoder.modality} vectors of {encoder.dim}; give another --space"
        )


def _differences(made: EncoderSpec, encoder: EncoderSpec) -> str:
    """What two specs of one model do not share."""
    before, now = dict(made.options), dict(encoder.options)
    others = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    said = [f"{name} {_said(now.get(name))} and not {_said(before.get(name))}" for name in others]
    return ", ".join(said) or "other weights"


def _said(value: Json) -> str:
    return "unset" if value is None else repr(value) if isinstance(value, str) else json.dumps(value)
