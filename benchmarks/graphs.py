"""How fast a graph is read, walked and learned: `python -m benchmarks.graphs [--nodes N] [--edges-per-node M]`.

With `--peers all` other libraries learn from the same graphs too, each in a process and an environment of its own.
With `--device cuda` it compares the trainers of the GPU with those of the processor instead, line by line as they come.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.graph_peers import LARGE_ONLY, NAMES, NEARKIN, PEERS, SMALL_ONLY, compared, protein, social
from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.node2vec import Node2Vec
from ingest.learn.nodes.skipgram import SkipGramSettings
from ingest.learn.nodes.walks import Walker, WalkSettings, available_threads
from ingest.sources.graphs import from_edges, read_graph

Result = TypeVar("Result")
SHARED = Path(os.environ.get("NEARKIN_SHARED", Path(__file__).parents[2] / "shared")) / "data"
PROTEIN = SHARED / "graphs" / "ppi"


def planted(
    n_nodes: int, per_node: int, n_blocks: int, seed: int, share: float = 0.8
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ends of n_nodes * per_node edges; this share stays inside a block, and low numbers have more of them."""
    rng = np.random.default_rng(seed)
    n = n_nodes * per_node
    sources = (n_nodes * rng.random(n) ** 2).astype(np.int64)
    targets = (n_nodes * rng.random(n) ** 2).astype(np.int64)
    inside = rng.random(n) < share
    targets[inside] += sources[inside] % n_blocks - targets[inside] % n_blocks
    return sources, np.clip(targets, 0, n_nodes - 1)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds on the clock, and what came of it."""
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def same_block(vectors: NDArray[np.float32], graph: Graph, n_blocks: int) -> float:
    """How many of the five nearest of 100 nodes lie in the same planted block."""
    block = np.array([int(name) % n_blocks for name in graph.ids])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    asked = np.random.default_rng(0).choice(graph.n_nodes, 100, replace=False)
    scores = unit[asked] @ unit.T
    scores[np.arange(100), asked] = -2
    nearest = np.argpartition(-scores, 5, axis=1)[:, :5]
    return float((block[nearest] == block[asked][:, None]).mean())


def reading(arguments: argparse.Namespace, table: Table) -> Graph:
    """Write the graph as an edge list, with and without weights, and read it back."""
    sources, targets = planted(arguments.nodes, arguments.edges_per_node, arguments.blocks, 0)
    names, others = sources.astype(str).tolist(), targets.astype(str).tolist()
    weights = np.random.default_rng(1).random(len(names)) + 0.1
    with tempfile.TemporaryDirectory() as folder:
        for suffix, mark in ((".edgelist", " "), (".csv", ",")):
            path = Path(folder) / f"graph{suffix}"
            rows = zip(names, others, weights.tolist(), strict=True)
            path.write_text("\n".join(f"{u}{mark}{v}{mark}{w:.4f}" for u, v, w in rows))
            seconds, _ = timed(lambda path=path: read_graph(path))
            table.add_row(
                f"read {suffix}, weighted", f"{seconds:.2f} s", f"{len(names) / seconds / 1e6:.2f} M edges/s"
            )
        path = Path(folder) / "plain.edgelist"
        path.write_text("\n".join(f"{u} {v}" for u, v in zip(names, others, strict=True)))
        seconds, found = timed(lambda: read_graph(path))
    table.add_row("read .edgelist", f"{seconds:.2f} s", f"{len(names) / seconds / 1e6:.2f} M edges/s")
    return found.graph


def walking(graph: Graph, arguments: argparse.Namespace, table: Table) -> None:
    """All walks of the graph, first-order and second-order."""
    for p, q in ((1.0, 1.0), (0.25, 0.25), (0.25, 4.0)):
        walker = Walker(graph, WalkSettings(walks=arguments.walks, p=p, q=q))
        with ThreadPoolExecutor(arguments.threads) as pool:
            walker.walk(0, 256, pool)  # compiles, or loads what was compiled
            seconds, steps = timed(lambda walker=walker, pool=pool: walker.walk(0, walker.n_walks, pool))
        table.add_row(
            f"walks, p={p} q={q}", f"{seconds:.2f} s", f"{steps.size / seconds / 1e6:.1f} M steps/s"
        )


def learning(graph: Graph, arguments: argparse.Namespace, table: Table) -> None:
    """The whole run on one thread and on all, and gensim beside it."""
    walks = WalkSettings(walks=arguments.walks)
    small = from_edges(["a", "b"], ["b", "c"])
    Node2Vec(walks, SkipGramSettings()).fit(small)  # compiles, or loads what was compiled
    bytes_found = set()
    for threads in sorted({1, arguments.threads}):
        seconds, vectors = timed(lambda threads=threads: Node2Vec(walks, threads=threads).fit(graph))
        bytes_found.add(vectors.tobytes())
        tokens = graph.n_nodes * walks.walks * walks.length
        kept = same_block(vectors, graph, arguments.blocks)
        note = f"{tokens / seconds / 1e6:.2f} M tokens/s, same block {kept:.3f}"
        table.add_row(f"node2vec, whole run, {threads} threads", f"{seconds:.2f} s", note)
    table.add_row("same bytes for each number of threads", "", "yes" if len(bytes_found) == 1 else "NO")


def beside(arguments: argparse.Namespace) -> None:
    """Print the comparison with other libraries, line by line."""
    wanted = NAMES if arguments.peers == ["all"] else tuple(arguments.peers)
    peers = NEARKIN + tuple(peer for peer in PEERS if peer.method in wanted)
    graphs = [social()]
    if arguments.protein.is_dir():
        graphs.append(protein(arguments.protein))
    for graph in graphs:
        elsewhere = LARGE_ONLY if len(graph.edges) < 100_000 else SMALL_ONLY
        some = tuple(peer for peer in peers if peer.method not in elsewhere)
        print(
            f"\n{graph.name}: {len(graph.labels):,} nodes, {len(graph.edges):,} edges, {arguments.threads} threads"
        )
        print(
            "method                p, q   read  learn  processor    peak  macro-F1 micro-F1  AUC by regression, cosine"
        )
        with tempfile.TemporaryDirectory() as folder:
            for row in compared(graph, some, arguments.threads, arguments.repeats, Path(folder)):
                print(row.line(), flush=True)


def on_device(arguments: argparse.Namespace) -> None:
    """Print the comparison with a device line by line."""
    import torch

    from benchmarks.graph_devices import built, device_rows

    ends = planted(arguments.nodes, arguments.edges_per_node, arguments.blocks, 0)
    small = built(arguments.nodes, *ends)
    rows = device_rows(
        torch.device(arguments.device),
        available_threads(),
        arguments.large,
        small,
        lambda vectors: f"same block {same_block(vectors, small, arguments.blocks):.3f}",
        profile=arguments.profile,
    )
    for row in rows:
        print(f"{row.what:<72} {row.seconds:9.2f} s  {row.note}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--edges-per-node", type=int, default=33)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--walks", type=int, default=10)
    parser.add_argument("--threads", type=int, default=min(available_threads(), 8))
    parser.add_argument("--device", help="cuda (or cpu, to try it): the trainers there instead of all else")
    parser.add_argument(
        "--large", type=int, default=1_000_000, help="nodes of the large graph, with --device"
    )
    parser.add_argument("--profile", action="store_true", help="with --device, also the longest kernels")
    parser.add_argument(
        "--peers",
        nargs="+",
        default=["none"],
        help="all, or names: " + ", ".join(NAMES) + "; instead of all else",
    )
    parser.add_argument(
        "--repeats", type=int, default=1, help="with --peers: divisions of the labelled nodes"
    )
    parser.add_argument(
        "--protein", type=Path, default=PROTEIN, help="with --peers: folder with PPI.ungraph and PPI.cmty"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.peers) - {*NAMES, "all", "none"}
    if unknown or (len(arguments.peers) > 1 and {"all", "none"} & set(arguments.peers)):
        parser.error(f"--peers takes all, none, or some of {', '.join(NAMES)}")
    if arguments.peers != ["none"]:
        beside(arguments)
        return
    if arguments.device is not None:
        on_device(arguments)
        return
    table = Table("what", "time", "rate")
    graph = reading(arguments, table)
    table.title = (
        f"planted partition, {graph.n_nodes:,} nodes, {graph.n_edges:,} edges, {arguments.threads} threads"
    )
    walking(graph, arguments, table)
    learning(graph, arguments, table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    table.add_row("peak memory of this process", f"{peak / 2**20:.0f} MB", "with the graph's text, made here")
    Console().print(table)


if __name__ == "__main__":
    main()
