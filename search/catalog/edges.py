"""The edges of a graph space, packed in blocks of nodes: whose neighbours are whose, by the keys of records."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from search.catalog.database import Transaction
from search.errors import CollectionCorrupt
from search.types import Json, Space
from search.vectors import Keys

OUT, IN = 0, 1  # sides: where edges lead; where they come from, which undirected graphs need not keep
READ, ADDED = 0, 1  # layers: what the graph was learned from; what was added to it since
ENTRIES = 65_536  # neighbours in one block, which is what is read for one node: 256 KiB, 512 with weights
_WIDE = 1 << 32  # from here on keys take 8 bytes instead of 4
_COLUMNS = "space_key, layer, side, first, last, n_nodes, n_entries, loops, wide, weighted"


@dataclass(frozen=True, slots=True)
class Rows:
    """Neighbours in compressed rows, by the keys of records.

    The neighbours of `nodes[i]` are `targets[indptr[i]:indptr[i + 1]]`, with `weights` beside them (None: all 1).
    """

    nodes: Keys  # (n,)
    indptr: NDArray[np.int64]  # (n + 1,)
    targets: Keys  # (m,)
    weights: NDArray[np.float32] | None  # (m,)


@dataclass(frozen=True, slots=True)
class NamedRows:
    """A graph in compressed rows whose node i is the record `ids[i]`; an undirected edge stands in both rows."""

    ids: Sequence[str]
    indptr: NDArray[np.int64]  # (n + 1,)
    indices: NDArray[np.int32]  # (m,)
    weights: NDArray[np.float32] | None  # (m,)
    directed: bool

    def sides(self, keys: Keys) -> dict[int, Rows]:
        """What is kept of it, the records having these keys (n,)."""
        out = Rows(keys, self.indptr, keys[self.indices], self.weights)
        if not self.directed:
            return {OUT: out}
        order = np.argsort(self.indices, kind="stable")
        ends = np.searchsorted(self.indices[order], np.arange(len(keys) + 1))
        sources = np.repeat(keys, np.diff(self.indptr))[order]
        back = Rows(
            keys, ends.astype(np.int64), sources, None if self.weights is None else self.weights[order]
        )
        return {OUT: out, IN: back}


@dataclass(frozen=True, slots=True)
class GraphState:
    """What is known of a space's graph beside its edges.

    `added` says for each file that edges were added from what it held: a hash as text.
    """

    directed: bool
    n_edges: int
    added: Mapping[str, str]


def replace_edges(transaction: Transaction, space: Space, layer: int, sides: Mapping[int, Rows]) -> None:
    """Put these edges in the place of those of a layer, as part of the caller's commit."""
    transaction.sql("delete from edge_block where space_key = ? and layer = ?", (space.key, layer))
    for side, rows in sides.items():
        transaction.many(
            f"insert into edge_block ({_COLUMNS}, data, checksum) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - columns
            (_row(space.key, layer, side, block) for block in _blocks(rows)),
        )


def set_state(transaction: Transaction, space: Space, *, directed: bool, added: Mapping[str, str]) -> None:
    """Note what the graph is, and how much there is of it now."""
    n_blocks, n_entries = _counted(transaction, space.key)
    values = (space.key, int(directed), n_blocks, n_entries, orjson.dumps(dict(added)).decode())
    transaction.sql(
        "insert or replace into graph (space_key, directed, n_blocks, n_entries, added, checksum) "
        "values (?, ?, ?, ?, ?, ?)",
        (*values, zlib.crc32(orjson.dumps(values))),
    )


def state(transaction: Transaction, space: Space) -> GraphState | None:
    """What is known of the space's graph; None where no edges are kept.

    Raises:
        CollectionCorrupt: it does not match its checksum, or blocks are missing.
    """
    row = transaction.sql(
        "select space_key, directed, n_blocks, n_entries, added, checksum from graph where space_key = ?",
        (space.key,),
    ).fetchone()
    if row is None:
        return None
    try:
        good = zlib.crc32(orjson.dumps(row[:-1])) == row[-1]
    except TypeError:
        good = False
    if not good or _counted(transaction, space.key) != tuple(row[2:4]):
        raise _damaged(space.name)
    directed = bool(row[1])
    entries, loops = transaction.sql(
        "select coalesce(sum(n_entries), 0), coalesce(sum(loops), 0) from edge_block "
        "where space_key = ? and side = ?",
        (space.key, OUT),
    ).fetchone()
    return GraphState(directed, entries if directed else (entries + loops) // 2, orjson.loads(row[4]))


def _counted(transaction: Transaction, space_key: int) -> tuple[int, int]:
    found = transaction.sql(
        "select count(*), coalesce(sum(n_entries), 0) from edge_block where space_key = ?", (space_key,)
    ).fetchone()
    return found[0], found[1]


def neighbours(
    transaction: Transaction, space: Space, node: int, side: int = OUT
) -> tuple[Keys, NDArray[np.float32]]:
    """The keys (n,) of a node's neighbours, ascending, and the weights (n,) of the edges; deleted ones are there yet.

    Raises:
        CollectionCorrupt: a block does not match its checksum.
    """
    keys, weights = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for layer in (READ, ADDED):
        for block in _from(transaction, space, layer, side, node):
            if block.nodes[0] > node:
                break
            at = int(np.searchsorted(block.nodes, node))
            if at < len(block.nodes) and block.nodes[at] == node:
                span = slice(block.indptr[at], block.indptr[at + 1])
                keys.append(block.targets[span])
                count = int(block.indptr[at + 1] - block.indptr[at])
                weights.append(np.ones(count, np.float32) if block.weights is None else block.weights[span])
    all_keys, all_weights = np.concatenate(keys), np.concatenate(weights)
    order = np.argsort(all_keys, kind="stable")
    return all_keys[order], all_weights[order]


def learned_from(
    transaction: Transaction, space: Space, nodes: Keys
) -> Iterator[tuple[int, Keys, NDArray[np.float32]]]:
    """Of each of `nodes` (n,), ascending, with edges in the layer READ: its key, where they lead, and the weights.

    Each block is read once for all nodes in it; a node with very many neighbours may come several times.

    Raises:
        CollectionCorrupt: a block does not match its checksum.
    """
    blocks = transaction.sql(
        "select key, first, last from edge_block where space_key = ? and layer = ? and side = ? "
        "and last >= ? and first <= ? order by last, key",
        (space.key, READ, OUT, int(nodes[0]), int(nodes[-1]))
        if len(nodes)
        else (space.key, READ, OUT, 0, -1),
    ).fetchall()
    for key, first, last in blocks:
        wanted = nodes[np.searchsorted(nodes, first) : np.searchsorted(nodes, last, side="right")]
        if not len(wanted):
            continue
        row = transaction.sql(
            f"select key, {_COLUMNS}, data, checksum from edge_block where key = ?",  # noqa: S608 - columns
            (key,),
        ).fetchone()
        block = _unpacked(row, space.name)
        for node, place in zip(wanted.tolist(), np.searchsorted(block.nodes, wanted).tolist(), strict=True):
            if block.nodes[place] == node:
                span = slice(block.indptr[place], block.indptr[place + 1])
                targets = block.targets[span]
                ones = np.ones(len(targets), np.float32)
                yield node, targets, ones if block.weights is None else block.weights[span]


def every(transaction: Transaction, space: Space, layer: int, side: int = OUT) -> Iterator[Rows]:
    """The blocks of a layer in order; a node with many neighbours may stand in several.

    Raises:
        CollectionCorrupt: a block does not match its checksum.
    """
    return _from(transaction, space, layer, side, -1)


def _from(transaction: Transaction, space: Space, layer: int, side: int, node: int) -> Iterator[Rows]:
    """The blocks of one layer and side that hold `node` or later ones."""
    cursor = transaction.sql(
        f"select key, {_COLUMNS}, data, checksum from edge_block "  # noqa: S608 - columns
        "where space_key = ? and layer = ? and side = ? and last >= ? order by last, key",
        (space.key, layer, side, node),
    )
    for row in cursor:  # not `yield from`, which would close the cursor, if only after its connection
        yield _unpacked(row, space.name)


def drop_deleted(transaction: Transaction, space: Space, living: Keys) -> int:
    """Rewrite the blocks that name records which are gone, without them; how many entries were dropped.

    Args:
        transaction: the caller's.
        space: whose edges.
        living: the keys of all records, ascending.
    """
    held = transaction.sql(
        f"select key, {_COLUMNS}, data, checksum from edge_block where space_key = ?",  # noqa: S608 - columns
        (space.key,),
    )
    dropped = 0
    doomed: list[tuple[int, tuple[Any, ...] | None]] = []
    for row in held:
        rows = _unpacked(row, space.name)
        owners = np.repeat(rows.nodes, np.diff(rows.indptr))
        alive = _among(owners, living) & _among(rows.targets, living)
        if alive.all():
            continue
        dropped += int((~alive).sum())
        kept = _rows(
            owners[alive], rows.targets[alive], None if rows.weights is None else rows.weights[alive]
        )
        doomed.append((row[0], _row(space.key, row[2], row[3], kept) if len(kept.nodes) else None))
    for key, left in doomed:
        transaction.sql("delete from edge_block where key = ?", (key,))
        if left is not None:  # under its old number: a node's blocks stay in order
            transaction.sql(
                f"insert into edge_block (key, {_COLUMNS}, data, checksum) "  # noqa: S608 - columns
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key, *left),
            )
    return dropped


def problems(transaction: Transaction, space: Space) -> Iterator[str]:
    """One line for each thing that is damaged in the space's edges."""
    if state(transaction, space) is None:
        if _counted(transaction, space.key)[0]:
            yield str(_damaged(space.name))
        return
    for row in transaction.sql(
        f"select key, {_COLUMNS}, data, checksum from edge_block where space_key = ?",  # noqa: S608 - columns
        (space.key,),
    ):
        try:
            _unpacked(row, space.name)
        except CollectionCorrupt as error:
            yield str(error)


def in_rows(sources: Keys, targets: Keys, weights: NDArray[np.float32] | None) -> Rows:
    """Edges in any order as rows, nodes and neighbours ascending."""
    order = np.lexsort((targets, sources))
    return _rows(sources[order], targets[order], None if weights is None else weights[order])


def _rows(owners: Keys, targets: Keys, weights: NDArray[np.float32] | None) -> Rows:
    """Edges in order of their owners as rows."""
    nodes, first = np.unique(owners, return_index=True)
    return Rows(nodes, np.append(first, len(owners)).astype(np.int64), targets, weights)


def _among(keys: Keys, living: Keys) -> NDArray[np.bool_]:
    if not len(living):
        return np.zeros(len(keys), np.bool_)
    at = np.minimum(np.searchsorted(living, keys), len(living) - 1)
    return np.asarray(living[at] == keys)


def _blocks(rows: Rows) -> Iterator[Rows]:
    """The rows in blocks, nodes and neighbours ascending; nodes without neighbours are left out."""
    degrees = np.diff(rows.indptr)
    order = np.argsort(rows.nodes, kind="stable")
    order = order[degrees[order] > 0]
    ends = np.cumsum(degrees[order])
    at = 0
    while at < len(order):
        before = int(ends[at - 1]) if at else 0
        until = int(np.searchsorted(ends, before + ENTRIES, side="right"))
        block = _gathered(rows, order[at : max(until, at + 1)])
        if until > at:
            yield block
            at = until
            continue
        for low in range(0, len(block.targets), ENTRIES):  # a node with more neighbours than fit
            span = slice(low, low + ENTRIES)
            targets = block.targets[span]
            weights = None if block.weights is None else block.weights[span]
            yield Rows(block.nodes, np.array([0, len(targets)]), targets, weights)
        at += 1


def _gathered(rows: Rows, chosen: NDArray[np.int64]) -> Rows:
    """These rows, each with its neighbours in ascending order."""
    sizes = rows.indptr[chosen + 1] - rows.indptr[chosen]
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    places = np.arange(indptr[-1]) + np.repeat(rows.indptr[chosen] - indptr[:-1], sizes)
    targets = rows.targets[places]
    weights = None if rows.weights is None else rows.weights[places]
    falling = np.diff(targets) < 0
    falling[indptr[1:-1] - 1] = False
    if falling.any():
        order = np.lexsort((targets, np.repeat(np.arange(len(chosen)), sizes)))
        targets, weights = targets[order], None if weights is None else weights[order]
    return Rows(rows.nodes[chosen], indptr, targets, weights)


def _row(space_key: int, layer: int, side: int, block: Rows) -> tuple[Any, ...]:
    """The values of a block's row, in the order of `_COLUMNS`, then data and checksum."""
    wide = bool(max(int(block.nodes[-1]), int(block.targets.max())) >= _WIDE)
    kind = "<u8" if wide else "<u4"
    weighted = block.weights is not None and bool((block.weights != 1).any())
    data = b"".join(
        [
            block.nodes.astype(kind).tobytes(),
            block.indptr[1:].astype("<u4").tobytes(),
            block.targets.astype(kind).tobytes(),
            block.weights.astype("<f4").tobytes() if weighted and block.weights is not None else b"",
        ]
    )
    loops = int((np.repeat(block.nodes, np.diff(block.indptr)) == block.targets).sum())
    said = (
        space_key,
        layer,
        side,
        int(block.nodes[0]),
        int(block.nodes[-1]),
        len(block.nodes),
        len(block.targets),
        loops,
        int(wide),
        int(weighted),
    )
    return (*said, data, zlib.crc32(data, zlib.crc32(orjson.dumps(said))))


def _unpacked(row: tuple[Any, ...], name: str) -> Rows:
    key, *said, data, checksum = row
    try:
        good = zlib.crc32(data, zlib.crc32(orjson.dumps(said))) == checksum
    except TypeError:
        good = False
    if not good:
        raise CollectionCorrupt(
            f"block {key} of the edges of space '{name}' does not match its checksum; "
            "restore the collection from a backup"
        )
    n_nodes, n_entries, _, wide, weighted = said[5:]
    kind, size = ("<u8", 8) if wide else ("<u4", 4)
    nodes = np.frombuffer(data, kind, n_nodes).astype(np.int64)
    ends = np.frombuffer(data, "<u4", n_nodes, n_nodes * size)
    at = n_nodes * (size + 4)
    targets = np.frombuffer(data, kind, n_entries, at).astype(np.int64)
    weights = np.frombuffer(data, "<f4", n_entries, at + n_entries * size) if weighted else None
    return Rows(nodes, np.concatenate([[0], ends]).astype(np.int64), targets, weights)


def _damaged(name: str) -> CollectionCorrupt:
    return CollectionCorrupt(
        f"the edges of space '{name}' do not match what is said of them; restore the collection from a backup"
    )


def told(found: GraphState | None) -> Json:
    """For `info`: how many edges there are, and whether they have a direction; None where none are kept."""
    return None if found is None else {"edges": found.n_edges, "directed": found.directed}


def some(
    transaction: Transaction, space: Space, layer: int, rng: np.random.Generator, wanted: int
) -> Iterator[Rows]:
    """Blocks of a layer drawn by chance, until they hold `wanted` entries or all are there."""
    rows = transaction.sql(
        "select key, n_entries from edge_block where space_key = ? and layer = ? and side = ? order by key",
        (space.key, layer, OUT),
    ).fetchall()
    for at in rng.permutation(len(rows)).tolist():
        if wanted <= 0:
            return
        key, n_entries = rows[at]
        wanted -= n_entries
        row = transaction.sql(
            f"select key, {_COLUMNS}, data, checksum from edge_block where key = ?",  # noqa: S608 - columns
            (key,),
        ).fetchone()
        yield _unpacked(row, space.name)
