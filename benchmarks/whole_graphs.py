"""How well whole graphs are told apart: `python -m benchmarks.whole_graphs [SET...] [--methods M...] [--folds 10]`.

SET is a folder, file or archive in the TU layout; without one, graphs of five kinds are made that have about as many
nodes and edges: random, small world, scale-free, planted partition and random geometric.

A logistic regression is learned on nine tenths and asked about the rest, in turns; its strength is chosen by an inner
3-fold on the nine tenths. Vectors are of length 1 and scaled to a root mean square of 1. "first" is the share of graphs
whose nearest other has the same label. Encoders are learned from all graphs without their labels (as in the graph2vec
paper); in the column "later" from the nine tenths alone, and the rest are described as graphs that come later.
`--peers gensim` adds the same Weisfeiler-Lehman words by gensim's PV-DBOW with karateclub's settings; `--peers
node2vec`, as what not to do, the mean of node vectors that are learned for each graph by itself.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from ingest.learn.graphs.load import METHODS, load_trainer
from ingest.learn.graphs.settings import GraphSettings
from ingest.learn.graphs.vocabulary import read_corpus
from ingest.sources.contract import Graph, Item
from ingest.sources.whole_graphs import WholeGraphs
from search.encoders.graph_items import LabelledGraph, labelled
from search.encoders.whole_graphs import from_bytes

STRENGTHS = {"C": [0.01, 0.1, 1.0, 10.0]}
NODES, DEGREE = 60, 4

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """Graphs and what they are."""

    name: str
    graphs: Sequence[LabelledGraph]
    labels: NDArray[np.int64]


def made(per_kind: int, seed: int) -> Labelled:
    """Graphs of five kinds with about 60 nodes and two edges a node, so that size and density tell nothing."""
    random = np.random.default_rng(seed)
    graphs, labels = [], []
    for number in range(5 * per_kind):
        n, kind, chance = int(random.integers(40, 81)), number % 5, int(random.integers(2**31))
        m = n * DEGREE // 2
        graph: Any
        if kind == 0:
            graph = nx.gnm_random_graph(n, m, seed=chance)
        elif kind == 1:
            graph = nx.watts_strogatz_graph(n, DEGREE, 0.2, seed=chance)
        elif kind == 2:
            graph = nx.barabasi_albert_graph(n, DEGREE // 2, seed=chance)
        elif kind == 3:
            blocks = 4
            inside = 0.8 * DEGREE / (n / blocks)
            outside = 0.2 * DEGREE / (n - n / blocks)
            sizes = [n // blocks + (k < n % blocks) for k in range(blocks)]
            chances = [[inside if a == b else outside for b in range(blocks)] for a in range(blocks)]
            graph = nx.stochastic_block_model(sizes, chances, seed=chance)
        else:
            places = random.random((n, 2))
            distances = np.linalg.norm(places[:, None] - places[None], axis=2)
            ends = np.argwhere(np.triu(np.ones((n, n)), 1))
            nearest = ends[np.argsort(distances[ends[:, 0], ends[:, 1]])[:m]]
            graph = nx.empty_graph(n)
            graph.add_edges_from(nearest.tolist())
        graphs.append(labelled(nx.Graph(graph.edges()) if kind == 3 else graph))
        labels.append(kind)
    return Labelled(f"five kinds, {5 * per_kind}", graphs, np.array(labels))


def read(path: Path) -> Labelled:
    """A set in the TU layout."""
    items = [one for one in WholeGraphs([path]) if isinstance(one, Item) and one.graph is not None]
    _, labels = np.unique([str((item.record.metadata or {})["label"]) for item in items], return_inverse=True)
    return Labelled(path.stem, [item.graph for item in items if item.graph is not None], labels)


def accuracy(rows: Matrix, labels: NDArray[np.int64], folds: int, later: Any = None) -> float:
    """The mean accuracy in percent; `later` makes other rows for each fold from the places learned from."""
    right = []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels):
        some = rows if later is None else later(train)
        some = some / max(float(np.sqrt((some[train] ** 2).mean())), 1e-12)
        search = GridSearchCV(LogisticRegression(max_iter=300, tol=1e-3), STRENGTHS, cv=3)
        right.append(float(search.fit(some[train], labels[train]).score(some[test], labels[test])))
    return 100 * float(np.mean(right))


def first_neighbour(rows: Matrix, labels: NDArray[np.int64]) -> float:
    """The share of graphs, in percent, whose nearest other has the same label."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    return 100 * float((labels[scores.argmax(axis=1)] == labels).mean())


def encoded(graphs: Sequence[LabelledGraph], method: str, train: Sequence[int] | None = None) -> Matrix:
    """The vectors of graphs by an encoder learned from them, or from some of them."""
    known = graphs if train is None else [graphs[place] for place in train]
    rows, _ = from_bytes(load_trainer(method, GraphSettings()).fit(known)).attempted(graphs)
    return rows.astype(np.float64)


def sizes(graphs: Sequence[LabelledGraph]) -> Matrix:
    """Nodes, edges and their quotient, as logarithms, scaled to variance 1."""
    told = np.array(
        [[one.n_nodes, len(one.indices) + 1, (len(one.indices) + 1) / one.n_nodes] for one in graphs]
    )
    logs = np.log(told)
    return np.asarray((logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-12))


def degrees(graphs: Sequence[LabelledGraph]) -> Matrix:
    """The shares of nodes with each degree up to 31."""
    rows = [np.bincount(np.minimum(np.diff(one.indptr), 31), minlength=32) / one.n_nodes for one in graphs]
    return np.array(rows)


def by_gensim(graphs: Sequence[LabelledGraph]) -> Matrix:
    """PV-DBOW of words to depth 2 with the settings that karateclub's Graph2Vec has by default."""
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    counts = read_corpus(graphs, 2).counts
    documents = []
    for number in range(counts.shape[0]):
        some = slice(counts.indptr[number], counts.indptr[number + 1])
        words = np.repeat(counts.indices[some], counts.data[some].astype(int)).astype(str).tolist()
        documents.append(TaggedDocument(words, [number]))
    model = Doc2Vec(
        documents,
        vector_size=128,
        window=0,
        min_count=5,
        dm=0,
        sample=1e-4,
        workers=1,
        epochs=10,
        alpha=0.025,
        seed=42,
    )
    return np.array(model.dv.vectors, np.float64)


def by_node2vec(graphs: Sequence[LabelledGraph]) -> Matrix:
    """The mean of node vectors that are learned for each graph by itself."""
    from ingest.learn.nodes.load import NodeSettings
    from ingest.learn.nodes.load import load_trainer as of_nodes

    trainer = of_nodes("node2vec", NodeSettings(dim=32, threads=1))
    rows = []
    for one in graphs:
        ids = tuple(map(str, range(one.n_nodes)))
        if not len(one.indices):
            rows.append(np.zeros(32))
            continue
        rows.append(trainer.fit(Graph(ids, one.indptr, one.indices, None, one.directed)).mean(axis=0))
    return np.array(rows, np.float64)


PEERS = {"gensim": by_gensim, "node2vec": by_node2vec}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--per-kind", type=int, default=60)
    parser.add_argument("--peers", nargs="+", default=[], choices=list(PEERS))
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for one in [read(path) for path in given.sets] or [made(given.per_kind, 0)]:
        ways: dict[str, Callable[[Sequence[LabelledGraph]], Matrix]] = {"size": sizes, "degrees": degrees}
        for method in given.methods:
            ways[method] = lambda graphs, method=method: encoded(graphs, method)  # type: ignore[misc]
        ways |= {name: PEERS[name] for name in given.peers}
        nodes = sum(graph.n_nodes for graph in one.graphs)
        print(
            f"{one.name}: {len(one.graphs):,} graphs, {nodes:,} nodes, {len(set(one.labels.tolist()))} labels"
        )
        for name, way in ways.items():
            begin = time.perf_counter()
            rows = way(one.graphs)
            took = time.perf_counter() - begin
            said = f"{accuracy(rows, one.labels, given.folds):5.1f}  first {first_neighbour(rows, one.labels):5.1f}"
            if name in given.methods:

                def later(train: Sequence[int], name: str = name, one: Labelled = one) -> Matrix:
                    return encoded(one.graphs, name, train)

                said += f"  later {accuracy(rows, one.labels, given.folds, later):5.1f}"
            print(f"  {name:<17} {said}  {took:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
