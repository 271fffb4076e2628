"""The one object that users hold: a directory of records, their vectors, and the questions it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from search.catalog import consistency, reads, thumbnails
from search.catalog.database import Database
from search.catalog.full_text import BULK
from search.catalog.lock import WriteLock
from search.catalog.metadata_text import FieldNames, record_of
from search.errors import QueryError
from search.graphs import Graphs
from search.index.choose import Wanted, due
from search.indexing import Indexer
from search.layout import Layout
from search.maintenance import Maintenance
from search.query import plan
from search.query.ask import Asker
from search.query.follow import Views
from search.query.request import ids as request_ids
from search.questions import Questions
from search.sorting import Sorting
from search.types import EncoderSpec, Json, Modality, Record, Space
from search.uncollected import uncollected
from search.vectors import as_floats, checked
from search.weighing import Weighing
from search.writer import Writer

if TYPE_CHECKING:
    from search.encoders.contract import Encoder

_WAIT_S = 20.0  # how long a writer waits for another one


class Collection(Questions, Sorting, Graphs, Weighing, Maintenance):
    """Records and their vectors in a directory; use it as a context manager or `close` it.

    It may be used by several threads, and by other processes at the same time: readers see each commit at their
    next question; one process at a time writes.
    """

    def __init__(self, layout: Layout, database: Database, *, device: str, precision: str = "auto") -> None:
        """Made by `search.open`."""
        self._layout = layout
        self._database = database
        self._lock = WriteLock(layout, _WAIT_S)
        self._threads = threading.RLock()
        self._names = FieldNames()
        self._views = Views(layout)
        self._n_added: dict[int, int] = {}  # rows added to each space since its index was last looked at
        self._asker = Asker(database, self._views, device, precision)
        self._indexer = Indexer(layout, database, self._views, self._asker.real)

    @property
    def path(self) -> Path:
        """The directory."""
        return self._layout.root

    @property
    def layout(self) -> Layout:
        """Where its files stand."""
        return self._layout

    # ---- filling -------------------------------------------------------------------------------------------

    def add(
        self,
        records: Iterable[Record | Mapping[str, Any]],
        vectors: Any = None,
        *,
        space: str | None = None,
    ) -> list[str]:
        """Add records, or update those whose id is there already; durable when it returns.

        Vectors made from a text that an update changes are dropped, so that none is stale: give the new ones
        here, or let `ingest.text` make them.

        Args:
            records: `Record`s, or mappings with the fields of one.
            vectors: (n, dim), one for each record; None stores the records alone.
            space: where the vectors belong; made now if it is absent.

        Returns:
            The ids, in order.

        Raises:
            QueryError: a record or a vector cannot be stored, or an id stands twice; nothing is written.
        """
        if (vectors is None) != (space is None):
            raise QueryError("vectors and space belong together; give both, or neither")
        with uncollected(), self.writing() as writer:
            given = [record_of(one) for one in records]
            if vectors is None or space is None:
                writer.put(given)
            else:
                rows = as_floats(vectors)
                if rows.ndim != 2:
                    rows = checked(vectors)  # says what is wrong
                there = self.spaces().get(space)
                with writer.together():
                    if there is None:
                        spec = EncoderSpec("given", "given", Modality.VECTOR, rows.shape[1])
                        there = writer.space(space, spec)
                    writer.put(given, rows, there)
                self._index_when_due(there, len(given))
        if len(given) >= BULK:
            self._indexer.start(words_alone=True)
        return [record.id for record in given]

    def _index_when_due(self, space: Space, n_added: int) -> None:
        """Have the indexes seen to, but only once enough was added here for one to be behind."""
        added = self._n_added.get(space.key, 0) + n_added
        if due(added, added, space.dim, 1, Wanted()):
            added = 0
            self._indexer.start()
        self._n_added[space.key] = added

    def delete(self, ids: str | Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Delete records by id, or all that match a where-expression; how many were deleted.

        Raises:
            QueryError: neither or both were given.
            FilterError: the expression cannot be used.
        """
        if (ids is None) == (where is None):
            raise QueryError("say what to delete; give ids or where, one of the two")
        with self.writing() as writer:
            with self._database.reading() as transaction:
                if where is not None:
                    keys = _conditions().matching(transaction, where).tolist()
                else:
                    keys = sorted(reads.keys_of(transaction, request_ids(ids, "ids")).values())
            return writer.delete(keys) if keys else 0

    @contextmanager
    def writing(self, wait_s: float | None = None) -> Iterator[Writer]:
        """Hold the write lock for the length of the block; `ingest` writes through this.

        Raises:
            CollectionLocked: another process is writing, and did not finish within the wait.
            CollectionError: the collection was opened to read only.
        """
        self._check_writable()
        with self._threads, self._lock.held(wait_s):
            yield Writer(self._database, self._names)

    # ---- asking --------------------------------------------------------------------------------------------

    def get(self, ids: str | Sequence[str]) -> list[Record | None]:
        """The records of these ids, in their order; None for an id that is not there.

        Raises:
            QueryError: an id is no string.
            CollectionCorrupt: a record does not match its checksum.
        """
        wanted = request_ids(ids, "ids")
        with self._database.reading() as transaction:
            found = reads.records_of(transaction, wanted)
            for id in wanted:
                if id not in found:
                    consistency.check_absent(transaction, id)
        return [found[id].record if id in found else None for id in wanted]

    def thumbnail(self, id: str) -> bytes | None:
        """The small picture that `ingest.images` kept of a record, a WebP file; None where there is none.

        Raises:
            CollectionCorrupt: it does not match its checksum.
        """
        with self._database.reading() as transaction:
            return thumbnails.get(transaction, id)

    def count(self, where: str | None = None) -> int:
        """How many records there are, or match a where-expression.

        Raises:
            FilterError: the expression cannot be used.
        """
        with self._database.reading() as transaction:
            if where is None:
                return int(transaction.value("select count(*) from record"))
            found: int = _conditions().count(transaction, where)
            return found

    def facets(
        self, fields: str | Sequence[str], *, where: str | None = None, limit: int = 20
    ) -> dict[str, list[dict[str, Json]]]:
        """How many records, of all or of those that match a where-expression, have each value of some fields.

        Args:
            fields: of the metadata, nested ones with dots; each element of a list counts.
            where: a condition on the records.
            limit: how many values of each field, the most frequent ones.

        Returns:
            By field, a list of {"value": …, "count": …}, the most frequent first.

        Raises:
            QueryError: no record has such a field. FilterError: the expression cannot be used.
        """
        from search.query import facets

        names = request_ids(fields, "fields")
        with self._database.reading() as transaction:
            matching = None if where is None else _conditions().matching(transaction, where)
            return facets.facets(transaction, names, matching, limit)

    def spaces(self) -> dict[str, Space]:
        """The spaces by name."""
        with self._database.reading() as transaction:
            return dict(self._views.spaces(transaction, reads.state(transaction)))

    def ids_in(self, space: Space) -> list[str]:
        """The ids of the records that have vectors in the space."""
        with self._database.reading() as transaction:
            return reads.ids_in(transaction, space)

    def origins(self, space: str) -> list[str]:
        """The files and folders that the vectors of a space came from."""
        with self._database.reading() as transaction:
            return reads.origins(transaction, plan.named(reads.spaces(transaction), space))

    def encoder(self, space: str) -> Encoder:
        """The encoder of a space, loaded once and checked against what it gave when the space was made."""
        return self._asker.encoder(plan.named(self.spaces(), space))

    @property
    def database(self) -> Database:
        """The catalog, for `ingest`."""
        return self._database

    def close(self) -> None:
        """Let an index that is being built be finished, then give back files and memory."""
        self._close(at_once=self._database.read_only)

    def _close(self, *, at_once: bool) -> None:
        self._indexer.close(at_once=at_once)
        self._views.forget()
        self._lock.close()
        self._database.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever interrupts does not want to wait for an index.
        self._close(at_once=self._database.read_only or isinstance(error, KeyboardInterrupt | SystemExit))

    def __repr__(self) -> str:
        return f"Collection({str(self.path)!r})"


# A question without a where-expression needs no SQLAlchemy, which takes as long to import as all else together.


def _conditions() -> ModuleType:
    """What works with where-expressions."""
    from search.catalog import conditions

    return conditions
