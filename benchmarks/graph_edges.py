"""Edges in the catalog: `python -m benchmarks.graph_edges [--nodes N] [--edges M]`: time and memory to keep and ask.

A graph of uniform random edges; vectors are left out, so that the edges alone are measured.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import search
from benchmarks.graph_devices import built
from ingest.verbs.graph_stored import named, stored_graph
from search.catalog.edges import READ
from search.types import EncoderSpec, Modality, Record


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    arguments = parser.parse_args()
    begin = time.perf_counter()

    def told(what: str) -> None:
        nonlocal begin
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{what:<34} {time.perf_counter() - begin:8.3f} s   at most {memory:.2f} GB so far", flush=True)
        begin = time.perf_counter()

    ends = np.random.default_rng(0).integers(0, arguments.nodes, (2, arguments.edges))
    graph = built(arguments.nodes, ends[0], ends[1])
    del ends
    told(f"a graph of {graph.n_edges:,} edges made")
    with tempfile.TemporaryDirectory() as folder, search.open(Path(folder) / "c") as shop:
        spec = EncoderSpec("given", "given", Modality.GRAPH, 2)
        with shop.writing() as writer:
            space = writer.space("graph", spec)
            for low in range(0, graph.n_nodes, 65_536):
                writer.put([Record(id) for id in graph.ids[low : low + 65_536]])
            told("records added")
            writer.put_edges(space, READ, named(graph), added={})
        told("edges kept, durably")
        size = (Path(folder) / "c" / "catalog.sqlite").stat().st_size
        print(f"catalog {size / 1e6:,.0f} MB")
        rng = np.random.default_rng(1)
        for k in rng.integers(0, graph.n_nodes, 100).tolist():
            shop.neighbours(graph.ids[k])
        told("neighbours of 100 nodes")
        assert stored_graph(shop.database, space) is not None
        told("the graph read back")


if __name__ == "__main__":
    main()
