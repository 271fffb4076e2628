"""What ingest has taken in before: which contents, and the vectors that were made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.catalog import reads, showing
from search.catalog.database import Transaction
from search.types import Part, Space
from search.vectors import Keys, Vectors

# A digest of an ingest run: of the whole input, of the settings, of the text with them.
WHOLE_BYTES, SETTINGS_BYTES, CONTENT_BYTES = 16, 4, 8
FULL_BYTES = WHOLE_BYTES + SETTINGS_BYTES + CONTENT_BYTES


def contents(transaction: Transaction, space: Space) -> tuple[NDArray[np.uint64], Keys]:
    """The hashes (n,) of the texts that vectors of the space were made of, ascending, and the records' keys (n,)."""
    rows = transaction.sql(
        "select substr(digest, ?), record_key from synced where space_key = ? and length(digest) = ?",
        (WHOLE_BYTES + SETTINGS_BYTES + 1, space.key, FULL_BYTES),
    )
    hashes, keys = bytearray(), []
    for content, key in rows:
        hashes += content
        keys.append(key)
    found = np.frombuffer(bytes(hashes), "<u8")
    order = np.argsort(found, kind="stable")
    return found[order], np.array(keys, dtype=np.int64)[order]


def texts(transaction: Transaction, record_keys: Sequence[int]) -> dict[int, str]:
    """The texts of these records, of those that have one.

    Raises:
        CollectionCorrupt: a record does not match its checksum.
    """
    shown = showing.shown(transaction, record_keys, pieces=False)
    return {key: words for key, (_, _, _, words, _, _) in shown.items() if words is not None}


def passages(
    transaction: Transaction, space: Space, record_keys: Sequence[int]
) -> dict[int, tuple[tuple[Part, ...], Vectors]]:
    """The passages of each of these records in the space, in order, and their vectors (n, dim).

    Raises:
        CollectionCorrupt: a record, a part or a batch does not match its checksum.
    """
    parts = reads.parts_of(transaction, space, record_keys)
    wanted = sorted(key for keys in parts.values() for key in keys)
    pieces = {
        key: Part(int(str(piece["start"])), int(str(piece["end"])))
        for key, (_, _, _, _, _, piece) in showing.shown(transaction, wanted, pieces=True).items()
        if piece is not None and set(piece) == {"start", "end"}
    }
    vectors = _vectors(transaction, space, wanted)
    return {
        record: (tuple(pieces[key] for key in keys), np.stack([vectors[key] for key in keys]))
        for record, keys in parts.items()
        if all(key in pieces and key in vectors for key in keys)
    }


def _vectors(transaction: Transaction, space: Space, wanted: Sequence[int]) -> dict[int, Vectors]:
    """The vectors of these parts (ascending); only the batches that hold one are read."""
    found: dict[int, Vectors] = {}
    left = list(reversed(wanted))
    while left:
        for batch in reads.batches(transaction, space, left[-1] - 1, left[-1]):
            while left and left[-1] <= batch.part_keys[-1]:
                key = left.pop()
                row = int(np.searchsorted(batch.part_keys, key))
                if batch.part_keys[row] == key:
                    found[key] = batch.vectors[row]
            break
        else:
            left.pop()
    return found
