"""The verb for graphs: the vectors of all nodes are learned together, and join the records of the same ids."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.learn.nodes.features import FeatureTrainer
from ingest.pipeline import Tally
from ingest.report import GraphCounts, Options, Report
from ingest.sources.contract import Graph, Item
from ingest.sources.edge_format import ANY_EDGES, EdgeFormat
from ingest.sources.graph_union import less, union
from ingest.sync import Sync
from ingest.verbs.graph_stored import (
    PREDICTED,
    added_to,
    from_origins,
    named,
    settings_of,
    stored_graph,
)
from ingest.verbs.node_features import FeatureSource
from ingest.verbs.node_learning import Learned, learned
from ingest.verbs.node_rows import put_rows
from ingest.verbs.opening import DEFAULT, opened
from ingest.verbs.predictions import predict_again, predicted_in, sources_of, unmark
from search.catalog.edges import ADDED, READ, GraphState
from search.collection import Collection
from search.errors import CollectionError, SourceError
from search.types import Json, Record, Space
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
    method: str | None = None,
    settings: NodeSettings | None = None,
    edges: EdgeFormat = ANY_EDGES,
    space: str = "graph",
    add: bool = False,
    refit: bool = False,
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in a graph: a file (docs/graphs.md lists the formats), a table of a database, or what is in memory.

    Every node becomes a record.

    The vectors of all nodes are learned together, so a changed graph is learned anew as a whole; an unchanged
    one is left alone. A node joins the record of the same id, if there is one. The edges are kept with the vectors.

    Where a space is learned anew by the same method, its vectors are turned onto the former ones (Schönemann 1966),
    which changes no similarity; the report's `turned` says how near they come.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        given: the path of a file, the SQLAlchemy URL of a database (`edges.query` asks it), a networkx graph, a sparse
            matrix of scipy, an array (m, 2) or (m, 3) of ends and weights, or a tuple of these as columns.
        ids: of a matrix's rows, or of the nodes that the ends in arrays count from 0; None takes the numbers
            themselves.
        method: node2vec, node2vec+, deepwalk, prone, netmf, cleora, eigenmaps, lle or sgc; None takes that of the
            space, with its settings, else node2vec.
        settings: dimensions, walks, p and q and the like, as far as the method knows them; None takes the usual ones.
            For sgc they name the features of the nodes, where the file has no matrix of them.
        edges: whether edges have a direction, which columns hold them, types, format and query; read from the file
            where it says so.
        space: where the vectors go; one graph a space.
        add: take these edges for additions to the graph that the space holds: new nodes get vectors from their
            neighbours' (in a space learned by sgc from its encoder), and no other vector changes. Where the graph is
            learned again, what was added is part of it. Method and settings are those of the space.
        refit: learn anew even what has not changed.
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
    if add:
        from ingest.verbs.graph_additions import Addition, add_edges

        if refit or prune:
            raise SourceError("what is added changes nothing that is there; leave refit and prune out")
        if method is not None or settings is not None:
            raise SourceError("additions have the method and settings of the space; leave them out")
        return add_edges(collection, Addition(given, ids, edges, space), dry_run=dry_run, options=options)
    if method is None:
        method, made_with = _own_method(collection, space)
        settings = settings or made_with
    trainer = load_trainer(method, settings or NodeSettings())
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
    with opened(collection, must_write=not dry_run) as there:
        known = None if there is None else there.spaces().get(space)
        features = None
        if isinstance(trainer, FeatureTrainer):
            features = FeatureSource.of(there, space, settings or NodeSettings(), read)
            trainer = trainer.given(features.features(there, read.graph.ids))
        spec = trainer.spec
        said = json.dumps(spec.to_json(), sort_keys=True)
        if known is not None:
            check_trainable(known, spec)  # before all is learned for nothing
        added = {} if known is None or there is None else added_to(there.database, known)
        if known is not None and there is not None and not prune:
            _one_graph(there, space, origin, added)
        sync = Sync(None if there is None else there.database, known, said)
        state = sync.sort(items)
        gone = sync.gone([origin])
        if not state.new and not state.changed and not gone and not refit:
            tally.unchanged = state.unchanged
            return tally.report(there, space, spec.model, started, dry_run=dry_run)
        if dry_run or there is None:
            tally.added, tally.updated, tally.removed = len(state.new), len(items) - len(state.new), len(gone)
            return tally.report(there, space, spec.model, started, dry_run=True)
        progress = options.progress
        progress.begin("learning nodes", 0)
        with tally.timed("learn"):
            whole = _Whole.of(there, known, read.graph, items, {} if prune else added)
            if features is not None and isinstance(trainer, FeatureTrainer):
                trainer = trainer.given(features.features(there, whole.graph.ids))
            made = learned(
                there,
                known,
                trainer,
                whole.graph,
                lambda done, total: progress.reached("learning nodes", done, total),
            )
        progress.end("learning nodes")
        with tally.timed("commit"):
            sources = [] if known is None else sources_of(there, known)
            _store_nodes(there, whole, made, (space, features, sync), tally, prune=prune)
            predict_again(there, there.spaces()[space], sources)
        with tally.timed("index"):
            there.index(progress.reached, wait=progress.waits)
        report = tally.report(there, space, spec.model, started, dry_run=False)
        return replace(report, turned=None if made.turned is None else asdict(made.turned))


def _own_method(collection: Collection | str | Path, space: str) -> tuple[str, NodeSettings]:
    """The method and the settings that a space was learned with; the usual ones for a new space."""
    from ingest.learn.nodes.load import METHODS, NodeSettings

    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(space)
    if known is None or known.encoder.family not in METHODS:
        return NODE_METHOD, NodeSettings()
    return known.encoder.family, settings_of(known.encoder)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is learned: the graph as it was read with what was added to it before, and an item for each node."""

    graph: Graph
    items: Sequence[Item]
    read: Graph
    added: Graph | None
    state: GraphState | None

    @classmethod
    def of(
        cls,
        collection: Collection,
        space: Space | None,
        read: Graph,
        items: Sequence[Item],
        added_from: Mapping[str, str],
    ) -> _Whole:
        before = stored_graph(collection.database, space) if space is not None and added_from else None
        if before is None or space is None:
            return cls(read, items, read, None, None)
        if before.state.directed != read.directed:
            kind = "directed" if before.state.directed else "undirected"
            raise CollectionError(
                f"space '{space.name}' has had edges added as {kind}; read the graph so too, or drop them with --prune"
            )
        added = less(before.added, read)
        graph = union(read, added)
        known = {item.record.id: item for item in items}
        origins = from_origins(collection.database, space, list(before.state.added))
        every = []
        for id in graph.ids:
            item = known.get(id)
            if item is None:
                origin = origins.get(id, next(iter(before.state.added)))
                digest = bytes.fromhex(before.state.added[origin])
                item = Item(Record(id, kind="node"), origin, digest)
            every.append(item)
        return cls(graph, every, read, added, before.state)


def _nodes(read: GraphFile, origin: str) -> Iterator[Item]:
    def digest(attributes: dict[str, Json] | None) -> bytes:
        told = json.dumps(attributes, sort_keys=True).encode()
        return hashlib.blake2b(read.digest + told, digest_size=16).digest()

    plain = digest(None)
    for id in read.graph.ids:
        attributes = read.attributes.get(id)
        record = Record(id, kind="node", metadata=attributes)
        yield Item(record, origin, plain if attributes is None else digest(attributes))


def _one_graph(collection: Collection, space: str, origin: str, added: Mapping[str, str]) -> None:
    origins = [one for one in collection.origins(space) if one not in added and not one.startswith(PREDICTED)]
    if origins and origins != [origin]:
        raise CollectionError(
            f"space '{space}' was learned from {origins[0]}; give another name with --space, or replace it with --prune"
        )


def _store_nodes(
    collection: Collection,
    whole: _Whole,
    made: Learned,
    target: tuple[str, FeatureSource | None, Sync],
    tally: Tally,
    *,
    prune: bool,
) -> None:
    """Replace the vectors of the whole space; a node without edges becomes a record without a vector."""
    name, features, sync = target
    items, added = whole.items, {} if whole.state is None else whole.state.added
    nothing = Graph(
        whole.read.ids[:0], np.zeros(1, np.int64), np.empty(0, np.int32), None, whole.read.directed
    )
    # One commit: vectors of two trainings are not comparable, so nobody may see some of either.
    with collection.writing() as writer, writer.together():
        now = collection.spaces().get(name)
        if not prune and now is not None and added_to(collection.database, now) != added:
            raise CollectionError(f"edges were added to space '{name}' while it was learned; run again")
        predicted = set() if now is None else set(predicted_in(collection, now).values())
        if now is not None:
            unmark(collection, writer, now, predicted)
        there = writer.trained_space(name, made.spec, model=made.model)
        before = set(collection.ids_in(there)) - predicted
        put_rows(writer, there, items, made.matrix, sync, tally)
        if features is not None:
            features.renew(collection, writer, items)
        gone = sorted(before - {item.record.id for item in items})
        if gone:
            tally.removed = writer.withdraw(gone, there, keep_records=not prune)
        guessed = sorted(predicted - {item.record.id for item in items})
        if guessed:
            writer.withdraw(guessed, there, keep_records=True)
        writer.put_edges(there, READ, named(whole.read), added=added)
        writer.put_edges(there, ADDED, named(nothing if whole.added is None else whole.added), added=added)
