"""The verb for vectors made elsewhere."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ingest.pipeline import Tally
from ingest.report import Options, Report
from ingest.sources.contract import Item, Rejected
from ingest.sync import Sync
from ingest.verbs.opening import DEFAULT, ROWS_PER_COMMIT, opened
from search.catalog.part_writes import Provenance
from search.collection import Collection
from search.errors import QueryError
from search.types import EncoderSpec, Json, Metric, Modality, Record
from search.uncollected import uncollected
from search.vectors import Vectors, checked
from search.writer import check_same


def vectors(
    collection: Collection | str | Path,
    ids: Sequence[str],
    matrix: Any,
    *,
    space: str = "vectors",
    metadata: Sequence[Mapping[str, Json] | None] | None = None,
    metric: Metric | str = Metric.COSINE,
    rejected: Sequence[Rejected] = (),
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in vectors made elsewhere.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        ids: one id for each row.
        matrix: (n, dim) numbers.
        space: where the vectors go.
        metadata: one JSON object, or None, for each row.
        metric: cosine, dot or l2.
        rejected: what the caller could not read, for the report and its file.
        dry_run: say what would be done, and do nothing.
        options: progress.

    Raises:
        QueryError: the lengths do not match, an id stands twice, or a row is NaN, infinite or of another width;
            nothing is written.
        CollectionError: the space was made by something else.
    """
    started = time.perf_counter()
    tally = Tally()
    rows = checked(matrix)
    items = _given(list(ids), rows, metadata)
    try:
        chosen = Metric(metric)
    except ValueError:
        raise QueryError(f"the metric '{metric}' is unknown; use cosine, dot or l2") from None
    spec = EncoderSpec("given", "given", Modality.VECTOR, rows.shape[1])
    with opened(collection, must_write=not dry_run) as there:
        known = None if there is None else there.spaces().get(space)
        if known is not None:
            check_same(known, spec, chosen)
        sync = Sync(None if there is None else there.database, known, "given")
        state = sync.sort(items)
        tally.read = len(items) + len(rejected)
        tally.rejected += rejected
        tally.unchanged = state.unchanged
        if dry_run or there is None:
            tally.added, tally.updated = len(state.new), len(state.changed)
            return tally.report(there, space, "given", started, dry_run=True)
        at = {item.record.id: row for row, item in enumerate(items)}
        todo = [*state.new, *state.changed]
        options.progress.begin("records", len(todo))
        with uncollected(), there.writing() as writer, tally.timed("commit"):
            target = writer.space(space, spec, metric=chosen)
            for begin in range(0, len(todo), ROWS_PER_COMMIT):
                some = todo[begin : begin + ROWS_PER_COMMIT]
                written = writer.put(
                    [item.record for item in some],
                    rows[[at[item.record.id] for item in some]],
                    target,
                    provenance=[Provenance(sync.digest(item), item.origin) for item in some],
                    merge=True,
                )
                tally.added += written.added
                tally.updated += written.updated
                tally.vectors += len(some)
                options.progress.advance("records", len(some))
        options.progress.end("records")
        with tally.timed("index"):
            there.index(options.progress.reached, wait=options.progress.waits)
        return tally.report(there, space, "given", started, dry_run=False)


def _given(ids: list[str], rows: Vectors, metadata: Sequence[Mapping[str, Json] | None] | None) -> list[Item]:
    if len(ids) != len(rows):
        raise QueryError(f"{len(ids)} ids were given for {len(rows)} vectors; give one for each")
    if metadata is not None and len(metadata) != len(ids):
        raise QueryError(
            f"{len(metadata)} metadata were given for {len(ids)} ids; give one (or None) for each"
        )
    if len(set(ids)) != len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise QueryError(f"id '{twice}' stands twice among the ids; give each once")
    items = []
    for row, id in enumerate(ids):
        told = None if metadata is None else metadata[row]
        content = rows[row].tobytes() + _bytes_of(told)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        items.append(Item(Record(id, metadata=told), "given", digest))
    return items


def _bytes_of(told: Mapping[str, Json] | None) -> bytes:
    """Metadata as bytes that are the same whenever they say the same."""
    try:
        said: bytes = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # numbers beyond 64 bits, and what is refused later, when it is written
        said = json.dumps(told, sort_keys=True, default=str).encode()
    return said
