"""Graphs in a collection: edges are kept and explain, vectors stay where they were, later nodes get theirs at once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import ingest
import search
from search.catalog import edges
from search.collection import Collection
from search.errors import (
    CollectionCorrupt,
    CollectionError,
    QueryError,
    SourceError,
    UnknownRecord,
    UnknownSpace,
)

SMALL = ingest.NodeSettings(dim=8)


def taken_in(path: Path, graph: nx.Graph, method: str = "cleora", **more) -> Collection:
    shop = search.open(path / "c")
    ingest.graph(shop, graph, method=method, settings=SMALL, **more)
    return shop


def weighed(seed: int, n: int = 30, m: int = 60, directed: bool = False) -> nx.Graph:
    """A random graph with weights, self-loops and, mostly, several components."""
    rng = np.random.default_rng(seed)
    graph = nx.DiGraph() if directed else nx.Graph()
    for u, v, w in zip(rng.integers(0, n, m), rng.integers(0, n, m), rng.integers(1, 9, m), strict=True):
        graph.add_edge(f"n{u}", f"n{v}", weight=float(w) / 2)
    return graph


def vectors_of(shop: Collection, space: str = "graph") -> dict[str, np.ndarray]:
    from ingest.verbs.graph_stored import node_vectors

    there = shop.spaces()[space]
    ids = shop.ids_in(there)
    rows, matrix = node_vectors(shop.database, there, ids)
    return {ids[row]: vector for row, vector in zip(rows, matrix, strict=True)}


@pytest.mark.parametrize("entries", [3, 65_536])
@pytest.mark.parametrize("directed", [False, True])
def test_neighbours_are_those_of_networkx(tmp_path, monkeypatch, directed, entries):
    monkeypatch.setattr(edges, "ENTRIES", entries)  # with 3, most nodes fill several blocks
    graph = weighed(1, directed=directed)
    with taken_in(tmp_path, graph) as shop:
        for node in graph:
            want: dict[str, float] = {}
            for other in set(nx.all_neighbors(graph, node)) - {node}:
                sides = {(node, other), (other, node)} if directed else {(node, other)}
                want[other] = sum(graph.edges[e]["weight"] for e in sides if graph.has_edge(*e))
            found = shop.neighbours(node)
            assert {hit.id: hit.score for hit in found} == pytest.approx(want)
            assert [hit.score for hit in found] == sorted(want.values(), reverse=True)
            for hit in found:
                ways = [graph.has_edge(node, hit.id), graph.has_edge(hit.id, node)]
                way = "both" if all(ways) else "out" if ways[0] else "in"
                assert hit.explain == {"edge": hit.score, "direction": way}
        assert shop.check() == []
        (space,) = shop.info()["spaces"]
        assert space["graph"] == {"edges": graph.number_of_edges(), "directed": directed}


@pytest.mark.parametrize("directed", [False, True])
def test_hits_say_why(tmp_path, directed):
    graph = weighed(2, n=40, m=45, directed=directed)
    plain = nx.Graph(graph)
    plain.remove_edges_from(list(nx.selfloop_edges(plain)))
    seen = set()
    with taken_in(tmp_path, graph) as shop:
        for node in list(graph)[:12]:
            for hit in shop.search(like=node, k=40, explain=True):
                (why,) = hit.explain["why"]
                assert (why["space"], why["like"]) == ("graph", node)
                ways = graph.has_edge(node, hit.id), directed and graph.has_edge(hit.id, node)
                assert ("edge" in why) == any(ways)
                common = set(nx.common_neighbors(plain, node, hit.id))
                assert why.get("common", 0) == len(common)
                assert set(why.get("through", [])) <= common
                assert len(why.get("through", [])) == min(len(common), 5)
                if "path" in why:
                    assert "edge" not in why
                    assert not common
                    length = (
                        nx.shortest_path_length(plain, node, hit.id)
                        if nx.has_path(plain, node, hit.id)
                        else 99
                    )
                    seen.add(min(length, 5))
                    if length > 4:
                        assert why["path"] is None
                    else:
                        assert why["path"][0] == node
                        assert why["path"][-1] == hit.id
                        assert len(why["path"]) == length + 1
                        assert nx.is_path(plain, why["path"])
        (hit,) = shop.recommend([node, *[one.id for one in shop.neighbours(node, k=1)]], k=1, explain=True)
        assert len(hit.explain["why"]) == 2
    assert seen == {3, 4, 5}


def test_hits_of_a_mix_say_why(tmp_path):
    graph = weighed(2, n=40, m=45, directed=False)
    with taken_in(tmp_path, graph) as shop:
        node = next(iter(graph))
        (space,) = shop.spaces().values()
        vector = np.ones(space.dim)
        alone = {hit.id: hit.explain["why"] for hit in shop.search(like=node, k=40, explain=True)}
        hits = shop.search(like=node, vector=vector, weights={"vector": 0.2}, k=10, explain=True)
        assert len(hits) == 10
        for hit in hits:
            assert hit.explain["why"] == alone[hit.id]
            assert hit.explain["ways"] == {space.name: {"like": 1.0, "vector": 0.2}}
        assert "why" not in shop.search(vector=vector, k=1, explain=True)[0].explain


def test_a_deleted_node_is_gone_from_all_answers(tmp_path):
    graph = nx.path_graph(["a", "b", "c", "d", "e"])
    with taken_in(tmp_path, graph) as shop:
        shop.delete("c")
        assert [hit.id for hit in shop.neighbours("b")] == ["a"]
        why = {hit.id: hit.explain["why"][0] for hit in shop.search(like="a", k=9, explain=True)}
        assert why["d"]["path"] is None
        assert why["b"]["edge"] == 1.0
        shop.add([{"id": "c"}])  # another record of the same id has none of the edges
        assert shop.neighbours("c") == []
        assert shop.info()["spaces"][0]["graph"]["edges"] == 4
        shop.compact()
        assert shop.info()["spaces"][0]["graph"]["edges"] == 2
        assert [hit.id for hit in shop.neighbours("d")] == ["e"]
        assert shop.check() == []
        shop.backup(tmp_path / "copy")
    search.restore(tmp_path / "copy", tmp_path / "again")
    with search.open(tmp_path / "again", "r") as again:
        assert [hit.id for hit in again.neighbours("e")] == ["d"]


def test_damage_is_noticed(tmp_path):
    with taken_in(tmp_path, nx.path_graph(["a", "b", "c"])) as shop:
        catalog = shop.layout.catalog
    with sqlite3.connect(catalog) as db:
        db.execute("update edge_block set data = zeroblob(length(data))")
    with search.open(tmp_path / "c", "r") as shop:
        with pytest.raises(CollectionCorrupt, match="block 1 of the edges of space 'graph'"):
            shop.neighbours("a")
        assert any("edges of space 'graph'" in line for line in shop.check())
    with sqlite3.connect(catalog) as db:
        db.execute("delete from edge_block")
    with search.open(tmp_path / "c", "r") as shop:
        with pytest.raises(CollectionCorrupt, match="restore"):
            shop.neighbours("a")
        assert any("edges of space 'graph'" in line for line in shop.check())


def test_questions_that_cannot_be_answered(tmp_path):
    with taken_in(tmp_path, nx.path_graph(["a", "b", "c"])) as shop:
        with pytest.raises(UnknownRecord, match="'z'"):
            shop.neighbours("z")
        with pytest.raises(UnknownSpace, match="nope"):
            shop.neighbours("a", space="nope")
        with pytest.raises(QueryError, match="k must be"):
            shop.neighbours("a", k=0)
        shop.add([{"id": "v"}], [[1.0, 0.0]], space="mine")
        with pytest.raises(UnknownSpace, match="holds no edges"):
            shop.neighbours("v", space="mine")
        assert shop.neighbours("v") == []
        ingest.graph(shop, nx.path_graph(["a", "b"]), method="cleora", settings=SMALL, space="other")
        with pytest.raises(QueryError, match="'graph', 'other'"):
            shop.neighbours("a")
        assert [hit.id for hit in shop.neighbours("b", space="other")] == ["a"]


def two_groups(seed: int = 0) -> nx.Graph:
    graph = nx.planted_partition_graph(2, 20, 0.5, 0.05, seed=seed)
    return nx.relabel_nodes(graph, {n: f"n{n:02}" for n in graph})


def test_a_refit_keeps_the_orientation_and_every_similarity(tmp_path):
    graph = two_groups()
    with taken_in(tmp_path, graph, "cleora") as shop:
        before = vectors_of(shop)
        graph.add_edge("n00", "new")
        settings = ingest.NodeSettings(dim=8, seed=5)
        told = ingest.graph(shop, graph, method="cleora", settings=settings)
        after = vectors_of(shop)
        assert told.turned is not None
        assert told.turned["shared"] == 40
        cosines = [before[id] @ after[id] for id in before]
        assert np.mean(cosines) == pytest.approx(told.turned["cosine_after"], abs=1e-5)
        assert told.turned["cosine_after"] > 0.9 > told.turned["cosine_before"]
        with search.open(tmp_path / "fresh") as fresh:
            assert ingest.graph(fresh, graph, method="cleora", settings=settings).turned is None
            other = vectors_of(fresh)
        ids = sorted(other)
        now, alone = (np.stack([some[id] for id in ids]) for some in (after, other))
        np.testing.assert_allclose(now @ now.T, alone @ alone.T, atol=2e-6)
        # The reference: scipy's solution of the same problem turns the fresh vectors to the same place.
        from scipy.linalg import orthogonal_procrustes

        shared = sorted(before)
        rotation, _ = orthogonal_procrustes(
            np.stack([other[id] for id in shared]), np.stack([before[id] for id in shared])
        )
        np.testing.assert_allclose(alone @ rotation, now, atol=1e-5)
        assert ingest.graph(shop, graph, method="prone", settings=SMALL).turned is None  # another method
        assert ingest.graph(shop, graph, method="prone", settings=SMALL).updated == 0
        again = ingest.graph(shop, graph, method="prone", settings=SMALL, refit=True)
        assert again.turned["cosine_after"] == pytest.approx(1.0, abs=1e-5)
        assert again.updated == 41


def test_added_nodes_are_the_mean_of_their_neighbours(tmp_path):
    graph = two_groups()
    with taken_in(tmp_path, graph, "lle") as shop:
        before = vectors_of(shop)
        more = tmp_path / "more.csv"
        more.write_text("u,v,w\nx,n00,3\nx,n01,1\ny,x,1\ny,n02,1\nn00,n00,1\nlost,gone,1\n")
        told = ingest.graph(shop, more, add=True)
        assert (told.attached.edges, told.attached.nodes, told.attached.waiting) == (6, 2, 2)
        assert (told.added, told.unchanged) == (4, 3)
        after = vectors_of(shop)
        assert all((after[id] == before[id]).all() for id in before)
        # x = (3 n00 + n01 + y) / 5 and y = (x + n02) / 2, so x = (3 n00 + n01 + n02 / 2) / 4.5
        x = (3 * before["n00"] + before["n01"] + before["n02"] / 2) / 4.5
        y = (x + before["n02"]) / 2
        np.testing.assert_allclose(after["x"], x / np.linalg.norm(x), atol=1e-5)
        np.testing.assert_allclose(after["y"], y / np.linalg.norm(y), atol=1e-5)
        assert {hit.id for hit in shop.neighbours("x")} == {"n00", "n01", "y"}
        assert [hit.id for hit in shop.neighbours("lost")] == ["gone"]
        assert shop.check() == []

        again = ingest.graph(shop, more, add=True)
        assert (again.attached.edges, again.attached.known, again.added, again.updated) == (0, 6, 0, 0)
        assert (
            ingest.graph(shop, graph, method="lle", settings=SMALL).updated == 0
        )  # the graph itself is the same
        graph.add_edge("n03", "n30")
        learned = ingest.graph(shop, graph, method="lle", settings=SMALL)
        assert learned.removed == 0
        assert learned.turned["shared"] == 42
        assert {hit.id for hit in shop.neighbours("x")} == {"n00", "n01", "y"}
        assert set(vectors_of(shop)) == {*graph, "x", "y", "lost", "gone"}
        pruned = ingest.graph(shop, graph, method="lle", settings=SMALL, prune=True, refit=True)
        assert pruned.removed == 4
        assert shop.get("x") == [None]
        assert shop.info()["spaces"][0]["graph"]["edges"] == graph.number_of_edges()


def test_additions_that_cannot_be(tmp_path):
    graph = nx.path_graph(["a", "b", "c"])
    with pytest.raises(UnknownSpace, match="without --add"):
        ingest.graph(tmp_path / "c", graph, add=True)
    with taken_in(tmp_path, graph) as shop:
        for wrong in ({"refit": True}, {"prune": True}, {"method": "lle"}, {"settings": SMALL}):
            with pytest.raises(SourceError, match="leave"):
                ingest.graph(shop, graph, add=True, **wrong)
        with pytest.raises(CollectionError, match="undirected"):
            ingest.graph(shop, graph, add=True, edges=ingest.EdgeFormat(directed=True))
        shop.add([{"id": "v"}], [[1.0, 0.0]], space="mine")
        with pytest.raises(CollectionError, match="holds no edges"):
            ingest.graph(shop, graph, add=True, space="mine")
        dry = ingest.graph(shop, nx.path_graph(["c", "d"]), add=True, dry_run=True)
        assert (dry.added, dry.attached.edges, shop.count()) == (1, 1, 4)


def test_links_are_the_pairs_a_regression_says(tmp_path):
    from sklearn.linear_model import LogisticRegression

    graph = two_groups(1)
    with taken_in(tmp_path, graph, "prone") as shop:
        found = shop.links("n00", k=50)
        beside = set(graph["n00"])
        assert {hit.id for hit in found} == set(graph) - beside - {"n00"}
        scores = [hit.score for hit in found]
        assert scores == sorted(scores, reverse=True)
        assert 0 < min(scores) < max(scores) < 1
        assert [(hit.id, hit.score) for hit in shop.links("n00", k=50)] == [
            (hit.id, hit.score) for hit in found
        ]
        # Against a regression of all pairs, with and without an edge: another sample, the same order but for little.
        vectors = vectors_of(shop)
        pairs = [(u, v) for u in graph for v in graph if u < v]

        def popular(u, v):  # without the edge itself, where there is one
            return np.log1p(np.array([graph.degree[u], graph.degree[v]]) - graph.has_edge(u, v)).sum()

        linked = [graph.has_edge(u, v) for u, v in pairs]
        log_odds = 0.0
        for features, ease in (
            (lambda u, v: vectors[u] * vectors[v] * 8, 12 / len(pairs)),
            (lambda u, v: [popular(u, v)], 1.0),
        ):
            weigh = LogisticRegression(C=ease, class_weight="balanced", max_iter=1000)
            weigh.fit(np.array([features(u, v) for u, v in pairs]), linked)
            log_odds = log_odds + weigh.decision_function(
                np.array([features("n00", hit.id) for hit in found])
            )
        want = 1 / (1 + np.exp(-log_odds))
        assert np.corrcoef(want, scores)[0, 1] > 0.95
        (why,) = shop.links("n00", k=1, explain=True)[0].explain["why"]
        assert why["common"] == len(list(nx.common_neighbors(graph, "n00", found[0].id)))
        with pytest.raises(UnknownRecord, match="'z'"):
            shop.links("z")
        shop.add([{"id": "bare"}])
        with pytest.raises(UnknownRecord, match="no vector"):
            shop.links("bare")


def test_scores_of_pairs_are_those_of_networkx_and_by_hand():
    from ingest.learn.nodes.link_prediction import edge_pairs, neighbourhoods, quality
    from ingest.sources.graphs import from_networkx

    graph = weighed(3)
    read = from_networkx(graph)
    plain = nx.Graph(graph)
    plain.remove_edges_from(list(nx.selfloop_edges(plain)))
    pairs = np.array([(u, v) for u in range(read.n_nodes) for v in range(u)])
    common, adamic_adar = neighbourhoods(read, pairs)
    named = [(read.ids[u], read.ids[v]) for u, v in pairs]
    assert common.tolist() == [len(list(nx.common_neighbors(plain, u, v))) for u, v in named]
    assert adamic_adar.tolist() == pytest.approx([p for _, _, p in nx.adamic_adar_index(plain, named)])
    edges_there = {tuple(sorted(edge)) for edge in plain.edges}
    assert {tuple(sorted(read.ids[k] for k in pair)) for pair in edge_pairs(read)} == edges_there
    # Edges at 0.9 and 0.3, others at 0.5 and 0.1: 3 of 4 pairs in order; precision 1 at the first, 2/3 at the second.
    told = quality(np.array([True, True, False, False]), np.array([0.9, 0.3, 0.5, 0.1]))
    assert (told.auc, told.average_precision) == pytest.approx((0.75, (1 + 2 / 3) / 2))


def test_links_are_evaluated_on_edges_held_out(tmp_path, capsys):
    from ingest.cli.main import app
    from ingest.verbs.links import evaluate_links
    from search.cli.main import outcome

    graph = two_groups(2)
    with taken_in(tmp_path, graph, "prone") as shop:
        commit = shop.info()["commit"]
        found = evaluate_links(shop, share=0.2, seed=1)
        assert (found.method, found.held_out, found.kept) == (
            "prone",
            round(0.2 * graph.number_of_edges()),
            graph.number_of_edges() - round(0.2 * graph.number_of_edges()),
        )
        assert set(found.scores) == {"regression", "cosine", "degrees", "common neighbours", "Adamic-Adar"}
        assert (
            found.scores["regression"].auc > 0.65
        )  # in the same group 0.5 of the pairs are edges, else 0.05
        assert evaluate_links(shop, share=0.2, seed=1) == found
        assert evaluate_links(shop, share=0.2, seed=2) != found
        assert shop.info()["commit"] == commit
        with pytest.raises(SourceError, match="between 0 and 1"):
            evaluate_links(shop, share=1.0)

    def run(*arguments: object) -> int:
        return outcome(app, [str(one) for one in (*arguments, "-c", tmp_path / "c")])

    assert run("links", "--evaluate", "--share", 0.2, "--seed", 1) == 0
    assert f"AUC {found.scores['regression'].auc:.4f}" in capsys.readouterr().out
    assert run("links", "--like", "n00", "-k", 2, "--json") == 0
    import json

    assert len(json.loads(capsys.readouterr().out)) == 2
    assert run("neighbours", "n00") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(graph["n00"])
    for wrong in (
        ("links",),
        ("links", "--like", "n00", "--evaluate"),
        ("links", "--like", "n00", "--share", 0.1),
    ):
        assert run(*wrong) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_held_out_links_of_ppi(shared_data):
    from ingest.learn.nodes.link_prediction import evaluated
    from ingest.learn.nodes.load import NodeSettings, load_trainer
    from ingest.sources.graphs import read_graph

    graph = read_graph(shared_data("graphs/ppi/PPI.ungraph")).graph
    found = evaluated(load_trainer("prone", NodeSettings()), graph, 0.5, 0)
    assert found.scores["regression"].auc > 0.885
    assert found.scores["regression"].auc > found.scores["Adamic-Adar"].auc + 0.05


def test_links_know_degrees_by_which_hubs_come_first(tmp_path):
    graph = nx.relabel_nodes(nx.barabasi_albert_graph(120, 4, seed=1), lambda k: f"n{k:03}")
    with taken_in(tmp_path, graph, "cleora") as shop:
        found = shop.links("n119", k=119)
        degrees = [graph.degree[hit.id] for hit in found]
        assert np.corrcoef(np.log(degrees), [hit.score for hit in found])[0, 1] > 0.5


@pytest.mark.parametrize("directed", [False, True])
def test_links_of_a_large_graph_are_those_of_a_small_one(tmp_path, monkeypatch, directed):
    """A large graph's degrees are counted from the blocks that are stored; here they are all looked at in both ways."""
    graph = two_groups(2)
    if directed:
        graph = nx.DiGraph(sorted((max(u, v), min(u, v)) for u, v in graph.edges))
    with taken_in(tmp_path, graph, "prone") as shop:
        ingest.graph(
            shop, nx.DiGraph([("z", "n00")]) if directed else nx.Graph([("z", "n00")]), add=True
        )  # another layer
        small = [(hit.id, hit.score) for hit in shop.links("n00", k=50)]
        monkeypatch.setattr("search.query.links._SMALL", -1)
        assert [(hit.id, hit.score) for hit in shop.links("n00", k=50)] == small
