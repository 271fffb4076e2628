"""Formats beyond lists and csv: each gives the graph that was written, and each fault a rejected edge or one line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.io
import zstandard
from scipy import sparse

from ingest.sources.edge_format import EdgeFormat
from ingest.sources.graphs import from_networkx, read_given, read_graph
from search.errors import SourceError
from tests.ingest.test_graph_sources import both_ways, edges_of

SMALL = {("a b", "c"): 2.0, ("c", "d"): 1.0}


@pytest.fixture
def weighted() -> nx.Graph:
    graph = nx.relabel_nodes(nx.gnm_random_graph(30, 60, seed=1), lambda k: f"n{k}")
    for k, (u, v) in enumerate(graph.edges):
        graph[u][v]["weight"] = 0.5 + k
    graph.add_node("alone")
    graph.add_edge("n1", "n1", weight=3.0)
    return graph


def matrix_of(graph: nx.Graph) -> sparse.csr_array:
    return sparse.csr_array(nx.to_scipy_sparse_array(graph, dtype=float))


@pytest.mark.parametrize(
    "name", ["g.json", "g.net", "g.graphml", "g.gexf", "g.gml", "g.json.gz", "g.net.zst"]
)
@pytest.mark.parametrize("directed", [False, True])
def test_formats_with_names_give_the_graph(
    tmp_path: Path, weighted: nx.Graph, name: str, directed: bool
) -> None:
    graph = weighted.to_directed() if directed else weighted
    if directed:
        graph.remove_edge("n1", "n1")  # Pajek's reader and ours agree on one arc; one direction suffices
        graph.remove_edges_from([edge for edge in graph.edges if edge[0] > edge[1]])
    plain = tmp_path / name.removesuffix(".gz").removesuffix(".zst")
    if plain.suffix == ".json":
        plain.write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    else:
        {".net": nx.write_pajek, ".graphml": nx.write_graphml, ".gexf": nx.write_gexf, ".gml": nx.write_gml}[
            plain.suffix
        ](graph, plain)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    if name.endswith(".zst"):
        (tmp_path / name).write_bytes(zstandard.compress(plain.read_bytes()))
    found, expected = read_graph(tmp_path / name), from_networkx(graph)
    assert found.graph.directed is directed
    assert found.graph.ids == expected.ids
    assert edges_of(found.graph) == edges_of(expected)
    assert (found.isolated, found.merged, found.rejected) == (1, 0, ())


@pytest.mark.parametrize("directed", [False, True])
def test_matrices_give_the_graph(tmp_path: Path, weighted: nx.Graph, directed: bool) -> None:
    graph = nx.DiGraph(list(weighted.edges)) if directed else weighted
    matrix = matrix_of(graph)
    symmetry = "general" if directed else "symmetric"
    scipy.io.mmwrite(tmp_path / "m.mtx", sparse.coo_array(matrix), symmetry=symmetry)
    (tmp_path / "m.mtx.gz").write_bytes(gzip.compress((tmp_path / "m.mtx").read_bytes()))
    scipy.io.mmwrite(tmp_path / "general.mtx", sparse.coo_array(matrix), symmetry="general")
    sparse.save_npz(tmp_path / "m.npz", matrix)
    scipy.io.savemat(tmp_path / "m.mat", {"network": sparse.csc_matrix(matrix), "note": "a graph"})
    for name, first in (("m.mtx", 1), ("m.mtx.gz", 1), ("general.mtx", 1), ("m.npz", 0), ("m.mat", 1)):
        names = {node: str(k + first) for k, node in enumerate(graph)}
        found = read_graph(tmp_path / name)
        assert found.graph.directed is directed, name
        assert edges_of(found.graph) == edges_of(from_networkx(nx.relabel_nodes(graph, names))), name
        assert (found.isolated, found.merged) == (0 if directed else 1, 0), name
    memory = read_given(matrix, ids=list(graph)).read
    assert memory.digest == read_given(graph).read.digest
    assert edges_of(memory.graph) == edges_of(from_networkx(graph))


def test_the_layout_of_the_gnn_benchmarks(tmp_path: Path) -> None:
    matrix = sparse.csr_array(np.array([[0, 1, 0], [0, 0, 1], [0, 1, 0]], np.float32))
    arrays = {
        "adj_data": matrix.data,
        "adj_indices": matrix.indices,
        "adj_indptr": matrix.indptr,
        "adj_shape": matrix.shape,
        "labels": np.array([1, 0, 1], np.int8),
        "class_names": ["fish", "fowl"],
        "node_names": ["x", "y", "z"],
    }
    np.savez(tmp_path / "g.npz", **arrays)
    found = read_graph(tmp_path / "g.npz")
    assert edges_of(found.graph) == {("x", "y"): 1, ("y", "z"): 1, ("z", "y"): 1}
    assert found.attributes == {"x": {"label": "fowl"}, "y": {"label": "fish"}, "z": {"label": "fowl"}}
    undirected = read_graph(tmp_path / "g.npz", EdgeFormat(False))
    assert edges_of(undirected.graph) == both_ways({("x", "y"): 1, ("y", "z"): 1})
    assert undirected.merged == 1
    np.savez(tmp_path / "o.npz", **arrays | {"adj_data": np.array([{}, {}, {}], object)})
    with pytest.raises(SourceError, match=r"is not a readable \.npz file"):  # it would need pickle
        read_graph(tmp_path / "o.npz")


def test_mat_with_groups_as_the_social_graphs_have_them(tmp_path: Path) -> None:
    network = sparse.csc_matrix(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], float))
    group = sparse.csc_matrix(np.array([[1, 1], [0, 1], [0, 0]], float))
    scipy.io.savemat(tmp_path / "g.mat", {"network": network, "group": group})
    found = read_graph(tmp_path / "g.mat")
    assert edges_of(found.graph) == both_ways({("1", "2"): 1, ("2", "3"): 1})
    assert found.attributes == {"1": {"group": [1, 2]}, "2": {"group": [2]}}
    scipy.io.savemat(tmp_path / "s.mat", {"Problem": {"A": network, "name": "x"}})
    assert edges_of(read_graph(tmp_path / "s.mat").graph) == edges_of(found.graph)


def test_cora_is_what_its_arrays_say(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("graphs/cora/cora.npz")
    found = read_graph(path)
    with np.load(path) as arrays:
        matrix = sparse.csr_array((arrays["adj_data"], arrays["adj_indices"], arrays["adj_indptr"]))
        row = arrays["node_names"].tolist().index("100935")
        assert found.attributes["100935"] == {"label": arrays["class_names"][arrays["labels"][row]].item()}
        assert found.graph.ids == tuple(sorted(arrays["node_names"].tolist()))
    assert found.graph.n_edges == matrix.nnz == 5429
    place = found.graph.ids.index("100935")
    assert (
        found.graph.indptr[place + 1] - found.graph.indptr[place]
        == matrix.indptr[row + 1] - matrix.indptr[row]
    )


def test_adjacency_lists(tmp_path: Path) -> None:
    (tmp_path / "g.adjlist").write_bytes(b"# head\na b c # tail\n\nd\nc  a\tb\r\ncaf\xe9 a\n")
    found = read_graph(tmp_path / "g.adjlist")
    assert edges_of(found.graph) == both_ways({("a", "b"): 1, ("a", "c"): 1, ("b", "c"): 1})
    assert (found.isolated, found.merged) == (1, 1)
    assert [(bad.line, bad.reason) for bad in found.rejected] == [(6, "the line is not UTF-8 text")]


def test_graphml_with_mixed_directions_defaults_and_a_graph_within(tmp_path: Path) -> None:
    (tmp_path / "g.graphml").write_text("""<?xml version="1.0"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="k1" for="node" attr.name="born" attr.type="int"><default>1900</default></key>
<key id="k2" for="edge" attr.name="weight" attr.type="double"/>
<key id="k3" for="node" attr.name="share" attr.type="double"/>
<graph edgedefault="directed">
<edge source="a" target="b"><data key="k2">2.5</data></edge>
<node id="a"><data key="k1">1815</data></node>
<node id="b"><data key="k3">NaN</data><graph><node id="inner"/></graph></node>
<node id="a"/>
<edge source="b" target="inner" directed="false"/>
<edge source="b" target="nobody"/>
<edge source="b" target="a"><data key="k2">-1</data></edge>
<hyperedge><endpoint node="a"/></hyperedge>
</graph></graphml>""")
    found = read_graph(tmp_path / "g.graphml")
    assert found.graph.directed
    assert edges_of(found.graph) == {("a", "b"): 2.5, ("b", "inner"): 1.0, ("inner", "b"): 1.0}
    assert found.attributes == {
        "a": {"born": 1815},
        "b": {"born": 1900, "share": None},
        "inner": {"born": 1900},
    }
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (10, "the node 'a' stands here again"),
        (12, "an end of the edge, 'nobody', is not among the nodes"),
        (13, "the weight '-1' of b - a is not a positive number"),
        (14, "a hyperedge has more than two ends"),
    ]
    undirected = read_graph(tmp_path / "g.graphml", EdgeFormat(False))
    assert edges_of(undirected.graph) == both_ways({("a", "b"): 2.5, ("b", "inner"): 1.0})


def test_gexf_with_labels_and_other_weights(tmp_path: Path) -> None:
    (tmp_path / "g.gexf").write_text("""<gexf xmlns="http://gexf.net/1.3"><graph defaultedgetype="undirected">
<attributes class="node"><attribute id="0" title="url" type="string"/><attribute id="1" title="top" type="boolean">
<default>false</default></attribute></attributes>
<attributes class="edge"><attribute id="0" title="calls" type="integer"/></attributes>
<nodes><node id="1" label="One"><attvalues><attvalue for="0" value="x.org"/></attvalues></node><node id="2"/></nodes>
<edges><edge source="1" target="2" weight="4"><attvalues><attvalue for="0" value="7"/></attvalues></edge>
<edge source="1" target="3"/></edges></graph></gexf>""")
    found = read_graph(tmp_path / "g.gexf")
    assert edges_of(found.graph) == both_ways({("1", "2"): 4.0})
    assert found.attributes == {"1": {"label": "One", "url": "x.org", "top": False}, "2": {"top": False}}
    assert [bad.reason for bad in found.rejected] == ["an end of the edge, '3', is not among the nodes"]
    assert edges_of(read_graph(tmp_path / "g.gexf", EdgeFormat(weight="calls")).graph) == both_ways(
        {("1", "2"): 7.0}
    )


def test_pajek_with_everything_in_it(tmp_path: Path) -> None:
    (tmp_path / "g.net").write_text(
        '*Network n\n% about\n*Vertices 5\n1 "Ann Lee" 0.1 0.2\n2 Bob\n3\n*Arcs :1 "likes"\n1 2 3\n2 1\n'
        "*Edges\n2 3 2\n3 9\n1 2 -4\n*Arcslist\n4 1 2\n"
    )
    found = read_graph(tmp_path / "g.net")
    assert found.graph.ids == ("3", "4", "5", "Ann Lee", "Bob")
    assert edges_of(found.graph) == {
        ("Ann Lee", "Bob"): 3,
        ("Bob", "Ann Lee"): 1,
        ("Bob", "3"): 2,
        ("3", "Bob"): 2,
        ("4", "Ann Lee"): 1,
        ("4", "Bob"): 1,
    }
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (None, "an end of the edge, 'vertex 9', is not among the nodes"),
        (13, "the weight '-4' is not a positive number"),
    ]
    (tmp_path / "h.net").write_text('*Vertices 2\n1 "Smith"\n2 "Smith"\n*Edges\n1 2\n')
    twins = read_graph(tmp_path / "h.net")
    assert edges_of(twins.graph) == both_ways({("1", "2"): 1})
    assert twins.attributes == {"1": {"label": "Smith"}, "2": {"label": "Smith"}}


NODES = '{"nodes": [{"id": 1}, {"id": "2"}], '
MTX = "%%MatrixMarket matrix coordinate "


@pytest.mark.parametrize(
    ("name", "content", "rejected"),
    [
        (
            "g.json",
            NODES + '"links": [{"source": 1, "target": 2}, {"source": 1, "target": 3}]}',
            "'3', is not among",
        ),
        ("g.json", NODES + '"edges": [{"source": 1, "target": 2}, 5]}', "an edge has no ends: 5"),
        (
            "g.json",
            NODES + '"links": [{"source": 1, "target": 2}, {"source": 1, "target": 2, "weight": NaN}]}',
            None,
        ),
        (
            "g.json",
            NODES + '"links": [{"source": 1, "target": 2}, {"source": 1, "target": 2, "weight": -1}]}',
            "'-1'",
        ),
        ("g.mtx", MTX + "real general\n% c\n2 2 3\n1 2 1\n2 1 1\n2 9 1\n", "'row 9', is not among the nodes"),
        ("g.mtx", MTX + "real symmetric\n2 2 5\n2 1 1.0\n", "5 entries are declared and 1 are there"),
        ("g.mtx", MTX + "real symmetric\n2 2 2\n2 1 1.0\n1 1 nan\n", "the weight 'nan'"),
    ],
)
def test_edges_that_cannot_be_used_are_rejected_and_the_rest_is_taken(
    tmp_path: Path, name: str, content: str, rejected: str | None
) -> None:
    (tmp_path / name).write_text(content)
    if rejected is None:  # NaN is no JSON
        with pytest.raises(SourceError, match="is not readable JSON"):
            read_graph(tmp_path / name)
        return
    found = read_graph(tmp_path / name)
    assert edges_of(found.graph) == both_ways({("1", "2"): 1})
    assert len(found.rejected) == 1
    assert rejected in found.rejected[0].reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.json", '{"nodes": []', "is not readable JSON"),
        ("g.json", "[1, 2]", "is no node-link JSON"),
        ("g.json", '{"nodes": [{"name": "a"}], "links": []}', "the node 0 (from 0) has no 'id'"),
        ("g.json", '{"nodes": [{"id": 1}, {"id": "1"}], "links": []}', "two nodes have the id '1' as text"),
        ("g.json", '{"nodes": [{"id": 1}], "links": []}', "has no edges (1 nodes without any)"),
        ("g.mtx", "1 2\n", "is no MatrixMarket file"),
        ("g.mtx", MTX + "complex general\n", "holds a general matrix of complex numbers"),
        ("g.mtx", MTX + "real general\n", "does not say how many rows"),
        ("g.mtx", MTX + "real general\n2 3 1\n1 2 1\n", "declares 2 x 3 for 1 entries"),
        ("g.mtx", MTX + "real general\n900000000 900000000 1\n1 2 1\n", "declares 900,000,000 x"),
        ("g.npz", "PK\x03\x04 and then nothing", "is not a readable .npz file"),
        ("g.mat", "MATLAB 5.0 MAT-file, or not", "is not a readable .mat file"),
        ("g.parquet", "PAR1 and then nothing", "is not a readable Parquet file"),
        ("g.net", "1 2\n", "it has no *Vertices"),
        ("g.net", "*Vertices many\n", "does not say how many vertices"),
        ("g.net", "*Vertices 900000000\n*Edges\n1 2\n", "declares 900,000,000 vertices"),
        ("g.net", "*Vertices 2\n*Matrix\n0 1\n1 0\n", "has its edges as a matrix"),
        (
            "g.gml",
            'graph [ node [ id 0 label "a" ] edge [ source 0 target 7 ] ]',
            "is not a readable gml file",
        ),
        ("g.gexf", "<gexf><graph><nodes><node id='a'", "is not well-formed XML"),
        ("g.adjlist", "a\nb\n", "has no edges (2 nodes without any)"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError) as caught:
        read_graph(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "suffix",
    ["txt", "csv", "adjlist", "graphml", "gexf", "gml", "net", "json", "mtx", "npz", "mat", "parquet"],
)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_garbage_is_one_line_in_every_format(tmp_path: Path, suffix: str, packing: str) -> None:
    path = tmp_path / f"g.{suffix}{packing}"
    path.write_bytes(np.random.default_rng(0).bytes(20_000))
    with pytest.raises(SourceError) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_bombs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "g.txt.gz").write_bytes(gzip.compress(b"a b\n" * (24 << 20), mtime=0))
    with pytest.raises(SourceError, match="unpacks to more than 250 times its size"):
        read_graph(tmp_path / "g.txt.gz")
    np.savez_compressed(tmp_path / "g.npz", adj_data=np.zeros(10 << 20), adj_indptr=np.zeros(2))
    with pytest.raises(SourceError, match="unpacks to more than 250 times its size"):
        read_graph(tmp_path / "g.npz")


def test_a_format_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "edges.dat").write_bytes(gzip.compress(b"source,target\na,b\n", mtime=0))
    assert edges_of(read_graph(tmp_path / "edges.dat", EdgeFormat(format="csv.gz")).graph) == both_ways(
        {("a", "b"): 1}
    )
    with pytest.raises(SourceError, match="there is no format 'xls' of graphs; use one of txt, "):
        read_graph(tmp_path / "edges.dat", EdgeFormat(format="xls"))
