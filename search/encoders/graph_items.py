"""A whole graph as an encoder takes it: its structure and what its nodes are, without their names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import SourceError, WrongModality


@dataclass(frozen=True, slots=True, eq=False)
class LabelledGraph:
    """A graph in compressed sparse rows, with a label for each node where it has any.

    The out-neighbours of node i are `indices[indptr[i]:indptr[i + 1]]`, each once; an undirected edge stands in both
    rows, a self-loop in one. `labels` (n,) uint64 are hashes of what the nodes are (`label_hash`); None where that
    is not known, and their degrees stand in.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    labels: NDArray[np.uint64] | None = None
    directed: bool = False

    @property
    def n_nodes(self) -> int:
        """How many nodes there are."""
        return len(self.indptr) - 1


def label_hash(label: Any) -> int:
    """64 bits of what a node is: of a string its letters, of anything else its JSON; so 6 and "6" are the same."""
    told = label if isinstance(label, str) else json.dumps(label, sort_keys=True, default=str)
    data = told.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def labelled(given: Any, node_label: str | None = None) -> LabelledGraph:
    """A graph in whatever way it is given.

    Args:
        given: a LabelledGraph, a networkx graph, a sparse matrix of scipy (undirected where it is symmetric), or the
            path of a file (`search.encoders.graph_files` says of which formats).
        node_label: the attribute of nodes that says what they are; None takes their degrees.

    Raises:
        WrongModality: it is no graph.
        SourceError: it cannot be read, has no nodes, or none of them has the attribute.
    """
    if isinstance(given, LabelledGraph):
        graph = given
    elif isinstance(given, Path):
        from search.encoders.graph_files import read_graph_file

        try:
            graph = labelled(read_graph_file(given), node_label)
        except SourceError as error:
            raise error if error.file else SourceError(str(error), str(given)) from None
    elif hasattr(given, "is_directed") and hasattr(given, "edges"):
        graph = _of_networkx(given, node_label)
    elif hasattr(given, "tocsr"):
        if node_label is not None:
            raise SourceError(
                f"a matrix has no node labels, and the space goes by '{node_label}'; give a graph"
            )
        graph = _of_matrix(given)
    else:
        raise WrongModality(
            f"a {type(given).__name__} is no graph; give a file, a networkx graph or a sparse matrix"
        )
    if graph.n_nodes == 0:
        raise SourceError("the graph has no nodes; give one with at least one")
    return graph


def compressed(
    n: int, sources: NDArray[np.int64], targets: NDArray[np.int64], *, directed: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Edges between numbered nodes as compressed sparse rows, each edge once, an undirected one in both rows."""
    if not directed:
        sources, targets = np.concatenate([sources, targets]), np.concatenate([targets, sources])
    codes = np.unique(sources * max(n, 1) + targets)
    sources, targets = codes // max(n, 1), codes % max(n, 1)
    indptr = np.searchsorted(sources, np.arange(n + 1)).astype(np.int64)
    return indptr, targets.astype(np.int32)


def _of_networkx(given: Any, node_label: str | None) -> LabelledGraph:
    number = {node: place for place, node in enumerate(given)}
    ends = np.array([(number[u], number[v]) for u, v in given.edges()], np.int64).reshape(-1, 2)
    directed = bool(given.is_directed())
    labels = None
    if node_label is not None:
        found = [data.get(node_label) for _, data in given.nodes(data=True)]
        labels = hashed_labels(found, node_label)
    return LabelledGraph(
        *compressed(len(number), ends[:, 0], ends[:, 1], directed=directed), labels, directed
    )


def hashed_labels(found: Sequence[Any], node_label: str) -> NDArray[np.uint64]:
    """The labels (n,) of nodes as hashes.

    Raises:
        SourceError: no node has one.
    """
    if found and all(one is None for one in found):
        raise SourceError(f"no node has the field '{node_label}', by which the nodes are told apart; add it")
    known: dict[str, int] = {}
    hashes = np.empty(len(found), np.uint64)
    for place, one in enumerate(found):
        told = one if isinstance(one, str) else json.dumps(one, sort_keys=True, default=str)
        if told not in known:
            known[told] = label_hash(told)
        hashes[place] = known[told]
    return hashes


def _of_matrix(given: Any) -> LabelledGraph:
    if given.shape[0] != given.shape[1]:
        raise SourceError(f"a matrix of {given.shape[0]} x {given.shape[1]} is no graph; give a square one")
    matrix = given.tocoo()
    there = matrix.data != 0
    sources, targets = matrix.row[there].astype(np.int64), matrix.col[there].astype(np.int64)
    n = int(given.shape[0])
    there_codes = np.unique(sources * n + targets)
    directed = not np.array_equal(there_codes, np.unique(targets * n + sources))
    return LabelledGraph(*compressed(n, sources, targets, directed=directed), None, directed)
