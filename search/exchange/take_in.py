"""Takes an exported file into a collection: checks all of it first, then commits handful by handful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from search.catalog.metadata_text import encoded
from search.catalog.writes import Written
from search.errors import MissingExtra, QueryError, SourceError
from search.exchange.content import Copy, Described, Held
from search.types import Json, Record, Space
from search.vectors import prepared
from search.writer import Writer

LINES = (".jsonl", ".ndjson", "")
PARQUET = (".parquet",)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: records in the file, how many of them were new or there already, and their vectors."""

    records: int = 0
    added: int = 0
    updated: int = 0
    vectors: int = 0

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self)


def opened(path: Path) -> Copy:
    """The exported file at `path`; what it says of itself has been read and is in order.

    Raises:
        SourceError: there is no such file, or it is not an export.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    if not path.is_file():
        raise SourceError("there is no such file; check the path", str(path))
    if path.suffix.lower() in LINES:
        from search.exchange.lines import LinesCopy

        return LinesCopy(path)
    if path.suffix.lower() not in PARQUET:
        raise SourceError(f"'{path.suffix}' is not a format of exports; give .parquet or .jsonl", str(path))
    need_pyarrow()
    from search.exchange.parquet import ParquetCopy

    return ParquetCopy(path)


def need_pyarrow() -> None:
    """Raise MissingExtra where pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtra("Parquet", "parquet") from None


# ---- checking --------------------------------------------------------------------------------------------------


def check(copy: Copy) -> None:
    """Read all of it, so that nothing has been written when a fault is found.

    Raises:
        SourceError: a record or a vector cannot be stored, an id stands twice, or the file was cut off.
    """
    hashes = [np.empty(0, np.int64)]  # 8 bytes for each id
    for rows, some in copy:
        for record, row in zip(some.records, rows, strict=True):
            try:
                encoded(record)
            except QueryError as error:
                raise copy.fault(str(error), row) from None
        for space in _described(copy):
            _check_vectors(copy, space, some.held[space.name], rows)
        hashes.append(np.fromiter((hash(record.id) for record in some.records), np.int64, len(rows)))
    everything = np.concatenate(hashes)
    if copy.head is not None and len(everything) != copy.head.n_records:
        raise copy.fault(
            f"it holds {len(everything):,} records and says that there are {copy.head.n_records:,}; export it again"
        )
    values, counts = np.unique(everything, return_counts=True)
    if len(values) < len(everything):
        _check_twice(copy, set(values[counts > 1].tolist()))


def _described(copy: Copy) -> Sequence[Described]:
    return () if copy.head is None else copy.head.spaces


def _check_vectors(copy: Copy, space: Described, held: Held, rows: Sequence[int]) -> None:
    try:
        prepared(held.vectors, space.encoder.dim, space.metric)
    except QueryError:
        owners = np.repeat(np.asarray(rows), held.counts)
        for vector, row in zip(held.vectors, owners.tolist(), strict=True):
            try:
                prepared(vector[None, :], space.encoder.dim, space.metric, "vectors of it")
            except QueryError as error:
                told = f"space '{space.name}': {str(error).replace(' in row 0', '')}"
                raise copy.fault(told, row) from None


def _check_twice(copy: Copy, suspects: set[int]) -> None:
    """Find the id that stands twice among those whose hashes are alike, if there is one."""
    seen: dict[str, int] = {}
    for rows, some in copy:
        for record, row in zip(some.records, rows, strict=True):
            if hash(record.id) not in suspects:
                continue
            if record.id in seen:
                raise copy.fault(
                    f"the id '{record.id}' stands already in row {seen[record.id]}; leave one of them out",
                    row,
                )
            seen[record.id] = row


# ---- writing ---------------------------------------------------------------------------------------------------


def take_in(writer: Writer, copy: Copy) -> Imported:
    """Add the records of a checked file or update those that are there; each handful is one durable commit.

    Vectors replace those that the record has in the space; a null in the file leaves what is there.

    Raises:
        CollectionError: the collection has a space of the same name that another model made; nothing is written.
    """
    spaces = {
        one.name: writer.space(
            one.name,
            one.encoder,
            metric=one.metric,
            probes=None
            if one.probes is None
            else np.frombuffer(one.probes, "<f4").reshape(-1, one.encoder.dim),
            model=one.model,
        )
        for one in _described(copy)
    }
    added = updated = n_vectors = 0
    for _, some in copy:
        # One space goes with the records where it can: to write them costs as much again.
        along = next((name for name in spaces if _is_full(some.held[name])), None)
        with writer.together():
            if along is None:
                written = writer.put(some.records)
            else:
                written = _put(writer, some.records, spaces[along], some.held[along])
            for name, space in spaces.items():
                if name != along:
                    _put_beside(writer, some.records, space, some.held[name])
        added += written.added
        updated += written.updated
        n_vectors += sum(len(held.vectors) for held in some.held.values())
    return Imported(added + updated, added, updated, n_vectors)


def _is_full(held: Held) -> bool:
    """Whether every record has vectors, and a source is known of every one or of none."""
    n_known = sum(source is not None for source in held.sources)
    return bool(np.all(held.counts > 0)) and n_known in (0, len(held.counts))


def _put_beside(writer: Writer, records: Sequence[Record], space: Space, held: Held) -> None:
    """Write vectors of records that are there: those with a known source, then the others."""
    known = np.array([source is not None for source in held.sources], dtype=bool)
    for chosen in (known, ~known & (held.counts > 0)):
        if not chosen.any():
            continue
        mask = chosen.tolist()
        keep = np.repeat(chosen, held.counts)
        part = Held(
            held.counts[chosen],
            list(compress(held.parts, keep.tolist())),
            held.vectors[keep],
            list(compress(held.sources, mask)),
        )
        _put(writer, [Record(one.id) for one in compress(records, mask)], space, part)


def _put(writer: Writer, records: Sequence[Record], space: Space, held: Held) -> Written:
    ends = np.cumsum(held.counts).tolist()
    return writer.put(
        records,
        held.vectors,
        space,
        parts=[held.parts[begin:end] for begin, end in zip([0, *ends], ends, strict=False)],
        provenance=[source for source in held.sources if source is not None],
    )
