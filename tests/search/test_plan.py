"""The planner by table: which method, at which cost, and which space answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import search
from search.errors import QueryError, UnknownSpace, WrongModality
from search.index.approximate import ApproximateIndex
from search.index.choose import FLAT_UP_TO, Wanted, due
from search.index.contract import Rows
from search.index.structure import Kind, Structure
from search.query.plan import Method, named, plan, space_for, space_of_vector
from search.types import EncoderSpec, Metric, Modality, Space


class Structured(Structure):
    """Nothing but a size: the planner asks no more."""

    kind = Kind.HNSW
    metric = Metric.COSINE
    efforts = (16,)

    def __init__(self, n: int) -> None:
        self.n = n

    def effort_for(self, width: int, effort: int) -> int:
        return max(width, effort)

    def candidates(self, *_: object) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        raise AssertionError("planning searches nothing")

    extended = to_bytes = candidates  # type: ignore[assignment]


def index_of(n_rows: int, n_indexed: int, effort: int) -> ApproximateIndex | None:
    if not n_indexed:
        return None
    keys = np.broadcast_to(np.int64(0), n_rows)
    rows = Rows(keys, keys, np.broadcast_to(np.float32(0), (n_rows, 384)))
    return ApproximateIndex(rows, Metric.COSINE, Structured(n_indexed), effort)


@pytest.mark.parametrize(
    ("n_rows", "n_allowed", "n_indexed", "k", "effort", "method"),
    [
        (1000, 1000, 0, 10, 0, Method.SCAN),  # no graph
        (100_000, 100_000, 0, 10, 0, Method.SCAN),
        (100_000, 1000, 0, 10, 0, Method.GATHER),
        (300, 300, 300, 10, 16, Method.SCAN),  # reading so few rows is less than the walk
        (100_000, 100_000, 100_000, 10, 16, Method.INDEX),
        (1_000_000, 1_000_000, 1_000_000, 10, 64, Method.INDEX),
        (1_000_000, 500_000, 1_000_000, 10, 64, Method.INDEX),  # half of the candidates count
        (1_000_000, 1_000, 1_000_000, 10, 64, Method.GATHER),  # one in a thousand: gather the few
        (1_000_000, 0, 1_000_000, 10, 64, Method.GATHER),
        (1_000_000, 1, 1_000_000, 1, 64, Method.GATHER),
        (1_000_000, 1_000_000, 1_000, 10, 64, Method.SCAN),  # nearly all rows are outside the graph
        (1_000_000, 1_000_000, 1_000_000, 500_000, 64, Method.SCAN),  # more wanted than a walk can give
        (1_000_000, 990_000, 1_000_000, 10, 64, Method.INDEX),
    ],
)
def test_the_cheaper_way_is_taken(
    n_rows: int, n_allowed: int, n_indexed: int, k: int, effort: int, method: Method
) -> None:
    way = plan(n_rows, n_allowed, 384, k, index_of(n_rows, n_indexed, effort))
    assert way.method is method
    assert (way.n_rows, way.n_allowed) == (n_rows, n_allowed)
    if way.method is Method.INDEX:
        assert way.index_us is not None
        assert way.index_us < way.scan_us
        assert way.effort is not None
        assert way.effort >= k
    if n_indexed == 0:
        assert (way.index_us, way.effort) == (None, None)


def test_a_filter_makes_the_walk_longer() -> None:
    index = index_of(1_000_000, 1_000_000, 64)
    ways = [plan(1_000_000, n, 384, 10, index) for n in (1_000_000, 500_000, 250_000, 100_000)]
    # Half as many again as are expected to be needed and a few to spare, but not fewer than find 99 of 100.
    assert [way.candidates for way in ways] == [10, 96, 96, 158]
    assert [way.effort for way in ways] == [64, 96, 96, 158]
    assert [way.index_us for way in ways] == sorted(way.index_us for way in ways)  # type: ignore[type-var]


def test_few_deletions_make_it_no_longer() -> None:
    """They leave rows out too, but nearly all are still there."""
    assert index_of(1_000_000, 1_000_000, 64).candidates_for(10, 900_000, 1_000_000) == 25


def test_an_effort_asked_for_is_an_effort_made() -> None:
    assert plan(1_000_000, 1_000_000, 384, 10, index_of(1_000_000, 1_000_000, 64), 200).effort == 200


def test_an_index_is_wanted_for_what_is_too_much_to_scan() -> None:
    n = FLAT_UP_TO // 384
    assert not due(n, n, 384, 0, Wanted())
    assert due(n + 1, n + 1, 384, 0, Wanted())
    assert not due(n + 1, 0, 384, 0, Wanted())  # none lives
    late = (1 << 21) // 384
    assert not due(n + late, n, 384, n, Wanted())
    assert due(n + late + 1, n, 384, n, Wanted())
    big = 10_000_000  # one row in fifty may come after it
    assert not due(big + big // 50, big, 384, big, Wanted())
    assert due(big + big // 50 + 1, big, 384, big, Wanted())


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
    shop.index()
    methods, recalls = set(), []
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
                if way["method"] in ("scan", "gather"):  # type: ignore[index,call-overload]
                    assert recall == 1.0
                recalls.append(recall)
    assert "index" in methods
    assert methods & {"scan", "gather"}
    assert np.mean(recalls) >= 0.95
