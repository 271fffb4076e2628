"""The verb for sets of graphs: each graph becomes a record, by an encoder that is learned from these graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest import pipeline
from ingest.learn.graphs.load import GRAPH_METHOD, load_trainer
from ingest.learn.graphs.settings import GraphSettings
from ingest.pipeline import Job, Ready
from ingest.report import Options, Report
from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.graph_records import GivenGraphs, GraphFormat
from ingest.verbs.opening import DEFAULT, Paths, emptied, listed, opened
from search.collection import Collection
from search.encoders import whole_graphs
from search.errors import CollectionError, SourceError
from search.types import WHOLE, Json, Space

if TYPE_CHECKING:
    from search.encoders.graph_items import LabelledGraph

_ENTRIES = 4_000_000  # nodes and edges that are encoded, and committed, together; about 100 MB
_KEPT = 8_000_000  # nodes and edges of graphs that are kept from the first reading to the second


def graphs(
    collection: Collection | str | Path,
    given: Paths | Sequence[Any],
    *,
    ids: Sequence[str] | None = None,
    metadata: Sequence[Mapping[str, Json] | None] | None = None,
    method: str | None = None,
    settings: GraphSettings | None = None,
    form: GraphFormat | None = None,
    space: str = "graphs",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in whole graphs, a record each: files of them, folders, archives, sets in the TU layout, or from memory.

    What tells the graphs apart is learned from those of the first run and kept with the space, so that a graph that
    comes later is described by the same measure, and a question can be a graph. Running it again encodes only what
    is new or has changed. `ingest.graph` instead makes a record of each node of one graph.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        given: a file, folder or archive, or several; or a list of graphs of networkx, sparse matrices of scipy, or
            arrays of edges.
        ids: of graphs in memory, one for each; None numbers them from 0.
        metadata: of graphs in memory, one for each, or None.
        method: wl (the one taken unless the space has another), graph2vec or pooled.
        settings: dimensions, depth and the like; None takes the usual ones.
        form: how to read the files, and which attribute says what a node is; None takes the nodes' degrees.
        space: where the vectors go.
        prune: remove graphs that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: progress.

    Raises:
        SourceError: a path is missing, or there is no graph to learn from.
        CollectionError: the space was made by another method, or with other settings.
        ModelError: the method does not know a setting.
    """
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(space)
        method = _method(known, method, settings)
        form = _format(known, form or GraphFormat())
    trainer = load_trainer(method, settings or GraphSettings())
    may_be_empty = emptied(collection, space) if prune else frozenset()
    source, form = _source(given, form, (ids, metadata), settled=known is not None, may_be_empty=may_be_empty)
    said = f"graphs, nodes by {form.node_label or 'degree'}"
    if dry_run:
        with opened(collection, must_write=False) as there:
            return pipeline.forecast(there, source, (space, method, said), prune=prune)
    started = time.perf_counter()
    learned = None
    if known is None:
        source = _Kept(source)
        learned = _learn(source, partial(trainer.fit, node_label=form.node_label), options)
    with opened(collection) as there:
        assert there is not None
        if learned is not None:
            encoder = whole_graphs.from_bytes(learned)
        else:
            loaded = there.encoder(space)
            assert isinstance(loaded, whole_graphs.GraphModel)
            encoder = loaded
        learning_s = time.perf_counter() - started
        job = Job(space, method, lambda: encoder, partial(_prepared, encoder), said, learned, prune)
        return pipeline.fill(there, source, job, options.progress).after("learn", learning_s)


def _method(known: Space | None, method: str | None, settings: GraphSettings | None) -> str:
    """The method to use; refuses one, or settings of it, that the space was not made with."""
    if known is None:
        return GRAPH_METHOD if method is None else method
    if known.encoder.family != whole_graphs.FAMILY:
        raise CollectionError(
            f"space '{known.name}' was made by {known.encoder.model} and holds no whole graphs; "
            "give another name with --space"
        )
    if method is not None and method != known.encoder.model:
        raise CollectionError(
            f"space '{known.name}' was made by {known.encoder.model}, and this is {method}; "
            "give another name with --space"
        )
    made, plain = known.encoder.options.get("settings"), asdict(GraphSettings())
    if settings is not None and isinstance(made, dict):
        for name, value in asdict(settings).items():
            if name != "threads" and value != plain[name] and made.get(name) != value:
                raise CollectionError(
                    f"space '{known.name}' was learned with {name} {made.get(name) or 'as usual'}, not {value}; "
                    "give another name with --space"
                )
    return known.encoder.model


def _format(known: Space | None, form: GraphFormat) -> GraphFormat:
    """How graphs are read: by the node label that the space goes by."""
    if known is None:
        return form
    made = known.encoder.options.get("node_label")
    if form.node_label is not None and form.node_label != made:
        raise CollectionError(
            f"space '{known.name}' tells nodes apart by {'their degrees' if made is None else repr(made)}, not by "
            f"'{form.node_label}'; give another name with --space"
        )
    return GraphFormat(None if made is None else str(made), form.id, form.edges)


def _source(
    given: Paths | Sequence[Any],
    form: GraphFormat,
    told: tuple[Sequence[str] | None, Sequence[Mapping[str, Json] | None] | None],
    *,
    settled: bool,
    may_be_empty: frozenset[str],
) -> tuple[Source, GraphFormat]:
    """The graphs, and how they are read."""
    several = [given] if isinstance(given, str | Path) else list(given)
    if all(isinstance(one, str | Path) for one in several):
        if told != (None, None):
            raise SourceError("files have their own ids and metadata; leave them out")
        # numba and its compiled code are loaded here and not before.
        from ingest.sources.whole_graphs import WholeGraphs

        files = WholeGraphs(listed(several), form, settled=settled, may_be_empty=may_be_empty)
        return files, files.form
    if any(isinstance(one, str | Path) for one in several):
        raise SourceError("paths stand among graphs in memory; give the one or the other")
    return GivenGraphs(several, *told, form), form


def _learn(source: Source, fit: Any, options: Options) -> bytes:
    """What the trainer makes of all graphs that can be read."""
    stage = "learning graphs"
    progress = options.progress
    progress.begin(stage, 0)
    rejected: list[Rejected] = []
    n_graphs = 0

    def each() -> Iterator[LabelledGraph]:
        nonlocal n_graphs
        for one in source:
            if isinstance(one, Rejected):
                rejected.append(one)
            elif one.graph is not None:
                n_graphs += 1
                yield one.graph

    try:
        data: bytes = fit(each(), progress=lambda done, total: progress.reached(stage, done, total))
    except SourceError as error:
        if n_graphs or not rejected:
            raise
        raise SourceError(
            f"none of {len(rejected):,} inputs holds a graph that can be read (the first: {rejected[0].said()}); "
            "mend them, or name others"
        ) from error
    progress.end(stage)
    return data


def _prepared(encoder: whole_graphs.GraphModel, items: Sequence[Item]) -> Iterator[Ready | Rejected]:
    graphs = [item.graph for item in items if item.graph is not None]
    assert len(graphs) == len(items)
    for item, graph, known in zip(items, graphs, encoder.knows(graphs), strict=True):
        if known:
            weight = (graph.n_nodes + len(graph.indices)) / _ENTRIES
            yield Ready(item, (WHOLE,), (graph,), weight=weight)
        else:
            yield Rejected(
                item.file or item.origin,
                "has nothing in common with the graphs that the space was learned from; ingest all into a new space",
                item.line,
                item.record.id,
            )


class _Kept(Source):
    """A source that is read twice: what it gave the first time is kept, as long as it is small."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._first: list[Item | Rejected] | None = None

    @property
    def origins(self) -> tuple[str, ...]:
        return self._source.origins

    def __len__(self) -> int:
        return len(self._source) if self._first is None else len(self._first)

    def __iter__(self) -> Iterator[Item | Rejected]:
        if self._first is not None:
            kept, self._first = self._first, None  # for this reading only
            yield from kept
            return
        some: list[Item | Rejected] | None = []
        room = _KEPT
        for one in self._source:
            if some is not None:
                if isinstance(one, Item) and one.graph is not None:
                    room -= one.graph.n_nodes + len(one.graph.indices)
                if room < 0:
                    some = None
                else:
                    some.append(one)
            yield one
        self._first = some
