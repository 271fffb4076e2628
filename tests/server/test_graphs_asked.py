"""A collection of whole graphs is asked over HTTP by a graph, as node-link JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from starlette.testclient import TestClient

import ingest
import search
from search.collection import Collection
from search.server.app import application
from search.server.fields import MOST_OF_A_GRAPH
from search.server.settings import Settings


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Collection]:
    graphs = [nx.cycle_graph(5 + k) if k % 2 else nx.star_graph(4 + k) for k in range(10)]
    ingest.graphs(tmp_path / "lab", graphs, settings=ingest.GraphSettings(dim=8))
    with search.open(tmp_path / "lab", mode="r") as opened:
        yield opened


@pytest.fixture
def client(lab: Collection) -> Iterator[TestClient]:
    with TestClient(application(lab, Settings()), base_url="http://localhost") as made:
        yield made


def link(graph: Any, **told: Any) -> dict[str, Any]:
    return {
        "nodes": [{"id": k} for k in graph],
        "links": [{"source": u, "target": v} for u, v in graph.edges()],
        **told,
    }


def test_a_graph_is_answered_as_in_python(lab: Collection, client: TestClient) -> None:
    asked = nx.star_graph(7)
    expected = lab.search(graph=asked, k=4)
    told = client.post("/search", json={"graph": link(asked), "k": 4})
    assert told.status_code == 200
    assert [hit["id"] for hit in told.json()] == [hit.id for hit in expected]
    assert told.json()[0]["score"] == pytest.approx(expected[0].score)
    mixed = client.post("/search", json={"graph": link(asked), "like": "1", "weights": {"graph": 2}, "k": 3})
    assert [hit["id"] for hit in mixed.json()] == [
        hit.id for hit in lab.search(graph=asked, like="1", weights={"graph": 2.0}, k=3)
    ]


def test_what_is_no_graph_is_refused(client: TestClient) -> None:
    many = [{"id": 1}] * (MOST_OF_A_GRAPH + 1)
    for graph, reason in [
        ("a", "give a graph as node-link JSON"),
        ({"nodes": []}, "give a graph as node-link JSON"),
        ({"nodes": [], "links": []}, "the graph has no nodes"),
        ({"nodes": [1], "links": []}, "one of the graph's nodes is no object"),
        ({"nodes": [{"id": 1}], "links": [None]}, "one of the graph's links is no object"),
        ({"nodes": [{"id": 1}], "links": [{"source": 1, "target": 2}]}, "an end that is not among the nodes"),
        ({"nodes": [{"id": 1}, {"id": "1"}], "links": []}, "two nodes have the id '1'"),
        ({"nodes": many, "links": []}, "100,001 nodes"),
    ]:
        told = client.post("/search", json={"graph": graph})
        assert told.status_code == 422, reason
        said = told.json()
        assert reason in f"{said['error']}; {said['do']}"
