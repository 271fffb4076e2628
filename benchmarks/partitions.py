"""The steps of docs/scale.md on a small graph: sort, walk and learn by partition, with the bytes that each moves.

`python -m benchmarks.partitions [--nodes N] [--partitions P] [--workers W]`. Every step runs in processes that open
no other partition's file, and its outcome is compared with that of the whole graph in one memory.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.graphs import planted, same_block
from ingest.learn.nodes.chance import below, mixed, stream
from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.walks import Walker, WalkSettings
from ingest.sources.compressed import compressed_rows
from ingest.sources.edges import from_edges

Array = NDArray[Any]
WALKER = np.dtype([("walk", "<i8"), ("step", "<u1"), ("node", "<u4")])  # 13 bytes: what is handed over
VISIT = WALKER  # a step that was taken, on its way home
PAIR = np.dtype([("centre", "<u4"), ("context", "<u4")])
GAMMA = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Plan:
    """How the nodes are dealt out: node n lies in partition n // size."""

    folder: Path
    n_nodes: int
    partitions: int
    length: int = 40
    walks: int = 10
    window: int = 5
    dim: int = 32
    negatives: int = 5
    seed: int = 0

    @property
    def size(self) -> int:
        return -(-self.n_nodes // self.partitions)

    def path(self, what: str, *numbers: int) -> Path:
        return self.folder / "-".join([what, *map(str, numbers)])


def write_durably(path: Path, data: bytes) -> int:
    """A file that is whole or absent; how many bytes it has."""
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return len(data)


def scatter(plan: Plan, number: int, edges: Array) -> int:
    """One piece of the input: each edge, both ways, to the run of the partition of its first end. Bytes written."""
    both = np.concatenate((edges, edges[:, ::-1][edges[:, 0] != edges[:, 1]])).astype("<u4")
    owner = both[:, 0] // plan.size
    return sum(
        write_durably(plan.path("run", part, number), both[owner == part].tobytes())
        for part in range(plan.partitions)
    )


def compress(plan: Plan, part: int, pieces: int) -> tuple[int, int]:
    """The runs of one partition to its rows; bytes read and bytes written."""
    runs = [np.fromfile(plan.path("run", part, k), "<u4").reshape(-1, 2) for k in range(pieces)]
    ends = np.concatenate(runs).astype(np.int32)
    first = part * plan.size
    rows = ends[:, 0] - first
    indptr, indices, *_ = compressed_rows(rows, ends[:, 1], np.empty(0), plan.n_nodes, False)
    here = min(plan.size, plan.n_nodes - first)
    written = write_durably(plan.path("indptr", part), indptr[: here + 1].tobytes())
    written += write_durably(plan.path("indices", part), indices.astype("<u4").tobytes())
    return ends.nbytes, written


@njit(cache=True)
def advance(
    indptr: Array, indices: Array, first: int, high: int, seed: int, length: int, at: Array, visits: Array
) -> Any:
    """Take each walker (rows of walk, step, node) as far as this partition reaches; how many visits that makes."""
    n = 0
    for i in range(len(at)):
        walk, step, node = at[i, 0], at[i, 1], at[i, 2]
        origin = stream(seed, walk)
        while first <= node < high and step + 1 < length:
            low = indptr[node - first]
            degree = indptr[node - first + 1] - low
            step += 1
            # the random bits of a step depend on its walk and number alone, so it matters not who takes it
            node = np.int64(indices[low + below(mixed(origin + np.uint64(step) * GAMMA), degree)])
            visits[n, 0], visits[n, 1], visits[n, 2] = walk, step, node
            n += 1
        at[i, 1], at[i, 2] = step, node
    return n


def walk_part(plan: Plan, part: int, turn: int, walkers: bytes) -> tuple[list[bytes], int]:
    """A turn of one partition: the walkers for each partition, and how many bytes of visits were logged."""
    given = np.frombuffer(walkers, WALKER)
    at = np.stack([given[name].astype(np.int64) for name in WALKER.names or ()], axis=1)
    indptr = np.fromfile(plan.path("indptr", part), "<i8")
    indices = np.fromfile(plan.path("indices", part), "<u4")
    first = part * plan.size
    visits = np.empty((len(at) * plan.length, 3), np.int64)
    n = advance(indptr, indices, first, first + len(indptr) - 1, plan.seed, plan.length, at, visits)
    logged = write_durably(plan.path("visits", part, turn), packed(visits[:n], VISIT).tobytes())
    going = packed(at[at[:, 1] + 1 < plan.length], WALKER)
    owner = going["node"] // plan.size
    return [going[owner == to].tobytes() for to in range(plan.partitions)], logged


def packed(rows: Array, kind: np.dtype[Any]) -> Array:
    """Columns as records."""
    found = np.empty(len(rows), kind)
    for k, name in enumerate(kind.names or ()):
        found[name] = rows[:, k]
    return found


def walk_all(plan: Plan, pool: Executor, starts: Array) -> tuple[Array, dict[str, float]]:
    """All walks by turns of the partitions, and what it moved."""
    every = np.stack((np.arange(len(starts)), np.zeros(len(starts), np.int64), starts), axis=1)
    walkers = packed(every, WALKER)
    box = [walkers[walkers["node"] // plan.size == part].tobytes() for part in range(plan.partitions)]
    turn = handed = logged = 0
    while any(box):
        jobs = [pool.submit(walk_part, plan, part, turn, box[part]) for part in range(plan.partitions)]
        done = [job.result() for job in jobs]
        handed += sum(
            len(one) for part, (sent, _) in enumerate(done) for to, one in enumerate(sent) if to != part
        )
        logged += sum(size for _, size in done)
        box = [b"".join(sent[to] for sent, _ in done) for to in range(plan.partitions)]
        turn += 1
    walks = np.empty((len(starts), plan.length), np.int32)
    walks[:, 0] = starts
    for part in range(plan.partitions):
        for k in range(turn):
            visits = np.fromfile(plan.path("visits", part, k), VISIT)
            walks[visits["walk"], visits["step"]] = visits["node"]
    steps = len(starts) * (plan.length - 1)
    return walks, {"turns": turn, "handed over": handed / steps, "logged": logged / steps}


def pairs_of(walks: Array, window: int) -> Array:
    """Each node of a walk with each other within the window: (m, 2)."""
    found = []
    for gap in range(1, window + 1):
        near = np.stack((walks[:, :-gap].ravel(), walks[:, gap:].ravel()), axis=1)
        found += [near, near[:, ::-1]]
    every = np.concatenate(found)
    return every[np.random.default_rng(0).permutation(len(every))]


@njit(cache=True)
def learn_pairs(centres: Array, contexts: Array, pairs: Array, drawn: Array, rates: Array) -> None:
    """Skip-gram with negative samples (Mikolov et al. 2013), pair by pair; `drawn` (pairs, negatives) are contexts."""
    step = np.empty(centres.shape[1], np.float32)
    for i in range(len(pairs)):
        centre = centres[pairs[i, 0]]
        step[:] = 0
        for k in range(drawn.shape[1] + 1):
            context = contexts[pairs[i, 1] if k == 0 else drawn[i, k - 1]]
            score = np.float32(0)
            for d in range(len(step)):
                score += centre[d] * context[d]
            pull = rates[i] * ((k == 0) - 1 / (1 + np.exp(-score)))
            for d in range(len(step)):
                step[d] += pull * context[d]
                context[d] += pull * centre[d]
        centre += step


def learn_bucket(plan: Plan, i: int, j: int, rate: float) -> int:
    """Learn the pairs whose centre lies in block i and context in block j; bytes read and written."""
    pairs = np.fromfile(plan.path("pairs", i, j), "<u4").reshape(-1, 2).astype(np.int64)
    pairs -= np.array([i, j]) * plan.size
    paths = plan.path("centres", i), plan.path("contexts", j)
    centres, contexts = (np.fromfile(path, np.float32).reshape(-1, plan.dim) for path in paths)
    rng = np.random.default_rng([plan.seed, i, j])
    degree = np.bincount(pairs[:, 1], minlength=len(contexts)) ** 0.75
    drawn = rng.choice(len(contexts), (len(pairs), plan.negatives), p=degree / degree.sum())
    learn_pairs(centres, contexts, pairs, drawn, np.full(len(pairs), rate, np.float32))
    moved = centres.nbytes + contexts.nbytes + pairs.nbytes // 2  # pairs are 8 bytes each in the file
    moved += write_durably(plan.path("contexts", j), contexts.tobytes())
    return moved + write_durably(plan.path("centres", i), centres.tobytes())


def rounds(plan: Plan) -> list[list[tuple[int, int]]]:
    """The buckets in rounds: those of one round share no block, so they may be learned side by side."""
    p = plan.partitions
    return [[(i, (i + shift) % p) for i in range(p)] for shift in range(p)]


def learn_all(plan: Plan, pool: Executor, rounds_left: list[list[tuple[int, int]]], rate: float) -> int:
    """Learn rounds of buckets, one after the other; bytes moved."""
    moved = 0
    for some in rounds_left:
        moved += sum(job.result() for job in [pool.submit(learn_bucket, plan, i, j, rate) for i, j in some])
    return moved


def begin_learning(plan: Plan, pairs: Array) -> int:
    """First vectors, and the pairs dealt out to their buckets; bytes of the pairs."""
    rng = np.random.default_rng(plan.seed)
    first = ((rng.random((plan.n_nodes, plan.dim)) - 0.5) / plan.dim).astype(np.float32)
    for part in range(plan.partitions):
        block = first[part * plan.size : (part + 1) * plan.size]
        write_durably(plan.path("centres", part), block.tobytes())
        write_durably(plan.path("contexts", part), np.zeros_like(block).tobytes())
    owner = pairs // plan.size
    return sum(
        write_durably(
            plan.path("pairs", i, j), pairs[(owner[:, 0] == i) & (owner[:, 1] == j)].astype("<u4").tobytes()
        )
        for i in range(plan.partitions)
        for j in range(plan.partitions)
    )


def vectors_of(plan: Plan) -> Array:
    """The vectors of all nodes."""
    return np.concatenate(
        [np.fromfile(plan.path("centres", part), np.float32) for part in range(plan.partitions)]
    ).reshape(-1, plan.dim)


@dataclass(frozen=True)
class Found:
    """Bytes moved, and whether each step gave what it gives in one memory.

    `sort` bytes an edge; `hand` and `log` a step of a walk; `blocks` times all vectors; `pair` a pair. `scores` are
    those of the vectors learned by blocks and in one memory.
    """

    sort: float
    hand: float
    log: float
    blocks: float
    pair: float
    same_rows: bool
    same_walks: bool
    resumed: bool
    scores: tuple[float, float]


def simulate(graph: Graph, ends: Array, plan: Plan, blocks: int, pool: Executor, table: Table) -> Found:
    """Run all steps, and add a line to the table for each."""
    pieces = np.array_split(ends, 8)
    written = sum(
        job.result() for job in [pool.submit(scatter, plan, k, one) for k, one in enumerate(pieces)]
    )
    jobs = [pool.submit(compress, plan, part, len(pieces)) for part in range(plan.partitions)]
    read, rows = np.sum([job.result() for job in jobs], axis=0).tolist()
    indices = np.concatenate(
        [np.fromfile(plan.path("indices", part), "<u4") for part in range(plan.partitions)]
    )
    same_rows = np.array_equal(indices, graph.indices)
    sort_bytes = (ends.nbytes // 2 + written + read + rows) / len(ends)
    table.add_row(
        "sort into partitions", f"{sort_bytes:.1f} bytes an edge", f"rows as in one memory: {same_rows}"
    )

    walker = Walker(graph, WalkSettings(plan.walks, plan.length, seed=plan.seed))
    walks, moved = walk_all(plan, pool, walker.starts(0, walker.n_walks).astype(np.int64))
    same_walks = np.array_equal(walks, walker.walk(0, walker.n_walks))
    note = f"walks as in one memory: {same_walks}; {moved['turns']:.0f} turns"
    table.add_row("walk, walkers handed over", f"{moved['handed over']:.1f} bytes a step", note)
    table.add_row("walk, visits on their way home", f"{moved['logged']:.1f} bytes a step", "")

    pairs = pairs_of(walks, plan.window)
    paired = begin_learning(plan, pairs) / len(pairs)
    order, middle = rounds(plan), plan.partitions // 2
    learned = learn_all(plan, pool, order[:middle], 0.05)
    kept = {
        path: path.read_bytes()
        for path in plan.folder.iterdir()
        if path.name.startswith(("centres", "contexts"))
    }
    learned += learn_all(plan, pool, order[middle:], 0.05)
    vectors = vectors_of(plan)
    for (
        path,
        data,
    ) in kept.items():  # the power failed in the middle: go on from the last round that was whole
        write_durably(path, data)
    learn_all(plan, pool, order[middle:], 0.05)
    resumed = np.array_equal(vectors, vectors_of(plan))
    whole = replace(plan, folder=plan.folder / "whole", partitions=1)
    whole.folder.mkdir()
    begin_learning(whole, pairs)
    learn_bucket(whole, 0, 0, 0.05)
    scores = [same_block(each, graph, blocks) for each in (vectors, vectors_of(whole))]
    block_bytes = (learned - paired * len(pairs)) / (plan.n_nodes * plan.dim * 4)
    note = f"same block {scores[0]:.3f}, in one memory {scores[1]:.3f}; resumed to the same bytes: {resumed}"
    table.add_row("learn, vectors of blocks moved", f"{block_bytes:.1f} times all vectors", note)
    table.add_row("learn, pairs dealt out", f"{paired:.1f} bytes a pair, twice", "")
    return Found(
        sort_bytes, moved["handed over"], moved["logged"], block_bytes, paired, same_rows, same_walks, resumed,
        (scores[0], scores[1]),
    )  # fmt: skip


def estimate(found: Found, arguments: argparse.Namespace, table: Table) -> None:
    """What the steps would move and take for a large graph, from the bytes found here and the rates given."""
    edges, nodes, machines = arguments.edges, arguments.big_nodes, arguments.machines
    steps = nodes * arguments.big_walks * 80
    wide = 5 / 4  # node numbers of 40 bits instead of 32
    away = (1 - 1 / machines) / (
        1 - 1 / arguments.partitions
    )  # how often a step leaves, for nodes dealt out at random
    disk, net = arguments.disk * 1e9 * machines, arguments.net * 1e9 * machines
    cores = machines * arguments.cores
    sort = found.sort * edges * wide
    hand, log = found.hand * steps * away, found.log * steps * wide
    vectors = nodes * 128 * 4
    # a block of each kind of vectors takes up to half of a machine's memory
    shards = machines * math.ceil(2 * vectors / machines / (arguments.memory * 1e9 / 2))
    blocks = found.blocks / arguments.partitions * shards * vectors
    pairs = found.pair * wide * 2 * arguments.big_window * steps
    lines = (
        ("sort into partitions", sort, sort / disk),
        ("walk: walkers handed over", hand, hand / net),
        ("walk: visits written and read", 2 * log, 2 * log / disk),
        ("walk: steps taken", 0.0, steps / (arguments.steps_rate * 1e6 * cores)),
        (f"learn: blocks moved ({shards:,} by {shards:,})", blocks, blocks / min(disk, net)),
        ("learn: pairs written and read", 2 * pairs, 2 * pairs / disk),
        ("learn: tokens", 0.0, steps / (arguments.token_rate * 1e6 * cores)),
        ("snapshot of all vectors", 2.0 * vectors, 2 * vectors / disk),
    )
    for name, size, seconds in lines:
        table.add_row(name, f"{size / 1e12:,.1f} TB" if size else "", f"{seconds / 3600:,.2f} h")
    table.add_row("rows of one machine", f"{edges * 2 * 5 / machines / 1e9:,.0f} GB", "")


def main() -> None:
    """Print what was found, and the estimate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2_000)
    parser.add_argument("--edges-per-node", type=int, default=10)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--edges", type=int, default=10**10)
    parser.add_argument("--big-nodes", type=int, default=10**9)
    parser.add_argument("--big-walks", type=int, default=1)
    parser.add_argument("--big-window", type=int, default=10)
    parser.add_argument("--machines", type=int, default=16)
    parser.add_argument("--cores", type=int, default=32, help="of each machine")
    parser.add_argument("--memory", type=float, default=256, help="GB of each machine")
    parser.add_argument("--disk", type=float, default=2.0, help="GB/s of each machine")
    parser.add_argument("--net", type=float, default=2.5, help="GB/s of each machine")
    parser.add_argument("--steps-rate", type=float, default=8.0, help="million steps a second and core")
    parser.add_argument("--token-rate", type=float, default=0.35, help="million tokens a second and core")
    arguments = parser.parse_args()
    sources, targets = planted(arguments.nodes, arguments.edges_per_node, 20, 0)
    width = len(str(arguments.nodes))  # so that ids sort as numbers do
    named = [[f"{each:0{width}}" for each in column.tolist()] for column in (sources, targets)]
    graph = from_edges(*named)
    place = {int(name): k for k, name in enumerate(graph.ids)}
    ends = np.array([[place[u], place[v]] for u, v in zip(sources.tolist(), targets.tolist(), strict=True)])
    title = f"{graph.n_nodes:,} nodes, {graph.n_edges:,} edges, {arguments.partitions} partitions"
    table = Table("step", "moved", "compared", title=title)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(Path(folder), graph.n_nodes, arguments.partitions)
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
            found = simulate(graph, ends, plan, 20, pool, table)
    Console().print(table)
    title = f"{arguments.edges:,} edges, {arguments.big_nodes:,} nodes, {arguments.machines} machines"
    scaled = Table("step", "moved", "time", title=title)
    estimate(found, arguments, scaled)
    Console().print(scaled)


if __name__ == "__main__":
    main()
