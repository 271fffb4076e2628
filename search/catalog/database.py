"""The SQLite file: how it is opened, read from in a snapshot, and written to durably."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import CollectionCorrupt, CollectionError, CollectionLocked, NearkinError

if TYPE_CHECKING:
    from sqlalchemy.sql.base import Executable

_PAGE = 8192  # larger than SQLite's 4096: packed vectors are long blobs
_LOG_BYTES = 16 << 20  # the write-ahead log is cut back to this once its content is in the main file
_WAIT_S = 30.0  # how long SQLite waits for its own locks, which are held for moments


class Behind(Exception):
    """What a reader goes by, its snapshot or what it remembers, is no longer how things stand; it reads again."""


class Transaction:
    """One transaction on the catalog, given by `Database.reading` and `Database.writing`.

    `remembered` is None, but in a `Glimpse`: there it holds the counters that the reader goes by.
    """

    __slots__ = ("_driver", "remembered", "sql")

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver
        self.remembered: tuple[Any, ...] | None = None
        self.sql = driver.execute  # (text, values) -> cursor of tuples; values are always bound

    def value(self, text: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None where there is no row."""
        row = self.sql(text, values).fetchone()
        return None if row is None else row[0]

    def many(self, text: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of `rows`."""
        self._driver.executemany(text, rows)

    @contextmanager
    def as_bytes(self) -> Iterator[None]:
        """Texts come as bytes for the length of the block: damaged ones can be read in no other way."""
        self._driver.text_factory = bytes
        try:
            yield
        finally:
            self._driver.text_factory = str

    def execute(self, statement: Executable) -> sqlite3.Cursor:
        """Run a statement that was put together with SQLAlchemy, such as one with a where-expression."""
        from search.catalog.compiled import (
            compiled,  # SQLAlchemy takes as long to import as all else together
        )

        return self.sql(*compiled(statement))


class Glimpse(Transaction):
    """No transaction, but a single question that also brings the counters, by a reader who remembers the rest.

    SQLite answers one statement from one commit. So if the counters in the answer are those remembered, all of it is
    of that commit, and nothing had to be begun, asked and ended for it. Any other question raises `Behind`.
    """

    __slots__ = ("once",)

    def __init__(self, driver: sqlite3.Connection, remembered: tuple[Any, ...]) -> None:
        self._driver = driver
        self.remembered = remembered
        self.sql = _only_once
        self.once = driver.execute


def _only_once(text: str, values: Any = ()) -> sqlite3.Cursor:
    raise Behind


class Database:
    """One SQLite file in WAL mode: any number of readers beside one writer.

    `reading` gives a transaction that sees a single commit throughout; `writing` one that is durable (fsync'd)
    when the block ends, or leaves no trace when it raises. Connections are kept and lent to one block at a time.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._free: list[sqlite3.Connection] = []
        self._closed = False
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._free)  # should nobody close the collection

    def connect(self) -> sqlite3.Connection:
        """A connection of the caller's own, in autocommit mode; the caller closes it."""
        mode = "ro" if self.read_only else "rwc"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_WAIT_S,
            isolation_level=None,  # transactions are begun by us: Python would begin to read too late
            check_same_thread=False,  # lent to one thread at a time
        )
        if not self.read_only:
            connection.execute(f"pragma page_size = {_PAGE}")
            connection.execute("pragma journal_mode = wal")
            # FULL: a commit is on the disk when it returns, not only safe from a crash of this process.
            connection.execute("pragma synchronous = full")
            connection.execute(f"pragma journal_size_limit = {_LOG_BYTES}")
        connection.execute("pragma temp_store = memory")
        connection.execute(
            "pragma cache_size = -8192"
        )  # the system keeps pages too, for all processes at once
        return connection

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction whose reads all see the same commit."""
        return self._transaction("begin")

    @contextmanager
    def glimpse(self, remembered: tuple[Any, ...]) -> Iterator[Glimpse]:
        """A question without a transaction, for whoever remembers the counters (`reads.STATE` and their checksum)."""
        driver = self._taken()
        try:
            yield Glimpse(driver, remembered)
        except sqlite3.Error as error:
            driver.close()
            raise Behind from error  # the transaction that follows will say what it is
        except BaseException:
            self._given_back(driver)
            raise
        self._given_back(driver)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A write transaction: whole and durable at the end of the block, or absent."""
        return self._transaction("begin immediate")

    def _transaction(self, begin: str) -> Iterator[Transaction]:
        driver = None
        try:
            driver = self._taken()
            driver.execute(begin)
            yield Transaction(driver)
            driver.execute("commit")
        except BaseException as error:
            if driver is not None:
                driver.close()  # rolls back; a statement left half read would else hold its old commit
            if isinstance(error, sqlite3.Error):
                raise self._meaning(error) from error
            raise
        self._given_back(driver)

    def _taken(self) -> sqlite3.Connection:
        if self._closed:
            raise CollectionError(f"{self.path.parent} was closed; open it again")
        try:
            return self._free.pop()
        except IndexError:
            return self.connect()

    def _given_back(self, driver: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._free.append(driver)
                return
        driver.close()

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
        self._alone("vacuum", "pragma wal_checkpoint(truncate)")

    def settle(self) -> None:
        """Fold the write-ahead log into the main file, as far as readers allow."""
        self._alone("pragma wal_checkpoint(truncate)")

    def _alone(self, *statements: str) -> None:
        """Run statements that may not stand in a transaction."""
        with self._translated():
            connection = self.connect()
            try:
                for statement in statements:
                    connection.execute(statement)
            finally:
                connection.close()

    def close(self) -> None:
        """Give back all connections; those still lent follow when their block ends."""
        with self._lock:
            self._closed = True
            _close_all(self._free)

    def back_up(self, target: Path) -> None:
        """Copy the database to `target` while it may be written to (SQLite's online backup)."""
        with self._translated():
            source = self.connect()
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
        except (sqlite3.Error, UnicodeDecodeError) as error:  # of a message that quotes a damaged schema
            raise self._meaning(error) from error

    def _meaning(self, error: BaseException | None) -> NearkinError:
        """The error of ours that says what SQLite's error means to the user."""
        said = str(error)
        if "locked" in said or "busy" in said:
            return CollectionLocked(
                f"{self.path.parent} is busy ({said}); try again when the other writer is done"
            )
        if undecodable(error):  # SQLite quotes the text, of any length
            return CollectionCorrupt(
                f"{self.path} is damaged (a text in it cannot be read); find it with `nearkin check`, "
                "and restore the collection from a backup"
            )
        if isinstance(error, UnicodeDecodeError) or "malformed" in said or "not a database" in said:
            return CollectionCorrupt(
                f"{self.path} is damaged ({' '.join(said.split())}); restore it from a backup"
            )
        if "full" in said:
            return CollectionError(
                f"the disk that holds {self.path.parent} is full; free some space and run again"
            )
        if "readonly" in said or "unable to open" in said:
            return CollectionError(f"{self.path} cannot be opened for this ({said}); check its permissions")
        return CollectionError(f"{self.path}: {said}; run `nearkin check` on it")


def undecodable(error: BaseException | None) -> bool:
    """Whether this is SQLite's complaint about a text that is none."""
    return "Could not decode to UTF-8" in str(error)


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
