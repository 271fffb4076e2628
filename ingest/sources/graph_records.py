"""A whole graph as a record: from a graph file, a JSON document of many, or what is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.edge_format import ANY_EDGES, EdgeFormat
from ingest.sources.edges import Edges, GraphFile
from ingest.sources.graph_texts import json_object, take_node_link
from ingest.sources.graphs import MEMORY, read_given
from search.encoders.graph_items import LabelledGraph, label_hash
from search.errors import SourceError
from search.types import Json, Record

_STRUCTURE = frozenset({"nodes", "links", "edges", "directed", "multigraph", "graph"})  # of node-link JSON


@dataclass(frozen=True, slots=True)
class GraphFormat:
    """How whole graphs are to be read.

    Args:
        node_label: the attribute of nodes that says what they are; None takes their degrees, or `label` where there
            are sets in the TU layout with node labels, which go by that name.
        id: the field of a graph in a JSON document that holds its id; None takes `id` or `name` where it is there,
            else the place in the document.
        edges: whether edges have a direction, and the columns of tables; None of it leaves that to the files.
    """

    node_label: str | None = None
    id: str | None = None
    edges: EdgeFormat = ANY_EDGES

    def __post_init__(self) -> None:
        if self.edges.query is not None or self.edges.format is not None:
            raise SourceError(
                "whole graphs come from files that tell their formats; leave query and format out"
            )


PLAIN = GraphFormat()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a graph stands: its id, what was given, the file for messages, and where the user finds it."""

    id: str
    origin: str
    file: str
    uri: str | None = None
    line: int | None = None

    def rejected(self, reason: str, *, id: str | None = None) -> Rejected:
        """Why there is no such graph; `id` is of the record that there would be, where that can be told."""
        return Rejected(self.file, reason, self.line, id)


def record_of(read: GraphFile, place: Place, form: GraphFormat, told: Mapping[str, Json]) -> Item | Rejected:
    """The record of a graph that has been read; `told` is said of the whole graph.

    A graph some of whose edges cannot be used would be another graph, so it is rejected as a whole.
    """
    if read.rejected:
        first = read.rejected[0]
        where = "" if first.line is None else f" in line {first.line}"
        return place.rejected(
            f"{len(read.rejected):,} of its edges cannot be used (the first{where}: {first.reason})",
            id=place.id,
        )
    graph = read.graph
    labels = None
    if form.node_label is not None:
        given = [read.attributes.get(id, {}).get(form.node_label) for id in graph.ids]
        if all(one is None for one in given) and given:
            known = sorted({name for fields in read.attributes.values() for name in fields})
            there = f"they have {', '.join(known[:10])}" if known else "they have no fields"
            return place.rejected(f"no node has the field '{form.node_label}' ({there})", id=place.id)
        labels = np.array([label_hash(one) for one in given], np.uint64)
    made = LabelledGraph(graph.indptr, graph.indices, labels, graph.directed)
    return item_of(made, place, told, n_edges=graph.n_edges, weights=graph.weights)


def item_of(
    graph: LabelledGraph, place: Place, told: Mapping[str, Json], *, n_edges: int, weights: Any = None
) -> Item | Rejected:
    """The record of a graph; `told` is said of it beside its size."""
    if graph.n_nodes == 0:
        return place.rejected("the graph has no nodes", id=place.id)
    metadata: dict[str, Json] = {"nodes": graph.n_nodes, "edges": n_edges, "directed": graph.directed, **told}
    record = Record(place.id, kind="graph", uri=place.uri, metadata=metadata)
    state = blake2b(digest_size=16)
    try:
        content = [place.uri, metadata]
        state.update(json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False).encode())
    except (UnicodeEncodeError, ValueError) as error:
        return place.rejected(f"what is said of the graph cannot be stored: {error}", id=place.id)
    for numbers in (graph.indptr, graph.indices, graph.labels, weights):
        state.update(b"-" if numbers is None else numbers.tobytes())
    return Item(record, place.origin, state.digest(), file=place.file, line=place.line, graph=graph)


def from_json(
    given: Any, place: Place, form: GraphFormat, *, alone: Mapping[str, Json] | None = None
) -> Item | Rejected:
    """The record of a graph that is node-link JSON; its other fields become metadata.

    `alone` is what its file says of it, where it has one to itself: it is then called by its place, unless `form`
    names the field of its id.
    """
    if not isinstance(given, dict):
        return place.rejected("is no graph as node-link JSON")
    told: dict[str, Json] = dict(alone or {})
    within = given.get("graph")
    if isinstance(within, dict):
        told |= json_object(within)
    told |= json_object({name: value for name, value in given.items() if name not in _STRUCTURE})
    usual = ("id", "name") if alone is None else ()
    for name in usual if form.id is None else (form.id,):
        id = told.get(name)
        if isinstance(id, str | int) and not isinstance(id, bool) and id != "":
            del told[name]
            place = replace(place, id=str(id))
            break
    else:
        if form.id is not None:
            return place.rejected(f"there is no field '{form.id}' with its id")
    edges = Edges(place.file, edgeless=True)
    try:
        _check(given)
        directed, attributes = take_node_link(given, form.edges, edges)
        read = edges.finish(directed, attributes)
    except SourceError as error:
        return place.rejected(plain(error), id=place.id)
    except (
        TypeError
    ) as error:  # numbers beyond 64 bits, half a surrogate pair, or objects in hundreds of objects
        return place.rejected(f"it holds what no graph does ({error})", id=place.id)
    return record_of(read, place, form, told)


def _check(given: dict[str, Any]) -> None:
    """Raise TypeError for what Python's JSON reads and no other takes."""
    import orjson

    orjson.dumps({name: value for name, value in given.items() if name in _STRUCTURE and name != "graph"})


def plain(error: SourceError) -> str:
    """What went wrong, without the file that a rejection names anyway."""
    return str(error).removeprefix(f"{error.file}: ").removeprefix(f"{error.file}:")


class GivenGraphs(Source):
    """Graphs in memory: of networkx, sparse matrices of scipy, or arrays of edges.

    Args:
        graphs: each as `ingest.graph` takes one.
        ids: one for each; None numbers them from 0.
        metadata: one for each, or None.
        form: how to read them.

    Raises:
        SourceError: lengths differ, or an id stands twice.
    """

    def __init__(
        self,
        graphs: Sequence[Any],
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Json] | None] | None = None,
        form: GraphFormat = PLAIN,
    ) -> None:
        if form.id is not None:
            raise SourceError("graphs in memory are told apart by `ids`; leave the id field out")
        self._graphs, self._form = graphs, form
        self._ids = [str(number) for number in range(len(graphs))] if ids is None else list(map(str, ids))
        if len(self._ids) != len(graphs) or (metadata is not None and len(metadata) != len(graphs)):
            raise SourceError("graphs, ids and metadata differ in length; give one of each per graph")
        if len(set(self._ids)) < len(self._ids):
            raise SourceError("two graphs have the same id; rename one")
        self._metadata = metadata

    @property
    def origins(self) -> tuple[str, ...]:
        """What is in memory comes from there."""
        return (MEMORY,)

    def __len__(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def __iter__(self) -> Iterator[Item | Rejected]:
        """A record for each."""
        for number, (id, graph) in enumerate(zip(self._ids, self._graphs, strict=True)):
            place = Place(id, MEMORY, f"graph {number}")
            told = json_object(dict(getattr(graph, "graph", None) or {}))
            if self._metadata is not None:
                told |= json_object(dict(self._metadata[number] or {}))
            try:
                read = read_given(graph, self._form.edges, edgeless=True).read
            except SourceError as error:
                yield place.rejected(plain(error), id=id)
            else:
                yield record_of(read, place, self._form, told)
