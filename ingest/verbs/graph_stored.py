"""The graph and the vectors that a space holds already, as trainers and additions take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.sources.contract import Graph
from ingest.sources.graph_union import from_entries
from search.catalog import edges, reads
from search.catalog.database import Database, Transaction
from search.catalog.edges import GraphState, NamedRows
from search.catalog.names import names_of
from search.types import EncoderSpec, Space
from search.vectors import Vectors

if TYPE_CHECKING:
    from ingest.learn.nodes.load import NodeSettings

Entries: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
PREDICTED = "predicted from "  # what begins the origin of vectors that no edge stands behind


@dataclass(frozen=True, slots=True)
class StoredGraph:
    """What a space keeps of its graph: `graph` is all of it, `added` the edges that came after it was learned."""

    state: GraphState
    graph: Graph
    added: Graph


def stored_graph(database: Database, space: Space) -> StoredGraph | None:
    """The graph of a space, between records that are there; None where no edges are kept.

    Raises:
        CollectionCorrupt: it is damaged.
    """
    with database.reading() as transaction:
        state = edges.state(transaction, space)
        if state is None:
            return None
        read, added = (_entries(transaction, space, layer) for layer in (edges.READ, edges.ADDED))
        every = (np.concatenate([read[0], added[0]]), np.concatenate([read[1], added[1]]))
        weights = np.concatenate([read[2], added[2]])
        return StoredGraph(
            state,
            _graph(transaction, (*every, weights), directed=state.directed),
            _graph(transaction, added, directed=state.directed),
        )


def added_to(database: Database, space: Space) -> dict[str, str]:
    """The files that edges were added from, each with a hash of what it held."""
    with database.reading() as transaction:
        state = edges.state(transaction, space)
        return {} if state is None else dict(state.added)


def named(graph: Graph) -> NamedRows:
    """A graph as the catalog takes it."""
    return NamedRows(graph.ids, graph.indptr, graph.indices, graph.weights, graph.directed)


def node_vectors(database: Database, space: Space, ids: Sequence[str]) -> tuple[NDArray[np.int64], Vectors]:
    """Which of these nodes have a learned vector, (m,) their places in `ids`, and the vectors (m, dim).

    Predicted ones are left out.
    """
    with database.reading() as transaction:
        found = reads.keys_of(transaction, ids)
        predicted = {
            row[0]
            for row in transaction.sql(
                "select record_key from synced where space_key = ? and origin glob ?",
                (space.key, f"{PREDICTED}*"),
            )
        }
        places = {found[id]: k for k, id in enumerate(ids) if id in found and found[id] not in predicted}
        dead = reads.tombstones(transaction, space)
        at, rows = [], [np.empty((0, space.dim), np.float32)]
        for batch in reads.batches(transaction, space):
            owners = batch.record_keys.tolist()
            wanted = np.array([key in places for key in owners], np.bool_)
            wanted &= ~np.isin(batch.part_keys, dead)
            at += [places[key] for key, is_wanted in zip(owners, wanted.tolist(), strict=True) if is_wanted]
            rows.append(batch.vectors[wanted])
    return np.array(at, np.int64), np.concatenate(rows)


def from_origins(database: Database, space: Space, origins: Sequence[str]) -> dict[str, str]:
    """The origin of each record whose vector in the space came from one of these, by id."""
    with database.reading() as transaction:
        return {id: origin for origin in origins for id in reads.ids_from(transaction, space, [origin])}


def settings_of(spec: EncoderSpec) -> NodeSettings:
    """What of a trainer's spec a caller may set."""
    from ingest.learn.nodes.load import NodeSettings

    known = ("dim", "walks", "length", "window", "negatives", "epochs", "p", "q", "gamma", "seed", "hops")
    numbers = {name: spec.options[name] for name in known if isinstance(spec.options.get(name), int | float)}
    space, attributes = spec.options.get("features"), spec.options.get("attributes")
    return NodeSettings(
        **numbers,  # type: ignore[arg-type]
        features=space if isinstance(space, str) else None,
        attributes=tuple(map(str, attributes)) if isinstance(attributes, list) else (),
    )


def _entries(transaction: Transaction, space: Space, layer: int) -> Entries:
    owners, targets, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for rows in edges.every(transaction, space, layer):
        owners.append(np.repeat(rows.nodes, np.diff(rows.indptr)))
        targets.append(rows.targets)
        weights.append(np.ones(len(rows.targets), np.float32) if rows.weights is None else rows.weights)
    return np.concatenate(owners), np.concatenate(targets), np.concatenate(weights)


def _graph(
    transaction: Transaction,
    entries: Entries,
    *,
    directed: bool,
) -> Graph:
    """The graph of entries by the keys of records; those of deleted ones are left out."""
    owners, targets, weights = entries
    named = np.zeros(int(max(owners.max(initial=0), targets.max(initial=0))) + 1, np.bool_)
    named[owners] = True
    named[targets] = True
    keys = np.flatnonzero(named)
    ids = names_of(transaction, keys.tolist())
    order = sorted(ids, key=lambda key: ids[key])
    number = np.full(len(named), -1, np.int64)
    number[np.array(order, np.int64)] = np.arange(len(order))
    sources, ends = number[owners], number[targets]
    there = (sources >= 0) & (ends >= 0)
    return from_entries(
        tuple(ids[key] for key in order), sources[there], ends[there], weights[there], directed=directed
    )
