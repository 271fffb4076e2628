"""How good the node methods are: `python -m benchmarks.graph_quality [--graph FILE --labels FILE] [--methods M...]`.

Labels: one-vs-rest logistic regression on half of the nodes, each of the others given as many labels as it has
(Perozzi et al. 2014, sec. 5.1), vectors scaled to a root mean square of 0.3. Links: half of the edges are taken
out and stand against as many pairs without an edge; a logistic regression on the product of the two vectors,
learned from half of these pairs and asked about the other, and the plain cosine beside it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.graph_devices import built
from benchmarks.graphs import planted
from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.load import FEATURED, METHODS, NodeSettings, load_trainer
from ingest.sources.graphs import read_graph

SCALE = 0.3

Vectors = NDArray[np.float32]
Labels = NDArray[np.bool_]
Pairs = NDArray[np.int64]


def f1(vectors: Vectors, labels: Labels, repeats: int) -> tuple[float, float]:
    """Macro and micro F1, means of the repeats."""
    found = []
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(vectors))
        train, test = order[: len(order) // 2], order[len(order) // 2 :]
        scores = np.full((len(test), labels.shape[1]), -np.inf)
        for label in range(labels.shape[1]):
            if labels[train, label].any():
                regression = LogisticRegression(max_iter=200, tol=1e-3).fit(
                    vectors[train], labels[train, label]
                )
                scores[:, label] = regression.decision_function(vectors[test])
        true = labels[test]
        rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
        given = rank < true.sum(1, keepdims=True)
        right, wrong = (given & true).sum(0), (given ^ true).sum(0)
        found.append(
            (
                float((2 * right / np.maximum(2 * right + wrong, 1)).mean()),
                float(2 * right.sum() / (2 * right.sum() + wrong.sum())),
            )
        )
    macro, micro = np.mean(found, axis=0)
    return float(macro), float(micro)


def parted(graph: Graph, seed: int) -> tuple[Graph, Pairs, Labels]:
    """The graph with half of its edges, and pairs (n, 2): the other edges, then as many pairs without an edge."""
    n = graph.n_nodes
    sources = np.repeat(np.arange(n), np.diff(graph.indptr))
    once = sources < graph.indices
    edges = np.stack([sources[once], graph.indices[once]], axis=1)
    rng = np.random.default_rng(seed)
    rng.shuffle(edges)
    held, kept = edges[: len(edges) // 2], edges[len(edges) // 2 :]
    drawn = np.sort(rng.integers(0, n, (4 * len(held), 2)), axis=1)
    free = drawn[:, 0] != drawn[:, 1]
    free &= ~np.isin(drawn[:, 0] * n + drawn[:, 1], edges[:, 0] * n + edges[:, 1])
    others = drawn[free][: len(held)]
    pairs = np.concatenate([held, others])
    return built(n, kept[:, 0], kept[:, 1]), pairs, np.arange(len(pairs)) < len(held)


def link_auc(vectors: Vectors, pairs: Pairs, linked: Labels) -> tuple[float, float]:
    """Areas under the curve by a regression on the product of both vectors, and by the cosine."""
    products = vectors[pairs[:, 0]] * vectors[pairs[:, 1]]
    order = np.random.default_rng(0).permutation(len(pairs))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    regression = LogisticRegression(max_iter=500).fit(products[train], linked[train])
    learned = roc_auc_score(linked[test], regression.decision_function(products[test]))
    lengths = np.linalg.norm(vectors, axis=1)
    cosine = products.sum(1) / np.maximum(lengths[pairs[:, 0]] * lengths[pairs[:, 1]], 1e-12)
    return float(learned), float(roc_auc_score(linked, cosine))


def labelled(graph: Graph, path: Path) -> Labels:
    """(nodes, labels) bool from a file that names the nodes of a label in each line."""
    number = {name: k for k, name in enumerate(graph.ids)}
    lines = path.read_text().splitlines()
    labels = np.zeros((graph.n_nodes, len(lines)), np.bool_)
    for label, line in enumerate(lines):
        labels[[number[name] for name in line.split()], label] = True
    return labels


def rescaled(vectors: Vectors) -> Vectors:
    """The same vectors at a root mean square of SCALE."""
    return vectors * np.float32(SCALE / np.sqrt((vectors**2).mean()))


def main() -> None:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, help="an edge list; without one, a planted partition")
    parser.add_argument("--labels", type=Path, help="a label a line: the nodes that have it")
    parser.add_argument("--methods", nargs="+", default=[each for each in METHODS if each not in FEATURED])
    parser.add_argument("--nodes", type=int, default=10_312)
    parser.add_argument("--edges-per-node", type=int, default=40)
    parser.add_argument("--share", type=float, default=0.2, help="of the edges that stay inside a block")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-links", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.graph is not None:
        graph = read_graph(arguments.graph).graph
        labels = labelled(graph, arguments.labels)
    else:
        ends = planted(arguments.nodes, arguments.edges_per_node, 40, 0, arguments.share)
        graph = built(arguments.nodes, *ends)
        labels = np.arange(arguments.nodes)[:, None] % 40 == np.arange(40)
    print(f"{graph.n_nodes:,} nodes, {graph.n_edges:,} edges, {labels.shape[1]} labels")
    part, pairs, linked = parted(graph, 0)
    small = built(3, np.array([0, 1]), np.array([1, 2]))
    for method in arguments.methods:
        for seed in range(arguments.seeds):
            trainer = load_trainer(method, NodeSettings(seed=seed, device=arguments.device))
            trainer.fit(small)  # compiles, or loads what was compiled
            begin, before = time.perf_counter(), time.process_time()
            vectors = trainer.fit(graph)
            wall, spent = time.perf_counter() - begin, time.process_time() - before
            scale = float(np.sqrt((vectors**2).mean()))
            macro, micro = f1(rescaled(vectors), labels, arguments.repeats)
            line = f"{method:<10} seed {seed}  {wall:7.2f} s ({spent:.2f} s of processor)  scale {scale:.3f}"
            line += f"  macro {macro:.4f}  micro {micro:.4f}"
            if not arguments.no_links:
                learned, cosine = link_auc(rescaled(trainer.fit(part)), pairs, linked)
                line += f"  links {learned:.4f}  by cosine {cosine:.4f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
