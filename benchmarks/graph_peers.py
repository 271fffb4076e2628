"""node2vec beside other libraries on the same graph and machine: part of `benchmarks.graphs`.

Each library runs in a process of its own, so that its memory is its own, with the Python of its own environment
(`.venv-NAME` in the working directory), which is made where it is absent: some pin numpy<2. One edge in ten is
taken out before anything is learned; the same vectors are then asked for the labels and for those edges.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 0.1  # of the edges
SCRIPT = Path(__file__).parent / "peers" / "graph_methods.py"
SECONDS = 600  # that a library may take


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to learn node vectors: a method of `graph_methods`, and the package that its environment needs."""

    method: str
    p: float
    q: float
    package: str | None = None  # None: this Python has it


NEARKIN = (Peer("nearkin", 1, 1), Peer("nearkin", 0.25, 0.25))
PEERS = (
    Peer("gensim", 1, 1),
    Peer("fastnode2vec", 1, 1, "fastnode2vec==0.0.7"),
    Peer("pecanpy-first-order", 1, 1, "pecanpy==2.0.9"),
    Peer("pecanpy-sparse", 0.25, 0.25, "pecanpy==2.0.9"),
    Peer("pecanpy-precomputed", 0.25, 0.25, "pecanpy==2.0.9"),
    Peer("node2vec", 0.25, 0.25, "node2vec==0.5.0"),
)
NAMES = tuple(peer.method for peer in PEERS)
# Each costs a minute or more, so that all together stay within eight on two processors.
SMALL_ONLY = ("pecanpy-precomputed", "node2vec")  # gigabytes of tables on larger graphs
LARGE_ONLY = ("fastnode2vec", "pecanpy-first-order", "pecanpy-sparse")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A graph to learn from: edges (m, 2), and labels (nodes, labels) bool of the nodes, which are numbers."""

    name: str
    edges: NDArray[np.int64]
    labels: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the comparison; `why` instead of all else where there is nothing."""

    peer: Peer
    read: float = 0.0
    learn: float = 0.0
    processor: float = 0.0
    peak: int = 0
    f1: tuple[float, float] = (0.0, 0.0)
    auc: tuple[float, float] = (0.0, 0.0)
    why: str = ""

    def line(self) -> str:
        """As it is printed."""
        start = f"{self.peer.method:<20} {self.peer.p:>5}"
        if self.why:
            return f"{start}  {self.why}"
        return (
            f"{start} {self.read:6.2f} {self.learn:6.1f} {self.processor:10.1f} {self.peak >> 20:5d} MB"
            f"  {self.f1[0]:8.3f} {self.f1[1]:8.3f}  {self.auc[0]:.3f}, {self.auc[1]:.3f}"
        )


def protein(folder: Path) -> Labelled:
    """Proteins that interact, and what they do: an edge list and a file with the nodes of a label in each line."""
    lines = (folder / "PPI.ungraph").read_text().splitlines()
    edges = np.array([line.split()[:2] for line in lines if line[:1] not in ("", "#")])
    names, ends = np.unique(edges, return_inverse=True)
    number = {name: k for k, name in enumerate(names.tolist())}
    groups = [line.split() for line in (folder / "PPI.cmty").read_text().splitlines()]
    labels = np.zeros((len(names), len(groups)), np.bool_)
    for label, group in enumerate(groups):
        labels[[number[name] for name in group], label] = True
    pairs = np.sort(ends.reshape(-1, 2), axis=1)
    return Labelled("PPI", np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0), labels)


def social(n_nodes: int = 10_312, n_edges: int = 334_000, share: float = 0.15, seed: int = 0) -> Labelled:
    """A degree-corrected planted partition (Karrer & Newman 2011) with the size of a social graph.

    Degrees fall as a power law with a tail of 2.3, up to thousands; 39 groups fall in size as 1 / (rank + 2); this
    share of the edges has its target drawn within the group, the others anywhere, both by degree.
    """
    rng = np.random.default_rng(seed)
    pull = np.minimum((1 - rng.random(n_nodes)) ** (-1 / 1.3), n_nodes / 25)
    sizes = 1 / np.arange(3, 42)
    group = rng.choice(len(sizes), n_nodes, p=sizes / sizes.sum())
    order = np.argsort(group, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(pull[order])])
    begins = np.searchsorted(group[order], np.arange(len(sizes) + 1))
    drawn = 2 * n_edges
    sources = order[np.searchsorted(reached, rng.random(drawn) * reached[-1], side="right") - 1]
    low, high = reached[begins[group[sources]]], reached[begins[group[sources] + 1]]
    anywhere = rng.random(drawn) >= share
    low[anywhere], high[anywhere] = 0.0, reached[-1]
    places = np.searchsorted(reached, low + rng.random(drawn) * (high - low), side="right") - 1
    targets = order[np.minimum(places, n_nodes - 1)]
    pairs = np.sort(np.stack([sources, targets], axis=1)[sources != targets], axis=1)
    kept = np.unique(pairs[:, 0] * n_nodes + pairs[:, 1])
    kept = rng.permutation(kept)[:n_edges]
    edges = np.stack([kept // n_nodes, kept % n_nodes], axis=1)
    return Labelled("planted social graph", edges, group[:, None] == np.arange(len(sizes)))


def parted(edges: NDArray[np.int64], n_nodes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges to learn from, and pairs (n, 2): first the edges held out, then as many pairs without an edge.

    An edge is only held out where both of its ends keep another one.
    """
    rng = np.random.default_rng(1)
    edges = rng.permutation(edges)
    left = np.bincount(edges.ravel(), minlength=n_nodes)
    wanted, held = int(HELD_OUT * len(edges)), np.zeros(len(edges), np.bool_)
    for k, (u, v) in enumerate(edges.tolist()):
        if wanted and left[u] > 1 and left[v] > 1:
            held[k] = True
            left[u] -= 1
            left[v] -= 1
            wanted -= 1
    n = int(held.sum())
    drawn = np.sort(rng.integers(0, n_nodes, (4 * n, 2)), axis=1)
    there = np.sort(edges, axis=1)
    free = drawn[:, 0] != drawn[:, 1]
    free &= ~np.isin(drawn[:, 0] * n_nodes + drawn[:, 1], there[:, 0] * n_nodes + there[:, 1])
    return edges[~held], np.concatenate([edges[held], drawn[free][:n]])


def python_of(peer: Peer) -> Path:
    """The Python that has the peer's package, in an environment that is made if it is absent.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    if peer.package is None:
        return Path(sys.executable)
    folder = Path(f".venv-{peer.package.partition('==')[0]}").absolute()
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        venv.create(folder, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", peer.package], check=True, capture_output=True
        )
        ready.touch()
    return python


def compared(
    given: Labelled, peers: tuple[Peer, ...], threads: int, repeats: int, folder: Path
) -> Iterator[Row]:
    """A row for each peer, as they come."""
    from benchmarks.graph_quality import f1, link_auc, rescaled

    n_nodes = len(given.labels)
    edges, pairs = parted(given.edges, n_nodes)
    linked = np.arange(len(pairs)) < len(pairs) // 2
    path, out = folder / "graph.edg", folder / "vectors.npy"
    path.write_text("".join(f"{u}\t{v}\n" for u, v in edges.tolist()))
    for peer in peers:
        settings = {"nodes": n_nodes, "p": peer.p, "q": peer.q, "threads": threads}
        try:
            python = python_of(peer)
            done = subprocess.run(
                [python, SCRIPT, peer.method, path, out, json.dumps(settings)],
                check=True,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env=_environment(peer, threads),
            )
        except subprocess.CalledProcessError as error:
            told = error.stderr if isinstance(error.stderr, str) else error.stderr.decode()
            yield Row(peer, why=(told.strip().splitlines() or ["failed"])[-1][:120])
            continue
        except subprocess.TimeoutExpired:
            yield Row(peer, why=f"not done after {SECONDS} s")
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        vectors = rescaled(np.load(out))
        known = given.labels.any(1)
        quality = f1(vectors[known], given.labels[known], repeats)
        yield Row(peer, **told, f1=quality, auc=link_auc(vectors, pairs, linked))


def _environment(peer: Peer, threads: int) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if peer.package is None:
        known["PYTHONPATH"] = str(Path(__file__).parent.parent)
    return known | {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
