"""One unit vector for each record of a space, where records are compared with each other as wholes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.catalog import reads
from search.catalog.database import Transaction
from search.index.view import Look
from search.query.run import mask_of
from search.types import Metric
from search.vectors import Keys, Vectors, unit_rows


@dataclass(frozen=True, slots=True)
class OneEach:
    """Row i of `vectors` (n, dim), of unit length, stands for the record `record_keys[i]`; the keys ascend."""

    record_keys: Keys
    vectors: Vectors

    def among(self, record_keys: Keys) -> OneEach:
        """Of those of these records that are here."""
        there = np.isin(self.record_keys, record_keys)
        return self if there.all() else OneEach(self.record_keys[there], self.vectors[there])


def one_each(
    transaction: Transaction, look: Look, matching: Keys | None = None, *, lengths: bool = False
) -> OneEach:
    """The vector of each record: of the whole where there is one, else the mean of its pieces; of unit length.

    A picture with objects in it is its whole; a text is the mean of its passages.

    Args:
        transaction: the reader's.
        look: the space.
        matching: the records wanted, by their keys; None takes all.
        lengths: leave the vectors as long as they are.
    """
    rows = look.rows
    mask = np.ones(len(rows), dtype=bool) if matching is None else mask_of(rows, matching)
    at = rows.allowed(mask).positions
    owners = rows.record_keys[at]
    if look.pieces:
        whole = np.isin(rows.part_keys[at], _whole_parts(transaction, look), assume_unique=True)
        at = at[whole | ~np.isin(owners, owners[whole])]
        owners = rows.record_keys[at]
    order = np.argsort(owners, kind="stable")
    at, owners = at[order], owners[order]
    in_place = len(at) == len(rows) and np.array_equal(at, np.arange(len(at)))
    matrix = rows.matrix if in_place else rows.matrix[at]
    if look.space.metric is not Metric.COSINE and not lengths:
        matrix = unit_rows(matrix)
    first = np.flatnonzero(np.diff(owners, prepend=-1))
    if len(first) == len(owners):
        return OneEach(owners, matrix)
    total = np.add.reduceat(matrix, first, axis=0)
    if lengths:
        sizes = np.diff(first, append=len(owners))[:, None].astype(np.float32)
        return OneEach(owners[first], np.asarray(total / sizes, dtype=np.float32))
    return OneEach(owners[first], unit_rows(total))


def _whole_parts(transaction: Transaction, look: Look) -> Keys:
    """The keys of the parts of the space that are whole records."""
    return reads.key_array(
        transaction.sql(
            'select key from part where space_key = ? and start is null and "end" is null and box is null '
            "order by key",
            (look.space.key,),
        )
    )
