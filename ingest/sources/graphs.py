"""Reads graphs from wherever people have them into compressed sparse rows: files, databases, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ingest.sources.contract import Graph
from ingest.sources.edge_format import ANY_EDGES, EdgeFormat
from ingest.sources.edge_lists import has_header, read_edge_list, read_table
from ingest.sources.edges import Attributes, Edges, GraphFile, digest, from_edges
from ingest.sources.formats import Packing
from ingest.sources.graph_matrices import read_mat, read_matrix_market, read_npz, take_arrays, take_matrix
from ingest.sources.graph_tables import address, is_url, read_parquet, read_sql
from ingest.sources.graph_texts import (
    json_object,
    read_adjacency,
    read_node_link,
    read_pajek,
    read_whole,
    take_pairs,
)
from ingest.sources.graph_xml import read_xml
from ingest.sources.inputs import laid_down, why
from ingest.sources.unpacking import unpacked
from search.encoders.graph_files import parsed
from search.errors import SourceError

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["EdgeFormat", "GraphFile", "digest", "from_edges", "from_networkx", "read_given", "read_graph"]

LISTS = (".txt", ".edgelist", ".edges", ".el")
TABLES = (".csv", ".tsv", ".parquet")
SEEKING = (".parquet", ".npz", ".mat")
OTHERS = (".adjlist", ".graphml", ".gexf", ".gml", ".net", ".paj", ".json", ".mtx", ".npz", ".mat")
MEMORY = "memory"  # the origin of a graph that was given as an object


@dataclass(frozen=True, slots=True)
class Given:
    """A graph, and where it came from, for the next time: a path, a database and query, or MEMORY."""

    read: GraphFile
    origin: str


def read_given(
    given: Any, form: EdgeFormat = ANY_EDGES, ids: Sequence[str] | None = None, *, edgeless: bool = False
) -> Given:
    """Read a graph from wherever it is.

    Args:
        given: a path, the URL of a database, a networkx graph, a sparse matrix of scipy, an array (m, 2) or (m, 3) of
            edges, or a tuple of sources, targets and, if any, weights.
        form: how it is to be read.
        ids: of the rows of a matrix, or of the nodes that the ends of edges count from 0; no others may have any.
        edgeless: take what is in memory also where it has nodes alone.

    Raises:
        SourceError: it cannot be read, or has no edges.
    """
    if isinstance(given, str | os.PathLike):
        if ids is not None:
            raise SourceError("a file has its own ids; leave them out")
        text = os.fspath(given)
        if isinstance(given, str) and is_url(given):
            edges = Edges(address(given, form.query))
            if form.format is not None:
                raise SourceError("a database has no format; leave it out")
            read_sql(given, form, edges)
            return Given(edges.finish(bool(form.directed), {}), edges.file)
        return Given(read_graph(Path(text), form), str(Path(text).absolute()))
    if form.columns or form.format or form.query:
        raise SourceError("columns, types, formats and queries are for files and databases; leave them out")
    edges = Edges("graph", edgeless=edgeless)
    if hasattr(given, "is_directed") and hasattr(given, "edges"):
        if ids is not None:
            raise SourceError("a networkx graph has its own ids; leave them out")
        attributes = _take_networkx(given, form.weight or "weight", edges)
        directed = given.is_directed() if form.directed is None else form.directed
        return Given(edges.finish(directed, attributes), MEMORY)
    from scipy import sparse

    names = None if ids is None else [str(id) for id in ids]
    if sparse.issparse(given):
        names = [str(k) for k in range(given.shape[0])] if names is None else names
        directed = take_matrix(given, names, form.directed, edges)
    else:
        take_arrays(given, names, edges)
        directed = bool(form.directed)
    return Given(edges.finish(directed, {}), MEMORY)


def read_graph(path: Path, form: EdgeFormat = ANY_EDGES) -> GraphFile:
    """Read a graph file; the format follows from the suffix, with or without `.gz` or `.zst` behind it.

    - `.csv`: comma (else semicolon or tab) separated. With a header the columns are those that `form` names, else
      those with usual names (source/target, from/to, u/v, src/dst; weight, w), else the first two, and a third
      one of numbers as weight. `.parquet` likewise.
    - `.graphml`, `.gexf`, `.net`/`.paj` (Pajek), `.json` (node-link), `.gml` (by networkx, up to 1 GiB), `.adjlist`.
    - `.mtx` (MatrixMarket), `.npz` (scipy, GNN benchmarks), `.mat`: adjacency matrices.
    - anything else is an edge list: `u v [weight]` between blanks; `#` and `%` begin a comment line; a line with
      a single id is a node without edges. A `.tsv` whose first line has usual column names is read as csv.

    Node ids are kept exactly as strings ("1" and "01" differ) and sorted, so that nothing depends on the order
    of the lines. `form.directed` None means what the file says, else undirected. An edge that stands several times
    (undirected: in either direction) is one edge; the weights are added up where the file has weights.

    Raises:
        SourceError: there is no such file, it cannot be parsed, a named column is missing, or it has no edges.
        MissingExtra: it needs a package that is not installed.
    """
    file = str(path)
    if form.query is not None:
        raise SourceError("a query is for a database; leave it out", file)
    if path.is_dir():
        raise SourceError(
            "is a folder, and this is one graph; a record for each graph in it makes: nearkin ingest graphs",
            file,
        )
    suffix, packing = format_of(path, form.format)
    edges = Edges(file)
    try:
        with path.open("rb") as stored, opened(stored, packing, seeking=suffix in SEEKING) as handle:
            return read_opened(handle, suffix, form, edges)
    except FileNotFoundError as error:
        raise SourceError("there is no such file; check the path", file) from error
    except OSError as error:
        raise SourceError(f"cannot be read ({why(error)}); check the file", file) from error


def read_opened(handle: Any, suffix: str, form: EdgeFormat, edges: Edges) -> GraphFile:
    """Read a graph from a file that is open, and can peek; `suffix` tells its format, `edges` are none so far.

    Raises:
        SourceError: it cannot be parsed, a named column is missing, or it has no edges and has to have some.
        OSError: it cannot be read.
    """
    attributes: Attributes = {}
    directed = form.directed
    if suffix == ".csv" or (suffix == ".tsv" and (form.columns or form.weight or has_header(handle))):
        read_table(handle, form, edges)
    elif suffix == ".parquet":
        read_parquet(handle, form, edges)
    else:
        _refuse_columns(suffix, form, edges.file)
        if suffix in OTHERS:
            directed, attributes = _other(handle, suffix, form, edges)
        else:
            read_edge_list(handle, edges)
    return edges.finish(bool(directed), attributes)


def format_of(path: Path, named: str | None) -> tuple[str, Packing]:
    """The suffix that tells the format, and how the file is packed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = {".gz": Packing.GZIP, ".zst": Packing.ZSTD}.get(suffixes[-1] if suffixes else "", Packing.NONE)
    suffix = "".join(suffixes[-2:-1] if packing is not Packing.NONE else suffixes[-1:])
    if named is None:
        return suffix, packing
    pieces = [f".{piece}" for piece in named.lower().strip(".").split(".")]
    if len(pieces) == 2 and pieces[1] in (".gz", ".zst"):
        packing = Packing.GZIP if pieces[1] == ".gz" else Packing.ZSTD
        pieces = pieces[:1]
    known = (*LISTS, *TABLES, *OTHERS)
    if len(pieces) != 1 or pieces[0] not in known:
        raise SourceError(
            f"there is no format '{named}' of graphs; use one of {', '.join(k[1:] for k in known)}"
        )
    return pieces[0], packing


@contextmanager
def opened(stored: IO[bytes], packing: Packing, *, seeking: bool) -> Iterator[Any]:
    """The unpacked bytes of a file, laid down where they have to seek."""
    with unpacked(stored, packing) as stream:
        if seeking and packing is not Packing.NONE:
            with laid_down(stream) as handle:
                yield handle
        else:
            yield stream


def _refuse_columns(suffix: str, form: EdgeFormat, file: str) -> None:
    attributed = suffix in (
        ".graphml",
        ".gexf",
        ".gml",
        ".json",
    )  # `weight` may name an attribute of edges there
    if form.columns or (form.weight and not attributed):
        raise SourceError("this format has no named columns; leave them out or give a .csv", file)


def _other(handle: IO[bytes], suffix: str, form: EdgeFormat, edges: Edges) -> tuple[bool | None, Attributes]:
    """Take a file of one of the formats that are neither lists nor tables."""
    if suffix in (".graphml", ".gexf"):
        return read_xml(handle, suffix, form, edges)
    if suffix in (".net", ".paj"):
        return read_pajek(handle, form, edges)
    if suffix == ".json":
        return read_node_link(handle, form, edges)
    if suffix == ".adjlist":
        read_adjacency(handle, edges)
        return form.directed, {}
    if suffix == ".mtx":
        return read_matrix_market(handle, form, edges), {}
    if suffix == ".npz":
        return read_npz(handle, form, edges)
    if suffix == ".mat":
        return read_mat(handle, form, edges)
    found = parsed(".gml", read_whole(handle, edges.file), edges.file)
    directed = found.is_directed() if form.directed is None else form.directed
    return directed, _take_networkx(found, form.weight or "weight", edges)


def from_networkx(graph: nx.Graph[Any], *, weight: str = "weight") -> Graph:
    """The graph in compressed sparse rows; nodes become strings, parallel edges one.

    Raises:
        SourceError: no edges, two nodes with the same name as a string, or a weight that is not a positive number.
    """
    edges = Edges("graph")
    _take_networkx(graph, weight, edges)
    for rejected in edges.rejected:
        raise SourceError(f"the edge {rejected.id} cannot be used: {rejected.reason}; give positive numbers")
    return edges.finish(graph.is_directed(), {}).graph


def _take_networkx(graph: Any, weight: str, edges: Edges) -> Attributes:
    """Take nodes and edges of a networkx graph; returns the attributes of its nodes."""
    names = {node: str(node).encode(errors="replace") for node in graph}
    if len(set(names.values())) < len(names):
        raise SourceError("two nodes have the same name as text; rename one", edges.file)
    edges.ids.numbers(list(names.values()))
    take_pairs(graph.edges(data=weight), edges)
    return {names[node].decode(): json_object(data) for node, data in graph.nodes(data=True) if data}
