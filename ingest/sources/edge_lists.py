"""Reads edge lists and tables of edges in bulk: a line is looked at by itself only where it is not like others."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edges import Edges, usable
from search.errors import SourceError

BLOCK = 8 << 20  # bytes of text taken at a time
HEADER_NAMES = (("source", "target"), ("from", "to"), ("u", "v"), ("src", "dst"))
WEIGHT_NAMES = ("weight", "w")
SPACE = np.zeros(256, np.bool_)
SPACE[list(b" \t\n\r\x0b\x0c")] = True  # what bytes.split() splits at


def _blocks(handle: IO[bytes]) -> Iterator[bytes]:
    """The file in pieces that end where a line ends."""
    while block := handle.read(BLOCK):
        yield block + handle.readline()


def _unreadable(data: bytes) -> list[int]:
    """Which lines (0-based) are not UTF-8 text; no line is looked at where all is well."""
    try:
        readable = "\0" not in data.decode()
    except UnicodeDecodeError:
        readable = False
    if readable:
        return []
    bad = []
    for number, line in enumerate(data.split(b"\n")):
        try:
            if "\0" in line.decode():
                bad.append(number)
        except UnicodeDecodeError:
            bad.append(number)
    return bad


def read_edge_list(handle: IO[bytes], edges: Edges) -> None:
    """Take an edge list: `u v [weight]` per line."""
    line = 1
    for number, block in enumerate(_blocks(handle)):
        data = block.removeprefix(b"\xef\xbb\xbf") if number == 0 else block
        line += _edge_list_block(data, line, edges)


def _edge_list_block(data: bytes, line: int, edges: Edges) -> int:
    """Take whole lines, the first of which has this number; returns how many line ends there are."""
    codes = np.frombuffer(data, np.uint8)
    space = np.concatenate(([True], SPACE[codes], [True]))
    changes = np.flatnonzero(space[1:] != space[:-1])
    starts, lengths = changes[::2], changes[1::2] - changes[::2]
    ends = np.flatnonzero(codes == ord("\n"))
    counts = np.bincount(np.searchsorted(ends, starts), minlength=len(ends) + 1)
    first = np.cumsum(counts) - counts
    used = counts > 0
    heads = codes[starts[first[used]]]
    used[used] = (heads != ord("#")) & (heads != ord("%"))
    for bad in _unreadable(data):
        if used[bad]:
            edges.reject("the line is not UTF-8 text", line + bad)
        used[bad] = False
    alone = first[used & (counts == 1)]
    edges.numbers_in(data, starts[alone], lengths[alone])
    rows = np.flatnonzero(used & (counts > 1))
    weights = None
    third = rows[counts[rows] > 2]
    if len(third):
        weights = np.ones(len(rows))
        places = first[third] + 2
        # a dict of attributes, as networkx writes it, has blanks: take the rest of the line
        until = np.append(ends, len(data))[third] if b"{" in data else (starts + lengths)[places]
        found = [data[a:b] for a, b in zip(starts[places].tolist(), until.tolist(), strict=True)]
        weights[counts[rows] > 2] = _weights(found, third + line, edges)
        rows, weights = rows[weights > 0], weights[weights > 0]
        if b"{" in data and (weights == 1).all():
            weights = None
    tokens = np.concatenate((first[rows], first[rows] + 1))
    sources, targets = edges.numbers_in(data, starts[tokens], lengths[tokens]).reshape(2, -1)
    edges.add(sources, targets, weights)
    return len(ends)


def _weights(tokens: Sequence[bytes], lines: NDArray[np.int64], edges: Edges) -> NDArray[np.float64]:
    """The weights in these tokens; -1, and a rejected line, for each that cannot be used."""
    try:
        weights = np.fromiter(map(float, tokens), np.float64, len(tokens))
    except ValueError:
        weights = np.fromiter(map(_weight, tokens), np.float64, len(tokens))
    for k in np.flatnonzero(~usable(weights)).tolist():
        shown = tokens[k][:40].decode(errors="replace")
        edges.reject(f"the weight {shown!r} is not a positive number", int(lines[k]))
        weights[k] = -1.0
    return weights


def _weight(token: bytes) -> float:
    """A weight as a number or, as networkx writes it, in a dict of attributes; NaN where it is neither."""
    try:
        if not token.startswith(b"{"):
            return float(token.split()[0])
        found = ast.literal_eval(token[:1000].decode())
        return float(found.get("weight", 1.0))
    except (ValueError, SyntaxError, TypeError, AttributeError, IndexError, RecursionError, MemoryError):
        return float("nan")


def _delimiter(line: bytes) -> bytes:
    """What separates the columns of a table with this first line."""
    return next((mark for mark in (b",", b"\t", b";") if mark in line), b",")


def _cells(line: bytes, delimiter: bytes) -> list[str]:
    row = next(csv.reader([line.decode(errors="replace")], delimiter=delimiter.decode()), [])
    return [cell.strip() for cell in row]


def has_header(handle: IO[bytes]) -> bool:
    """Whether the first line holds usual column names between tabs."""
    names = [cell.lower() for cell in _cells(handle.readline(), b"\t")]
    handle.seek(0)
    return any(pair[0] in names and pair[1] in names for pair in HEADER_NAMES)


def _columns(
    header: list[str], second: list[str], names: Sequence[str | None], file: str
) -> tuple[list[int], bool]:
    """Which columns hold source, target and (if any) weight, and whether the first line is a header."""
    lowered = [cell.lower() for cell in header]
    known = next((pair for pair in HEADER_NAMES if pair[0] in lowered and pair[1] in lowered), None)
    if any(names) or known:
        columns = []
        for place, name in enumerate(names[:2]):
            if name is not None and name not in header:
                raise SourceError(
                    f"has no column {name!r}; its columns are {', '.join(header[:20])}", file, 1
                )
            if name is None and known is None:
                raise SourceError(
                    f"which columns are the ends? name both; they are {', '.join(header[:20])}", file, 1
                )
            columns.append(
                header.index(name) if name is not None else lowered.index((known or ("", ""))[place])
            )
        if names[2] is not None and names[2] not in header:
            raise SourceError(
                f"has no column {names[2]!r}; its columns are {', '.join(header[:20])}", file, 1
            )
        usual = next((name for name in WEIGHT_NAMES if name in lowered), None)
        if names[2] is not None:
            columns.append(header.index(names[2]))
        elif usual is not None:
            columns.append(lowered.index(usual))
        return columns, True
    # Names of the user's own over columns of numbers are a header too.
    numeric = [_is_number(cell) for cell in second]
    is_header = any(below and not _is_number(cell) for cell, below in zip(header, numeric, strict=False))
    with_weight = len(header) > 2 and len(numeric) > 2 and numeric[2]
    return [0, 1, 2] if with_weight or (len(header) > 2 and not is_header) else [0, 1], is_header


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_table(handle: IO[bytes], names: Sequence[str | None], edges: Edges) -> None:
    """Take a table with one edge per row; rows with quotes go through the csv module, the rest in bulk."""
    top = [handle.readline(), handle.readline()]
    if b"\0" in top[0]:
        raise SourceError("is not UTF-8 text; save it as UTF-8", edges.file, 1)
    delimiter = _delimiter(top[0])
    header = _cells(top[0].removeprefix(b"\xef\xbb\xbf"), delimiter)
    columns, is_header = _columns(header, _cells(top[1], delimiter), names, edges.file)
    handle.seek(0)
    line = 1
    if is_header:
        handle.readline()
        line = 2
    for number, block in enumerate(_blocks(handle)):
        data = block.removeprefix(b"\xef\xbb\xbf") if number == 0 else block
        if b'"' in data:  # a quoted field may run over the end of the block: leave the rest to the csv module
            rest = chain(io.BytesIO(data), handle)
            _table_rows(rest, line, columns, delimiter, edges)
            return
        if not _table_block(data, columns, delimiter, line, edges):
            _table_rows(io.BytesIO(data), line, columns, delimiter, edges)
        line += data.count(b"\n")


def _table_block(data: bytes, columns: Sequence[int], delimiter: bytes, line: int, edges: Edges) -> bool:
    """Take a block of rows at once; False, and nothing taken, if its rows are not all alike and clean."""
    plain = data.replace(b"\r\n", b"\n").rstrip(b"\n")
    if b"\r" in plain or b" " in plain or (delimiter != b"\t" and b"\t" in plain) or _unreadable(plain):
        return False
    codes = np.frombuffer(plain, np.uint8)
    marks = np.flatnonzero((codes == delimiter[0]) | (codes == ord("\n")))
    ends = np.flatnonzero(codes[marks] == ord("\n"))
    width = int(ends[0]) + 1 if len(ends) else len(marks) + 1
    alike = len(marks) + 1 == width * (len(ends) + 1) and bool((np.diff(ends, prepend=-1) == width).all())
    if not alike or max(columns) >= width:
        return False
    begins, until = np.append(0, marks + 1), np.append(marks, len(plain))
    lengths = until - begins
    picked = [np.arange(column, len(begins), width) for column in columns]
    if not (lengths[picked[0]].all() and lengths[picked[1]].all()):
        return False
    weights, rows = None, np.arange(len(picked[0]))
    if len(picked) > 2:
        spans = zip(begins[picked[2]].tolist(), until[picked[2]].tolist(), strict=True)
        weights = _weights([plain[a:b] for a, b in spans], rows + line, edges)
        rows, weights = rows[weights > 0], weights[weights > 0]
    cells = np.concatenate((picked[0][rows], picked[1][rows]))
    sources, targets = edges.numbers_in(plain, begins[cells], lengths[cells]).reshape(2, -1)
    edges.add(sources, targets, weights)
    return True


def _table_rows(
    lines: Iterable[bytes], line: int, columns: Sequence[int], delimiter: bytes, edges: Edges
) -> None:
    """Take rows one by one: the slow way, for quotes, blanks and rows that lack something."""
    # surrogateescape carries bad bytes through the csv module, so that only their own row is rejected
    text = (item.decode(errors="surrogateescape") for item in lines)
    reader = csv.reader(text, delimiter=delimiter.decode())
    sources: list[bytes] = []
    targets: list[bytes] = []
    weights: list[bytes] = []
    places: list[int] = []
    while True:
        place = line + reader.line_num
        try:
            row = next(reader, None)
            if row is None:
                break
            if not any(cell.strip() for cell in row):
                continue
            cells = [row[column].strip().encode() for column in columns]
        except csv.Error as error:
            edges.reject(f"the row cannot be parsed ({error})", place)
            continue
        except IndexError:
            edges.reject(f"too few columns ({len(row or ())})", place)
            continue
        except UnicodeEncodeError:
            edges.reject("the line is not UTF-8 text", place)
            continue
        if not cells[0] or not cells[1]:
            edges.reject("an end of the edge is empty", place)
        elif any(b"\0" in cell for cell in cells):
            edges.reject("the line is not UTF-8 text", place)
        else:
            sources.append(cells[0])
            targets.append(cells[1])
            weights.append(cells[-1])
            places.append(place)
    if len(columns) < 3:
        edges.add(edges.numbers(sources), edges.numbers(targets), None)
        return
    values = _weights(weights, np.array(places, np.int64), edges)
    good = np.flatnonzero(values > 0).tolist()
    ends = [edges.numbers([names[k] for k in good]) for names in (sources, targets)]
    edges.add(ends[0], ends[1], values[good])
