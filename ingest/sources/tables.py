"""Tables of texts as records: JSON Lines and delimited files, a record per line or row."""

from __future__ import annotations

import csv
import json
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.lines import MOST_BYTES, Feed, read_lines
from ingest.sources.texts import (
    SUFFIXES,
    TextFolder,
    absolute,
    digest,
    files_below,
    name_below,
    read_text,
    shown,
    why,
)
from search.errors import SourceError
from search.types import Json, Record

LINE_SUFFIXES = (".jsonl", ".ndjson")
ROW_SUFFIXES = (".csv", ".tsv")
ALL_SUFFIXES = (*SUFFIXES, *LINE_SUFFIXES, *ROW_SUFFIXES)

TEXT_NAMES = ("text", "content", "body", "description", "abstract", "title", "sentence", "question")
ID_NAMES = ("id", "_id", "key", "sku")
URI_NAMES = ("uri", "url")

# A column that the user names must be in one of this many first records, or the name is taken for a mistake.
PEEK = 1_000

_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_FRACTION = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?")


def text_source(paths: Sequence[Path], *, text: str | None = None, id: str | None = None) -> Source:
    """The records of text files, tables of texts, and folders of either.

    Args:
        paths: .txt, .md, .jsonl, .ndjson, .csv and .tsv files, and folders, read with all that is below.
        text: the column of a table that holds the text; None finds it by its name.
        id: the column of a table that holds the id; None finds it by its name, or takes the place in the file.

    Raises:
        SourceError: a path does not exist, is of another kind or holds nothing of these kinds, or the columns
            of a table that was named cannot be told.
    """
    if not paths:
        raise SourceError("nothing to read; name a file or a folder")
    sources: dict[Path, Source] = {}
    for path in map(Path, paths):
        root = absolute(path)
        if root.is_dir():
            if next(files_below(root, ALL_SUFFIXES), None) is None:
                raise SourceError(
                    f"no {_listed(ALL_SUFFIXES)} file in this folder; name another", shown(path)
                )
            sources.setdefault(root, _Folder(root, text, id))
        elif path.suffix.casefold() in SUFFIXES:
            sources.setdefault(root, TextFolder([root]))
        else:
            sources.setdefault(root, _table(root, text, id))
    return next(iter(sources.values())) if len(sources) == 1 else _Chain(tuple(sources.values()))


class _Chain(Source):
    """Several sources, one after the other."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(origin for source in self._sources for origin in source.origins)

    def __len__(self) -> int:
        sizes = [len(source) for source in self._sources]
        return sum(sizes) if all(sizes) else 0

    def __iter__(self) -> Iterator[Item | Rejected]:
        for source in self._sources:
            yield from source


class _Folder(Source):
    """The texts and tables of a folder, in the order of their paths."""

    def __init__(self, root: Path, text: str | None, id: str | None) -> None:
        self._root, self._text, self._id = root, text, id

    @property
    def origins(self) -> tuple[str, ...]:
        return (str(self._root),)

    def __len__(self) -> int:
        with_tables = next(files_below(self._root, (*LINE_SUFFIXES, *ROW_SUFFIXES)), None) is not None
        return 0 if with_tables else sum(1 for _ in files_below(self._root, SUFFIXES))

    def __iter__(self) -> Iterator[Item | Rejected]:
        for path in files_below(self._root, ALL_SUFFIXES):
            if path.suffix.casefold() in SUFFIXES or path.is_dir():
                yield read_text(path, self._root)
                continue
            try:
                table = _table(path, self._text, self._id, self._root)
            except SourceError as error:  # one odd table among many files ends nothing
                yield Rejected(file=shown(path), reason=str(error).removeprefix(f"{error.file}: "))
                continue
            yield from table


def _table(path: Path, text: str | None, id: str | None, root: Path | None = None) -> Source:
    suffix = path.suffix.casefold()
    if suffix in LINE_SUFFIXES:
        return JsonLines(path, text=text, id=id, root=root)
    if suffix in ROW_SUFFIXES:
        return Csv(path, text=text, id=id, root=root)
    raise SourceError(
        f"cannot read {suffix or 'such'} files as text; use {_listed(ALL_SUFFIXES)}", shown(path)
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """One record as it stands in the file, which line it begins in, and its encoding where it was guessed."""

    line: int
    cells: Mapping[str, Any]
    guessed: str | None = None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column holds what; `id` None: the place in the file is the id."""

    text: str
    id: str | None
    uri: str | None


class _Table(Source):
    """What JSON Lines and delimited files have in common: from rows to records."""

    def __init__(
        self, path: Path, *, text: str | None = None, id: str | None = None, root: Path | None = None
    ) -> None:
        """A table whose text and id stand in the columns of these names; None finds them.

        `root` is the folder that the file was found in, where a folder was given.

        Raises:
            SourceError: no such file, or the columns cannot be told.
        """
        self._path = absolute(Path(path)) if root is None else path
        if self._path.is_dir():
            raise SourceError("is a folder; name a file", shown(path))
        self._root = root or self._path
        self._name = name_below(self._path, self._root)
        self._text, self._id = text, id
        self._columns: _Columns | None = None
        try:
            self._peek()
        except OSError as error:
            raise SourceError(f"{why(error)}; check the file", shown(path)) from error

    @property
    def origins(self) -> tuple[str, ...]:
        """The file, or the folder that it was found in."""
        return (str(self._root),)

    def __iter__(self) -> Iterator[Item | Rejected]:
        """A record for each line or row, in their order."""
        try:
            if self._path.stat().st_size == 0:
                yield self._rejected("empty file")
                return
            for row in self._rows():
                yield row if isinstance(row, Rejected) else self._item(row)
        except OSError as error:
            yield self._rejected(why(error))

    @abstractmethod
    def _rows(self) -> Iterator[_Row | Rejected]:
        """The rows of the file; what cannot be read as a rejection."""

    @abstractmethod
    def _metadata(self, cells: Mapping[str, Any], taken: Collection[str | None]) -> dict[str, Json]:
        """All cells but those of the columns `taken`, as metadata."""

    def _rejected(self, reason: str, line: int | None = None, id: str | None = None) -> Rejected:
        return Rejected(file=shown(self._path), reason=reason, line=line, id=id)

    def _peek(self) -> None:
        """Choose the columns by the first row; look on only for those that the user named."""
        wanted = {name for name in (self._text, self._id) if name is not None}
        seen: dict[str, None] = {}
        first: _Row | None = None
        for read, row in enumerate(self._rows(), start=1):
            if isinstance(row, _Row):
                first = first or row
                seen |= dict.fromkeys(row.cells)
            if (first and wanted <= seen.keys()) or read == PEEK:
                break
        if first is None:
            return
        for what, name in (("text", self._text), ("id", self._id)):
            if name is not None and name not in seen:
                raise SourceError(
                    f"no column {name!r} for the {what}; there are: {_listed(seen)}", shown(self._path)
                )
        self._columns = self._choose(first)

    def _choose(self, row: _Row) -> _Columns:
        """The columns that the user named, else those that this row has under a usual name."""
        id = self._id or _first(row.cells, ID_NAMES)
        uri = next((name for each in URI_NAMES if (name := _first(row.cells, (each,)))), None)
        strings = {name: cell for name, cell in row.cells.items() if isinstance(cell, str) and name != id}
        text = self._text or _first(strings, TEXT_NAMES)
        if text is None:
            kept = self._metadata(row.cells, (id, uri))
            words = [name for name, value in kept.items() if isinstance(value, str)]
            if len(words) != 1:
                raise SourceError(
                    f"cannot tell which column is the text; name it with --text: {_listed(row.cells)}",
                    shown(self._path),
                )
            text = words[0]
        return _Columns(text, id, uri if uri not in (text, id) else None)

    def _item(self, row: _Row) -> Item | Rejected:
        if self._columns is None:
            try:
                self._columns = self._choose(row)
            except SourceError as error:
                return self._rejected(str(error).removeprefix(f"{error.file}: "), row.line)
        columns = self._columns
        id = f"{self._name}:{row.line}" if columns.id is None else _as_id(row.cells.get(columns.id))
        if not id:
            reason = (
                f"no id in {columns.id!r}"
                if row.cells.get(str(columns.id)) in (None, "")
                else (f"the id in {columns.id!r} is neither a string nor a whole number")
            )
            return self._rejected(reason, row.line)
        text = row.cells.get(columns.text)
        if not isinstance(text, str) or not text.strip():
            blank = text is None or isinstance(text, str)
            reason = (
                f"no text in {columns.text!r}" if blank else f"the text in {columns.text!r} is not a string"
            )
            return self._rejected(reason, row.line, shown(id))
        uri = row.cells.get(columns.uri) if columns.uri else None
        uri = uri if isinstance(uri, str) and uri else None
        metadata = self._metadata(row.cells, (columns.text, columns.id, columns.uri if uri else None))
        if row.guessed:
            metadata.setdefault("encoding", row.guessed)
        kind = metadata.get("kind")  # kept there too: a filter on `kind` asks the record's own
        kind = kind if isinstance(kind, str) and kind else "text"
        record = Record(id=id, kind=kind, uri=uri, text=text, metadata=metadata)
        try:
            id.encode()
            return Item(
                record=record,
                origin=str(self._root),
                digest=digest(record),
                file=shown(self._path),
                line=row.line,
            )
        except UnicodeEncodeError:
            return self._rejected("half of a surrogate pair, which is no Unicode text", row.line, shown(id))
        except (ValueError, RecursionError):
            return self._rejected("a number too large or lists too deep to keep", row.line, shown(id))


class JsonLines(_Table):
    """A record per line, each a JSON object; every field but text, id and uri becomes metadata as it is."""

    def _rows(self) -> Iterator[_Row | Rejected]:
        for line in read_lines(self._path):
            if line.fault:
                yield self._rejected(line.fault, line.number)
            elif line.text.strip():
                try:
                    cells = json.loads(line.text, parse_constant=_refuse)
                except _NotANumberError as error:
                    yield self._rejected(f"{error} is not JSON", line.number)
                except (ValueError, RecursionError) as error:
                    reason = getattr(error, "msg", "it is nested too deeply or has a number too long")
                    yield self._rejected(f"not JSON: {str(reason)[:1].lower()}{str(reason)[1:]}", line.number)
                else:
                    if isinstance(cells, dict):
                        yield _Row(line.number, cells, line.guessed)
                    else:
                        yield self._rejected("not a JSON object", line.number)

    def _metadata(self, cells: Mapping[str, Any], taken: Collection[str | None]) -> dict[str, Json]:
        return {name: cell for name, cell in cells.items() if name not in taken}


class Csv(_Table):
    """A record per row below a header; .csv by commas (or what else its header is split by), .tsv by tabs.

    In metadata, whole numbers, decimals, true and false become such; what begins with 0 like a postal code,
    NaN and infinities stay strings; an empty cell is left out. The text and the id stay as they are written.
    """

    def _rows(self) -> Iterator[_Row | Rejected]:
        csv.field_size_limit(max(csv.field_size_limit(), MOST_BYTES))
        feed = Feed(read_lines(self._path))
        reader = csv.reader(feed, delimiter=self._delimiter(), strict=True)
        header: list[str] = []
        done = False
        while not done:
            feed.first, feed.guessed = 0, None
            fault, cells = None, []
            try:
                cells = next(reader)
            except StopIteration:
                done = True
            except csv.Error as error:
                upto = f" (up to line {feed.last})" if feed.last > feed.first else ""
                fault = f"not a row: {error}{upto}"
            yield from (self._rejected(str(line.fault), line.number) for line in feed.drain())
            if fault is None and cells and not header:
                header = _unique(cells)
                continue
            if fault is None and cells and len(cells) != len(header):
                fault = f"{len(cells)} cells where the header has {len(header)}"
            if fault is not None:
                yield self._rejected(fault, feed.first)
            elif cells:
                yield _Row(feed.first, dict(zip(header, cells, strict=True)), feed.guessed)

    def _delimiter(self) -> str:
        if self._path.suffix.casefold() == ".tsv":
            return "\t"
        header = next((line.text for line in read_lines(self._path) if line.text.strip()), "")
        if "," in header:
            return ","
        splitting = [delimiter for delimiter in ";\t|" if delimiter in header]
        return splitting[0] if len(splitting) == 1 else ","

    def _metadata(self, cells: Mapping[str, Any], taken: Collection[str | None]) -> dict[str, Json]:
        return {name: _typed(cell) for name, cell in cells.items() if cell != "" and name not in taken}


class _NotANumberError(ValueError):
    """NaN or an infinity, which Python's reader of JSON would let pass."""


def _refuse(constant: str) -> Never:
    raise _NotANumberError(constant)


def _typed(cell: str) -> Json:
    bare = cell.strip()
    if _WHOLE.fullmatch(bare):
        return int(bare)
    if _FRACTION.fullmatch(bare):
        return float(bare)
    return {"true": True, "false": False}.get(bare.casefold(), cell)


def _unique(header: Sequence[str]) -> list[str]:
    """Names for all columns: what has none is called by its place, what stands there twice gets a number."""
    names: list[str] = []
    for place, cell in enumerate(header, start=1):
        base = name = cell.strip() or f"column_{place}"
        count = 1
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    return names


def _first(cells: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of these names that is a column, however it is capitalised."""
    folded = {column.casefold(): column for column in reversed(list(cells))}
    return next((folded[name] for name in names if name in folded), None)


def _as_id(cell: object) -> str | None:
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    return cell if isinstance(cell, str) else None


def _listed(names: Collection[str]) -> str:
    """Names for a message: all of them, or the first twenty."""
    shortened = [name if len(name) <= 40 else f"{name[:39]}…" for name in list(names)[:20]]
    return ", ".join(shortened) + (", …" if len(names) > 20 else "")
