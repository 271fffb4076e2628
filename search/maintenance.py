"""What keeps a collection well: its indexes, its disk, its damage, and copies of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from search import backup, checking, upkeep
from search.catalog import reads, writes
from search.catalog.database import Database
from search.errors import CollectionError
from search.index.choose import Wanted, asked_of
from search.indexing import Indexer, Progress
from search.layout import Layout
from search.query import languages, plan, preferences
from search.types import Json
from search.writer import Writer


class Maintenance:
    """The part of a `Collection` that looks after it."""

    _database: Database
    _indexer: Indexer
    _layout: Layout

    def writing(self, wait_s: float | None = None) -> AbstractContextManager[Writer]:
        """See `Collection`."""
        raise NotImplementedError

    def info(self) -> dict[str, Json]:
        """What the collection holds: records, spaces, models, indexes and their measured recall, bytes on disk."""
        return upkeep.info(self._layout, self._database)

    def check(self) -> list[str]:
        """Look for damage in every file; one line for each thing found, none if all is well."""
        return checking.check(self._layout, self._database)

    def index(self, progress: Progress | None = None, *, wait: bool = True) -> None:
        """Build the indexes that are missing or behind; `ingest` calls it at the end of a run.

        Questions are answered meanwhile, exactly where there is no index yet, and commits go on. With `wait` False
        it is done in the background; `close` waits for it.

        Raises:
            CollectionError: an index cannot be written.
        """
        self._check_writable()
        if wait:
            self._indexer.wait()
            self._indexer.bring_up_to_date(progress)
            self._database.settle()
        else:
            self._indexer.start()

    def tune(
        self,
        recall: float | None = None,
        *,
        memory: str | int | None = None,
        kind: str | None = None,
        language: str | None = None,
        space: str | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Json]:
        """Say what the indexes should reach, measure what they do, and build anew what does not.

        Args:
            recall: the least recall@10 of an approximate index, between 0.5 and 1; None leaves it as it is.
            memory: the most that vectors and index of a space may take in memory, such as "4G"; beyond it the
                vectors stay on disk and the index keeps short codes.
            kind: flat, hnsw, ivf-flat, ivf-sq8, ivf-pq or ivf-rabitq; "auto" leaves the choice to nearkin.
            language: of the texts, by whose rules hybrid search finds words in their other forms; english where nothing
                was said, and "none" to look for words as they are written.
            space: one space; None means all.
            progress: is told the space, the rows done and the rows in all.

        Returns:
            For each space what `info` says of its index.

        Raises:
            QueryError: a wish cannot be read. UnknownSpace: there is none of this name.
        """
        self._check_writable()
        wishes = asked_of(recall, memory, kind)
        spoken = None if language is None else languages.checked(language)
        with self.writing(), self._database.writing() as transaction:
            spaces = reads.spaces(transaction)
            for one in spaces.values() if space is None else [plan.named(spaces, space)]:
                wanted = reads.wanted(transaction, one) or {}
                wished = replace(Wanted.from_json(wanted), **wishes).to_json()
                writes.record_wanted(transaction, one, {**wanted, **wished})
                if spoken is not None:
                    preferences.keep(
                        transaction, one, replace(preferences.read(transaction, one), language=spoken)
                    )
        self.index(progress)
        spaces_now = self.info()["spaces"]
        assert isinstance(spaces_now, list)
        return {one["name"]: one["index"] for one in spaces_now if space in (None, one["name"])}

    def index_field(self, name: str, *, drop: bool = False) -> None:
        """Keep the values of a metadata field sorted, so that a filter on it need not read the records.

        Args:
            name: the field, a nested one with dots.
            drop: forget them again.

        Raises:
            QueryError: no record has such a field, or there is nothing to drop.
        """
        with self.writing(), self._database.writing() as transaction:
            from search.catalog.conditions import fields

            (fields.drop if drop else fields.declare)(transaction, name)

    def compact(self, progress: Progress | None = None) -> dict[str, Json]:
        """Drop deleted vectors from the disk and build the indexes anew where that is due.

        Returns:
            Vectors dropped, and bytes on disk before and after.
        """
        with self.writing():
            said = upkeep.compact(self._layout, self._database)
            self.index(progress)
        return said | {"bytes_after": upkeep.size_on_disk(self._layout)}

    def _check_writable(self) -> None:
        if self._database.read_only:
            raise CollectionError(f"{self._layout.root} was opened to read only; open it with mode 'rw'")

    def backup(self, path: str | Path) -> Path:
        """Copy the collection to a new directory, while it may be written to; `search.restore` brings it back.

        The copy is itself a collection, of one commit; it has its name when it is whole and durable, not before.

        Raises:
            CollectionError: something is at `path` already, or it cannot be written.
        """
        return backup.back_up(self._layout, self._database, Path(path).expanduser())

    def export(self, path: str | Path, *, vectors: bool = False, where: str | None = None) -> int:
        """Write the records to a .parquet or .jsonl file, with their vectors if asked; how many there were.

        With vectors the file describes the spaces too, and `import_file` makes the same ones again, without loss.

        Args:
            path: where to write; an older file of the name is replaced once the new one is whole. What its columns
                are stands in `search.exchange.parquet` and `search.exchange.lines`.
            vectors: whether to write the vectors, the spaces, and what the vectors were made from.
            where: a condition on the records.

        Raises:
            QueryError: the suffix is of neither format.
            FilterError: the expression cannot be used.
            CollectionError: the file cannot be written.
            MissingExtra: Parquet needs pyarrow.
        """
        from search.exchange import (
            write_out,  # with SQLAlchemy, which a question without a filter does without
        )

        with self._database.reading() as transaction:
            return write_out.export(transaction, Path(path).expanduser(), where, vectors=vectors)

    def import_file(self, path: str | Path) -> dict[str, Json]:
        """Take in a .parquet or .jsonl file that `export` wrote: records, spaces, and vectors bit for bit.

        The whole file is checked before anything is written. Then it is committed handful by handful, by id: a
        record that is there already is updated, its vectors in the spaces of the file are replaced, and what is null
        in the file stays as it was. After an interruption, run it again.

        Returns:
            Counts of records, added, updated and vectors.

        Raises:
            SourceError: the file is damaged or no export; it names the line or row.
            CollectionError: a space of the same name was made by another model.
            MissingExtra: Parquet needs pyarrow.
        """
        from search.exchange import take_in

        copy = take_in.opened(Path(path).expanduser())
        take_in.check(copy)
        with self.writing() as writer:
            done = take_in.take_in(writer, copy)
            self.index()
        return done.to_json()
