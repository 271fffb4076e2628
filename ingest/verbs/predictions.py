"""The verb for records without edges: their node vectors are predicted from their vectors in another space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingest.report import Predicted
from ingest.verbs.graph_stored import PREDICTED
from ingest.verbs.opening import ROWS_PER_COMMIT
from search.catalog import reads
from search.catalog.names import names_of
from search.catalog.part_writes import Provenance
from search.collection import Collection
from search.errors import CollectionError, CollectionNotFound, QueryError, UnknownSpace
from search.layout import Layout
from search.opening import open as open_collection
from search.query.follow import Views
from search.query.one_each import OneEach, one_each
from search.types import WHOLE, Metric, Modality, Record, Space
from search.vectors import Vectors
from search.writer import Writer


@dataclass(frozen=True, slots=True)
class _Task:
    """Two spaces, the vectors of their records, and which records of the first are predicted (key to id)."""

    space: Space
    source: Space
    nodes: OneEach
    given: OneEach
    predicted: dict[int, str]


def predict(
    collection: Collection | str | Path,
    *,
    space: str = "graph",
    source: str | None = None,
    seed: int = 0,
    dry_run: bool = False,
) -> Predicted:
    """Give a node vector to the records that have none, from their vectors in another space.

    A ridge regression is learned from the records that have both; what was predicted before is never learned from, and
    predicted again. A predicted vector is marked in the record's metadata, `SPACE_predicted: true`, until the record
    gets edges. It is as old as the prediction: run it again when texts or pictures have changed.

    Args:
        collection: an open collection, or the path of one.
        space: of the graph.
        source: where the records have vectors: texts, pictures or given ones; needed where several spaces could serve.
        seed: of what is held out, to say how good it is.
        dry_run: say how good it would be, and store nothing.

    Raises:
        CollectionNotFound: there is no such collection.
        UnknownSpace: there is no such space, or no other.
        QueryError: fewer than ten records have both.
        CollectionError: the space is not of a graph.
    """
    if not isinstance(collection, Collection):
        if not Layout(Path(collection).expanduser()).catalog.is_file():  # or it would be made
            raise CollectionNotFound(f"there is no collection at {collection}; take in a graph first")
        with open_collection(collection, "r" if dry_run else "rw") as there:
            return predict(there, space=space, source=source, seed=seed, dry_run=dry_run)
    if dry_run:
        return _predict(collection, None, (space, source), seed)
    with collection.writing() as writer:  # from the reading on, so that no node gets edges in between
        report = _predict(collection, writer, (space, source), seed)
        collection.index()
    return report


def _predict(
    collection: Collection, writer: Writer | None, names: tuple[str, str | None], seed: int
) -> Predicted:
    from ingest.learn.nodes.prediction import fitted

    task = _task(collection, *names)
    known = np.setdiff1d(task.nodes.record_keys, np.array(sorted(task.predicted), np.int64))
    both = np.intersect1d(known, task.given.record_keys)
    examples, wanted = task.given.among(both).vectors, task.nodes.among(both).vectors
    ridge, quality = fitted(examples, wanted, seed)
    lacking = task.given.among(np.setdiff1d(task.given.record_keys, known))
    if not len(lacking.record_keys):
        vectors = np.empty((0, task.space.dim), np.float32)
    elif task.space.metric is Metric.COSINE:
        vectors = ridge.predicted(lacking.vectors)
    else:
        vectors = ridge.as_long(lacking.vectors, examples, wanted)
    if writer is not None:
        _store(collection, writer, task, (lacking.record_keys.tolist(), np.asarray(vectors, np.float32)))
    return Predicted(
        space=task.space.name,
        source=task.source.name,
        examples=len(both),
        predicted=len(lacking.record_keys),
        held_out=quality.held_out,
        r2=quality.r2,
        cosine=quality.cosine,
        recall=quality.recall,
        chance=quality.chance,
        penalty=ridge.penalty,
    )


def _task(collection: Collection, name: str, source: str | None) -> _Task:
    with collection.database.reading() as transaction:
        spaces = reads.spaces(transaction)
        for one in (name, *([] if source is None else [source])):
            if one not in spaces:
                raise UnknownSpace(f"there is no space '{one}'; see them with: nearkin info")
        space = spaces[name]
        if space.modality is not Modality.GRAPH or space.encoder.accepts:  # whole graphs are no nodes
            raise CollectionError(f"space '{name}' is not of a graph; only vectors of nodes are predicted")
        able = [one for one in spaces.values() if one.modality is not Modality.GRAPH]
        if source is not None:
            able = [spaces[source]]
        if len(able) != 1 or able[0].key == space.key:
            found = ", ".join(f"'{one.name}'" for one in able if one.key != space.key)
            raise UnknownSpace(
                f"several spaces could serve ({found}); name one with --from"
                if found
                else "there is no other space to predict from; take in texts or pictures first"
            )
        views, state = Views(collection.layout), reads.state(transaction)
        nodes = one_each(
            transaction,
            views.look(transaction, state, space),
            lengths=space.metric is not Metric.COSINE,
        )
        given = one_each(transaction, views.look(transaction, state, able[0]))
    return _Task(space, able[0], nodes, given, predicted_in(collection, space))


def predicted_in(collection: Collection, space: Space) -> dict[int, str]:
    """The id of each record whose vector in the space is predicted, by key."""
    with collection.database.reading() as transaction:
        rows = transaction.sql(
            "select record.key, record.id from synced join record on record.key = synced.record_key "
            "where space_key = ? and origin glob ?",
            (space.key, f"{PREDICTED}*"),
        )
        return dict(rows.fetchall())


def sources_of(collection: Collection, space: Space) -> list[str]:
    """The spaces that vectors of this one were predicted from."""
    origins = collection.origins(space.name)
    return [one.removeprefix(PREDICTED) for one in origins if one.startswith(PREDICTED)]


def mark_of(space: Space) -> str:
    """The field of the metadata that says that a record's vector in the space is predicted."""
    return f"{space.name}_predicted"


def unmark(collection: Collection, writer: Writer, space: Space, ids: Iterable[str]) -> None:
    """Take the mark off records, before anything else is written of them in the same commit."""
    listed, mark = list(ids), mark_of(space)
    for begin in range(0, len(listed), ROWS_PER_COMMIT):
        found = collection.get(listed[begin : begin + ROWS_PER_COMMIT])
        changed = [
            Record(one.id, metadata={name: value for name, value in one.metadata.items() if name != mark})
            for one in found
            if one is not None and one.metadata is not None and mark in one.metadata
        ]
        if changed:
            writer.put(changed)


def _store(collection: Collection, writer: Writer, task: _Task, found: tuple[list[int], Vectors]) -> None:
    """Replace all predictions of the space by these, as one commit."""
    keys, vectors = found
    with collection.database.reading() as transaction:
        ids = names_of(transaction, keys)
        before = reads.digests(transaction, task.space, [ids[key] for key in keys])
    mark = {mark_of(task.space): True}
    origin = f"{PREDICTED}{task.source.name}"
    digests = [
        hashlib.blake2b(row.tobytes(), key=origin.encode()[:64], digest_size=16).digest() for row in vectors
    ]
    changed = [at for at, key in enumerate(keys) if before.get(ids[key]) != digests[at]]
    outdated = [id for key, id in task.predicted.items() if key not in ids]
    if not changed and not outdated:
        return
    with writer.together():
        unmark(collection, writer, task.space, outdated)
        if outdated:
            writer.withdraw(outdated, task.space, keep_records=True)
        for begin in range(0, len(changed), ROWS_PER_COMMIT):
            some = changed[begin : begin + ROWS_PER_COMMIT]
            writer.put(
                [Record(ids[keys[at]], metadata=mark) for at in some],
                vectors[some],
                task.space,
                parts=[(WHOLE,)] * len(some),
                provenance=[Provenance(digests[at], origin) for at in some],
                merge=True,
            )


def predict_again(collection: Collection, space: Space, sources: Iterable[str]) -> list[Predicted]:
    """Predict again, after the graph was learned anew, from the spaces that it was done from before.

    Where too few records have both vectors by now, nothing is predicted.
    """
    made = []
    for source in sources:
        if source in collection.spaces():
            try:
                made.append(predict(collection, space=space.name, source=source))
            except QueryError:
                continue
    return made
