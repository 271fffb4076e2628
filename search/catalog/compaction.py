"""Rewrites packed vectors without the deleted ones, a bounded stretch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from search.catalog import edges, part_writes, reads, writes
from search.catalog.database import Database, Transaction
from search.failpoints import Step, reached
from search.types import Space
from search.vectors import Batch, Keys

_FEW_BATCHES = 16  # a space with more is gathered into longer ones by compaction even if nothing is dead


def compact(database: Database) -> int:
    """Rewrite the batches of every space without their dead rows; how many rows were dropped.

    Each stretch is a commit of its own, so that it may be interrupted after any of them and goes on from there.
    Numbers of parts stay as they are. The epoch moves, so that readers ask which rows are still there.
    """
    dropped = 0
    with database.reading() as transaction:
        spaces = reads.spaces(transaction).values()
    for space in spaces:
        after: int | None = 0
        while after is not None:
            with database.writing() as transaction:
                reached(Step.COMPACT_BEGUN)
                n, after = _rewrite(transaction, space, after)
                dropped += n
                reached(Step.COMPACT_REWRITTEN)
        with database.writing() as transaction:
            _forget_edges(transaction, space)
    return dropped


def _forget_edges(transaction: Transaction, space: Space) -> None:
    """Drop the edges of records that are gone."""
    told = edges.state(transaction, space)
    if told is None:
        return
    living = reads.key_array(transaction.sql("select key from record order by key"))
    if edges.drop_deleted(transaction, space, living):
        edges.set_state(transaction, space, directed=told.directed, added=told.added)


def _rewrite(transaction: Transaction, space: Space, after: int) -> tuple[int, int | None]:
    """Rewrite the next stretch of batches behind part `after`: rows dropped, and the last part seen or None."""
    every = transaction.sql(
        "select key, first_part, last_part, n, pieces from batch where space_key = ? and last_part > ? "
        "order by last_part",
        (space.key, after),
    ).fetchall()
    if not every:
        return 0, None
    stretch: list[tuple[int, int, int, int, int]] = []
    size = 0
    for row in every:
        if stretch and size + row[3] * space.dim * 4 > part_writes.MOST_BYTES:
            break
        stretch.append(row)
        size += row[3] * space.dim * 4
    last = stretch[-1][2]
    dead = reads.tombstones(transaction, space)
    dead = dead[(dead >= stretch[0][1]) & (dead <= last)]
    whole_space = len(stretch) == len(every) and after == 0
    if not len(dead) and (len(stretch) == 1 or (whole_space and len(every) <= _FEW_BATCHES)):
        return 0, last
    counters = reads.state(transaction)
    old = reads.batches(transaction, space, after, last)
    living = list(_living(old, dead))
    transaction.sql(
        "delete from batch where key in (select value from json_each(?))",
        (reads.listed(row[0] for row in stretch),),
    )
    if living:
        pieces = any(row[4] for row in stretch)
        part_writes.write_batch(
            transaction, space.key, counters.commit_seq + 1, _joined(living), pieces=pieces
        )
    transaction.sql(
        "delete from tombstone where space_key = ? and part_key between ? and ?",
        (space.key, stretch[0][1], last),
    )
    if len(dead):
        writes.record_snapshot(transaction, space, None)  # it is of rows that are no longer there
    now = reads.state(transaction)
    writes.count_on(transaction, replace(now, commit_seq=now.commit_seq + 1, epoch=now.epoch + 1))
    return len(dead), last


def _living(batches: Iterator[Batch], dead: Keys) -> Iterator[Batch]:
    for batch in batches:
        alive = ~np.isin(batch.part_keys, dead)
        if alive.any():
            yield Batch(batch.part_keys[alive], batch.record_keys[alive], batch.vectors[alive])


def _joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.part_keys for batch in batches]),
        np.concatenate([batch.record_keys for batch in batches]),
        np.concatenate([batch.vectors for batch in batches]),
    )
