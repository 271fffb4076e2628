"""The named steps of every durable change, so that a test can stop the process at each of them.

In production `reached` does nothing: no file, variable or option can switch it on. A test sets `hook` in the
process that it means to kill.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """A moment at which the process may die."""

    COMMIT_BEGUN = "commit begun"
    COMMIT_RECORDS = "commit: records written"
    COMMIT_VECTORS = "commit: vectors written"
    COMMIT_STATE = "commit: counters moved"
    COMMIT_DONE = "commit done"
    WORDS_TAKEN_IN = "words of some records taken in"
    SNAPSHOT_BEGUN = "snapshot begun"
    SNAPSHOT_WRITTEN = "snapshot: file half written"
    SNAPSHOT_SYNCED = "snapshot: file synced"
    SNAPSHOT_RENAMED = "snapshot: file renamed"
    SNAPSHOT_RECORDED = "snapshot: recorded in the catalog"
    COMPACT_BEGUN = "compaction begun"
    COMPACT_REWRITTEN = "compaction: batches rewritten"
    COMPACT_DONE = "compaction done"
    MIGRATION_APPLIED = "migration: applied, not yet recorded"
    COPY_WRITTEN = "copy: written"
    COPY_SYNCED = "copy: synced"
    COPY_NAMED = "copy: has its name"


hook: Callable[[Step], None] | None = None


def reached(step: Step) -> None:
    """Tell the test that is watching, if there is one, that `step` has been reached."""
    if hook is not None:
        hook(step)
