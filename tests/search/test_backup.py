"""A backup is whole or absent and a collection itself; restore checks it, overwrites nothing, and brings it back."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import search
from search.catalog import migrations
from search.collection import Collection
from search.index import choose
from tests.contents import contents

DIM = 8


@pytest.fixture
def shop(tmp_path: Path) -> Collection:
    """Thirty records with vectors, one of them changed and one deleted since."""
    rows = np.random.default_rng(0).standard_normal((30, DIM))
    shop = search.open(tmp_path / "shop")
    shop.add([{"id": f"r{i}", "text": f"t{i}", "metadata": {"i": i}} for i in range(30)], rows, space="v")
    shop.add([{"id": "r3"}], rows[:1] + 1, space="v")
    shop.delete("r4")
    return shop


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_restored_is_what_was_backed_up(shop: Collection, tmp_path: Path) -> None:
    before = contents(shop)
    assert shop.backup(tmp_path / "copies" / "monday") == tmp_path / "copies" / "monday"
    shop.delete(where="i < 20")
    made = search.restore(tmp_path / "copies" / "monday", tmp_path / "again")
    assert made == tmp_path / "again"
    with search.open(made) as again:
        assert contents(again) == before
        assert again.check() == []
        row = np.frombuffer(before["r7"].vectors["v"][0][1], np.float32)
        assert again.search(vector=row, k=1)[0].id == "r7"
        again.add([{"id": "new"}], row[None, :] * -1, space="v")
        assert (again.count(), shop.count()) == (30, 10)
    # The backup is what it was, and can be restored again.
    with search.open(search.restore(tmp_path / "copies" / "monday", tmp_path / "third"), "r") as third:
        assert contents(third) == before
    assert files_in(tmp_path) == ["again", "copies", "shop", "third"]
    assert files_in(tmp_path / "copies") == ["monday"]


def test_a_backup_needs_no_log_and_so_no_right_to_write(shop: Collection, tmp_path: Path) -> None:
    """In WAL mode SQLite has to make two files to read one; the header of the file says the mode."""
    made = shop.backup(tmp_path / "copy")
    assert files_in(made) == ["backup.json", "catalog.sqlite", "indexes"]
    assert (made / "catalog.sqlite").read_bytes()[18:20] == b"\x01\x01"  # 2 would be WAL
    with search.open(made, "r") as copy:
        assert contents(copy) == contents(shop)
        assert files_in(made) == ["backup.json", "catalog.sqlite", "indexes"]
    with search.open(made) as copy:  # whoever writes turns the log on again
        copy.add([{"id": "new"}])
        assert (made / "catalog.sqlite-wal").exists()
        assert copy.count() == 30


@pytest.mark.parametrize("there", ["collection", "file", "empty directory", "dangling link"])
def test_nothing_is_overwritten(shop: Collection, tmp_path: Path, there: str) -> None:
    backup = shop.backup(tmp_path / "copy")
    target = tmp_path / "there"
    if there == "collection":
        search.open(target).close()
    elif there == "file":
        target.write_text("mine")
    elif there == "empty directory":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nowhere")
    before = sorted(target.rglob("*")), target.is_file() and target.read_text()
    for act in (lambda: search.restore(backup, target), lambda: shop.backup(target)):
        with pytest.raises(search.CollectionError, match="exists already"):
            act()
    assert (sorted(target.rglob("*")), target.is_file() and target.read_text()) == before
    assert files_in(tmp_path) == sorted(["copy", "shop", "there"])


@pytest.mark.parametrize("what", ["nothing", "empty", "other database", "text", "never filled"])
def test_what_is_no_backup_is_refused(tmp_path: Path, what: str) -> None:
    source = tmp_path / "source"
    kind: type[Exception] = search.CollectionError
    if what != "nothing":
        source.mkdir()
    if what in ("nothing", "empty"):
        kind = search.CollectionNotFound
    elif what == "other database":
        other = sqlite3.connect(source / "catalog.sqlite")
        other.execute("create table mine (x)")
        other.close()
    elif what == "text":
        kind = search.CollectionCorrupt
        (source / "catalog.sqlite").write_text("mine " * 2000)
    else:
        kind = search.CollectionNotFound
        (source / "catalog.sqlite").touch()
    with pytest.raises(kind) as caught:
        search.restore(source, tmp_path / "target")
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)
    assert not (tmp_path / "target").exists()
    assert not [name for name in files_in(tmp_path) if name.startswith(".")]


def flipped(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_a_damaged_backup_is_refused_and_leaves_nothing(shop: Collection, tmp_path: Path) -> None:
    backup = shop.backup(tmp_path / "copy")
    data = (backup / "catalog.sqlite").read_bytes()
    vector = contents(shop)["r7"].vectors["v"][0][1]
    flipped(backup / "catalog.sqlite", data.index(vector) + 5)
    with pytest.raises(search.CollectionCorrupt, match="catalog does not match its checksum"):
        search.restore(backup, tmp_path / "again")
    (backup / "backup.json").unlink()  # then it is a collection like any other
    with pytest.raises(search.CollectionCorrupt, match="batch 1 of space 'v' does not match its checksum"):
        search.restore(backup, tmp_path / "again")
    (backup / "catalog.sqlite").write_bytes(data[: len(data) // 2])
    with pytest.raises(search.CollectionCorrupt, match="damaged"):
        search.restore(backup, tmp_path / "again")
    assert files_in(tmp_path) == ["copy", "shop"]


def test_a_flip_anywhere_is_found(shop: Collection, tmp_path: Path) -> None:
    """Also in a word of a text, where SQLite itself would not notice."""
    backup = shop.backup(tmp_path / "copy")
    data = (backup / "catalog.sqlite").read_bytes()
    used = [at for at in range(len(data)) if data[at : at + 1] != b"\0"]
    places = np.random.default_rng(0).choice(used, 40, replace=False).tolist()
    for at in [0, 17, 18, 24, 27, 28, 60, 99, data.index(b"t17"), len(data) - 1, *places]:
        (backup / "catalog.sqlite").write_bytes(data)
        flipped(backup / "catalog.sqlite", at)
        if 18 <= at < 28:  # by these bytes it tells that SQLite has written to it: then all else counts
            flipped(backup / "catalog.sqlite", data.index(vector_of(shop, "r9")))
        with pytest.raises(search.CollectionError) as caught:
            search.restore(backup, tmp_path / "again")
        assert "; " in str(caught.value)
        assert files_in(tmp_path) == ["copy", "shop"], at
    (backup / "catalog.sqlite").write_bytes(data)
    label = (backup / "backup.json").read_text()
    other = label.replace(json.loads(label)["sha256"], "0" * 64)
    for torn, said in ((label[:-9], r"backup\.json is not readable"), (other, "does not match its checksum")):
        (backup / "backup.json").write_text(torn)
        with pytest.raises(search.CollectionCorrupt, match=said):
            search.restore(backup, tmp_path / "again")


def vector_of(c: Collection, id: str) -> bytes:
    return contents(c)[id].vectors["v"][0][1]


def test_a_backup_that_was_written_to_is_a_backup_still(shop: Collection, tmp_path: Path) -> None:
    with search.open(shop.backup(tmp_path / "copy")) as copy:
        copy.add([{"id": "new"}])
    with search.open(search.restore(tmp_path / "copy", tmp_path / "again"), "r") as again:
        assert list(contents(again)) == [*contents(shop), "new"]


@pytest.fixture
def indexed(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """The shop, small as it is, with a graph."""
    monkeypatch.setattr(choose, "FLAT_UP_TO", 10 * DIM)
    shop.index()
    assert len(list(shop.layout.indexes.iterdir())) == 1
    return shop


def test_the_index_comes_along(indexed: Collection, tmp_path: Path) -> None:
    again = search.restore(indexed.backup(tmp_path / "copy"), tmp_path / "again")
    (file,) = indexed.layout.indexes.iterdir()
    assert (again / "indexes" / file.name).read_bytes() == file.read_bytes()
    with search.open(again, "r") as opened:
        assert opened.check() == []
        assert opened.info()["spaces"][0]["index"]["kind"] != "flat"  # type: ignore[index,call-overload]


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_index_is_left_out(indexed: Collection, tmp_path: Path, damage: str) -> None:
    backup = indexed.backup(tmp_path / "copy")
    (file,) = (backup / "indexes").iterdir()
    if damage == "flipped":
        flipped(file, file.stat().st_size // 2)
    else:
        file.unlink()
    with search.open(search.restore(backup, tmp_path / "again")) as again:
        assert again.check() == []
        assert files_in(again.layout.indexes) == []
        assert contents(again) == contents(indexed)
        again.index()
        assert len(files_in(again.layout.indexes)) == 1


def test_a_backup_of_an_older_nearkin_is_brought_up_to_date(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = shop.backup(tmp_path / "copy")
    old = (backup / "catalog.sqlite").read_bytes()
    step = lambda transaction: transaction.sql("create table later (x)")  # noqa: E731
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, step))
    monkeypatch.setattr(migrations, "CURRENT", migrations.CURRENT + 1)
    with search.open(search.restore(backup, tmp_path / "again"), "r") as again:
        assert again.info()["format"] == migrations.CURRENT
        assert again.count() == 29
    assert (backup / "catalog.sqlite").read_bytes() == old


def test_a_backup_of_a_newer_nearkin_is_refused(shop: Collection, tmp_path: Path) -> None:
    backup = shop.backup(tmp_path / "copy")
    there = sqlite3.connect(backup / "catalog.sqlite")
    there.execute(f"pragma user_version = {migrations.CURRENT + 1}")
    there.close()
    with pytest.raises(search.CollectionError, match="newer nearkin"):
        search.restore(backup, tmp_path / "again")
    assert files_in(tmp_path) == ["copy", "shop"]


def test_two_that_write_the_same_copy_do_not_meet(shop: Collection, tmp_path: Path) -> None:
    refused = pytest.raises(search.CollectionError, match="being written by another process")
    with FileLock(tmp_path / ".copy.partial.lock"), refused:
        shop.backup(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with search.open(shop.backup(tmp_path / "copy"), "r") as copy:
        assert contents(copy) == contents(shop)


def test_what_a_dead_process_left_is_cleared_away(shop: Collection, tmp_path: Path) -> None:
    left = tmp_path / ".copy.partial"
    shutil.copytree(shop.path, left)
    (left / "stray").write_text("x")
    made = shop.backup(tmp_path / "copy")
    assert files_in(made) == ["backup.json", "catalog.sqlite", "indexes"]
    assert files_in(tmp_path) == ["copy", "shop"]


# ---- while another process writes ------------------------------------------------------------------------------

WRITER = """
import sys
import search
with search.open(sys.argv[1]) as c:
    for n in range(100_000):
        c.add([{"id": f"a{n}", "metadata": {"n": n}}, {"id": f"b{n}", "metadata": {"n": n}}],
              [[n + 1.0] * 7 + [1.0], [1.0] * 7 + [n + 1.0]], space="w")
        print(n, flush=True)
"""


def test_backups_while_a_writer_commits_without_a_pause(shop: Collection, tmp_path: Path) -> None:
    """Each is of one commit: all that was acknowledged before it began, pairs never parted, nothing missing between."""
    shop.add(
        [{"id": f"ballast{i}", "text": "x" * 20_000} for i in range(500)]
    )  # 10 MB, so that commits fall in between
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(shop.path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        seen: list[int] = []
        for number in range(5):
            made = shop.backup(tmp_path / f"copy{number}")
            with search.open(made, "r") as copy:
                assert copy.check() == []
                held = {id for id in contents(copy) if id[0] in "ab" and id[1:].isdigit()}
            n = len(held) // 2
            assert held == {f"{side}{i}" for side in "ab" for i in range(n)}
            assert n > acknowledged
            seen.append(n)
            while (acknowledged := int(writer.stdout.readline())) < n:  # what was written during the backup
                pass
            assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert seen == sorted(set(seen))  # the writer went on between them
    assert shop.check() == []
    with search.open(search.restore(tmp_path / "copy4", tmp_path / "again"), "r") as again:
        assert {id for id in contents(again) if id[0] in "ab" and id[1:].isdigit()} == {
            f"{side}{i}" for side in "ab" for i in range(seen[-1])
        }
