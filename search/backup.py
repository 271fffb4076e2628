"""Copies of a whole collection: a backup is a collection itself, and restoring one is a copy that is checked."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search import checking
from search.catalog import migrations, reads, writes
from search.catalog.database import Database
from search.errors import CollectionCorrupt, CollectionError, CollectionNotFound
from search.layout import Layout
from search.partial import whole
from search.version import __version__

# Beside the catalog of a backup: its hash, since SQLite keeps no checksums of records.
_LABEL = "backup.json"


def back_up(layout: Layout, database: Database, target: Path) -> Path:
    """Copy the collection to `target`, which must not exist; whole when it has its name, or not there at all.

    The copy is of one commit, whatever is written meanwhile: SQLite copies all pages in one read transaction,
    so a writer neither waits nor makes it begin again.

    Raises:
        CollectionError: something is at `target`, or it cannot be written.
    """
    with whole(target, parents=True) as place:
        partial = Layout(place)
        _copy(layout, database, partial)
        _fold(partial.catalog)
        label = {
            "nearkin": __version__,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            **_fingerprint(partial.catalog),
        }
        (place / _LABEL).write_text(json.dumps(label) + "\n", encoding="utf-8")
    return target


def restore(backup: str | Path, path: str | Path) -> Path:
    """Make a collection at `path` from a backup, after checking every byte of it.

    Nothing stands at `path` until the copy is whole, checked and durable. A damaged index does not matter, it is
    left out and built again when due; damage to anything else is refused. A backup of an older nearkin is
    brought up to date; the backup itself is never changed.

    Args:
        backup: a directory that `Collection.backup` made, or any collection.
        path: where the collection is to be; nothing may be there.

    Returns:
        The path, with ~ expanded.

    Raises:
        CollectionNotFound: there is no backup.
        CollectionCorrupt: the backup is damaged; the message says how.
        CollectionError: something is at `path` already, it cannot be written, or a newer nearkin made the backup.
    """
    source, target = Layout(Path(backup).expanduser()), Path(path).expanduser()
    if not source.catalog.is_file():
        raise CollectionNotFound(f"there is no backup at {source.root}; name a directory that backup made")
    database = Database(source.catalog, read_only=True)
    try:
        _check_label(source)
        migrations.check_ours(database)
        with whole(target, parents=True) as place:
            _copy(source, database, Layout(place))
            _verify(source, Layout(place))
    except CollectionCorrupt as error:
        raise CollectionCorrupt(
            f"the backup at {source.root} is damaged ({str(error).partition(';')[0]}); take another backup"
        ) from None
    finally:
        database.close()
    return target


def _copy(source: Layout, database: Database, partial: Layout) -> None:
    """The catalog as of one commit, and the index files that it vouches for."""
    partial.indexes.mkdir(parents=True)
    database.back_up(partial.catalog)
    copy = Database(partial.catalog, read_only=False)
    try:
        with copy.reading() as transaction:
            if migrations.version(transaction) == 0:
                raise CollectionNotFound(f"{source.root} holds no finished collection; name another one")
        migrations.migrate(copy)
        with copy.reading() as transaction:
            spaces = reads.spaces(transaction)
            vouched = {name: reads.snapshot(transaction, space) for name, space in spaces.items()}
        for name, said in vouched.items():
            if said is None:
                continue
            file = Path(said["file"]).name
            try:
                shutil.copyfile(source.indexes / file, partial.indexes / file)
            except FileNotFoundError:
                # Replaced since the catalog was copied: the copy builds its own when due.
                with copy.writing() as transaction:
                    writes.record_snapshot(transaction, spaces[name], None)
        copy.settle()
    finally:
        copy.close()


def _verify(source: Layout, partial: Layout) -> None:
    """Refuse a copy that is damaged in anything but its indexes, which it does without then."""
    copy = Database(partial.catalog, read_only=False)
    try:
        found = checking.check(partial, copy)
        if found:
            with copy.writing() as transaction:
                for space in reads.spaces(transaction).values():
                    writes.record_snapshot(transaction, space, None)
            shutil.rmtree(partial.indexes)
            partial.indexes.mkdir()
            found = checking.check(partial, copy)
        if found:
            raise CollectionCorrupt(found[0])
        copy.settle()
    finally:
        copy.close()


def _fingerprint(catalog: Path) -> dict[str, str]:
    """The hash of the catalog, and the bytes of its header that move when SQLite writes to it."""
    with catalog.open("rb") as file:
        head = file.read(28)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": sha256, "written": (head[18:20] + head[24:28]).hex()}


def _check_label(source: Layout) -> None:
    """Refuse a backup of which a byte has turned. One that was written to since is checked as a collection only."""
    try:
        said: Any = json.loads((source.root / _LABEL).read_text(encoding="utf-8"))
        sha256, written = str(said["sha256"]), str(said["written"])
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError):
        raise CollectionCorrupt(f"{_LABEL} is not readable; take another backup") from None
    now = _fingerprint(source.catalog)
    if now["written"] == written and now["sha256"] != sha256:
        raise CollectionCorrupt("the catalog does not match its checksum; take another backup")


def _fold(catalog: Path) -> None:
    """Make the catalog one file that needs no log beside it, so that it can be read where nothing can be written.

    Whoever opens it for writing turns the log on again.
    """
    try:
        connection = sqlite3.connect(catalog, isolation_level=None)
        try:
            connection.execute("pragma journal_mode = delete")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise CollectionError(f"{catalog} cannot be written ({error}); check the path and the disk") from None
