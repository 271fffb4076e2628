"""The catalog's file: formats it refuses, commits that are synced, and packed vectors whose damage is noticed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

import search
from search.catalog import migrations, part_writes
from search.catalog.packing import Packed, pack, unpack
from search.collection import Collection
from search.vectors import Batch


def rows(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


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
    with c.database.reading() as transaction:
        assert transaction.value("pragma journal_mode") == "wal"
        assert transaction.value("pragma synchronous") == 2  # full
    with c.database.writing() as transaction:
        assert transaction.value("pragma synchronous") == 2


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
    monkeypatch.setattr(part_writes, "MOST_BYTES", 7 * 4 * 4)
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
    again.delete("r0")
    with pytest.raises(search.CollectionCorrupt):
        again.compact()
    assert again.count() == 20


@pytest.mark.parametrize(
    "harm",
    [
        "delete from part where key = 3",
        "update part set record_key = 1 where key = 3",
        "insert into part (key, record_key, space_key) values (99, 1, 1)",
        "insert into tombstone values (3, 1, 1)",
        "delete from batch where key = 1",
    ],
)
def test_parts_and_vectors_that_do_not_match_are_named(tmp_path: Path, harm: str) -> None:
    c = search.open(tmp_path / "c")
    c.add([{"id": f"r{i}"} for i in range(5)], rows(5), space="v")
    assert c.check() == []
    with sqlite3.connect(c.layout.catalog) as connection:
        connection.execute(harm)
    connection.close()
    assert c.check() == ["space 'v': its parts and its vectors do not match; restore a backup"]


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
