"""Where a word stands in the texts of a collection, among the words that have vectors of their own."""

from __future__ import annotations

from search.catalog import checksums, reads
from search.catalog.database import Transaction
from search.types import Space


def occurrences(transaction: Transaction, space: Space, word: str) -> list[tuple[int, int]]:
    """The keys (part, record) of those parts of the space whose text is this word, whatever its case, in order.

    Every text of the space is looked through.

    Raises:
        CollectionCorrupt: a record or part is damaged.
    """
    wanted = word.casefold()
    question = (
        "select key, id, kind, uri, text, metadata, checksum from record "
        "where key in (select record_key from part where space_key = ?) order by key"
    )
    found: list[tuple[int, int]] = []
    for row in reads.readable(transaction, lambda: transaction.sql(question, (space.key,))):
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
