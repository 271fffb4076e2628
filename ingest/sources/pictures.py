"""Pictures in files and folders, each a record of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.sources.contract import Item, Rejected, Source
from search.encoders.pictures import SUFFIXES, read_header
from search.errors import SourceError
from search.types import Json, Record


class PictureFolder(Source):
    """Picture files, named one by one or found in folders, in the order of their ids.

    A picture's id is its path below the folder given, with "/" between the names, or its file name where the
    file itself was given. Hidden files and folders are left out, and so are files that are no pictures by
    their suffix. Links are followed, but no folder is entered twice.

    Args:
        paths: files and folders.

    Raises:
        SourceError: a path is missing, or nowhere is there a picture.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._found: list[tuple[Path, str, Path]] = []  # (root, id, file)
        self._roots: list[Path] = []
        self._closed: list[Path] = []
        for given in paths:
            root = Path(given).expanduser().absolute()
            if not root.exists():
                raise SourceError("there is no such file or folder; check the path", file=str(given))
            self._roots.append(root)
            if root.is_dir():
                files = sorted(
                    (file.relative_to(root).as_posix(), file) for file in _pictures_below(root, self._closed)
                )
                self._found += [(root, id, file) for id, file in files]
            elif root.suffix.lower() in SUFFIXES:
                self._found.append((root, root.name, root))
            else:
                raise SourceError(f"is no picture by its suffix; supported: {_supported()}", file=str(given))
        if not self._found:
            named = ", ".join(str(path) for path in paths) or "an empty list of paths"
            raise SourceError(f"no pictures in {named}; supported: {_supported()}")

    def __iter__(self) -> Iterator[Item | Rejected]:
        for folder in self._closed:
            yield Rejected(str(folder), "the folder may not be read; change its permissions")
        for root, id, file in self._found:
            if not _is_text(str(file)):
                shown = str(file).encode("utf-8", "replace").decode()
                yield Rejected(shown, "its name is not UTF-8; rename it")
                continue
            try:
                header = read_header(file)
                digest = _digest(file)
            except SourceError as error:
                yield Rejected(str(file), _reason(error), id=id)
                continue
            except OSError as error:
                yield Rejected(str(file), f"cannot be read ({error.strerror})", id=id)
                continue
            metadata: dict[str, Json] = {
                "width": header.width,
                "height": header.height,
                "format": header.format,
                "bytes": header.size_bytes,
            }
            if "/" in id:
                metadata["folder"] = id.rpartition("/")[0]
            record = Record(id=id, kind="image", uri=str(file), metadata=metadata)
            yield Item(record=record, origin=str(root), digest=digest, picture=file)

    @property
    def origins(self) -> tuple[str, ...]:
        """The files and folders given, as absolute paths."""
        return tuple(dict.fromkeys(str(root) for root in self._roots))

    @property
    def paths(self) -> list[Path]:
        """The picture files, in the order in which they are read."""
        return [file for _, _, file in self._found]

    def __len__(self) -> int:
        return len(self._closed) + len(self._found)


def _pictures_below(root: Path, closed: list[Path]) -> Iterator[Path]:
    """The picture files in a folder and the folders in it; the folders that may not be read go to `closed`."""
    entered: set[tuple[int, int]] = set()
    folders = [root]
    links: list[Path] = []
    while folders or links:
        # Links last: a picture that lies in a folder keeps the path through it, whatever else leads there.
        folder = folders.pop() if folders else links.pop()
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except OSError:
            closed.append(folder)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(Path(entry.path))
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                yield Path(entry.path)


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).digest()


def _is_text(name: str) -> bool:
    """Whether a file name can be written as UTF-8, as the catalog must."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: SourceError) -> str:
    """What the error says, without the file that stands beside it."""
    return str(error).removeprefix(f"{error.file}: ")


def _supported() -> str:
    return " ".join(sorted(SUFFIXES))
