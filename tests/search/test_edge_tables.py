"""The edges of a graph come out as they went in, for others to read and to learn from again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import ingest
import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.errors import QueryError, UnknownSpace

SMALL = ingest.NodeSettings(dim=4)


def drawn(directed: bool) -> nx.Graph:
    rng = np.random.default_rng(3)
    graph = nx.DiGraph() if directed else nx.Graph()
    for u, v, w in zip(rng.integers(0, 20, 60), rng.integers(0, 20, 60), rng.random(60), strict=True):
        graph.add_edge(f'n"{u},', f"n{v} é", weight=float(np.float32(w)))
    graph.add_edge("own", "own", weight=2.0)
    return graph


def edges_of(graph: nx.Graph) -> dict[object, float]:
    """Each edge by its ends, in either order if it has no direction."""
    pairs = graph.edges(data="weight")
    return {(u, v) if graph.is_directed() else frozenset((u, v)): w for u, v, w in pairs}


def read_back(path: Path, directed: bool) -> nx.Graph:
    graph = nx.DiGraph() if directed else nx.Graph()
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["source"], row["target"], row["weight"]) for row in csv.DictReader(file)]
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        rows = list(zip(*(table[name].to_pylist() for name in ("source", "target", "weight")), strict=True))
    assert len({(u, v) if directed else frozenset((u, v)) for u, v, _ in rows}) == len(rows)
    graph.add_weighted_edges_from((u, v, float(np.float32(w))) for u, v, w in rows)
    return graph


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("directed", [False, True])
def test_what_comes_out_is_what_went_in(tmp_path: Path, directed: bool, form: str) -> None:
    graph, target = drawn(directed), tmp_path / f"edges.{form}"
    with search.open(tmp_path / "c") as shop:
        ingest.graph(shop, graph, method="cleora", settings=SMALL)
        assert shop.export_edges(target) == graph.number_of_edges()
        assert edges_of(read_back(target, directed)) == edges_of(graph)

        more = nx.DiGraph() if directed else nx.Graph()
        more.add_edge("own", "later", weight=0.5)
        ingest.graph(shop, more, add=True)
        shop.delete(['n"3,'])
        graph.add_edge("own", "later", weight=0.5)
        graph.remove_node('n"3,')
        shop.export_edges(target, space="graph")
        assert edges_of(read_back(target, directed)) == edges_of(graph)

    with search.open(tmp_path / "again") as again:
        told = ingest.EdgeFormat(directed=directed)
        report = ingest.graph(again, target, method="cleora", settings=SMALL, edges=told)
        assert (report.graph.edges, report.rejected) == (graph.number_of_edges(), 0)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with search.open(tmp_path / "c") as shop:
        ingest.graph(shop, nx.path_graph(4), method="cleora", settings=SMALL)
        shop.add([{"id": "a"}], vectors=np.eye(1, 3), space="other")
    target = str(tmp_path / "e.csv")

    def told(*more: str) -> tuple[int, str, str]:
        code = outcome(app, ["export", target, "-c", str(tmp_path / "c"), *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    assert told("--edges", "--json")[1] == json.dumps({"exported": 3, "file": target}, indent=2) + "\n"
    assert Path(target).read_text().split() == ["source,target,weight", "0,1,1", "1,2,1", "2,3,1"]
    for more, said in (
        (("--edges", "--vectors"), "leave --vectors and --where out"),
        (("--space", "graph"), "--space is of --edges"),
        (("--edges", "--space", "other"), "holds no edges"),
        (("--edges", "--space", "none"), "none"),
    ):
        code, out, err = told(*more)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert said in err


def test_bad_targets(tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as shop:
        with pytest.raises(UnknownSpace, match="no space holds edges"):
            shop.export_edges(tmp_path / "e.csv")
        ingest.graph(shop, nx.path_graph(4), method="cleora", settings=SMALL)
        with pytest.raises(QueryError, match="end it with"):
            shop.export_edges(tmp_path / "e.jsonl")
    assert not list(tmp_path.glob("e.*"))
