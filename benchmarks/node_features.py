"""Nodes with features, on Cora: `python -m benchmarks.node_features --graph cora.npz [--splits N]`.

Classes: one-vs-rest logistic regression on 20 nodes of each class, asked about all others, means over random splits;
vectors of unit length times 0.3 sqrt(dim), so that their root mean square is 0.3. Links: a fifth of the edges held out
against as many pairs without one, as `nearkin links --evaluate` does it. Later nodes: a tenth of the nodes come later
with all of their edges; encoded by what was learned without them, or all is learned again with them; a regression on
the first nodes' classes is asked about them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from ingest.learn.nodes.attach import attached
from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.features import Features
from ingest.learn.nodes.link_prediction import evaluated
from ingest.learn.nodes.load import NodeSettings, load_trainer
from ingest.learn.nodes.sgc import SGC, SGCSettings
from ingest.sources.edge_format import EdgeFormat
from ingest.sources.graph_union import without_nodes
from ingest.sources.graphs import read_graph
from search.vectors import unit_rows

SCALE = 0.3
PER_CLASS = 20

Vectors = NDArray[np.float32]
Classes = NDArray[np.int64]


def scaled(vectors: Vectors) -> Vectors:
    """At unit length, then at a root mean square of SCALE."""
    return unit_rows(vectors) * np.float32(SCALE * np.sqrt(vectors.shape[1]))


def right(train: tuple[Vectors, Classes], asked: tuple[Vectors, Classes]) -> float:
    """The share of classes that a regression on the first tells right of the second."""
    regression = OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(*train)
    return float((regression.predict(asked[0]) == asked[1]).mean())


def accuracy(vectors: Vectors, classes: Classes, splits: int) -> tuple[float, float]:
    """Mean and standard deviation over the splits."""
    rows, found = scaled(vectors), []
    for split in range(splits):
        rng = np.random.default_rng(split)
        some = [rng.permutation(np.flatnonzero(classes == each))[:PER_CLASS] for each in np.unique(classes)]
        train = np.concatenate(some)
        rest = np.setdiff1d(np.arange(len(rows)), train)
        found.append(right((rows[train], classes[train]), (rows[rest], classes[rest])))
    return float(np.mean(found)), float(np.std(found))


def principal(rows: Vectors, dim: int = 128) -> Vectors:
    """The first principal components (n, dim)."""
    left, values, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return np.asarray(left[:, :dim] * values[:dim], np.float32)


def later(graph: Graph, features: Features, classes: Classes, hops: int, seeds: int) -> str:
    """How well nodes that come later are told, by the encoder and after learning again."""
    n, found = graph.n_nodes, []
    for seed in range(seeds):
        new = np.zeros(n, np.bool_)
        new[np.random.default_rng(seed).permutation(n)[: n // 10]] = True
        first = without_nodes(graph, np.flatnonzero(new))
        known = Features(graph.ids, np.where(new[:, None], 0, features.matrix), "attributes")
        trainer = SGC(SGCSettings(hops=hops), known)
        encoder = trainer.learned(first)
        before = trainer.encoded(encoder, first)
        encoded = encoder.encode(graph, features.matrix)
        again = trainer.given(features).fit(graph)
        means = attached(graph, before.any(1) & ~new, unit_rows(before))
        old = ~new & before.any(1)
        given = scaled(before)[old], classes[old]
        found.append(
            (
                right(given, (scaled(encoded)[new], classes[new])),
                right(given, (scaled(means)[new], classes[new])),
                right((scaled(again)[old], classes[old]), (scaled(again)[new], classes[new])),
            )
        )
    encoder_, mean, refit = np.mean(found, axis=0)
    return f"encoded {encoder_:.4f}  mean of the neighbours {mean:.4f}  learned again {refit:.4f}"


def main() -> None:
    """Print a line for each kind of vectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, required=True, help="an .npz with attributes and labels")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--hops", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    read = read_graph(arguments.graph, EdgeFormat(directed=False))
    graph = read.graph
    assert read.matrix is not None
    place = {id: row for row, id in enumerate(read.matrix.ids)}
    order = [place[id] for id in graph.ids]
    features = Features(
        graph.ids, unit_rows(read.matrix.rows.toarray()[order].astype(np.float32)), "attributes"
    )
    _, classes = np.unique([str(read.attributes[id]["label"]) for id in graph.ids], return_inverse=True)
    print(f"{graph.n_nodes:,} nodes, {graph.n_edges:,} edges, {features.matrix.shape[1]:,} attributes")
    small = NodeSettings()
    kinds: dict[str, Callable[[], Vectors]] = {"attributes alone": lambda: features.matrix}
    for method in ("node2vec", "prone", "netmf"):
        kinds[method] = lambda method=method: load_trainer(method, small).fit(graph)  # type: ignore[misc]
    kinds["attributes beside prone"] = lambda: np.hstack(
        [unit_rows(principal(features.matrix)), unit_rows(kinds["prone"]())]
    )
    for hops in arguments.hops:
        kinds[f"sgc, {hops} hops"] = lambda hops=hops: SGC(SGCSettings(hops=hops), features).fit(graph)  # type: ignore[misc]
    for name, made in kinds.items():
        begin = time.process_time()
        vectors = made()
        spent = time.process_time() - begin
        mean, deviation = accuracy(vectors, classes, arguments.splits)
        print(f"{name:<24} {spent:6.2f} s of processor  right {mean:.4f} +- {deviation:.4f}", flush=True)
    for name in ("node2vec", "prone", "netmf"):
        report = evaluated(load_trainer(name, small), graph, 0.2, 0)
        print(
            f"links {name:<18} AUC {report.scores['regression'].auc:.4f} cosine {report.scores['cosine'].auc:.4f}"
        )
    for hops in arguments.hops:
        report = evaluated(SGC(SGCSettings(hops=hops), features), graph, 0.2, 0)
        scores = f"AUC {report.scores['regression'].auc:.4f} cosine {report.scores['cosine'].auc:.4f}"
        print(f"links sgc, {hops} hops       {scores}", flush=True)
        print(f"later sgc, {hops} hops       {later(graph, features, classes, hops, 3)}", flush=True)


if __name__ == "__main__":
    main()
