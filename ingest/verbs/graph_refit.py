"""Whole graphs learned again: a new encoder for a space, and all its vectors by that, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ingest.pipeline import Tally
from ingest.report import Options, Report
from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.graphs import MEMORY
from ingest.sync import Sync, chunks
from ingest.verbs.node_rows import put_rows
from search.catalog import reads, writes
from search.collection import Collection
from search.encoders.whole_graphs import GraphModel, from_bytes
from search.errors import CollectionError
from search.types import Space
from search.vectors import Vectors

_READ_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Refit:
    """What is learned again: the space, and what all that is in it depends on beside the inputs."""

    space: Space
    settings: str
    prune: bool
    options: Options


def origins_beside(collection: Collection, space: Space, source: Source) -> list[Path]:
    """The files and folders that a space was filled from, and that a source does not cover.

    Raises:
        CollectionError: some of it was given in memory and is not now, or a file or folder is gone.
    """
    beside = [one for one in collection.origins(space.name) if one not in source.origins]
    if MEMORY in beside:
        raise CollectionError(
            f"some graphs of space '{space.name}' were given in memory; give all of them again, or use another space"
        )
    gone = [one for one in beside if not Path(one).exists()]
    if gone:
        raise CollectionError(
            f"space '{space.name}' was also filled from {gone[0]}, which is gone; put it back, or use another space"
        )
    return [Path(one) for one in beside]


def store_again(
    collection: Collection, sources: Sequence[Source], learned: bytes, refit: Refit, started: float
) -> Report:
    """Replace the encoder and the vectors of a space, whole, by those of the graphs in the sources.

    A graph that is in none of them loses its vector; its record stays, unless the run prunes and it has no other.
    """
    encoder = from_bytes(learned)
    tally = Tally()
    items, rows = _described(encoder, sources, refit, tally)
    sync = Sync(None, None, refit.settings)
    with collection.database.reading() as transaction:
        wanted = reads.wanted(transaction, refit.space)
    with tally.timed("commit"), collection.writing() as writer, writer.together():
        gone = sorted(set(collection.ids_in(refit.space)) - {item.record.id for item in items})
        if gone:
            tally.removed = writer.withdraw(gone, refit.space, keep_records=not refit.prune)
        writer.drop_space(refit.space)
        target = writer.space(refit.space.name, encoder.spec, model=learned)
        put_rows(writer, target, items, rows, sync, tally)
    if wanted is not None:
        with collection.writing(), collection.database.writing() as transaction:
            writes.record_wanted(transaction, target, wanted)
    with tally.timed("index"):
        collection.index(refit.options.progress.reached, wait=refit.options.progress.waits)
    return tally.report(collection, refit.space.name, encoder.spec.model, started, dry_run=False)


def _described(
    encoder: GraphModel, sources: Sequence[Source], refit: Refit, tally: Tally
) -> tuple[list[Item], Vectors]:
    """The graphs that can be stored, without what they were made of, and their vectors."""
    items: list[Item] = []
    blocks = [np.empty((0, encoder.spec.dim), np.float32)]
    seen = Sync(None, None, refit.settings)
    for some in chunks(chain.from_iterable(sources), _READ_AT_ONCE):
        tally.take(some)
        sorted_ = seen.sort(some)
        tally.rejected += sorted_.rejected
        graphs = [item.graph for item in sorted_.new if item.graph is not None]
        with tally.timed("encode"):
            rows, known = encoder.attempted(graphs)
        for item, there in zip(sorted_.new, known.tolist(), strict=True):
            if there:
                items.append(_without_graph(item))
            else:
                reason = "has nothing in common with the other graphs"
                tally.rejected.append(Rejected(item.file or item.origin, reason, item.line, item.record.id))
        blocks.append(rows[known])
    return items, np.concatenate(blocks)


def _without_graph(item: Item) -> Item:
    return Item(item.record, item.origin, item.digest, file=item.file, line=item.line)
