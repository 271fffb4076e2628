"""One input, wherever its bytes lie: on the disk, packed, in an archive, or come in by standard input."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from ingest.sources import lines
from ingest.sources.formats import Kind, Packing
from ingest.sources.unpacking import LIMITS, UnpackingError, unpacked

_IN_MEMORY = 2**20  # what is larger is laid down in a nameless temporary file


@dataclass(frozen=True, slots=True)
class Input:
    """Bytes of a known kind that can be read from their beginning any number of times.

    `name` is the record's id, or what the ids of its rows begin with; `file` is where it stands, for messages;
    `origin` is what was given (see `Item.origin`); `uri` is where the user finds it. `stored` opens the bytes as
    they are stored, `size` says how many they are where that is known.
    """

    name: str
    file: str
    origin: str
    uri: str | None
    kind: Kind
    stored: Callable[[], IO[bytes]]
    size: Callable[[], int | None] = lambda: None

    def open(self) -> IO[bytes]:
        """The unpacked bytes as a stream, which need not seek.

        Raises:
            OSError: it cannot be read, then or when it is read on.
        """
        file = self.stored()
        try:
            return unpacked(file, self.kind.packing)
        except BaseException:
            file.close()
            raise

    def read(self) -> bytes:
        """All of the unpacked bytes.

        Raises:
            OSError: it cannot be read, or is more than `lines.MOST_BYTES`.
        """
        most = lines.MOST_BYTES
        with self.open() as file:
            data = file.read(most + 1)
        size = len(data)
        if self.kind.packing is Packing.NONE:
            size = max(size, self.size() or 0)
        if size > most:
            told = f"{size / 2**20:,.0f} MiB" if self.kind.packing is Packing.NONE else "unpacked"
            raise UnpackingError(f"too large ({told}; the most is {most // 2**20}); split it")
        return data

    def seekable(self) -> IO[bytes]:
        """The unpacked bytes as a file that seeks.

        Raises:
            OSError: it cannot be read.
        """
        file = self.open()
        if self.kind.packing is Packing.NONE and file.seekable():
            return file
        with file:
            return laid_down(file)


def input_of(path: Path, root: Path, kind: Kind) -> Input:
    """A file on the disk; `root` is the file or folder that was given."""
    name = path.name if path == root else path.relative_to(root).as_posix()

    def size() -> int:
        return path.stat().st_size

    def stored() -> IO[bytes]:
        return path.open("rb")

    return Input(name, shown(path), str(root), str(path), kind, stored, size)


def laid_down(stream: IO[bytes], most: int = LIMITS.unpacked) -> IO[bytes]:
    """A stream as a file that seeks: in memory while it is small, then in a nameless file."""
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    try:
        while data := stream.read(_IN_MEMORY):
            file.write(data)
            if file.tell() > most:
                raise UnpackingError(f"more than {most // 2**30:,} GiB; split it")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return cast("IO[bytes]", file)


def kept_open(file: IO[bytes]) -> IO[bytes]:
    """A file from its beginning on, as one that leaves it open when it is closed."""
    return io.BufferedReader(_Kept(file))


class _Kept(io.RawIOBase):
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def why(error: OSError) -> str:
    """What the system says, in a few words."""
    reason = error.strerror or type(error).__name__
    return reason if isinstance(error, UnpackingError) else reason.lower()


def shown(path: Path | str) -> str:
    """A path or an id that can be printed and stored, even where it is no valid Unicode."""
    return str(path).encode("utf-8", "replace").decode("utf-8")


def size_of(file: IO[bytes]) -> int:
    """How many bytes a file that seeks has."""
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size
