"""Reads graph files into compressed sparse rows: edge lists and csv in bulk, the other formats by networkx."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import IO, Any, NoReturn, cast
from xml.parsers import expat

import networkx as nx
import numpy as np

from ingest.sources.contract import Graph
from ingest.sources.edge_lists import has_header, read_edge_list, read_table
from ingest.sources.edges import Attributes, Edges, GraphFile, digest, from_edges, usable
from search.errors import SourceError
from search.types import Json

__all__ = ["GraphFile", "digest", "from_edges", "from_networkx", "read_graph"]

LARGEST = 1 << 30  # bytes, unpacked, of a file that networkx reads whole
PARSED = (".graphml", ".gml", ".gexf", ".adjlist")


def read_graph(
    path: Path,
    *,
    directed: bool | None = None,
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
) -> GraphFile:
    """Read a graph; the format follows from the suffix, with or without `.gz` behind it.

    - `.csv`: comma (else semicolon or tab) separated. With a header the columns are those named by `source`,
      `target` and `weight`, else those with usual names (source/target, from/to, u/v, src/dst; weight, w), else
      the first two, and a third one of numbers as weight.
    - `.graphml`, `.gml`, `.gexf`, `.adjlist`: by networkx; `weight` names the edge attribute ("weight").
      XML that declares entities is refused, and so is a file of these formats over 1 GiB.
    - anything else is an edge list: `u v [weight]` between blanks; `#` and `%` begin a comment line; a line with
      a single id is a node without edges. A `.tsv` whose first line has usual column names is read as csv.

    Node ids are kept exactly as strings ("1" and "01" differ) and sorted, so that nothing depends on the order
    of the lines. `directed` None means what the file says, else undirected. An edge that stands several times
    (undirected: in either direction) is one edge; the weights are added up where the file has weights.

    Raises:
        SourceError: there is no such file, it cannot be parsed, a named column is missing, or it has no edges.
    """
    file = str(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    edges = Edges(file)
    attributes: Attributes = {}
    try:
        with _opened(path, packed) as handle:
            if suffix in PARSED:
                _refuse_columns(file, source, target)
                parsed = _parse(handle, suffix, file)
                directed = parsed.is_directed() if directed is None else directed
                attributes = _take_networkx(parsed, weight or "weight", edges)
            elif suffix == ".csv" or (
                suffix == ".tsv" and (source or target or weight or has_header(handle))
            ):
                read_table(handle, (source, target, weight), edges)
            else:
                _refuse_columns(file, source, target, weight)
                read_edge_list(handle, edges)
    except FileNotFoundError as error:
        raise SourceError("there is no such file; check the path", file) from error
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"cannot be read ({error}); check the file", file) from error
    return edges.finish(bool(directed), attributes)


def from_networkx(graph: nx.Graph[Any], *, weight: str = "weight") -> Graph:
    """The same graph in compressed rows; `weight` names the edge attribute, ids are the nodes as strings.

    Raises:
        SourceError: no edges, a weight that is not a positive number, or two nodes with the same string.
    """
    edges = Edges("graph")
    _take_networkx(graph, weight, edges)
    for rejected in edges.rejected:
        raise SourceError(f"the edge {rejected.id} cannot be used: {rejected.reason}; give positive numbers")
    return edges.finish(graph.is_directed(), {}).graph


def _opened(path: Path, packed: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


def _refuse_columns(file: str, *names: str | None) -> None:
    if any(names):
        raise SourceError("this format has no named columns; leave them out or give a .csv", file)


def _parse(handle: IO[bytes], suffix: str, file: str) -> Any:
    """The networkx graph in this file."""
    data = handle.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise SourceError(f"is over {LARGEST >> 30} GiB; write so large a graph as an edge list", file)
    if not data.strip():
        raise SourceError("is empty; give a graph with at least one edge", file)
    if suffix in (".graphml", ".gexf"):
        _refuse_entities(data, file)
    stream = io.BytesIO(data)
    try:
        if suffix == ".graphml":
            return nx.read_graphml(stream)
        if suffix == ".gexf":
            return nx.read_gexf(stream)
        if suffix == ".adjlist":
            return nx.read_adjlist(stream)
        try:
            return nx.read_gml(stream)
        except nx.NetworkXError as error:
            if "label" not in str(error):
                raise
            return nx.read_gml(io.BytesIO(data), label="id")
    # What networkx lets through from its parsers on malformed files; ParseError is a SyntaxError.
    except (
        nx.NetworkXException,
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"is not a readable {suffix[1:]} file ({reason}); check the file", file) from error


def _refuse_entities(data: bytes, file: str) -> None:
    """Parse the XML once for the sake of its declarations: entities can blow up or reach outside (XML bombs)."""

    def refuse(*_: object) -> NoReturn:
        raise SourceError("declares XML entities, which are not accepted; remove the declaration", file)

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise SourceError(f"is not well-formed XML ({error}); check the file", file, error.lineno) from error


def _take_networkx(graph: Any, weight: str, edges: Edges) -> Attributes:
    """Take nodes and edges of a networkx graph; returns the attributes of its nodes."""
    names = {node: str(node).encode(errors="replace") for node in graph}
    if len(set(names.values())) < len(names):
        raise SourceError("two nodes have the same name as text; rename one", edges.file)
    edges.numbers(list(names.values()))
    sources, targets, weights = [], [], []
    given = False
    for left, right, value in graph.edges(data=weight):
        given |= value is not None
        number = 1.0 if value is None else _number(value)
        if not usable(np.array([number]))[0]:
            name = f"{left} - {right}"
            edges.reject(f"the weight {str(value)[:40]!r} of {name} is not a positive number", name=name)
            continue
        sources.append(names[left])
        targets.append(names[right])
        weights.append(number)
    edges.add(edges.numbers(sources), edges.numbers(targets), np.array(weights) if given else None)
    return {names[node].decode(): _json_object(data) for node, data in graph.nodes(data=True) if data}


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _json_object(data: dict[Any, Any]) -> dict[str, Json]:
    return {str(key): _json(value) for key, value in data.items()}


def _json(value: object) -> Json:
    """The value as JSON can hold it; what is not finite becomes None, what is foreign a string."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return _json_object(value)
    if isinstance(value, list | tuple | set):
        return [_json(item) for item in value]
    return str(value)
