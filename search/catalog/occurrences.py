"""Where a word stands in the texts of a collection, among the words that have vectors of their own."""

from __future__ import annotations

from search.catalog import checksums, reads
from search.catalog.database import Transaction
from search.types import Space

_LIKE_ASCII = "ßſẞ\N{KELVIN SIGN}ﬀﬁﬂﬃﬄﬅﬆ"  # the signs beyond ASCII that are ASCII when case is folded


def occurrences(transaction: Transaction, space: Space, word: str) -> list[tuple[int, int]]:
    """The keys (part, record) of those parts of the space whose text is this word, whatever its case, in order.

    Where the word is ASCII, SQLite passes over the texts that do not hold it; else every text is looked at.

    Raises:
        CollectionCorrupt: a record or part is damaged.
    """
    wanted = word.casefold()
    signs = [sign for sign in _LIKE_ASCII if sign.casefold() in wanted] if wanted.isascii() else []
    holds = (
        " or ".join(["instr(lower(text), ?)", *("instr(text, ?)" for _ in signs)])
        if wanted.isascii()
        else "1"
    )
    question = (
        "select key, id, kind, uri, text, metadata, checksum from record "  # noqa: S608 - no value stands in it
        f"where key in (select record_key from part where space_key = ?) and ({holds}) order by key"
    )
    values = (space.key, *([wanted, *signs] if wanted.isascii() else []))
    found: list[tuple[int, int]] = []
    for row in reads.readable(transaction, lambda: transaction.sql(question, values)):
        checksums.check_record(row)
        text = row[4]
        if text is None or wanted not in text.casefold():
            continue
        for part in transaction.sql(
            'select key, record_key, space_key, start, "end", box, label, score, checksum from part '
            "where record_key = ? and space_key = ? order by key",
            (row[0], space.key),
        ):
            checksums.check_part(part)
            if part[3] is not None and text[part[3] : part[4]].casefold() == wanted:
                found.append((part[0], row[0]))
    return found
