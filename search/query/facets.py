"""How many records have each value of a field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from search.catalog import checksums, reads
from search.catalog.database import Transaction
from search.catalog.metadata_text import decoded
from search.errors import QueryError
from search.query.boost import field_of
from search.types import Json
from search.vectors import Keys


def facets(
    transaction: Transaction, names: Sequence[str], matching: Keys | None, limit: int
) -> dict[str, list[dict[str, Json]]]:
    """For each field its values with their counts, the most frequent first, among equals by value.

    Each element of a list counts; a field that is null or absent does not.

    Args:
        transaction: to read in.
        names: the fields, nested ones with dots.
        matching: keys of the records to count, ascending; None counts all.
        limit: how many values of each field.

    Raises:
        QueryError: no record has a field of this name, or the limit makes no sense.
        CollectionCorrupt: a record does not match its checksum.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise QueryError(f"limit must be a whole number of at least 1, not {limit!r}; say how many values")
    known = reads.fields(transaction)
    for name in names:
        if name not in known:
            raise QueryError(f"no record has a field '{name}'; there are: {', '.join(known) or 'none yet'}")
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    rows = transaction.sql("select key, id, kind, uri, text, metadata, checksum from record order by key")
    among = None if matching is None else set(matching.tolist())
    for row in rows:
        if among is not None and row[0] not in among:
            continue
        checksums.check_record(row)
        metadata = decoded(row[5])
        for name in names:
            value = field_of(metadata, name)
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    counts[name][json.dumps(one, sort_keys=True, ensure_ascii=False)] += 1
    return {
        name: [
            {"value": json.loads(value), "count": n}
            for value, n in sorted(some.items(), key=lambda one: (-one[1], one[0]))[:limit]
        ]
        for name, some in counts.items()
    }
