"""The node trainers of a GPU beside those of the processor, on the same graph: part of `benchmarks.graphs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numba import njit
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.load import NodeSettings, load_trainer
from ingest.learn.nodes.node2vec import Node2Vec
from ingest.learn.nodes.skipgram import SkipGramSettings
from ingest.learn.nodes.torch_node2vec import TorchNode2Vec
from ingest.learn.nodes.torch_walks import TorchWalker
from ingest.learn.nodes.walks import Walker, WalkSettings

ORDERS = ((1.0, 1.0), (0.25, 0.25), (0.25, 4.0))  # p and q
SHOWN = 2_000_000  # walks taken to time walking alone


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    seconds: float
    note: str


def built(n_nodes: int, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> Graph:
    """The undirected graph of these edges, whose nodes are named by their numbers."""
    ones = np.ones(2 * len(sources), np.float32)
    ends = np.concatenate([sources, targets]), np.concatenate([targets, sources])
    rows = scipy.sparse.coo_matrix((ones, ends), shape=(n_nodes, n_nodes)).tocsr()
    rows.sum_duplicates()
    ids = tuple(str(node) for node in range(n_nodes))
    return Graph(ids, rows.indptr.astype(np.int64), rows.indices.astype(np.int32), None, directed=False)


@njit(cache=True)
def _attached(ends: Any, per_node: int, seed: int) -> None:
    """Fill (n, 2) ends of edges: each edge of a new node leads to an end of an earlier edge, at random."""
    np.random.seed(seed)  # noqa: NPY002 - inside compiled code
    for k in range(len(ends)):
        ends[k, 0] = per_node + k // per_node
        place = np.random.randint(0, 2 * (k - k % per_node) + per_node)  # noqa: NPY002
        ends[k, 1] = place if place < per_node else ends[(place - per_node) // 2, (place - per_node) % 2]


def barabasi_albert(n_nodes: int, per_node: int, seed: int) -> Graph:
    """Preferential attachment (Barabasi & Albert 1999); repeated edges are merged."""
    ends = np.empty(((n_nodes - per_node) * per_node, 2), np.int64)
    _attached(ends, per_node, seed)
    return built(n_nodes, ends[:, 0], ends[:, 1])


def waited(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the device has done all of it, and what came of it."""
    begin = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin, result


def walking(graph: Graph, name: str, device: torch.device, threads: int) -> Iterator[Row]:
    """Walks alone, on the device and on the processor."""
    for p, q in ORDERS:
        settings = WalkSettings(p=p, q=q)
        walker, compiled = TorchWalker(graph, settings, device), Walker(graph, settings)
        count = min(walker.n_walks, SHOWN)
        walker.walk(0, count)  # the first call loads the kernels
        seconds, found = waited(device, lambda walker=walker, count=count: walker.walk(0, count))
        yield Row(f"{name}: walks, p={p} q={q}, {device}", seconds, _per_second(found.numel(), seconds))
        with ThreadPoolExecutor(threads) as pool:
            compiled.walk(0, 256, pool)
            seconds, steps = waited(
                torch.device("cpu"), lambda c=compiled, count=count, pool=pool: c.walk(0, count, pool)
            )
        same = "the same walks" if (found.cpu().numpy() == steps).all() else "OTHER WALKS"
        note = f"{_per_second(steps.size, seconds)}, {same}"
        yield Row(f"{name}: walks, p={p} q={q}, {threads} threads", seconds, note)


def training(
    graph: Graph,
    name: str,
    walks: WalkSettings,
    device: torch.device,
    threads: int,
    quality: Callable[[NDArray[np.float32]], str] | None = None,
) -> Iterator[Row]:
    """Whole runs on the device, twice, and on the processor (`threads` 0 leaves it out)."""
    learning = SkipGramSettings()
    tokens = graph.n_nodes * walks.walks * walks.length
    what = f"{name}: {walks.walks} walks a node, p={walks.p} q={walks.q}"
    found = []
    for run in ("first run", "again"):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        trainer = TorchNode2Vec(walks, learning, device=str(device))
        seconds, vectors = waited(device, lambda trainer=trainer: trainer.fit(graph))
        found.append(vectors)
        note = _per_second(tokens, seconds, "tokens")
        if device.type == "cuda":
            note += f", peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB on the device"
        if quality is not None:
            note += f", {quality(vectors)}"
        yield Row(f"{what}, {device}, {run}", seconds, note)
    yield Row(f"{what}, {device}: the same bytes", 0.0, "yes" if (found[0] == found[1]).all() else "NO")
    if threads > 0:
        seconds, vectors = waited(
            torch.device("cpu"), lambda: Node2Vec(walks, learning, threads=threads).fit(graph)
        )
        note = _per_second(tokens, seconds, "tokens")
        if quality is not None:
            note += f", {quality(vectors)}"
        yield Row(f"{what}, {threads} threads", seconds, note)


def stages(graph: Graph, device: torch.device, walks: WalkSettings) -> Iterator[Row]:
    """Where the time of a run goes on the device, by torch's profiler: the longest kernels."""
    trainer = TorchNode2Vec(walks, SkipGramSettings(), device=str(device))
    kinds = [
        torch.profiler.ProfilerActivity.CUDA if device.type == "cuda" else torch.profiler.ProfilerActivity.CPU
    ]
    with torch.profiler.profile(activities=kinds) as profile:
        trainer.fit(graph)
    events = profile.key_averages()
    total = {
        event.key: (event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total)
        / 1e6
        for event in events
    }
    for key in sorted(total, key=lambda key: -total[key])[:16]:
        yield Row(f"  {key[:90]}", total[key], "")


def _per_second(count: int, seconds: float, unit: str = "steps") -> str:
    return f"{count / seconds / 1e6:.1f} M {unit}/s"


def device_rows(
    device: torch.device,
    threads: int,
    large: int,
    small: Graph,
    quality: Callable[[NDArray[np.float32]], str],
    *,
    profile: bool,
) -> Iterator[Row]:
    """All lines: a small graph with its quality, then one of `large` nodes with ten edges each."""
    TorchNode2Vec(WalkSettings(), SkipGramSettings(), device=str(device)).fit(barabasi_albert(2000, 4, 0))
    Node2Vec(WalkSettings(), SkipGramSettings(), threads=threads).fit(barabasi_albert(200, 4, 0))
    name = f"{small.n_nodes:,} nodes"
    yield from walking(small, name, device, threads)
    yield from training(small, name, WalkSettings(), device, threads, quality)
    if profile:
        yield from stages(small, device, WalkSettings())
    begin = time.perf_counter()
    graph = barabasi_albert(large, 10, 0)
    name = f"Barabasi-Albert, {graph.n_nodes:,} nodes"
    yield Row(f"{name}: made", time.perf_counter() - begin, f"{graph.n_edges:,} edges")
    yield from walking(graph, name, device, threads)
    yield from training(graph, name, WalkSettings(walks=1), device, threads)
    if profile:
        yield from stages(graph, device, WalkSettings(walks=1))
    for method in ("prone", "cleora"):
        solver = load_trainer(method, NodeSettings(threads=threads))
        seconds, _ = waited(torch.device("cpu"), lambda solver=solver: solver.fit(graph))
        yield Row(f"{name}: {method}, {threads} threads", seconds, "")
    yield from training(graph, name, WalkSettings(walks=10), device, 0)
    yield from training(graph, name, WalkSettings(walks=10, p=0.25, q=4.0), device, 0)
