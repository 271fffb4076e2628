"""What a hit shows of its record or part, checked as it is read; in a glimpse with the counters beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from search.catalog import checksums
from search.catalog.database import Behind, Glimpse, Transaction
from search.catalog.reads import RECORD, STATE, Row, all_readable, listed
from search.types import Json

# A short list of keys is quicker as so many question marks than as one JSON array.
_FEW = 128
_N_RECORD = 7
_N_PART = 9
# The counters as the last row of a question for records (which have as many columns) or for parts.
_AND_STATE = f" union all select {STATE}, checksum"


class Shown(NamedTuple):  # quicker to make than a dataclass
    """What a hit shows: of the record that is `owner`, or of a part of it."""

    owner: int
    id: str
    uri: str | None
    text: str | None  # the passage where the part is one
    metadata: str  # JSON
    part: dict[str, Json] | None


@lru_cache(maxsize=4 * _FEW + 4)
def _shown(n: int, pieces: bool, glimpse: bool) -> str:
    """The question for what is shown of `n` records, or parts of records; n = 0 takes a JSON array.

    In a `glimpse` the counters follow as the last row.
    """
    among = ",".join("?" * n) if n else "select value from json_each(?)"
    if not pieces:
        asked = f"select {RECORD} from record where key in ({among})"  # noqa: S608 - marks
        return f"{asked}{_AND_STATE} from state" if glimpse else asked
    record = ", ".join(f"record.{column}" for column in RECORD.split(", "))
    asked = (
        f'select {record}, part.key, record_key, space_key, start, "end", box, label, score, part.checksum '  # noqa: S608 - marks
        f"from part join record on record.key = part.record_key where part.key in ({among})"
    )
    return f"{asked}{_AND_STATE}{', null' * _N_PART} from state" if glimpse else asked


def _asked_once(glimpse: Transaction, text: str, values: Sequence[Any]) -> list[Row]:
    """The rows of a question, of which the last, the counters, must be as the reader remembers them.

    Raises:
        Behind: they are not.
    """
    assert isinstance(glimpse, Glimpse)
    rows = glimpse.once(text, values).fetchall()
    if rows.pop()[:_N_RECORD] != glimpse.remembered:
        raise Behind
    return rows


def shown(transaction: Transaction, wanted: Sequence[int], *, pieces: bool) -> dict[int, Shown]:
    """What a hit shows, by the key of the part; or, where parts are whole records, by that of the record.

    Raises:
        CollectionCorrupt: a record or part does not match its checksum.
    """
    few = 0 < len(wanted) <= _FEW
    glimpse = transaction.remembered is not None
    text = _shown(len(wanted) if few else 0, pieces, glimpse)
    ask = _asked_once if glimpse else all_readable
    rows = ask(transaction, text, wanted if few else (listed(wanted),))
    if not pieces:
        checksums.check_records(rows)
        return {
            key: Shown(key, id, uri, words, metadata, None) for key, id, _, uri, words, metadata, _ in rows
        }
    found: dict[int, Shown] = {}
    checksums.check_records([row[:_N_RECORD] for row in rows])
    for row in rows:
        checksums.check_part(row[_N_RECORD:])
        key, id, _, uri, words, metadata, _, part, _, _, start, end, box, label, score, _ = row
        piece: dict[str, Json] = {}
        if start is not None:
            piece |= {"start": start, "end": end}
            # Cut here, not by SQLite, for which a text ends at a NUL character.
            words = None if words is None else words[start:end]
        if box is not None:
            piece["box"] = json.loads(box)
        if label is not None:
            piece["label"] = label
        if score is not None:
            piece["score"] = score
        found[part] = Shown(key, id, uri, words, metadata, piece or None)
    return found
