"""Every index gives what an exact search in plain numpy gives, modulo ties, whatever is deleted or allowed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import faiss
import numpy as np
import pytest

from search.index import choose
from search.index.approximate import ApproximateIndex
from search.index.choose import Choice, Wanted
from search.index.contract import Index, Neighbours, Rows
from search.index.costs import Costs
from search.index.flat import FlatIndex
from search.index.hnsw import Graph
from search.index.ivf import Lists
from search.index.rows import RowBuffer
from search.index.structure import Kind, Structure
from search.index.tune import interval, tuned
from search.index.view import Seen, View
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


# A scan seems dear and a walk cheap, so that the structure is what is tested.
BY_STRUCTURE = Costs(scan=1e9, gather=1e9, walk=1.0)


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""


def structure_of(kind: Kind, rows: Rows, metric: Metric) -> Structure:
    return Graph.build(rows, metric, quiet) if kind is Kind.HNSW else Lists.build(rows, metric, kind, quiet)


def over(buffer: RowBuffer, metric: Metric, structure: Structure, costs: Costs | None) -> ApproximateIndex:
    if isinstance(structure, Graph):
        structure.over(buffer.storage(structure.n))
    # Effort enough to be exact on a thousand rows: what is tested is the bookkeeping, not the structure's recall.
    return ApproximateIndex(buffer.rows(), metric, structure, 1000, costs)


def approximate(kind: Kind, costs: Costs | None = BY_STRUCTURE) -> Make:
    """A structure over all but the last `n_late` rows, which came after it and made the buffer grow."""

    def made(metric: Metric, keys: np.ndarray, matrix: np.ndarray, dead: np.ndarray, n_late: int) -> Index:
        n = len(keys) - n_late
        buffer = RowBuffer(DIM, metric, capacity=n)
        buffer.append(keys[:n], keys[:n] * 10, matrix[:n])
        structure = structure_of(kind, buffer.rows(), metric)
        buffer.append(keys[n:], keys[n:] * 10, matrix[n:])
        buffer.bury(keys[dead])
        return over(buffer, metric, structure, costs)

    made.__name__ = kind.value if costs else f"{kind.value}-typical-costs"
    return made


def reloaded(kind: Kind) -> Make:
    """By way of the bytes of a snapshot, over memory that lies elsewhere; half of the rows were added later."""

    def made(metric: Metric, keys: np.ndarray, matrix: np.ndarray, dead: np.ndarray, n_late: int) -> Index:
        n = len(keys) - n_late
        buffer = RowBuffer(DIM, metric)
        buffer.append(keys[: n // 2], keys[: n // 2], matrix[: n // 2])
        first = structure_of(kind, buffer.rows(), metric)
        buffer.append(keys[n // 2 : n], keys[n // 2 : n], matrix[n // 2 : n])
        data = first.extended(buffer.rows(), quiet).to_bytes()
        fresh = RowBuffer(DIM, metric, capacity=3)
        fresh.append(keys, keys * 10, matrix)
        fresh.bury(keys[dead])
        graph = kind is Kind.HNSW
        structure = Graph.from_bytes(data, metric) if graph else Lists.from_bytes(data, kind, metric)
        assert (first.n, structure.n) == (n // 2, n)
        return over(fresh, metric, structure, BY_STRUCTURE)

    made.__name__ = f"{kind.value}-grown-and-reloaded"
    return made


APPROXIMATE = [kind for kind in Kind if kind is not Kind.FLAT]
MAKERS = [
    flat,
    *map(approximate, APPROXIMATE),
    *map(reloaded, APPROXIMATE),
    approximate(Kind.HNSW, costs=None),
]


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

    Of a graph, which may leave a node without a way to it, and of short codes, two rows in a hundred may be others
    than the best; in ten under the inner product, which is no distance. All else must be exact, scores too.
    """
    due = 1.0 if isinstance(made.index, FlatIndex) else 0.9 if made.metric is Metric.DOT else 0.98
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


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
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
            same(made.index.search(queries, k, made.index.rows.allowed(allowed)), made, queries, k, allowed)
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
        same(made.index.search(queries, k, made.index.rows.allowed(allowed)), made, queries, k, allowed)


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
    made.index.search(queries, 10, made.index.rows.allowed(np.arange(N) % 3 == 0))
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


def view_of(metric: Metric, keys: np.ndarray, matrix: np.ndarray) -> View:
    """A view with an index over these rows, as a collection would have it."""
    view = View(space(metric), Choice(Kind.HNSW, on_disk=False), 0, Path())
    view.apply(Batch(keys, keys, matrix))
    view.settle(np.empty(0, np.int64), Seen(0, 0, 0), view.look.space, pieces=False)
    built = view.built(Wanted(kind=Kind.HNSW), quiet)
    assert built is not None
    view.adopt_built(built, "file")
    return view


def test_a_look_never_changes_while_the_view_grows(metric: Metric) -> None:
    """Each look keeps giving the answers of its commit, while rows come and go and the memory moves."""
    matrix, keys = data(metric, 3000)
    view = view_of(metric, keys[:500], matrix[:500])
    tuning = view.tuning
    assert tuning is not None
    queries = matrix[:5]
    dead = np.zeros(3000, dtype=bool)
    looks = []
    for commit, begin in enumerate(range(500, 3000, 100), 1):
        view.apply(Batch(keys[begin : begin + 100], keys[begin : begin + 100], matrix[begin : begin + 100]))
        gone = np.arange(begin - 500, begin - 480)
        dead[gone] = True
        view.settle(keys[gone], Seen(commit, 0, 0), view.look.space, pieces=False)
        made = Held(view.look.flat, keys[: begin + 100], matrix[: begin + 100], ~dead[: begin + 100], metric)
        looks.append((view.look, made))
    for look, made in looks:
        assert look.approximate is not None or tuning.exact
        same(look.flat.search(queries, 10), made, queries, 10)
        if look.approximate is not None:
            made.index = look.approximate
            same(look.approximate.search(queries, 10, effort=2000), made, queries, 10)


def test_searches_under_way_are_not_disturbed_by_growth() -> None:
    """Threads search old looks again and again while the view grows fiftyfold; FAISS must never read freed memory."""
    matrix, keys = data(Metric.COSINE, 40_000, seed=2)
    view = view_of(Metric.COSINE, keys[:800], matrix[:800])
    queries, wrong, done = matrix[:40], [], threading.Event()

    def read() -> None:
        while not done.is_set():
            look = view.look
            index = look.approximate
            if index is None:
                wrong.append(look.seen.commit_seq)
                return
            index = ApproximateIndex(index.rows, index.metric, index.structure, 200, BY_STRUCTURE)
            first = index.search(queries, 5)
            for _ in range(3):
                again = index.search(queries, 5)
                wrong.extend([] if np.array_equal(first.ids, again.ids) else [look.seen.commit_seq])
            exact = look.flat.search(queries[:4], 5)
            if np.mean(first.ids[:4] == exact.ids) < 0.9:
                wrong.append(-look.seen.commit_seq)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    begin, commit = 800, 1
    while begin < len(keys):
        end = min(len(keys), begin + 1 + begin // 4)
        view.apply(Batch(keys[begin:end], keys[begin:end], matrix[begin:end]))
        view.settle(keys[begin : begin + 1], Seen(commit, 0, 0), view.look.space, pieces=False)
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
    graph = Graph.build(buffer.rows(), Metric.L2, quiet)
    index = over(buffer, Metric.L2, graph, BY_STRUCTURE)
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


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_an_index_that_grew_in_the_background_takes_its_place(kind: Kind) -> None:
    """Rows that come and go while it is built stay true: the new index covers the old rows, the rest is scanned."""
    matrix, keys = data(Metric.COSINE, 3000)
    view = View(space(Metric.COSINE), Choice(kind, on_disk=False), 0, Path())
    seen = Seen(0, 0, 0)
    for begin, end in ((0, 1000), (1000, 2000), (2000, 2500)):
        view.apply(Batch(keys[begin:end], keys[begin:end], matrix[begin:end]))
        view.settle(np.empty(0, np.int64), seen, view.look.space, pieces=False)
        assert view.due(Wanted(kind=kind)) == (view.n_indexed == 0 or end * DIM > choose.FLAT_UP_TO)
        built = view.built(Wanted(kind=kind), quiet)
        assert built is not None
        assert (built.structure.kind, built.structure.n) == (kind, end)
        late = slice(end, end + 100)
        view.apply(Batch(keys[late], keys[late], matrix[late]))
        view.settle(keys[:10], seen, view.look.space, pieces=False)
        view.adopt_built(built, f"file of {end}")
        alive = np.arange(end + 100) >= 10
        index = view.look.approximate
        assert index is not None
        made = Held(index, keys[: end + 100], matrix[: end + 100], alive, Metric.COSINE)
        same(index.search(matrix[:20], 10, effort=1000), made, matrix[:20], 10)
        view.lay_out_anew()  # nothing is gone from the catalog: the index stays
        assert view.n_indexed == end


def test_rows_that_compaction_dropped_leave_the_memory() -> None:
    matrix, keys = data(Metric.COSINE, 300)
    view = view_of(Metric.COSINE, keys, matrix)
    view.keep_only(keys[50:])
    view.settle(np.empty(0, np.int64), Seen(1, 1, 0), view.look.space, pieces=False)
    made = Held(view.look.flat, keys, matrix, np.arange(300) >= 50, Metric.COSINE)
    same(view.look.flat.search(matrix[:60], 10), made, matrix[:60], 10)
    assert (len(view.look.rows), view.look.rows.n_alive, view.n_indexed) == (300, 250, 300)
    built = view.built(Wanted(kind=Kind.HNSW), quiet)  # lays the rows out anew first
    assert built is not None
    np.testing.assert_array_equal(built.rows.part_keys, keys[50:])
    view.adopt_built(built, "file")
    assert (len(view.look.rows), view.look.rows.n_alive, view.n_indexed) == (250, 250, 250)
    same(view.look.flat.search(matrix[:60], 10), made, matrix[:60], 10)


# ---- the buffer and the tuning -------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_buffer_buries_only_what_is_there(tmp_path: Path, on_disk: bool) -> None:
    buffer = RowBuffer(2, Metric.COSINE, folder=tmp_path if on_disk else None)
    keys = np.array([3, 5, 9])
    buffer.bury(keys)  # nothing yet
    buffer.append(keys, keys + 100, np.eye(3, 2, dtype="f4"))
    old = buffer.rows()
    buffer.bury(np.array([1, 5, 5, 8, 99]))
    buffer.bury(np.array([5]))
    rows = buffer.rows()
    assert (old.living, old.n_alive) == (None, 3)
    assert rows.living is not None
    assert (rows.living.mask.tolist(), rows.n_alive) == ([True, False, True], 2)
    assert rows.living.positions.tolist() == [0, 2]
    assert rows.allowed(np.array([True, True, False])).positions.tolist() == [0]
    buffer.keep_only(np.array([5, 9, 77]))  # a dead row may still stand in the catalog
    fresh = buffer.without_gone().rows()
    assert (buffer.n_gone, buffer.rows().n_alive) == (1, 1)
    assert (fresh.part_keys.tolist(), fresh.record_keys.tolist(), fresh.n_alive) == ([5, 9], [105, 109], 1)
    np.testing.assert_array_equal(fresh.matrix, rows.matrix[1:])
    assert fresh.living is not None
    assert fresh.living.mask.tolist() == [False, True]
    assert len(Rows(keys[:0], keys[:0], np.empty((0, 2), "f4"))) == 0
    assert (
        list(tmp_path.iterdir()) == []
    )  # the file has no name: it is gone with the process, however that dies


def test_the_recall_that_is_stored_is_the_recall_that_is_had() -> None:
    made = held(approximate(Kind.HNSW), Metric.COSINE, n_dead=100)
    assert isinstance(made.index, ApproximateIndex)
    rows, structure = made.index.rows, made.index.structure
    tuning = tuned(rows, Metric.COSINE, structure, 0.95)
    assert (tuning.low >= 0.95, tuning.exact, tuning.sample, tuning.target) == (True, False, 1000, 0.95)
    assert tuning.low <= tuning.recall <= tuning.high
    assert tuning.queries == "perturbed rows"
    queries = queries_for(made, 400)
    found = made.index.search(queries, 10, effort=tuning.effort).ids
    truth = FlatIndex(rows, Metric.COSINE).search(queries, 10).ids
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)])
    assert recall >= 0.93
    assert tuned(rows, Metric.COSINE, structure, 1.01).exact  # nothing reaches it: the space is scanned
    again = tuned(rows, Metric.COSINE, structure, 0.95)
    assert (again.effort, again.recall) == (tuning.effort, tuning.recall)
    real = tuned(rows, Metric.COSINE, structure, 0.95, queries)
    assert (real.queries, real.sample) == ("real", 400)
    assert tuned(rows, Metric.COSINE, structure, 0.95, queries[:50]).queries == "perturbed rows"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.8, 0.95, 0.99):
        inside = 0
        for _ in range(400):
            low, high = interval(rng.binomial(10, truth, 300) / 10)
            inside += low <= truth <= high
        assert inside / 400 >= 0.92
    low, high = interval(np.ones(1000))
    assert 0.995 < low < high == 1.0  # all right is not proof of perfection
    assert interval(np.zeros(50))[0] == 0.0


@pytest.mark.parametrize(
    ("n", "dim", "wanted", "kind", "on_disk"),
    [
        (40_000, 384, Wanted(), Kind.FLAT, False),
        (100_000, 384, Wanted(), Kind.HNSW, False),
        (100_000, 384, Wanted(memory=100 << 20), Kind.IVF_SQ8, True),
        (100_000, 384, Wanted(memory=20 << 20), Kind.IVF_PQ, True),
        (100_000, 384, Wanted(memory=8 << 20), Kind.IVF_RABITQ, True),
        (100_000, 383, Wanted(memory=20 << 20), Kind.IVF_RABITQ, True),  # 383 is prime: no pieces to code
        (10_000, 384, Wanted(memory=8 << 20), Kind.FLAT, True),
        (100, 384, Wanted(kind=Kind.IVF_FLAT), Kind.IVF_FLAT, False),
        (5_000_000, 96, Wanted(memory=64 << 30), Kind.IVF_SQ8, False),
        (5_000_000, 96, Wanted(memory=64 << 30, kind=Kind.HNSW), Kind.HNSW, False),
    ],
)
def test_the_kind_follows_from_size_and_memory(
    n: int, dim: int, wanted: Wanted, kind: Kind, on_disk: bool
) -> None:
    assert choose.choose(n, dim, wanted) == Choice(kind, on_disk)
    assert Wanted.from_json(wanted.to_json()) == wanted


@pytest.mark.parametrize(
    ("said", "size"), [("4G", 4 << 30), ("512m", 512 << 20), ("1.5 GiB", 3 << 29), ("2_000", 2000), (7, 7)]
)
def test_a_size_in_words(said: str | int, size: int) -> None:
    assert choose.parse_bytes(said) == size


@pytest.mark.parametrize("said", ["", "G", "much", "-1G", "0", "nan", "inf"])
def test_a_size_that_is_none(said: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        choose.parse_bytes(said)
