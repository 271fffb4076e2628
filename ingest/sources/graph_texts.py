"""Reads the plainer text formats of graphs: adjacency lists, Pajek, and node-link JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ingest.sources import encodings
from ingest.sources.edge_format import EdgeFormat
from ingest.sources.edge_lists import blocks, take_lines, unreadable
from ingest.sources.edges import Attributes, Edges, is_usable
from ingest.sources.scans import scan_adjacency
from search.errors import SourceError
from search.types import Json

LARGEST = 1 << 30  # bytes, unpacked, of a file that is read whole
_VERTEX = re.compile(r'\s*(\d+)(?:\s+(?:"([^"]*)"|(\S+)))?')
MOST_NODES = 1 << 30


def read_whole(handle: IO[bytes], file: str) -> bytes:
    """All of a file.

    Raises:
        SourceError: it is empty, or larger than LARGEST.
    """
    data = handle.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise SourceError(f"is over {LARGEST >> 30} GiB; write so large a graph as an edge list", file)
    if not data.strip():
        raise SourceError("is empty; give a graph with at least one edge", file)
    return data


def read_adjacency(handle: IO[bytes], edges: Edges) -> None:
    """Take an adjacency list: a node and its neighbours per line, between blanks; `#` begins a comment."""
    line = 1
    for data in blocks(handle, edges.file):
        codes = np.frombuffer(data, np.uint8)
        tokens = np.empty((2, len(data) // 2 + 1), np.int64)
        rows = np.empty((3, data.count(b"\n") + 1), np.int64)
        n_tokens, n_rows = scan_adjacency(codes, tokens, rows)
        bad = unreadable(data)
        keep = ~np.isin(rows[0, :n_rows], bad)
        for at in rows[0, :n_rows][~keep].tolist():
            edges.reject("the line is not UTF-8 text", line + at)
        row = np.repeat(np.arange(n_rows), rows[2, :n_rows])
        good = keep[row]
        numbers = np.full(n_tokens, -1, np.int32)
        numbers[good] = edges.ids.numbers_in(codes, *np.ascontiguousarray(tokens[:, :n_tokens][:, good]))
        heads = rows[1, :n_rows]
        follows = np.ones(n_tokens, np.bool_)
        follows[heads] = False
        follows &= good
        edges.add(numbers[heads[row[follows]]], numbers[follows], None)
        line += data.count(b"\n")


def read_pajek(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> tuple[bool, Attributes]:
    """Take a Pajek network; whether it is directed (it has arcs), and the labels of its nodes.

    The ids are the labels where no two are alike, else the numbers, with the label in the metadata. Edges among
    arcs lead both ways.

    Raises:
        SourceError: it is not such a file.
    """
    text = encodings.decode(read_whole(handle, edges.file)).text
    labels: list[str] | None = None
    found: list[tuple[str, Edges]] = []
    for line, head, body in _sections(text):
        word = head.split()[0].lower() if head.split() else ""
        if word == "*vertices":
            if labels is not None:
                raise SourceError("declares vertices twice; give one network a file", edges.file, line)
            labels = _labels(head, body, line, edges)
        elif word.startswith(("*arcslist", "*edgeslist", "*arcs", "*edges")):
            numbered = Edges(edges.file)
            if "list" in word:
                _take_lists(body, numbered)
            else:
                take_lines("\n".join(body).encode(), line + 1, numbered)
            found.append((word, numbered))
        elif word == "*matrix":
            raise SourceError("has its edges as a matrix; write them as *Arcs or *Edges", edges.file, line)
        elif word not in ("*network", ""):
            edges.reject(f"the section {word[:40]!r} is not one of a network", line)
    if labels is None:
        raise SourceError("is not a readable Pajek file (it has no *Vertices); check the file", edges.file)
    unique = len(set(labels)) == len(labels)
    names = labels if unique else [str(k + 1) for k in range(len(labels))]
    edges.ids.numbers([name.encode() for name in names])
    edges.close()
    arcs = any(word.startswith("*arcs") for word, _ in found)
    directed = arcs if form.directed is None else form.directed
    for word, numbered in found:
        _take_numbered(numbered, edges, both=directed and word.startswith("*edges"))
    return directed, {} if unique else {n: {"label": label} for n, label in zip(names, labels, strict=True)}


def _sections(text: str) -> Iterable[tuple[int, str, list[str]]]:
    """Each section: the line (1-based) of its head, the head, and its lines."""
    line, head = 1, ""
    body: list[str] = []
    for number, each in enumerate(text.split("\n"), 1):
        if each.lstrip().startswith("*"):
            yield line, head, body
            line, head, body = number, each.strip(), []
        else:
            body.append("" if each.lstrip().startswith("%") else each)
    yield line, head, body


def _labels(head: str, body: list[str], line: int, edges: Edges) -> list[str]:
    """The label of each vertex, its number where it has none."""
    count = head.split()[1:2]
    if not count or not count[0].isdecimal() or int(count[0]) > MOST_NODES:
        raise SourceError(
            f"does not say how many vertices it has ({head[:60]!r}); check it", edges.file, line
        )
    n = int(count[0])
    if n > 1_000_000 + 1_000 * len(body):
        raise SourceError(f"declares {n:,} vertices and lists {len(body):,}; check it", edges.file, line)
    labels = [str(k + 1) for k in range(n)]
    for at, each in enumerate(body, line + 1):
        if not each.strip():
            continue
        vertex = _VERTEX.match(each)
        if vertex is None or not 0 < int(vertex.group(1)) <= n:
            edges.reject(f"is not one of {n:,} vertices", at)
            continue
        label = vertex.group(2) if vertex.group(2) is not None else vertex.group(3)
        if label:
            labels[int(vertex.group(1)) - 1] = label
    return labels


def _take_lists(body: list[str], numbered: Edges) -> None:
    sources: list[bytes] = []
    targets: list[bytes] = []
    for each in body:
        first, *others = each.encode().split() or [b""]
        sources += [first] * len(others)
        targets += others
    numbered.add(numbered.ids.numbers(sources), numbered.ids.numbers(targets), None)


def place_of(numbered: Edges, edges: Edges, what: str) -> NDArray[np.int32]:
    """Which declared node each id stands for, ids being places from 1 on.

    What is no place among them gets a number beyond theirs, named with `what`, and is rejected where it is added.
    """
    known, n = np.empty(len(numbered.ids), np.int32), edges.declared or 0
    for k in range(len(known)):
        name = numbered.ids.name(k)
        place = int(name) - 1 if name.isdigit() and len(name) < 11 else -1
        known[k] = place if 0 <= place < n else edges.ids.numbers([what.encode() + name])[0]
    return known


def _take_numbered(numbered: Edges, edges: Edges, *, both: bool) -> None:
    """Take edges between numbers of vertices."""
    edges.reject_all_of(numbered)
    sources, targets, weights = numbered.taken()
    known, n = place_of(numbered, edges, "vertex "), edges.declared or 0
    sources, targets = known[sources], known[targets]
    edges.add(sources, targets, weights)
    if both:
        back = (sources != targets) & (np.maximum(sources, targets) < n)
        edges.add(targets[back], sources[back], None if weights is None else weights[back])


def read_node_link(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> tuple[bool, Attributes]:
    """Take a graph as node-link JSON, as networkx and d3 write it; whether it is directed, and the attributes.

    Raises:
        SourceError: it is not such a file, or two nodes have the same id as text (1 and "1").
    """
    import orjson

    try:
        found = orjson.loads(read_whole(handle, edges.file))
    except orjson.JSONDecodeError as error:
        raise SourceError(f"is not readable JSON ({error}); check the file", edges.file) from error
    return take_node_link(found, form, edges)


def take_node_link(found: Any, form: EdgeFormat, edges: Edges) -> tuple[bool, Attributes]:
    """As `read_node_link`, of what stands in such a file.

    Raises:
        SourceError: it is no such graph, or two nodes have the same id as text (1 and "1").
    """
    links = found.get("links", found.get("edges")) if isinstance(found, dict) else None
    nodes = found.get("nodes") if isinstance(found, dict) else None
    if not isinstance(nodes, list) or not isinstance(links, list):
        raise SourceError(
            "is no node-link JSON; it needs lists of 'nodes' and 'links' (or 'edges')", edges.file
        )
    attributes: Attributes = {}
    names: list[str] = []
    for place, node in enumerate(nodes):
        id = node.get("id") if isinstance(node, dict) else None
        if not _is_id(id):
            raise SourceError(f"the node {place} (from 0) has no 'id'; give each one", edges.file)
        names.append(str(id))
        rest = {key: value for key, value in node.items() if key != "id"}
        if rest:
            attributes[str(id)] = json_object(rest)
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise SourceError(f"two nodes have the id {twice[:40]!r} as text; rename one", edges.file)
    edges.ids.numbers([name.encode() for name in names])
    edges.close()
    weight = form.weight or "weight"
    good = (link for link in links if _is_link(link, edges))
    take_pairs(((link["source"], link["target"], link.get(weight)) for link in good), edges)
    given = found.get("directed")
    return (given is True if form.directed is None else form.directed), attributes


def _is_id(id: object) -> bool:
    return isinstance(id, str | int | float) and not isinstance(id, bool) and id != ""


def _is_link(link: object, edges: Edges) -> bool:
    if isinstance(link, dict) and _is_id(link.get("source")) and _is_id(link.get("target")):
        return True
    edges.reject(f"an edge has no ends: {str(link)[:60]}")
    return False


def take_pairs(pairs: Iterable[tuple[Any, Any, Any]], edges: Edges) -> None:
    """Take source, target and weight (None: without one) of each edge."""
    sources: list[bytes] = []
    targets: list[bytes] = []
    weights: list[float] = []
    given = False
    for left, right, value in pairs:
        given |= value is not None
        number = 1.0 if value is None else _number(value)
        if not is_usable(number):
            name = f"{left} - {right}"
            edges.reject(f"the weight {str(value)[:40]!r} of {name[:90]} is not a positive number", name=name)
            continue
        sources.append(str(left).encode(errors="replace"))
        targets.append(str(right).encode(errors="replace"))
        weights.append(number)
    values: NDArray[np.float64] | None = np.array(weights, np.float64) if given else None
    edges.add(edges.ids.numbers(sources), edges.ids.numbers(targets), values)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def json_object(data: dict[Any, Any]) -> dict[str, Json]:
    """A dict as a JSON object; what is not finite becomes None, what is foreign a string."""
    return {str(key): _json(value) for key, value in data.items()}


def _json(value: object) -> Json:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return json_object(value)
    if isinstance(value, list | tuple | set):
        return [_json(item) for item in value]
    return str(value)
