"""The verb for interactions: users and items get vectors in one space, which says what a user should see next."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ingest.pipeline import Tally
from ingest.report import InteractionCounts, Options, Report
from ingest.sources.contract import Item
from ingest.sources.interaction_files import InteractionFormat
from ingest.sync import Sync
from ingest.verbs.graph_stored import PREDICTED
from ingest.verbs.node_rows import put_rows
from ingest.verbs.opening import DEFAULT, Paths, listed, opened
from ingest.verbs.predictions import predict_again, predicted_in, sources_of, unmark
from search.catalog import edges
from search.catalog.edges import NamedRows
from search.collection import Collection
from search.errors import CollectionError, SourceError
from search.query.personal import USER, is_personal
from search.types import EncoderSpec, Metric, Record
from search.writer import check_trainable

if TYPE_CHECKING:
    from ingest.learn.interactions.contract import Factors
    from ingest.learn.interactions.load import InteractionSettings
    from ingest.sources.interaction_files import InteractionFiles
    from ingest.sources.interactions import Interactions

METHOD = "als"
_SPACE = "interactions"
_NO_FORMAT = InteractionFormat()


def interactions(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    user: str | None = None,
    item: str | None = None,
    format: InteractionFormat = _NO_FORMAT,
    method: str | None = None,
    settings: InteractionSettings | None = None,
    space: str = _SPACE,
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Learn a vector for each user and each item from who took what; durable when it returns.

    An item joins the record of the same id, if there is one; user u is the record `user:u`. What each user took is kept
    too, so that `recommend(user=…)` leaves it out. All is learned anew where anything has changed, and replaced in one
    commit.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: .csv, .tsv, .jsonl or .parquet with a row for each interaction; .txt with a user and the items on each
            line.
        user: the column of the users; None finds it by its name.
        item: the column of the items; likewise.
        format: the columns of weights and times, and of the two above where they are not given there.
        method: als, item-knn, bpr, lightgcn or node2vec; None takes that of the space, with its settings, else als.
        settings: dimensions and the like, as far as the method knows them; None takes the usual ones.
        space: where the vectors go; what was learned from one set of interactions.
        prune: delete the records of users and items that are gone from the interactions and have no other vectors.
            (Their vectors in this space go in any case.)
        dry_run: say what would be done, and do nothing.
        options: progress.

    Raises:
        SourceError: a file cannot be read, or holds no interaction.
        CollectionError: the space was made by something else, or has another width.
        ModelError: a setting makes no sense.
    """
    from ingest.learn.interactions.load import InteractionSettings, load_trainer
    from ingest.sources.interaction_files import read_interactions

    started = time.perf_counter()
    if method is None:
        method, made_with = _own_method(collection, space)
        settings = settings or made_with
    trainer = load_trainer(method, settings or InteractionSettings())
    tally = Tally()
    form = replace(format, user=user or format.user, item=item or format.item)
    files = listed(paths)
    with tally.timed("read"):
        read = read_interactions(files, form)
    given = read.interactions
    tally.rejected += read.rejected
    tally.read = read.rows
    tally.interactions = InteractionCounts(
        given.n_users, given.n_items, len(given.indices), read.merged, given.times is not None
    )
    items = _items(read, ",".join(str(path.absolute()) for path in files))
    spec = trainer.spec
    said = json.dumps(spec.to_json(), sort_keys=True)
    with opened(collection, must_write=not dry_run) as there:
        known = None if there is None else there.spaces().get(space)
        if known is not None:
            check_trainable(known, spec, Metric.DOT)  # before all is learned for nothing
            if not is_personal(known):
                raise CollectionError(
                    f"space '{space}' was made by {known.encoder.model}, not from interactions; give another --space"
                )
        sync = Sync(None if there is None else there.database, known, said)
        state = sync.sort(items)
        # What was predicted came from no file, and goes only when all is learned again.
        read_from = [] if there is None or known is None else there.origins(space)
        gone = sync.gone([origin for origin in read_from if not origin.startswith(PREDICTED)])
        if not state.new and not state.changed and not gone:
            tally.unchanged = state.unchanged
            return tally.report(there, space, spec.model, started, dry_run=dry_run)
        if dry_run or there is None:
            tally.added, tally.updated, tally.removed = len(state.new), len(items) - len(state.new), len(gone)
            return tally.report(there, space, spec.model, started, dry_run=True)
        progress = options.progress
        progress.begin("learning", 0)
        with tally.timed("learn"):
            made = trainer.fit(given, progress=lambda done, total: progress.reached("learning", done, total))
        progress.end("learning")
        with tally.timed("commit"):
            sources = [] if known is None else sources_of(there, known)
            _store(there, items, made, given, (space, spec, sync), tally, prune=prune)
            predict_again(there, there.spaces()[space], sources)
        with tally.timed("index"):
            there.index(progress.reached, wait=progress.waits)
        return tally.report(there, space, spec.model, started, dry_run=False)


def _own_method(collection: Collection | str | Path, space: str) -> tuple[str, InteractionSettings]:
    """The method and the settings that a space was learned with; the usual ones for a new space."""
    from ingest.learn.interactions.load import METHODS, InteractionSettings, settings_of

    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(space)
    if known is None or not is_personal(known) or known.encoder.family not in METHODS:
        return METHOD, InteractionSettings()
    return known.encoder.family, settings_of(known.encoder)


def _items(read: InteractionFiles, origin: str) -> list[Item]:
    """The records of the users, then of the items; all depend on all interactions."""
    given = read.interactions
    for id in given.item_ids:
        if id.startswith(USER):
            raise SourceError(f"the item '{id}' has an id that is a user's; give items other ids")
    digest = hashlib.blake2b(read.digest, digest_size=16).digest()
    users = [Record(USER + id, kind="user") for id in given.user_ids]
    return [
        Item(record, origin, digest)
        for record in [*users, *(Record(id, kind="item") for id in given.item_ids)]
    ]


def _store(
    collection: Collection,
    items: Sequence[Item],
    made: Factors,
    given: Interactions,
    target: tuple[str, EncoderSpec, Sync],
    tally: Tally,
    *,
    prune: bool,
) -> None:
    """Replace the vectors of the whole space and who took what, in one commit: both belong to one training."""
    name, spec, sync = target
    known = collection.spaces().get(name)
    predicted = set() if known is None else set(predicted_in(collection, known).values())
    with collection.writing() as writer, writer.together():
        if known is not None:
            unmark(collection, writer, known, predicted)
        there = writer.trained_space(name, spec, Metric.DOT)
        before = set(collection.ids_in(there))
        put_rows(writer, there, items, np.concatenate([made.users, made.items]), sync, tally)
        ids = [item.record.id for item in items]
        writer.put_edges(there, edges.READ, _edges(ids, made, given), added={})
        gone = before - set(ids)
        if gone - predicted:
            tally.removed = writer.withdraw(sorted(gone - predicted), there, keep_records=not prune)
        if gone & predicted:  # by vectors that are no more; they are predicted again where they can be
            writer.withdraw(sorted(gone & predicted), there, keep_records=True)


def _edges(ids: Sequence[str], made: Factors, given: Interactions) -> NamedRows:
    """From each user to what was taken; and, where they were learned, from each item to those that it speaks for."""
    weights = given.weights if made.counts is None else made.counts
    if made.together is None:
        ends, targets = np.full(given.n_items, given.indptr[-1]), given.indices
    else:
        ends = given.indptr[-1] + made.together.indptr[1:].astype(np.int64)
        targets = np.concatenate([given.indices, made.together.indices]).astype(np.int32)
        weights = np.concatenate([weights, made.together.data]).astype(np.float32)
    return NamedRows(
        ids, np.concatenate([given.indptr, ends]), targets + given.n_users, weights, directed=True
    )
