"""Reads tables of edges that have columns by nature: Parquet files, and the answer of a database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edge_format import EdgeFormat
from ingest.sources.edge_rows import Role, Rows, Spans, columns_of
from ingest.sources.edges import Edges, usable
from ingest.sources.ids import WholeIds
from search.errors import MissingExtra, SourceError

if TYPE_CHECKING:
    import pyarrow
    from sqlalchemy import URL, Connection

_BATCH = 1 << 18  # rows taken at a time
_DRIVERS = {"MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary", "psycopg": '"psycopg[binary]"'}
_SHOWN = 120  # letters of a query
_ASKING = re.compile(r"[\s(]*(select|with)\b", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DIALECTS = {"postgresql": "postgres", "mssql": "tsql", "mariadb": "mysql"}


def read_parquet(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> None:
    """Take a Parquet file with one edge per row; columns as in a csv with a header.

    Raises:
        SourceError: it cannot be read, or lacks a column.
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet", "parquet") from error
    rows, whole, line = Rows(edges, form), WholeIds(edges.ids), 1
    try:
        opened = parquet.ParquetFile(handle)
        header = opened.schema_arrow.names
        if len(header) < 2:
            raise SourceError(f"has {len(header)} columns; an edge has two ends", edges.file)
        kinds = [
            "0" if pyarrow.types.is_floating(t) or pyarrow.types.is_integer(t) else ""
            for t in opened.schema_arrow.types
        ]
        roles, _ = columns_of(header, kinds, form, edges.file, None)
        wanted = sorted(set(roles.values()))
        for batch in opened.iter_batches(batch_size=_BATCH, columns=[header[k] for k in wanted]):
            cells = {role: batch.column(wanted.index(column)) for role, column in roles.items()}
            if rows.plain and all(map(_is_whole, (cells[Role.SOURCE], cells[Role.TARGET]))):
                _take_whole(cells, line, edges, whole)
            else:
                _take_arrow(cells, line, rows)
            line += batch.num_rows
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"is not a readable Parquet file ({reason}); check the file", edges.file) from error
    rows.check_types()


def _is_whole(cells: pyarrow.Array) -> bool:
    import pyarrow

    kind = cells.type
    return bool(pyarrow.types.is_integer(kind)) and kind != pyarrow.uint64() and cells.null_count == 0


def _take_whole(cells: dict[Role, pyarrow.Array], line: int, edges: Edges, whole: WholeIds) -> None:
    """Take a batch of rows whose ends are whole numbers, without types."""
    lines = np.arange(line, line + len(cells[Role.SOURCE]))
    weights, keep = _arrow_weights(cells, lines, np.ones(len(lines), np.bool_), edges)
    ends = (
        cells[role].to_numpy(zero_copy_only=False).astype(np.int64)[keep]
        for role in (Role.SOURCE, Role.TARGET)
    )
    sources, targets = map(whole.numbers, ends)
    edges.add(sources, targets, weights, lines[keep])


def _arrow_weights(
    cells: dict[Role, pyarrow.Array], lines: NDArray[np.int64], keep: NDArray[np.bool_], edges: Edges
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """The weights of the rows to keep, and which these are, without those whose weight cannot be used."""
    import pyarrow
    from pyarrow import compute

    if Role.WEIGHT not in cells:
        return None, keep
    given = compute.cast(cells[Role.WEIGHT], pyarrow.float64())
    weights = compute.fill_null(given, float("nan")).to_numpy(zero_copy_only=False)
    good = usable(weights)
    for k in np.flatnonzero(keep & ~good).tolist():
        edges.reject(f"the weight {str(weights[k])!r} is not a positive number", int(lines[k]))
    keep = keep & good
    return weights[keep], keep


def _take_arrow(cells: dict[Role, pyarrow.Array], line: int, rows: Rows) -> None:
    """Take a batch of rows, the first of which has this number."""
    import pyarrow
    from pyarrow import compute

    n = len(cells[Role.SOURCE])
    lines = np.arange(line, line + n)
    keep = np.ones(n, np.bool_)
    texts = {}
    for role, cell in cells.items():
        if role == Role.WEIGHT:
            continue
        text = compute.cast(cell, pyarrow.large_string())
        empty = compute.fill_null(compute.equal(compute.utf8_trim_whitespace(text), ""), True)
        full = ~empty.to_numpy(zero_copy_only=False)
        what = "an end of the edge is empty" if role in (Role.SOURCE, Role.TARGET) else "a type is empty"
        for k in np.flatnonzero(keep & ~full).tolist():
            rows.edges.reject(what, int(lines[k]))
        keep &= full
        texts[role] = compute.utf8_trim_whitespace(text)
    weights, keep = _arrow_weights(cells, lines, keep, rows.edges)
    chosen = pyarrow.array(keep)
    pieces: list[bytes | memoryview] = []
    spans: dict[Role, Spans] = {}
    at = 0
    for role, text in texts.items():
        text = text if keep.all() else text.filter(chosen)
        offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
        data = text.buffers()[2]
        first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
        pieces.append(b"" if data is None else memoryview(data)[first:last])
        spans[role] = np.stack((offsets[:-1] - first + at, np.diff(offsets)))
        at += last - first
    rows.take(b"".join(pieces), spans, weights, lines[keep])


def is_url(given: str) -> bool:
    """Whether this names a database and not a file."""
    return "://" in given


def address(given: str, query: str | None) -> str:
    """The database and the question as they may be shown and stored: no user, no password, no options."""
    from sqlalchemy import URL

    url = _url(given)
    shown = URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()
    if url.get_backend_name() == "sqlite" and url.database:
        shown = f"sqlite:///{Path(url.database).absolute()}"
    asked = " ".join((query or "").split())
    if len(asked) > _SHOWN:  # it stands beside every node
        asked = f"{asked[:_SHOWN]}… {hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()}"
    return f"{shown} {asked}"


def _url(given: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(given)
    except (ArgumentError, ValueError):
        raise SourceError(
            "the database's address cannot be read; write it as dialect://user:password@host/name"
        ) from None


def read_sql(given: str, form: EdgeFormat, edges: Edges) -> None:
    """Take the rows that a query gives, an edge each; they come as a stream, and nothing is written.

    Raises:
        SourceError: the database cannot be reached, or the query is none or fails.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    url = _url(given)
    if not form.query:
        raise SourceError('a database needs a question; give --query "select a, b from edges"')
    _only_asks(form.query, url)
    rows, line = Rows(edges, form), 1
    try:
        with _connected(url) as connection:
            result = connection.execution_options(stream_results=True, yield_per=1 << 16).execute(
                text(form.query.replace(":", r"\:"))
            )
            header, roles = list(result.keys()), None
            for some in result.partitions():
                columns: list[Sequence[Any]] = list(zip(*some, strict=True))
                if roles is None:
                    if len(header) < 2:
                        raise SourceError("the query gives one column; an edge has two ends", edges.file)
                    kinds = ["" if each is None else str(each) for each in some[0]]
                    roles, _ = columns_of(header, kinds, form, edges.file, None)
                _take_cells({role: columns[column] for role, column in roles.items()}, line, rows)
                line += len(some)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        if url.password:
            reason = reason.replace(str(url.password), "***")
        raise SourceError(f"cannot be asked ({reason}); check address and query", edges.file) from None
    rows.check_types()


def _take_cells(cells: dict[Role, Sequence[Any]], line: int, rows: Rows) -> None:
    """Take rows of cells of any kind; a cell is its text, so that 1 and '1' are one node."""
    n = len(cells[Role.SOURCE])
    lines, keep = np.arange(line, line + n), np.ones(n, np.bool_)
    weights: NDArray[np.float64] | None = None
    texts: dict[Role, list[bytes]] = {}
    for role, column in cells.items():
        if role == Role.WEIGHT:
            weights = np.fromiter(map(_float, column), np.float64, n)
            for k in np.flatnonzero(~usable(weights)).tolist():
                rows.edges.reject(
                    f"the weight {str(column[k])[:40]!r} is not a positive number", int(lines[k])
                )
            good = usable(weights)
        else:
            texts[role] = [
                b"" if each is None else str(each).strip().encode(errors="replace") for each in column
            ]
            good = np.fromiter((bool(each) and b"\0" not in each for each in texts[role]), np.bool_, n)
            what = "an end of the edge is empty" if role in (Role.SOURCE, Role.TARGET) else "a type is empty"
            for k in np.flatnonzero(~good).tolist():
                rows.edges.reject(what if not texts[role][k] else "a cell holds a NUL", int(lines[k]))
        keep &= good
    if not keep.all():
        places = np.flatnonzero(keep).tolist()
        texts = {role: [column[k] for k in places] for role, column in texts.items()}
        weights = None if weights is None else weights[keep]
    rows.take_columns(texts, weights, lines[keep])


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _only_asks(query: str, url: URL) -> None:
    """Raises SourceError for anything but one question that changes nothing."""
    import sqlglot
    from sqlglot import expressions as exp
    from sqlglot.errors import SqlglotError

    refusal = SourceError("the query is not a single select; write one that only reads")
    if not _ASKING.match(query):  # sqlglot would tell of others on stderr
        raise refusal
    backend = url.get_backend_name()
    dialect = sqlglot.Dialect.get(_DIALECTS.get(backend, backend))
    try:
        found = [each for each in sqlglot.parse(query, read=dialect) if each is not None]
    except (SqlglotError, ValueError) as error:
        reason = " ".join(_COLOUR.sub("", str(error)).split())[:150]
        raise SourceError(f"the query cannot be read ({reason}); write one select") from None
    writes = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into, exp.Create, exp.Drop, exp.Command)
    if len(found) != 1 or not isinstance(found[0], exp.Query) or found[0].find(*writes):
        raise refusal


@contextmanager
def _connected(url: URL) -> Iterator[Connection]:
    """A connection on which nothing is written, whose transaction is taken back in the end."""
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import NoSuchModuleError

    backend = url.get_backend_name()
    if backend == "sqlite":
        path = Path(url.database or "")
        if not path.is_file():
            raise SourceError("there is no such file; check the path", url.database or "sqlite")
        url = url.set(database=f"{path.absolute().as_uri()}", query={"mode": "ro", "uri": "true"})
    try:
        engine = create_engine(url, poolclass=NullPool)
    except ImportError as error:
        package = _DRIVERS.get(str(error.name), str(error.name))
        raise SourceError(
            f"asking {backend} needs its driver; install it with: pip install {package}"
        ) from error
    except NoSuchModuleError as error:
        raise SourceError(
            f"there is no kind of database named '{backend}'; use one of SQLAlchemy's"
        ) from error
    with engine.connect() as connection:
        if backend == "postgresql":
            connection.execution_options(postgresql_readonly=True)
        try:
            yield connection
        finally:
            connection.rollback()
