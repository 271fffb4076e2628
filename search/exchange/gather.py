"""Reads a collection out in the order of its records, each with its vectors, in a memory that does not grow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from search.catalog import conditions, consistency, reads
from search.catalog.database import Transaction
from search.catalog.part_writes import Provenance
from search.errors import CollectionCorrupt
from search.exchange.content import FLOAT, Described, Head, Held, Some
from search.types import WHOLE, Part, Space
from search.vectors import Keys, Vectors

MOST_RECORDS = 16_384  # in a handful
_MOST_BYTES = 32 << 20  # of texts in a handful, and of vectors, but for what a single record has
_SAMPLED = 16  # of so many metadata the length of one is taken for all: to measure each would cost too much


class Gathered:
    """The records that match a condition, in the order in which they were first added, with their vectors.

    The vectors stand in the catalog in the order of their commits. They are read once, and laid out in a
    temporary file in the order of the records; in memory stay 8 bytes for each. Use it as a context manager.
    """

    def __init__(
        self,
        transaction: Transaction,
        expression: str | None,
        *,
        vectors: bool,
        scratch: Path,
    ) -> None:
        """`transaction` reads, `expression` picks records; `scratch` is the directory for temporary files."""
        self._transaction = transaction
        self._expression = expression
        self._laid: dict[str, _Laid] = {}
        described: list[Described] = []
        chosen = None if expression is None else conditions.matching(transaction, expression)
        n_records = transaction.value("select count(*) from record") if chosen is None else len(chosen)
        if vectors:
            consistency.check_vectors(transaction)
            for space in reads.spaces(transaction).values():
                laid = self._laid[space.name] = _Laid(transaction, space, chosen, scratch)
                described.append(laid.described(n_records))
        self.head = Head(n_records, tuple(described))

    def __iter__(self) -> Iterator[Some]:
        n_bytes = sum(laid.n_bytes for laid in self._laid.values())
        most = max(1, min(MOST_RECORDS, _MOST_BYTES * self.head.n_records // max(n_bytes, 1)))
        waiting: list[reads.Stored] = []
        length = 0
        for one in conditions.records(self._transaction, self._expression):
            if len(waiting) % _SAMPLED == 0:
                length += _SAMPLED * len(json.dumps(dict(one.record.metadata or {})))
            waiting.append(one)
            length += len(one.record.text or "")
            if len(waiting) == most or length > _MOST_BYTES:
                yield self._with_vectors(waiting)
                waiting, length = [], 0
        if waiting:
            yield self._with_vectors(waiting)

    def _with_vectors(self, some: Sequence[reads.Stored]) -> Some:
        keys = np.array([one.key for one in some], dtype=np.int64)
        held = {name: laid.next(keys) for name, laid in self._laid.items()}
        return Some([one.record for one in some], held)

    def __enter__(self) -> Gathered:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for laid in self._laid.values():
            laid.close()


class _Laid:
    """The vectors of one space, laid out in the order of their records in a file without a name."""

    def __init__(self, transaction: Transaction, space: Space, chosen: Keys | None, scratch: Path) -> None:
        self._transaction = transaction
        self._space = space
        self._done = 0  # rows read so far
        part, records = _parts_in(transaction, space)
        if chosen is not None:
            wanted = np.isin(records, chosen)
            part, records = part[wanted], records[wanted]
        order = np.lexsort((part, records))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self._owners: Keys = records[order]
        self._pieces = self._any(
            "select 1 from part where space_key = ? "
            'and (start is not null or "end" is not null or box is not null or label is not null or score is not null)'
        )
        self._labelled = self._any(
            "select 1 from part where space_key = ? and (label is not null or score is not null)"
        )
        self._synced = self._any("select 1 from synced where space_key = ?")
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=scratch, prefix=".nearkin-vectors-")  # noqa: SIM115
        try:
            self._lay_out(part, place)
        except BaseException:
            self._file.close()
            raise

    def _any(self, query: str) -> bool:
        return bool(self._transaction.value(f"select exists ({query})", (self._space.key,)))

    @property
    def n_bytes(self) -> int:
        """Of all the vectors."""
        return len(self._owners) * self._space.dim * FLOAT.itemsize

    def described(self, n_records: int) -> Described:
        """The space, with how it is to be written beside so many records."""
        space, weights = self._space, self._space.encoder.weights
        return Described(
            space.name,
            space.encoder,
            space.metric,
            probes=reads.probes(self._transaction, space),
            model=reads.model(self._transaction, weights) if weights else None,
            full=len(np.unique(self._owners)) == n_records,
            single=bool(np.all(np.diff(self._owners) > 0)),
            pieces=self._pieces,
            synced=self._synced,
            labelled=self._labelled,
        )

    def _lay_out(self, part: Keys, place: NDArray[np.int64]) -> None:
        """Write each vector where its record has its turn; neighbours that stay neighbours in one piece."""
        row_bytes = self._space.dim * FLOAT.itemsize
        n_found = 0
        for batch in reads.batches(self._transaction, self._space):
            at = np.searchsorted(part, batch.part_keys)
            alive = at < len(part)
            alive[alive] = part[at[alive]] == batch.part_keys[alive]
            rows = np.ascontiguousarray(batch.vectors[alive], dtype=FLOAT)
            places = place[at[alive]]
            n_found += len(rows)
            breaks = np.flatnonzero(np.diff(places) != 1) + 1
            for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(rows)], strict=True):
                if begin < end:
                    self._file.seek(int(places[begin]) * row_bytes)
                    self._file.write(rows[begin:end].data)
        if n_found != len(part):
            raise self._mismatch()

    def _mismatch(self) -> CollectionCorrupt:
        return CollectionCorrupt(
            f"space '{self._space.name}': its parts and its vectors do not match; restore a backup"
        )

    def next(self, record_keys: Keys) -> Held:
        """What these records have, the next ones in their order."""
        begins = np.searchsorted(self._owners, record_keys, side="left")
        ends = np.searchsorted(self._owners, record_keys, side="right")
        counts = ends - begins
        n = int(counts.sum())
        if n != int(ends[-1]) - self._done:  # a part whose record is gone
            raise self._mismatch()
        dim = self._space.dim
        self._file.seek(self._done * dim * FLOAT.itemsize)
        data = self._file.read(n * dim * FLOAT.itemsize)
        self._done += n
        vectors: Vectors = np.frombuffer(data, FLOAT).reshape(n, dim)
        parts = self._parts(record_keys) if self._pieces else [WHOLE] * n
        if len(parts) != n:
            raise self._mismatch()
        return Held(counts, parts, vectors, self._sources(record_keys))

    def _parts(self, record_keys: Keys) -> list[Part]:
        rows = self._transaction.sql(
            'select record_key, start, "end", box, label, score from part '
            "where space_key = ? and record_key between ? and ? "
            "order by record_key, key",
            (self._space.key, int(record_keys[0]), int(record_keys[-1])),
        )
        wanted = set(record_keys.tolist())
        return [
            Part(start, end, None if box is None else _box(box), label, score)
            for owner, start, end, box, label, score in rows
            if owner in wanted
        ]

    def _sources(self, record_keys: Keys) -> list[Provenance | None]:
        if not self._synced:
            return [None] * len(record_keys)
        rows = self._transaction.sql(
            "select record_key, digest, origin from synced where space_key = ? and record_key between ? and ?",
            (self._space.key, int(record_keys[0]), int(record_keys[-1])),
        )
        known = {key: Provenance(digest, origin) for key, digest, origin in rows}
        return [known.get(key) for key in record_keys.tolist()]

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _parts_in(transaction: Transaction, space: Space) -> tuple[Keys, Keys]:
    """The keys of the space's parts, ascending, and of their records."""
    rows = transaction.sql("select key, record_key from part where space_key = ? order by key", (space.key,))
    both = np.fromiter(rows, np.dtype([("part", np.int64), ("record", np.int64)]))
    return np.ascontiguousarray(both["part"]), np.ascontiguousarray(both["record"])


def _box(text: str) -> tuple[float, float, float, float]:
    x, y, width, height = json.loads(text)
    return (x, y, width, height)
