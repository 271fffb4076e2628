"""Numbers ids in order of appearance: a hash table in compiled code, over bytes wherever they stand."""

# numba has no types, so neither have its decorators
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_MOST_WORDS = 4  # ids of up to 8 * _MOST_WORDS bytes are sorted as numbers
_SHORT = 16  # so many bytes of an id are its key; longer ones are hashed, and compared byte by byte
_SOME = 1 << 16  # ids made at a time
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_LOW = np.int64(0xFFFFFFFF)


@njit(inline="always")
def _word(data: Array, start: int, length: int) -> Any:
    """Up to eight bytes as one number."""
    word = np.uint64(0)
    for k in range(length):
        word = word << np.uint64(8) | np.uint64(data[start + k])
    return word


@njit(inline="always")
def _keys(data: Array, start: int, length: int) -> Any:
    """Two words that are the bytes themselves where they fit, else a hash of them."""
    if length <= 8:
        return _word(data, start, length), np.uint64(0)
    first, second = _word(data, start, 8), np.uint64(0)
    at = 8
    while at < length:
        if at > 8:
            first = (first ^ (second >> np.uint64(29))) * _GAMMA
            first = first ^ (first >> np.uint64(32))
        second = second * _MIX ^ _word(data, start + at, min(8, length - at))
        at += 8
    return first, second


@njit(inline="always")
def _slot(first: Any, second: Any, mask: int) -> Any:
    mixed = (first ^ (second * _MIX)) * _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIX
    return np.int64(mixed >> np.uint64(20)) & mask


@njit(nogil=True, cache=True)
def _intern(
    spans: tuple[Array, Array, Array],
    begin: int,
    table: Array,
    pool: Array,
    offsets: Array,
    used: Array,
    numbers: Array,
) -> int:
    """Number the ids from `begin` on; returns how far it came before the table, the pool or the offsets were full.

    A row of `table` is two words of the id, and its length above its number + 1, so that a look-up costs one cache
    miss. `used` holds how many ids and how many bytes of the pool there are.
    """
    data, starts, lengths = spans
    mask = len(table) - 1
    for i in range(begin, len(starts)):
        start, length = starts[i], np.int64(lengths[i])
        first, second = _keys(data, start, length)
        slot = _slot(first, second, mask)
        while True:
            entry = table[slot, 2]
            if entry == 0:
                number, at = used[0], used[1]
                if 2 * number >= len(table) or at + length > len(pool) or number + 1 >= len(offsets):
                    return i
                table[slot, 0], table[slot, 1] = np.int64(first), np.int64(second)
                table[slot, 2] = length << 32 | (number + 1)
                for k in range(length):
                    pool[at + k] = data[start + k]
                offsets[number + 1] = at + length
                used[0] += 1
                used[1] += length
                numbers[i] = number
                break
            if (
                table[slot, 0] == np.int64(first)
                and table[slot, 1] == np.int64(second)
                and entry >> 32 == length
            ):
                number = (entry & _LOW) - 1
                same = True
                if length > _SHORT:
                    at = offsets[number]
                    for k in range(length):
                        if pool[at + k] != data[start + k]:
                            same = False
                            break
                if same:
                    numbers[i] = number
                    break
            slot = (slot + 1) & mask
    return len(starts)


@njit(nogil=True, cache=True)
def _rehash(table: Array, larger: Array) -> None:
    mask = len(larger) - 1
    for row in range(len(table)):
        if table[row, 2]:
            slot = _slot(np.uint64(table[row, 0]), np.uint64(table[row, 1]), mask)
            while larger[slot, 2]:
                slot = (slot + 1) & mask
            larger[slot] = table[row]


class Ids:
    """Ids as UTF-8 bytes, numbered in order of appearance."""

    def __init__(self) -> None:
        self._table = np.zeros((1 << 12, 4), np.int64)  # four, so that a row lies in one cache line
        self._pool = np.zeros(1 << 15, np.uint8)
        self._offsets = np.zeros(1 << 12, np.int64)
        self._used = np.zeros(2, np.int64)

    def __len__(self) -> int:
        return int(self._used[0])

    def numbers(self, ids: Sequence[bytes]) -> NDArray[np.int32]:
        """The numbers of these ids, with an entry made for the new ones."""
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return self.numbers_in(b"".join(ids), np.cumsum(lengths) - lengths, lengths)

    def numbers_in(
        self, data: bytes | Array, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """The numbers of the ids that stand in `data` (bytes, or uint8) at these places."""
        codes = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        spans = (
            codes,
            np.ascontiguousarray(starts),
            np.ascontiguousarray(lengths),
        )  # one kind to compile for
        numbers = np.empty(len(starts), np.int32)
        done = 0
        while True:
            done = _intern(spans, done, self._table, self._pool, self._offsets, self._used, numbers)
            if done == len(starts):
                return numbers
            self._grow(int(lengths[done]))

    def _grow(self, length: int) -> None:
        n, used = self._used.tolist()
        if 2 * n >= len(self._table):
            larger = np.zeros((2 * len(self._table), 4), np.int64)
            _rehash(self._table, larger)
            self._table = larger
        if n + 1 >= len(self._offsets):
            self._offsets = np.append(self._offsets, np.zeros(len(self._offsets), np.int64))
        if used + length > len(self._pool):
            self._pool = np.append(self._pool, np.zeros(len(self._pool) + length, np.uint8))

    def name(self, number: int) -> bytes:
        """The id of this number."""
        begin, end = self._offsets[number : number + 2].tolist()
        return self._pool[begin:end].tobytes()

    def sorted(self, first: int | None = None) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """All ids, or the first so many, in the order of their bytes, and the rank (n,) of each number in it."""
        n = len(self) if first is None else first
        offsets = self._offsets[: n + 1]
        data = self._pool[: offsets[-1]].tobytes()
        order = self._order(data, offsets)
        rank = np.empty(n, np.int32)
        rank[order] = np.arange(n, dtype=np.int32)
        text = data.decode() if data.isascii() else None
        names: list[str] = []
        for begin in range(0, n, _SOME):  # a list of ten million places would take more memory than the ids
            some = order[begin : begin + _SOME]
            spans = zip(offsets[some].tolist(), offsets[some + 1].tolist(), strict=True)
            names += [text[a:b] for a, b in spans] if text else [data[a:b].decode() for a, b in spans]
        return tuple(names), rank

    def _order(self, data: bytes, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        starts, lengths = offsets[:-1], np.diff(offsets)
        n_words = -(-int(lengths.max(initial=1)) // 8)
        if n_words > _MOST_WORDS or b"\0" in data:
            names = [data[a:b] for a, b in zip(starts.tolist(), offsets[1:].tolist(), strict=True)]
            return np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        words = np.zeros((n_words, len(starts)), np.uint64)
        _big_endian(np.frombuffer(data, np.uint8), starts, lengths, words)
        return np.argsort(words[0]) if n_words == 1 else np.lexsort(words[::-1])


@njit(nogil=True, cache=True)
def _intern_whole(given: Array, begin: int, table: Array, values: Array, used: Array, numbers: Array) -> int:
    """As `_intern`, for whole numbers: a row of `table` is one of them, and its number + 1."""
    mask = len(table) - 1
    for i in range(begin, len(given)):
        slot = _slot(np.uint64(given[i]), np.uint64(0), mask)
        while table[slot, 1] and table[slot, 0] != given[i]:
            slot = (slot + 1) & mask
        if table[slot, 1] == 0:
            if 2 * used[0] >= len(table):
                return i
            table[slot, 0] = values[used[0]] = given[i]
            used[0] += 1
            table[slot, 1] = used[0]
        numbers[i] = table[slot, 1] - 1
    return len(given)


class WholeIds:
    """Whole numbers as ids: each becomes text only once, when it is met first."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._values = np.empty(1 << 12, np.int64)
        self._table = np.zeros((1 << 12, 2), np.int64)
        self._used = np.zeros(1, np.int64)
        self._known = np.empty(0, np.int32)

    def numbers(self, given: NDArray[np.int64]) -> NDArray[np.int32]:
        """The numbers that their texts have among the ids."""
        numbers, done = np.empty(len(given), np.int32), 0
        given = np.ascontiguousarray(given)
        while True:
            done = _intern_whole(given, done, self._table, self._values, self._used, numbers)
            if done == len(given):
                break
            self._values = np.append(self._values, np.empty_like(self._values))
            self._table = np.zeros((2 * len(self._table), 2), np.int64)
            again, self._used[0] = self._values[: self._used[0]], 0
            _intern_whole(again, 0, self._table, again.copy(), self._used, np.empty(len(again), np.int32))
        new = self._values[len(self._known) : self._used[0]].tolist()
        self._known = np.append(self._known, self._ids.numbers([b"%d" % value for value in new]))
        known: NDArray[np.int32] = self._known[numbers]
        return known


@njit(nogil=True, cache=True)
def _big_endian(data: Array, starts: Array, lengths: Array, words: Array) -> None:
    """The bytes of each id as numbers that sort as they do."""
    for i in range(len(starts)):
        for k in range(lengths[i]):
            words[k // 8, i] |= np.uint64(data[starts[i] + k]) << np.uint64(56 - 8 * (k % 8))


@njit(nogil=True, cache=True)
def join_spans(data: Array, first: Array, second: Array, mark: int, joined: Array) -> None:
    """Write `first`, the mark and `second`, both (2, n) starts and lengths in `data`, one after the other."""
    at = 0
    for i in range(first.shape[1]):
        for k in range(first[1, i]):
            joined[at + k] = data[first[0, i] + k]
        at += first[1, i]
        joined[at] = mark
        at += 1
        for k in range(second[1, i]):
            joined[at + k] = data[second[0, i] + k]
        at += second[1, i]
