"""One library of node vectors on one graph, in a process of its own: `graph_methods.py METHOD EDGES OUT SETTINGS`.

Run by `benchmarks.graph_peers` with the Python of each library's own environment, so only numpy is imported on top.
Writes (nodes, dim) float32 to OUT, row i for the node named `i`, and prints seconds and peak memory as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Settings:
    """What all methods are asked for; `nodes` is how many rows the result has."""

    nodes: int
    p: float
    q: float
    threads: int
    walks: int = 10
    length: int = 80
    window: int = 10
    dim: int = 128
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds of reading and of all that follows, and a vector for each of these ids."""

    read: float
    learn: float
    ids: Iterable[str]
    vectors: Any


def peak() -> int:
    """The most memory this process has held, in bytes; unlike ru_maxrss it forgets who started the process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise OSError("no VmHWM in /proc/self/status")


def warm(train: Callable[[Path, Settings], Found]) -> None:
    """Train on a graph of three edges, so that what stays compiled from run to run is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.edg"
        small.write_text("0\t1\n1\t2\n2\t3\n")
        train(small, Settings(4, 1.0, 1.0, 1))
        train(small, Settings(4, 0.5, 0.5, 1))


def nearkin(path: Path, given: Settings) -> Found:
    """nearkin's own trainer."""
    from ingest.learn.nodes.load import NodeSettings, load_trainer
    from ingest.sources.graphs import read_graph

    begin = time.perf_counter()
    graph = read_graph(path).graph
    middle = time.perf_counter()
    settings = NodeSettings(
        given.dim, given.walks, given.length, given.window, p=given.p, q=given.q, threads=given.threads
    )
    vectors = load_trainer("node2vec", settings).fit(graph)
    return Found(middle - begin, time.perf_counter() - middle, graph.ids, vectors)


def gensim(path: Path, given: Settings) -> Found:
    """gensim's skip-gram on nearkin's walks."""
    from concurrent.futures import ThreadPoolExecutor

    from gensim.models import Word2Vec

    from ingest.learn.nodes.walks import Walker, WalkSettings
    from ingest.sources.graphs import read_graph

    begin = time.perf_counter()
    graph = read_graph(path).graph
    middle = time.perf_counter()
    walker = Walker(graph, WalkSettings(given.walks, given.length, given.p, given.q, given.seed))
    with ThreadPoolExecutor(given.threads) as pool:
        steps = walker.walk(0, walker.n_walks, pool)
    sentences = [[str(node) for node in row if node >= 0] for row in steps.tolist()]
    model = Word2Vec(
        sentences, vector_size=given.dim, window=given.window, min_count=0, sg=1, workers=given.threads,
        epochs=1, seed=given.seed,
    )  # fmt: skip
    ids = [graph.ids[int(name)] for name in model.wv.index_to_key]
    return Found(middle - begin, time.perf_counter() - middle, ids, model.wv.vectors)


def pecanpy(path: Path, given: Settings, mode: str) -> Found:
    """PecanPy (Liu & Krishnan 2021); it compiles anew for each graph, which its seconds hold."""
    from pecanpy import pecanpy as library

    begin = time.perf_counter()
    graph = getattr(library, mode)(given.p, given.q, given.threads, False, random_state=given.seed)
    graph.read_edg(str(path), False, False)
    middle = time.perf_counter()
    graph.preprocess_transition_probs()
    vectors = graph.embed(given.dim, given.walks, given.length, given.window)
    return Found(middle - begin, time.perf_counter() - middle, graph.nodes, vectors)


def fastnode2vec(path: Path, given: Settings) -> Found:
    """fastnode2vec: compiled walks within gensim's training."""
    from fastnode2vec import Graph, Node2Vec

    begin = time.perf_counter()
    edges = [tuple(line.split()) for line in path.read_text().splitlines()]
    graph = Graph(edges, directed=False, weighted=False)
    middle = time.perf_counter()
    model = Node2Vec(
        graph, given.dim, given.length, given.window, given.p, given.q, given.threads, seed=given.seed
    )
    model.train(given.walks, verbose=False)
    ids = [str(name) for name in model.wv.index_to_key]
    return Found(middle - begin, time.perf_counter() - middle, ids, model.wv.vectors)


def reference(path: Path, given: Settings) -> Found:
    """The `node2vec` package, after the authors' own program."""
    import networkx
    from node2vec import Node2Vec

    begin = time.perf_counter()
    graph = networkx.read_edgelist(path)
    middle = time.perf_counter()
    model = Node2Vec(
        graph, given.dim, given.length, given.walks, given.p, given.q, workers=given.threads, quiet=True,
        seed=given.seed,
    ).fit(window=given.window, min_count=0, epochs=1, workers=given.threads)  # fmt: skip
    return Found(middle - begin, time.perf_counter() - middle, model.wv.index_to_key, model.wv.vectors)


METHODS: dict[str, Callable[[Path, Settings], Found]] = {
    "nearkin": nearkin,
    "gensim": gensim,
    "pecanpy-first-order": lambda path, given: pecanpy(path, given, "FirstOrderUnweighted"),
    "pecanpy-sparse": lambda path, given: pecanpy(path, given, "SparseOTF"),
    "pecanpy-precomputed": lambda path, given: pecanpy(path, given, "PreComp"),
    "fastnode2vec": fastnode2vec,
    "node2vec": reference,
}


def main() -> None:
    """Train, write the vectors, and say what it took."""
    name, path, out, said = sys.argv[1:]
    given = Settings(**json.loads(said))
    train = METHODS[name]
    if name in ("nearkin", "gensim", "fastnode2vec"):
        warm(train)
    begin = time.process_time()
    found = train(Path(path), given)
    spent = time.process_time() - begin
    vectors = np.zeros((given.nodes, given.dim), np.float32)
    vectors[np.array([int(id) for id in found.ids])] = found.vectors
    np.save(out, vectors)
    print(json.dumps({"read": found.read, "learn": found.learn, "processor": spent, "peak": peak()}))


if __name__ == "__main__":
    main()
