"""Answers from the edges of a graph: which space is asked, who stands beside a node, and who might."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.catalog import reads, showing
from search.catalog.database import Transaction
from search.catalog.metadata_text import decoded
from search.catalog.reads import State
from search.errors import QueryError, UnknownRecord, UnknownSpace
from search.query import run
from search.query.follow import Views
from search.query.lately import Lately
from search.query.links import missing
from search.query.plan import named
from search.query.request import Options
from search.query.why import Kin, explained, kin_of
from search.types import Hit, Space


def of_spaces(transaction: Transaction, spaces: Mapping[str, Space], name: str | None) -> tuple[Space, Kin]:
    """The space of this name with its graph, or the only one that has a graph.

    Raises:
        UnknownSpace: there is none of the name, or none with a graph.
        QueryError: several have one, and none is named.
    """
    if name is not None:
        chosen = named(spaces, name)
        kin = kin_of(transaction, chosen)
        if kin is None:
            raise UnknownSpace(f"space '{name}' holds no edges; fill it with: nearkin ingest graph")
        return chosen, kin
    found = [(one, kin) for one in spaces.values() if (kin := kin_of(transaction, one)) is not None]
    if not found:
        raise UnknownSpace("no space holds edges; take in a graph with: nearkin ingest graph")
    if len(found) > 1:
        names = ", ".join(f"'{one.name}'" for one, _ in found)
        raise QueryError(f"several spaces hold edges ({names}); name one with --space")
    return found[0]


def links(
    transaction: Transaction,
    state: State,
    views: Views,
    asked: tuple[str, str | None, int],
    options: Options,
) -> list[Hit]:
    """The nodes that a node is likely to lack an edge to; `asked` is its id, the space, and the seed."""
    id, name, seed = asked
    space, kin = of_spaces(transaction, views.spaces(transaction, state), name)
    key = key_of(transaction, id)
    look = views.look(transaction, state, space)
    found = missing(transaction, look, kin, key, (options.k, seed), id)
    hits = run.hits(transaction, Lately(), [found], space.name, pieces=look.pieces)[0]
    return explained(transaction, hits, {id: key}, [space]) if options.explain else hits


def key_of(transaction: Transaction, id: str) -> int:
    """The key of a record.

    Raises:
        UnknownRecord: there is none of this id.
    """
    if not isinstance(id, str):
        raise QueryError(f"the id is a {type(id).__name__}; give a string")
    found = reads.keys_of(transaction, [id])
    if id not in found:
        raise UnknownRecord(f"no record has the id '{id}'; look it up with: nearkin get")
    return found[id]


def neighbours(
    transaction: Transaction, state: State, views: Views, asked: tuple[str, str | None], k: int | None
) -> list[Hit]:
    """The neighbours of a node, those with the heaviest edges first; `asked` is its id and the space, `k` None all."""
    id, name = asked
    space, kin = of_spaces(transaction, views.spaces(transaction, state), name)
    node = key_of(transaction, id)
    keys, weights = kin.around(node)
    order = np.lexsort((keys, -weights))[:k]
    shown = showing.shown(transaction, keys[order].tolist(), pieces=False)
    hits = []
    for at in order.tolist():
        row = shown[int(keys[at])]
        edge = kin.edge(node, int(keys[at]))
        hits.append(
            Hit(row.id, float(weights[at]), space.name, row.text, row.uri, decoded(row.metadata), None, edge)
        )
    return hits
