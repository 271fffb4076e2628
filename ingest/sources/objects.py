"""JSON as tables: an object per line (.jsonl), or an array of objects (.json) read as it comes."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import IO, Any, Never, TypeAlias

from ingest.sources import lines
from ingest.sources.columns import listed
from ingest.sources.contract import Rejected
from ingest.sources.encodings import decode, likeliest, mark_of
from ingest.sources.inputs import Input
from ingest.sources.lines import read_lines
from ingest.sources.tables import TEXT_NAMES, Row, Table, Wanted
from ingest.sources.unpacking import UnpackingError
from search.errors import SourceError
from search.types import Json

_SAMPLE = 2**20  # bytes by which the encoding of a document is told
_MOST_PATHS = 1_000  # arrays that are told apart while it is looked for the one with the records
_DEEPEST = 200

_Event: TypeAlias = tuple[str, str, Any]


class JsonLines(Table):
    """A record per line, each a JSON object; every field but text, id and uri becomes metadata as it is."""

    def _rows(self) -> Iterator[Row | Rejected]:
        for line in read_lines(self._input):
            if line.fault:
                yield self.rejected(line.fault, line.number)
            elif line.text.strip():
                try:
                    cells = json.loads(line.text, parse_constant=_refuse)
                except _NotANumberError as error:
                    yield self.rejected(f"{error} is not JSON", line.number)
                except (ValueError, RecursionError) as error:
                    reason = getattr(error, "msg", "it is nested too deeply or has a number too long")
                    yield self.rejected(f"not JSON: {str(reason)[:1].lower()}{str(reason)[1:]}", line.number)
                else:
                    if isinstance(cells, dict):
                        yield Row(line.number, cells, line.encoding, line.guessed)
                    else:
                        yield self.rejected("not a JSON object", line.number)

    def _metadata(self, cells: Mapping[str, Any]) -> dict[str, Json]:
        return dict(cells)


class JsonDocument(Table):
    """An array of objects, or an object that holds one: a record per object. Else one object is one record.

    An object is the record itself where it has a text of its own; else the array of objects in it is, and
    `Wanted.rows` names which if there are several.
    """

    def __init__(self, input: Input, wanted: Wanted) -> None:
        """Raises SourceError where it cannot be told where the records are."""
        self._place: str | None = None  # of the array of records, in ijson's words
        self._encoding, self._guessed = None, False  # type: tuple[str | None, bool]
        with suppress(OSError):  # the base class meets it again, and tells it
            self._look(input, wanted)
        super().__init__(input, wanted)

    def _look(self, input: Input, wanted: Wanted) -> None:
        """Tell the encoding, and where the records are."""
        with input.open() as file:
            sample = file.read(_SAMPLE)
        marked = mark_of(sample)
        if marked not in (None, "utf-8-sig"):
            self._encoding = marked
        elif not _is_utf8(sample, whole=len(sample) < _SAMPLE):
            self._encoding, self._guessed = likeliest(sample), True
        begin = (
            decode(sample[:200], self._encoding).text if marked else sample[:200].decode("latin-1")
        ).lstrip()
        if wanted.rows is not None:
            self._place = ".".join([*(step for step in wanted.rows.split(".") if step), "item"])
        elif begin.startswith("["):
            self._place = "item"
        elif begin.startswith("{"):
            self._place = self._array(input, wanted)

    def _array(self, input: Input, wanted: Wanted) -> str | None:
        """Where in an object the records are; None where it is itself the record."""
        from ijson import JSONError

        found: dict[str, None] = {}
        fields: dict[str, None] = {}
        with suppress(JSONError):  # told where the rows are read
            for prefix, event, _ in _events(input, self._encoding):
                if event == "start_map" and prefix.endswith(".item") and ".item." not in prefix:
                    if len(found) < _MOST_PATHS:
                        found.setdefault(prefix)
                elif event == "string" and len(fields) < _MOST_PATHS:
                    fields.setdefault(prefix)
        asked = wanted.text is not None and any(_asked(wanted.text, field) for field in fields)
        if asked or (wanted.text is None and any(field.casefold() in TEXT_NAMES for field in fields)):
            return None
        places = [place.removesuffix(".item") for place in found]
        if len(places) > 1:
            raise SourceError(
                f"several arrays of objects in it; name the one with the records with --rows: {listed(places)}",
                input.file,
            )
        return f"{places[0]}.item" if places else None

    def _rows(self) -> Iterator[Row | Rejected]:
        if self._is_void():
            return
        if self._place is None:
            yield self._whole()
            return
        from ijson import JSONError

        place = number = 0
        try:
            for place, value in enumerate(_items(self._input, self._place, self._encoding), start=1):
                number = place
                if isinstance(value, dict):
                    yield Row(place, value, self._encoding, self._guessed)
                else:
                    yield self.rejected("not a JSON object", place)
        except (JSONError, RecursionError, UnicodeError) as error:
            reason = _reason(error)
            yield self.rejected(
                f"not JSON: {reason}" if not number else f"not JSON from here on: {reason}", number + 1
            )
            return
        if not number:
            told = (
                f"no array of objects at {self._place.removesuffix('.item')!r}"
                if "." in self._place
                else "an empty array"
            )
            yield self.rejected(told)

    def _whole(self) -> Row | Rejected:
        """One object as one record."""
        try:
            text = decode(self._input.read(), self._encoding).text
            value = json.loads(text, parse_constant=_refuse)
        except _NotANumberError as error:
            return self.rejected(f"{error} is not JSON")
        except (ValueError, RecursionError) as error:
            reason = str(getattr(error, "msg", "it is nested too deeply or has a number too long"))
            return self.rejected(
                f"not JSON: {reason[:1].lower()}{reason[1:]}", getattr(error, "lineno", None)
            )
        if not isinstance(value, dict):
            return self.rejected("neither an array of objects nor an object")
        return Row(1, value, self._encoding, self._guessed)

    def _metadata(self, cells: Mapping[str, Any]) -> dict[str, Json]:
        return {name: _plain(cell) for name, cell in cells.items()}


class _Watched:
    """UTF-8 for ijson, which would keep a value of any length in memory; a longer one than may be ends it."""

    def __init__(self, file: IO[bytes], encoding: str | None) -> None:
        self._file = file
        self._decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)()
        self._begun = False
        self._read = 0

    def value(self) -> None:
        """A value has come out whole."""
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none where none are asked for, by which ijson learns that they are bytes."""
        if size == 0:
            return b""
        if self._read > lines.MOST_BYTES:
            raise UnpackingError(
                f"from here on a value of more than {lines.MOST_BYTES // 2**20} MiB; split it"
            )
        out = b""
        while not out:
            data = self._file.read(2**16)
            if not data and self._decoder is None:
                return b""
            if not self._begun:
                data, self._begun = data.removeprefix(codecs.BOM_UTF8), True
            out = (
                data
                if self._decoder is None
                else self._decoder.decode(data, not data).encode("utf-8", "replace")
            )
            if not data:
                break
        self._read += len(out)
        return out


def _events(input: Input, encoding: str | None) -> Iterator[_Event]:
    import ijson

    with input.open() as file:
        watched = _Watched(file, encoding)
        for event in ijson.parse(watched):
            watched.value()
            yield event


def _items(input: Input, place: str, encoding: str | None) -> Iterator[Any]:
    import ijson

    with input.open() as file:
        watched = _Watched(file, encoding)
        for item in ijson.items(watched, place):
            watched.value()
            yield item


def _asked(text: str, field: str) -> bool:
    """Whether this field of the document itself is what the user named as its text."""
    from ingest.sources.columns import paths_of

    return field in paths_of(text)


def _is_utf8(sample: bytes, *, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, whole)
    except UnicodeDecodeError:
        return False
    return True


def _plain(value: Any) -> Json:
    """A value of ijson as one of JSON: it reads fractions as decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value


def _reason(error: Exception) -> str:
    """The first line of what a reader of JSON says, without the bytes it stumbled over."""
    told = str(error.args[0] if error.args else "")
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if "UTF8" in told or isinstance(error, UnicodeError):
        return "its bytes are not in the encoding that its beginning is in"
    return told.partition("\n")[0].partition(": ")[2] or told.partition("\n")[0] or "it ends too early"


class _NotANumberError(ValueError):
    """NaN or an infinity, which Python's reader of JSON would let pass."""


def _refuse(constant: str) -> Never:
    raise _NotANumberError(constant)
