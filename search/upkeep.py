"""Looking after a collection: what it holds, whether it is whole, its indexes and its size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import Connection, select

from search.catalog import compaction, migrations, reads, schema, writes
from search.catalog.database import Database
from search.errors import CollectionCorrupt
from search.failpoints import Step, reached
from search.index import snapshot
from search.index.choose import Tuning
from search.index.contract import Rows
from search.layout import Layout
from search.query.follow import Views
from search.types import Json, Space

log = logging.getLogger(__name__)

# Told the space, the rows done and the rows in all.
Progress: TypeAlias = Callable[[str, int, int], None]

_FAR_BEHIND = 0.5  # `add` builds an index anew once so much of its rows again has come after it
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
