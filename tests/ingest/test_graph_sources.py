"""Graph files: every format gives the same graph, bad lines are rejected by number, bad files are one-line errors."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from ingest.learn.nodes.contract import Graph
from ingest.sources import edge_lists
from ingest.sources.graphs import EdgeFormat, GraphFile, from_edges, from_networkx, read_graph
from search.errors import SourceError


def edges_of(graph: Graph) -> dict[tuple[str, str], float]:
    """Every stored entry of the rows, by ids."""
    found = {}
    for row, name in enumerate(graph.ids):
        columns = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
        assert (np.diff(columns) > 0).all()
        for k, column in enumerate(columns):
            at = graph.indptr[row] + k
            found[name, graph.ids[column]] = 1.0 if graph.weights is None else float(graph.weights[at])
    return found


def both_ways(edges: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return edges | {(v, u): w for (u, v), w in edges.items()}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return path

    return write


def test_edge_list_with_everything_in_it(written: Callable[[str, str | bytes], Path]) -> None:
    content = (
        "# a comment\n"
        "01\t1\n"
        "1 01\n"  # the same edge again
        "\n"
        "% another comment\n"
        "  a   b  \r\n"
        "alone\n"
        "self self\n"
        "Ünï ço\n"
        "a 1"  # no line end
    )
    found = read_graph(written("g.edgelist", content))
    assert found.graph.ids == ("01", "1", "a", "alone", "b", "self", "Ünï", "ço")
    assert edges_of(found.graph) == both_ways(
        {("01", "1"): 1, ("a", "b"): 1, ("self", "self"): 1, ("Ünï", "ço"): 1, ("1", "a"): 1}
    )
    assert found.graph.weights is None
    assert found.graph.n_edges == 5
    assert (found.self_loops, found.isolated, found.merged, found.rejected) == (1, 1, 1, ())


def test_weights_are_added_up_and_bad_ones_rejected_by_line(
    written: Callable[[str, str | bytes], Path],
) -> None:
    content = (
        "a b 2\nb a 0.5\na c nan\na d -1\na e 0\na f inf\na g heavy\nb c\nc d 1e-300\nc e 1e39\nb d 3 extra\n"
    )
    found = read_graph(written("g.txt", content))
    assert edges_of(found.graph) == both_ways({("a", "b"): 2.5, ("b", "c"): 1.0, ("b", "d"): 3.0})
    assert [bad.line for bad in found.rejected] == [3, 4, 5, 6, 7, 9, 10]
    assert found.rejected[4].reason == "the weight 'heavy' is not a positive number"
    assert found.rejected[4].file.endswith("g.txt")
    assert found.merged == 1
    assert found.isolated == 0


def test_lines_that_are_not_text_are_rejected(written: Callable[[str, str | bytes], Path]) -> None:
    found = read_graph(written("g.txt", b"a b\ncaf\xe9 b\n# \xe9\nn\0l b\nb c\n"))
    assert edges_of(found.graph) == both_ways({("a", "b"): 1, ("b", "c"): 1})
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (2, "the line is not UTF-8 text"),
        (4, "the line is not UTF-8 text"),
    ]
    table = read_graph(written("g.csv", b"from,to\na,b\ncaf\xe9,b\nb,c\n"))
    assert edges_of(table.graph) == edges_of(found.graph)
    assert [bad.line for bad in table.rejected] == [3]


def test_a_head_over_an_edge_list_is_told_and_no_edge(written: Callable[[str, str | bytes], Path]) -> None:
    for head in ("source target", "From\tTo", "src dst"):
        found = read_graph(written("g.txt", f"{head}\na b\nb c\n"))
        assert edges_of(found.graph) == both_ways({("a", "b"): 1, ("b", "c"): 1})
        assert [(bad.line, bad.reason) for bad in found.rejected] == [
            (1, "the line names columns and was taken for no edge")
        ]
    assert read_graph(written("g.txt", "u v\nv w\n")).graph.ids == ("u", "v", "w")
    with pytest.raises(SourceError, match="has no edges"):
        read_graph(written("g.txt", "source target"))


def test_block_ends_do_not_show(
    written: Callable[[str, str | bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    lines = [f"n{u} n{v} {w}" for u, v, w in rng.integers(1, 40, (300, 3))]
    lines[100], lines[250] = "n1 n2 bad", "n1 n2 nan"
    lines[200] = '"n 7",n8,1'
    whole = [read_graph(written(name, "\n".join(lines))) for name in ("a.txt",)]
    commas = "\n".join(line if '"' in line else line.replace(" ", ",") for line in lines)
    whole.append(read_graph(written("a.csv", commas)))
    monkeypatch.setattr(edge_lists, "BLOCK", 64)
    pieces = [read_graph(written("b.txt", "\n".join(lines))), read_graph(written("b.csv", commas))]
    for one, other in zip(whole, pieces, strict=True):
        assert one.digest == other.digest
        assert [bad.line for bad in one.rejected] == [bad.line for bad in other.rejected]
    assert [bad.line for bad in whole[1].rejected] == [101, 251]
    assert "n 7" in whole[1].graph.ids


@pytest.mark.parametrize("directed", [False, True])
def test_a_big_graph_is_what_networkx_reads(
    written: Callable[[str, str | bytes], Path], directed: bool
) -> None:
    rng = np.random.default_rng(1)
    ends = rng.integers(0, 500, (5000, 2))
    weights = rng.integers(1, 9, 5000)
    text = "\n".join(f"{u} {v} {w}" for (u, v), w in zip(ends, weights, strict=True))
    found = read_graph(written("g.edges", text), EdgeFormat(directed))
    expected = (nx.DiGraph if directed else nx.Graph)()
    for (u, v), w in zip(ends.tolist(), weights.tolist(), strict=True):
        before = expected.get_edge_data(str(u), str(v), {"weight": 0})["weight"]
        expected.add_edge(str(u), str(v), weight=before + w)
    assert found.graph.ids == tuple(sorted(expected))
    matrix = nx.to_scipy_sparse_array(expected, nodelist=found.graph.ids, format="csr")
    matrix.sort_indices()
    assert (found.graph.indptr == matrix.indptr).all()
    assert (found.graph.indices == matrix.indices).all()
    assert found.graph.weights is not None
    np.testing.assert_allclose(found.graph.weights, matrix.data)
    assert found.graph.n_edges == expected.number_of_edges()
    assert found.merged == 5000 - expected.number_of_edges()
    same = from_networkx(expected)
    assert (same.weights == found.graph.weights).all()
    assert same.ids == found.graph.ids


def test_the_digest_is_of_the_graph_and_not_of_the_file(written: Callable[[str, str | bytes], Path]) -> None:
    rng = np.random.default_rng(2)
    lines = [f"{u} {v} {w + 0.1:.3f}" for u, v, w in rng.random((200, 3)).round(1)]
    first = read_graph(written("a.txt", "\n".join(lines)))
    shuffled = [" ".join([*line.split()[1::-1], line.split()[2]]) for line in rng.permutation(lines)]
    second = read_graph(written("b.txt.gz", "# again\n" + "\n".join(shuffled)))
    assert first.digest == second.digest
    assert first.graph.weights is not None
    assert second.graph.weights is not None
    assert first.graph.weights.tobytes() == second.graph.weights.tobytes()
    others = [
        read_graph(written("c.txt", "\n".join(lines[:-1]))),
        read_graph(written("d.txt", "\n".join([*lines, "alone\n"]))),
        read_graph(written("e.txt", "\n".join(lines)), EdgeFormat(True)),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 4
    assert len(first.digest) == 16


EXPECTED = {("x", "y"): 2.0, ("y", "z"): 1.5}


@pytest.mark.parametrize(
    ("name", "content", "arguments"),
    [
        ("g.csv", "source,target,weight\nx,y,2\ny,z,1.5\n", {}),
        ("g.csv", "Weight,To,From\n2,y,x\n1.5,z,y\n", {}),
        ("g.csv", "day,src,dst,w\nmon,x,y,2\ntue,y,z,1.5\n", {}),
        ("g.csv", "x,y,2\ny,z,1.5\n", {}),
        ("g.csv", "x,y,2\r\ny,z,1.5\r\n", {}),
        ("g.csv", "\ufeffsource;target;weight\nx;y;2\ny;z;1.5\n", {}),
        ("g.csv", "left,right,count\nx,y,2\ny,z,1.5\n", {}),
        ("g.csv", 'source,target,weight\n"x", y ,2\n"y","z",1.5\n', {}),
        (
            "g.csv",
            "n,who,whom,much\n1,x,y,2\n2,y,z,1.5\n",
            {"source": "who", "target": "whom", "weight": "much"},
        ),
        ("g.csv.gz", "source,target,weight\nx,y,2\ny,z,1.5\n", {}),
        ("g.tsv", "source\ttarget\tweight\nx\ty\t2\ny\tz\t1.5\n", {}),
        ("g.tsv", "\ufeffsource\ttarget\tweight\nx\ty\t2\ny\tz\t1.5\n", {}),
        ("g.tsv", "x\ty\t2\ny\tz\t1.5\n", {}),
        ("g.edgelist", "x y {'weight': 2}\ny z {'weight': 1.5, 'since': 'may'}\n", {}),
        (
            "g.gml",
            """graph [ node [ id 0 label "x" ] node [ id 1 label "y" ] node [ id 2 label "z" ]
            edge [ source 0 target 1 weight 2 ] edge [ source 1 target 2 weight 1.5 ] ]""",
            {},
        ),
    ],
)
def test_tables_and_lists_give_the_same_graph(
    written: Callable[[str, str | bytes], Path], name: str, content: str, arguments: dict[str, str]
) -> None:
    found = read_graph(written(name, content), EdgeFormat(**arguments))
    assert edges_of(found.graph) == both_ways(EXPECTED)
    assert found.rejected == ()


def test_rows_that_lack_something_are_rejected(written: Callable[[str, str | bytes], Path]) -> None:
    content = 'source,target,weight\nx,y,2\nx\n,y,1\n\ny,z,\nz,"a,b",4\nq,r,-3\n'
    found = read_graph(written("g.csv", content))
    assert edges_of(found.graph) == both_ways({("x", "y"): 2.0, ("z", "a,b"): 4.0})
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (3, "too few columns (1)"),
        (4, "an end of the edge is empty"),
        (6, "the weight '' is not a positive number"),
        (8, "the weight '-3' is not a positive number"),
    ]


def test_networkx_writes_and_we_read(tmp_path: Path) -> None:
    graph = nx.les_miserables_graph()
    graph.add_node("alone", born=1815, tags="x", happy=False, share=0.5)
    expected = from_networkx(graph)
    nx.write_graphml(graph, tmp_path / "g.graphml")
    nx.write_gexf(graph, tmp_path / "g.gexf")
    nx.write_gml(graph, tmp_path / "g.gml", stringizer=str)
    for name in ("g.graphml", "g.gexf", "g.gml"):
        found = read_graph(tmp_path / name)
        assert edges_of(found.graph) == edges_of(expected), name
        assert found.isolated == 1
        assert not found.graph.directed
    assert read_graph(tmp_path / "g.graphml").attributes == {
        "alone": {"born": 1815, "tags": "x", "happy": False, "share": 0.5}
    }
    plain = nx.Graph([("a", "b"), ("b", "c")])
    plain.add_node("d")
    nx.write_adjlist(plain, tmp_path / "g.adjlist")
    found = read_graph(tmp_path / "g.adjlist")
    assert edges_of(found.graph) == both_ways({("a", "b"): 1, ("b", "c"): 1})
    assert found.isolated == 1
    nx.write_edgelist(plain, tmp_path / "g.edgelist")  # a b {}
    assert read_graph(tmp_path / "g.edgelist").graph.weights is None


def test_direction_and_parallel_edges_of_networkx(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph()
    graph.add_edge("a", "b", weight=2.0)
    graph.add_edge("a", "b", weight=3.0)
    graph.add_edge("b", "a", weight=1.0)
    graph.add_edge("b", "c", weight=float("nan"))
    nx.write_graphml(graph, tmp_path / "g.graphml")
    found = read_graph(tmp_path / "g.graphml")
    assert found.graph.directed
    assert edges_of(found.graph) == {("a", "b"): 5.0, ("b", "a"): 1.0}
    assert found.merged == 1
    assert [bad.id for bad in found.rejected] == ["b - c"]
    assert found.isolated == 1
    undirected = read_graph(tmp_path / "g.graphml", EdgeFormat(False))
    assert edges_of(undirected.graph) == both_ways({("a", "b"): 6.0})


BOMB = """<?xml version="1.0"?><!DOCTYPE g [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>
<graphml><graph edgedefault="undirected"><node id="&b;"/></graph></graphml>"""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "has no edges; give a graph with at least one"),
        ("comments.txt", "# nothing\n\n", "has no edges"),
        ("nodes.txt", "a\nb\n", "has no edges"),
        ("bad.txt", "a b x\n", "has no edges (rejected: 1; first: the weight 'x' is not a positive number)"),
        ("empty.csv", "", "has no edges"),
        ("header.csv", "source,target\n", "has no edges"),
        ("empty.graphml", "", "is empty"),
        ("cut.graphml", "<graphml><graph>", "is not well-formed XML"),
        ("other.graphml", "<html></html>", "is not a readable graphml file"),
        ("bomb.graphml", BOMB, "declares XML entities"),
        ("bomb.gexf", BOMB, "declares XML entities"),
        ("bad.gml", "graph [ node [", "is not a readable gml file"),
        ("cut.txt.gz", None, "cannot be read"),
        ("wide.txt", "a b\n".encode("utf-16"), "has no edges"),
    ],
)
def test_bad_files_are_one_line_errors(
    tmp_path: Path, name: str, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is None:
        path.write_bytes(gzip.compress(b"a b\n" * 10_000, mtime=0)[:-20])
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SourceError) as caught:
        read_graph(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_folders_and_columns_are_named(
    tmp_path: Path, written: Callable[[str, str | bytes], Path]
) -> None:
    with pytest.raises(SourceError, match="there is no such file; check the path"):
        read_graph(tmp_path / "nowhere.csv")
    with pytest.raises(SourceError, match="nearkin ingest graphs"):
        read_graph(tmp_path)
    table = written("g.csv", "who,whom\nx,y\n")
    with pytest.raises(SourceError, match="has no column 'friend'; its columns are who, whom"):
        read_graph(table, EdgeFormat(source="who", target="friend"))
    with pytest.raises(SourceError, match="name both; they are who, whom"):
        read_graph(table, EdgeFormat(source="who"))
    with pytest.raises(SourceError, match="this format has no named columns"):
        read_graph(written("g.txt", "x y\n"), EdgeFormat(source="who"))


def test_edges_given_by_the_caller() -> None:
    graph = from_edges(["b", "a", "b"], ["a", "c", "a"], [1.0, 2.0, 4.0])
    assert edges_of(graph) == both_ways({("a", "b"): 5.0, ("a", "c"): 2.0})
    with pytest.raises(SourceError, match="weight 1 is nan; give positive finite numbers"):
        from_edges(["a", "b"], ["b", "c"], [1.0, float("nan")])
    with pytest.raises(SourceError, match="differ in length"):
        from_edges(["a", "b"], ["b"])
    with pytest.raises(SourceError, match="has no edges"):
        from_edges([], [])
    with pytest.raises(SourceError, match="two nodes have the same name"):
        from_networkx(nx.Graph([(1, "1")]))
    with pytest.raises(SourceError, match="give positive numbers"):
        from_networkx(nx.Graph([(1, 2, {"weight": 0})]))


def test_karate_and_ppi_as_they_are(shared_data: Callable[[str], Path]) -> None:
    karate: GraphFile = read_graph(shared_data("graphs/karate/karate.edgelist"))
    assert (karate.graph.n_nodes, karate.graph.n_edges, karate.merged) == (34, 77, 1)
    ppi = read_graph(shared_data("graphs/ppi/PPI.ungraph"))
    assert ppi.graph.n_nodes == 3890
    assert ppi.graph.n_edges == 38739 - ppi.merged
