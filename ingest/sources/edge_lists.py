"""Reads edge lists and tables of edges in bulk: a line is looked at by itself only where it is not like others."""

from __future__ import annotations

import ast
import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edge_format import EdgeFormat
from ingest.sources.edge_rows import ENDS_NAMES, Role, Rows, Spans, columns_of
from ingest.sources.edges import GREATEST, Edges, is_usable
from ingest.sources.scans import scan_cells, scan_lines
from search.errors import SourceError

BLOCK = 1 << 20  # bytes of text taken at a time: what is made of them stays in the cache
_HEADS = [
    [name.encode() for name in pair] for pair in ENDS_NAMES if "u" not in pair
]  # `u v` may well be an edge
LONGEST = 64 << 20  # bytes of a line


def blocks(handle: IO[bytes], file: str, begin: bytes = b"") -> Iterator[bytes]:
    """The file, behind what was read of it, in pieces that end where a line ends.

    Raises:
        SourceError: a line is longer than LONGEST.
    """
    if begin:
        yield begin
    while block := handle.read(BLOCK):
        rest = handle.readline(LONGEST)
        if len(rest) == LONGEST and not rest.endswith(b"\n"):
            raise SourceError(f"a line is longer than {LONGEST >> 20} MiB; is this a list of edges?", file)
        yield block + rest


def unreadable(data: bytes) -> NDArray[np.int64]:
    """Which lines (0-based) are not UTF-8 text; no line is looked at where all is well."""
    if _is_text(data):
        return np.empty(0, np.int64)
    bad = [number for number, line in enumerate(data.split(b"\n")) if not _is_text(line)]
    return np.array(bad, np.int64)


def _is_text(data: bytes) -> bool:
    try:
        return b"\0" not in data and (data.isascii() or bool(data.decode()))
    except UnicodeDecodeError:
        return False


def read_edge_list(handle: IO[bytes], edges: Edges) -> None:
    """Take an edge list: `u v [weight]` per line."""
    line, width = 1, 0
    for number, block in enumerate(blocks(handle, edges.file)):
        data = block.removeprefix(codecs.BOM_UTF8) if number == 0 else block
        if number == 0 and data.partition(b"\n")[0].lower().split()[:2] in _HEADS:
            edges.reject("the line names columns and was taken for no edge", 1)
            data = data[data.find(b"\n") :] if b"\n" in data else b""
        width = width or _width(data)
        cut = data.rfind(b"\n") + 1
        last = data[cut:].split(None, 3)
        if last and len(last) < width and last[0][:1] not in (b"#", b"%"):
            edges.reject(
                "the last line has no line end and lacks something; the file may be cut off",
                line + data.count(b"\n"),
            )
            data = data[:cut]
        line += take_lines(data, line, edges)


def _width(data: bytes) -> int:
    """How many tokens, up to 3, the first edge of a block has; 0 where it has no edge."""
    found = re.search(rb"^[^\S\n]*[^\s#%]\S*[^\S\n]+\S+([^\S\n]+\S)?", data, re.MULTILINE)
    return 0 if found is None else 2 if found.group(1) is None else 3


def take_lines(data: bytes, line: int, edges: Edges) -> int:
    """Take whole lines, the first of which has this number; returns how many line ends there are."""
    codes = np.frombuffer(data, np.uint8)
    n_lines = data.count(b"\n")
    ends, weights = np.empty((4, n_lines + 1), np.int64), np.empty(n_lines + 1)
    lone, odd = np.empty((2, n_lines + 1), np.int64), np.empty((3, n_lines + 1), np.int64)
    n_edges, n_weighted, n_lone, n_odd = scan_lines(
        codes, unreadable(data), GREATEST, ends, weights, lone, odd
    )
    edges.ids.numbers_in(codes, lone[0, :n_lone], lone[1, :n_lone])
    sources, targets = (edges.ids.numbers_in(codes, ends[k, :n_edges], ends[k + 1, :n_edges]) for k in (0, 2))
    edges.add(sources, targets, weights[:n_edges] if n_weighted else None)
    _odd_lines([(line + at, data[a:b]) for at, a, b in odd[:, :n_odd].T.tolist()], edges)
    return n_lines


def _odd_lines(lines: Sequence[tuple[int, bytes]], edges: Edges) -> None:
    """Take lines that the scan could not make out: other ways to write a weight, or a fault to be told."""
    taken: list[tuple[bytes, bytes, float]] = []
    weighted = False
    for line, text in lines:
        if not _is_text(text):
            edges.reject("the line is not UTF-8 text", line)
            continue
        source, target, rest = text.split(None, 2)
        weight = _weight(rest)
        if weight is not None and not is_usable(weight):
            # a dict of attributes, as networkx writes it, has blanks: show the rest of the line
            shown = (rest if rest.startswith(b"{") else rest.split()[0])[:40].decode(errors="replace")
            edges.reject(f"the weight {shown!r} is not a positive number", line)
            continue
        weighted |= weight is not None
        taken.append((source, target, 1.0 if weight is None else weight))
    weights = np.array([each for *_, each in taken]) if weighted else None
    sources = edges.ids.numbers([source for source, _, _ in taken])
    targets = edges.ids.numbers([target for _, target, _ in taken])
    edges.add(sources, targets, weights)


def _weight(text: bytes) -> float | None:
    """A weight as a number or, as networkx writes it, in a dict of attributes (None: not in it); NaN for neither."""
    try:
        if not text.startswith(b"{"):
            return float(text.split()[0])
        found = ast.literal_eval(text[:1000].decode())
        return float(found["weight"]) if "weight" in found else None
    except (ValueError, SyntaxError, TypeError, AttributeError, IndexError, RecursionError, MemoryError):
        return float("nan")


def _delimiter(line: bytes) -> bytes:
    """What separates the columns of a table with this first line."""
    return next((mark for mark in (b",", b"\t", b";") if mark in line), b",")


def _cells(line: bytes, delimiter: bytes) -> list[str]:
    row = next(csv.reader([line.decode(errors="replace")], delimiter=delimiter.decode()), [])
    return [cell.strip() for cell in row]


def has_header(handle: io.BufferedReader) -> bool:
    """Whether the first line holds usual column names between tabs."""
    line = handle.peek(BLOCK).partition(b"\n")[0].removeprefix(codecs.BOM_UTF8)
    names = [cell.lower() for cell in _cells(line, b"\t")]
    return any(pair[0] in names and pair[1] in names for pair in ENDS_NAMES)


class _Table:
    """A table with one edge per row that is being read."""

    def __init__(self, columns: dict[Role, int], delimiter: bytes, rows: Rows) -> None:
        self._columns, self._delimiter, self._rows = columns, delimiter, rows
        self._edges = rows.edges
        places = sorted(set(columns.values()))  # one column may have two roles
        self._slot = {role: places.index(column) for role, column in columns.items()}
        self._slots = np.full(places[-1] + 1, -1, np.int64)
        self._slots[places] = np.arange(len(places))

    def block(self, data: bytes, line: int) -> tuple[int, int]:
        """Take whole rows, the first of which stands on this line; the position and line from which a csv parser
        has to go on, or those behind the data."""
        n_lines, codes = data.count(b"\n") + 1, np.frombuffer(data, np.uint8)
        cells = np.empty((2 * int(self._slots.max() + 1), n_lines), np.int64)
        weights, lines = np.empty(n_lines), np.empty(n_lines, np.int64)
        odd = np.empty((3, n_lines), np.int64)
        n_rows, n_odd, position, passed = scan_cells(
            codes,
            self._delimiter[0],
            unreadable(data),
            GREATEST,
            self._slots,
            self._slot.get(Role.WEIGHT, -1),
            cells,
            weights,
            lines,
            odd,
        )
        spans: dict[Role, Spans] = {
            role: cells[2 * slot : 2 * slot + 2, :n_rows]
            for role, slot in self._slot.items()
            if role != Role.WEIGHT
        }
        given = weights[:n_rows] if Role.WEIGHT in self._slot else None
        self._rows.take(data, spans, given, lines[:n_rows] + line)
        for at, begin, end in odd[:, :n_odd].T.tolist():
            self.slowly([data[begin:end]], line + at)
        return position, line + passed

    def slowly(self, lines: Iterable[bytes], line: int) -> None:
        """Take rows one by one by the csv module, and say of each that cannot be used why."""
        # surrogateescape carries bad bytes through the csv module, so that only their own row is rejected
        text = (item.decode(errors="surrogateescape") for item in lines)
        reader = csv.reader(text, delimiter=self._delimiter.decode())
        taken: list[list[bytes]] = []
        weights: list[float] = []
        places: list[int] = []
        while True:
            place = line + reader.line_num
            try:
                row = next(reader, None)
                if row is None:
                    break
                if not any(cell.strip() for cell in row):
                    continue
                cells = {role: row[column].strip().encode() for role, column in self._columns.items()}
            except csv.Error as error:
                self._edges.reject(f"the row cannot be parsed ({error})", place)
                continue
            except IndexError:
                self._edges.reject(f"too few columns ({len(row or ())})", place)
                continue
            except UnicodeEncodeError:
                self._edges.reject("the line is not UTF-8 text", place)
                continue
            shown = cells.pop(Role.WEIGHT, None)
            weight = 1.0 if shown is None else _weight(shown) or float("nan")
            if not cells[Role.SOURCE] or not cells[Role.TARGET]:
                self._edges.reject("an end of the edge is empty", place)
            elif not all(cells.values()):
                self._edges.reject("a type is empty", place)
            elif any(b"\0" in cell for cell in cells.values()):
                self._edges.reject("the line is not UTF-8 text", place)
            elif not is_usable(weight):
                told = (shown or b"")[:40].decode(errors="replace")
                self._edges.reject(f"the weight {told!r} is not a positive number", place)
            else:
                taken.append(list(cells.values()))
                weights.append(weight)
                places.append(place)
        if taken:
            roles = [role for role in self._columns if role != Role.WEIGHT]
            columns: dict[Role, Sequence[bytes]] = dict(zip(roles, zip(*taken, strict=True), strict=True))
            given = np.array(weights) if Role.WEIGHT in self._columns else None
            self._rows.take_columns(columns, given, np.array(places, np.int64))


def read_table(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> None:
    """Take a table with one edge per row; rows with quotes within quotes go through the csv module."""
    top = [handle.readline(LONGEST), handle.readline(LONGEST)]
    if b"\0" in top[0]:
        raise SourceError("is not UTF-8 text; save it as UTF-8", edges.file, 1)
    delimiter = _delimiter(top[0])
    header = _cells(top[0].removeprefix(codecs.BOM_UTF8), delimiter)
    columns, is_header = columns_of(header, _cells(top[1], delimiter), form, edges.file)
    rows = Rows(edges, form)
    table = _Table(columns, delimiter, rows)
    line = 2 if is_header else 1
    begin = top[1] if is_header else b"".join(top).removeprefix(codecs.BOM_UTF8)
    for data in blocks(handle, edges.file, begin):
        position, line = table.block(data, line)
        if position < len(data):  # a quoted field may run over the end of the block
            rest = iter(partial(handle.readline, LONGEST), b"")
            table.slowly(chain(io.BytesIO(data[position:]), rest), line)
            break
    rows.check_types()
