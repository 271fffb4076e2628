"""Several users of one collection: other objects, threads and processes see whole commits, and one writes at a time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import search
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.index.view import View
from search.query.follow import Views
from search.types import Space


def rows(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


# ---- several readers -----------------------------------------------------------------------------------------


def test_another_object_sees_each_commit_at_its_next_question(tmp_path: Path) -> None:
    writer = search.open(tmp_path / "c")
    reader, other = search.open(tmp_path / "c", mode="r"), search.open(tmp_path / "c")
    vectors = rows(6)
    for i in range(6):
        writer.add([{"id": f"r{i}", "metadata": {f"field{i}": i}}], vectors[i : i + 1], space="v")
        for one in (reader, other):
            assert one.search(vector=vectors[i])[0].id == f"r{i}"
            assert one.count(f"field{i} = {i}") == 1
    writer.delete("r0")
    assert "r0" not in [hit.id for hit in reader.search(vector=vectors[0], k=9)]
    other.add([{"id": "r1"}], vectors[:1], space="v")  # the other object writes as well
    assert writer.search(vector=vectors[0])[0].id == "r1"
    assert reader.search(vector=vectors[0])[0].id == "r1"
    writer.compact()
    assert {hit.id for hit in reader.search(vector=vectors[0], k=9)} == {"r1", "r2", "r3", "r4", "r5"}
    other.add([{"id": "late", "metadata": {"new": 1}}], vectors[:1] * -1, space="v")
    assert writer.search(vector=-vectors[0])[0].id == reader.search(vector=-vectors[0])[0].id == "late"


def test_a_reader_counts_no_row_twice_after_a_compaction(tmp_path: Path) -> None:
    """The rewritten batches are of a later commit: whoever holds the old rows must load anew, not add to them."""
    c = search.open(tmp_path / "c")
    reader = search.open(tmp_path / "c", mode="r")
    vectors = rows(20)
    c.add([{"id": f"r{i}"} for i in range(20)], vectors, space="v")
    for left in (20, 15, 10):
        n_rows = [
            one.search(vector=vectors[0], explain=True)[0].explain["plan"]["n_rows"] for one in (c, reader)
        ]  # type: ignore[index,call-overload]
        assert n_rows == [left] * 2
        c.delete([f"r{i}" for i in range(left - 5, left)])
        c.compact()
        for one in (c, reader):
            assert sorted(hit.id for hit in one.search(vector=vectors[0], k=99)) == sorted(
                f"r{i}" for i in range(left - 5)
            )
            assert [hits[0].id for hits in one.search(vector=vectors[: left - 5], k=1)] == [
                f"r{i}" for i in range(left - 5)
            ]


def test_a_filter_is_asked_anew_after_each_commit(tmp_path: Path) -> None:
    c = search.open(tmp_path / "c")
    reader = search.open(tmp_path / "c", mode="r")
    vectors = rows(3)

    def matching(where: str) -> list[list[str]]:
        found = [sorted(hit.id for hit in one.search(vector=vectors[0], where=where)) for one in (c, reader)]
        liked = [sorted(hit.id for hit in one.recommend("c", where=where)) for one in (c, reader)]
        assert [[id for id in ids if id != "c"] for ids in found] == liked
        return found

    c.add([{"id": id, "metadata": {"tag": 1}} for id in "abc"], vectors, space="v")
    assert matching("tag = 1") == [["a", "b", "c"]] * 2
    c.add([{"id": "a", "metadata": {"tag": 2}}])
    assert matching("tag = 1") == [["b", "c"]] * 2
    assert matching("tag = 2") == [["a"]] * 2
    search.open(c.path).add([{"id": "b", "metadata": {"tag": 2}}])  # another object's commit
    assert matching("tag = 1") == [["c"]] * 2
    assert matching("tag = 2") == [["a", "b"]] * 2
    c.delete("a")
    c.add([{"id": "a", "metadata": {"tag": 2}}], vectors[:1], space="v")
    assert matching("tag = 2") == [["a", "b"]] * 2
    c.compact()
    assert matching("tag = 2") == [["a", "b"]] * 2


READER = """
import sys, search
c = search.open(sys.argv[1], mode="r")
print("ready", flush=True)
for line in sys.stdin:
    hits = c.search(vector=[float(x) for x in line.split()], k=100)
    print(c.count(), len(hits), hits[0].id, flush=True)
"""


def test_another_process_sees_each_commit_at_its_next_question(tmp_path: Path) -> None:
    c = search.open(tmp_path / "c")
    vectors = rows(5)
    c.add([{"id": "first"}], vectors[:1], space="v")
    reader = child(READER, c.path)
    try:
        assert says(reader) == "ready"
        for i in range(1, 5):
            c.add([{"id": f"r{i}"}], vectors[i : i + 1], space="v")
            tell(reader, " ".join(map(str, vectors[i])))
            assert says(reader) == f"{i + 1} {i + 1} r{i}"
        c.delete("r4")
        c.compact()
        tell(reader, " ".join(map(str, vectors[3])))
        assert says(reader) == "4 4 r3"
    finally:
        reader.kill()
        reader.communicate()


def test_nobody_sees_half_a_commit(tmp_path: Path) -> None:
    """Eight readers while one writes: each commit is ten records and their vectors, all there or none."""
    c = search.open(tmp_path / "c")
    centres = rows(40, 8)
    c.add([{"id": "start", "metadata": {"tag": -1}}], rows(1, 8, 1), space="v")
    done, wrong = threading.Event(), []
    progress = [0]
    asked = [0] * 8

    def read(number: int) -> None:
        rng = np.random.default_rng(number)
        own = c if number % 2 else search.open(c.path, mode="r")
        while not done.is_set():
            tag = (
                int(min(rng.integers(0, 3) + progress[0], 39))
                if rng.random() < 0.7
                else int(rng.integers(0, 40))
            )
            n = own.count(f"tag = {tag}")
            hits = own.search(vector=centres[tag], k=100, where=f"tag = {tag}")
            liked = own.recommend("start", k=500)
            asked[number] += 1
            tags = [hit.metadata["tag"] for hit in liked]
            if (
                n not in (0, 10)
                or len(hits) not in (0, 10)
                or any(tags.count(t) not in (0, 10) for t in set(tags))
            ):
                wrong.append((tag, n, len(hits)))

    def guarded(number: int) -> None:
        try:
            read(number)
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for tag in range(40):
            progress[0] = tag
            records = [{"id": f"{tag}-{i}", "metadata": {"tag": tag}} for i in range(10)]
            c.add(records, centres[tag] + 0.1 * rows(10, 8, tag), space="v")
            if tag % 5 == 4:
                c.delete(where=f"tag = {tag - 2}")
            if tag % 13 == 12:
                c.compact()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(asked) > 0
    assert c.count() == 1 + 32 * 10
    assert c.check() == []


def test_threads_that_write_take_turns(tmp_path: Path) -> None:
    c = search.open(tmp_path / "c")
    vectors = rows(60)

    def write(number: int) -> None:
        for i in range(number * 10, number * 10 + 10):
            c.add([{"id": f"r{i}", "metadata": {f"f{i}": 1}}], vectors[i : i + 1], space="v")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert c.count() == 60
    assert [one[0].id for one in c.search(vector=vectors, k=1)] == [f"r{i}" for i in range(60)]
    assert c.check() == []


# ---- one writer ----------------------------------------------------------------------------------------------

HOLDER = """
import sys, search
c = search.open(sys.argv[1])
with c.writing() as writer:
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = child(HOLDER, path)
    try:
        assert says(process) == "held"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    c = search.open(tmp_path / "c")
    c.add([{"id": "a"}], [[1, 0]], space="v")
    with holder(c.path) as process:
        begun = time.monotonic()
        with pytest.raises(search.CollectionLocked) as caught, c.writing(wait_s=0.2):
            pass
        assert 0.15 < time.monotonic() - begun < 5
        assert f"process {process.pid} on {platform.node()}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert c.search(vector=[1, 0])[0].id == "a"  # readers are not in its way
        tell(process, "let go")
        assert says(process) == "free"
        with c.writing(wait_s=5):
            pass
        assert c.add([{"id": "b"}]) == ["b"]


def test_a_waiting_writer_gets_its_turn(tmp_path: Path) -> None:
    c = search.open(tmp_path / "c")
    with holder(c.path) as process:
        threading.Timer(0.3, tell, (process, "let go")).start()
        assert c.add([{"id": "b"}]) == ["b"]
    assert c.count() == 1


def test_a_killed_holder_frees_the_lock_at_once(tmp_path: Path) -> None:
    c = search.open(tmp_path / "c")
    with holder(c.path) as process:
        process.kill()
        process.wait()
        begun = time.monotonic()
        assert c.add([{"id": "a"}]) == ["a"]
        assert time.monotonic() - begun < 2
    said = json.loads(c.layout.holder.read_text())
    assert said["pid"] == os.getpid()


def test_two_objects_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    one, two = search.open(tmp_path / "c"), search.open(tmp_path / "c")
    with one.writing():
        with (
            pytest.raises(search.CollectionLocked, match=f"process {os.getpid()} on"),
            two.writing(wait_s=0.1),
        ):
            pass
        one.add([{"id": "within"}])  # the holder may nest
    assert two.add([{"id": "after"}]) == ["after"]


def test_a_look_is_of_the_readers_own_commit_or_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may move the view on just before it is looked at: the reader must start anew."""
    c = search.open(tmp_path / "c")
    vectors = rows(3)
    c.add([{"id": "a"}], vectors[:1], space="v")
    c.add([{"id": "b"}], vectors[1:2], space="v")
    plain, moved = Views.view, []

    def view(self: Views, transaction: Transaction, state: State, space: Space) -> View:
        found = plain(self, transaction, state, space)
        if not moved:  # what the other thread does, once: a commit, and a question that follows it
            moved.append(c.add([{"id": "c"}], vectors[2:], space="v"))
            moved.append(c.search(vector=vectors[2], k=1)[0].id)
        return found

    monkeypatch.setattr(Views, "view", view)
    assert {hit.id for hit in c.search(vector=vectors[0], k=5)} == {"a", "b", "c"}
    assert moved == [["c"], "c"]
