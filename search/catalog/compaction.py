"""Rewrites packed vectors without the deleted ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection, delete, func, select, update

from search.catalog import reads, schema, writes
from search.failpoints import Step, reached
from search.types import Space
from search.vectors import Batch, Keys

_FEW_BATCHES = 16  # a space with more is gathered into longer ones by compaction even if nothing is dead


def compact(connection: Connection, rows_per_batch: int = 65536) -> int:
    """Rewrite the batches of every space without their dead rows; how many rows were dropped.

    Numbers of parts stay as they are. The epoch moves, so that readers load the space anew.
    """
    reached(Step.COMPACT_BEGUN)
    counters = reads.state(connection)
    dropped = 0
    for space in reads.spaces(connection).values():
        dead = reads.tombstones(connection, space)
        if not len(dead) and _n_batches(connection, space) <= _FEW_BATCHES:
            continue
        dropped += len(dead)
        old = reads.batches(connection, space, after=-1, until=counters.commit_seq)
        for batch in _merged(old, dead, rows_per_batch):
            writes.write_batch(connection, space.key, counters.commit_seq + 1, batch)
        connection.execute(
            delete(schema.batch).where(
                schema.batch.c.space_key == space.key, schema.batch.c.commit_seq <= counters.commit_seq
            )
        )
        writes.record_snapshot(connection, space, None)
    connection.exec_driver_sql("delete from tombstone")
    reached(Step.COMPACT_REWRITTEN)
    connection.execute(
        update(schema.state).values(commit_seq=counters.commit_seq + 1, epoch=counters.epoch + 1)
    )
    return dropped


def _n_batches(connection: Connection, space: Space) -> int:
    query = select(func.count()).select_from(schema.batch).where(schema.batch.c.space_key == space.key)
    return int(connection.execute(query).scalar_one())


def _merged(batches: Iterator[Batch], dead: Keys, rows: int) -> Iterator[Batch]:
    """The living rows of `batches`, gathered into batches of at least `rows` rows (the last may be smaller)."""
    waiting: list[Batch] = []
    n_waiting = 0
    for batch in batches:
        alive = ~np.isin(batch.part_keys, dead)
        if alive.any():
            waiting.append(Batch(batch.part_keys[alive], batch.record_keys[alive], batch.vectors[alive]))
            n_waiting += int(alive.sum())
        if n_waiting >= rows:
            yield _joined(waiting)
            waiting, n_waiting = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.part_keys for batch in batches]),
        np.concatenate([batch.record_keys for batch in batches]),
        np.concatenate([batch.vectors for batch in batches]),
    )
