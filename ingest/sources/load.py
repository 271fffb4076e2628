"""Which source reads the texts in what the user named: files, folders, archives, standard input."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ingest.sources.archives import members
from ingest.sources.columnar import Parquet
from ingest.sources.columns import listed, template
from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.delimited import Csv
from ingest.sources.formats import DOCUMENTS, NAMES, Format, Kind, kind_of
from ingest.sources.inputs import Input, input_of, kept_open, laid_down, shown
from ingest.sources.objects import JsonDocument, JsonLines
from ingest.sources.tables import Table, Wanted
from ingest.sources.texts import absolute, files_below, read_path, read_text
from search.errors import MissingExtra, SourceError

STDIN = Path("-")
_STDIN_NAME = "stdin"
_LOOKED_AT = 2**16  # bytes of standard input by which its format is told

TABLES: dict[Format, type[Table]] = {
    Format.LINES: JsonLines,
    Format.JSON: JsonDocument,
    Format.CSV: Csv,
    Format.TSV: Csv,
    Format.PARQUET: Parquet,
}


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How the inputs are to be read where they do not say so themselves.

    Args:
        format: the format of standard input, or of files whose names do not tell it: a suffix such as `csv` or
            `jsonl.gz`. None goes by the name of a file, and by the beginning of standard input.
        rows: the path to the array of records in .json files; None finds it where there is but one.
    """

    format: str | None = None
    rows: str | None = None


BY_NAME = TextFormat()


def text_source(
    paths: Sequence[Path],
    *,
    text: str | None = None,
    id: str | None = None,
    form: TextFormat = BY_NAME,
    may_be_empty: Container[str] = (),
) -> Source:
    """The records of documents, tables of texts, archives of either, and folders of all of them.

    Args:
        paths: files and folders, read with all that is below; `-` is standard input.
        text: the column of a table that holds the text, a path into nested objects (`author.name`) or a template
            (`{title}. {abstract}`); None finds it by its name.
        id: likewise the id; None finds it by its name, or takes the place in the file.
        form: the format where the names do not tell it.
        may_be_empty: absolute paths of folders in which nothing need be left.

    Raises:
        SourceError: a path does not exist, is of another kind or holds nothing of these kinds, or the columns
            of a table that was named cannot be told.
        MissingExtra: a file that was named needs a package that is not installed.
    """
    if not paths:
        raise SourceError("nothing to read; name a file or a folder")
    for named in (text, id):
        if named is not None:
            template(named)  # a template with a fault is told before anything is read
    wanted = Wanted(text, id, form.rows)
    given = None if form.format is None else _named_kind(form.format)
    sources: dict[Path, Source] = {}
    kinds: set[Format | None] = set()
    for path in map(Path, paths):
        if path == STDIN:
            if path not in sources:
                piped = _Given(wanted, given)
                sources[path] = piped
                kinds.add(piped.kind.format)
            continue
        root = absolute(path)
        if root.is_dir():
            kinds.add(None)
            if given is not None:
                raise SourceError(
                    "a folder's files tell their formats by their names; leave out --format", shown(path)
                )
            if str(root) not in may_be_empty and next(files_below(root, _is_readable), None) is None:
                raise SourceError(f"no {listed(NAMES)} file in this folder; name another", shown(path))
            sources.setdefault(root, _Folder(root, wanted))
            continue
        kind = given or kind_of(path.name)
        if kind is None:
            suffix = path.suffix.casefold()
            raise SourceError(
                f"cannot read {suffix or 'such'} files as text; use {listed(NAMES)}, or say with --format what it is",
                shown(path),
            )
        kinds.add(kind.format)
        sources.setdefault(root, _of(input_of(root, root, kind), wanted, None))
    _refuse_unused(kinds, wanted)
    return next(iter(sources.values())) if len(sources) == 1 else _Chain(tuple(sources.values()))


def _refuse_unused(kinds: set[Format | None], wanted: Wanted) -> None:
    """Options that none of the inputs can follow are a mistake. None and archives may hold anything."""
    if None in kinds or kinds & {Format.ZIP, Format.TAR}:
        return
    if wanted.rows is not None and Format.JSON not in kinds:
        raise SourceError("--rows is for .json files, and none was named; leave it out")
    if kinds <= DOCUMENTS and (wanted.text is not None or wanted.id is not None):
        raise SourceError("--text and --id are for tables, and none was named; leave them out")


def _named_kind(format: str) -> Kind:
    kind = kind_of(f"x.{format.removeprefix('.')}")
    if kind is None:
        known = [name.removeprefix(".") for name in NAMES]
        raise SourceError(f"--format {format} is none of ours; use {listed(known)}")
    return kind


def _is_readable(name: str) -> bool:
    return kind_of(name) is not None


def _of(input: Input, wanted: Wanted, folder: Path | None) -> Source:
    """The source of a file that was named itself; raises where there is none."""
    input.kind.require()
    if input.kind.is_archive:
        return _Archive(input, wanted)
    if input.kind.is_table:
        return TABLES[input.kind.format](input, wanted)
    return _Document(input)


def _records(input: Input, wanted: Wanted) -> Iterator[Item | Rejected]:
    """What one of many inputs holds; a fault of it ends nothing."""
    if input.kind.is_archive:
        yield from _Archive(input, wanted)
    elif not input.kind.is_table:
        yield read_text(input)
    else:
        try:
            input.kind.require()
            table = TABLES[input.kind.format](input, wanted)
        except SourceError as error:
            yield Rejected(file=shown(input.file), reason=str(error).removeprefix(f"{error.file}: "))
        except MissingExtra as error:
            yield Rejected(file=shown(input.file), reason=str(error))
        else:
            yield from table


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


class _Document(Source):
    """One document."""

    def __init__(self, input: Input) -> None:
        self._input = input

    @property
    def origins(self) -> tuple[str, ...]:
        return (self._input.origin,)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Item | Rejected]:
        yield read_text(self._input)


class _Archive(Source):
    """The documents and tables of a zip or tar archive, in its own order."""

    def __init__(self, input: Input, wanted: Wanted) -> None:
        self._input, self._wanted = input, wanted

    @property
    def origins(self) -> tuple[str, ...]:
        return (self._input.origin,)

    def __iter__(self) -> Iterator[Item | Rejected]:
        try:
            self._input.kind.require()
        except MissingExtra as error:
            yield Rejected(file=shown(self._input.file), reason=str(error))
            return
        for member in members(self._input):
            if isinstance(member, Rejected):
                yield member
            else:
                yield from _records(member, self._wanted)


class _Folder(Source):
    """The documents, tables and archives of a folder, in the order of their paths."""

    def __init__(self, root: Path, wanted: Wanted) -> None:
        self._root, self._wanted = root, wanted

    @property
    def origins(self) -> tuple[str, ...]:
        return (str(self._root),)

    def __len__(self) -> int:
        n_files = 0
        for path in files_below(self._root, _is_readable):
            kind = kind_of(path.name)
            if kind is not None and kind.format not in DOCUMENTS:
                return 0
            n_files += 1
        return n_files

    def __iter__(self) -> Iterator[Item | Rejected]:
        for path in files_below(self._root, _is_readable):
            kind = kind_of(path.name)
            if kind is None or path.is_dir():
                yield read_path(path, self._root)
            else:
                yield from _records(input_of(path, self._root, kind), self._wanted)


class _Given(Source):
    """Standard input: read once, and kept in memory or in a nameless file."""

    def __init__(self, wanted: Wanted, kind: Kind | None) -> None:
        self._file = laid_down(sys.stdin.buffer)
        weakref.finalize(self, self._file.close)
        begin = self._file.read(_LOOKED_AT)
        self.kind = kind or _told(begin)
        input = Input(_STDIN_NAME, _STDIN_NAME, _STDIN_NAME, None, self.kind, self._opened)
        self._source = _of(input, wanted, None)

    def _opened(self) -> IO[bytes]:
        return kept_open(self._file)

    @property
    def origins(self) -> tuple[str, ...]:
        """None: what is not in it today is not gone."""
        return ()

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Item | Rejected]:
        yield from self._source


def _told(begin: bytes) -> Kind:
    """The format of standard input by how it begins: JSON lines, a JSON document, or else one text."""
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        first, end, _ = text.partition(b"\n")
        whole = first.rstrip().endswith(b"}") or not end
        return Kind(Format.LINES if whole else Format.JSON)
    return Kind(Format.JSON if text.startswith(b"[") and text[1:].lstrip().startswith(b"{") else Format.TEXT)
