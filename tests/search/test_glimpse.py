"""Questions asked again while nothing changes need no transaction, and still see every commit at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import search
from search.catalog.database import Database
from search.collection import Collection
from search.query import lately
from search.query.follow import Views
from search.types import Hit, Part

N = 40


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32)


def filled(path: Path) -> Collection:
    shop = search.open(path)
    records = [
        {"id": f"r{i}", "text": f"text {i}", "metadata": {"n": i, "deep": {"x": [i]}}} for i in range(N)
    ]
    shop.add(records, rows(N), space="v")
    return shop


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each read transaction begun."""
    seen: list[str] = []
    reading = Database.reading

    def counted(database: Database) -> object:
        seen.append("begin")
        return reading(database)

    monkeypatch.setattr(Database, "reading", counted)
    return seen


def warm(ask: Callable[[], list[Hit]]) -> list[Hit]:
    """The answer, asked so often that the next one is a glimpse."""
    for _ in range(3):
        answer = ask()
    return answer


def test_a_question_asked_again_begins_no_transaction(tmp_path: Path, begun: list[str]) -> None:
    with filled(tmp_path / "c") as shop:
        query = rows(1, seed=1)[0]
        for ask in (
            lambda: shop.search(vector=query, k=5),
            lambda: shop.search(vector=query, k=5, where="n < 20"),
            lambda: shop.search(vector=query, k=50),
        ):
            first = warm(ask)
            begun.clear()
            assert ask() == first
            assert ask() == first
            assert begun == []


def test_another_handles_commit_is_seen_at_the_next_question(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as writer, search.open(tmp_path / "c", mode="r") as reader:
        query = rows(1, seed=1)[0]
        for where in (None, "n >= 0"):
            warm(lambda: reader.search(vector=query, k=3, where=where))  # noqa: B023
            writer.add([{"id": "best", "metadata": {"n": 1}}], query[None, :], space="v")
            assert reader.search(vector=query, k=3, where=where)[0].id == "best"
            warm(lambda: reader.search(vector=query, k=3, where=where))  # noqa: B023
            writer.add([{"id": "best", "metadata": {"n": 2}}])
            assert reader.search(vector=query, k=3, where=where)[0].metadata == {"n": 2}
            warm(lambda: reader.search(vector=query, k=3, where=where))  # noqa: B023
            writer.delete("best")
            assert "best" not in [hit.id for hit in reader.search(vector=query, k=N, where=where)]


def test_passages_likewise(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as shop, search.open(tmp_path / "c", mode="r") as reader:
        space = shop.spaces()["v"]
        two = rows(2, seed=2)

        def put(text: str) -> None:
            record = search.Record("long", text=text)
            with shop.writing() as writer:
                writer.put([record], two, space, parts=[[Part(0, 4), Part(5, 9)]])

        def ask() -> tuple[str, str | None]:
            (hit,) = reader.search(vector=two[1], k=1)
            return hit.id, hit.text

        put("some words")
        assert {ask() for _ in range(4)} == {("long", "word")}
        put("more votes")
        assert ask() == ("long", "vote")


def test_what_a_user_does_to_a_hit_changes_no_later_answer(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as shop:
        query = rows(1, seed=1)[0]
        for hit in warm(lambda: shop.search(vector=query, k=5)):
            hit.metadata["deep"]["x"].append("mine")  # type: ignore[index, call-overload, union-attr]
            hit.metadata["new"] = 1  # type: ignore[index]
        again = shop.search(vector=query, k=5)
        assert [hit.metadata for hit in again] == [{"n": n, "deep": {"x": [n]}} for n in _numbers(again)]


def _numbers(hits: list[Hit]) -> list[int]:
    return [int(hit.id.removeprefix("r")) for hit in hits]


def test_a_batch_gives_each_hit_its_own_metadata(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as shop:
        queries = np.repeat(rows(1, seed=1), 2, axis=0)
        for _ in range(3):
            first, second = shop.search(vector=queries, k=2)  # type: ignore[misc]
            first[0].metadata["mine"] = 1  # type: ignore[attr-defined, index]
            assert "mine" not in second[0].metadata  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", [0, 5_000])
def test_with_little_room_the_answers_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    with filled(tmp_path / "c") as shop:
        queries = rows(20, seed=3)
        want = [shop.search(vector=query, k=10) for query in queries]
        monkeypatch.setattr(lately, "_BYTES", room)
        monkeypatch.setattr(lately, "_LARGEST", 650)  # some rows are larger, some are not
        for _ in range(3):
            assert [shop.search(vector=query, k=10) for query in queries] == want


def test_a_glimpse_drops_no_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A space not asked for some commits is brought up to date by what is new, not loaded anew."""
    with filled(tmp_path / "c") as shop:
        shop.add([{"id": "other"}], [[1.0, 0.0]], space="w")
        reader = search.open(tmp_path / "c", mode="r")
        query = rows(1, seed=1)[0]
        assert reader.search(vector=[1.0, 0.0], space="w")[0].id == "other"
        shop.add([{"id": "late"}], query[None, :], space="v")
        warm(lambda: reader.search(vector=query, k=3))
        loaded: list[str] = []
        empty = Views._empty
        monkeypatch.setattr(Views, "_empty", lambda *given: loaded.append(given[2].name) or empty(*given))
        assert reader.search(vector=[1.0, 0.0], space="w")[0].id == "other"
        assert loaded == []


def test_an_emptied_space_answers_nothing(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as shop, search.open(tmp_path / "c", mode="r") as reader:
        query = rows(1)[0]
        assert warm(lambda: reader.search(vector=query))
        shop.delete(where="n >= 0")
        assert [reader.search(vector=query) for _ in range(4)] == [[]] * 4
        shop.add([{"id": "late"}], query[None, :], space="v")
        assert [hit.id for hit in reader.search(vector=query)] == ["late"]


def test_threads_see_whole_commits(tmp_path: Path) -> None:
    """Each commit writes its number into all records: an answer that mixes two commits would show two numbers."""
    with search.open(tmp_path / "c") as shop, search.open(tmp_path / "c", mode="r") as reader:
        vectors, queries = rows(30), rows(50, seed=5)
        commit = lambda number: shop.add(  # noqa: E731
            [{"id": f"r{i}", "metadata": {"n": number}} for i in range(30)], vectors, space="v"
        )
        commit(0)
        mixed: list[list[object]] = []
        newest: list[int] = []
        over = threading.Event()

        def ask() -> None:
            last = 0
            while not over.is_set():
                for query in queries:
                    seen = [hit.metadata["n"] for hit in reader.search(vector=query, k=10)]
                    if len(set(seen)) > 1 or len(seen) != 10 or int(str(seen[0])) < last:
                        mixed.append(seen)
                    last = int(str(seen[0]))
            newest.append(last)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(1, 60):
            commit(number)
        for _ in range(3):  # the last commit stays, so that all get to it
            for query in queries:
                reader.search(vector=query, k=10)
        over.set()
        for thread in threads:
            thread.join()
        assert mixed == []
        assert all(hit.metadata["n"] == 59 for hit in reader.search(vector=queries[0], k=10))
        assert len(newest) == 3
