"""Tables of texts as records, a record a row: what all their formats have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.sources.columns import (
    NoText,
    Template,
    as_id,
    find,
    first_of,
    has,
    listed,
    names_of,
    paths_of,
    template,
    without,
)
from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.dates import moment
from ingest.sources.inputs import Input, shown, why
from ingest.sources.texts import digest
from ingest.sources.unpacking import UnpackingError
from search.errors import SourceError
from search.types import Json, Record

TEXT_NAMES = ("text", "content", "body", "description", "abstract", "title", "sentence", "question")
ID_NAMES = ("id", "_id", "key", "sku")
URI_NAMES = ("uri", "url")

# A column that the user names must be in one of this many first records, or the name is taken for a mistake.
PEEK = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says of tables.

    `text` and `id` name a column, a path into nested objects (`author.name`) or a template (`{title}. {body}`);
    None finds them by their usual names. `rows` is the path to the array of records in a JSON document. `names` are
    the usual ones of the text, and `called` is what it is called, where it is no text but the path of a picture.
    """

    text: str | None = None
    id: str | None = None
    rows: str | None = None
    names: tuple[str, ...] = TEXT_NAMES
    called: str = "text"


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it stands in the file: the line or row it begins in, its cells, and how it was decoded.

    `guessed`: nothing but its bytes said in which encoding it is.
    """

    line: int
    cells: Mapping[str, Any]
    encoding: str | None = None
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column holds what; `id` None: the place in the file is the id."""

    text: str
    id: str | None
    uri: str | None
    text_template: Template | None = None
    id_template: Template | None = None

    @property
    def taken(self) -> tuple[str | None, ...]:
        """The columns that are not metadata. Those of a template are both."""
        return (
            None if self.text_template else self.text,
            None if self.id_template else self.id,
        )


class Table(Source):
    """From rows to records."""

    def __init__(self, input: Input, wanted: Wanted) -> None:
        """Raises SourceError where the columns cannot be told, or the file cannot be read."""
        self._input = input
        self._wanted = wanted
        self._columns: _Columns | None = None
        try:
            self._peek()
        except UnpackingError:
            pass  # told where the rows are read, which keeps those before the damage
        except OSError as error:
            raise SourceError(f"{why(error)}; check the file", input.file) from error

    @property
    def origins(self) -> tuple[str, ...]:
        """What was given: the file, or the folder or archive that it is in."""
        return (self._input.origin,)

    def __iter__(self) -> Iterator[Item | Rejected]:
        """A record for each row, in their order."""
        empty = True
        try:
            for row in self._rows():
                empty = False
                yield row if isinstance(row, Rejected) else self._item(row)
            if empty and self._is_void():
                yield self.rejected("empty file")
        except OSError as error:
            yield self.rejected(why(error))

    def _is_void(self) -> bool:
        with self._input.open() as file:
            return not file.read(1)

    @abstractmethod
    def _rows(self) -> Iterator[Row | Rejected]:
        """The rows of the file; what cannot be read as a rejection."""

    @abstractmethod
    def _metadata(self, cells: Mapping[str, Any]) -> dict[str, Json]:
        """Cells as metadata."""

    def rejected(self, reason: str, line: int | None = None, id: str | None = None) -> Rejected:
        """A rejection of this file, or of one of its rows."""
        return Rejected(file=shown(self._input.file), reason=reason, line=line, id=id)

    def _peek(self) -> None:
        """Choose the columns by the first row that has a text, and look on for those that the user named."""
        wanted = {self._wanted.called: paths_of(self._wanted.text), "id": paths_of(self._wanted.id)}
        missing = {path for paths in wanted.values() for path in paths}
        seen: dict[str, None] = {}
        first: Row | None = None
        telling: Row | None = None  # one bad row at the beginning decides nothing for those after it
        rows = self._rows()
        for read, row in enumerate(rows, start=1):
            if isinstance(row, Row):
                first = first or row
                if telling is None and self._tells_text(row):
                    telling = row
                seen |= dict.fromkeys(names_of(row.cells))
                missing = {path for path in missing if not has(row.cells, path)}
            if (telling and not missing) or read == PEEK:
                break
        if first is None:
            return
        for what, paths in wanted.items():
            for path in paths:
                if path in missing:
                    raise SourceError(
                        f"no column {path!r} for the {what}; there are: {listed(seen)}", self._input.file
                    )
        self._columns = self._choose(telling or first)

    def _tells_text(self, row: Row) -> bool:
        """Whether this row has the text that the user named, or one under a usual name."""
        if self._wanted.text is not None:
            return True
        return (
            first_of(_strings(row, self._wanted.id or first_of(row.cells, ID_NAMES)), self._wanted.names)
            is not None
        )

    def _choose(self, row: Row) -> _Columns:
        """The columns that the user named, else those that this row has under a usual name."""
        id = self._wanted.id or first_of(row.cells, ID_NAMES)
        uri = next((name for each in URI_NAMES if (name := first_of(row.cells, (each,)))), None)
        text = self._wanted.text or first_of(_strings(row, id), self._wanted.names)
        if text is None:
            kept = self._metadata(without(row.cells, (id, uri)))
            words = [name for name, value in kept.items() if isinstance(value, str)]
            if len(words) != 1:
                raise SourceError(
                    f"cannot tell which column is the {self._wanted.called}; name it with --{self._wanted.called}: "
                    f"{listed(names_of(row.cells))}",
                    self._input.file,
                )
            text = words[0]
        id_template = None if id is None or self._wanted.id is None else template(id)
        text_template = template(text) if self._wanted.text is not None else None
        return _Columns(text, id, uri if uri not in (text, id) else None, text_template, id_template)

    def _item(self, row: Row) -> Item | Rejected:
        if self._columns is None:
            try:
                self._columns = self._choose(row)
            except SourceError as error:
                return self.rejected(str(error).removeprefix(f"{error.file}: "), row.line)
        columns = self._columns
        id, reason = self._id(row, columns)
        if not id:
            return self.rejected(reason, row.line)
        text, reason = _text(row, columns, self._wanted.called)
        if not text:
            return self.rejected(reason, row.line, shown(id))
        uri = find(row.cells, columns.uri) if columns.uri else None
        uri = uri if isinstance(uri, str) and uri else None
        metadata = self._metadata(without(row.cells, (*columns.taken, columns.uri if uri else None)))
        if row.guessed:
            metadata.setdefault("encoding", row.encoding)
        kind = metadata.get("kind")  # kept there too: a filter on `kind` asks the record's own
        kind = kind if isinstance(kind, str) and kind else "text"
        record = Record(id=id, kind=kind, uri=uri, text=text, metadata=metadata)
        try:
            id.encode()
            # Of the cells as they are written: a date that is read in another way one day is no other input.
            hashed = digest(record)
        except UnicodeEncodeError:
            return self.rejected("half of a surrogate pair, which is no Unicode text", row.line, shown(id))
        except (ValueError, RecursionError):
            return self.rejected("a number too large or lists too deep to keep", row.line, shown(id))
        record = Record(id=id, kind=kind, uri=uri, text=text, metadata=dated(metadata))
        return Item(
            record=record,
            origin=self._input.origin,
            digest=hashed,
            file=shown(self._input.file),
            line=row.line,
            encoding=row.encoding,
        )

    def _id(self, row: Row, columns: _Columns) -> tuple[str | None, str]:
        """The row's id, or None and why it has none."""
        if columns.id is None:
            return f"{self._input.name}:{row.line}", ""
        if columns.id_template is not None:
            try:
                missing = [path for path in columns.id_template.paths if find(row.cells, path) in (None, "")]
                if missing:  # half of an id would be another record's
                    return None, f"no {missing[0]!r} for the id"
                return columns.id_template.fill(row.cells), f"no id in {columns.id!r}"
            except NoText as error:
                return None, str(error)
        cell = find(row.cells, columns.id)
        if cell in (None, ""):
            return None, f"no id in {columns.id!r}"
        return as_id(cell), f"the id in {columns.id!r} is neither a string nor a whole number"


def _strings(row: Row, id: str | None) -> dict[str, Any]:
    """The cells of a row that are strings, without its id."""
    return {name: cell for name, cell in row.cells.items() if isinstance(cell, str) and name != id}


def _text(row: Row, columns: _Columns, called: str) -> tuple[str | None, str]:
    """The row's text, or None and why it has none."""
    if columns.text_template is not None:
        try:
            text = columns.text_template.fill(row.cells)
        except NoText as error:
            return None, str(error)
        return text or None, f"no {called} in {columns.text!r}: all of its columns are empty"
    cell = find(row.cells, columns.text)
    if isinstance(cell, str) and cell.strip():
        return cell, ""
    blank = cell is None or isinstance(cell, str)
    return (
        None,
        f"no {called} in {columns.text!r}" if blank else f"the {called} in {columns.text!r} is not a string",
    )


def dated(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """The metadata with each string that is a date, and can be read in one way only, as ISO 8601."""
    return {name: _dated(value) for name, value in metadata.items()}


def _dated(value: Json) -> Json:
    if isinstance(value, str):
        return moment(value) or value
    if isinstance(value, list):
        return [_dated(each) for each in value]
    return dated(value) if isinstance(value, dict) else value
