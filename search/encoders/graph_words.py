"""Weisfeiler-Lehman words: what a graph looks like around each of its nodes, as numbers that can be counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.encoders.graph_items import LabelledGraph

Hashes = NDArray[np.uint64]

MOST_DEPTH = 16
NODES_AT_ONCE = 1 << 20  # of the graphs whose words are found together: about 100 MB
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_DEGREE, _OUT, _IN, _OWN, _STEP = (
    np.uint64(salt)
    for salt in (
        0xD1B54A32D192ED03,
        0xA0761D6478BD642F,
        0xE7037ED1A0B428DB,
        0x8EBC6AF09C88C6E3,
        0x589965CC75374CC3,
    )
)


@dataclass(frozen=True, slots=True)
class Counted:
    """How often each word stands in each graph: entry i says that graph `rows[i]` has `words[i]` `counts[i]` times.

    Ordered by graph, then by word; `n` graphs.
    """

    n: int
    rows: NDArray[np.int64]
    words: Hashes
    counts: NDArray[np.int64]


def mixed(values: Hashes) -> Hashes:
    """Each number scrambled, one to one (the finaliser of SplitMix64, Steele, Lea & Flood 2014)."""
    out: Hashes = values ^ (values >> _SHIFTS[0])
    out *= _FACTORS[0]
    out ^= out >> _SHIFTS[1]
    out *= _FACTORS[1]
    out ^= out >> _SHIFTS[2]
    return out


def node_words(graphs: Sequence[LabelledGraph], depth: int) -> Hashes:
    """The words (depth + 1, nodes of all graphs) of each node: row t is what is seen within t steps of it.

    Row 0 is the node's label, or its degree where the graph has none (a self-loop counts twice; directed edges are
    counted by direction). Row t tells two nodes apart just where row t - 1 tells apart them or the multisets of
    their neighbours, in either direction (Shervashidze et al. 2011, algorithm 1); up to collisions of 64 bits. So
    equal graphs have equal words, whatever the order of their nodes. Weights do not count.
    """
    sizes = np.array([graph.n_nodes for graph in graphs], np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)])
    degrees = np.concatenate([np.empty(0, np.int64), *(np.diff(graph.indptr) for graph in graphs)])
    sources = np.repeat(np.arange(begins[-1]), degrees)
    targets = np.concatenate(
        [
            np.empty(0, np.int64),
            *(graph.indices + begin for graph, begin in zip(graphs, begins[:-1], strict=True)),
        ]
    )
    ends = np.concatenate([[0], np.cumsum(degrees)])
    directed = np.repeat(np.array([graph.directed for graph in graphs], np.bool_), sizes)
    back = np.flatnonzero(directed[sources])
    words = np.empty((depth + 1, begins[-1]), np.uint64)
    words[0] = _first(graphs, begins, (sources, targets, degrees, directed))
    for step in range(depth):
        told = mixed(words[step] ^ _OUT)
        # A sum does not depend on the order of the neighbours; it may run over, as all arithmetic here.
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(told[targets], dtype=np.uint64)])
        seen = mixed(words[step] ^ _OWN) + (sums[ends[1:]] - sums[ends[:-1]])
        if len(back):
            arriving = np.zeros(len(seen), np.uint64)
            np.add.at(arriving, targets[back], mixed(words[step] ^ _IN)[sources[back]])
            seen += arriving + _IN * directed.astype(np.uint64)
        words[step + 1] = mixed(seen ^ mixed(np.array([step], np.uint64) + _STEP))
    return words


def _first(
    graphs: Sequence[LabelledGraph],
    begins: NDArray[np.int64],
    edges: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
) -> Hashes:
    sources, targets, degrees, directed = edges
    n = len(degrees)
    loops = np.bincount(sources[sources == targets], minlength=n)
    arriving = np.bincount(targets[directed[sources]], minlength=n)
    plain = degrees + np.where(directed, 0, loops) + (arriving << 32)
    first = mixed(plain.astype(np.uint64) + _DEGREE)
    for graph, begin in zip(graphs, begins[:-1].tolist(), strict=True):
        if graph.labels is not None:
            first[begin : begin + graph.n_nodes] = graph.labels
    return first


def counted(graphs: Sequence[LabelledGraph], depth: int) -> Counted:
    """The words of graphs, of all depths from 0 to `depth`, counted."""
    rows, words, counts = [], [], []
    first = 0
    while first < len(graphs):
        after, nodes = first, 0
        while after < len(graphs) and (after == first or nodes + graphs[after].n_nodes <= NODES_AT_ONCE):
            nodes += graphs[after].n_nodes
            after += 1
        some = graphs[first:after]
        found = node_words(some, depth).reshape(-1)
        owner = np.tile(np.repeat(np.arange(first, after), [graph.n_nodes for graph in some]), depth + 1)
        order = np.lexsort((found, owner))
        found, owner = found[order], owner[order]
        new = np.ones(len(found), np.bool_)
        new[1:] = (found[1:] != found[:-1]) | (owner[1:] != owner[:-1])
        at = np.flatnonzero(new)
        rows.append(owner[at])
        words.append(found[at])
        counts.append(np.diff(np.append(at, len(found))))
        first = after
    none = np.empty(0, np.int64)
    return Counted(
        len(graphs),
        np.concatenate([none, *rows]),
        np.concatenate([none.astype(np.uint64), *words]),
        np.concatenate([none, *counts]),
    )
