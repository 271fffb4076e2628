"""The catalog among several users of it: other objects, threads and processes, locks, and other formats."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection

import search
from search.catalog import migrations, writes
from search.catalog.packing import Packed, pack, unpack
from search.catalog.reads import State
from search.collection import Collection
from search.index.view import View
from search.query.follow import Views
from search.types import Space
from search.vectors import Batch


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


# ---- formats -------------------------------------------------------------------------------------------------


def contents(path: Path) -> dict[str, list[object]]:
    """Everything in a catalog, as SQLite gives it."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        found = {name: connection.execute(f"select * from {name} order by 1").fetchall() for name in names}
    connection.close()
    return found


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path, mode: str) -> None:
    c = search.open(tmp_path / "c")
    c.add([{"id": "a"}], [[1, 0]], space="v")
    c.close()
    with sqlite3.connect(c.layout.catalog) as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    before = contents(c.layout.catalog)
    with pytest.raises(search.CollectionError, match=r"newer nearkin \(format 99.*upgrade"):
        search.open(c.path, mode=mode)  # type: ignore[arg-type]
    assert contents(c.layout.catalog) == before
    with sqlite3.connect(c.layout.catalog) as connection:
        connection.execute(f"pragma user_version = {migrations.CURRENT}")
    connection.close()
    assert search.open(c.path).search(vector=[1, 0])[0].id == "a"


def test_reading_what_is_absent_creates_nothing(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path / "a" / "b", tmp_path):
        with pytest.raises(search.CollectionNotFound, match="no collection"):
            search.open(path, mode="r")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "catalog.sqlite").touch()  # a writer that died before its first step
    with pytest.raises(search.CollectionNotFound, match="no finished collection"):
        search.open(tmp_path, mode="r")
    assert search.open(tmp_path).count() == 0


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"x")
    with pytest.raises(search.CollectionError, match="holds other files"):
        search.open(photos)
    assert [path.name for path in photos.iterdir()] == ["a.jpg"]
    with pytest.raises(search.CollectionError, match="is a file"):
        search.open(photos / "a.jpg")
    with pytest.raises(search.CollectionError, match="cannot be made"):
        search.open(photos / "a.jpg" / "c")


@pytest.mark.parametrize("version", [0, 1, 7])
@pytest.mark.parametrize("mode", ["r", "rw"])
def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path, version: int, mode: str) -> None:
    path = tmp_path / "catalog.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table theirs (x)")
        connection.execute("insert into theirs values (1)")
        connection.execute(f"pragma user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(search.CollectionError, match="another program"):
        search.open(tmp_path, mode=mode)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(search.CollectionCorrupt, match="damaged"):
        search.open(tmp_path, mode=mode)  # type: ignore[arg-type]
    assert path.read_bytes() == b"not a database at all" * 100


def test_a_reader_may_not_write(tmp_path: Path) -> None:
    search.open(tmp_path / "c").add([{"id": "a"}])
    c = search.open(tmp_path / "c", mode="r")
    for write in (
        lambda: c.add([{"id": "b"}]),
        lambda: c.delete("a"),
        lambda: c.delete(where="id = 'a'"),
        c.compact,
        c.index,
    ):
        with pytest.raises(search.CollectionError, match="read only"):
            write()
    assert c.count() == 1


def test_each_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    c = search.open(tmp_path / "c")
    with c.database.reading() as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 2  # full
    with c.database.writing() as connection:
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 2


# ---- packed vectors ------------------------------------------------------------------------------------------


def test_a_batch_comes_back_bit_for_bit() -> None:
    batch = Batch(np.arange(5) + 2**40, np.arange(5)[::-1].copy(), rows(5, 3))
    back = unpack(pack(batch), 5, 3, "it")
    for name in ("part_keys", "record_keys", "vectors"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name))


def test_any_flipped_bit_of_a_batch_is_noticed() -> None:
    packed = pack(Batch(np.arange(2), np.arange(2), rows(2, 3)))
    for name in ("part_keys", "record_keys", "vectors"):
        blob = getattr(packed, name)
        for at in range(len(blob)):
            torn = bytearray(blob)
            torn[at] ^= 1 << (at % 8)
            blobs = {n: getattr(packed, n) for n in ("part_keys", "record_keys", "vectors")} | {
                name: bytes(torn)
            }
            with pytest.raises(search.CollectionCorrupt, match="it does not match its checksum"):
                unpack(Packed(**blobs, checksum=packed.checksum), 2, 3, "it")
        short = {n: getattr(packed, n) for n in ("part_keys", "record_keys", "vectors")} | {name: blob[:-4]}
        with pytest.raises(search.CollectionCorrupt):
            unpack(Packed(**short, checksum=packed.checksum), 2, 3, "it")


def test_a_commit_too_long_for_one_blob_is_packed_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "_MOST_BYTES", 7 * 4 * 4)
    c = search.open(tmp_path / "c")
    vectors = rows(100)
    c.add([{"id": f"r{i}"} for i in range(100)], vectors, space="v")
    with sqlite3.connect(c.layout.catalog) as connection:
        assert connection.execute("select n from batch").fetchall() == [(7,)] * 14 + [(2,)]
    connection.close()
    for one in (c, search.open(c.path)):
        assert [hits[0].id for hits in one.search(vector=vectors, k=1)] == [f"r{i}" for i in range(100)]
    c.delete(["r3", "r99"])
    c.compact()
    assert [hits[0].id for hits in c.search(vector=vectors[4:9], k=1)] == [f"r{i}" for i in range(4, 9)]
    assert c.check() == []


def test_flipped_bytes_in_a_packed_vector_are_never_answered_from(tmp_path: Path) -> None:
    c: Collection = search.open(tmp_path / "c")
    vectors = rows(20)
    c.add([{"id": f"r{i}"} for i in range(10)], vectors[:10], space="v")
    c.add([{"id": f"r{i}"} for i in range(10, 20)], vectors[10:], space="v")
    c.add([{"id": "other"}], [[1, 0]], space="w")
    open_before = search.open(c.path)
    assert open_before.search(vector=vectors[0])[0].id == "r0"
    c.close()
    with sqlite3.connect(c.layout.catalog) as connection:
        (key, blob) = connection.execute(
            "select key, vectors from batch order by key limit 1 offset 1"
        ).fetchone()
        torn = bytearray(blob)
        torn[17] ^= 4
        connection.execute("update batch set vectors = ? where key = ?", (bytes(torn), key))
    connection.close()
    again = search.open(c.path)
    for _ in range(2):  # the second time too
        with pytest.raises(search.CollectionCorrupt, match=f"batch {key} of space 'v'.*restore"):
            again.search(vector=vectors[0])
    assert again.check() == [
        f"batch {key} of space 'v' does not match its checksum; restore the collection from a backup"
    ]
    assert again.search(vector=[1, 0], space="w")[0].id == "other"  # the rest still answers
    assert again.get("r12")[0] is not None
    with pytest.raises(search.CollectionCorrupt):
        again.compact()
    assert again.count() == 21


def test_a_reader_that_met_damage_on_the_way_does_not_count_rows_twice(tmp_path: Path) -> None:
    """The batch before the damaged one was already applied; once repaired, each row is there once."""
    c = search.open(tmp_path / "c")
    reader = search.open(tmp_path / "c", mode="r")
    vectors = rows(30)
    c.add([{"id": f"r{i}"} for i in range(10)], vectors[:10], space="v")
    assert reader.search(vector=vectors[0])[0].id == "r0"
    for begin in (10, 20):
        c.add([{"id": f"r{i}"} for i in range(begin, begin + 10)], vectors[begin : begin + 10], space="v")
    with sqlite3.connect(c.layout.catalog, timeout=10) as connection:
        (key, checksum) = connection.execute("select key, checksum from batch order by key desc").fetchone()
        connection.execute("update batch set checksum = ? where key = ?", (checksum ^ 1, key))
    connection.commit()
    for _ in range(3):
        with pytest.raises(search.CollectionCorrupt):
            reader.search(vector=vectors[0])
    connection.execute("update batch set checksum = ? where key = ?", (checksum, key))
    connection.commit()
    connection.close()
    hits = reader.search(vector=vectors[0], k=100, explain=True)
    assert sorted(hit.id for hit in hits) == sorted(f"r{i}" for i in range(30))
    assert hits[0].explain is not None
    assert hits[0].explain["plan"]["n_rows"] == 30  # type: ignore[index,call-overload]


def test_a_look_is_of_the_readers_own_commit_or_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may move the view on just before it is looked at: the reader must start anew."""
    c = search.open(tmp_path / "c")
    vectors = rows(3)
    c.add([{"id": "a"}], vectors[:1], space="v")
    c.add([{"id": "b"}], vectors[1:2], space="v")
    plain, moved = Views.view, []

    def view(self: Views, connection: Connection, state: State, space: Space) -> View:
        found = plain(self, connection, state, space)
        if not moved:  # what the other thread does, once: a commit, and a question that follows it
            moved.append(c.add([{"id": "c"}], vectors[2:], space="v"))
            moved.append(c.search(vector=vectors[2], k=1)[0].id)
        return found

    monkeypatch.setattr(Views, "view", view)
    assert {hit.id for hit in c.search(vector=vectors[0], k=5)} == {"a", "b", "c"}
    assert moved == [["c"], "c"]
