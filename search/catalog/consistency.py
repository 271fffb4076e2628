"""Holds what the catalog says in one place against what it says in another: what is missing has no checksum."""

from __future__ import annotations

import numpy as np

from search.catalog import checksums, packing, reads
from search.catalog.database import Transaction
from search.errors import CollectionCorrupt
from search.types import Space
from search.vectors import Keys


def living(transaction: Transaction, space: Space) -> tuple[Keys, Keys]:
    """The part and the record keys of the space's living rows, without a look at their vectors."""
    rows = transaction.sql(
        "select part_keys, record_keys from batch where space_key = ? order by last_part", (space.key,)
    ).fetchall()
    part_keys, record_keys = (
        np.concatenate([np.empty(0, np.int64), *(packing.keys(row[column]) for row in rows)])
        for column in (0, 1)
    )
    alive = ~np.isin(part_keys, reads.tombstones(transaction, space))
    return part_keys[alive], record_keys[alive]


def check_living(transaction: Transaction, space: Space, part_keys: Keys, record_keys: Keys) -> None:
    """Compare the rows that batches and tombstones leave alive with the parts, which say the same.

    Only by their number and sums, so that it costs little beside the reading of the vectors.

    Args:
        transaction: the one that the rows were read in.
        space: whose they are.
        part_keys: of the living rows, in their order.
        record_keys: likewise.

    Raises:
        CollectionCorrupt: they are not the same.
    """
    row = transaction.sql(
        "select count(*), coalesce(sum(key), 0), coalesce(sum(record_key), 0) from part where space_key = ?",
        (space.key,),
    ).fetchone()
    living = (len(part_keys), int(part_keys.sum()), int(record_keys.sum()))
    if row != living or (part_keys[1:] <= part_keys[:-1]).any():
        raise CollectionCorrupt(
            f"space '{space.name}': its parts and its vectors do not match; restore a backup"
        )


def check_vectors(transaction: Transaction) -> None:
    """Make sure that whoever writes out the vectors of all parts leaves none out.

    Raises:
        CollectionCorrupt: a part has no space, or those of a space are not those of its vectors.
    """
    found = reads.spaces(transaction).values()
    for space in found:
        check_living(transaction, space, *living(transaction, space))
    homeless = transaction.value(
        "select key from part where space_key not in (select value from json_each(?)) limit 1",
        (reads.listed(space.key for space in found),),
    )
    if homeless is not None:
        raise CollectionCorrupt(f"part {homeless} is of no space; restore the collection from a backup")


def check_absent(transaction: Transaction, id: str) -> None:
    """Make sure that an id which was not found is not there.

    Where its entry in the index on ids is damaged, it stands beside the place at which the id was looked for.

    Raises:
        CollectionCorrupt: an entry there is not the id of the record that it leads to.
    """
    for side in (
        "select id, key from record where id < ? order by id desc limit 1",
        "select id, key from record where id > ? order by id limit 1",
    ):
        beside = transaction.sql(side, (id,)).fetchone()
        if beside is not None:
            true = transaction.value("select id from record where key = ?", (beside[1],))
            if true != beside[0]:
                raise checksums.damaged_id(id)
