"""One space that takes the place of another: what it still lacks, the exchange of names, and the end of the old one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from search.catalog import reads, showing, writes
from search.catalog.database import Transaction
from search.errors import UnknownSpace
from search.failpoints import Step, reached
from search.types import OLD, Part, Space
from search.vectors import Keys


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A record that the successor has no vectors of, or of another content.

    `changed` is the last commit that touched it; `digest` and `origin` say what its vectors in the space before were
    made from, where that is known.
    """

    key: int
    id: str
    changed: int
    digest: bytes | None
    origin: str | None


_OUTSTANDING = (
    "from record "
    "left join synced as made on made.record_key = record.key and made.space_key = :before "
    "left join synced as held on held.record_key = record.key and held.space_key = :successor "
    "where record.key > :after "
    "and exists (select 1 from part where record_key = record.key and space_key = :before) "
    "and (held.digest <> made.digest or not exists "
    "(select 1 from part where record_key = record.key and space_key = :successor))"
)


def outstanding(
    transaction: Transaction, before: Space, successor: Space, after: int, limit: int
) -> list[Outstanding]:
    """The next records, by their keys, that are in one space and not, or not as they are now, in the other."""
    rows = transaction.sql(
        f"select record.key, record.id, record.changed, made.digest, made.origin {_OUTSTANDING} "
        "order by record.key limit :limit",
        {"before": before.key, "successor": successor.key, "after": after, "limit": limit},
    )
    return [Outstanding(*row) for row in rows]


def n_outstanding(transaction: Transaction, before: Space, successor: Space) -> int:
    """How many these are."""
    values = {"before": before.key, "successor": successor.key, "after": 0}
    (n,) = transaction.sql(f"select count(*) {_OUTSTANDING}", values).fetchone()
    return int(n)


def surplus(transaction: Transaction, before: Space, successor: Space) -> Keys:
    """Keys of the records that are in the successor alone."""
    return reads.key_array(
        transaction.sql(
            "select distinct record_key from part where space_key = ? and not exists "
            "(select 1 from part as other where other.record_key = part.record_key and other.space_key = ?) "
            "order by record_key",
            (successor.key, before.key),
        )
    )


def marks(transaction: Transaction, space: Space, begin: int, n: int) -> set[bytes]:
    """The `n` bytes from `begin` (0-based) of all the longer digests behind the space's vectors."""
    return {
        bytes(row[0])
        for row in transaction.sql(
            "select distinct substr(digest, ?, ?) from synced where space_key = ? and length(digest) > ?",
            (begin + 1, n, space.key, begin + n),
        )
    }


def parts(transaction: Transaction, space: Space, record_keys: Keys) -> dict[int, tuple[Part, ...]]:
    """The parts of these records in the space, in order.

    Raises:
        CollectionCorrupt: a part does not match its checksum.
    """
    keys = reads.parts_of(transaction, space, record_keys.tolist())
    shown = showing.shown(transaction, [key for some in keys.values() for key in some], pieces=True)
    found: dict[int, tuple[Part, ...]] = {}
    for record_key, some in keys.items():
        pieces = [dict(shown[key].part or {}) for key in some]
        found[record_key] = tuple(
            Part(
                start=piece.get("start"),  # type: ignore[arg-type]
                end=piece.get("end"),  # type: ignore[arg-type]
                box=tuple(box) if isinstance(box := piece.get("box"), list) else None,
                label=piece.get("label"),  # type: ignore[arg-type]
                score=piece.get("score"),  # type: ignore[arg-type]
            )
            for piece in pieces
        )
    return found


def exchange(transaction: Transaction, current: Space, successor: Space) -> None:
    """The successor takes the name of the current space, which from now on has that of the old one.

    Raises:
        UnknownSpace: one of them is not there under this name any more.
    """
    reached(Step.COMMIT_BEGUN)
    there = reads.spaces(transaction)
    for space in (current, successor):
        if space.name not in there or there[space.name].key != space.key:
            raise UnknownSpace(f"space '{space.name}' is not there any more; look with: nearkin info")
    name = current.name
    for key, now in (
        (current.key, f"{name}@switching"),
        (successor.key, name),
        (current.key, f"{name}{OLD}"),
    ):
        transaction.sql("update space set name = ? where key = ?", (now, key))
    for space in (current, successor):
        writes.space_changed(transaction, space.key)
    reached(Step.COMMIT_STATE)


def drop(transaction: Transaction, space: Space) -> int:
    """Drop a space with its vectors; how many parts it had. Records stay.

    The models that no other space was made with go with it. Its number is never given again: readers may remember it.
    """
    reached(Step.COMMIT_BEGUN)
    n = int(transaction.value("select count(*) from part where space_key = ?", (space.key,)))
    for table in ("part", "batch", "tombstone", "synced", "edge_block", "graph"):
        transaction.sql(f"delete from {table} where space_key = ?", (space.key,))  # noqa: S608 - the names above
    transaction.sql("delete from space where key = ?", (space.key,))
    writes.forget_model(transaction, space.encoder.weights)
    counters = reads.state(transaction)
    writes.count_on(
        transaction,
        replace(
            counters,
            commit_seq=counters.commit_seq + 1,
            spaces_seq=max(counters.spaces_seq + 1, space.key),
        ),
    )
    reached(Step.COMMIT_STATE)
    return n
