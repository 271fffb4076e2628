"""Whole graphs taken in from every format, set and archive, brought up to date, and asked for by a graph."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import io as scipy_io
from scipy import sparse

import ingest
import search
from ingest.cli.main import app
from ingest.sources.contract import Item, Rejected
from ingest.sources.graph_records import GraphFormat
from ingest.sources.whole_graphs import WholeGraphs
from search.cli.main import outcome
from search.encoders.graph_files import read_graph_file
from search.encoders.graph_items import LabelledGraph, labelled
from search.encoders.graph_words import counted
from search.errors import CollectionError, ModelError, QueryError, SourceError, UnknownSpace

SMALL = ingest.GraphSettings(dim=8)


def words(graph: LabelledGraph | None) -> list[tuple[int, int]]:
    assert graph is not None
    found = counted([graph], 3)
    return list(zip(found.words.tolist(), found.counts.tolist(), strict=True))


def items(source: WholeGraphs) -> dict[str, Item]:
    found = list(source)
    assert not [one for one in found if isinstance(one, Rejected)]
    return {one.record.id: one for one in found if isinstance(one, Item)}


def rejected(source: WholeGraphs) -> list[Rejected]:
    return [one for one in source if isinstance(one, Rejected)]


def ring(n: int, chords: int = 0) -> Any:
    graph = nx.cycle_graph(n)
    graph.add_edges_from([(k, (k + 3) % n) for k in range(chords)])
    return graph


def node_link(given: Any, **told: Any) -> dict[str, Any]:
    nodes = [{"id": node, **data} for node, data in given.nodes(data=True)]
    links = [{"source": u, "target": v} for u, v in given.edges()]
    return {"directed": given.is_directed(), "nodes": nodes, "links": links, **told}


def write_all(folder: Path, graph: Any) -> None:
    """The same undirected graph in each format."""
    edges = list(graph.edges())
    nx.write_edgelist(graph, folder / "a.edgelist", data=False)
    nx.write_edgelist(graph, folder / "a.txt", data=False)
    (folder / "a.csv").write_text(
        "source,target\n" + "".join(f"{u},{v}\n" for u, v in edges), encoding="utf-8"
    )
    (folder / "a.tsv").write_text(
        "source\ttarget\n" + "".join(f"{u}\t{v}\n" for u, v in edges), encoding="utf-8"
    )
    table = {"source": [str(u) for u, _ in edges], "target": [str(v) for _, v in edges]}
    parquet.write_table(pa.table(table), folder / "a.parquet")
    nx.write_adjlist(graph, folder / "a.adjlist")
    nx.write_graphml(graph, folder / "a.graphml")
    nx.write_gexf(graph, folder / "a.gexf")
    nx.write_gml(graph, folder / "a.gml")
    nx.write_pajek(graph, folder / "a.net")
    (folder / "a.json").write_text(json.dumps(node_link(graph)), encoding="utf-8")
    matrix = sparse.csr_matrix(nx.to_scipy_sparse_array(graph))
    scipy_io.mmwrite(folder / "a.mtx", matrix, symmetry="symmetric")
    sparse.save_npz(folder / "a.npz", matrix)
    scipy_io.savemat(folder / "a.mat", {"network": matrix})
    (folder / "a.edges.gz").write_bytes(gzip.compress((folder / "a.edgelist").read_bytes()))


def test_every_format_gives_the_same_graph(tmp_path: Path) -> None:
    graph = ring(9, 2)
    write_all(tmp_path, graph)
    found = items(WholeGraphs([tmp_path]))
    assert len(found) == 15
    for id, item in found.items():
        assert words(item.graph) == words(labelled(graph)), id
        assert item.record.metadata == {"nodes": 9, "edges": 11, "directed": False}, id
        assert item.record.kind == "graph"
    assert len(WholeGraphs([tmp_path])) == 0  # a .json may hold many


@pytest.mark.parametrize("suffix", ["edgelist", "txt", "graphml", "gexf", "gml", "net", "json"])
@pytest.mark.parametrize("directed", [False, True])
def test_a_question_reads_a_file_as_ingest_does(tmp_path: Path, suffix: str, directed: bool) -> None:
    graph: Any = nx.gnp_random_graph(12, 0.25, seed=1, directed=directed)
    graph.remove_nodes_from(list(nx.isolates(graph)))
    for node in graph:
        graph.nodes[node]["kind"] = "even" if node % 2 == 0 else node
    if suffix in ("edgelist", "txt", "net"):
        if directed and suffix != "net":
            pytest.skip("an edge list says nothing of direction")
        for node in graph:
            del graph.nodes[node]["kind"]
    if suffix in ("graphml", "gexf"):
        nx.set_node_attributes(graph, {node: str(kind) for node, kind in graph.nodes(data="kind")}, "kind")
    write_all(tmp_path, graph) if not directed and suffix in ("edgelist", "txt") else None
    if suffix == "json":
        (tmp_path / "a.json").write_text(json.dumps(node_link(graph)), encoding="utf-8")
    elif suffix not in ("edgelist", "txt"):
        {"graphml": nx.write_graphml, "gexf": nx.write_gexf, "gml": nx.write_gml, "net": nx.write_pajek}[
            suffix
        ](graph, tmp_path / f"a.{suffix}")
    label = None if suffix in ("edgelist", "txt", "net") else "kind"
    file = tmp_path / f"a.{suffix}"
    (item,) = items(WholeGraphs([file], GraphFormat(label))).values()
    assert words(labelled(file, label)) == words(item.graph)
    assert words(labelled(graph, label)) == words(item.graph)


def test_a_folder_says_where_graphs_lie_and_passes_over_what_is_none(tmp_path: Path) -> None:
    for kind in ("rings", "stars"):
        (tmp_path / kind).mkdir()
    nx.write_edgelist(ring(5), tmp_path / "rings/a.edgelist")
    nx.write_graphml(nx.star_graph(4), tmp_path / "stars/b.graphml")
    (tmp_path / "README.txt").write_text("about it", encoding="utf-8")
    (tmp_path / "notes.md").write_text("about it", encoding="utf-8")
    found = items(WholeGraphs([tmp_path]))
    assert {id: (item.record.metadata or {})["folder"] for id, item in found.items()} == {
        "rings/a.edgelist": "rings",
        "stars/b.graphml": "stars",
    }
    assert found["rings/a.edgelist"].record.uri == str(tmp_path / "rings/a.edgelist")
    assert len(WholeGraphs([tmp_path])) == 2
    with pytest.raises(SourceError, match="cannot be read as graphs; use"):
        WholeGraphs([tmp_path / "notes.md"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no graph in this folder"):
        WholeGraphs([tmp_path / "empty"])


def test_a_bad_file_ends_nothing_and_is_told(tmp_path: Path) -> None:
    nx.write_edgelist(ring(5), tmp_path / "good.edgelist", data=False)
    (tmp_path / "cut.graphml").write_text("<graphml><graph><node id='1'/>", encoding="utf-8")
    (tmp_path / "nan.edgelist").write_text("a b 1\nb c nan\n", encoding="utf-8")
    (tmp_path / "none.json").write_text('{"nodes": [], "links": []}', encoding="utf-8")
    (tmp_path / "dangling.json").write_text(
        '{"nodes": [{"id": 1}], "links": [{"source": 1, "target": 2}]}', encoding="utf-8"
    )
    (tmp_path / "twice.json").write_text('{"nodes": [{"id": 1}, {"id": "1"}], "links": []}', encoding="utf-8")
    (tmp_path / "empty.gml").write_text("", encoding="utf-8")
    told = {Path(one.file).name: one.reason for one in rejected(WholeGraphs([tmp_path]))}
    assert set(told) == {
        "cut.graphml",
        "nan.edgelist",
        "none.json",
        "dangling.json",
        "twice.json",
        "empty.gml",
    }
    assert "not well-formed XML" in told["cut.graphml"]
    assert told["nan.edgelist"].startswith("1 of its edges cannot be used (the first in line 2: ")
    assert told["none.json"] == "the graph has no nodes"
    assert "'2', is not among the nodes" in told["dangling.json"]
    assert "two nodes have the id '1'" in told["twice.json"]
    assert all(
        one.id is not None for one in rejected(WholeGraphs([tmp_path]))
    )  # so that --prune keeps what was there


def test_a_graph_may_have_one_node_no_edges_and_loops(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"nodes": [{"id": "a"}], "links": []}', encoding="utf-8")
    (tmp_path / "lone.edgelist").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "loop.edgelist").write_text("a a\na b\nb a\n", encoding="utf-8")
    found = items(WholeGraphs([tmp_path]))
    sizes = {
        id: ((item.record.metadata or {})["nodes"], (item.record.metadata or {})["edges"])
        for id, item in found.items()
    }
    assert sizes == {"one.json": (1, 0), "lone.edgelist": (2, 0), "loop.edgelist": (2, 2)}
    loop = nx.Graph([("a", "a"), ("a", "b")])
    assert words(found["loop.edgelist"].graph) == words(labelled(loop))


def test_lines_of_graphs_have_their_own_ids_and_fields(tmp_path: Path) -> None:
    lines = [
        json.dumps(node_link(ring(5), id="five", label="ring")),
        json.dumps(node_link(ring(6), graph={"mass": 6.5, "name": "six"})),
        json.dumps(node_link(nx.star_graph(3))),
        "{",
        "[1]",
        '{"nodes": [{"id": 1, "big": 123456789012345678901234567890}], "links": []}',
        '{"nodes": [{"id": 1}, {"id": 2}], "links": [{"source": 1, "target": 2, "weight": NaN}]}',
        '{"nodes": [{"id": 1}, {"id": 2}], "links": [{"source": 1, "target": 2, "weight": Infinity}]}',
        "",
    ]
    (tmp_path / "g.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = list(WholeGraphs([tmp_path / "g.jsonl"]))
    records = [one.record for one in found if isinstance(one, Item)]
    assert [one.id for one in records] == ["five", "six", "g.jsonl/3"]
    assert records[0].metadata == {"nodes": 5, "edges": 5, "directed": False, "label": "ring"}
    assert records[1].metadata == {"nodes": 6, "edges": 6, "directed": False, "mass": 6.5}
    bad = [one for one in found if isinstance(one, Rejected)]
    assert [one.line for one in bad] == [4, 5, 6, 7, 8]
    assert "not JSON" in bad[0].reason
    assert all("is not a positive number" in one.reason for one in bad[3:])
    by_label = list(WholeGraphs([tmp_path / "g.jsonl"], GraphFormat(id="label")))
    assert [one.record.id for one in by_label if isinstance(one, Item)] == ["ring"]
    array = [json.loads(line) for line in lines[:3]]
    for name, told in (("a.json", array), ("b.json", {"graphs": array})):
        (tmp_path / name).write_text(json.dumps(told), encoding="utf-8")
        assert list(items(WholeGraphs([tmp_path / name]))) == ["five", "six", f"{name}/3"]


# ---- sets in the TU layout ----------------------------------------------------------------------------------

TU = {
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n4, 4\n",
    "graph_indicator": "1\n1\n1\n2\n2\n",
    "graph_labels": "1\n-1\n",
    "node_labels": "0\n1\n0\n7\n7\n",
}


def write_tu(folder: Path, files: dict[str, str], name: str = "SET") -> None:
    folder.mkdir(exist_ok=True)
    for kind, text in files.items():
        (folder / f"{name}_{kind}.txt").write_text(text, encoding="utf-8")


def test_a_tu_set_by_hand(tmp_path: Path) -> None:
    write_tu(tmp_path / "SET", TU)
    found = items(WholeGraphs([tmp_path]))
    assert {id: item.record.metadata for id, item in found.items()} == {
        "SET/1": {"nodes": 3, "edges": 2, "directed": False, "set": "SET", "label": 1},
        "SET/2": {"nodes": 2, "edges": 2, "directed": False, "set": "SET", "label": -1},
    }
    first, second = nx.path_graph(3), nx.Graph([(0, 1), (0, 0)])
    nx.set_node_attributes(first, {0: 0, 1: 1, 2: 0}, "label")
    nx.set_node_attributes(second, 7, "label")
    assert words(found["SET/1"].graph) == words(labelled(first, "label"))
    assert words(found["SET/2"].graph) == words(labelled(second, "label"))
    by_degree = items(WholeGraphs([tmp_path], settled=True))
    assert words(by_degree["SET/1"].graph) == words(labelled(nx.path_graph(3)))
    alone = items(WholeGraphs([tmp_path / "SET/SET_A.txt"]))
    assert [words(one.graph) for one in alone.values()] == [words(one.graph) for one in found.values()]
    assert list(alone) == ["SET/1", "SET/2"]


def test_nodes_of_a_tu_set_may_stand_in_any_order(tmp_path: Path) -> None:
    """The graphs of `TU` with their nodes in turns: 1 4 2 5 3."""
    rank = {1: 1, 4: 2, 2: 3, 5: 4, 3: 5}
    pairs = [line.split(", ") for line in TU["A"].splitlines()]
    mixed = {
        "A": "".join(f"{rank[int(u)]}, {rank[int(v)]}\n" for u, v in pairs),
        "graph_indicator": "1\n2\n1\n2\n1\n",
        "graph_labels": TU["graph_labels"],
        "node_labels": "0\n7\n1\n7\n0\n",
    }
    write_tu(tmp_path / "SET", TU)
    write_tu(tmp_path / "MIXED", mixed, "MIXED")
    found = items(WholeGraphs([tmp_path]))
    for number in (1, 2):
        assert words(found[f"SET/{number}"].graph) == words(found[f"MIXED/{number}"].graph)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"A": "1, 2\n2, x\n"}, "something else than whole numbers"),
        ({"A": "1, 2, 3\n"}, "3 numbers a line and not 2"),
        ({"graph_indicator": ""}, "is empty"),
        ({"graph_indicator": None}, "_graph_indicator.txt"),
        ({"graph_indicator": "0\n1\n1\n2\n2\n"}, "numbered from 1"),
        ({"node_labels": "0\n1\n"}, "2 lines for 5 nodes"),
        ({"A": "1, 2\n3, 4\n"}, "graph 1 has an edge that leads out of it"),
        ({"A": "1, 2\n2, 99\n"}, "graph 1 has an edge that leads out of it"),
        ({"A": "98, 99\n"}, "nodes that it does not have"),
        ({"graph_labels": "1\n"}, "graph 2 has no line"),
        ({"graph_labels": "1\n-1\n1\n"}, "graph 3 has a label and no nodes"),
    ],
)
def test_a_bad_tu_set_is_told(tmp_path: Path, change: dict[str, str | None], reason: str) -> None:
    write_tu(tmp_path / "SET", {kind: text for kind, text in (TU | change).items() if text is not None})
    write_tu(tmp_path / "GOOD", TU, "GOOD")
    source = WholeGraphs([tmp_path])
    assert any(reason in one.reason for one in rejected(source))
    assert not [one for one in source if isinstance(one, Item) and one.record.id.endswith(".txt")]
    good = [one.record.id for one in source if isinstance(one, Item) and one.record.id.startswith("GOOD")]
    assert good == ["GOOD/1", "GOOD/2"]


def test_archives_are_read_as_folders_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "SET.zip", "w") as archive:
        for kind, text in TU.items():
            archive.writestr(f"SET/SET_{kind}.txt", text)
        archive.writestr("SET/README.txt", "about it")
        archive.writestr("other/ring.edgelist", "a b\nb c\nc a\n")
        archive.writestr("../out.edgelist", "a b\n")
        archive.writestr("inner.zip", b"")
    found = list(WholeGraphs([tmp_path / "SET.zip"], GraphFormat(None), settled=True))
    good = {one.record.id: one for one in found if isinstance(one, Item)}
    assert list(good) == ["SET.zip/SET/1", "SET.zip/SET/2", "SET.zip/other/ring.edgelist"]
    assert words(good["SET.zip/other/ring.edgelist"].graph) == words(labelled(nx.cycle_graph(3)))
    reasons = [one.reason for one in found if isinstance(one, Rejected)]
    assert any("leads out of the archive" in reason for reason in reasons)
    assert any("an archive inside an archive" in reason for reason in reasons)
    with tarfile.open(tmp_path / "g.tar.gz", "w:gz") as tar:
        data = json.dumps(node_link(ring(7))).encode()
        info = tarfile.TarInfo("seven.json")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    (item,) = items(WholeGraphs([tmp_path / "g.tar.gz"])).values()
    assert words(item.graph) == words(labelled(ring(7)))
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    (bad,) = rejected(WholeGraphs([tmp_path / "bad.zip"]))
    assert "damaged" in bad.reason


# ---- the verb -----------------------------------------------------------------------------------------------


def some(n: int, seed: int = 0) -> list[Any]:
    return [
        ring(6 + number % 5, number % 3)
        if number % 2
        else nx.random_labeled_tree(6 + number % 5, seed=seed + number)
        for number in range(n)
    ]


def fill(folder: Path, graphs: list[Any]) -> None:
    folder.mkdir(exist_ok=True)
    for number, graph in enumerate(graphs):
        nx.write_edgelist(graph, folder / f"{number:02}.edgelist", data=False)


def test_a_second_run_encodes_what_is_new_and_keeps_the_measure(tmp_path: Path) -> None:
    fill(tmp_path / "g", some(20))
    with search.open(tmp_path / "c") as there:
        first = ingest.graphs(there, tmp_path / "g", settings=SMALL)
        assert (first.added, first.model, first.vectors) == (20, "wl", 20)
        weights = there.spaces()["graphs"].encoder.weights
        again = ingest.graphs(there, tmp_path / "g")
        assert (again.unchanged, again.vectors) == (20, 0)
        nx.write_edgelist(ring(9, 3), tmp_path / "g/00.edgelist", data=False)
        nx.write_edgelist(ring(8), tmp_path / "g/new.edgelist", data=False)
        (tmp_path / "g/01.edgelist").unlink()
        third = ingest.graphs(there, tmp_path / "g", prune=True)
        assert (third.added, third.updated, third.unchanged, third.removed) == (1, 1, 18, 1)
        assert there.spaces()["graphs"].encoder.weights == weights
        assert there.get("01.edgelist") == [None]
        others = there.search(like="new.edgelist", k=18)
        by_graph = [hit for hit in there.search(graph=ring(8), k=20) if hit.id != "new.edgelist"]
        assert len(by_graph) == 19
        np.testing.assert_allclose(
            [hit.score for hit in by_graph][:18], [hit.score for hit in others], atol=1e-6
        )


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third commit fails; the next run finds the encoder that was learned, and what was committed."""
    monkeypatch.setattr("ingest.pipeline.ENCODE_AT_ONCE", 4)
    graphs = some(20)
    with search.open(tmp_path / "c") as there:
        from search.writer import Writer

        put, calls = Writer.put, []

        def failing(self: Writer, *given: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise OSError("the disk is full")
            return put(self, *given, **named)

        monkeypatch.setattr(Writer, "put", failing)
        with pytest.raises(OSError, match="the disk is full"):
            ingest.graphs(there, graphs, settings=SMALL)
        monkeypatch.setattr(Writer, "put", put)
        assert there.count() == 8
        report = ingest.graphs(there, graphs)
        assert (report.added, report.unchanged) == (12, 8)
        whole = there.encoder("graphs").encode([labelled(graphs[0])])
        assert there.search(vector=whole[0], k=1)[0].score == pytest.approx(1, abs=1e-6)


def test_the_nearest_by_a_graph_are_those_of_its_vector(tmp_path: Path) -> None:
    graphs = some(30)
    labels = [{"shape": "ring" if number % 2 else "tree", "name": number} for number in range(30)]
    with search.open(tmp_path / "c") as there:
        ingest.graphs(
            there, graphs, ids=[f"g{number}" for number in range(30)], metadata=labels, settings=SMALL
        )
        asked = ring(9, 1)
        query = there.encoder("graphs").encode([labelled(asked)])
        rows = there.encoder("graphs").encode([labelled(graph) for graph in graphs])
        exact = np.sort(rows @ query[0])[::-1][:5]
        found = there.search(graph=asked, k=5)
        np.testing.assert_allclose([hit.score for hit in found], exact, atol=1e-5)
        assert [hit.score for hit in there.search(vector=query[0], k=5)] == [hit.score for hit in found]
        nx.write_graphml(asked, tmp_path / "q.graphml")
        assert there.search(graph=str(tmp_path / "q.graphml"), k=5) == found
        assert there.search(graph=sparse.csr_matrix(nx.to_scipy_sparse_array(asked)), k=5) == found
        assert there.search(graph=[asked, graphs[3]], k=5)[0] == found
        rings = there.search(graph=asked, k=3, where="shape = 'ring'")
        assert [hit.metadata["shape"] for hit in rings] == ["ring"] * 3
        mixed = there.search(graph=asked, like="g4", weights={"graph": 3.0}, k=30)
        wanted = 3 * query[0] + rows[4]
        expected = rows @ (wanted / np.linalg.norm(wanted))
        np.testing.assert_allclose(
            [hit.score for hit in mixed], np.sort(np.delete(expected, 4))[::-1], atol=1e-5
        )
        with pytest.raises(UnknownSpace, match="no space of the collection can be asked by text"):
            there.search("words")
        with pytest.raises(QueryError, match="hybrid looks for words"):
            there.search(graph=asked, hybrid=True)
    with search.open(tmp_path / "c", mode="r") as again:  # the encoder is read back from the catalog
        assert [hit.id for hit in again.search(graph=asked, k=5)] == [hit.id for hit in found]


def test_node_labels_are_the_spaces_own(tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as there:
        graphs = some(12)
        for graph in graphs:
            nx.set_node_attributes(graph, {node: "CNO"[node % 3] for node in graph}, "atom")
        ingest.graphs(there, graphs, form=ingest.GraphFormat("atom"), settings=SMALL)
        assert there.spaces()["graphs"].encoder.options["node_label"] == "atom"
        later = ingest.graphs(there, graphs[:3], ids=["x", "y", "z"])  # by the space's own
        assert later.added == 3
        assert there.search(graph=graphs[0], k=1)[0].score == pytest.approx(1, abs=1e-6)
        with pytest.raises(SourceError, match="no node has the field 'atom'"):
            there.search(graph=ring(5))
        with pytest.raises(CollectionError, match="tells nodes apart by 'atom', not by 'charge'; "):
            ingest.graphs(there, graphs, form=ingest.GraphFormat("charge"))
        plain = ingest.graphs(there, [ring(5)], ids=["p"])
        assert (plain.added, plain.rejected) == (0, 1)
        assert "no node has the field 'atom'" in plain.rejects[0]


def test_a_set_is_asked_by_the_labels_of_its_nodes(tmp_path: Path) -> None:
    write_tu(tmp_path / "SET", TU)
    with search.open(tmp_path / "c") as there:
        ingest.graphs(there, tmp_path / "SET", settings=SMALL)
        asked = nx.path_graph(3)
        nx.set_node_attributes(asked, {0: 0, 1: 1, 2: 0}, "label")
        (hit,) = there.search(graph=asked, k=1)
        assert (hit.id, hit.metadata["label"]) == ("SET/1", 1)
        assert hit.score == pytest.approx(1, abs=1e-6)
        assert ingest.graphs(there, tmp_path / "SET").unchanged == 2


def test_what_does_not_fit_the_space_is_refused(tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as there:
        ingest.graphs(there, some(10), settings=SMALL)
        with pytest.raises(CollectionError, match="was made by wl, and this is pooled; "):
            ingest.graphs(there, some(10), method="pooled")
        with pytest.raises(CollectionError, match="was learned with dim 8, not 16; "):
            ingest.graphs(there, some(10), settings=ingest.GraphSettings(dim=16))
        with pytest.raises(ModelError, match="wl takes no epochs"):
            ingest.graphs(there, some(10), settings=ingest.GraphSettings(epochs=3), space="other")
        there.add([{"id": "a"}], vectors=[[1.0, 0.0]], space="mine")
        with pytest.raises(CollectionError, match="holds no whole graphs; "):
            ingest.graphs(there, some(10), space="mine")
        with pytest.raises(CollectionError, match="was made by the encoder wl, and node2vec is none; "):
            ingest.graph(
                there, ring(9), space="graphs", settings=ingest.NodeSettings(dim=8, walks=1, length=5)
            )
        with pytest.raises(SourceError, match="one graph was given; "):
            ingest.graphs(there, ring(9))
        with pytest.raises(SourceError, match="stand among graphs"):
            ingest.graphs(there, [ring(4), "a.gml"])
        with pytest.raises(SourceError, match="differ in length"):
            ingest.graphs(there, some(3), ids=["a"])
        with pytest.raises(SourceError, match="same id"):
            ingest.graphs(there, some(2), ids=["a", "a"])


def test_learned_again_a_space_has_another_encoder_and_all_its_graphs(tmp_path: Path) -> None:
    fill(tmp_path / "a", some(12))
    fill(tmp_path / "b", [nx.star_graph(4 + number) for number in range(6)])
    for path in sorted((tmp_path / "b").iterdir()):
        path.rename(path.with_name(f"b{path.name}"))
    with search.open(tmp_path / "c") as there:
        ingest.graphs(there, tmp_path / "a", settings=ingest.GraphSettings(dim=6, depth=2))
        ingest.graphs(there, tmp_path / "b")
        before = there.spaces()["graphs"].encoder
        there.tune(recall=0.9, space="graphs")
        (tmp_path / "a/00.edgelist").unlink()
        dry = ingest.graphs(there, tmp_path / "a", refit=True, dry_run=True)
        assert (dry.updated, dry.unchanged) == (11, 0)
        report = ingest.graphs(there, tmp_path / "a", refit=True)
        assert (report.updated, report.vectors, report.removed, report.rejected) == (17, 17, 1, 0)
        after = there.spaces()["graphs"].encoder
        assert after.weights != before.weights
        assert (after.dim, after.options["depth"]) == (6, 2)
        names = {*(f"{k:02}.edgelist" for k in range(1, 12)), *(f"b{k:02}.edgelist" for k in range(6))}
        assert set(there.ids_in(there.spaces()["graphs"])) == names
        assert there.get("00.edgelist") != [None]  # the record stays, without a vector
        found = there.search(graph=nx.star_graph(5), k=17)
        rows = there.encoder("graphs").encode([nx.star_graph(4 + k) for k in range(6)])
        scores = {f"b{k:02}.edgelist": float(rows[k] @ rows[1]) for k in range(6)}
        for hit in found:
            if hit.id in scores:
                assert hit.score == pytest.approx(scores[hit.id], abs=1e-5)
        assert ingest.graphs(there, tmp_path / "a").unchanged == 11
        other = ingest.graphs(there, tmp_path / "a", refit=True, method="pooled", prune=True)
        assert (other.model, other.vectors) == ("pooled", 17)
        assert there.check() == []
        (tmp_path / "b").rename(tmp_path / "gone")
        with pytest.raises(CollectionError, match="which is gone; "):
            ingest.graphs(there, tmp_path / "a", refit=True)
        ingest.graphs(there, some(8), space="memory", settings=SMALL)
        with pytest.raises(CollectionError, match="were given in memory; "):
            ingest.graphs(there, tmp_path / "a", space="memory", refit=True)
        assert ingest.graphs(there, some(9), space="memory", refit=True).vectors == 9


def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    fill(tmp_path / "g", some(10))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = outcome(app, [*map(str, arguments), "-c", str(tmp_path / "c")])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.out, told.err

    code, out, _ = run(
        "ingest", "graphs", tmp_path / "g", "--method", "graph2vec", "--dim", 8, "--epochs", 2, "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert (report["added"], report["model"], report["space"]) == (10, "graph2vec", "graphs")
    nx.write_graphml(ring(7), tmp_path / "q.graphml")
    code, out, _ = run("search", "--graph", tmp_path / "q.graphml", "-k", 3, "--json")
    assert (code, len(json.loads(out))) == (0, 3)
    (tmp_path / "g/bad.gml").write_text("graph [", encoding="utf-8")
    code, _, err = run("ingest", "graphs", tmp_path / "g", "--strict")
    assert code == 1
    assert "bad.gml" in err
    code, _, err = run("ingest", "graphs", tmp_path / "g", "--method", "wl")
    assert (code, err.count("error: space 'graphs' was made by graph2vec, and this is wl; ")) == (1, 1)
    code, _, err = run("ingest", "graphs", tmp_path / "g", "--space", "other", "--pooling", "max")
    assert (code, err.count("error: wl takes no pooling; ")) == (1, 1)
    code, _, err = run("ingest", "graph", tmp_path / "g")
    assert code == 1
    assert "a record for each graph in it makes: nearkin ingest graphs" in err
    code, _, err = run("search", "--graph", tmp_path / "none.gml")
    assert code == 1
    assert "no such file" in err


def test_nothing_is_made_where_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g/bad.gml").write_text("graph [", encoding="utf-8")
    with pytest.raises(SourceError, match=r"none of 1 inputs .*bad\.gml.*; "):
        ingest.graphs(tmp_path / "c", tmp_path / "g")
    assert not (tmp_path / "c").exists()
    nx.write_edgelist(ring(5), tmp_path / "g/good.edgelist", data=False)
    dry = ingest.graphs(tmp_path / "c", tmp_path / "g", dry_run=True)
    assert (dry.added, dry.rejected, dry.dry_run) == (1, 1, True)
    assert not (tmp_path / "c").exists()
    report = ingest.graphs(tmp_path / "c", tmp_path / "g")
    assert (report.added, report.rejected) == (1, 1)
    assert report.rejects_file is not None
    (line,) = Path(report.rejects_file).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["id"] == "bad.gml"


def test_files_to_ask_by_are_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("", encoding="utf-8")
    (tmp_path / "a.gml").write_text("graph [", encoding="utf-8")
    (tmp_path / "a.graphml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><graphml/>', encoding="utf-8")
    (tmp_path / "a.edgelist").write_text("a b c d e\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('{"nodes": [{"id": 1, "size": NaN}], "links": []}', encoding="utf-8")
    for name, reason in [
        ("a.py", "a graph to ask by is"),
        ("a.json", "NaN is no number"),
        ("a.gml", "not a readable gml file"),
        ("a.graphml", "XML entities"),
        ("a.edgelist", "is no edge"),
        ("none.gml", "no such file"),
    ]:
        with pytest.raises(SourceError, match=reason):
            read_graph_file(tmp_path / name)
