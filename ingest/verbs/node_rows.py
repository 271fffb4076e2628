"""Stores records with the vectors that were learned for all of them together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingest.pipeline import Tally
from ingest.sources.contract import Item
from ingest.sync import Sync
from ingest.verbs.opening import ROWS_PER_COMMIT
from search.catalog.part_writes import Provenance
from search.types import WHOLE, Space
from search.vectors import Vectors
from search.writer import Writer


def put_rows(
    writer: Writer, space: Space, items: Sequence[Item], matrix: Vectors, sync: Sync, tally: Tally
) -> None:
    """Write item i with row i of `matrix` (n, dim), and count them; one whose row is all zeros gets no vector."""
    told = np.asarray(matrix.any(axis=1))
    for begin in range(0, len(items), ROWS_PER_COMMIT):
        span = slice(begin, begin + ROWS_PER_COMMIT)
        some = items[span]
        written = writer.put(
            [item.record for item in some],
            matrix[span][told[span]],
            space,
            parts=[(WHOLE,) if there_is else () for there_is in told[span]],
            provenance=[Provenance(sync.digest(item), item.origin) for item in some],
            merge=True,
        )
        tally.added += written.added
        tally.updated += written.updated
    tally.vectors = int(told.sum())
