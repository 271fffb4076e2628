"""Scans text in compiled code: where the ids and weights of each line stand in a block of it."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

BAD_NUMBER = -1.0  # what a weight that is not plain becomes; the line is then looked at by itself
_POWERS = 10.0 ** np.arange(23)  # all that float64 holds exactly


@njit(inline="always")
def _is_space(code: int) -> Any:
    return code == 32 or (9 <= code <= 13)


@njit(inline="always")
def _number(data: Array, start: int, end: int) -> Any:
    """A plain decimal number, positive; BAD_NUMBER for anything else, and for what needs more than two roundings.

    With more than 15 digits it may differ from the nearest float64 in the last bit, which float32 does not keep.
    """
    mantissa, digits, point, k = np.uint64(0), 0, -1, start
    while k < end:
        code = data[k]
        if 48 <= code <= 57:
            mantissa = mantissa * np.uint64(10) + np.uint64(code - 48)
            digits += 1
        elif code == 46 and point < 0:
            point = digits
        else:
            break
        k += 1
    if digits == 0 or digits > 18:
        return BAD_NUMBER
    exponent = 0 if point < 0 else point - digits
    if k < end:
        if data[k] != 69 and data[k] != 101:
            return BAD_NUMBER
        k += 1
        negative = k < end and data[k] == 45
        if k < end and (data[k] == 45 or data[k] == 43):
            k += 1
        if not 0 < end - k < 4:
            return BAD_NUMBER
        power = 0
        while k < end:
            if not 48 <= data[k] <= 57:
                return BAD_NUMBER
            power = power * 10 + (data[k] - 48)
            k += 1
        exponent += -power if negative else power
    if not -22 <= exponent <= 22:
        return BAD_NUMBER
    value = np.float64(mantissa)
    return value * _POWERS[exponent] if exponent >= 0 else value / _POWERS[-exponent]


@njit(nogil=True, cache=True)
def scan_lines(
    data: Array, bad: Array, most: float, ends: Array, weights: Array, lone: Array, odd: Array
) -> tuple[int, int, int, int]:
    """Scan whole lines of `u v [weight]`, split at blanks.

    Args:
        data: the text, uint8.
        bad: which lines (0-based, ascending) are not readable text; they are odd.
        most: the largest weight that counts.
        ends: (4, lines) int64, filled with the start and length of u, then of v, one column for each edge.
        weights: (lines,) float64, filled with the weight of each edge, 1 where it has none.
        lone: (2, lines) int64, filled with start and length of ids that stand alone on a line.
        odd: (3, lines) int64, filled with line, start and end of those that have to be looked at by themselves.

    Returns:
        How many edges there are, how many of them have a weight, how many lone ids, and how many odd lines.
    """
    n, n_edges, n_weighted, n_lone, n_odd, line, position, next_bad = len(data), 0, 0, 0, 0, 0, 0, 0
    spans = np.empty((3, 2), np.int64)
    while position < n:
        begin, tokens = position, 0
        while position < n and data[position] != 10:
            if _is_space(data[position]):
                position += 1
                continue
            start = position
            while position < n and not _is_space(data[position]):
                position += 1
            if tokens < 3:
                spans[tokens, 0], spans[tokens, 1] = start, position
            tokens += 1
        is_bad = next_bad < len(bad) and bad[next_bad] == line
        if is_bad:
            next_bad += 1
        if tokens > 0 and data[spans[0, 0]] != 35 and data[spans[0, 0]] != 37:  # no comment
            weight = 1.0 if tokens < 3 else _number(data, spans[2, 0], spans[2, 1])
            if is_bad or not 0.0 < weight <= most:
                odd[0, n_odd], odd[1, n_odd], odd[2, n_odd] = line, begin, position
                n_odd += 1
            elif tokens == 1:
                lone[0, n_lone], lone[1, n_lone] = spans[0, 0], spans[0, 1] - spans[0, 0]
                n_lone += 1
            else:
                for end in range(2):
                    ends[2 * end, n_edges] = spans[end, 0]
                    ends[2 * end + 1, n_edges] = spans[end, 1] - spans[end, 0]
                weights[n_edges] = weight
                if tokens > 2:
                    n_weighted += 1
                n_edges += 1
        position += 1
        line += 1
    return n_edges, n_weighted, n_lone, n_odd


@njit(nogil=True, cache=True)
def scan_adjacency(data: Array, tokens: Array, rows: Array) -> tuple[int, int]:
    """Scan lines of `u v1 v2 ...`: fills `tokens` (2, n) with starts and lengths, `rows` (3, lines) with line, first
    token and how many; returns how many tokens and rows there are."""
    n, n_tokens, n_rows, line, position = len(data), 0, 0, 0, 0
    while position < n:
        first = n_tokens
        while position < n and data[position] != 10:
            if _is_space(data[position]):
                position += 1
                continue
            if data[position] == 35:  # a comment to the end of the line
                while position < n and data[position] != 10:
                    position += 1
                break
            start = position
            while position < n and not _is_space(data[position]):
                position += 1
            tokens[0, n_tokens], tokens[1, n_tokens] = start, position - start
            n_tokens += 1
        if n_tokens > first:
            rows[0, n_rows], rows[1, n_rows], rows[2, n_rows] = line, first, n_tokens - first
            n_rows += 1
        position += 1
        line += 1
    return n_tokens, n_rows


@njit(nogil=True, cache=True)
def scan_cells(
    data: Array,
    delimiter: int,
    bad: Array,
    most: float,
    slots: Array,
    weight_slot: int,
    cells: Array,
    weights: Array,
    lines: Array,
    odd: Array,
) -> tuple[int, int, int, int]:
    """Scan whole rows of a table.

    Args:
        data: the text, uint8.
        delimiter: the code that separates cells.
        bad: which lines (0-based, ascending) are not readable text; they are odd.
        most: the largest weight that counts.
        slots: which slot each column of the table fills, -1 for none.
        weight_slot: the slot that holds the weight, -1 for none; a cell of any other slot must not be empty.
        cells: (2 * n_slots, lines) int64, filled with start and length of each slot, without blanks and quotes.
        weights: (lines,) float64, filled with the weight of each row, 1 where there is none.
        lines: (lines,) int64, filled with the line (0-based) of each row.
        odd: (3, lines) int64, filled with line, start and end of those that have to be looked at by themselves.

    Returns:
        How many rows there are, how many odd ones, and the position and line of the first row whose quotes are
        not plain (one that runs over the line, or has quotes inside), from which on a csv parser is needed; the
        size of the data where there is none.
    """
    n, n_rows, n_odd, line, position, next_bad = len(data), 0, 0, 0, 0, 0
    n_slots, n_columns = len(cells) // 2, len(slots)
    while position < n:
        begin, column, found, is_odd, is_blank = position, 0, 0, False, True
        weight = 1.0
        while True:  # the cells of a line
            quoted = position < n and data[position] == 34
            if quoted:
                position += 1
                start = position
                while position < n and data[position] != 34 and data[position] != 10:
                    position += 1
                end = position
                if position >= n or data[position] == 10:
                    return n_rows, n_odd, begin, line
                position += 1
                if position < n and data[position] == 13:
                    position += 1
                if position < n and data[position] != delimiter and data[position] != 10:
                    return n_rows, n_odd, begin, line
                is_blank = False
            else:
                start = position
                while position < n and data[position] != delimiter and data[position] != 10:
                    is_odd |= data[position] == 13 and position + 1 < n and data[position + 1] != 10
                    position += 1
                end = position
            while start < end and _is_space(data[start]):
                start += 1
            while end > start and _is_space(data[end - 1]):
                end -= 1
            is_blank &= start == end
            if column < n_columns and slots[column] >= 0:
                slot = slots[column]
                cells[2 * slot, n_rows], cells[2 * slot + 1, n_rows] = start, end - start
                found += 1
                if slot == weight_slot:
                    weight = _number(data, start, end)
                else:
                    is_odd |= start == end
            column += 1
            if position >= n or data[position] == 10:
                break
            position += 1
        is_bad = next_bad < len(bad) and bad[next_bad] == line
        if is_bad:
            next_bad += 1
        is_odd |= is_bad or found < n_slots or not 0.0 < weight <= most
        if is_odd and not (is_blank and not is_bad):
            odd[0, n_odd], odd[1, n_odd], odd[2, n_odd] = line, begin, position
            n_odd += 1
        elif not is_odd:
            weights[n_rows], lines[n_rows] = weight, line
            n_rows += 1
        position += 1
        line += 1
    return n_rows, n_odd, n, line
