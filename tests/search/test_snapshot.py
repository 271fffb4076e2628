"""An index file is a view that can be thrown away: whatever happens to it, the answers stay right."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from search import checking
from search.catalog import reads, writes
from search.catalog.database import Database
from search.collection import Collection
from search.index import choose, snapshot, tune
from search.index.costs import Costs
from search.index.hnsw import Graph

DIM, N = 8, 600


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph from a hundred rows on, that every query walks, and so thoroughly that it is exact."""
    monkeypatch.setattr(choose, "FLAT_UP_TO", 100 * DIM)
    monkeypatch.setattr(Graph, "efforts", (1024,))
    monkeypatch.setattr(tune, "_measured_costs", lambda *_: Costs(scan=1e9, gather=1e9, walk=1.0))


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((N + 50, DIM)) + 2 * rng.standard_normal((1, DIM))).astype(np.float32)


@pytest.fixture
def shop(tmp_path: Path, rows: np.ndarray) -> Collection:
    return filled(tmp_path / "shop", rows)


def filled(path: Path, rows: np.ndarray, reverse: bool = False) -> Collection:
    shop = search.open(path)
    records = [{"id": f"r{i}", "metadata": {"i": i}} for i in range(N)]
    shop.add(records, rows[:N][::-1] if reverse else rows[:N], space="v")
    shop.index()
    return shop


def method(shop: Collection, row: np.ndarray) -> str:
    (hit,) = shop.search(vector=row, k=1, explain=True)
    assert hit.explain is not None
    return hit.explain["plan"]["method"]  # type: ignore[index,call-overload,no-any-return]


def index_file(shop: Collection) -> Path:
    (path,) = shop.layout.indexes.iterdir()
    return path


def right(shop: Collection, rows: np.ndarray, present: list[int] | None = None) -> None:
    """The answers are those of numpy, and each row finds itself."""
    some = np.arange(N) if present is None else np.array(present)
    held = rows[some].astype(np.float64)
    unit = held / np.linalg.norm(held, axis=1, keepdims=True)
    for at in range(0, len(some), max(1, len(some) // 7)):
        hits = shop.search(vector=held[at], k=10)
        exact = np.sort(unit @ unit[at])[::-1][:10]
        np.testing.assert_allclose([hit.score for hit in hits], exact, atol=1e-5)
        assert hits[0].id == f"r{some[at]}"


def test_a_graph_is_built_kept_and_read_again(shop: Collection, rows: np.ndarray) -> None:
    assert method(shop, rows[0]) == "index"
    right(shop, rows)
    (info,) = shop.info()["spaces"]  # type: ignore[misc,union-attr]
    assert info["index"]["kind"] == "hnsw"
    assert info["index"]["vectors"] == N
    assert info["index"]["recall"] >= 0.95
    again = search.open(shop.path, mode="r")
    assert method(again, rows[0]) == "index"
    right(again, rows)
    assert again.search(vector=rows[:50], k=10) == shop.search(vector=rows[:50], k=10)


def test_what_came_after_the_snapshot_is_replayed(shop: Collection, rows: np.ndarray) -> None:
    shop.add([{"id": f"r{i}"} for i in range(N, N + 50)], rows[N:], space="v")  # too few for a new graph
    shop.delete([f"r{i}" for i in range(0, N, 3)])
    shop.add([{"id": "r1"}], [-rows[1]], space="v")
    present = [i for i in range(N + 50) if (i % 3 or i >= N) and i != 1]
    turned = rows.copy()
    turned[1] = -rows[1]
    for one in (shop, search.open(shop.path, mode="r")):
        assert method(one, rows[0]) == "index"
        right(one, turned, sorted([*present, 1]))
        assert one.search(vector=-rows[1], k=1)[0].id == "r1"
    assert index_file(shop).name == json.loads(vouched(shop))["file"]


def vouched(shop: Collection) -> str:
    connection = sqlite3.connect(shop.layout.catalog)
    (said,) = connection.execute("select snapshot from space").fetchone()
    connection.close()
    return said  # type: ignore[no-any-return]


def vouch(catalog: Path, said: str) -> None:
    """Have a catalog vouch for this, as nearkin would write it."""
    database = Database(catalog, read_only=False)
    with database.writing() as transaction:
        (space,) = reads.spaces(transaction).values()
        writes.record_snapshot(transaction, space, json.loads(said))
    database.close()


def flipped(at: float) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return harm


def cut(share: float) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return harm


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS: dict[str, Callable[[Path], None]] = {
    **{f"a byte flipped at {at}": flipped(at) for at in (0.0, 0.001, 0.01, 0.2, 0.5, 0.9, 1.0)},
    **{f"cut to {share}": cut(share) for share in (0.0, 0.001, 0.5, 0.999)},
    "one byte longer": longer,
    "gone": Path.unlink,
    "a directory in its place": a_directory,
    "all zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_file_is_never_answered_from(
    shop: Collection, rows: np.ndarray, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = index_file(shop)
    HARMS[harm](path)
    shop.close()
    with search.open(shop.path, mode="r") as reader:
        assert method(reader, rows[0]) == "scan"
        right(reader, rows)
        (said,) = reader.check()
        assert str(path) in said
        assert "space 'v'" in said
        assert "built again" in said
        assert "\n" not in said
    assert path.exists() or harm == "gone"  # a reader moves nothing
    writer = search.open(shop.path)
    with caplog.at_level(logging.WARNING):
        writer.index()
    assert path.name in caplog.text
    quarantined = [one.name for one in writer.layout.quarantine.iterdir()] if harm != "gone" else []
    assert quarantined == ([path.name] if harm != "gone" else [])
    assert index_file(writer) != path
    for one in (writer, search.open(shop.path, mode="r")):
        assert method(one, rows[0]) == "index"
        right(one, rows)
        assert one.check() == []


def test_compaction_rebuilds_a_damaged_index(shop: Collection, rows: np.ndarray) -> None:
    flipped(0.5)(index_file(shop))
    compacted = search.open(shop.path)
    compacted.compact()
    assert (compacted.check(), method(compacted, rows[0])) == ([], "index")
    right(compacted, rows)


def swapped_file(shop: Collection, other: Collection) -> None:
    """Only the file of the other collection, under this one's name."""
    shutil.copyfile(index_file(other), index_file(shop))


def swapped_with_its_record(shop: Collection, other: Collection) -> None:
    """The file of the other collection and what its catalog says of it: even the checksum fits."""
    index_file(shop).unlink()
    shutil.copyfile(index_file(other), shop.layout.indexes / index_file(other).name)
    said = vouched(other)
    vouch(shop.layout.catalog, said)


@pytest.mark.parametrize("swap", [swapped_file, swapped_with_its_record])
def test_the_index_of_another_collection_is_noticed(
    tmp_path: Path, rows: np.ndarray, swap: Callable[[Collection, Collection], None]
) -> None:
    """The same ids and keys, the vectors in the opposite order: answers from the wrong graph would look fine."""
    shop, other = filled(tmp_path / "one", rows), filled(tmp_path / "two", rows, reverse=True)
    shop.close()
    other.close()
    swap(shop, other)
    again = search.open(shop.path)
    assert method(again, rows[0]) == "scan"
    right(again, rows)
    assert len(again.check()) == 1
    again.index()
    assert (again.check(), method(again, rows[0])) == ([], "index")
    right(again, rows)


def test_the_index_of_other_rows_is_noticed(shop: Collection, rows: np.ndarray) -> None:
    """The catalog of a backup of yesterday with the index file of today."""
    name, said = index_file(shop).name, vouched(shop)
    shutil.copyfile(index_file(shop), shop.path.parent / "kept")
    shop.delete(where="i < 200")
    shop.compact()
    shop.close()
    shutil.copyfile(shop.path.parent / "kept", shop.layout.indexes / name)
    vouch(shop.layout.catalog, said)
    again = search.open(shop.path)
    assert method(again, rows[300]) == "scan"
    right(again, rows, list(range(200, N)))
    assert len(again.check()) == 1


def test_leftovers_are_swept_and_no_longer_in_the_way(shop: Collection, rows: np.ndarray) -> None:
    (shop.layout.indexes / "1-dead.hnsw.new").write_bytes(b"half of it")
    (shop.layout.indexes / "1-older.hnsw").write_bytes(b"an older one")
    right(search.open(shop.path), rows)
    shop.compact()
    shop.add([{"id": f"n{i}"} for i in range(N)], rows[:N] + 5, space="v")
    shop.index()
    assert index_file(shop).name == json.loads(vouched(shop))["file"]


def test_another_process_s_index_is_taken_over_not_quarantined(
    tmp_path: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This object loaded the space before the other built its graph: that graph is sound, and is taken."""
    monkeypatch.setattr(choose, "FLAT_UP_TO", 10**9)
    one = filled(tmp_path / "c", rows)
    assert method(one, rows[0]) == "scan"
    monkeypatch.setattr(choose, "FLAT_UP_TO", 100 * DIM)
    other = search.open(one.path)
    other.index()
    path = index_file(one)
    one.index()
    assert index_file(one) == path
    assert not one.layout.quarantine.exists()
    assert method(one, rows[0]) == "index"
    right(one, rows)


def test_a_space_whose_rows_are_all_deleted_keeps_working(shop: Collection, rows: np.ndarray) -> None:
    shop.delete(where="i >= 0")
    assert shop.search(vector=rows[0]) == []
    shop.index()
    shop.compact()
    again = search.open(shop.path)
    assert (again.search(vector=rows[0]), again.check(), again.count()) == ([], [], 0)
    again.add([{"id": f"r{i}"} for i in range(N)], rows[:N], space="v")
    right(again, rows)


def test_a_backup_takes_the_index_along(shop: Collection, rows: np.ndarray, tmp_path: Path) -> None:
    copy = search.open(shop.backup(tmp_path / "copy"), mode="r")
    assert (method(copy, rows[0]), copy.check()) == ("index", [])
    right(copy, rows)


def test_compaction_leaves_an_index_that_other_processes_find(shop: Collection, rows: np.ndarray) -> None:
    """The writer still had one in memory; what the catalog vouches for is what everyone else has."""
    shop.delete(["r1", "r2"])
    shop.compact()
    reader = search.open(shop.path, "r")
    assert method(reader, rows[0]) == "index"
    right(reader, rows, [i for i in range(N) if i not in (1, 2)])


def test_check_raises_no_alarm_over_an_index_that_is_replaced(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that it is about to read is swept away by whoever has built the next one."""
    old, plain = index_file(shop), snapshot.read
    reader = search.open(shop.path, "r")

    def late(*arguments: Any) -> Any:
        if old.exists():
            with shop.database.writing() as transaction:
                (space,) = reads.spaces(transaction).values()
                writes.record_snapshot(transaction, space, None)
            shop.index(wait=False)
            shop._indexer.wait()
            assert not old.exists()
        return plain(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(checking.snapshot, "read", late)
        assert reader.check() == []
    assert index_file(shop) != old
    assert reader.check() == []
