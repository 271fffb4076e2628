"""Edges that are added to a graph which has been learned: new nodes get vectors at once, the others keep theirs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ingest.pipeline import Tally
from ingest.report import Attached, Options, Report
from ingest.sources.contract import Graph, Item
from ingest.sources.edge_format import EdgeFormat
from ingest.sources.graph_union import less, union
from ingest.sync import Sync
from ingest.verbs.graph_stored import StoredGraph, named, node_vectors, stored_graph
from ingest.verbs.node_features import FeatureSource
from ingest.verbs.node_learning import encoded_later
from ingest.verbs.node_rows import put_rows
from ingest.verbs.opening import opened
from ingest.verbs.predictions import predicted_in, unmark
from search.catalog.edges import ADDED
from search.collection import Collection
from search.errors import CollectionError, UnknownSpace
from search.types import Record, Space
from search.vectors import Vectors

_FROM = (
    "added from "  # what begins the origin of nodes that were added: the graph itself may be of the same file
)


@dataclass(frozen=True, slots=True)
class Addition:
    """What is added: a graph as `ingest.graph` takes one, and the space that it is added to."""

    given: Any
    ids: Sequence[str] | None
    edges: EdgeFormat
    space: str


def add_edges(
    collection: Collection | str | Path, addition: Addition, *, dry_run: bool, options: Options
) -> Report:
    """Add edges to the graph of a space.

    Edges that it has keep their weight, so that the same addition twice is one. Nodes without a vector get one that
    is solved from their neighbours' (`ingest.learn.nodes.attach`), or, where the space was learned with an encoder, the
    encoder's; where nothing leads to a node with a vector (or features) they wait for the graph to be learned again.

    Raises:
        SourceError: it cannot be read, or holds no edge.
        UnknownSpace: there is no such space.
        CollectionError: the space holds no graph, or one of the other kind of edges.
    """
    from ingest.learn.nodes.attach import attached
    from ingest.learn.nodes.load import FEATURED
    from ingest.sources.graphs import read_given

    started = time.perf_counter()
    tally = Tally()
    with (
        opened(collection, must_write=not dry_run) as there,
        # Held from the reading of the graph on: what another process adds meanwhile would be lost.
        there.writing() if there is not None and not dry_run else nullcontext(),
    ):
        space, before = _known(there, addition.space)
        assert there is not None
        form = addition.edges
        if form.directed is not None and form.directed != before.state.directed:
            kind = "directed" if before.state.directed else "undirected"
            raise CollectionError(f"the graph of space '{space.name}' is {kind}; add edges of the same kind")
        with tally.timed("read"):
            found = read_given(addition.given, replace(form, directed=before.state.directed), addition.ids)
        read, origin = found.read, f"{_FROM}{found.origin}"
        tally.rejected += read.rejected
        tally.read = read.graph.n_nodes + len(tally.rejected)
        fresh = less(read.graph, before.graph)
        with tally.timed("learn"):
            whole = union(before.graph, fresh)
            rows, vectors = node_vectors(there.database, space, whole.ids)
            known = np.zeros(whole.n_nodes, np.bool_)
            known[rows] = True
            matrix = np.zeros((whole.n_nodes, space.dim), np.float32)
            matrix[rows] = vectors
            source = None
            if space.encoder.family in FEATURED:
                new = {id for id, is_known in zip(whole.ids, known.tolist(), strict=True) if not is_known}
                source = FeatureSource.stored(there, space, read).among(new)
                encoded = encoded_later(there, space, whole, source.features(there, whole.ids))
                matrix[~known] = encoded[~known]
            else:
                matrix = attached(whole, known, matrix)
        touched = np.isin(np.array(whole.ids, object), np.array(read.graph.ids, object))
        chosen = np.flatnonzero(touched & ~known)
        placed = matrix[chosen].any(axis=1)
        done = Attached(
            edges=fresh.n_edges,
            nodes=int(placed.sum()),
            known=read.graph.n_edges - fresh.n_edges,
            waiting=int((~placed).sum()),
        )
        items = [
            Item(
                Record(whole.ids[k], kind="node", metadata=read.attributes.get(whole.ids[k])),
                origin,
                read.digest,
            )
            for k in chosen.tolist()
        ]
        nothing_new = not fresh.n_edges and not done.nodes and origin in before.state.added
        if dry_run or nothing_new:
            tally.unchanged = read.graph.n_nodes - (len(items) if dry_run else 0)
            tally.added = len(items) if dry_run else 0
        else:
            with tally.timed("commit"):
                kept = (before, fresh, source)
                _store(there, space, items, matrix[chosen], kept, tally, (origin, read.digest))
            tally.unchanged = read.graph.n_nodes - len(items)
            with tally.timed("index"):
                there.index(options.progress.reached, wait=options.progress.waits)
        report = tally.report(there, space.name, space.encoder.model, started, dry_run=dry_run)
        return replace(report, attached=done)


def _known(collection: Collection | None, name: str) -> tuple[Space, StoredGraph]:
    space = None if collection is None else collection.spaces().get(name)
    if space is None or collection is None:
        raise UnknownSpace(
            f"there is no space '{name}' to add edges to; take in the graph first, without --add"
        )
    before = stored_graph(collection.database, space)
    if before is None:
        raise CollectionError(
            f"space '{name}' holds no edges that others could be added to; take in its graph again without --add"
        )
    return space, before


def _store(
    collection: Collection,
    space: Space,
    items: Sequence[Item],
    matrix: Vectors,
    kept: tuple[StoredGraph, Graph, FeatureSource | None],
    tally: Tally,
    source: tuple[str, bytes],
) -> None:
    before, fresh, features = kept
    origin, digest = source
    sync = Sync(collection.database, space, "")
    with collection.writing() as writer, writer.together():
        guessed = set(predicted_in(collection, space).values())
        unmark(collection, writer, space, [item.record.id for item in items if item.record.id in guessed])
        put_rows(writer, space, items, matrix, sync, tally)
        if features is not None:
            features.add(writer, items)
        added = {**before.state.added, origin: digest.hex()}
        writer.put_edges(space, ADDED, named(union(before.added, fresh)), added=added)
