"""Looking after a collection: what it holds, its indexes and its size."""

from __future__ import annotations

import logging
from contextlib import suppress

from search.catalog import compaction, edges, full_text, migrations, reads, thumbnails
from search.catalog.database import Database, Transaction
from search.failpoints import Step, reached
from search.index import snapshot
from search.index.choose import Wanted
from search.index.structure import Kind
from search.layout import Layout
from search.query import preferences
from search.types import Json, Space

log = logging.getLogger(__name__)

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
                    "options": dict(space.encoder.options),
                    "records": records,
                    "vectors": parts,
                    "deleted": reads.rows_in(transaction, space) - parts,
                    "graph": edges.told(edges.state(transaction, space)),
                    "index": _index_info(transaction, space),
                    "asking": preferences.read(transaction, space).to_json(),
                }
            )
        n_thumbnails, thumbnail_bytes = thumbnails.size(transaction)
        return {
            "path": str(layout.root),
            "format": migrations.version(transaction),
            "commit": state.commit_seq,
            "records": transaction.value("select count(*) from record"),
            "fields": list(reads.living_fields(transaction)),
            "indexed_fields": fields.declared(transaction),
            "bytes": size_on_disk(layout),
            "thumbnails": {"count": n_thumbnails, "bytes": thumbnail_bytes},
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
    damaged = bool(full_text.problems(database))
    with database.writing() as transaction:
        full_text.repair(transaction, reads.state(transaction).next_record, damaged=damaged)
    reached(Step.COMPACT_DONE)
    _vacuum(database)
    return {"vectors_dropped": dropped, "bytes_before": before, "bytes_after": size_on_disk(layout)}


def _vacuum(database: Database) -> None:
    with database.reading() as transaction:
        free = transaction.value("pragma freelist_count")
        pages = transaction.value("pragma page_count")
    if free > pages * _SPARE_PAGES:
        database.vacuum()
