"""Looking after a collection: what it holds, whether it is whole, its indexes, its size, and copies of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import ColumnElement, Connection, select

from search.catalog import compaction, migrations, reads, schema, writes
from search.catalog.database import Database
from search.errors import CollectionCorrupt, CollectionError
from search.failpoints import Step, reached
from search.index import snapshot
from search.index.choose import Tuning
from search.index.contract import Rows
from search.layout import Layout, sync_directory
from search.query.follow import Views
from search.types import Json, Space

log = logging.getLogger(__name__)

# Told the space, the rows done and the rows in all.
Progress: TypeAlias = Callable[[str, int, int], None]

_FAR_BEHIND = 0.5  # `add` builds an index anew once so much of its rows again has come after it
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
    with database.reading() as connection:
        state = reads.state(connection)
        counts = reads.counts(connection)
        spaces: list[Json] = []
        for space in reads.spaces(connection).values():
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
                    "deleted": reads.rows_in(connection, space) - parts,
                    "index": _index_info(connection, space),
                }
            )
        return {
            "path": str(layout.root),
            "format": migrations.version(connection),
            "commit": state.commit_seq,
            "records": reads.count(connection),
            "fields": list(reads.fields(connection)),
            "bytes": size_on_disk(layout),
            "spaces": spaces,
        }


def _index_info(connection: Connection, space: Space) -> dict[str, Json]:
    vouched = reads.snapshot(connection, space)
    tuning = reads.tuning(connection, space)
    if vouched is None or tuning is None or tuning["exact"]:
        return {"kind": "flat", "recall": 1.0}
    return {"kind": "hnsw", "vectors": vouched["n"], **{name: tuning[name] for name in sorted(tuning)}}


def check(layout: Layout, database: Database) -> list[str]:
    """One line for each thing found damaged; none if all is well."""
    found: list[str] = []
    with database.reading() as connection:
        said = connection.exec_driver_sql("pragma integrity_check(20)").scalars()
        found += [f"the catalog is damaged: {line}; restore a backup" for line in said if line != "ok"]
        state = reads.state(connection)
        for space in reads.spaces(connection).values():
            found += _check_space(connection, layout, state, space)
    return found


def _check_space(connection: Connection, layout: Layout, state: reads.State, space: Space) -> list[str]:
    found: list[str] = []
    stored: list[np.ndarray[Any, Any]] = [np.empty(0, np.int64)]
    owners: list[np.ndarray[Any, Any]] = [np.empty(0, np.int64)]
    try:
        for batch in reads.batches(connection, space, after=-1, until=state.commit_seq):
            stored.append(batch.part_keys)
            owners.append(batch.record_keys)
    except CollectionCorrupt as error:
        return [str(error)]
    keys, records = np.concatenate(stored), np.concatenate(owners)
    dead = reads.tombstones(connection, space)
    alive = ~np.isin(keys, dead)
    columns = schema.part.c
    rows = connection.execute(
        select(columns.key, columns.record_key).where(columns.space_key == space.key).order_by(columns.key)
    ).all()
    named = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
    if not np.array_equal(named, np.stack([keys[alive], records[alive]], axis=1)):
        found.append(f"space '{space.name}': its parts and its vectors do not match; restore a backup")
    vouched = reads.snapshot(connection, space)
    if vouched is not None:
        everything = np.ones(len(keys), dtype=bool)
        shape = Rows(keys, records, np.empty((len(keys), 0), np.float32), everything, len(keys))
        try:
            snapshot.read(layout, vouched, state.uuid, space, shape)
        except CollectionCorrupt as error:
            found.append(f"space '{space.name}': {error} by the next ingest or by: nearkin compact")
    return found


def index_all(layout: Layout, database: Database, views: Views, progress: Progress | None = None) -> None:
    """Build and keep the index of every space that has too many rows outside it to scan."""
    with database.reading() as connection:
        spaces = reads.spaces(connection)
    for space in spaces.values():
        _index(layout, database, views, space, progress)
    database.settle()


def index_if_far_behind(
    layout: Layout, database: Database, views: Views, space: Space, progress: Progress | None = None
) -> None:
    """Build the space's index anew if as many rows again as half of it came after it, too many to scan."""
    with database.reading() as connection:
        vouched = reads.snapshot(connection, space)
        n = reads.rows_in(connection, space)
    if n > (vouched["n"] if vouched else 0) * (1 + _FAR_BEHIND):
        _index(layout, database, views, space, progress)


def _index(layout: Layout, database: Database, views: Views, space: Space, progress: Progress | None) -> None:
    with database.reading() as connection:
        state = reads.state(connection)
        vouched, tuned = reads.snapshot(connection, space), reads.tuning(connection, space)
        view = views.view(connection, state, space)
    if not view.needs_graph():
        return
    if vouched is not None and view.n_indexed == 0:
        try:
            graph = snapshot.read(layout, vouched, state.uuid, space, view.look.rows)
        except CollectionCorrupt:
            moved = snapshot.quarantine(layout, vouched["file"])
            log.warning("the index of space '%s' was damaged and is kept at %s", space.name, moved)
        else:  # another process built it since this one loaded the space
            view.adopt(graph, None if tuned is None else Tuning.from_json(tuned))
            if not view.needs_graph():
                return
    report = None if progress is None else (lambda done, total: progress(space.name, done, total))
    graph, tuning = view.build(report)
    kept = snapshot.write(layout, state.uuid, space, view.look.rows, graph)
    with database.writing() as connection:
        writes.record_snapshot(connection, space, kept.to_json())
        writes.record_tuning(connection, space, tuning.to_json())
    reached(Step.SNAPSHOT_RECORDED)
    with database.reading() as connection:
        vouched_for = {
            there["file"]
            for other in reads.spaces(connection).values()
            if (there := reads.snapshot(connection, other)) is not None
        }
    snapshot.sweep(layout, vouched_for)


def compact(layout: Layout, database: Database, views: Views) -> dict[str, Json]:
    """Rewrite the vectors without the deleted ones, give free space back, and build indexes where due."""
    before = size_on_disk(layout)
    with database.writing() as connection:
        dropped = compaction.compact(connection)
    reached(Step.COMPACT_DONE)
    _vacuum(database)
    views.forget()
    index_all(layout, database, views)
    return {"vectors_dropped": dropped, "bytes_before": before, "bytes_after": size_on_disk(layout)}


def _vacuum(database: Database) -> None:
    with database.reading() as connection:
        free = connection.exec_driver_sql("pragma freelist_count").scalar_one()
        pages = connection.exec_driver_sql("pragma page_count").scalar_one()
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
        with copy.reading() as connection:
            spaces = reads.spaces(connection)
            vouched = {name: reads.snapshot(connection, space) for name, space in spaces.items()}
        for name, said in vouched.items():
            if said is None:
                continue
            try:
                shutil.copyfile(layout.indexes / said["file"], partial.indexes / said["file"])
            except (
                FileNotFoundError
            ):  # replaced since the catalog was copied: the copy builds its own when due
                with copy.writing() as connection:
                    writes.record_snapshot(connection, spaces[name], None)
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


def export(
    connection: Connection, target: Path, condition: ColumnElement[bool] | None, *, vectors: bool
) -> int:
    """Write one JSON object a line: the record and, if asked, its vectors by space; how many there were."""
    n = 0
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for some in _chunks(connection, condition):
                held = _vectors_of(connection, [one.key for one in some]) if vectors else {}
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


def _chunks(connection: Connection, condition: ColumnElement[bool] | None) -> Any:
    some: list[reads.Stored] = []
    for one in reads.all_records(connection, condition):
        some.append(one)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _vectors_of(connection: Connection, record_keys: list[int]) -> dict[int, dict[str, Json]]:
    """The vectors of these records: by record key, then by space, a list of rows in the order of the parts."""
    held: dict[int, dict[str, Json]] = {}
    state = reads.state(connection)
    for space in reads.spaces(connection).values():
        parts = reads.parts_of(connection, space, record_keys)
        wanted = np.array(sorted(key for keys in parts.values() for key in keys), dtype=np.int64)
        if not len(wanted):
            continue
        rows: dict[int, list[float]] = {}
        for batch in reads.batches(connection, space, after=-1, until=state.commit_seq):
            at = np.flatnonzero(np.isin(batch.part_keys, wanted))
            rows |= dict(zip(batch.part_keys[at].tolist(), batch.vectors[at].tolist(), strict=True))
        for record_key, keys in parts.items():
            held.setdefault(record_key, {})[space.name] = [rows[key] for key in keys]
    return held
