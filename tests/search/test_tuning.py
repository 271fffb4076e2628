"""Indexes from the user's side: built behind the work, of the kind and recall asked for, and never a reason to lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from search.collection import Collection
from search.index import choose, tune
from search.index.costs import Costs
from search.index.structure import Kind

DIM, N = 16, 3000


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index from some hundred rows on, and a scan that seems dear, so that it is what answers."""
    monkeypatch.setattr(choose, "FLAT_UP_TO", 200 * DIM)
    monkeypatch.setattr(tune, "_measured_costs", lambda *_: Costs(scan=1e9, gather=1e9, walk=1.0))


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((40, DIM))
    drawn = centres[rng.integers(0, 40, N + 500)] + 0.4 * rng.standard_normal((N + 500, DIM))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def shop(tmp_path: Path, rows: np.ndarray) -> Collection:
    made = search.open(tmp_path / "c")
    made.add([{"id": f"r{i}", "metadata": {"i": i}} for i in range(N)], rows[:N], space="v")
    return made


def index_of(shop: Collection) -> dict[str, Any]:
    (space,) = shop.info()["spaces"]  # type: ignore[misc,union-attr]
    return space["index"]  # type: ignore[no-any-return]


def recall(shop: Collection, rows: np.ndarray, alive: np.ndarray, **options: Any) -> float:
    """Recall@10 of a hundred queries against numpy, by score."""
    queries = rows[-100:]
    found = []
    for query, hits in zip(queries, shop.search(vector=queries, space="v", **options), strict=True):
        worst = np.sort(rows[: len(alive)][alive] @ query)[-10]
        assert len(hits) == 10
        found.append(np.mean([hit.score >= worst - 1e-5 for hit in hits]))
    return float(np.mean(found))


def test_the_index_follows_in_the_background(shop: Collection, rows: np.ndarray) -> None:
    """What was added is found at once, by scanning; when the background is done, by the index."""
    assert recall(shop, rows, np.ones(N, dtype=bool)) >= 0.95
    shop.index()  # waits
    said = index_of(shop)
    assert (said["kind"], said["vectors"], said["target"]) == ("hnsw", N, 0.95)
    assert said["low"] >= 0.95
    assert said["low"] <= said["recall"] <= said["high"]
    (hit,) = shop.search(vector=rows[0], k=1, explain=True)
    assert hit.explain is not None
    assert hit.explain["plan"]["method"] == "index"  # type: ignore[index,call-overload]
    assert recall(shop, rows, np.ones(N, dtype=bool)) >= 0.95


def test_closing_waits_for_the_index(tmp_path: Path, rows: np.ndarray) -> None:
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": f"r{i}"} for i in range(N)], rows[:N], space="v")
    assert index_of(search.open(tmp_path / "c", mode="r"))["vectors"] == N


def test_an_interrupted_user_does_not_wait(tmp_path: Path, rows: np.ndarray) -> None:
    def interrupted() -> None:
        with search.open(tmp_path / "c") as shop:
            shop.add([{"id": f"r{i}"} for i in range(N)], rows[:N], space="v")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    again = search.open(tmp_path / "c")
    assert again.count() == N
    again.index()
    assert recall(again, rows, np.ones(N, dtype=bool)) >= 0.95


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.FLAT])
def test_each_kind_reaches_what_it_is_asked(shop: Collection, rows: np.ndarray, kind: Kind) -> None:
    said = shop.tune(recall=0.9, kind=kind.value)["v"]
    assert isinstance(said, dict)
    assert said["kind"] in (kind.value, "flat")  # where no effort reaches it, every row is scanned
    alive = np.ones(N, dtype=bool)
    assert recall(shop, rows, alive) >= 0.88
    shop.add([{"id": f"r{i}", "metadata": {"i": i}} for i in range(N, N + 400)], rows[N : N + 400], space="v")
    shop.delete(where="i < 500")
    alive = np.arange(N + 400) >= 500
    assert recall(shop, rows, alive) >= 0.88
    other = search.open(shop.path, mode="r")
    assert recall(other, rows, alive) >= 0.88
    shop.compact()
    for one in (shop, other, search.open(shop.path, mode="r")):
        assert recall(one, rows, alive) >= 0.88
        assert all(hit.metadata["i"] >= 500 for hit in one.search(vector=rows[0], k=50))
    assert index_of(shop)["kind"] == said["kind"]
    assert shop.check() == []


def test_little_memory_keeps_vectors_on_disk(shop: Collection, rows: np.ndarray, tmp_path: Path) -> None:
    said = shop.tune(memory=100_000)["v"]
    assert isinstance(said, dict)
    assert said["kind"] in ("ivf-sq8", "ivf-pq", "ivf-rabitq", "flat")
    again = search.open(shop.path, mode="r")
    assert recall(again, rows, np.ones(N, dtype=bool)) >= 0.93
    view = again._views._views[1]
    assert view._buffer._folder == again.layout.root
    assert sorted(path.name for path in again.layout.root.iterdir() if path.is_dir()) == ["indexes"]


def test_more_recall_takes_more_effort(shop: Collection, rows: np.ndarray) -> None:
    shop.tune(recall=0.6)
    loose = index_of(shop)
    shop.tune(recall=0.99)
    strict = index_of(shop)
    assert loose["effort"] <= strict["effort"]
    assert strict["low"] >= 0.99
    assert strict["wanted"] == {"recall": 0.99, "memory": None, "kind": None}
    assert recall(shop, rows, np.ones(N, dtype=bool)) >= 0.985
    assert recall(shop, rows, np.ones(N, dtype=bool), effort=1000) >= 0.995


def test_real_queries_are_what_recall_is_measured_with(shop: Collection, rows: np.ndarray) -> None:
    shop.search(vector=rows[:300], space="v")
    shop.tune(recall=0.97)
    assert (index_of(shop)["queries"], index_of(shop)["sample"]) == ("real", 300)
    again = search.open(shop.path)  # another process knows them too
    again.tune(recall=0.96)
    assert index_of(again)["queries"] == "real"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"recall": 1.5}, "from 0.5 to 1"),
        ({"recall": True}, "from 0.5 to 1"),
        ({"memory": "much"}, "512M or 4G"),
        ({"kind": "annoy"}, "no index of the kind 'annoy'"),
    ],
)
def test_wishes_that_cannot_be_read(shop: Collection, wish: dict[str, Any], said: str) -> None:
    with pytest.raises(search.QueryError, match=said):
        shop.tune(**wish)
    with pytest.raises(search.UnknownSpace):
        shop.tune(space="absent")
    with pytest.raises(search.QueryError, match="effort"):
        shop.search(vector=[0] * DIM, effort=0)
    with pytest.raises(search.CollectionError, match="read only"):
        search.open(shop.path, mode="r").tune(recall=0.9)


def test_a_filter_stays_right_while_records_change(shop: Collection, rows: np.ndarray) -> None:
    """Kept answers are brought up to date by what changed, in this process and in another that reads."""
    reader = search.open(shop.path, mode="r")
    asked = {"vector": rows[7], "k": 5, "where": "i between 7 and 9"}
    for one in (shop, reader):
        assert {hit.id for hit in one.search(**asked)} == {"r7", "r8", "r9"}
    shop.add([{"id": "r8", "metadata": {"i": 80}}])  # leaves
    shop.add([{"id": "r100", "metadata": {"i": 8}}])  # comes
    shop.delete("r9")
    shop.add([{"id": "new", "metadata": {"i": 9}}], rows[:1], space="v")
    for one in (shop, reader):
        assert {hit.id for hit in one.search(**asked)} == {"r7", "r100", "new"}
        assert {hit.id for hit in one.recommend(["r1"], where="i between 7 and 9", k=5)} == {
            "r7",
            "r100",
            "new",
        }
    (hit,) = shop.search(vector=rows[7], k=1, where="i = 7", explain=True)
    assert hit.explain is not None
    assert hit.explain["advice"].endswith("nearkin index-field i")  # type: ignore[union-attr]
    shop.index_field("i")
    (hit,) = shop.search(vector=rows[7], k=1, where="i = 7", explain=True)
    assert hit.explain is not None
    assert "advice" not in hit.explain


def test_a_reader_keeps_its_memory_through_compaction(shop: Collection, rows: np.ndarray) -> None:
    shop.index()
    reader = search.open(shop.path, mode="r")
    reader.search(vector=rows[0])
    before = reader._views._views[1]
    shop.delete(where="i < 100")
    with shop.writing():
        from search import upkeep

        upkeep.compact(shop.layout, shop.database)
    assert all(hit.metadata["i"] >= 100 for hit in reader.search(vector=rows[0], k=50))
    assert reader._views._views[1] is before
    assert recall(reader, rows, np.arange(N) >= 100) >= 0.95


def test_a_batch_is_answered_as_each_of_its_queries(shop: Collection, rows: np.ndarray) -> None:
    """Long batches are searched and put together in turns; the answers are the same."""
    shop.index()
    queries = rows[:600]
    for where in (None, "i < 1500"):
        together = shop.search(vector=queries, where=where, k=3)
        for at in range(0, 600, 37):
            alone = shop.search(vector=queries[at], where=where, k=3)
            assert [hit.id for hit in together[at]] == [hit.id for hit in alone]
            np.testing.assert_allclose(
                [hit.score for hit in together[at]], [hit.score for hit in alone], atol=1e-6
            )
