"""Looking after a collection: what it holds, its indexes, its size, and copies of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from search.catalog import compaction, consistency, migrations, reads, writes
from search.catalog.database import Database, Transaction
from search.errors import CollectionError
from search.failpoints import Step, reached
from search.index import snapshot
from search.index.choose import Wanted
from search.index.structure import Kind
from search.layout import Layout, sync_directory
from search.types import Json, Space

log = logging.getLogger(__name__)

_AT_ONCE = 1000  # records exported from one question to the catalog
_SPARE_PAGES = 0.2  # free pages are given back to the disk when they are so much of the file


def size_on_disk(layout: Layout) -> int:
    """Bytes of all the files of the collection."""
    total = 0
    for path in layout.root.rglob("*"):
        with suppress(FileNotFoundError):  # another process may just have removed it
            total += path.stat().st_size if path.is_file() else 0
    return total


def info(layout: Layout, database: Database) -> dict[str, Json]:
    """What the collection holds; read from the catalog alone, so it costs little."""
    from search.catalog import fields  # by SQLAlchemy, which a question without a filter need not wait for

    with database.reading() as transaction:
        state = reads.state(transaction)
        counts = reads.counts(transaction)
        spaces: list[Json] = []
        for space in reads.spaces(transaction).values():
            records, parts = counts.get(space.key, (0, 0))
            spaces.append(
                {
                    "name": space.name,
                    "modality": space.modality.value,
                    "model": space.encoder.model,
                    "dim": space.dim,
                    "metric": space.metric.value,
                    "accepts": list(space.encoder.accepts),
                    "records": records,
                    "vectors": parts,
                    "deleted": reads.rows_in(transaction, space) - parts,
                    "index": _index_info(transaction, space),
                }
            )
        return {
            "path": str(layout.root),
            "format": migrations.version(transaction),
            "commit": state.commit_seq,
            "records": transaction.value("select count(*) from record"),
            "fields": list(reads.fields(transaction)),
            "indexed_fields": fields.declared(transaction),
            "bytes": size_on_disk(layout),
            "spaces": spaces,
        }


def _index_info(transaction: Transaction, space: Space) -> dict[str, Json]:
    vouched = reads.snapshot(transaction, space)
    tuning = reads.tuning(transaction, space)
    wanted = Wanted.from_json(reads.wanted(transaction, space)).to_json()
    if vouched is None or tuning is None or tuning["exact"]:
        return {"kind": Kind.FLAT.value, "recall": 1.0, "wanted": wanted}
    return {
        "kind": snapshot.Snapshot.from_json(vouched).kind.value,
        "vectors": vouched["n"],
        **{name: tuning[name] for name in sorted(tuning) if name not in ("exact", "n")},
        "wanted": wanted,
    }


def compact(layout: Layout, database: Database) -> dict[str, Json]:
    """Rewrite the vectors without the deleted ones, and give free space back."""
    before = size_on_disk(layout)
    dropped = compaction.compact(database)
    reached(Step.COMPACT_DONE)
    _vacuum(database)
    return {"vectors_dropped": dropped, "bytes_before": before, "bytes_after": size_on_disk(layout)}


def _vacuum(database: Database) -> None:
    with database.reading() as transaction:
        free = transaction.value("pragma freelist_count")
        pages = transaction.value("pragma page_count")
    if free > pages * _SPARE_PAGES:
        database.vacuum()


def back_up(layout: Layout, database: Database, target: Path) -> Path:
    """Copy the collection to `target`, which must not exist; whole when it has its name, or not there at all."""
    if target.exists():
        raise CollectionError(f"{target} exists already; name a new directory for the backup")
    partial = Layout(target.with_name(f".{target.name}.partial"))
    try:
        shutil.rmtree(partial.root, ignore_errors=True)
        partial.indexes.mkdir(parents=True)
        database.back_up(partial.catalog)
        reached(Step.BACKUP_COPIED)
        copy = Database(partial.catalog, read_only=False)
        with copy.reading() as transaction:
            spaces = reads.spaces(transaction)
            vouched = {name: reads.snapshot(transaction, space) for name, space in spaces.items()}
        for name, said in vouched.items():
            if said is None:
                continue
            try:
                shutil.copyfile(layout.indexes / said["file"], partial.indexes / said["file"])
            except (
                FileNotFoundError
            ):  # replaced since the catalog was copied: the copy builds its own when due
                with copy.writing() as transaction:
                    writes.record_snapshot(transaction, spaces[name], None)
        copy.settle()
        copy.close()
        for path in (partial.catalog, *partial.indexes.iterdir()):
            _sync(path)
        for directory in (partial.indexes, partial.root):  # or names in them could be gone after a power loss
            sync_directory(directory)
        reached(Step.BACKUP_SYNCED)
        partial.root.rename(target)
        reached(Step.BACKUP_RENAMED)
        sync_directory(target.parent)
    except OSError as error:
        raise CollectionError(
            f"{target} cannot be written ({error.strerror}); check the path and the disk"
        ) from None
    return target


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def export(transaction: Transaction, target: Path, expression: str | None, *, vectors: bool) -> int:
    """Write one JSON object a line: the record and, if asked, its vectors by space; how many there were.

    Raises:
        CollectionCorrupt: something to be written is damaged.
    """
    n = 0
    if vectors:
        consistency.check_vectors(transaction)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for some in _chunks(transaction, expression):
                held = _vectors_of(transaction, [one.key for one in some]) if vectors else {}
                for one in some:
                    record = one.record
                    line: dict[str, Json] = {
                        "id": record.id,
                        "kind": record.kind,
                        "uri": record.uri,
                        "text": record.text,
                        "metadata": dict(record.metadata or {}),
                    }
                    if vectors:
                        line["vectors"] = held.get(one.key, {})
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                n += len(some)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        raise CollectionError(
            f"{target} cannot be written ({error.strerror}); check the path and the disk"
        ) from None
    return n


def _chunks(transaction: Transaction, expression: str | None) -> Any:
    from search.catalog import conditions

    some: list[reads.Stored] = []
    for one in conditions.records(transaction, expression):
        some.append(one)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _vectors_of(transaction: Transaction, record_keys: list[int]) -> dict[int, dict[str, Json]]:
    """The vectors of these records: by record key, then by space, a list of rows in the order of the parts."""
    held: dict[int, dict[str, Json]] = {}
    wanted = np.array(record_keys, dtype=np.int64)
    for space in reads.spaces(transaction).values():
        dead = reads.tombstones(transaction, space)
        for batch in reads.batches(
            transaction, space
        ):  # says by itself whose each row is, under its checksum
            at = np.flatnonzero(np.isin(batch.record_keys, wanted) & ~np.isin(batch.part_keys, dead))
            for key, row in zip(batch.record_keys[at].tolist(), batch.vectors[at].tolist(), strict=True):
                rows = held.setdefault(key, {}).setdefault(space.name, [])
                assert isinstance(rows, list)
                rows.append(row)
    return held
