"""Writes the edges of a graph to a table that `nearkin ingest graph`, pandas and networkx read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from search.catalog import edges
from search.catalog.database import Transaction
from search.catalog.names import names_of
from search.errors import QueryError
from search.exchange.take_in import PARQUET, need_pyarrow
from search.partial import whole
from search.types import Space

TABLES = (".csv", *PARQUET)
_HEADER = ("source", "target", "weight")
_Block = tuple[list[str], list[str], list[float]]


def export(transaction: Transaction, target: Path, space: Space) -> int:
    """Write an edge a row, an undirected one once, with what was added since the graph was read; how many there were.

    Args:
        transaction: one of reading.
        target: its suffix decides: .csv or .parquet. It has its name when it is whole and durable.
        space: one that has a graph.

    Raises:
        QueryError: the suffix is of neither format.
        MissingExtra: it is Parquet, and pyarrow is not installed.
        CollectionCorrupt: edges or records are damaged.
        CollectionError: the file cannot be written.
    """
    suffix = target.suffix.lower()
    if suffix not in TABLES:
        raise QueryError(f"'{target.name}' is of no format for edges; end it with .csv or .parquet")
    if suffix in PARQUET:
        need_pyarrow()
    state = edges.state(transaction, space)
    blocks = _blocks(transaction, space, directed=state is not None and state.directed)
    with whole(target, replace=True) as partial:
        return _write_parquet(partial, blocks) if suffix in PARQUET else _write_csv(partial, blocks)


def _blocks(transaction: Transaction, space: Space, *, directed: bool) -> Iterator[_Block]:
    """Ends and weights; edges to records that are gone are left out."""
    for layer in (edges.READ, edges.ADDED):
        for rows in edges.every(transaction, space, layer):
            owners = np.repeat(rows.nodes, np.diff(rows.indptr))
            once = np.ones(len(owners), np.bool_) if directed else owners <= rows.targets
            owners, targets = owners[once], rows.targets[once]
            weights = np.ones(len(owners), np.float32) if rows.weights is None else rows.weights[once]
            ids = names_of(transaction, np.union1d(owners, targets).tolist())
            kept = [
                (ids[source], ids[end], weight)
                for source, end, weight in zip(
                    owners.tolist(), targets.tolist(), weights.tolist(), strict=True
                )
                if source in ids and end in ids
            ]
            if kept:
                sources, ends, heavy = zip(*kept, strict=True)
                yield list(sources), list(ends), list(heavy)


def _write_csv(file: Path, blocks: Iterator[_Block]) -> int:
    n = 0
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(_HEADER)
        for sources, targets, weights in blocks:
            n += len(sources)
            # As few digits as give the same float32 again.
            told = [np.format_float_positional(one, trim="-") for one in np.array(weights, np.float32)]
            rows.writerows(zip(sources, targets, told, strict=True))
    return n


def _write_parquet(file: Path, blocks: Iterator[_Block]) -> int:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        [(_HEADER[0], pyarrow.string()), (_HEADER[1], pyarrow.string()), (_HEADER[2], pyarrow.float32())]
    )
    n = 0
    with parquet.ParquetWriter(file, schema) as out:
        for columns in blocks:
            n += len(columns[0])
            out.write_table(pyarrow.table(list(columns), schema=schema))
    return n
