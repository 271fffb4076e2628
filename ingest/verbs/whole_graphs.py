"""The verb for sets of graphs: each graph becomes a record, by an encoder that is learned from these graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
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
from ingest.verbs.graph_refit import Refit, origins_beside, store_again
from ingest.verbs.opening import DEFAULT, Paths, emptied, listed, opened
from search.collection import Collection
from search.encoders import whole_graphs
from search.errors import CollectionError, SourceError
from search.types import WHOLE, Json, Space

if TYPE_CHECKING:
    from ingest.learn.graphs.contract import GraphTrainer
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
    refit: bool = False,
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
        refit: learn anew, from these graphs and all others that the space was filled from; every vector is replaced,
            in one commit. Method, settings and node label are the former ones where they are None.
        prune: remove graphs that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: progress.

    Raises:
        SourceError: a path is missing, or there is no graph to learn from.
        CollectionError: the space was made by another method, or with other settings; or it is to be learned again,
            and some of its graphs cannot be had.
        ModelError: the method does not know a setting.
    """
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(space)
        again = refit and known is not None and known.encoder.family == whole_graphs.FAMILY
        if again and known is not None:
            method, settings, form = _as_before(known, method, settings, form or GraphFormat())
        else:
            method, form = _method(known, method, settings), _format(known, form or GraphFormat())
    trainer = load_trainer(method, settings or GraphSettings())
    may_be_empty = emptied(collection, space) if prune else frozenset()
    source, form = _source(given, form, (ids, metadata), settled=known is not None, may_be_empty=may_be_empty)
    said = f"graphs, nodes by {form.node_label or 'degree'}"
    if dry_run:
        with opened(collection, must_write=False) as there:
            told = pipeline.forecast(there, source, (space, method, said), prune=prune)
            return replace(told, updated=told.updated + told.unchanged, unchanged=0) if again else told
    started = time.perf_counter()
    learned = None
    if again and known is not None:
        return _again(collection, [source], trainer, Refit(known, said, prune, options), form)
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


def _again(
    collection: Collection | str | Path,
    sources: list[Source],
    trainer: GraphTrainer,
    refit: Refit,
    form: GraphFormat,
) -> Report:
    """Learn a space again, from what is given and from all else that it was filled from."""
    started = time.perf_counter()
    with opened(collection) as there:
        assert there is not None
        beside = origins_beside(there, refit.space, sources[0])
        if beside:
            sources.append(_source(beside, form, (None, None), settled=True, may_be_empty=frozenset())[0])
        kept = _Kept(_Chain(sources))
        learned = _learn(kept, partial(trainer.fit, node_label=form.node_label), refit.options)
        learning_s = time.perf_counter() - started
        return store_again(there, [kept], learned, refit, started).after("learn", learning_s)


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


def _as_before(
    known: Space, method: str | None, settings: GraphSettings | None, form: GraphFormat
) -> tuple[str, GraphSettings, GraphFormat]:
    """How a space is learned again: as it was, where nothing else is said."""
    made = known.encoder.options
    if settings is None:
        asked = made.get("settings") if method in (None, known.encoder.model) else None
        settings = GraphSettings(**asked) if isinstance(asked, dict) else GraphSettings()
    label = made.get("node_label")
    if form.node_label is None and label is not None:
        form = replace(form, node_label=str(label))
    return known.encoder.model if method is None else method, settings, form


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
    if hasattr(given, "edges") or hasattr(given, "tocsr") or hasattr(given, "shape"):
        raise SourceError(
            "one graph was given; put it in a list, or make records of its nodes by ingest.graph"
        )
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
                "has nothing in common with the graphs that the space was learned from; learn again with --refit",
                item.line,
                item.record.id,
            )


class _Chain(Source):
    """Sources one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(origin for source in self._sources for origin in source.origins)

    def __iter__(self) -> Iterator[Item | Rejected]:
        for source in self._sources:
            yield from source


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
