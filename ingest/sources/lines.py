"""The lines of a file as text, whatever its encoding and however long they are."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# A file or a line beyond this is rejected unread: a record is held in memory several times over (bytes, text,
# tokens), and what is longer is a log or a dump that wants splitting.
MOST_BYTES = 64 * 2**20

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file: its text, or why it has none. `guessed` is its encoding where it is not Unicode."""

    number: int
    text: str = ""
    guessed: str | None = None
    fault: str | None = None


def decode(data: bytes) -> tuple[str, str | None]:
    """The text of these bytes, and the encoding where it had to be guessed (None for Unicode).

    A byte order mark of UTF-16 or UTF-32 decides; else it is UTF-8; else, because every byte then has a meaning
    and nothing is lost, Windows' cp1252, or latin-1 where cp1252 has a gap.

    Raises:
        UnicodeDecodeError: the bytes are not what their byte order mark says.
    """
    marked = mark_of(data)
    if marked in (None, "utf-8-sig"):
        return _guess(data.removeprefix(codecs.BOM_UTF8))
    return data.decode(marked), None


def _guess(data: bytes) -> tuple[str, str | None]:
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding), None if encoding == "utf-8" else encoding
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), "latin-1"


def mark_of(data: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning tells of, or None without one."""
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of the file, one in memory at a time, and never more than `MOST_BYTES` of it."""
    with path.open("rb") as file:
        marked = mark_of(file.read(4))
        file.seek(0)
        wide = marked not in (None, "utf-8-sig")
        if not wide and marked:
            file.seek(len(codecs.BOM_UTF8))
        stream: IO[Any] = io.TextIOWrapper(file, encoding=marked, newline="\n") if wide else file
        number = 0
        try:
            while line := stream.readline(MOST_BYTES + 1):
                number += 1
                if len(line) > MOST_BYTES:
                    while line and line[-1] not in ("\n", 10):
                        line = stream.readline(MOST_BYTES)
                    yield Line(number, fault=f"a line of more than {MOST_BYTES // 2**20} MiB; split it")
                else:
                    text, guessed = (line, None) if wide else _guess(line)
                    yield Line(number, text, guessed)
        except UnicodeDecodeError as error:
            yield Line(number + 1, fault=f"from here on not the {error.encoding} that its first bytes say")


class Feed(Iterator[str]):
    """Lines for the csv reader, which remembers where the row that is being read begins and ends."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._faults: list[Line] = []
        self.first = self.last = 0
        self.guessed: str | None = None

    def __next__(self) -> str:
        for line in self._lines:
            if line.fault is None:
                self.first = self.first or line.number
                self.last = line.number
                self.guessed = self.guessed or line.guessed
                return line.text
            self._faults.append(line)
        raise StopIteration

    def drain(self) -> list[Line]:
        """The lines that could not be read since the last time."""
        faults, self._faults = self._faults, []
        return faults
