"""Why two nodes of a graph are near: an edge between them, common neighbours, or the shortest path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search.catalog import edges, reads
from search.catalog.database import Transaction
from search.catalog.names import names_of
from search.types import Hit, Json, Space
from search.vectors import Keys

MOST_STEPS = 4  # of a path that is looked for
_FEW = 5  # common neighbours that are named
_MOST_READ = 200_000  # neighbours that are looked at for one path
_IN, _OUT = "in", "out"


class Kin:
    """The graph of a space as of the reader's commit; edges of deleted records are not there.

    Rows are read when first asked for, and kept for the life of the object.
    """

    def __init__(self, transaction: Transaction, space: Space, told: edges.GraphState) -> None:
        self._transaction, self._space = transaction, space
        self.directed = told.directed
        self._rows: dict[tuple[int, int], tuple[Keys, NDArray[np.float32]]] = {}

    def row(self, node: int, side: int = edges.OUT) -> tuple[Keys, NDArray[np.float32]]:
        """The keys (n,) of the neighbours on one side, ascending, and the weights (n,)."""
        found = self._rows.get((node, side))
        if found is None:
            keys, weights = edges.neighbours(self._transaction, self._space, node, side)
            alive = np.isin(keys, self._living(keys))
            found = self._rows[node, side] = keys[alive], weights[alive]
        return found

    def around(self, node: int) -> tuple[Keys, NDArray[np.float32]]:
        """The neighbours on both sides: keys (n,) ascending, weights (n,) added up. The node itself is left out."""
        keys, weights = self.row(node)
        if self.directed:
            back, back_weights = self.row(node, edges.IN)
            joined, at = np.unique(np.concatenate([keys, back]), return_inverse=True)
            total = np.bincount(at, np.concatenate([weights, back_weights]), len(joined))
            keys, weights = joined, total.astype(np.float32)
        other = keys != node
        return keys[other], weights[other]

    def edge(self, one: int, other: int) -> dict[str, Json] | None:
        """The weight of the edge from one to the other, and which way it leads; None where there is none."""
        sides = [(_OUT, edges.OUT), (_IN, edges.IN)] if self.directed else [("both", edges.OUT)]
        weights = {}
        for name, side in sides:
            keys, values = self.row(one, side)
            at = int(np.searchsorted(keys, other))
            if at < len(keys) and keys[at] == other:
                weights[name] = float(values[at])
        if not weights:
            return None
        return {
            "edge": sum(weights.values()),
            "direction": next(iter(weights)) if len(weights) == 1 else "both",
        }

    def common(self, one: int, other: int) -> Keys:
        """The common neighbours, in whatever direction; those with the heaviest edges to both first."""
        (first, left), (second, right) = self.around(one), self.around(other)
        shared, at, also = np.intersect1d(first, second, assume_unique=True, return_indices=True)
        return shared[np.lexsort((shared, -(left[at] * right[also])))]

    def path(self, one: int, other: int, most_steps: int = MOST_STEPS) -> list[int] | None:
        """A shortest path from one to the other, in whatever direction, both ends included.

        By breadth-first search from both ends, always from the side with fewer nodes. None where there is no path of
        `most_steps`, or too many neighbours have been looked at.
        """
        if one == other:
            return [one]
        before: tuple[dict[int, int], dict[int, int]] = ({one: one}, {other: other})
        fronts = [[one], [other]]
        n_read = 0
        for _ in range(most_steps):
            side = 0 if len(fronts[0]) <= len(fronts[1]) else 1
            reached: list[int] = []
            met: list[int] = []
            for node in fronts[side]:
                keys = self.around(node)[0]
                n_read += len(keys)
                if n_read > _MOST_READ:
                    return None
                for key in keys.tolist():
                    if key not in before[side]:
                        before[side][key] = node
                        reached.append(key)
                        if key in before[1 - side]:
                            met.append(key)
            if met:
                return _joined(before, min(met))
            fronts[side] = reached
        return None

    def _living(self, keys: Keys) -> Keys:
        found = self._transaction.sql(
            "select key from record where key in (select value from json_each(?))",
            (reads.listed(keys.tolist()),),
        )
        return reads.key_array(found)


def _joined(before: tuple[dict[int, int], dict[int, int]], met: int) -> list[int]:
    """The path that both searches make at the node where they met."""
    halves = []
    for steps in before:
        half, node = [], met
        while steps[node] != node:
            node = steps[node]
            half.append(node)
        halves.append(half)
    return [*reversed(halves[0]), met, *halves[1]]


def kin_of(transaction: Transaction, space: Space) -> Kin | None:
    """The graph of a space; None where no edges are kept."""
    told = edges.state(transaction, space)
    return None if told is None else Kin(transaction, space, told)


def explained(
    transaction: Transaction, hits: Sequence[Hit], likes: Mapping[str, int], spaces: Sequence[Space]
) -> list[Hit]:
    """The hits with `why` in their `explain`, for each like in each space with a graph.

    That is an object with `space` and `like`; the weight of the `edge` between them and its `direction`, if there is
    one; how many neighbours are `common`, and the first few of them in `through`; and where there is neither, the
    shortest `path`, None where none was found of MOST_STEPS.

    Args:
        transaction: the one that the hits were read in.
        hits: with their `explain` filled.
        likes: the ids of the examples with their keys.
        spaces: those that were asked.
    """
    graphs = [(space.name, kin) for space in spaces if (kin := kin_of(transaction, space)) is not None]
    if not graphs or not hits:
        return list(hits)
    keys = reads.keys_of(transaction, [hit.id for hit in hits])
    for hit in hits:
        why: list[Json] = [
            {"space": name, "like": like, **_why(transaction, kin, key, keys[hit.id])}
            for name, kin in graphs
            for like, key in likes.items()
        ]
        hit.explain = {**(hit.explain or {}), "why": why}
    return list(hits)


def taken_alike(
    transaction: Transaction, hits: Sequence[Hit], taken: Mapping[str, Keys], spaces: Sequence[Space]
) -> list[Hit]:
    """The hits with `why` in their `explain`, for each space of users and items in which they were looked for.

    That is an object with `space` and `users`: how many took the hit and something of what was taken. Who they are
    is not told.

    Args:
        transaction: the one that the hits were read in.
        hits: with their `explain` filled.
        taken: by the name of the space the keys of what was taken.
        spaces: those that were asked.
    """
    keys = reads.keys_of(transaction, [hit.id for hit in hits])
    whys: dict[str, list[Json]] = {hit.id: [] for hit in hits}
    for space in spaces:
        kin = kin_of(transaction, space)
        if kin is None:
            continue
        nothing = np.empty(0, np.int64)
        users = np.unique(
            np.concatenate([nothing, *(kin.around(key)[0] for key in taken[space.name].tolist())])
        )
        for hit in hits:
            shared = np.intersect1d(users, kin.around(keys[hit.id])[0], assume_unique=True)
            whys[hit.id].append({"space": space.name, "users": len(shared)})
    for hit in hits:
        hit.explain = {**(hit.explain or {}), "why": whys[hit.id]}
    return list(hits)


def _why(transaction: Transaction, kin: Kin, one: int, other: int) -> dict[str, Json]:
    said: dict[str, Json] = dict(kin.edge(one, other) or {})
    common = kin.common(one, other)
    if len(common):
        said |= {"common": len(common), "through": _ids(transaction, common[:_FEW].tolist())}
    if not said:
        path = kin.path(one, other)
        said["path"] = None if path is None else list(_ids(transaction, path))
    return said


def _ids(transaction: Transaction, keys: Sequence[int]) -> list[str]:
    found = names_of(transaction, keys)
    return [found[key] for key in keys]
