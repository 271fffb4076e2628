"""The verb for graphs from outside: columns, types and databases; what is told, and that it stays a sync."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import ingest
import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.errors import CollectionError

QUICK = ("--dim", 4, "--walks", 1, "--length", 5)
SMALL = ingest.NodeSettings(dim=4, walks=1, length=5, threads=1)


class Told:
    """What one command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def report(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> str:
        assert self.code == 1
        assert "Traceback" not in self.err
        (line,) = (line for line in self.err.splitlines() if line.startswith("error: "))
        return line


@pytest.fixture
def graph(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Told:
        code = outcome(
            app, [str(one) for one in ("ingest", "graph", *arguments, "-c", tmp_path / "c", *QUICK)]
        )
        captured = capsys.readouterr()
        return Told(code, captured.out, captured.err)

    return run


@pytest.fixture
def bought(tmp_path: Path) -> Path:
    path = tmp_path / "bought.csv"
    path.write_text(
        "customer,sku,n,how\n1,kettle,2,bought\n1,teapot,1,viewed\n2,1,1,bought\n2,1,2,bought\n2,1,x,bought\n"
    )
    return path


def test_types_become_ids_and_metadata(graph: Any, bought: Path, tmp_path: Path) -> None:
    columns = ("--source", "customer", "--target", "sku", "--weight", "n", "--source-type", "=customer")
    weighed = (*columns, "--edge-type", "how", "--type-weight", "bought=3", "--type-weight", "viewed=0")
    first = graph(bought, *weighed, "--json").report
    assert first["graph"] == {
        "nodes": 4,
        "edges": 2,
        "directed": False,
        "weighted": True,
        "self_loops": 0,
        "merged": 1,
        "isolated": 0,
    }
    assert (first["added"], first["rejected"]) == (4, 1)
    with search.open(tmp_path / "c", mode="r") as shop:
        assert shop.count(where="type = 'customer'") == 2
        assert [found.id for found in shop.get(["1", "customer:1"]) if found is not None] == [
            "1",
            "customer:1",
        ]
    assert graph(bought, *weighed, "--json").report["unchanged"] == 4
    assert (
        graph(bought, *columns, "--dry-run", "--json").report["added"] == 1
    )  # the teapot that was only viewed
    told = graph(bought, *columns)
    assert told.out == ""
    assert (
        "the graph (undirected, weighted): 5 nodes, 0 of them without edges; 3 edges, 0 of them self-loops; "
        "1 stood there again (its weight was added)" in told.err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--edge-type", "how"), "give both the column and a weight"),
        (
            ("--source", "customer", "--target", "sku", "--edge-type", "how", "--type-weight", "boguht=3"),
            "no edge is of the type 'boguht', which has a weight; the types are bought, viewed",
        ),
        (("--type-weight", "bought"), "--type-weight bought is none; write bought=3"),
        (("--type-weight", "=3"), "--type-weight =3 is none"),
        (
            ("--source", "who", "--target", "sku"),
            "has no column 'who'; its columns are customer, sku, n, how",
        ),
        (("--query", "select a, b from c"), "a query is for a database"),
        (("--format", "doc"), "there is no format 'doc' of graphs"),
        (("--format", "gml"), "is not a readable gml file"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    graph: Any, bought: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in graph(bought, *arguments).error


def test_a_database_is_an_origin_like_a_file(graph: Any, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as base:
        base.execute("create table bought (a, b, w)")
        base.executemany("insert into bought values (?, ?, ?)", [(1, 2, 1.5), (2, 3, 1.0)])
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    ask = ("--query", "select a, b, w from bought")
    assert graph(url, *ask, "--json").report["added"] == 3
    assert graph(url, *ask, "--json").report["unchanged"] == 3
    with sqlite3.connect(tmp_path / "shop.db") as base:
        base.execute("delete from bought where a = 1")
    base.close()
    changed = graph(url, *ask, "--prune", "--json").report
    assert (changed["updated"], changed["removed"], changed["graph"]["edges"]) == (2, 1, 1)
    other = graph(url, "--query", "select a, b from bought where a > 1").error
    assert "was learned from sqlite:///" in other
    assert "select a, b, w from bought" in other
    assert "there is no such file" in graph(f"sqlite:///{tmp_path / 'no.db'}", *ask).error
    assert not (tmp_path / "no.db").exists()


def test_graphs_in_memory_from_python(tmp_path: Path) -> None:
    karate = nx.karate_club_graph()
    with search.open(tmp_path / "c") as there:
        first = ingest.graph(there, karate, settings=SMALL)
        assert first.graph is not None
        assert (first.added, first.graph.nodes, first.graph.edges) == (34, 34, 78)
        assert there.count(where="club = 'Mr. Hi'") == 17
        matrix = nx.to_scipy_sparse_array(karate)
        again = ingest.graph(there, matrix, ids=[str(k) for k in range(34)], settings=SMALL, dry_run=True)
        assert again.unchanged == 0  # the attributes are gone from the records
        assert again.updated == 34
        small = nx.Graph([("a", "b"), ("b", "c")])
        ingest.graph(there, small, space="small", settings=SMALL)
        (tmp_path / "g.txt").write_text("a b\nb c\n")
        with pytest.raises(CollectionError, match="was learned from memory"):
            ingest.graph(there, tmp_path / "g.txt", space="small", settings=SMALL)
