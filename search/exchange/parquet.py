"""The Parquet file of an export: one row a record, a column of vectors for each space; needs pyarrow.

The columns, as pandas and polars see them:

    id, kind, uri, text   strings; null where the record has none
    metadata              the JSON object as a string: a field may be a number here and a string there, a whole number
                          of any size, null, or absent, which no column of one type could hold without loss
    vector_SPACE          the vector: an array of `dim` float32 where every record has one in the space; else a list of
                          them, null where the record has none
    part_SPACE            the piece of the record that the vector is of; only where some are not whole records; with
                          label and score where some are objects in pictures
    parts_SPACE           instead of these two where a record may have several parts: a list of structs of
                          start, end, box and vector (polars: df.explode("parts_text").unnest("parts_text"))
    source_SPACE          what the vector was made from, by which a later ingest knows that it is up to date

The spaces themselves (encoder, metric, probes, learned model) stand as JSON under `nearkin` in the file's metadata,
with its sha256. Every page has a checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.catalog.part_writes import Provenance
from search.exchange.content import Copy, Described, Head, Held, Some, read_object
from search.exchange.gather import MOST_RECORDS, Gathered
from search.types import WHOLE, Part, Record
from search.vectors import Vectors

_HEAD, _HEAD_HASH = b"nearkin", b"nearkin.sha256"
_WORDS = ("id", "kind", "uri", "text", "metadata")
_MOST_BYTES = 32 << 20  # of a file's rows that are read at once, by their mean length
_PIECE = (
    pa.field("start", pa.int64()),
    pa.field("end", pa.int64()),
    pa.field("box", pa.list_(pa.field("element", pa.float64()))),
)
# Beside these where some part of the space has them.
_OBJECT = (pa.field("label", pa.string()), pa.field("score", pa.float64()))
# What pyarrow raises for a file that is torn or damaged; the last where the name of a column is.
_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
_SOURCE = pa.struct([pa.field("origin", pa.string()), pa.field("digest", pa.binary())])


def _vector(space: Described) -> pa.DataType:
    return pa.list_(pa.field("element", pa.float32()), space.encoder.dim)


def _vector_or_null(space: Described) -> pa.DataType:
    return _vector(space) if space.full else pa.list_(pa.field("element", pa.float32()))


def _piece(space: Described) -> list[pa.Field]:
    """What is said of a piece of a record."""
    return [*_PIECE, *_OBJECT] if space.labelled else list(_PIECE)


def _schema(head: Head) -> pa.Schema:
    """The columns of a file with this head."""
    columns = [pa.field(name, pa.string(), nullable=name not in ("id", "metadata")) for name in _WORDS]
    for space in head.spaces:
        if space.single:
            columns.append(pa.field(f"vector_{space.name}", _vector_or_null(space)))
            if space.pieces:
                columns.append(pa.field(f"part_{space.name}", pa.struct(_piece(space))))
        else:
            several = pa.struct([*_piece(space), pa.field("vector", _vector(space))])
            columns.append(pa.field(f"parts_{space.name}", pa.list_(pa.field("element", several))))
        if space.synced:
            columns.append(pa.field(f"source_{space.name}", _SOURCE))
    return pa.schema(columns)


# ---- writing ---------------------------------------------------------------------------------------------------


def write(gathered: Gathered, path: Path) -> None:
    """Write all of it to a new file, one row group for each handful."""
    schema = _schema(gathered.head)
    said = json.dumps(gathered.head.to_json())
    with pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=False, write_page_checksum=True
    ) as writer:
        for some in gathered:
            writer.write_batch(pa.RecordBatch.from_arrays(_columns(gathered.head, some), schema=schema))
        # At the end of the file and not in the schema, which Arrow would store a second time.
        writer.add_key_value_metadata({_HEAD: said, _HEAD_HASH: hashlib.sha256(said.encode()).hexdigest()})


def _columns(head: Head, some: Some) -> list[pa.Array]:
    records = some.records
    columns = [
        *(pa.array([getattr(one, name) for one in records], pa.string()) for name in _WORDS[:4]),
        pa.array([json.dumps(dict(one.metadata or {}), ensure_ascii=False) for one in records], pa.string()),
    ]
    for space in head.spaces:
        held = some.held[space.name]
        if space.single:
            columns += _single(space, held)
        else:
            columns.append(_several(space, held))
        if space.synced:
            sources = [None if one is None else (one.origin, one.digest) for one in held.sources]
            columns.append(pa.array(sources, _SOURCE))
    return columns


def _vectors(space: Described, rows: Vectors) -> pa.Array:
    """The rows as an array of vectors."""
    return pa.FixedSizeListArray.from_arrays(_flat(rows), type=_vector(space))


def _flat(rows: Vectors) -> pa.Array:
    return pa.array(np.ascontiguousarray(rows, dtype=np.float32).reshape(-1))


def _pieces(parts: Sequence[Part], fields: Sequence[pa.Field]) -> list[pa.Array]:
    return [
        pa.array([getattr(part, field.name) for part in parts], field.type, from_pandas=False)
        for field in fields
    ]


def _single(space: Described, held: Held) -> list[pa.Array]:
    there = held.counts > 0
    if space.full:
        columns = [_vectors(space, held.vectors)]
    else:
        offsets = pa.array(np.concatenate([[0], np.cumsum(held.counts * space.encoder.dim)]), pa.int32())
        kind = _vector_or_null(space)
        columns = [pa.ListArray.from_arrays(offsets, _flat(held.vectors), type=kind, mask=pa.array(~there))]
    if space.pieces:
        parts = iter(held.parts)
        whole = [next(parts) if one else WHOLE for one in there.tolist()]
        fields = _piece(space)
        columns.append(
            pa.StructArray.from_arrays(_pieces(whole, fields), fields=fields, mask=pa.array(~there))
        )
    return columns


def _several(space: Described, held: Held) -> pa.Array:
    fields = _piece(space)
    columns = [*_pieces(held.parts, fields), _vectors(space, held.vectors)]
    fields = [*fields, pa.field("vector", _vector(space))]
    structs = pa.StructArray.from_arrays(columns, fields=fields)
    offsets = pa.array(np.concatenate([[0], np.cumsum(held.counts)]), pa.int32())
    kind = pa.list_(pa.field("element", structs.type))
    return pa.ListArray.from_arrays(offsets, structs, type=kind, mask=pa.array(held.counts == 0))


# ---- reading ---------------------------------------------------------------------------------------------------


class ParquetCopy(Copy):
    """A Parquet file that `write` made."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with self._file() as file:
                told = file.metadata.metadata or {}
                columns = file.schema_arrow
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        if _HEAD not in told:
            raise self.fault(
                "it is not an export of nearkin's; for files of your own use: nearkin ingest vectors, or text"
            )
        if hashlib.sha256(told[_HEAD]).hexdigest().encode() != told.get(_HEAD_HASH):
            raise self.fault("its description of the spaces does not match its checksum; export it again")
        self._head = Head.from_json(told[_HEAD], path)
        self._schema = _schema(self._head)
        if not columns.remove_metadata().equals(self._schema):
            raise self._other_columns(columns)

    @property
    def head(self) -> Head:
        return self._head

    def _file(self) -> pq.ParquetFile:
        # Read ahead, pyarrow would keep all it has read: the whole file in memory by the end.
        return pq.ParquetFile(self.path, page_checksum_verification=True, pre_buffer=False)

    def _unreadable(self, error: Exception) -> Exception:
        said = " ".join(str(error).split())
        return self.fault(f"it is not a whole Parquet file ({said}); export it again")

    def _other_columns(self, columns: pa.Schema) -> Exception:
        there = {field.name: str(field.type) for field in columns}
        wanted = {field.name: str(field.type) for field in self._schema}
        wrong = next((name for name in wanted if there.get(name) != wanted[name]), None)
        if wrong is None:
            what = f"has the columns {', '.join(there)} where an export has {', '.join(wanted)}"
        elif wrong in there:
            what = f"has a column '{wrong}' of {there[wrong]} where an export has {wanted[wrong]}"
        else:
            what = f"has no column '{wrong}'"
        return self.fault(f"it {what}; import the file as it was exported")

    def __iter__(self) -> Iterator[tuple[Sequence[int], Some]]:
        first = 1
        try:
            with self._file() as file:
                told = file.metadata
                n_bytes = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
                most = _MOST_BYTES * told.num_rows // max(n_bytes, 1)
                for batch in file.iter_batches(max(1, min(MOST_RECORDS, most))):
                    batch.validate(full=True)
                    rows = range(first, first + len(batch))
                    yield rows, self._some(batch, rows)
                    first = rows.stop
        except _UNREADABLE as error:
            raise self._unreadable(error) from None

    def _some(self, batch: pa.RecordBatch, rows: Sequence[int]) -> Some:
        columns = {name: batch.column(name) for name in batch.schema.names}
        words = [columns[name].to_pylist() for name in _WORDS]
        records = [
            Record(id, kind, uri, text, self._metadata(said, row))
            for id, kind, uri, text, said, row in zip(*words, rows, strict=True)
        ]
        held = {space.name: self._held(space, columns, rows) for space in self._head.spaces}
        return Some(records, held)

    def _metadata(self, said: str, row: int) -> dict[str, Any]:
        try:
            return read_object(said)
        except ValueError as error:
            raise self.fault(f"its metadata are not a JSON object ({error}); mend them", row) from None

    def _held(self, space: Described, columns: Mapping[str, pa.Array], rows: Sequence[int]) -> Held:
        sources: list[Provenance | None] = [None] * len(rows)
        if space.synced:
            told = columns[f"source_{space.name}"].to_pylist()
            sources = [None if one is None else Provenance(one["digest"], one["origin"]) for one in told]
            for one, row in zip(sources, rows, strict=True):
                if one is not None and (one.digest is None or one.origin is None):
                    raise self.fault(f"source_{space.name} lacks its origin or digest; export it again", row)
        if not space.single:
            lists = columns[f"parts_{space.name}"]
            counts = np.asarray(lists.value_lengths().fill_null(0), dtype=np.int64)
            owners = np.repeat(rows, counts)
            *pieces, vectors = lists.flatten().flatten()
        else:
            column = columns[f"vector_{space.name}"]
            there = column.is_valid()
            counts = np.asarray(there).astype(np.int64)
            owners = np.asarray(rows)[counts > 0]
            vectors = column.filter(there)
            pieces = columns[f"part_{space.name}"].filter(there).flatten() if space.pieces else []
        parts = self._parts(pieces, owners) if space.pieces else [WHOLE] * len(owners)
        return Held(counts, parts, self._rows(space, vectors, owners), sources)

    def _parts(self, pieces: Sequence[pa.Array], owners: NDArray[np.int64]) -> list[Part]:
        parts = []
        columns = [column.to_pylist() for column in pieces]
        for begin, stop, region, *told, row in zip(*columns, owners.tolist(), strict=True):
            if region is not None and (len(region) != 4 or None in region):
                raise self.fault("a box is not four numbers; mend it", row)
            parts.append(Part(begin, stop, None if region is None else tuple(region), *told))
        return parts

    def _rows(self, space: Described, vectors: pa.Array, owners: NDArray[np.int64]) -> Vectors:
        """The vectors as a matrix; `owners` says in which row of the file each of them stands."""
        dim = space.encoder.dim
        bad: NDArray[np.bool_] = np.asarray(vectors.is_null())
        if pa.types.is_list(vectors.type):
            bad |= np.asarray(vectors.value_lengths().fill_null(0)) != dim
        if not bad.any():
            numbers = vectors.flatten()
            if not numbers.null_count:
                return np.asarray(numbers, dtype=np.float32).reshape(-1, dim)
            bad = np.any(np.asarray(numbers.is_null()).reshape(-1, dim), axis=1)
        row = int(owners[np.flatnonzero(bad)[0]])
        raise self.fault(f"a vector of space '{space.name}' has not {dim} numbers; mend it", row)
