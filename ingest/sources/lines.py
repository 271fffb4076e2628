"""The lines of a file as text, whatever its encoding and however long they are."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from ingest.sources.encodings import decode_as, likeliest, mark_of

if TYPE_CHECKING:
    from ingest.sources.inputs import Input

# A file or a line beyond this is rejected unread: a record is held in memory several times over (bytes, text,
# tokens), and what is longer is a log or a dump that wants splitting.
MOST_BYTES = 64 * 2**20

_SAMPLE = 2**18  # bytes by which a file that is not UTF-8 is told


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file: its text, or why it has none.

    `encoding` is what it was decoded by where that is not plain UTF-8; `guessed`: nothing in the file says so.
    """

    number: int
    text: str = ""
    encoding: str | None = None
    guessed: bool = False
    fault: str | None = None


def read_lines(input: Input) -> Iterator[Line]:
    """The lines of the input, one in memory at a time, and never more than `MOST_BYTES` of it.

    A line that is not UTF-8 is read by the likeliest encoding of the first such lines of the file.

    Raises:
        OSError: it cannot be read, or not beyond some line.
    """
    with input.open() as file:
        begin = _peeked(file)
        marked = mark_of(begin)
        wide = marked not in (None, "utf-8-sig")
        if not wide and marked:
            file.read(len(codecs.BOM_UTF8))
        stream: IO[Any] = io.TextIOWrapper(file, encoding=marked, newline="\n") if wide else file
        number = 0
        encoding: str | None = None
        try:
            while line := stream.readline(MOST_BYTES + 1):
                number += 1
                if len(line) > MOST_BYTES:
                    while line and line[-1] not in ("\n", 10):
                        line = stream.readline(MOST_BYTES)
                    yield Line(number, fault=f"a line of more than {MOST_BYTES // 2**20} MiB; split it")
                elif wide:
                    yield Line(number, line, marked)
                else:
                    try:
                        yield Line(number, line.decode("utf-8"))
                    except UnicodeDecodeError:
                        encoding = encoding or likeliest(_like(input, line))
                        text, taken = decode_as(line, encoding)
                        yield Line(number, text, taken, guessed=True)
        except UnicodeDecodeError as error:
            yield Line(number + 1, fault=f"from here on not the {error.encoding} that its first bytes say")


def _peeked(file: IO[bytes]) -> bytes:
    """The first bytes, without reading past them."""
    peek = getattr(file, "peek", None)
    if peek is not None:
        return bytes(peek(4)[:4])
    begin = file.read(4)
    file.seek(0)
    return begin


def _like(input: Input, line: bytes) -> bytes:
    """The first lines that are not UTF-8, this one among them, to tell their encoding by."""
    found = [line[:_SAMPLE]]
    size = len(found[0])
    with input.open() as file:
        sample = file.read(4 * _SAMPLE)
    for other in sample.split(b"\n")[:-1]:
        try:
            other.decode("utf-8")
        except UnicodeDecodeError:
            found.append(other)
            size += len(other)
            if size > _SAMPLE:
                break
    return b"\n".join(found)


class Feed(Iterator[str]):
    """Lines for the csv reader, which remembers where the row that is being read begins and ends."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._faults: list[Line] = []
        self.first = self.last = 0
        self.encoding: str | None = None
        self.guessed = False

    def begin(self) -> None:
        """A row begins."""
        self.first, self.encoding, self.guessed = 0, None, False

    def __next__(self) -> str:
        for line in self._lines:
            if line.fault is None:
                self.first = self.first or line.number
                self.last = line.number
                self.encoding = self.encoding or line.encoding
                self.guessed = self.guessed or line.guessed
                return line.text
            self._faults.append(line)
        raise StopIteration

    def drain(self) -> list[Line]:
        """The lines that could not be read since the last time."""
        faults, self._faults = self._faults, []
        return faults
