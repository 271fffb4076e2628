"""A graph of ten million edges, read from an edge list and learned: `python -m benchmarks.large_graph [--walks 10]`.

It is one by preferential attachment (Barabasi & Albert 1999). Reading and learning happen in a process of their own,
so that the memory is theirs. `--seconds` stops the learning early and says how far it came: chunks of walks are
alike, so memory and speed are those of the whole run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.peers.graph_methods import peak
from ingest.learn.nodes.load import NodeSettings, load_trainer
from ingest.sources.graphs import from_edges, read_graph


class EnoughError(Exception):
    """The time for learning is over."""


def written(path: Path, nodes: int, per_node: int) -> None:
    """Write the edge list, `u v` in each line."""
    from benchmarks.graph_devices import (
        barabasi_albert,
    )  # and torch with it, which the child has to do without

    graph = barabasi_albert(nodes, per_node, 0)
    sources = np.repeat(np.arange(nodes), np.diff(graph.indptr))
    once = np.flatnonzero(sources <= graph.indices)
    with path.open("w") as out:
        for at in np.array_split(once, max(1, len(once) // 500_000)):
            pairs = zip(sources[at].tolist(), graph.indices[at].tolist(), strict=True)
            out.writelines(f"{u} {v}\n" for u, v in pairs)


def learned(path: Path, settings: NodeSettings, seconds: float) -> dict[str, float]:
    """Seconds of reading, of learning and of the processor, the share that was learned, and the peaks of memory."""
    load_trainer("node2vec", NodeSettings(walks=1, p=settings.p, q=settings.q)).fit(from_edges(["a"], ["b"]))
    begin = time.perf_counter()
    graph = read_graph(path).graph
    read, peak_read = time.perf_counter() - begin, peak()
    share = 0.0
    begin, before = time.perf_counter(), time.process_time()

    def watch(done: int, total: int) -> None:
        nonlocal share
        share = done / total
        if seconds and time.perf_counter() - begin > seconds and done < total:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        load_trainer("node2vec", settings).fit(graph, progress=watch)
    return {
        "edges": graph.n_edges,
        "read": read,
        "learn": time.perf_counter() - begin,
        "processor": time.process_time() - before,
        "share": share,
        "peak_read": peak_read,
        "peak": peak(),
    }


def main() -> None:
    """Print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--per-node", type=int, default=10)
    parser.add_argument("--walks", type=int, default=1, help="from each node, of 80 nodes")
    parser.add_argument("--p", type=float, default=1.0)
    parser.add_argument("--q", type=float, default=1.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=0, help="of learning, at most; 0 for no end")
    parser.add_argument("--edges", type=Path, help="the edge list, written there if it is absent")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        settings = NodeSettings(
            walks=arguments.walks, p=arguments.p, q=arguments.q, threads=arguments.threads
        )
        print(json.dumps(learned(arguments.edges, settings, arguments.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.edges or Path(folder) / "large.edgelist"
        if not path.exists():
            written(path, arguments.nodes, arguments.per_node)
        command = [
            sys.executable,
            "-m",
            "benchmarks.large_graph",
            "--child",
            *sys.argv[1:],
            "--edges",
            str(path),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    rate = found["edges"] / found["read"] / 1e6
    print(
        f"{found['edges']:,} edges read in {found['read']:.1f} s ({rate:.2f} M/s), {found['peak_read'] >> 20:,} MB"
    )
    print(
        f"{found['share']:.1%} of {arguments.walks} walks per node learned in {found['learn']:.1f} s, "
        f"{found['processor']:.1f} s of the processor: {found['learn'] / max(found['share'], 1e-9):.0f} s for all; "
        f"{found['peak'] >> 20:,} MB at most"
    )


if __name__ == "__main__":
    main()
