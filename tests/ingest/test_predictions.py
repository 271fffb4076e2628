"""Records without edges: predictions are marked, measured, and never learned from."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score

import ingest
import search
from ingest.cli.main import app
from ingest.learn.nodes import prediction
from ingest.learn.nodes.prediction import fitted, learned_map
from search.cli.main import outcome
from search.errors import CollectionError, CollectionNotFound, QueryError, UnknownSpace
from search.vectors import unit_rows

SMALL = ingest.NodeSettings(dim=8)


def test_the_map_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    y = (x @ rng.standard_normal((6, 3)) + 1.5 * rng.standard_normal((40, 3)) + 2).astype(np.float32)
    found = learned_map(x, y)
    chosen = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(x.astype(float), y.astype(float))
    assert found.penalty == pytest.approx(chosen.alpha_)
    assert found.penalty > 1
    want = Ridge(alpha=found.penalty).fit(x.astype(float), y.astype(float))
    np.testing.assert_allclose(found.weights.T, want.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.raw(x), want.predict(x), rtol=1e-4, atol=1e-4)


def test_quality_is_measured_on_examples_held_out():
    rng = np.random.default_rng(1)
    x = unit_rows(rng.standard_normal((100, 5)).astype(np.float32))
    y = unit_rows((x @ rng.standard_normal((5, 4))).astype(np.float32))
    ridge, quality = fitted(x, y, 0)
    order = np.random.default_rng(0).permutation(100)
    held, rest = order[:20], order[20:]
    part = learned_map(x[rest], y[rest])
    guessed = part.raw(x[held])
    assert quality.held_out == 20
    baseline = 1 - ((y[held] - guessed) ** 2).sum() / ((y[held] - y[rest].mean(axis=0)) ** 2).sum()
    assert quality.r2 == pytest.approx(baseline, abs=1e-5)
    assert quality.r2 == pytest.approx(
        r2_score(y[held], guessed, multioutput="variance_weighted"), abs=0.1
    )  # which takes the mean of those held out
    true = np.argsort(-(y[held] @ y[rest].T), axis=1)[:, :10]
    near = np.argsort(-(guessed @ y[rest].T), axis=1)[:, :10]
    assert quality.recall == pytest.approx(
        np.mean([len(set(a) & set(b)) / 10 for a, b in zip(true, near, strict=True)])
    )
    assert quality.recall > 0.5 > quality.chance
    np.testing.assert_allclose(np.linalg.norm(ridge.predicted(x), axis=1), 1, rtol=1e-5)
    with pytest.raises(QueryError, match="only 9"):
        fitted(x[:9], y[:9], 0)


@pytest.fixture
def shop(tmp_path):
    """Forty nodes in two groups, and for each of them, and for four without edges, a vector that tells the group."""
    graph = nx.planted_partition_graph(2, 20, 0.5, 0.05, seed=0)
    graph = nx.relabel_nodes(graph, {n: f"n{n:02}" for n in graph})
    rng = np.random.default_rng(0)
    names = [*sorted(graph), "new0", "new1", "new2", "new3"]
    groups = np.array([*[0] * 20, *[1] * 20, 0, 1, 0, 1])
    given = np.eye(2, 6)[groups] + 0.2 * rng.standard_normal((44, 6))
    with search.open(tmp_path / "c") as made:
        made.add([{"id": name, "metadata": {"name": name}} for name in names], given, space="mine")
        ingest.graph(made, graph, method="prone", settings=SMALL)
        yield made


def test_predictions_are_marked_measured_and_not_learned_from(shop, monkeypatch):
    told = ingest.predict(shop, dry_run=True)
    assert shop.count() == 44
    assert shop.search(like="n00", space="graph", k=99)[-1].id.startswith("n")
    found = ingest.predict(shop)
    assert found == told
    assert (found.space, found.source, found.examples, found.predicted, found.held_out) == (
        "graph",
        "mine",
        40,
        4,
        8,
    )
    assert found.cosine > 0.6
    assert found.recall > found.chance
    for k, group in enumerate((0, 1, 0, 1)):
        hits = shop.search(like=f"new{k}", space="graph", k=10, where="graph_predicted is null")
        assert {hit.id < "n20" for hit in hits} == {group == 0}
        assert all("graph_predicted" not in hit.metadata for hit in hits)
    (record,) = shop.get("new0")
    assert record.metadata == {"name": "new0", "graph_predicted": True}
    assert shop.count("graph_predicted = true") == 4
    assert {hit.id for hit in shop.links("new0", k=5)} <= {f"n{k:02}" for k in range(20)} | {"new2"}

    commit = shop.info()["commit"]
    assert ingest.predict(shop) == found  # nothing has changed
    assert shop.info()["commit"] == commit
    learned_from = []
    monkeypatch.setattr(
        prediction, "learned_map", lambda x, y: learned_from.append(len(x)) or learned_map(x, y)
    )
    ingest.predict(shop)
    assert learned_from == [32, 40]


def test_edges_take_the_place_of_predictions(shop, tmp_path):
    ingest.predict(shop)
    more = tmp_path / "more.txt"
    more.write_text("new0 n00\nnew0 n01\n")
    before = {hit.id for hit in shop.search(vector=np.ones(8), space="graph", k=99)}
    assert "new0" in before
    told = ingest.graph(shop, more, add=True)
    assert (told.attached.nodes, told.updated) == (1, 1)
    assert shop.get("new0")[0].metadata == {"name": "new0"}
    assert shop.count("graph_predicted = true") == 3
    # Learned again: the three that are left are predicted again from what was learned, of 41 by now.
    graph = nx.path_graph(["n00", "n01", "n02", "new1"])
    refit = ingest.graph(shop, graph, method="prone", settings=SMALL, refit=True)
    assert refit.turned["shared"] == 4
    assert shop.get("new1")[0].metadata == {"name": "new1"}
    assert shop.count("graph_predicted = true") == 0  # 5 records with both are too few
    assert shop.get("n30") != [None]
    assert shop.check() == []


def test_a_graph_learned_again_has_its_predictions_again(shop):
    ingest.predict(shop)
    graph = nx.Graph([(f"n{k:02}", hit.id) for k in range(40) for hit in shop.neighbours(f"n{k:02}")])
    graph.add_edge("n00", "new3")
    report = ingest.graph(shop, graph, method="prone", settings=SMALL)
    assert (report.removed, report.added) == (0, 0)
    assert shop.count("graph_predicted = true") == 3
    assert shop.get("new3")[0].metadata == {"name": "new3"}
    with_one = shop.info()["spaces"]
    assert {space["name"]: space["records"] for space in with_one} == {"mine": 44, "graph": 44}


def test_what_cannot_be_predicted(shop, tmp_path, capsys):
    with pytest.raises(CollectionError, match="not of a graph"):
        ingest.predict(shop, space="mine")
    with pytest.raises(UnknownSpace, match="'nope'"):
        ingest.predict(shop, source="nope")
    with pytest.raises(CollectionNotFound):
        ingest.predict(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    shop.add([{"id": "n00"}], [[1.0, 2.0]], space="other")
    with pytest.raises(UnknownSpace, match="'mine', 'other'"):
        ingest.predict(shop)
    with pytest.raises(QueryError, match="only 1"):
        ingest.predict(shop, source="other")
    shop.close()

    def run(*arguments: object) -> int:
        return outcome(app, [str(one) for one in ("predict", "-c", tmp_path / "c", *arguments)])

    assert run("--from", "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["predicted"] == 4
    assert run("--from", "mine", "--dry-run") == 0
    assert "4 records would be given a vector" in " ".join(capsys.readouterr().out.split())
    assert run("--from", "nope") == 1
    assert capsys.readouterr().err.startswith("error: there is no space 'nope'")
