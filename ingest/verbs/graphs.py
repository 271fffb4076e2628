"""The verb for graphs: the vectors of all nodes are learned together, and join the records of the same ids."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.pipeline import Tally
from ingest.report import GraphCounts, Options, Report
from ingest.sources.contract import Item
from ingest.sources.edge_format import ANY_EDGES, EdgeFormat
from ingest.sync import Sync
from ingest.verbs.opening import DEFAULT, ROWS_PER_COMMIT, opened
from search.catalog.writes import Provenance
from search.collection import Collection
from search.errors import CollectionError
from search.types import WHOLE, EncoderSpec, Record
from search.vectors import Vectors
from search.writer import check_trainable

if TYPE_CHECKING:
    import networkx as nx

    from ingest.learn.nodes.load import NodeSettings
    from ingest.sources.graphs import GraphFile

NODE_METHOD = "node2vec"


def graph(
    collection: Collection | str | Path,
    given: str | Path | nx.Graph[Any] | Any,
    *,
    ids: Sequence[str] | None = None,
    method: str = NODE_METHOD,
    settings: NodeSettings | None = None,
    edges: EdgeFormat = ANY_EDGES,
    space: str = "graph",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in a graph: a file (docs/graphs.md lists the formats), a table of a database, or what is in memory.

    Every node becomes a record.

    The vectors of all nodes are learned together, so a changed graph is learned anew as a whole; an unchanged
    one is left alone. A node joins the record of the same id, if there is one.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        given: the path of a file, the SQLAlchemy URL of a database (`edges.query` asks it), a networkx graph, a sparse
            matrix of scipy, an array (m, 2) or (m, 3) of ends and weights, or a tuple of these as columns.
        ids: of a matrix's rows, or of the nodes that the ends in arrays count from 0; None takes the numbers
            themselves.
        method: node2vec or deepwalk.
        settings: dimensions, walks, p and q and the like; None takes the usual ones.
        edges: whether edges have a direction, which columns hold them, types, format and query; read from the file
            where it says so.
        space: where the vectors go; one graph a space.
        prune: remove nodes that vanished from the graph and have no other vectors, and let this graph take the
            place of another one that the space was learned from. (Their node vectors go in any case.)
        dry_run: say what would be done, and do nothing.
        options: progress.

    Raises:
        SourceError: it cannot be read, or holds no edge.
        CollectionError: the space holds another graph or another width.
    """
    from ingest.learn.nodes.load import NodeSettings, load_trainer
    from ingest.sources.graphs import read_given

    started = time.perf_counter()
    trainer = load_trainer(method, settings if settings is not None else NodeSettings())
    tally = Tally()
    with tally.timed("read"):
        found = read_given(given, edges, ids)
    read, origin = found.read, found.origin
    tally.rejected += read.rejected
    tally.graph = GraphCounts(
        nodes=read.graph.n_nodes,
        edges=read.graph.n_edges,
        directed=read.graph.directed,
        weighted=read.graph.weights is not None,
        self_loops=read.self_loops,
        merged=read.merged,
        isolated=read.isolated,
    )
    items = list(_nodes(read, origin))
    tally.read = len(items) + len(tally.rejected)
    spec = trainer.spec
    said = json.dumps(spec.to_json(), sort_keys=True)
    with opened(collection, must_write=not dry_run) as there:
        known = None if there is None else there.spaces().get(space)
        if known is not None:
            check_trainable(known, spec)  # before all is learned for nothing
        sync = Sync(None if there is None else there.database, known, said)
        state = sync.sort(items)
        gone = sync.gone([origin])
        if known is not None and there is not None and not prune:
            _one_graph(there, space, origin)
        if not state.new and not state.changed and not gone:
            tally.unchanged = state.unchanged
            return tally.report(there, space, spec.model, started, dry_run=dry_run)
        if dry_run or there is None:
            tally.added, tally.updated, tally.removed = len(state.new), len(items) - len(state.new), len(gone)
            return tally.report(there, space, spec.model, started, dry_run=True)
        progress = options.progress
        progress.begin("learning nodes", 0)
        with tally.timed("learn"):
            matrix = trainer.fit(
                read.graph, progress=lambda done, total: progress.reached("learning nodes", done, total)
            )
        progress.end("learning nodes")
        with tally.timed("commit"):
            _store_nodes(there, items, matrix, (space, spec, sync), tally, prune=prune)
        with tally.timed("index"):
            there.index(progress.reached, wait=progress.waits)
        return tally.report(there, space, spec.model, started, dry_run=False)


def _nodes(read: GraphFile, origin: str) -> Iterator[Item]:
    for id in read.graph.ids:
        attributes = read.attributes.get(id)
        record = Record(id, kind="node", metadata=attributes)
        told = json.dumps(attributes, sort_keys=True).encode()
        yield Item(record, origin, hashlib.blake2b(read.digest + told, digest_size=16).digest())


def _one_graph(collection: Collection, space: str, origin: str) -> None:
    origins = collection.origins(space)
    if origins and origins != [origin]:
        raise CollectionError(
            f"space '{space}' was learned from {origins[0]}; give another name with --space, or replace it with --prune"
        )


def _store_nodes(
    collection: Collection,
    items: Sequence[Item],
    matrix: Vectors,
    target: tuple[str, EncoderSpec, Sync],
    tally: Tally,
    *,
    prune: bool,
) -> None:
    """Replace the vectors of the whole space; a node without edges becomes a record without a vector."""
    name, spec, sync = target
    linked = np.linalg.norm(matrix, axis=1) > 0
    # One commit: vectors of two trainings are not comparable, so nobody may see some of either.
    with collection.writing() as writer, writer.together():
        there = writer.trained_space(name, spec)
        before = set(collection.ids_in(there))
        for begin in range(0, len(items), ROWS_PER_COMMIT):
            span = slice(begin, begin + ROWS_PER_COMMIT)
            some = items[span]
            written = writer.put(
                [item.record for item in some],
                matrix[span][linked[span]],
                there,
                parts=[(WHOLE,) if there_is else () for there_is in linked[span]],
                provenance=[Provenance(sync.digest(item), item.origin) for item in some],
                merge=True,
            )
            tally.added += written.added
            tally.updated += written.updated
        tally.vectors = int(linked.sum())
        gone = sorted(before - {item.record.id for item in items})
        if gone:
            tally.removed = writer.withdraw(gone, there, keep_records=not prune)
