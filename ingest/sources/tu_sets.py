"""Sets of graphs in the layout of the TU Dortmund collection: NAME_A.txt, NAME_graph_indicator.txt and their kin."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ingest.sources.contract import Item, Rejected
from ingest.sources.graph_records import GraphFormat, Place, item_of
from ingest.sources.inputs import why
from search.encoders.graph_items import LabelledGraph, label_hash
from search.errors import SourceError
from search.types import Json

EDGES, OWNERS, CLASSES, LABELS = "_A.txt", "_graph_indicator.txt", "_graph_labels.txt", "_node_labels.txt"
KINDS = (
    EDGES,
    OWNERS,
    CLASSES,
    LABELS,
    "_node_attributes.txt",
    "_edge_labels.txt",
    "_edge_attributes.txt",
    "_graph_attributes.txt",
)
NODE_LABEL = "label"  # what the field would be called that a set's node labels stand for
MOST_BYTES = 1 << 30  # of one of the files

Ints = NDArray[np.int64]
Opener = Callable[[], IO[bytes]]


def set_of(name: str) -> tuple[str, str] | None:
    """The name of the set that a file of this name belongs to, and which of its files it is; None: to none."""
    for kind in KINDS:
        if name.endswith(kind) and len(name) > len(kind):
            return name.removesuffix(kind), kind
    return None


def is_set(stem: str, is_there: Callable[[str], bool]) -> bool:
    """Whether the files that begin so are a set: one says whose the nodes are, or two that have no meaning alone."""
    return is_there(stem + OWNERS) or (is_there(stem + EDGES) and is_there(stem + CLASSES))


def read_set(files: Mapping[str, Opener], place: Place, form: GraphFormat) -> Iterator[Item | Rejected]:
    """The graphs of a set, each a record with the id `set/number`, numbered from 1 as its files do.

    Its graph label becomes the metadata's `label`, numbers as such; node labels are what the field NODE_LABEL is in
    other formats. Node and edge attributes and edge labels are not read. An edge is undirected unless `form` says
    otherwise.

    Args:
        files: by kind, what opens each file that is there.
        place: of the set; its id is the beginning of each graph's.
        form: how to read it.
    """
    try:
        if form.node_label not in (None, NODE_LABEL):
            raise SourceError(
                f"its nodes have no field '{form.node_label}'; they have '{NODE_LABEL}' at most"
            )
        if form.id is not None:
            raise SourceError("its graphs have numbers and no id fields; leave --id out")
        edges = _numbers(files, EDGES, 2)
        owners = _numbers(files, OWNERS, 1)[:, 0]
        if not len(owners):
            raise SourceError(f"its {OWNERS} is empty")
        if owners.min() < 1:
            raise SourceError(f"its {OWNERS} has a graph {owners.min()}; they are numbered from 1")
        labels = None if form.node_label is None else _labels(files, len(owners))
        classes = _lines(files, CLASSES)
    except SourceError as error:
        yield place.rejected(str(error))
        return
    except OSError as error:
        yield place.rejected(why(error))
        return
    yield from _graphs((edges, owners - 1, labels, classes), place, form)


def _graphs(
    read: tuple[Ints, Ints, NDArray[np.uint64] | None, list[str] | None], place: Place, form: GraphFormat
) -> Iterator[Item | Rejected]:
    edges, owners, labels, classes = read
    n = len(owners)
    order = np.argsort(owners, kind="stable")  # nodes of a graph together
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    numbers, begins = np.unique(owners[order], return_index=True)
    begins = np.append(begins, n)
    there = ((edges >= 1) & (edges <= n)).all(axis=1)
    ends = edges[there] - 1
    within = owners[ends[:, 0]] == owners[ends[:, 1]]
    astray = {int(owner) for owner in owners[ends[~within]].reshape(-1)}
    astray |= {int(owners[end - 1]) for end in edges[~there].reshape(-1).tolist() if 1 <= end <= n}
    if bool((~there).any()) and not astray:
        line = int(np.argmin(there)) + 1
        yield place.rejected(f"line {line} of its {EDGES} has an edge between nodes that it does not have")
    sources, targets = rank[ends[within, 0]], rank[ends[within, 1]]
    if not form.edges.directed:
        sources, targets = np.concatenate([sources, targets]), np.concatenate([targets, sources])
    codes = np.unique(sources * n + targets)
    sources, targets = codes // n, codes % n
    firsts = np.searchsorted(sources, begins)
    for at, number in enumerate(numbers.tolist()):
        one = Place(f"{place.id}/{number + 1}", place.origin, place.file, place.uri)
        if number in astray:
            yield one.rejected(f"graph {number + 1} has an edge that leads out of it", id=one.id)
            continue
        begin, end = begins[at], begins[at + 1]
        some = slice(firsts[at], firsts[at + 1])
        indptr = np.searchsorted(sources[some], np.arange(begin, end + 1)).astype(np.int64)
        graph = LabelledGraph(
            indptr,
            (targets[some] - begin).astype(np.int32),
            None if labels is None else labels[order[begin:end]],
            bool(form.edges.directed),
        )
        told: dict[str, Json] = {"set": place.id.rpartition("/")[2]}
        if classes is not None:
            if number >= len(classes):
                yield one.rejected(f"graph {number + 1} has no line in {CLASSES}", id=one.id)
                continue
            told["label"] = _value(classes[number])
        loops = int(np.count_nonzero(sources[some] == targets[some]))
        m = some.stop - some.start
        yield item_of(graph, one, told, n_edges=int(m if graph.directed else (m - loops) // 2 + loops))
    there_are = set(numbers.tolist())
    for number in range(len(classes or ())):
        if number not in there_are:
            id = f"{place.id}/{number + 1}"
            yield place.rejected(f"graph {number + 1} has a label and no nodes", id=id)


def _data(files: Mapping[str, Opener], kind: str) -> bytes:
    with files[kind]() as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise SourceError(f"its {kind} is over {MOST_BYTES >> 30} GiB; split the set")
    return data


def _numbers(files: Mapping[str, Opener], kind: str, columns: int) -> Ints:
    """A file of whole numbers, (n, columns)."""
    if kind not in files:
        raise SourceError(f"the set has no {kind}")
    data = _data(files, kind)
    if not data.strip():
        return np.empty((0, columns), np.int64)
    try:
        found: Any = np.loadtxt(io.BytesIO(data.replace(b",", b" ")), np.int64, ndmin=2)
    except ValueError as error:
        raise SourceError(f"its {kind} holds something else than whole numbers ({error})") from None
    if found.shape[1] != columns:
        raise SourceError(f"its {kind} has {found.shape[1]} numbers a line and not {columns}")
    return np.asarray(found, np.int64)


def _lines(files: Mapping[str, Opener], kind: str) -> list[str] | None:
    if kind not in files:
        return None
    text = _data(files, kind).decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _labels(files: Mapping[str, Opener], n: int) -> NDArray[np.uint64]:
    lines = _lines(files, LABELS)
    if lines is None:
        raise SourceError(f"its nodes have no labels: there is no {LABELS}")
    if len(lines) != n:
        raise SourceError(f"its {LABELS} has {len(lines):,} lines for {n:,} nodes")
    known = {line: label_hash(line.replace(" ", "")) for line in set(lines)}
    return np.array([known[line] for line in lines], np.uint64)


def _value(told: str) -> Json:
    try:
        return int(told)
    except ValueError:
        return told
