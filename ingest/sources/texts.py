"""Documents and folders of them as records: a file is a record."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.documents.contract import Unreadable
from ingest.sources.documents.load import read_document
from ingest.sources.formats import DOCUMENTS, Format, Kind, kind_of
from ingest.sources.inputs import Input, input_of, shown, why
from search.errors import MissingExtra, SourceError
from search.types import Json, Record


class TextFolder(Source):
    """A file per record: text files and documents, or folders of them with all that is below.

    A record's id is the path below the folder that was given, or the name of a file that was given itself;
    its uri is the absolute path. Hidden files and folders are left out, and so are links that lead in circles.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises SourceError where a path does not exist."""
        self._roots = [absolute(Path(path)) for path in paths]

    @property
    def origins(self) -> tuple[str, ...]:
        """The files and folders that were given."""
        return tuple(map(str, self._roots))

    def __len__(self) -> int:
        """How many documents there are."""
        return sum(1 for root in self._roots for _ in files_below(root, is_document))

    def __iter__(self) -> Iterator[Item | Rejected]:
        """A record for each file, in the order of their paths."""
        for root in self._roots:
            for path in files_below(root, is_document):
                yield read_path(path, root)


def is_document(name: str) -> bool:
    """Whether a file of this name is one record."""
    kind = kind_of(name)
    return kind is not None and kind.format in DOCUMENTS


def read_path(path: Path, root: Path) -> Item | Rejected:
    """The record of one file, or why there is none; `root` is the file or folder that was given."""
    kind = kind_of(path.name)
    if kind is None or path.is_dir():  # a folder that may not be read: opening it says why
        kind = Kind(Format.TEXT)
    return read_text(input_of(path, root, kind))


def read_text(input: Input) -> Item | Rejected:
    """The record of one document, or why there is none."""

    def rejected(reason: str) -> Rejected:
        return Rejected(file=shown(input.file), reason=reason, id=shown(input.name))

    try:
        document = read_document(input)
        size = input.size()
    except OSError as error:
        return rejected(why(error))
    except UnicodeDecodeError as error:
        return rejected(f"not the {error.encoding} that its first bytes say: {error.reason}")
    except (Unreadable, MissingExtra) as error:
        return rejected(str(error))
    metadata: dict[str, Json] = dict(document.metadata)
    if size is not None:
        metadata["bytes"] = size
    if "/" in input.name:
        metadata["folder"] = input.name.rpartition("/")[0]
    if document.guessed:
        metadata["encoding"] = document.encoding
    record = Record(id=input.name, kind="text", uri=input.uri, text=document.text, metadata=metadata)
    try:
        return Item(
            record=record,
            origin=input.origin,
            digest=digest(record),
            file=shown(input.file),
            markup=document.markup,
            encoding=document.encoding,
        )
    except UnicodeEncodeError:
        return rejected("the file's name is not valid UTF-8; rename it")


def digest(record: Record) -> bytes:
    """A hash of all of a record but its id, 16 bytes.

    Raises:
        UnicodeEncodeError: a string holds half a surrogate pair.
        ValueError: a number is infinite or not a number.
    """
    content = [record.kind, record.uri, record.text, record.metadata]
    data = json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(data.encode(), digest_size=16).digest()


def files_below(root: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """The files of wanted names in a folder and below, by name, folders among them; or the file itself."""
    if not root.is_dir():
        yield root
        return
    yield from _walk(root, wanted, ())


def _walk(folder: Path, wanted: Callable[[str], bool], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        stat = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder  # it may not be read: whoever opens it is told why, so that it is listed and not passed over
        return
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, wanted, (*above, here))
        elif wanted(entry.name) and (entry.is_file() or entry.is_symlink()):
            yield folder / entry.name


def absolute(path: Path) -> Path:
    """The absolute path of an input; a link to a file keeps its own name.

    Raises:
        SourceError: there is nothing at this path.
    """
    try:
        if path.is_dir():
            return path.resolve()
        if path.is_file():
            return path.parent.resolve() / path.name
    except OSError as error:
        raise SourceError(f"{why(error)}; name a file or a folder", shown(path)) from error
    raise SourceError("no such file or folder; check the path", shown(path))
