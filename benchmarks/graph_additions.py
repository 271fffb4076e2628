"""Nodes that come later, against learning again: `python -m benchmarks.graph_additions --graph FILE [--methods M...]`.

A tenth of the nodes come later, each with half of its edges. Their vectors are solved from their neighbours', or all
is learned again with them. The other half of their edges stands against as many pairs of a later node and any other
without an edge; pairs are ranked by a regression on the products of the vectors and on the degrees, learned from the
edges that were there from the beginning.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from ingest.learn.nodes.attach import attached
from ingest.learn.nodes.link_prediction import edge_pairs
from ingest.learn.nodes.load import FEATURED, METHODS, NodeSettings, load_trainer
from ingest.sources.graph_union import without_edges
from ingest.sources.graphs import read_graph
from search.query.links import learned, without_edge
from search.vectors import unit_rows


def main() -> None:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, required=True, help="an edge list")
    parser.add_argument("--methods", nargs="+", default=[each for each in METHODS if each not in FEATURED])
    parser.add_argument("--share", type=float, default=0.1, help="of the nodes that come later")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    graph = read_graph(arguments.graph).graph
    every, n = edge_pairs(graph), graph.n_nodes
    for method in arguments.methods:
        for seed in range(arguments.seeds):
            rng = np.random.default_rng(seed)
            later = np.zeros(n, np.bool_)
            later[rng.permutation(n)[: round(arguments.share * n)]] = True
            theirs = rng.permutation(every[later[every].any(axis=1)])
            hidden = theirs[: len(theirs) // 2]
            first, both = without_edges(graph, theirs), without_edges(graph, hidden)
            trainer = load_trainer(method, NodeSettings(seed=seed))
            vectors = unit_rows(trainer.fit(first))
            begin = time.perf_counter()
            known = vectors.any(axis=1) & ~later
            added = attached(both, known, vectors)
            took = time.perf_counter() - begin
            begin = time.perf_counter()
            again = unit_rows(trainer.fit(both))
            refit = time.perf_counter() - begin
            there = every[~later[every].any(axis=1)]
            others = without_edge(rng, np.arange(n), every, n, 2 * len(there))
            beside = others[later[others].any(axis=1)][: len(hidden)]
            apart = others[~later[others].any(axis=1)][: len(there)]
            shown = np.concatenate([there[rng.permutation(len(there))[: len(apart)]], apart])
            labels = np.arange(len(shown)) < len(shown) - len(apart)
            pairs = np.concatenate([hidden, beside])
            truth = np.arange(len(pairs)) < len(hidden)
            degrees = np.bincount(edge_pairs(both).ravel(), minlength=n).astype(np.float64)
            line = f"{method:<10} seed {seed}  {later.sum():,} later nodes, {len(hidden):,} hidden edges "
            for name, some, seconds in (("added", added, took), ("refit", again, refit)):
                base = vectors if name == "added" else again
                linker = learned(base[shown[:, 0]], base[shown[:, 1]], degrees[shown], labels)
                left, right = some[pairs[:, 0]], some[pairs[:, 1]]
                auc = roc_auc_score(truth, linker.of_pairs(left, right, degrees[pairs]))
                cosine = roc_auc_score(truth, np.einsum("nd,nd->n", left, right))
                line += f"  {name} {auc:.4f} (cosine {cosine:.4f}) in {seconds:.2f} s"
            print(line, flush=True)


if __name__ == "__main__":
    main()
