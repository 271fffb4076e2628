"""Reads GraphML and GEXF as a stream: nodes with their attributes, and edges with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edge_format import EdgeFormat
from ingest.sources.edges import Attributes, Edges, is_usable
from ingest.sources.ids import Ids
from search.errors import SourceError
from search.types import Json

_PIECE = 1 << 20  # bytes parsed at a time
_MANY = 1 << 16  # edges whose ends are numbered together
_WHOLE = frozenset({"int", "integer", "long", "short", "byte"})
_BROKEN = frozenset({"float", "double"})


@dataclass(slots=True)
class _Key:
    """An attribute that the file declares."""

    name: str
    type: str
    default: str | None = None


@dataclass(slots=True)
class _Thing:
    """The node or edge that is being read."""

    attributes: Mapping[str, str]
    line: int
    data: dict[str, str] = field(default_factory=dict)


class _Reader:
    """What both formats share: the parser, nodes by their ids, edges in pieces."""

    root = ""

    def __init__(self, edges: Edges, weight: str) -> None:
        self.edges, self.weight = edges, weight
        self.directed_by_default = False
        self.attributes: Attributes = {}
        self.keys: dict[tuple[str, str], _Key] = {}  # by what it is for (node, edge) and its id in the file
        self._key: _Key | None = None
        self._open: list[str] = []
        self._thing: _Thing | None = None
        self._text: list[str] | None = None
        self._field = ""
        self._nodes: dict[str, None] = {}
        self._ends = Ids()
        self._some: list[tuple[bytes, bytes, float, int, bool]] = []
        self._pieces: list[tuple[NDArray[Any], ...]] = []
        self._weighted = False
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.EntityDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _refuse(self, *_: object) -> NoReturn:
        raise SourceError(
            "declares XML entities, which are not accepted; remove the declaration", self.edges.file
        )

    def read(self, handle: IO[bytes]) -> None:
        """Parse all of the file."""
        empty = True
        try:
            while piece := handle.read(_PIECE):
                empty = False
                self.parser.Parse(piece, False)
            if empty:
                raise SourceError("is empty; give a graph with at least one edge", self.edges.file)
            self.parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise SourceError(
                f"is not well-formed XML ({error}); check the file", self.edges.file, error.lineno
            ) from error

    def finish(self, directed: bool | None) -> bool:
        """Number nodes and edges; returns whether the graph is directed, by the file where `directed` is None."""
        self._flush()
        self.edges.ids.numbers([name.encode() for name in self._nodes])
        self.edges.close()
        known = self.edges.ids.numbers([self._ends.name(k) for k in range(len(self._ends))])
        if not self._pieces:
            return self.directed_by_default
        sources, targets, weights, lines, oriented = map(np.concatenate, zip(*self._pieces, strict=True))
        sources, targets = known[sources], known[targets]
        given = weights if self._weighted else None
        self.edges.add(sources, targets, given, lines)
        if directed is None:
            directed = bool(oriented.any())
        if directed:  # an edge without direction leads both ways
            both = ~oriented & (sources != targets) & (np.maximum(sources, targets) < len(self._nodes))
            back = None if given is None else given[both]
            self.edges.add(targets[both], sources[both], back, lines[both])
        return directed

    def node(self, thing: _Thing, id: str | None, extra: Mapping[str, str]) -> None:
        """Take a node."""
        if id is None:
            self.edges.reject("a node has no id", thing.line)
            return
        if id in self._nodes:
            self.edges.reject(f"the node {id[:40]!r} stands here again", thing.line, id)
            return
        self._nodes[id] = None
        found = {
            key.name: _value(thing.data.get(name, key.default), key.type)
            for (what, name), key in self.keys.items()
            if what in ("node", "all") and thing.data.get(name, key.default) is not None
        }
        if found or extra:
            self.attributes[id] = {**extra, **found}

    def edge(self, thing: _Thing, directed: bool, weight: str | None) -> None:
        """Take an edge; `weight` as it is written, None without one."""
        source, target = thing.attributes.get("source"), thing.attributes.get("target")
        if not source or not target:
            self.edges.reject("an end of the edge is missing", thing.line)
            return
        number = 1.0
        if weight is not None:
            self._weighted = True
            number = _float(weight)
            if not is_usable(number):
                name = f"{source} - {target}"
                self.edges.reject(
                    f"the weight {weight[:40]!r} of {name[:90]} is not a positive number", thing.line, name
                )
                return
        self._some.append((source.encode(), target.encode(), number, thing.line, directed))
        if len(self._some) >= _MANY:
            self._flush()

    def _flush(self) -> None:
        if self._some:
            sources, targets, weights, lines, directed = zip(*self._some, strict=True)
            self._pieces.append(
                (
                    self._ends.numbers(sources),
                    self._ends.numbers(targets),
                    np.array(weights, np.float64),
                    np.array(lines, np.int64),
                    np.array(directed, np.bool_),
                )
            )
            self._some.clear()

    def edge_weight(self, thing: _Thing) -> str | None:
        """The value of the edge attribute that is the weight, or its default."""
        for (what, name), key in self.keys.items():
            if what in ("edge", "all") and key.name == self.weight:
                return thing.data.get(name, key.default)
        return None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if not self._open and local != self.root:
            raise SourceError(
                f"is not a readable {self.root} file (its root is <{local[:40]}>); check the file",
                self.edges.file,
            )
        self._open.append(local)
        if local in ("node", "edge"):
            self._thing = _Thing(attributes, self.parser.CurrentLineNumber)
        self.started(local, attributes)

    def _end(self, name: str) -> None:
        self._open.pop()
        self.ended(name.rpartition(" ")[2])

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def started(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        raise NotImplementedError

    def ended(self, name: str) -> None:
        """An element ends."""
        raise NotImplementedError

    def said(self) -> str:
        """The text gathered since it was asked for."""
        text, self._text = "".join(self._text or ()), None
        return text.strip()


class _GraphML(_Reader):
    root = "graphml"

    def started(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "key":
            key = _Key(
                attributes.get("attr.name", attributes.get("id", "")), attributes.get("attr.type", "string")
            )
            self.keys[attributes.get("for", "all"), attributes.get("id", "")] = self._key = key
        elif name == "graph" and self._open.count("graph") == 1:
            self.directed_by_default = attributes.get("edgedefault") == "directed"
        elif name == "hyperedge":
            self.edges.reject("a hyperedge has more than two ends", self.parser.CurrentLineNumber)
        elif name in ("data", "default"):
            self._field, self._text = attributes.get("key", ""), []
        elif name == "graph" and self._thing is not None:  # what follows is a graph within this node
            self.node(self._thing, self._thing.attributes.get("id"), {})
            self._thing = None

    def ended(self, name: str) -> None:
        thing = self._thing
        if name == "default" and self._key is not None:
            self._key.default = self.said()
        elif name == "key":
            self._key = None
        elif name == "data":
            if thing is not None:
                thing.data[self._field] = self.said()
        elif name == "node" and thing is not None:
            self.node(thing, thing.attributes.get("id"), {})
            self._thing = None
        elif name == "edge" and thing is not None:
            directed = {"true": True, "false": False}.get(
                thing.attributes.get("directed", ""), self.directed_by_default
            )
            self.edge(thing, directed, self.edge_weight(thing))
            self._thing = None


class _Gexf(_Reader):
    root = "gexf"

    def __init__(self, edges: Edges, weight: str) -> None:
        super().__init__(edges, weight)
        self._class = "node"

    def started(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "graph":
            self.directed_by_default = attributes.get("defaultedgetype", "undirected") == "directed"
        elif name == "attributes":
            self._class = attributes.get("class", "node")
        elif name == "attribute":
            key = _Key(attributes.get("title", attributes.get("id", "")), attributes.get("type", "string"))
            self.keys[self._class, attributes.get("id", "")] = self._key = key
        elif name == "default":
            self._text = []
        elif name == "attvalue" and self._thing is not None:
            place = attributes.get("for", attributes.get("id", ""))
            self._thing.data[place] = attributes.get("value", "")
        elif name == "nodes" and self._thing is not None:  # nodes within a node
            self._take(self._thing)
            self._thing = None

    def ended(self, name: str) -> None:
        thing = self._thing
        if name == "default" and self._key is not None:
            self._key.default = self.said()
        elif name == "node" and thing is not None:
            self._take(thing)
            self._thing = None
        elif name == "edge" and thing is not None:
            given = thing.attributes.get("type")
            directed = self.directed_by_default if given is None else given == "directed"
            own = thing.attributes.get("weight") if self.weight == "weight" else None
            self.edge(thing, directed, self.edge_weight(thing) if own is None else own)
            self._thing = None

    def _take(self, thing: _Thing) -> None:
        label = thing.attributes.get("label")
        id = thing.attributes.get("id")
        self.node(thing, id, {} if label in (None, id) else {"label": label or ""})


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _value(text: str | None, type: str) -> Json:
    """A value of a declared type; the text itself where it is not of that type, None for what JSON cannot hold."""
    if text is None:
        return None
    try:
        if type in _WHOLE:
            return int(text)
        if type in _BROKEN:
            number = float(text)
            return number if np.isfinite(number) else None
    except ValueError:
        return text
    if type == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    return text


def read_xml(handle: IO[bytes], suffix: str, form: EdgeFormat, edges: Edges) -> tuple[bool, Attributes]:
    """Take a graph in GraphML or GEXF; whether it is directed, and the attributes of its nodes.

    In a directed graph edges without direction lead both ways. Entities are refused: they can blow up, or reach
    outside.

    Raises:
        SourceError: it is not such a file, or declares entities.
    """
    reader = (_GraphML if suffix == ".graphml" else _Gexf)(edges, form.weight or "weight")
    reader.read(handle)
    return reader.finish(form.directed), reader.attributes
