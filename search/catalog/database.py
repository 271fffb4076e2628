"""The SQLite file: how it is opened, read from in a snapshot, and written to durably."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from search.errors import CollectionCorrupt, CollectionError, CollectionLocked, NearkinError

_PAGE = 8192  # larger than SQLite's 4096: packed vectors are long blobs
_LOG_BYTES = 16 << 20  # the write-ahead log is cut back to this once its content is in the main file
_WAIT_S = 30.0  # how long SQLite waits for its own locks, which are held for moments


class Database:
    """One SQLite file in WAL mode: any number of readers beside one writer.

    `reading` gives a connection inside one read transaction, which sees a single commit throughout; `writing`
    one that commits durably (fsync'd) when the block ends, or leaves no trace when it raises.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=4,
            max_overflow=64,
        )
        _begin_explicitly(self._engine)

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self.read_only else "rwc"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_WAIT_S,
            isolation_level=None,  # transactions are begun by us, see _begin_explicitly
            check_same_thread=False,  # the pool lends a connection to one thread at a time
        )
        if not self.read_only:
            connection.execute(f"pragma page_size = {_PAGE}")
            connection.execute("pragma journal_mode = wal")
            # FULL: a commit is on the disk when it returns, not only safe from a crash of this process.
            connection.execute("pragma synchronous = full")
            connection.execute(f"pragma journal_size_limit = {_LOG_BYTES}")
        connection.execute("pragma temp_store = memory")
        connection.execute("pragma cache_size = -32768")
        return connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection whose reads all see the same commit."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a write transaction: whole and durable at the end of the block, or absent."""
        with (
            self._translated(),
            self._engine.connect().execution_options(nearkin_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def identity(self) -> tuple[int, int, int]:
        """Application id, format, and number of tables, read without setting anything in the file."""
        with self._translated():
            mode = "ro" if self.read_only else "rw"
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_WAIT_S
            )
            try:
                (application,) = connection.execute("pragma application_id").fetchone()
                (found,) = connection.execute("pragma user_version").fetchone()
                (n_tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
            finally:
                connection.close()
        return application, found, n_tables

    def vacuum(self) -> None:
        """Give the pages that nothing uses back to the disk; whole or not at all."""
        with self._translated():
            connection = self._connect()
            try:
                connection.execute("vacuum")
                connection.execute("pragma wal_checkpoint(truncate)")
            finally:
                connection.close()

    def settle(self) -> None:
        """Fold the write-ahead log into the main file, as far as readers allow."""
        with self._translated():
            connection = self._connect()
            try:
                connection.execute("pragma wal_checkpoint(truncate)")
            finally:
                connection.close()

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def back_up(self, target: Path) -> None:
        """Copy the database to `target` while it may be written to (SQLite's online backup)."""
        with self._translated():
            source = self._connect()
            copy = sqlite3.connect(target)
            try:
                source.backup(copy)
            finally:
                copy.close()
                source.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._meaning(error.orig) from error
        except sqlite3.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: BaseException | None) -> NearkinError:
        """The error of ours that says what SQLite's error means to the user."""
        said = str(error)
        if "locked" in said or "busy" in said:
            return CollectionLocked(
                f"{self.path.parent} is busy ({said}); try again when the other writer is done"
            )
        if "malformed" in said or "not a database" in said:
            return CollectionCorrupt(f"{self.path} is damaged ({said}); restore it from a backup")
        if "full" in said:
            return CollectionError(
                f"the disk that holds {self.path.parent} is full; free some space and run again"
            )
        if "readonly" in said or "unable to open" in said:
            return CollectionError(f"{self.path} cannot be opened for this ({said}); check its permissions")
        return CollectionError(f"{self.path}: {said}; run `nearkin check` on it")


def _begin_explicitly(engine: Engine) -> None:
    """Begin each transaction ourselves, since Python's sqlite3 would begin a read transaction too late."""

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("nearkin_writes", False)
        connection.exec_driver_sql("begin immediate" if writes else "begin")
