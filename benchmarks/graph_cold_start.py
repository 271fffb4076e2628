"""Node vectors predicted from attributes: `python -m benchmarks.graph_cold_start --graph FILE [--methods M...]`.

FILE is a .npz of a graph benchmark, with the attributes of its nodes. For each method a ridge map is learned from four
fifths of the nodes, and asked for the others.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.sparse

from ingest.learn.nodes.load import FEATURED, METHODS, NodeSettings, load_trainer
from ingest.learn.nodes.prediction import fitted
from ingest.sources.graphs import read_graph
from search.vectors import unit_rows


def main() -> None:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=[each for each in METHODS if each not in FEATURED])
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    graph = read_graph(arguments.graph).graph
    with np.load(arguments.graph, allow_pickle=False) as held:
        parts = (held["attr_data"], held["attr_indices"], held["attr_indptr"])
        attributes = scipy.sparse.csr_matrix(parts, shape=tuple(held["attr_shape"]))
        row = {str(name): k for k, name in enumerate(held["node_names"])}
    given = unit_rows(attributes[[row[id] for id in graph.ids]].toarray().astype(np.float32))
    for method in arguments.methods:
        for seed in range(arguments.seeds):
            vectors = unit_rows(load_trainer(method, NodeSettings(seed=seed)).fit(graph))
            there = vectors.any(axis=1) & given.any(axis=1)
            begin = time.perf_counter()
            ridge, quality = fitted(given[there], vectors[there], seed)
            took = time.perf_counter() - begin
            print(
                f"{method:<10} seed {seed}  {quality}  penalty {ridge.penalty:.3g}  {took:.2f} s", flush=True
            )


if __name__ == "__main__":
    main()
