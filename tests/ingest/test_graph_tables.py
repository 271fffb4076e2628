"""Edges by column: types, Parquet, databases, and graphs in memory; and the compiled scans against plain Python."""

from __future__ import annotations

import csv
import io
import sqlite3
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from scipy import sparse

from ingest.sources import graph_tables
from ingest.sources.compressed import compressed_rows
from ingest.sources.edge_format import EdgeFormat
from ingest.sources.edge_lists import read_edge_list, read_table
from ingest.sources.edges import Edges, is_usable
from ingest.sources.graphs import read_given, read_graph
from ingest.sources.ids import Ids, WholeIds
from search.errors import SourceError
from tests.ingest.test_graph_sources import both_ways, edges_of

COLUMNS = ("who", "what", "n", "who_type", "what_type", "kind")
ROWS = [
    ("1", "1", 2.0, "user", "item", "bought"),
    ("1", "2", 1.0, "user", "item", "viewed"),
    ("2", "1", 1.0, "user", "item", "bought"),
    ("2", "1", 1.0, "us:er", "item", "bought"),
    ("2", "1", 1.0, "user", "", "bought"),
    ("3", "3", 1.0, "user", "item", "hated"),
]
TYPED = EdgeFormat(
    source="who",
    target="what",
    weight="n",
    source_type="who_type",
    target_type="what_type",
    edge_type="kind",
    type_weights={"bought": 3.0, "hated": 0.0},
)


@pytest.fixture(params=["csv", "parquet", "sql", "quoted"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str | Path, EdgeFormat, int]:
    """The rows in some form; what reads them; and by how much lines are further on than rows."""
    if request.param == "sql":
        with sqlite3.connect(tmp_path / "shop.db") as base:
            base.execute("create table edge (who, what, n, who_type, what_type, kind)")
            base.executemany("insert into edge values (?, ?, ?, ?, ?, ?)", ROWS)
        base.close()
        return (
            f"sqlite:///{tmp_path / 'shop.db'}",
            EdgeFormat(query="select * from edge where kind <> ':x'"),
            0,
        )
    if request.param == "parquet":
        columns = [list(column) for column in zip(*ROWS, strict=True)]
        columns[0] = [int(each) for each in columns[0]]
        parquet.write_table(pyarrow.table(dict(zip(COLUMNS, columns, strict=True))), tmp_path / "t.parquet")
        return tmp_path / "t.parquet", EdgeFormat(), 0
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if request.param == "quoted" else csv.QUOTE_MINIMAL
    csv.writer(text, quoting=quoting).writerows([COLUMNS, *ROWS])
    (tmp_path / "t.csv").write_text(text.getvalue())
    return tmp_path / "t.csv", EdgeFormat(), 1


def typed(form: EdgeFormat, **others: object) -> EdgeFormat:
    given = {name: getattr(TYPED, name) for name in TYPED.__dataclass_fields__} | {"query": form.query}
    return EdgeFormat(**given | others)  # type: ignore[arg-type]


def test_types_keep_ids_apart_and_weigh_edges(table: tuple[str | Path, EdgeFormat, int]) -> None:
    place, form, shift = table
    found = read_given(place, typed(form)).read
    assert edges_of(found.graph) == both_ways(
        {("user:1", "item:1"): 6.0, ("user:1", "item:2"): 1.0, ("user:2", "item:1"): 3.0}
    )
    assert found.attributes == {
        **{f"user:{k}": {"type": "user"} for k in (1, 2)},
        **{f"item:{k}": {"type": "item"} for k in (1, 2)},
    }
    assert [((bad.line or 0) - shift, bad.reason) for bad in found.rejected] == [
        (4, "the type 'us:er' has a ':', which stands between type and id"),
        (5, "a type is empty"),
    ]


def test_one_type_for_all_leaves_the_other_side_to_join_records(
    table: tuple[str | Path, EdgeFormat, int],
) -> None:
    place, form, _ = table
    some = EdgeFormat(source="who", target="what", source_type="=customer", query=form.query)
    found = read_given(place, some).read
    assert edges_of(found.graph) == both_ways(
        {("customer:1", "1"): 1, ("customer:1", "2"): 1, ("customer:2", "1"): 1, ("customer:3", "3"): 1}
    )
    assert found.attributes == {f"customer:{k}": {"type": "customer"} for k in (1, 2, 3)}
    assert found.merged == 2


def test_columns_that_are_not_there_are_named(table: tuple[str | Path, EdgeFormat, int]) -> None:
    place, form, _ = table
    with pytest.raises(SourceError, match="has no column 'whom'; its columns are who, what, n"):
        read_given(place, EdgeFormat(source="who", target="whom", query=form.query))
    with pytest.raises(SourceError, match="which columns are the ends"):
        read_given(place, EdgeFormat(source_type="who_type", query=form.query))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edge_type": "kind"}, "give both the column and a weight"),
        ({"type_weights": {"bought": 2.0}}, "give both the column and a weight"),
        (
            {"edge_type": "kind", "type_weights": {"bought": -1.0}},
            "the weight -1.0 of edges of type 'bought'",
        ),
        ({"edge_type": "kind", "type_weights": {"bought": float("nan")}}, "the weight nan"),
        ({"source_type": "=a:b"}, "'a:b' cannot be the type of nodes"),
        ({"target_type": "="}, "'' cannot be the type of nodes"),
    ],
)
def test_formats_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        EdgeFormat(**arguments)  # type: ignore[arg-type]


def test_parquet_of_every_kind(tmp_path: Path) -> None:
    names = pyarrow.array(["x", "y", None, "x", " "]).dictionary_encode()
    others = pyarrow.array([10, 20, 10, 10, 20], pyarrow.int32())
    weights = pyarrow.array([1.5, None, 1.0, 2.0, 1.0], pyarrow.float32())
    parquet.write_table(pyarrow.table({"from": names, "to": others, "w": weights}), tmp_path / "t.parquet")
    found = read_graph(tmp_path / "t.parquet")
    assert edges_of(found.graph) == both_ways({("x", "10"): 3.5})
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (2, "the weight 'nan' is not a positive number"),
        (3, "an end of the edge is empty"),
        (5, "an end of the edge is empty"),
    ]
    whole = pyarrow.table(
        {"from": [1, 2, 2], "to": pyarrow.array([2, 1, -3], pyarrow.int8()), "w": [1, 2, -1]}
    )
    parquet.write_table(whole, tmp_path / "w.parquet")
    again = read_graph(tmp_path / "w.parquet")
    assert edges_of(again.graph) == both_ways({("1", "2"): 3.0})
    assert [(bad.line, bad.reason) for bad in again.rejected] == [
        (3, "the weight '-1.0' is not a positive number")
    ]
    parquet.write_table(pyarrow.table({"from": [[1]], "to": [[2]]}), tmp_path / "l.parquet")
    with pytest.raises(SourceError, match="is not a readable Parquet file"):
        read_graph(tmp_path / "l.parquet")
    parquet.write_table(pyarrow.table({"from": [1]}), tmp_path / "one.parquet")
    with pytest.raises(SourceError, match="has 1 columns; an edge has two ends"):
        read_graph(tmp_path / "one.parquet")


def database(path: Path) -> str:
    with sqlite3.connect(path) as base:
        base.execute("create table bought (a, b, w)")
        rows = [
            (1, "x", 1.0),
            ("1", "y", 2.5),
            (2, None, 1.0),
            (3, "x", "heavy"),
            (b"\0", "x", 1.0),
            (2, "x", 0.5),
        ]
        base.executemany("insert into bought values (?, ?, ?)", rows)
    base.close()
    return f"sqlite:///{path}"


def test_a_table_of_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = database(tmp_path / "shop.db")
    found = read_given(url, EdgeFormat(query="select a, b, w from bought"))
    assert edges_of(found.read.graph) == both_ways(
        {("1", "x"): 1.0, ("1", "y"): 2.5, ("2", "x"): 0.5, ("b'\\x00'", "x"): 1.0}
    )
    assert [(bad.line, bad.reason) for bad in found.read.rejected] == [
        (3, "an end of the edge is empty"),
        (4, "the weight 'heavy' is not a positive number"),
    ]
    assert found.origin == f"sqlite:///{tmp_path / 'shop.db'} select a, b, w from bought"
    long = "select a, b, w from bought where " + " and ".join(["1 = 1"] * 50)
    assert len(read_given(url, EdgeFormat(query=long)).origin) < len(url) + 150


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("delete from bought", "is not a single select"),
        ("select a, b from bought; drop table bought", "is not a single select"),
        ("with gone as (delete from bought returning a, b) select * from gone", "is not a single select"),
        ("select a, b into other from bought", "is not a single select"),
        ("attach 'other.db' as other", "is not a single select"),
        ("selec a", "is not a single select"),
        ("select a, b from bought where (", "the query cannot be read"),
        ("select a, b from sold", "cannot be asked .no such table: sold"),
        ("select a from bought", "the query gives one column"),
        ("select a, b from bought where 0", "has no edges"),
        (None, "a database needs a question; give --query"),
    ],
)
def test_questions_that_cannot_be_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], query: str | None, message: str
) -> None:
    url = database(tmp_path / "shop.db")
    before = (tmp_path / "shop.db").read_bytes()
    with pytest.raises(SourceError, match=message) as caught:
        read_given(url, EdgeFormat(query=query))
    assert "\x1b" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert (tmp_path / "shop.db").read_bytes() == before


def test_addresses_hide_what_is_secret_and_name_what_is_wrong(tmp_path: Path) -> None:
    shown = graph_tables.address(
        "postgresql://me:geheim@host:5/shop?sslpassword=auch", "select  a,\nb from t"
    )
    assert shown == "postgresql://host:5/shop select a, b from t"
    for url, message in (
        (f"sqlite:///{tmp_path / 'absent.db'}", "there is no such file"),
        ("sqlite://", "there is no such file"),
        ("foodb://me:geheim@host/x", "there is no kind of database named 'foodb'"),
        ("nonsense://[host", "cannot be read|no kind of database"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            read_given(url, EdgeFormat(query="select a, b from t"))
        assert "geheim" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_graphs_in_memory() -> None:
    ends = np.array([[0, 1], [1, 2], [2, 1], [2, 2]])
    found = read_given(ends)
    assert (found.origin, edges_of(found.read.graph)) == (
        "memory",
        both_ways({("0", "1"): 1, ("1", "2"): 1, ("2", "2"): 1}),
    )
    assert (found.read.merged, found.read.self_loops) == (1, 1)
    named = read_given(np.array([[0, 1, 0.5], [1, 2, 2.0]]), ids=["a", "b", "c", "d"]).read
    assert edges_of(named.graph) == both_ways({("a", "b"): 0.5, ("b", "c"): 2.0})
    assert named.isolated == 1
    columns = read_given((["a", 1], ["b", 2.5], [1.0, 2.0]), EdgeFormat(True)).read
    assert edges_of(columns.graph) == {("a", "b"): 1.0, ("1", "2.5"): 2.0}
    bad = read_given((["a", "b"], ["b", "c"], [1.0, float("nan")])).read
    assert [(each.line, each.reason) for each in bad.rejected] == [
        (2, "the weight nan is not a positive number")
    ]
    matrix = sparse.csr_array(np.array([[0, -1, 2], [-1, 0, 0], [2, 0, 0]]))
    rest = read_given(matrix, ids=["x", "y", "z"]).read
    assert edges_of(rest.graph) == both_ways({("x", "z"): 2.0})
    assert [each.id for each in rest.rejected] == ["x - y"]
    attributed = nx.Graph([("a", "b")])
    attributed.add_node("a", colour="red")
    assert read_given(attributed).read.attributes == {"a": {"colour": "red"}}


@pytest.mark.parametrize(
    ("given", "ids", "message"),
    [
        (np.ones((4, 4)), None, "edges in memory are an array"),
        (np.zeros((0, 2), int), None, "has no edges"),
        ((["a"], ["b", "c"]), None, "edges in memory are an array"),
        (([1, "a"], ["1", "b"]), None, "two nodes have the same name as text"),
        (([1], ["1"]), None, "two nodes have the same name as text"),
        ((["a"], ["b"], ["x"]), None, "the weights are not numbers"),
        (np.array([[0, 7]]), ["a", "b"], "an end is not a place among the 2 ids"),
        (np.array([[0, 1]]), ["a", "a"], "two nodes have the same id"),
        (sparse.csr_array((2, 3)), None, "the matrix is 2 x 3"),
        (sparse.csr_array((2, 2)), ["a"], "there are 1 ids for 2 nodes"),
        (sparse.csr_array(np.eye(2, dtype=complex)), None, "the matrix holds complex128"),
        (sparse.csr_array((0, 0)), None, "has no edges"),
        (nx.Graph([(1, 2), ("1", 3)]), None, "two nodes have the same name as text"),
        (nx.Graph([(1, 2)]), ["a"], "has its own ids"),
        ("g.txt", ["a"], "has its own ids"),
    ],
)
def test_what_is_no_graph_in_memory(given: object, ids: list[str] | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_given(given, ids=ids)


NAME = st.text(st.sampled_from("ab1é,; \"'\r\t#%"), max_size=3)
CELL = st.one_of(NAME, st.sampled_from(["1.5", "2", "0", "-1", "nan", "1e3", "1e400", "x" * 40, "\udcff"]))


def plainly(lines: list[str]) -> tuple[dict[tuple[str, str], float], int]:
    """An edge list as a few lines of Python read it: the weight of each pair, and how many lines are bad."""
    found: dict[tuple[str, str], list[float]] = {}
    bad, weighted = 0, False
    for line in lines:
        tokens = line.encode(errors="surrogateescape").split()
        if not tokens or tokens[0][:1] in (b"#", b"%"):
            continue
        try:
            line.encode()
            weight = float(tokens[2]) if len(tokens) > 2 else 1.0
        except ValueError:
            bad += 1
            continue
        if not is_usable(weight):
            bad += 1
        elif len(tokens) > 1:
            weighted |= len(tokens) > 2
            found.setdefault((tokens[0].decode(), tokens[1].decode()), []).append(weight)
    return {pair: sum(each) if weighted else 1.0 for pair, each in found.items()}, bad


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CELL, max_size=4).map(" ".join), max_size=12))
def test_lists_are_what_plain_python_reads(lines: list[str]) -> None:
    expected, bad = plainly(lines)
    edges = Edges("list")
    data = "".join(line + "\n" for line in lines).encode(errors="surrogateescape")
    read_edge_list(io.BytesIO(data), edges)
    assert len(edges.rejected) == bad
    if expected:
        found = edges_of(edges.finish(True, {}).graph)
        assert found == pytest.approx(expected, rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(CELL.filter(lambda cell: "\udcff" not in cell), max_size=4), max_size=10),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_tables_are_what_the_csv_module_reads(rows: list[list[str]], quoting: int, end: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=end).writerows([["source", "target", "w"], *rows])  # type: ignore[call-overload]
    expected: dict[tuple[str, str], float] = {}
    bad = 0
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        try:
            weight = float(cells[2])
        except (ValueError, IndexError):
            weight = -1.0
        if is_usable(weight) and cells[0] and cells[1]:
            expected[cells[0], cells[1]] = expected.get((cells[0], cells[1]), 0.0) + weight
        else:
            bad += 1
    edges = Edges("table")
    read_table(io.BytesIO(text.getvalue().encode()), EdgeFormat(), edges)
    assert len(edges.rejected) == bad
    if expected:
        assert edges_of(edges.finish(True, {}).graph) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=300))
def test_ids_are_numbered_as_a_dict_does(names: list[bytes]) -> None:
    ids = Ids()
    numbers = ids.numbers(names)
    place: dict[bytes, int] = {}
    assert numbers.tolist() == [place.setdefault(name, len(place)) for name in names]
    assert [ids.name(k) for k in range(len(ids))] == list(place)


def test_many_ids_of_all_lengths_outgrow_the_table() -> None:
    names = [f"{'node' * (k % 6)}{k}".encode() for k in range(20_000)]
    ids = Ids()
    assert (ids.numbers(names) == np.arange(20_000)).all()
    assert (ids.numbers(names[::-1]) == np.arange(20_000)[::-1]).all()
    in_order, rank = ids.sorted()
    assert list(in_order) == sorted(name.decode() for name in names)
    assert [in_order[k] for k in rank[:100]] == [name.decode() for name in names[:100]]


def test_whole_numbers_have_the_numbers_of_their_texts() -> None:
    rng = np.random.default_rng(3)
    given = np.concatenate((rng.integers(-9000, 9000, 30_000), [2**63 - 1, -(2**63), 0]))
    ids = Ids()
    ids.numbers([b"7", b"x"])
    whole = WholeIds(ids)
    for piece in np.array_split(given, 7):
        assert [ids.name(k) for k in whole.numbers(piece).tolist()] == [
            str(each).encode() for each in piece.tolist()
        ]
    assert len(ids) == len({*given.tolist(), 7}) + 1


@pytest.mark.parametrize("mirrored", [False, True])
def test_rows_are_what_scipy_makes(mirrored: bool) -> None:
    rng = np.random.default_rng(0)
    ends = rng.integers(0, 40, (2, 700)).astype(np.int32)
    weights = rng.random(700)
    indptr, indices, data, merged, loops = compressed_rows(ends[0], ends[1], weights, 50, mirrored)
    matrix = sparse.coo_array((weights, (ends[0], ends[1])), shape=(50, 50)).tocsr()
    if mirrored:
        matrix = matrix + sparse.csr_array(matrix - sparse.diags_array(matrix.diagonal())).T
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    assert (indptr == matrix.indptr).all()
    assert (indices == matrix.indices).all()
    np.testing.assert_allclose(data, matrix.data)
    pairs = np.sort(ends, axis=0) if mirrored else ends
    assert merged == 700 - len(np.unique(pairs, axis=1).T)
    assert loops == len(np.unique(ends[0][ends[0] == ends[1]]))


def test_a_star_is_read_and_its_centre_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "star.txt").write_text("".join(f"hub leaf{k}\n" for k in range(50_000)))
    found = read_graph(tmp_path / "star.txt")
    hub = found.graph.ids.index("hub")
    assert found.graph.n_edges == 50_000
    assert found.graph.indptr[hub + 1] - found.graph.indptr[hub] == 50_000


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        *[
            ("0.1", 0.1),
            ("1.", 1.0),
            (".5", 0.5),
            ("+2", 2.0),
            ("1_0", 10.0),
            ("1E-3", 0.001),
            ("2e+3", 2000.0),
        ],
        *[("12345678901234567890", 12345678901234567890.0), ("0.30000000000000004", 0.3), ("2e-30", 2e-30)],
        *[
            ("0x10", None),
            ("1e", None),
            ("1e-40", None),
            ("--1", None),
            ("inf", None),
            (".", None),
            ("1.2.3", None),
        ],
    ],
)
def test_weights_however_they_are_written(tmp_path: Path, text: str, weight: float | None) -> None:
    for name, mark in (("g.txt", " "), ("g.csv", ",")):
        (tmp_path / name).write_text(f"a{mark}b{mark}5\nc{mark}d{mark}{text}\n")
        found = edges_of(read_graph(tmp_path / name).graph)
        assert found.get(("c", "d")) == (None if weight is None else np.float32(weight))


def test_a_file_that_is_cut_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("a b 1\nb c 2\nc d")
    found = read_graph(tmp_path / "g.txt")
    assert edges_of(found.graph) == both_ways({("a", "b"): 1.0, ("b", "c"): 2.0})
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (3, "the last line has no line end and lacks something; the file may be cut off")
    ]
    (tmp_path / "g.csv").write_text("source,target,weight\na,b,1\nb,c")
    assert [(bad.line, bad.reason) for bad in read_graph(tmp_path / "g.csv").rejected] == [
        (3, "too few columns (2)")
    ]


def test_beyond_a_bound_bad_edges_are_counted_and_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sources.edges.MOST_TOLD", 3)
    bad = [f"a b {-k}\n" for k in range(10)]
    (tmp_path / "g.txt").write_text("".join(bad))
    with pytest.raises(SourceError, match="rejected: 10; first: the weight"):
        read_graph(tmp_path / "g.txt")
    (tmp_path / "g.txt").write_text("".join([*bad, "a b 1\n"]))
    found = read_graph(tmp_path / "g.txt")
    assert [each.line for each in found.rejected] == [1, 2, 3, None]
    assert found.rejected[3].reason == "7 further edges cannot be used either"
    (tmp_path / "g.net").write_text("*Vertices 2\n*Edges\n1 2\n" + "1 2 -1\n" * 5)
    assert read_graph(tmp_path / "g.net").rejected[3].reason == "2 further edges cannot be used either"
