"""The text around a piece of a record: the pieces of the same record and space that stand next to it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from search.catalog import checksums, reads
from search.catalog.database import Transaction
from search.catalog.reads import Row

CONTEXTUAL_WORDS = (
    "text-words"  # the family of encoders whose pieces are words, which need not stand side by side
)
_PART = 'key, record_key, space_key, start, "end", box, label, score, checksum'
_WORD = re.compile(r"\S+")
_LONGEST_WORD = (
    64  # characters that are looked through for each word, so that the time does not grow with the text
)


def around(transaction: Transaction, part_keys: Iterable[int], n: int) -> dict[int, tuple[str, str]]:
    """The text before and after each of these parts, as far as its `n` neighbours on either side reach.

    Neighbours are the passages next in order; what a passage shares with them is not repeated, so that before +
    passage + after is one stretch of the record's text. Around a word in its context they are the `n` words next to
    it, whether they have vectors or not. Parts that are no stretch of a text are left out.

    Raises:
        CollectionCorrupt: a record or part is damaged.
    """
    families = {space.key: space.encoder.family for space in reads.spaces(transaction).values()}
    found: dict[int, tuple[str, str]] = {}
    for part_key in part_keys:
        row = _part(transaction, part_key)
        if row is None or row[3] is None:
            continue
        record_key, space_key, start, end = row[1:5]
        text = _text(transaction, record_key)
        if text is None:
            continue
        if families.get(space_key) == CONTEXTUAL_WORDS:
            found[part_key] = words_around(text, start, end, n)
        else:
            first = min([start, *(near[3] for near in _near(transaction, row, n, "<", "desc"))])
            last = max([end, *(near[4] for near in _near(transaction, row, n, ">", "asc"))])
            found[part_key] = text[first:start], text[end:last]
    return found


def words_around(text: str, start: int, end: int, n: int) -> tuple[str, str]:
    """The `n` words before and after text[start:end], with the white space between."""
    left = text[max(start - n * _LONGEST_WORD, 0) : start]
    right = text[end : end + n * _LONGEST_WORD]
    begins = [match.start() for match in _WORD.finditer(left)]
    ends = [match.end() for match in _WORD.finditer(right)]
    before = left[begins[-n] :] if 0 < n <= len(begins) else left if n else ""
    after = right[: ends[n - 1]] if 0 < n <= len(ends) else right if n else ""
    return before, after


def _part(transaction: Transaction, key: int) -> Row | None:
    row: Row | None = transaction.sql(f"select {_PART} from part where key = ?", (key,)).fetchone()  # noqa: S608 - columns
    if row is not None:
        checksums.check_part(row)
    return row


def _near(transaction: Transaction, row: Row, n: int, side: str, order: str) -> list[Row]:
    """Up to `n` parts of the same record and space on one side of a part, the nearest first."""
    key, record_key, space_key, start = row[:4]
    found = transaction.sql(
        f"select {_PART} from part where record_key = ? and space_key = ? and (start, key) {side} (?, ?) "  # noqa: S608 - ours
        f"order by start {order}, key {order} limit ?",
        (record_key, space_key, start, key, n),
    ).fetchall()
    for near in found:
        checksums.check_part(near)
    return found


def _text(transaction: Transaction, record_key: int) -> str | None:
    question = "select key, id, kind, uri, text, metadata, checksum from record where key = ?"
    for row in reads.readable(transaction, lambda: transaction.sql(question, (record_key,))):
        return reads.stored(row).record.text
    return None
