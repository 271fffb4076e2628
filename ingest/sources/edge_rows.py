"""Rows of a table of edges, wherever they come from: which columns hold what, and how types keep ids apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edge_format import LITERAL, TYPE_MARK, EdgeFormat
from ingest.sources.edges import Edges
from ingest.sources.ids import Ids, join_spans
from search.errors import SourceError

ENDS_NAMES = (("source", "target"), ("from", "to"), ("u", "v"), ("src", "dst"))
WEIGHT_NAMES = ("weight", "w")


class Role(IntEnum):
    """What a column says of an edge."""

    SOURCE = 0
    TARGET = 1
    WEIGHT = 2
    SOURCE_TYPE = 3
    TARGET_TYPE = 4
    EDGE_TYPE = 5


def columns_of(
    header: Sequence[str], second: Sequence[str], form: EdgeFormat, file: str, line: int | None = 1
) -> tuple[dict[Role, int], bool]:
    """Which column (0-based) has which role, and whether the first row is a header at all.

    Args:
        header: the first row; `second`: the one below it.
        form: the columns that were named.
        file, line: where the header stands, for messages.

    Raises:
        SourceError: there is no such column, or it cannot be told which ones the ends are.
    """
    shown = ", ".join(name if len(name) <= 40 else f"{name[:39]}…" for name in header[:20])

    def place(name: str) -> int:
        if name not in header:
            raise SourceError(f"has no column {name!r}; its columns are {shown}", file, line)
        return list(header).index(name)

    roles = {}
    types = {
        Role.SOURCE_TYPE: form.source_type,
        Role.TARGET_TYPE: form.target_type,
        Role.EDGE_TYPE: form.edge_type,
    }
    for role, name in types.items():
        if name is not None and not (name.startswith(LITERAL) and role != Role.EDGE_TYPE):
            roles[role] = place(name)
    lowered = [cell.lower() for cell in header]
    known = next((pair for pair in ENDS_NAMES if pair[0] in lowered and pair[1] in lowered), None)
    if form.source or form.target or form.weight or roles or known:
        for role, name in ((Role.SOURCE, form.source), (Role.TARGET, form.target)):
            if name is not None:
                roles[role] = place(name)
            elif known is None:
                raise SourceError(f"which columns are the ends? name both; they are {shown}", file, line)
            else:
                roles[role] = lowered.index(known[role])
        usual = next((name for name in WEIGHT_NAMES if name in lowered), None)
        if form.weight is not None:
            roles[Role.WEIGHT] = place(form.weight)
        elif usual is not None:
            roles[Role.WEIGHT] = lowered.index(usual)
        return roles, True
    # Names of the user's own over columns of numbers are a header too.
    numeric = [_is_number(cell) for cell in second]
    is_header = any(below and not _is_number(cell) for cell, below in zip(header, numeric, strict=False))
    roles = {Role.SOURCE: 0, Role.TARGET: 1}
    if len(header) > 2 and (not is_header or (len(numeric) > 2 and numeric[2])):
        roles[Role.WEIGHT] = 2
    return roles, is_header


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


Spans = NDArray[np.int64]


class Rows:
    """Takes rows of edges, whose cells stand somewhere in a block of bytes, into `edges`."""

    def __init__(self, edges: Edges, form: EdgeFormat) -> None:
        self.edges = edges
        self._literals = {Role.SOURCE: form.source_type, Role.TARGET: form.target_type}
        self._type_weights = form.type_weights
        self._types, self._edge_types = Ids(), Ids()
        self.plain = not (form.source_type or form.target_type or form.edge_type)

    def take(
        self,
        data: bytes,
        spans: Mapping[Role, Spans],
        weights: NDArray[np.float64] | None,
        lines: NDArray[np.int64],
    ) -> None:
        """Take n rows.

        Args:
            data: where the cells stand; none is empty, each is UTF-8 without NUL.
            spans: start and length, (2, n), of the cell of each role but the weight.
            weights: (n,), positive; None where the rows have none.
            lines: (n,), where each row stands.
        """
        keep = np.ones(len(lines), np.bool_)
        for role in (Role.SOURCE_TYPE, Role.TARGET_TYPE):
            if role in spans:
                keep &= self._well_named(data, spans[role], lines)
        if Role.EDGE_TYPE in spans:
            factors = self._factors(data, spans[Role.EDGE_TYPE])
            keep &= factors > 0
            weights = (
                factors if weights is None else np.clip(weights * factors, np.finfo(np.float32).tiny, None)
            )
        if not keep.all():
            spans = {role: cells[:, keep] for role, cells in spans.items()}
            weights, lines = None if weights is None else weights[keep], lines[keep]
        sources, targets = (self._numbers(data, spans, role) for role in (Role.SOURCE, Role.TARGET))
        self.edges.add(sources, targets, weights, lines)

    def take_columns(
        self,
        columns: Mapping[Role, Sequence[bytes]],
        weights: NDArray[np.float64] | None,
        lines: NDArray[np.int64],
    ) -> None:
        """Take rows whose cells are at hand one by one; as `take`."""
        pieces: list[bytes] = []
        spans: dict[Role, Spans] = {}
        at = 0
        for role, cells in columns.items():
            lengths = np.fromiter(map(len, cells), np.int64, len(cells))
            ends = at + np.cumsum(lengths)
            spans[role] = np.stack((ends - lengths, lengths))
            at += int(lengths.sum())
            pieces += cells
        self.take(b"".join(pieces), spans, weights, lines)

    def check_types(self) -> None:
        """Say so if a weight was given for a type that no edge has, which a slip of the pen would not tell.

        Raises:
            SourceError: there is such a type.
        """
        names = sorted(
            self._edge_types.name(k).decode(errors="replace") for k in range(len(self._edge_types))
        )
        for name in self._type_weights:
            if name not in names:
                told = ", ".join(names[:20]) or "none"
                raise SourceError(
                    f"no edge is of the type '{name}', which has a weight; the types are {told}",
                    self.edges.file,
                )

    def _numbers(self, data: bytes, spans: Mapping[Role, Spans], role: Role) -> NDArray[np.int32]:
        cells = spans[role]
        types = spans.get(Role.SOURCE_TYPE if role == Role.SOURCE else Role.TARGET_TYPE)
        literal = self._literals[role]
        if types is None and literal is None:
            return self.edges.ids.numbers_in(data, *cells)
        if types is None:
            name = (literal or "").removeprefix(LITERAL).encode()
            types = np.empty_like(cells)
            types[0], types[1] = len(data), len(name)
            data += name
        lengths = types[1] + 1 + cells[1]
        joined = np.empty(int(lengths.sum()), np.uint8)
        codes, types, cells = (
            np.frombuffer(data, np.uint8),
            np.ascontiguousarray(types),
            np.ascontiguousarray(cells),
        )
        join_spans(codes, types, cells, ord(TYPE_MARK), joined)
        joined.flags.writeable = False  # as bytes are: one kind to compile for
        numbers = self.edges.ids.numbers_in(joined, np.cumsum(lengths) - lengths, lengths)
        self.edges.typed.append(np.unique(numbers))
        return numbers

    def _well_named(self, data: bytes, cells: Spans, lines: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these types can stand before an id."""
        numbers = self._types.numbers_in(data, *cells)
        mark = TYPE_MARK.encode()
        good = np.array([mark not in self._types.name(k) for k in range(len(self._types))], np.bool_)
        for k in np.flatnonzero(~good[numbers]).tolist():
            shown = self._types.name(int(numbers[k]))[:40].decode(errors="replace")
            self.edges.reject(
                f"the type {shown!r} has a '{TYPE_MARK}', which stands between type and id", int(lines[k])
            )
        return good[numbers]

    def _factors(self, data: bytes, cells: Spans) -> NDArray[np.float64]:
        numbers = self._edge_types.numbers_in(data, *cells)
        names = [self._edge_types.name(k).decode() for k in range(len(self._edge_types))]
        factors = np.array([self._type_weights.get(name, 1.0) for name in names], np.float64)
        return factors[numbers]
