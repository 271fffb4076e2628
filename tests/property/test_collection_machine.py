"""Any order of changes and questions: a collection does what a dict and an exact search in numpy do."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import search
from search.index import choose, ivf, tune
from search.index.costs import Costs
from search.index.hnsw import Graph
from search.index.ivf import Lists
from search.index.structure import Kind
from search.query import plan
from search.query.request import Options
from tests.property.asking import Asking
from tests.property.model import DIMS, IDS, Kept, chosen, ids_drawn, ks, rows, spaces_drawn, wheres


class Machine(Asking):
    """A collection, another object that reads it, and what both must say."""

    exact: ClassVar[bool] = True
    by_words: ClassVar[int] = 0  # hits that were found by their words

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.shop = search.open(self.folder / "c")
        self.reader = search.open(self.folder / "c", mode="r")
        self.kept: dict[str, Kept] = {}

    def teardown(self) -> None:
        self.shop.close()
        self.reader.close()
        shutil.rmtree(self.folder)

    # ---- changes ---------------------------------------------------------------------------------------------

    def meta(self, id: str, note: int | None = None) -> dict[str, Any]:
        number = int(id[1:])
        return {"i": number, "even": number % 2 == 0} | ({} if note is None else {"note": note})

    @initialize()
    def first(self) -> None:
        """Every field and both spaces are there from the start."""
        for space, dim in DIMS.items():
            self.put(IDS, space, 1, 5)
            assert self.shop.spaces()[space].dim == dim
        for number, text in enumerate(("a", "b a", "ab b b")):
            self.describe(IDS[number::6], text)

    @rule(ids=ids_drawn, space=spaces_drawn, seed=st.integers(0, 10**6), note=st.none() | st.integers(0, 5))
    def put(self, ids: list[str], space: str, seed: int, note: int | None) -> None:
        vectors = rows(seed, len(ids), DIMS[space])
        self.shop.add([{"id": id, "metadata": self.meta(id, note)} for id in ids], vectors * 2.5, space=space)
        for id, vector in zip(ids, vectors, strict=True):
            held = self.kept.setdefault(id, Kept({}))
            held.metadata = self.meta(id, note)
            held.vectors[space] = vector

    @rule(space=spaces_drawn, seed=st.integers(0, 10**6))
    def put_all(self, space: str, seed: int) -> None:
        self.put(IDS, space, seed, None)

    @rule(ids=ids_drawn, text=st.none() | st.text("ab", max_size=2))
    def describe(self, ids: list[str], text: str | None) -> None:
        """Records alone: no vector comes or goes."""
        self.shop.add([{"id": id, "text": text, "metadata": self.meta(id, 1)} for id in ids])
        for id in ids:
            held = self.kept.setdefault(id, Kept({}))
            held.metadata = self.meta(id, 1)
            held.text = held.text if text is None else text

    @rule(ids=ids_drawn)
    def delete(self, ids: list[str]) -> None:
        assert self.shop.delete(ids) == sum(id in self.kept for id in ids)
        for id in ids:
            self.kept.pop(id, None)

    @rule(where=wheres.filter(lambda where: where not in (None, "not even", "i < 20")))
    def delete_where(self, where: str) -> None:
        gone = [id for id, held in self.kept.items() if chosen(where, held.metadata)]
        assert self.shop.delete(where=where) == len(gone)
        for id in gone:
            del self.kept[id]

    @rule(ids=ids_drawn, space=spaces_drawn)
    def fail(self, ids: list[str], space: str) -> None:
        """A commit that is refused at its last record leaves nothing behind."""
        vectors = np.ones((len(ids) + 1, DIMS[space]))
        vectors[-1] = np.nan if len(ids) % 2 else 0
        with pytest.raises(search.QueryError):
            self.shop.add([{"id": id, "text": "no"} for id in [*ids, "last"]], vectors, space=space)

    # ---- upkeep ----------------------------------------------------------------------------------------------

    @rule()
    def index(self) -> None:
        self.shop.index()

    @rule()
    def compact(self) -> None:
        self.shop.compact()
        assert [space["deleted"] for space in self.shop.info()["spaces"]] == [0, 0]  # type: ignore[union-attr,index,call-overload]

    @rule()
    def reopen(self) -> None:
        path = self.shop.path
        self.shop.close()
        self.shop = search.open(path)

    @rule()
    def reopen_reader(self) -> None:
        self.reader.close()
        self.reader = search.open(self.shop.path, mode="r")

    # ---- questions -------------------------------------------------------------------------------------------

    @rule(space=spaces_drawn, seed=st.integers(0, 10**6), where=wheres, k=ks, read=st.booleans())
    def search(self, space: str, seed: int, where: str | None, k: int, read: bool) -> None:
        queries = rows(seed, 2, DIMS[space])
        some = {
            id: held
            for id, held in self.kept.items()
            if space in held.vectors and chosen(where, held.metadata)
        }
        who = self.reader if read else self.shop
        answers = who.search(vector=queries, space=space, k=k, where=where, explain=True)
        for query, hits in zip(queries, answers, strict=True):
            self.same(hits, {id: float(held.vectors[space] @ query) for id, held in some.items()}, k)
            for hit in hits:  # no row is missing from memory, and none is there twice
                assert hit.explain is not None
                told = hit.explain["plan"]
                n_rows = sum(space in held.vectors for held in self.kept.values())
                assert (told["n_rows"], told["n_allowed"]) == (n_rows, len(some))  # type: ignore[index,call-overload]

    @precondition(lambda self: any(held.vectors for held in self.kept.values()))
    @rule(data=st.data(), where=wheres, k=ks, read=st.booleans())
    def recommend(self, data: st.DataObject, where: str | None, k: int, read: bool) -> None:
        able = sorted(id for id, held in self.kept.items() if held.vectors)
        likes = data.draw(st.lists(st.sampled_from(able), min_size=1, max_size=3, unique=True))
        dislikes = data.draw(st.lists(st.sampled_from(sorted(self.kept)), max_size=2, unique=True))
        weights = {"v": 1.0, "w": data.draw(st.sampled_from([0.5, 3.0]))}
        scores: dict[str, float] = {}
        used = {s: x for s, x in weights.items() if any(s in self.kept[id].vectors for id in likes)}
        for space, weight in used.items():
            taste = sum(
                (sign * self.kept[id].vectors[space])
                for sign, some in ((1, likes), (-1, dislikes))
                for id in some
                if space in self.kept[id].vectors
            )
            length = float(np.linalg.norm(taste))
            if length < 1e-6:  # likes and dislikes cancel: nothing to compare
                return
            for id, held in self.kept.items():
                if id not in (*likes, *dislikes) and space in held.vectors and chosen(where, held.metadata):
                    share = weight / sum(used.values()) * float(held.vectors[space] @ taste) / length
                    scores[id] = scores.get(id, 0.0) + share
        who = self.reader if read else self.shop
        self.same(who.recommend(likes, dislikes, spaces=weights, k=k, where=where), scores, k)

    @precondition(lambda self: any("v" in held.vectors for held in self.kept.values()))
    @rule(data=st.data(), where=wheres, k=ks, read=st.booleans())
    def recommend_the_nearest(self, data: st.DataObject, where: str | None, k: int, read: bool) -> None:
        """By the nearest like, with a pair to hold to and records to leave out."""
        able = sorted(id for id, held in self.kept.items() if "v" in held.vectors)
        likes = data.draw(st.lists(st.sampled_from(able), min_size=1, max_size=3, unique=True))
        pair = data.draw(st.lists(st.sampled_from(able), max_size=2, unique=True))
        exclude = data.draw(st.lists(st.sampled_from(IDS), max_size=3))
        pairs = [(pair[0], pair[1])] if len(pair) == 2 else []
        scores = {}
        for id, held in self.kept.items():
            if id in (*likes, *exclude, *(pair if pairs else ())) or not chosen(where, held.metadata):
                continue
            if "v" in held.vectors:
                row = held.vectors["v"]
                scores[id] = max(float(row @ self.kept[like].vectors["v"]) for like in likes)
                for near, far in pairs:
                    lead = float(row @ self.kept[near].vectors["v"] - row @ self.kept[far].vectors["v"])
                    scores[id] += min(lead, 0.0)
        who = self.reader if read else self.shop
        hits = who.recommend(
            likes, strategy="best", pairs=pairs, exclude=exclude, spaces="v", k=k, where=where
        )
        self.same(hits, scores, k)

    @rule(
        seed=st.integers(0, 10**6),
        where=wheres,
        k=st.sampled_from([1, 3, 10]),
        offset=st.sampled_from([0, 2, 30]),
    )
    def page(self, seed: int, where: str | None, k: int, offset: int) -> None:
        """A page with a boost: equals come by their ids, so the hits are known one by one."""
        (query,) = rows(seed, 1, DIMS["v"])
        whole = self.reader.search(vector=query, space="v", k=1000, where=where)
        scores = {hit.id: hit.score + 0.1 * int(hit.id[1:]) for hit in whole}
        order = sorted(scores, key=lambda one: (-scores[one], one))[offset : offset + k]
        hits = self.shop.search(vector=query, space="v", k=k, where=where, offset=offset, boost="i * 0.1")
        assert [hit.score for hit in hits] == pytest.approx([scores[id] for id in order], abs=1e-5)

    @rule(
        word=st.sampled_from(["a", "b", "aa", "ab", '"a"', "b*", "zz"]),
        where=wheres,
        k=ks,
        read=st.booleans(),
    )
    def words(self, word: str, where: str | None, k: int, read: bool) -> None:
        """The rankings by vectors and by words, fused, against numpy and an FTS5 table made for the purpose."""
        who = self.reader if read else self.shop
        space = who.spaces()["v"]
        (vector,) = rows(len(word), 1, DIMS["v"]).astype(np.float32)
        asker = who._asker
        options = Options(k, where, hybrid=True, explain=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asker, "encoder", lambda _: None)
            patch.setattr(asker, "_encoded", lambda *_: (vector[None, :], 0.0))
            (hits,) = asker.by_words_too([word], space, options)
        some = {
            id: held for id, held in self.kept.items() if "v" in held.vectors and chosen(where, held.metadata)
        }
        bm25 = self.bm25(word)
        assert len({hit.id for hit in hits}) == len(hits) == min(k, len(some))
        meant, said = [], []
        for hit in hits:
            assert hit.explain is not None
            told: Any = hit.explain["hybrid"]
            ranks = [told[way]["rank"] for way in ("by_meaning", "by_words")]
            assert hit.score == pytest.approx(sum(61 / 2 / (60 + rank) for rank in ranks if rank))
            assert told["by_meaning"]["score"] == pytest.approx(
                float(some[hit.id].vectors["v"] @ vector), abs=1e-5
            )
            assert (ranks[1] is not None) == (hit.id in bm25)
            if hit.id in bm25:
                Machine.by_words += 1
                assert told["by_words"]["bm25"] == pytest.approx(bm25[hit.id], abs=1e-9)
            meant.append((ranks[0], told["by_meaning"]["score"]))
            said.append((ranks[1], told["by_words"]["bm25"]))
        # Each rank is that of its score among all, modulo ties.
        cosines = sorted((float(held.vectors["v"] @ vector) for held in some.values()), reverse=True)
        texts = sorted((score for id, score in bm25.items() if id in some), reverse=True)
        for rank, score in meant:
            assert score == pytest.approx(cosines[rank - 1], abs=1e-5)
        for rank, score in said:
            assert rank is None or score == pytest.approx(texts[rank - 1], abs=1e-9)

    def bm25(self, word: str) -> dict[str, float]:
        """What SQLite says of the texts in the model."""
        with sqlite3.connect(":memory:") as own:
            own.execute("create virtual table t using fts5 (id unindexed, text)")
            texts = [(id, held.text) for id, held in self.kept.items() if held.text]
            own.executemany("insert into t values (?, ?)", texts)
            asked = word if word.startswith('"') or word.endswith("*") else f'"{word}"'
            found = own.execute("select id, -bm25(t) from t where t match ?", (asked,)).fetchall()
        own.close()
        return dict(found)

    @rule(where=wheres)
    def count(self, where: str | None) -> None:
        expected = sum(chosen(where, held.metadata) for held in self.kept.values())
        assert self.shop.count(where) == self.reader.count(where) == expected

    @rule(ids=ids_drawn)
    def get(self, ids: list[str]) -> None:
        for who in (self.shop, self.reader):
            for id, found in zip(ids, who.get(ids), strict=True):
                held = self.kept.get(id)
                assert found == (held and search.Record(id, text=held.text, metadata=held.metadata))

    @rule()
    def check(self) -> None:
        assert self.shop.check() == []

    @invariant()
    def counts(self) -> None:
        assert self.shop.count() == self.reader.count() == len(self.kept)


class Hardened(Machine):
    """And whatever may come in between: crashes, copies, indexes of other kinds, declared fields."""

    steps: ClassVar[int] = 0
    crashes: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Hardened.steps -= 2  # invariants are looked at before and after the first state is made
        self.n_folders = 0

    @invariant()
    def counted(self) -> None:
        Hardened.steps += 1

    @rule(kind=st.sampled_from(["auto", *Kind]), space=spaces_drawn)
    def tune(self, kind: str, space: str) -> None:
        self.shop.tune(kind=kind, space=space)

    @rule(space=spaces_drawn, memory=st.sampled_from(["1G", "1K"]))
    def give_memory(self, space: str, memory: str) -> None:
        self.shop.tune(memory=memory, space=space)

    @rule(field=st.sampled_from(["i", "even"]), drop=st.booleans())
    def declare(self, field: str, drop: bool) -> None:
        if drop and field not in self.shop.info()["indexed_fields"]:  # type: ignore[operator]
            with pytest.raises(search.QueryError):
                self.shop.index_field(field, drop=True)
        else:
            self.shop.index_field(field, drop=drop)

    def go_on_with(self, folder: Path) -> None:
        self.shop.close()
        self.reader.close()
        self.shop = search.open(folder)
        self.reader = search.open(folder, mode="r")

    def elsewhere(self) -> Path:
        self.n_folders += 1
        return self.folder / f"c{self.n_folders}"

    @rule()
    def crash(self) -> None:
        """What kill -9 leaves is what stands in the files at this moment, with nothing closed."""
        self.shop._indexer.wait()  # files that are written to while they are copied are not of one moment
        there = self.elsewhere()
        shutil.copytree(self.shop.path, there)
        Hardened.crashes += 1
        self.go_on_with(there)

    @rule()
    def back_up(self) -> None:
        """A copy is as good as the collection."""
        self.go_on_with(self.shop.backup(self.elsewhere()))


STEADY = settings(
    phases=[Phase.explicit, Phase.generate],  # add Phase.shrink to see the shortest failure; it takes minutes
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_small_collections_are_exact() -> None:
    run_state_machine_as_test(Machine, settings=STEADY)
    assert Machine.by_words > 20  # or nothing would be said of hybrid search
    assert len(Machine.compared) == 7
    assert min(Machine.compared.values()) >= 3


@pytest.fixture
def graphs_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A graph from twenty rows on, walked by every query; linked by one thread, so that runs are alike."""
    monkeypatch.setattr(choose, "FLAT_UP_TO", 20 * DIMS["w"])
    monkeypatch.setattr(Graph, "efforts", (512,))
    monkeypatch.setattr(tune, "_measured_costs", lambda *_: Costs(scan=1e9, gather=1e9, walk=1.0))
    walked: list[str] = []
    plain = plan.plan

    def watched(*arguments: Any) -> plan.Plan:
        way = plain(*arguments)
        walked.append(way.method.value)
        return way

    monkeypatch.setattr("search.query.run.plan", watched)
    n = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield walked
    faiss.omp_set_num_threads(n)


def test_collections_with_graphs_are_as_right(graphs_everywhere: list[str]) -> None:
    run_state_machine_as_test(Machine, settings=STEADY)
    assert graphs_everywhere.count("index") > 20  # or this test would say nothing


@pytest.fixture
def thorough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inverted files visit every list and look at every candidate again, so that they are exact."""
    monkeypatch.setattr(Lists, "efforts", (512,))
    monkeypatch.setattr(ivf, "_LEAST_REFINED", 10_000)


def test_collections_of_all_kinds_survive_crashes(graphs_everywhere: list[str], thorough: None) -> None:
    run_state_machine_as_test(Hardened, settings=settings(STEADY, max_examples=10))
    assert Hardened.crashes > 0
    assert graphs_everywhere.count("index") > 10


@pytest.mark.crash
def test_ten_thousand_steps(graphs_everywhere: list[str], thorough: None) -> None:
    begun, crashes, number = Hardened.steps, Hardened.crashes, 0
    while Hardened.steps - begun < 10_000:
        number += 1
        run_state_machine_as_test(
            seed(number)(Hardened),
            settings=settings(STEADY, derandomize=False, max_examples=50, stateful_step_count=50),
        )
    print(
        f"\n{Hardened.steps - begun} steps, {Hardened.crashes - crashes} crashes among them; "
        f"{len(graphs_everywhere)} searches, by way of {dict(Counter(graphs_everywhere))}"
    )
