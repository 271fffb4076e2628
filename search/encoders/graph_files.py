"""Reads the file of a graph that a collection is asked by; `ingest` reads more formats, and larger files."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from search.errors import SourceError

MOST_BYTES = 64 << 20
FORMATS = (".graphml", ".gml", ".gexf", ".net", ".json", ".txt", ".edgelist", ".edges")
_ENTITIES = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


def read_graph_file(path: Path) -> Any:
    """The networkx graph in a file: GraphML, GML, GEXF, Pajek, node-link JSON, or an edge list, by its suffix.

    An edge list has `u v` or `u v weight` between blanks in each line, and is undirected; `#` and `%` begin comments,
    a line with a single id is a node without edges.

    Raises:
        SourceError: there is no such file, it is of another format, too large, or not readable.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise SourceError(
            f"a graph to ask by is {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {suffix or 'without a suffix'}; "
            "convert it, or ingest it and ask by its id",
            str(path),
        )
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise SourceError(f"cannot be read ({reason}); check the path", str(path)) from error
    if len(data) > MOST_BYTES:
        raise SourceError(f"is over {MOST_BYTES >> 20} MiB; ingest it and ask by its id", str(path))
    if suffix in (".graphml", ".gexf") and _ENTITIES.search(data):
        raise SourceError("declares XML entities or a document type; remove the declaration", str(path))
    return parsed(suffix, data, str(path))


def parsed(suffix: str, data: bytes, file: str) -> Any:
    """The networkx graph that stands in a file of this suffix.

    Raises:
        SourceError: it is malformed.
    """
    import networkx as nx

    try:
        return _parsed(suffix, data)
    # What networkx lets through from its parsers on malformed files.
    except (
        nx.NetworkXException,
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        StopIteration,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(f"is not a readable {suffix[1:]} file ({reason}); check the file", file) from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number in JSON")


def _parsed(suffix: str, data: bytes) -> Any:
    import networkx as nx

    if suffix == ".graphml":
        return nx.read_graphml(io.BytesIO(data))
    if suffix == ".gexf":
        return nx.read_gexf(io.BytesIO(data))
    if suffix == ".gml":
        try:
            return nx.read_gml(io.BytesIO(data))
        except nx.NetworkXError as error:
            if "label" not in str(error):
                raise
            return nx.read_gml(io.BytesIO(data), label="id")
    if suffix == ".net":
        return nx.read_pajek(io.BytesIO(data))
    if suffix == ".json":
        return from_node_link(json.loads(data, parse_constant=_refuse))
    return _edge_list(data.decode("utf-8"))


def from_node_link(given: Any) -> Any:
    """The networkx graph of node-link JSON as networkx and d3 write it; ids are the same where their text is.

    Raises:
        ValueError: it is none, names a node twice, or an edge leads to a node that is not there.
        LookupError, TypeError, AttributeError: a part of it is missing or of another kind.
    """
    import networkx as nx

    links = given.get("links", given.get("edges")) if isinstance(given, dict) else None
    nodes = given.get("nodes") if isinstance(given, dict) else None
    if not isinstance(nodes, list) or not isinstance(links, list):
        raise ValueError("it needs lists of 'nodes' and 'links'")
    graph: Any = nx.DiGraph() if given.get("directed") is True else nx.Graph()
    for node in nodes:
        id = str(node["id"])
        if id in graph:
            raise ValueError(f"two nodes have the id {id[:40]!r} as text")
        graph.add_node(id)
        graph.nodes[id].update({str(key): value for key, value in node.items() if key != "id"})
    for link in links:
        source, target = str(link["source"]), str(link["target"])
        if source not in graph or target not in graph:
            raise ValueError(
                f"the edge {source[:40]!r} - {target[:40]!r} has an end that is not among the nodes"
            )
        graph.add_edge(source, target)
    return graph


def _edge_list(text: str) -> Any:
    import networkx as nx

    graph: Any = nx.Graph()
    for line in text.splitlines():
        if not line.strip() or line.lstrip()[0] in "#%":
            continue
        fields = line.split()
        if len(fields) > 3:
            raise ValueError(f"the line {line[:60]!r} is no edge")
        graph.add_node(fields[0])
        if len(fields) > 1:
            graph.add_edge(fields[0], fields[1])
    return graph
