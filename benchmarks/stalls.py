"""How long a reader in another process waits for its answers while a writer commits, indexes and compacts.

    python -m benchmarks.stalls [--n 200000] [--dim 96] [--seconds 10]

The reader asks one query after the other, k 10, and notes for each when it began and what it took; a query belongs to
the phase in which it began. The idle phase, of the same run, is what the others are to be held against.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import ingest
import search
from benchmarks.store import clustered
from search.collection import Collection

SPACE = "v"
_READER = """
import json, sys, time
import numpy as np, search
path, queries, log, seconds = sys.argv[1:]
queries = np.load(queries)
with search.open(path, "r") as shop, open(log, "w") as told:
    shop.search(vector=queries[0], k=10)
    print("ready", flush=True)
    number, until = 0, time.monotonic() + float(seconds)
    while time.monotonic() < until:
        number += 1
        begin = time.monotonic()
        hits = shop.search(vector=queries[number % len(queries)], k=10)
        took = time.monotonic() - begin
        assert len(hits) == 10
        told.write(json.dumps([begin, took]) + "\\n")
        told.flush()
"""
_LONGEST_S = 3600.0


@dataclass(slots=True)
class Phases:
    """When the writer did what, on the clock that all processes of the machine share."""

    spans: list[tuple[str, float, float]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note the time of the block under this name."""
        begin = time.monotonic()
        yield
        self.spans.append((name, begin, time.monotonic()))


def repeated(seconds: float, do: Callable[[int], object]) -> None:
    """Do it again and again for so long, with its number."""
    number, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        do(number)
        number += 1


def work(shop: Collection, vectors: np.ndarray, seconds: float, phases: Phases, folder: Path) -> None:
    """What the reader is disturbed by."""
    n = len(vectors)

    def commit(name: str, size: int) -> Callable[[int], object]:
        def do(number: int) -> object:
            rows = [(number * size + i) % n for i in range(size)]
            return shop.add([{"id": f"{name}{number}-{i}"} for i in range(size)], vectors[rows], space=SPACE)

        return do

    with phases.phase("idle"):
        time.sleep(seconds)
    with phases.phase("commits of 1"):
        repeated(seconds, commit("one", 1))
    with phases.phase("commits of 1,000"):
        repeated(seconds, commit("many", 1000))
    with phases.phase("updates of 100"):
        repeated(
            seconds,
            lambda number: shop.add(
                [{"id": str((number * 100 + i) % n)} for i in range(100)],
                vectors[[(number * 100 + i + 7) % n for i in range(100)]],
                space=SPACE,
            ),
        )
    with phases.phase("delete a tenth"):
        shop.delete([str(i) for i in range(n // 10)])
    with phases.phase("index"):
        shop.index()
    with phases.phase("compact"):
        shop.compact()
    with phases.phase("backup"):
        shop.backup(folder / "copy")
    with phases.phase("idle again"):
        time.sleep(seconds)


def table(phases: Phases, asked: np.ndarray) -> None:
    """One line for each phase."""
    print(f"{'phase':<20}{'seconds':>9}{'queries':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for name, begin, end in phases.spans:
        took = asked[(asked[:, 0] >= begin) & (asked[:, 0] < end), 1] * 1e3
        if not len(took):  # a query that began before lasted all through it
            print(f"{name:<20}{end - begin:9.2f}{0:9}")
            continue
        p50, p99 = np.percentile(took, [50, 99])
        print(f"{name:<20}{end - begin:9.2f}{len(took):9}{p50:9.2f}{p99:9.2f}{took.max():9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="the length of each phase that has no end"
    )
    told = parser.parse_args()
    vectors = clustered(told.n, told.dim)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "queries.npy", clustered(1000, told.dim, seed=1))
        shop = search.open(folder / "shop")
        ingest.vectors(shop, [str(i) for i in range(told.n)], vectors, space=SPACE)
        log = folder / "asked.jsonl"
        reader = subprocess.Popen(
            [sys.executable, "-c", _READER, folder / "shop", folder / "queries.npy", log, str(_LONGEST_S)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdout is not None
        try:
            assert reader.stdout.readline() == "ready\n"
            phases = Phases()
            work(shop, vectors, told.seconds, phases, folder)
            assert reader.poll() is None, "the reader has failed"
        finally:
            reader.kill()
            reader.communicate()
        shop.close()
        lines = log.read_text().split("\n")[:-1]
        print(f"{told.n:,} vectors of {told.dim} dimensions, one reader, one writer")
        table(phases, np.array([json.loads(one) for one in lines]))


if __name__ == "__main__":
    main()
