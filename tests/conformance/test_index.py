"""Every index gives what an exact search in plain numpy gives, modulo ties, whatever is deleted or allowed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import faiss
import numpy as np
import pytest

from search.index.choose import measured
from search.index.contract import Index, Neighbours, Rows
from search.index.flat import FlatIndex
from search.index.hnsw import Graph, HnswIndex
from search.index.rows import RowBuffer
from search.index.view import View
from search.types import EncoderSpec, Metric, Modality, Space
from search.vectors import Batch, unit_rows

DIM, N = 12, 900
METRICS = list(Metric)


@dataclass
class Held:
    """An index, and what it was made from: the catalog keys are spread out and never equal the positions."""

    index: Index
    keys: np.ndarray
    matrix: np.ndarray
    alive: np.ndarray
    metric: Metric


Make: TypeAlias = Callable[[Metric, np.ndarray, np.ndarray, np.ndarray, int], Index]


def flat(metric: Metric, keys: np.ndarray, matrix: np.ndarray, dead: np.ndarray, n_late: int) -> Index:
    buffer = RowBuffer(DIM, metric)
    buffer.append(keys, keys * 10, matrix)
    buffer.bury(keys[dead])
    return FlatIndex(buffer.rows(), metric)


def hnsw(metric: Metric, keys: np.ndarray, matrix: np.ndarray, dead: np.ndarray, n_late: int) -> Index:
    """A graph over all but the last `n_late` rows, which came after it and made the buffer grow."""
    n = len(keys) - n_late
    buffer = RowBuffer(DIM, metric, capacity=n)
    buffer.append(keys[:n], keys[:n] * 10, matrix[:n])
    graph = Graph.build(buffer.rows().matrix, metric)
    buffer.append(keys[n:], keys[n:] * 10, matrix[n:])
    buffer.bury(keys[dead])
    # Effort enough to be exact on a thousand rows: what is tested is the bookkeeping, not the graph's recall.
    return HnswIndex(buffer.rows(), metric, graph, buffer.storage(n), effort=1000)


def reloaded(metric: Metric, keys: np.ndarray, matrix: np.ndarray, dead: np.ndarray, n_late: int) -> Index:
    """As `hnsw`, by way of the bytes of a snapshot."""
    index = hnsw(metric, keys, matrix, dead, n_late)
    assert isinstance(index, HnswIndex)
    buffer = RowBuffer(DIM, metric, capacity=3)
    buffer.append(keys, keys * 10, matrix)
    buffer.bury(keys[dead])
    graph = Graph.from_bytes(index._graph.to_bytes())
    return HnswIndex(buffer.rows(), metric, graph, buffer.storage(graph.n), effort=1000)


def data(metric: Metric, n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clustered rows, as embeddings are, and their keys."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, DIM))
    matrix = centres[rng.integers(0, 30, n)] + 0.4 * rng.standard_normal((n, DIM))
    if metric is not Metric.COSINE:
        matrix *= rng.uniform(0.5, 1.5, (n, 1))
    rows = matrix.astype(np.float32)
    keys = np.cumsum(rng.integers(1, 9, n)) + 1_000_000
    return (unit_rows(rows) if metric is Metric.COSINE else rows), keys


def held(make: Make, metric: Metric, *, n_dead: int = 0, n_late: int = 0, n: int = N) -> Held:
    matrix, keys = data(metric, n)
    dead = np.zeros(n, dtype=bool)
    dead[np.random.default_rng(1).choice(n, n_dead, replace=False)] = True
    return Held(make(metric, keys, matrix, dead, n_late), keys, matrix, ~dead, metric)


def exact_scores(matrix: np.ndarray, query: np.ndarray, metric: Metric) -> np.ndarray:
    """In float64, by the definition."""
    matrix, query = matrix.astype(np.float64), query.astype(np.float64)
    return -((matrix - query) ** 2).sum(axis=1) if metric is Metric.L2 else matrix @ query


def same(
    found: Neighbours, made: Held, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> None:
    """Every row of the answer is the exact one: as long as it can be, all allowed, and the best, modulo ties.

    Of a graph, which may leave a node without a way to it, one row in a hundred may be another than the best; in
    ten under the inner product, which is no distance. All else must be exact, its scores too.
    """
    due = 1.0 if isinstance(made.index, FlatIndex) else 0.9 if made.metric is Metric.DOT else 0.99
    recalls = []
    usable = made.alive if allowed is None else made.alive & allowed
    k = min(k, int(usable.sum()))
    assert found.ids.shape == found.scores.shape == (len(queries), k)
    assert (found.ids.dtype, found.scores.dtype) == (np.int64, np.float32)
    for query, ids, scores in zip(queries, found.ids, found.scores, strict=True):
        exact = exact_scores(made.matrix, query, made.metric)
        at = np.searchsorted(made.keys, ids)
        np.testing.assert_array_equal(made.keys[at], ids)  # real keys: no fillers
        assert len(set(ids.tolist())) == k
        assert usable[at].all()
        np.testing.assert_allclose(scores, exact[at], atol=2e-5)
        assert (np.diff(scores) <= 0).all()
        best = np.sort(exact[usable])[::-1][:k]
        if due == 1.0:
            np.testing.assert_allclose(scores, best, atol=2e-5)
        recalls.append(np.mean(scores >= best[-1] - 2e-5) if k else 1.0)
    assert np.mean(recalls) >= due


def queries_for(made: Held, n: int = 7) -> np.ndarray:
    rng = np.random.default_rng(9)
    near = made.matrix[rng.integers(0, len(made.matrix), n)] + 0.2 * rng.standard_normal((n, DIM)).astype(
        "f4"
    )
    return unit_rows(near) if made.metric is Metric.COSINE else near


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """With several threads FAISS links the graph in another order each time."""
    n = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(n)


@pytest.fixture(params=[flat, hnsw, reloaded], ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> Metric:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("n_dead", "n_late"), [(0, 0), (200, 0), (0, 250), (300, 250), (N - 3, 250), (N - 1, 0)]
)
def test_it_is_exact(make: Make, metric: Metric, n_dead: int, n_late: int) -> None:
    made = held(make, metric, n_dead=n_dead, n_late=n_late)
    queries = queries_for(made)
    for k in (1, 2, 10, 100, N, 5 * N):
        same(made.index.search(queries, k), made, queries, k)


@pytest.mark.parametrize("selectivity", [0.0, 1 / N, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_it_is_exact_among_the_allowed(make: Make, metric: Metric, selectivity: float) -> None:
    made = held(make, metric, n_dead=150, n_late=200)
    queries = queries_for(made)
    rng = np.random.default_rng(3)
    for _ in range(2):
        allowed = np.zeros(N, dtype=bool)
        allowed[rng.choice(N, round(selectivity * N), replace=False)] = True
        before = allowed.copy()
        for k in (1, 10, 300):
            same(made.index.search(queries, k, allowed), made, queries, k, allowed)
        np.testing.assert_array_equal(allowed, before)


@pytest.mark.parametrize("where", ["early", "late", "far"])
def test_it_is_exact_where_the_allowed_are_together(make: Make, metric: Metric, where: str) -> None:
    """All within the graph, all behind it, or those farthest from the query: the walk must come to them."""
    made = held(make, metric, n_late=200)
    queries = queries_for(made, 1)
    allowed = np.zeros(N, dtype=bool)
    if where == "far":
        allowed[np.argsort(exact_scores(made.matrix, queries[0], metric))[:20]] = True
    else:
        allowed[slice(0, 50) if where == "early" else slice(N - 50, N)] = True
    for k in (1, 10, 60):
        same(made.index.search(queries, k, allowed), made, queries, k, allowed)


def test_each_row_finds_itself_first(make: Make) -> None:
    for metric in (Metric.COSINE, Metric.L2):
        made = held(make, metric, n_late=100)
        found = made.index.search(made.matrix, 1)
        np.testing.assert_array_equal(found.ids[:, 0], made.keys)


def test_the_same_search_gives_the_same(make: Make, metric: Metric) -> None:
    made = held(make, metric, n_dead=100, n_late=100)
    queries = queries_for(made, 20)
    first = made.index.search(queries, 10)
    for _ in range(4):
        again = made.index.search(queries, 10)
        np.testing.assert_array_equal(again.ids, first.ids)
        np.testing.assert_array_equal(again.scores, first.scores)


def test_queries_and_rows_are_never_changed(make: Make, metric: Metric) -> None:
    made = held(make, metric, n_dead=10, n_late=10)
    queries = queries_for(made)
    before, rows = queries.copy(), made.index.rows.matrix.copy()
    made.index.search(queries, 10, np.arange(N) % 3 == 0)
    np.testing.assert_array_equal(queries, before)
    np.testing.assert_array_equal(made.index.rows.matrix, rows)
    assert made.index.search(queries[:0], 5).ids.shape == (0, 5)


def test_twins_are_all_found(make: Make) -> None:
    """Rows that are all alike are ties, and none is returned twice."""
    keys = np.arange(200) * 3
    matrix = np.tile(unit_rows(np.ones((1, DIM), np.float32)), (200, 1))
    index = make(Metric.COSINE, keys, matrix, np.arange(200) % 4 == 0, 50)
    made = Held(index, keys, matrix, np.arange(200) % 4 != 0, Metric.COSINE)
    for k in (1, 20, 150, 500):
        same(index.search(matrix[:2], k), made, matrix[:2], k)


# ---- growing while it is searched ----------------------------------------------------------------------------


def space(metric: Metric) -> Space:
    return Space(1, "s", Modality.VECTOR, DIM, metric, EncoderSpec("given", "given", Modality.VECTOR, DIM))


def test_a_look_never_changes_while_the_view_grows(metric: Metric) -> None:
    """Each look keeps giving the answers of its commit, while rows come and go and the memory moves."""
    matrix, keys = data(metric, 3000)
    view = View(space(metric), epoch=0, capacity=0)
    view.apply(Batch(keys[:500], keys[:500], matrix[:500]))
    view.settle(np.empty(0, np.int64), 0)
    _, tuning = view.build()
    queries = matrix[:5]
    dead = np.zeros(3000, dtype=bool)
    looks = []
    for commit, begin in enumerate(range(500, 3000, 100), 1):
        view.apply(Batch(keys[begin : begin + 100], keys[begin : begin + 100], matrix[begin : begin + 100]))
        gone = np.arange(begin - 500, begin - 480)
        dead[gone] = True
        view.settle(keys[gone], commit)
        made = Held(view.look.flat, keys[: begin + 100], matrix[: begin + 100], ~dead[: begin + 100], metric)
        looks.append((view.look, made))
    for look, made in looks:
        assert look.graph is not None or tuning.exact
        same(look.flat.search(queries, 10), made, queries, 10)
        if look.graph is not None:
            made.index = look.graph
            same(look.graph.search(queries, 10, effort=2000), made, queries, 10)


def test_searches_under_way_are_not_disturbed_by_growth() -> None:
    """Threads search old looks again and again while the view grows fiftyfold; FAISS must never read freed memory."""
    matrix, keys = data(Metric.COSINE, 40_000, seed=2)
    view = View(space(Metric.COSINE), epoch=0, capacity=0)
    view.apply(Batch(keys[:800], keys[:800], matrix[:800]))
    view.settle(np.empty(0, np.int64), 0)
    view.build()
    queries, wrong, done = matrix[:40], [], threading.Event()

    def read() -> None:
        while not done.is_set():
            look = view.look
            first = look.graph.search(queries, 5, effort=200) if look.graph else None
            for _ in range(3):
                again = look.graph.search(queries, 5, effort=200) if look.graph else None
                if first is None or again is None or not np.array_equal(first.ids, again.ids):
                    wrong.append(look.commit_seq)
            exact = look.flat.search(queries[:4], 5)
            if first is not None and np.mean(first.ids[:4] == exact.ids) < 0.9:
                wrong.append(-look.commit_seq)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    begin, commit = 800, 1
    while begin < len(keys):
        end = min(len(keys), begin + 1 + begin // 4)
        view.apply(Batch(keys[begin:end], keys[begin:end], matrix[begin:end]))
        view.settle(keys[begin : begin + 1], commit)
        begin, commit = end, commit + 1
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_that_a_search_reads_outlives_its_replacement() -> None:
    """FAISS holds bare pointers: what is replaced while a search is under way is let go when the search is done."""
    matrix, keys = data(Metric.L2, 100)
    buffer = RowBuffer(DIM, Metric.L2, capacity=100)
    buffer.append(keys, keys, matrix)
    graph = Graph.build(buffer.rows().matrix, Metric.L2)
    index = HnswIndex(buffer.rows(), Metric.L2, graph, buffer.storage(100), effort=100)
    old = weakref.ref(buffer.storage(100).memory)
    alive: list[bool] = []
    plain = graph._index

    class Interrupted:
        """The FAISS index, with a commit that moves the memory in the midst of a search."""

        def __setattr__(self, name: str, value: object) -> None:
            setattr(plain, name, value)

        def search(self, *arguments: object, **named: object) -> object:
            buffer.append(keys + 10**6, keys, matrix)
            graph.over(buffer.storage(100))
            gc.collect()
            alive.append(old() is not None)
            return plain.search(*arguments, **named)

    graph._index = Interrupted()
    found = index.search(matrix[:3], 1)
    assert alive == [True]
    np.testing.assert_array_equal(found.ids[:, 0], keys[:3])
    del index, found  # its rows were views of the old memory
    gc.collect()
    assert old() is None


# ---- the buffer and the tuning -------------------------------------------------------------------------------


def test_the_buffer_buries_only_what_is_there() -> None:
    buffer = RowBuffer(2, Metric.COSINE)
    keys = np.array([3, 5, 9])
    buffer.bury(keys)  # nothing yet
    buffer.append(keys, keys + 100, np.eye(3, 2, dtype="f4"))
    old = buffer.rows()
    buffer.bury(np.array([1, 5, 5, 8, 99]))
    buffer.bury(np.array([5]))
    rows = buffer.rows()
    assert (old.alive.tolist(), old.n_alive) == ([True, True, True], 3)
    assert (rows.alive.tolist(), rows.n_alive) == ([True, False, True], 2)
    assert rows.positions(np.array([9, 5, 3, 4, 99])).tolist() == [0, 2]
    assert rows.positions(np.array([], dtype=np.int64)).tolist() == []
    assert len(Rows(keys[:0], keys[:0], np.empty((0, 2), "f4"), np.empty(0, bool), 0)) == 0


def test_the_recall_that_is_stored_is_the_recall_that_is_had() -> None:
    made = held(hnsw, Metric.COSINE, n_dead=100)
    assert isinstance(made.index, HnswIndex)
    tuning = measured(made.index, 0.95)
    assert (tuning.recall >= 0.95, tuning.exact, tuning.sample, tuning.target) == (True, False, 200, 0.95)
    queries = queries_for(made, 400)
    found = made.index.search(queries, 10, effort=tuning.effort).ids
    truth = FlatIndex(made.index.rows, Metric.COSINE).search(queries, 10).ids
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)])
    assert recall >= 0.93
    hopeless = measured(made.index, 1.01)
    assert hopeless.exact  # nothing reaches the target: the space is scanned
    assert tuning == measured(made.index, 0.95)
