"""The planner by table: which method, at which cost, and which space answers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import search
from search.errors import QueryError, UnknownSpace, WrongModality
from search.index.choose import FLAT_UP_TO, wants_graph
from search.query.plan import Method, named, plan, space_for, space_of_vector
from search.types import EncoderSpec, Metric, Modality, Space


@pytest.mark.parametrize(
    ("n_rows", "n_allowed", "n_indexed", "k", "effort", "method"),
    [
        (1000, 1000, 0, 10, 0, Method.SCAN),  # no graph
        (100_000, 100_000, 0, 10, 0, Method.SCAN),
        (1000, 1000, 1000, 10, 16, Method.SCAN),  # reading a thousand rows is less than the walk
        (100_000, 100_000, 100_000, 10, 16, Method.GRAPH),
        (1_000_000, 1_000_000, 1_000_000, 10, 64, Method.GRAPH),
        (1_000_000, 500_000, 1_000_000, 10, 64, Method.GRAPH),  # half of the visits count
        (1_000_000, 1_000, 1_000_000, 10, 64, Method.SCAN),  # one in a thousand: gather the few
        (1_000_000, 0, 1_000_000, 10, 64, Method.SCAN),
        (1_000_000, 1, 1_000_000, 1, 64, Method.SCAN),
        (1_000_000, 1_000_000, 10_000, 10, 64, Method.SCAN),  # nearly all rows are outside the graph
        (1_000_000, 1_000_000, 1_000_000, 5_000, 64, Method.SCAN),  # more wanted than a walk can give
        (1_000_000, 1_000_000, 1_200_000, 10, 64, Method.GRAPH),  # the graph still holds deleted rows
    ],
)
def test_the_cheaper_way_is_taken(
    n_rows: int, n_allowed: int, n_indexed: int, k: int, effort: int, method: Method
) -> None:
    way = plan(n_rows, n_allowed, n_indexed, k, effort)
    assert way.method is method
    assert (way.n_rows, way.n_allowed) == (n_rows, n_allowed)
    if way.method is Method.GRAPH:
        assert way.graph_cost is not None
        assert way.graph_cost < way.scan_cost
        assert way.effort is not None
        assert way.effort >= k
    if n_indexed == 0:
        assert (way.graph_cost, way.effort) == (None, None)


def test_a_filter_makes_the_walk_longer() -> None:
    efforts = [plan(1_000_000, n, 1_000_000, 10, 64).effort for n in (1_000_000, 500_000, 250_000, 100_000)]
    assert efforts == [64, 128, 256, 640]
    costs = [plan(1_000_000, n, 1_000_000, 10, 64).graph_cost for n in (1_000_000, 500_000, 250_000, 100_000)]
    assert costs == sorted(costs)  # type: ignore[type-var]


def test_a_graph_is_wanted_for_what_is_too_much_to_scan() -> None:
    n = FLAT_UP_TO // 384
    assert not wants_graph(n, 384)
    assert wants_graph(n + 1, 384)
    assert not wants_graph(2 * n, 384, n)
    assert wants_graph(2 * n + 2, 384, n)


def space(name: str, modality: Modality, dim: int, *accepts: str) -> Space:
    spec = EncoderSpec("family", f"model-of-{name}", modality, dim, accepts)
    return Space(1, name, modality, dim, Metric.COSINE, spec)


SPACES = {
    one.name: one
    for one in (
        space("words", Modality.TEXT, 384, "text"),
        space("clip", Modality.IMAGE, 512, "text", "image"),
        space("graph", Modality.GRAPH, 128),
    )
}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (None, "text", "words"),  # words of its own modality come before pictures that words can find
        (None, "image", "clip"),
        ("clip", "text", "clip"),
        ("words", "text", "words"),
        ("words", "image", WrongModality),
        ("graph", "text", WrongModality),
        ("absent", "text", UnknownSpace),
    ],
)
def test_the_space_that_answers(name: str | None, kind: str, expected: str | type[Exception]) -> None:
    if isinstance(expected, str):
        assert space_for(SPACES, name, kind).name == expected
    else:
        with pytest.raises(expected):
            space_for(SPACES, name, kind)


def test_where_several_could_answer_one_must_be_named() -> None:
    twins = {**SPACES, "more": space("more", Modality.TEXT, 384, "text")}
    with pytest.raises(UnknownSpace, match="'words', 'more'"):
        space_for(twins, None, "text")
    assert space_for({"clip": SPACES["clip"]}, None, "text").name == "clip"
    with pytest.raises(UnknownSpace, match="still empty"):
        space_for({}, None, "text")
    with pytest.raises(UnknownSpace, match="'graph' by a stored id or a vector"):
        space_for({"graph": SPACES["graph"]}, None, "text")


def test_a_vector_goes_where_it_fits() -> None:
    assert space_of_vector(SPACES, None, 128).name == "graph"
    assert space_of_vector(SPACES, "clip", 512).name == "clip"
    with pytest.raises(QueryError, match="128 numbers where space 'clip' has 512"):
        space_of_vector(SPACES, "clip", 128)
    with pytest.raises(UnknownSpace, match="'words' has 384"):
        space_of_vector(SPACES, None, 3)
    with pytest.raises(UnknownSpace, match="there are: words, clip, graph"):
        named(SPACES, "x")


def test_k_means_k_whatever_the_planner_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a true graph over thousands of rows: at each selectivity k matching records, by the method explained."""
    monkeypatch.setattr("search.index.choose.FLAT_UP_TO", 10_000)
    rng = np.random.default_rng(0)
    n, dim = 8000, 8
    matrix = rng.standard_normal((40, dim))[rng.integers(0, 40, n)] + 0.5 * rng.standard_normal((n, dim))
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    shop = search.open(tmp_path / "c")
    shop.add([{"id": f"r{i}", "metadata": {"g": i % 1000}} for i in range(n)], matrix, space="v")
    methods, recalls = set(), []
    begun = time.monotonic()
    for where, allowed in (
        (None, np.ones(n, dtype=bool)),
        ("g < 900", np.arange(n) % 1000 < 900),
        ("g < 500", np.arange(n) % 1000 < 500),
        ("g < 20", np.arange(n) % 1000 < 20),
        ("g = 3", np.arange(n) % 1000 == 3),
    ):
        for at in range(0, n, 400):
            for k in (10, 100):
                hits = shop.search(vector=matrix[at], k=k, where=where, explain=True)
                exact = unit @ unit[at]
                best = np.sort(exact[allowed])[::-1][:k]
                assert len(hits) == min(k, int(allowed.sum()))
                assert all(allowed[int(hit.id[1:])] for hit in hits)
                scores = np.array([hit.score for hit in hits])
                np.testing.assert_allclose(scores, exact[[int(hit.id[1:]) for hit in hits]], atol=1e-5)
                recall = float(np.mean(scores >= best[-1] - 1e-5))
                way = hits[0].explain["plan"]  # type: ignore[index]
                methods.add(way["method"])  # type: ignore[index,call-overload]
                assert way["n_allowed"] == allowed.sum()  # type: ignore[index,call-overload]
                if way["method"] == "scan":  # type: ignore[index,call-overload]
                    assert recall == 1.0
                recalls.append(recall)
    assert methods == {"scan", "graph"}
    assert np.mean(recalls) >= 0.95
    assert time.monotonic() - begun < 60
