"""Graphs whose nodes have features: from a matrix, from attributes, from a space; and nodes that come later."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

import ingest
import search
from ingest.cli.main import app
from ingest.learn.nodes.features import Features
from ingest.learn.nodes.sgc import SGC, SGCSettings, SmoothedAxes
from ingest.sources.graphs import from_networkx, read_graph
from search.catalog import reads
from search.cli.main import outcome
from search.collection import Collection
from search.errors import CollectionError, ModelError, SourceError, UnknownSpace
from search.types import Metric

Floats = NDArray[np.float32]
SIX = ingest.NodeSettings(dim=6)


def saved(path: Path, graph: nx.Graph[Any], rows: NDArray[Any] | None, dense: bool = False) -> Path:
    """As the benchmarks have it; node k is called n00k."""
    adjacency = scipy.sparse.csr_array(
        nx.to_scipy_sparse_array(graph, nodelist=sorted(graph), dtype=np.float32)
    )
    arrays: dict[str, Any] = {
        f"adj_{part}": getattr(adjacency, part) for part in ("data", "indices", "indptr")
    }
    arrays["adj_shape"] = adjacency.shape
    arrays["node_names"] = [f"n{k:03}" for k in sorted(graph)]
    if rows is not None and dense:
        arrays["attr_matrix"] = rows
    elif rows is not None:
        sparse = scipy.sparse.csr_array(rows)
        arrays |= {f"attr_{part}": getattr(sparse, part) for part in ("data", "indices", "indptr", "shape")}
    np.savez(path, **arrays)
    return path


def words(n: int, width: int = 10) -> Floats:
    """Rows of 0 and 1, none of them all 0."""
    rows = (np.random.default_rng(7).random((n, width)) < 0.3).astype(np.float32)
    rows[np.arange(n), np.arange(n) % width] = 1
    return rows


def stored(shop: Collection, space: str = "graph") -> dict[str, Floats]:
    """The vector of each record."""
    with shop.database.reading() as transaction:
        found = shop.spaces()[space]
        keys: dict[int, Floats] = {}
        dead = reads.tombstones(transaction, found)
        for batch in reads.batches(transaction, found):
            rows = zip(batch.part_keys.tolist(), batch.record_keys.tolist(), batch.vectors, strict=True)
            keys |= {owner: row for part, owner, row in rows if part not in dead}
        names = dict(transaction.sql("select key, id from record").fetchall())
    return {names[key]: row for key, row in keys.items()}


def encoder(shop: Collection) -> SmoothedAxes:
    with shop.database.reading() as transaction:
        data = reads.model(transaction, shop.spaces()["graph"].encoder.weights or "")
        assert transaction.value("select count(*) from model") == 1
    assert data is not None
    return SmoothedAxes.from_bytes(data)


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    with search.open(tmp_path / "c") as opened:
        yield opened


GRAPH = nx.barabasi_albert_graph(40, 3, seed=3)


@pytest.mark.parametrize("dense", [False, True])
def test_attributes_in_the_file_are_the_features_and_become_a_space(
    shop: Collection, tmp_path: Path, dense: bool
) -> None:
    rows = words(40)
    path = saved(tmp_path / "g.npz", GRAPH, rows, dense)
    report = ingest.graph(shop, path, method="sgc", settings=SIX)
    assert (report.added, report.vectors) == (40, 40)
    read = read_graph(path).graph
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = SGC(SGCSettings(dim=6), Features(read.ids, unit, "x")).fit(read)
    found = stored(shop)
    np.testing.assert_allclose([found[id] for id in read.ids], expected, atol=1e-5)
    kept = shop.spaces()["graph_attributes"]
    assert (kept.dim, kept.metric) == (10, Metric.COSINE)
    own = stored(shop, "graph_attributes")
    np.testing.assert_allclose([own[id] for id in read.ids], unit, atol=1e-6)
    again = ingest.graph(shop, path, method="sgc", settings=SIX)
    assert (again.unchanged, again.updated) == (40, 0)
    assert ingest.graph(shop, path).unchanged == 40  # the method and settings of the space


def test_other_attributes_are_learned_anew_and_vectors_keep_their_orientation(
    shop: Collection, tmp_path: Path
) -> None:
    rows = words(40)
    ingest.graph(shop, saved(tmp_path / "g.npz", GRAPH, rows), method="sgc", settings=SIX)
    rows[3] = 0
    rows[5] = 1 - rows[5]
    report = ingest.graph(shop, saved(tmp_path / "g.npz", GRAPH, rows))
    assert report.updated == 40
    assert report.turned is not None
    assert report.turned["cosine_after"] > 0.9
    own = stored(shop, "graph_attributes")
    assert "n003" not in own
    np.testing.assert_allclose(own["n005"], rows[5] / np.linalg.norm(rows[5]), atol=1e-6)
    # The encoder that is kept makes the vectors that are kept, turned as they are.
    read = read_graph(tmp_path / "g.npz").graph
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    found = stored(shop)
    np.testing.assert_allclose(encoder(shop).encode(read, unit), [found[id] for id in read.ids], atol=1e-5)


def test_later_nodes_are_encoded_by_what_was_learned_and_others_stay(
    shop: Collection, tmp_path: Path
) -> None:
    rows = words(44)
    whole = nx.barabasi_albert_graph(44, 3, seed=3)
    first = whole.subgraph(range(40))
    ingest.graph(shop, saved(tmp_path / "g.npz", first, rows[:40]), method="sgc", settings=SIX)
    before, own_before = stored(shop), stored(shop, "graph_attributes")
    wrong = rows.copy()
    wrong[:40] = 1 - wrong[:40]  # what is said again of known nodes does not count
    path = saved(tmp_path / "more.npz", whole, wrong)
    assert ingest.graph(shop, path, add=True, dry_run=True).added == 4
    report = ingest.graph(shop, path, add=True)
    assert report.attached is not None
    assert (report.attached.nodes, report.attached.waiting) == (4, 0)
    after = stored(shop)
    assert all(after[id].tobytes() == row.tobytes() for id, row in before.items())
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    graph = read_graph(path).graph
    expected = encoder(shop).encode(graph, unit)
    np.testing.assert_allclose([after[id] for id in graph.ids[40:]], expected[40:], atol=1e-6)
    own = stored(shop, "graph_attributes")
    assert own.keys() - own_before.keys() == {f"n{k:03}" for k in range(40, 44)}
    assert all(own[id].tobytes() == row.tobytes() for id, row in own_before.items())
    # Learned again, what was added is part of it, with its attributes.
    ingest.graph(shop, tmp_path / "g.npz", refit=True)
    assert stored(shop).keys() == after.keys()
    np.testing.assert_allclose(
        encoder(shop).encode(graph, unit), [stored(shop)[id] for id in graph.ids], atol=1e-5
    )
    # With --prune it goes, and its attributes with it.
    ingest.graph(shop, tmp_path / "g.npz", prune=True, refit=True)
    assert stored(shop, "graph_attributes").keys() == before.keys()


def test_features_may_be_the_vectors_of_another_space(shop: Collection) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    ids = [str(k) for k in range(40)]
    ingest.vectors(shop, ids[:38], vectors[:38], space="mine")
    settings = ingest.NodeSettings(dim=5, hops=1, features="mine")
    first = GRAPH.subgraph(range(39))
    ingest.graph(shop, first, method="sgc", settings=settings)
    assert "graph_attributes" not in shop.spaces()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    graph = from_networkx(first)
    rows = np.array([unit[int(id)] if int(id) < 38 else np.zeros(8) for id in graph.ids], np.float32)
    expected = SGC(SGCSettings(dim=5, hops=1), Features(graph.ids, rows, "mine")).fit(graph)
    found = stored(shop)
    np.testing.assert_allclose([found[id] for id in graph.ids], expected, atol=1e-5)
    # A later node with a vector there and an edge.
    ingest.vectors(shop, ["later"], vectors[39:], space="mine")
    ingest.graph(shop, [("later", "0"), ("later", "7")], add=True)
    whole = nx.Graph([(str(u), str(v)) for u, v in first.edges] + [("later", "0"), ("later", "7")])
    graph = from_networkx(whole)
    rows = np.array([unit[39 if id == "later" else int(id)] for id in graph.ids], np.float32)
    rows[[k for k, id in enumerate(graph.ids) if id == "38"]] = 0
    expected = encoder(shop).encode(graph, rows)
    np.testing.assert_allclose(stored(shop)["later"], expected[graph.ids.index("later")], atol=1e-5)
    # What the features say has changed: all is learned anew.
    assert ingest.graph(shop, first).unchanged == 39
    ingest.vectors(shop, ["0"], -vectors[:1], space="mine")
    assert ingest.graph(shop, first).updated == 40  # with the one that was added
    report = ingest.evaluate_links(shop, share=0.2)
    assert report.method == "sgc"


def test_attributes_of_nodes_that_are_numbers(shop: Collection) -> None:
    graph = GRAPH.copy()
    for node in graph:
        graph.nodes[node].update({"age": 20 + node, "member": node % 3 == 0, "name": f"x{node}"})
    del graph.nodes[4]["age"]
    settings = ingest.NodeSettings(dim=2, attributes=("age", "member"))
    ingest.graph(shop, graph, method="sgc", settings=settings)
    ages = np.array([20.0 + k for k in range(40) if k != 4])
    kept = stored(shop, "graph_attributes")
    np.testing.assert_allclose(kept["0"][0], (20 - ages.mean()) / ages.std(), rtol=1e-5)
    assert kept["4"][0] == 0
    share = 14 / 40
    np.testing.assert_allclose(kept["3"][1], (1 - share) / np.sqrt(share * (1 - share)), rtol=1e-5)
    assert shop.spaces()["graph_attributes"].metric is Metric.L2
    # Those of a later node stand to the same mean and deviation.
    graph.add_node(40, age=90, member=True)
    graph.add_edge(40, 0)
    ingest.graph(shop, graph, add=True)
    np.testing.assert_allclose(
        stored(shop, "graph_attributes")["40"][0], (90 - ages.mean()) / ages.std(), rtol=1e-5
    )
    with pytest.raises(SourceError, match="the attribute 'name' of node '0' is 'x0' and no number"):
        ingest.graph(shop, graph, method="sgc", settings=ingest.NodeSettings(dim=2, attributes=("name",)))
    with pytest.raises(SourceError, match="no node has the attribute 'agee'; they have age, member, name"):
        ingest.graph(shop, graph, method="sgc", settings=ingest.NodeSettings(dim=2, attributes=("agee",)))


def test_attributes_may_be_fields_of_records_that_are_there(shop: Collection) -> None:
    rows = [{"id": str(node), "metadata": {"price": 5.0 * node}} for node in GRAPH]
    shop.add(rows)
    settings = ingest.NodeSettings(dim=1, hops=1, attributes=("price",))
    ingest.graph(shop, nx.Graph(GRAPH.edges), method="sgc", settings=settings)
    prices = 5.0 * np.arange(40)
    kept = stored(shop, "graph_attributes")
    np.testing.assert_allclose(
        [kept[str(node)][0] for node in range(40)], (prices - prices.mean()) / prices.std(), rtol=1e-5
    )
    assert ingest.graph(shop, nx.Graph(GRAPH.edges)).unchanged == 40
    shop.add([{"id": "7", "metadata": {"price": 1000.0}}])
    assert ingest.graph(shop, nx.Graph(GRAPH.edges)).updated == 40


def test_what_cannot_be_used_is_refused_and_changes_nothing(shop: Collection, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="name a space that has them with --features"):
        ingest.graph(shop, GRAPH, method="sgc", settings=SIX)
    with pytest.raises(UnknownSpace, match="there is no space 'text' to take features from"):
        ingest.graph(shop, GRAPH, method="sgc", settings=ingest.NodeSettings(features="text"))
    ingest.vectors(shop, ["elsewhere"], [[1.0, 2.0]], space="mine")
    with pytest.raises(ModelError, match="no node with an edge has features in mine"):
        ingest.graph(shop, GRAPH, method="sgc", settings=ingest.NodeSettings(features="mine"))
    assert set(shop.spaces()) == {"mine"}
    assert shop.count() == 1
    ingest.graph(shop, saved(tmp_path / "g.npz", GRAPH, words(40)), method="sgc", settings=SIX)
    with pytest.raises(CollectionError, match="cannot be learned from itself"):
        ingest.graph(shop, GRAPH, method="sgc", settings=ingest.NodeSettings(dim=6, features="graph"))
    wider = saved(tmp_path / "wider.npz", GRAPH, words(40, 12))
    with pytest.raises(CollectionError, match=r"'graph_attributes' holds vector vectors of 10 dimensions"):
        ingest.graph(shop, wider, method="sgc", settings=SIX, prune=True)
    with pytest.raises(CollectionError, match=r"'graph_attributes' holds vector vectors of 10 dimensions"):
        ingest.graph(shop, wider, add=True)
    for broken, said in (
        (words(39), "attributes of 39 nodes for 40 nodes"),
        (np.full((40, 2), np.nan), "no matrix of finite numbers"),
    ):
        with pytest.raises(SourceError, match=said):
            ingest.graph(shop, saved(tmp_path / "broken.npz", GRAPH, broken), space="other")
    assert set(shop.spaces()) == {"mine", "graph", "graph_attributes"}


def test_too_large_a_matrix_is_refused(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.verbs.node_features.MOST_BYTES", 4 * 40 * 10 - 1)
    path = saved(tmp_path / "g.npz", GRAPH, words(40))
    with pytest.raises(SourceError, match="the 10 attributes of 40 nodes would take"):
        ingest.graph(shop, path, method="sgc", settings=SIX)
    assert ingest.graph(shop, path, method="cleora", settings=SIX).added == 40  # which does not look at them


def test_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    graph = GRAPH.copy()
    nx.set_node_attributes(graph, {node: {"age": 20.5 + node} for node in graph})
    nx.write_graphml(graph, tmp_path / "g.graphml")

    def run(*arguments: object) -> tuple[int, str, str]:
        given = ["ingest", "graph", tmp_path / "g.graphml", "-c", tmp_path / "c", *arguments]
        code = outcome(app, [str(one) for one in given])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    code, _, told = run("--method", "sgc")
    assert code == 1
    assert "error: sgc learns from features of nodes" in told
    assert run("--method", "prone", "--hops", 3)[0] == 1
    assert "takes no attributes" in run("--method", "cleora", "--attribute", "age")[2]
    code, out, told = run("--method", "sgc", "--dim", 4, "--attribute", "age", "--hops", 1, "--json")
    assert code == 0, told
    assert json.loads(out)["vectors"] == 40
    code, out, _ = run("--json")
    assert json.loads(out)["unchanged"] == 40
    code, out, told = run(
        "--method", "node2vec+", "--dim", 4, "--walks", 1, "--q", 2, "--gamma", 0.5, "--json"
    )
    assert code == 0, told
    with search.open(tmp_path / "c", "r") as there:
        assert there.spaces()["graph"].encoder.options["gamma"] == 0.5
        assert there.spaces()["graph"].encoder.weights is None
        with there.database.reading() as transaction:  # the encoder went with the method
            assert transaction.value("select count(*) from model") == 0


def test_cora_knows_its_words(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared_data("graphs/cora/cora.npz")
    read = read_graph(path)
    assert read.matrix is not None
    assert read.matrix.rows.shape == (2708, 1433)
    assert read.matrix.rows.nnz == 49216
    assert set(map(len, read.attributes.values())) == {1}  # the label
