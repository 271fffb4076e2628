"""Text files and folders of them as records; tables that lie among them are read as tables."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.lines import MOST_BYTES, decode, mark_of
from search.errors import SourceError
from search.types import Json, Record

SUFFIXES = (".txt", ".md")


class TextFolder(Source):
    """A file per record: .txt and .md files, or folders of them with all that is below.

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
        """How many text files there are."""
        return sum(1 for root in self._roots for _ in files_below(root, SUFFIXES))

    def __iter__(self) -> Iterator[Item | Rejected]:
        """A record for each file, in the order of their paths."""
        for root in self._roots:
            for path in files_below(root, SUFFIXES):
                yield read_text(path, root)


def read_text(path: Path, root: Path) -> Item | Rejected:
    """The record of one text file, or why there is none; `root` is the file or folder that was given."""
    id = name_below(path, root)

    def rejected(reason: str) -> Rejected:
        return Rejected(file=shown(path), reason=reason, id=shown(id))

    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
            size = max(len(data), os.fstat(file.fileno()).st_size)
    except OSError as error:
        return rejected(why(error))
    if size > MOST_BYTES:
        return rejected(f"too large ({size / 2**20:,.0f} MiB; the most is {MOST_BYTES // 2**20}); split it")
    if not data:
        return rejected("empty file")
    if mark_of(data) is None and b"\0" in data:
        return rejected("not text: it has NUL bytes")
    try:
        text, fallback = decode(data)
    except UnicodeDecodeError as error:
        return rejected(f"not the {error.encoding} that its first bytes say: {error.reason}")
    if not text.strip():
        return rejected("nothing but white space")
    metadata: dict[str, Json] = {"bytes": len(data)}
    if "/" in id:
        metadata["folder"] = id.rpartition("/")[0]
    if fallback:
        metadata["encoding"] = fallback
    record = Record(id=id, kind="text", uri=str(path), text=text, metadata=metadata)
    try:
        markup = path.suffix.casefold() == ".md"
        return Item(record=record, origin=str(root), digest=digest(record), markup=markup)
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


def files_below(root: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """The files of these suffixes in a folder and below, by name, folders among them; or the file itself."""
    if not root.is_dir():
        yield root
        return
    yield from _walk(root, tuple(suffixes), ())


def _walk(folder: Path, suffixes: tuple[str, ...], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
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
            yield from _walk(folder / entry.name, suffixes, (*above, here))
        elif entry.name.casefold().endswith(suffixes) and (entry.is_file() or entry.is_symlink()):
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


def name_below(path: Path, root: Path) -> str:
    """The path below the folder that was given, with slashes; the name alone of a file given itself."""
    return path.name if path == root else path.relative_to(root).as_posix()


def why(error: OSError) -> str:
    """What the system says, in a few words."""
    return (error.strerror or type(error).__name__).lower()


def shown(path: Path | str) -> str:
    """A path or an id that can be printed and stored, even where it is no valid Unicode."""
    return str(path).encode("utf-8", "replace").decode("utf-8")
