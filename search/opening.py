"""Opens a collection: makes it, brings it up to date, or refuses what is not one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from search.catalog import migrations
from search.catalog.database import Database
from search.collection import Collection
from search.errors import CollectionCorrupt, CollectionError, CollectionNotFound, QueryError
from search.layout import Layout, sync_directory

_SMALLEST = 512  # bytes of a database; SQLite takes anything smaller for an empty one


def open(
    path: str | Path,
    mode: Literal["rw", "r"] = "rw",
    *,
    device: str = "auto",
    precision: str = "auto",
) -> Collection:
    """Open the collection in the directory `path`.

    Args:
        path: a directory; with mode "rw" it is made if it is absent.
        mode: "r" to read only.
        device: where query encoders run: auto, cpu, cuda[:n] or mps.
        precision: of their numbers: auto, fp32, bf16 or fp16.

    Raises:
        CollectionNotFound: there is none, and the mode is "r".
        CollectionCorrupt: the catalog is damaged.
        CollectionError: the directory holds other files, or another program or a newer nearkin wrote it.
    """
    if mode not in ("rw", "r"):
        raise QueryError(f"mode '{mode}' is unknown; use 'rw' or 'r'")
    layout = Layout(Path(path).expanduser())
    _check_not_emptied(layout)
    if mode == "r":
        _check_there(layout)
    else:
        _make(layout)
    database = Database(layout.catalog, read_only=mode == "r")
    try:
        migrations.check_ours(database)
        if mode == "rw":
            migrations.migrate(database)
        with database.reading() as transaction:
            found = migrations.version(transaction)
            migrations.check_readable(found)
            if found == 0:
                raise _unfinished(path)
            if found < migrations.CURRENT:
                raise CollectionError(
                    f"{path} is of an older format; open it once for writing to bring it up to date"
                )
    except BaseException:
        database.close()
        raise
    return Collection(layout, database, device=device, precision=precision)


def must_exist(path: str | Path) -> None:
    """Refuse a directory without a collection, before it is opened for writing; one of an older format is one.

    Raises:
        CollectionNotFound: there is none.
        CollectionCorrupt: the catalog is damaged.
        CollectionError: another program or a newer nearkin wrote it.
    """
    layout = Layout(Path(path).expanduser())
    _check_not_emptied(layout)
    _check_there(layout)
    database = Database(layout.catalog, read_only=True)
    try:
        migrations.check_ours(database)
        with database.reading() as transaction:
            found = migrations.version(transaction)
        migrations.check_readable(found)
        if found == 0:
            raise _unfinished(path)
    finally:
        database.close()


def _unfinished(path: str | Path) -> CollectionNotFound:
    return CollectionNotFound(f"{path} holds no finished collection; ingest something into it first")


def _check_there(layout: Layout) -> None:
    if not layout.catalog.is_file():
        raise CollectionNotFound(
            f"there is no collection at {layout.root}; name one with -c, or make it with: nearkin ingest"
        )


def _check_not_emptied(layout: Layout) -> None:
    """Refuse a catalog that is no more, beside what is only made once it is safely on the disk.

    Alone, a file with nothing in it is what a power loss left of the making of a collection.
    """
    try:
        if layout.catalog.stat().st_size >= _SMALLEST:
            return
    except OSError:  # is seen to by those who open it
        return
    later = (layout.indexes, layout.quarantine, layout.lock)
    if any(path.exists() for path in later):
        raise CollectionCorrupt(
            f"{layout.catalog} has lost its content; restore the collection from a backup"
        )


def _foreign(path: Path) -> bool:
    """Whether this cannot be all that a power loss left of the making of a catalog."""
    return path.name != f"{Layout(path.parent).catalog.name}-journal"


def _make(layout: Layout) -> None:
    root = layout.root
    try:
        if root.exists() and not root.is_dir():
            raise CollectionError(f"{root} is a file, not a directory; name another place for the collection")
        if root.is_dir() and not layout.catalog.exists() and any(map(_foreign, root.iterdir())):
            raise CollectionError(
                f"{root} holds other files and no collection; name an empty or a new directory"
            )
        root.mkdir(parents=True, exist_ok=True)
        sync_directory(root.parent)
    except OSError as error:
        raise CollectionError(
            f"{root} cannot be made ({error.strerror}); check the path and its permissions"
        ) from None
