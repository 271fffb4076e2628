"""One million 96-d vectors with metadata within a limit of address space: ingest, open, query, filter, delete, compact.

    python -m benchmarks.million [--n 1000000] [--limit-gb 2]

The limit (`RLIMIT_AS`, as `ulimit -v`) is set before anything is imported; whatever asks for more fails. With
`--limit-gb 0` none is set, for a run inside a control group that limits resident memory. At the end every record is
looked for, and the answers are compared with an exact search in numpy.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DIM, AT_ONCE, QUERIES = 96, 50_000, 200
PRICES = 10_000


def chunk(begin: int, n: int) -> tuple:
    """Rows `begin` to `begin + n` of the same endless set: unit vectors in clusters."""
    import numpy as np

    centres = np.random.default_rng(7).standard_normal((1000, DIM), dtype=np.float32)
    rng = np.random.default_rng([1, begin])
    rows = centres[rng.integers(0, len(centres), n)] + 0.8 * rng.standard_normal((n, DIM), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), rng.integers(0, PRICES, n)


def chunks(n: int) -> Iterator[tuple]:
    for begin in range(0, n, AT_ONCE):
        rows, prices = chunk(begin, min(AT_ONCE, n - begin))
        yield begin, rows, prices


def line(name: str, value: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<44} {value:>34}   peak RSS {peak:,.0f} MB", flush=True)


def median_ms(call: Callable[[int], object], times: int) -> float:
    spent = []
    for number in range(times):
        begin = time.perf_counter()
        call(number)
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent) * 1e3


def fill(folder: Path, n: int) -> None:
    """In a process of its own: records and vectors, then the index."""
    import search

    shop = search.open(folder)
    spent = 0.0
    for first, rows, prices in chunks(n):
        records = [
            {"id": f"r{first + i}", "metadata": {"price": int(price), "even": i % 2 == 0}}
            for i, price in enumerate(prices)
        ]
        begin = time.perf_counter()
        shop.add(records, rows, space="v")
        spent += time.perf_counter() - begin
    line("ingest, acknowledged, beside the index", f"{n / spent:,.0f} records/s")
    begin = time.perf_counter()
    shop.index()
    line("index built, measured and kept, s", f"{time.perf_counter() - begin:,.0f}")
    shop.close()


def ask(folder: Path, n: int) -> None:
    """In another: queries and filters against the truth, then deletion, compaction, and a count of what is left."""
    import numpy as np

    import search

    begin = time.perf_counter()
    shop = search.open(folder)
    queries, _ = chunk(n + AT_ONCE, QUERIES)
    shop.search(vector=queries[0])
    line("open and first answer, s", f"{time.perf_counter() - begin:.2f}")
    told = shop.info()["spaces"][0]["index"]
    line("index", f"{told['kind']}, effort {told.get('effort')}, recall {told['recall']:.3f}")
    report(shop, queries, n, None)
    ms = median_ms(lambda i: shop.search(vector=queries[i]), QUERIES)
    line("query, k 10, p50 ms", f"{ms:.3f}")
    for share in (0.5, 0.1, 0.01, 0.001):
        where = f"price < {int(PRICES * share)}"
        begin = time.perf_counter()
        shop.search(vector=queries[0], where=where)
        first = (time.perf_counter() - begin) * 1e3
        ms = median_ms(lambda i, where=where: shop.search(vector=queries[i], where=where), 100)
        line(f"filter {share:.1%}, first / hot p50 ms", f"{first:.0f} / {ms:.2f}")
        report(shop, queries, n, int(PRICES * share))
    begin = time.perf_counter()
    gone = shop.delete(where=f"price < {PRICES // 10}")
    line("delete a tenth, records/s", f"{gone / (time.perf_counter() - begin):,.0f}")
    begin = time.perf_counter()
    said = shop.compact()
    line("compact and index anew, s", f"{time.perf_counter() - begin:,.0f}")
    left = sum(int((prices >= PRICES // 10).sum()) for _, _, prices in chunks(n))
    assert (shop.count(), said["vectors_dropped"]) == (left, gone)
    assert all(hit.metadata["price"] >= PRICES // 10 for hits in shop.search(vector=queries) for hit in hits)
    for first, _, prices in chunks(n):
        kept = [f"r{first + i}" for i in np.flatnonzero(prices >= PRICES // 10)]
        assert all(record is not None for record in shop.get(kept))
    assert shop.check() == []
    line("records left, all found; check", f"{left:,}; clean")
    shop.close()


def report(shop: object, queries: object, n: int, below: int | None) -> None:
    """Recall@10 against numpy, over chunks, for the records with a price below a limit."""
    import numpy as np

    some = queries[:50]
    scores = np.full((len(some), 10), -np.inf, np.float32)
    for _, rows, prices in chunks(n):
        rows = rows if below is None else rows[prices < below]
        scores = np.sort(np.concatenate([scores, some @ rows.T], axis=1), axis=1)[:, -10:]
    where = None if below is None else f"price < {below}"
    found = [[hit.score for hit in shop.search(vector=query, where=where)] for query in some]
    assert all(len(hits) == 10 for hits in found)
    recall = np.mean(
        [(np.array(hits) >= worst - 1e-5).mean() for hits, worst in zip(found, scores[:, 0], strict=True)]
    )
    line("  recall@10 against numpy", f"{recall:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--limit-gb", type=float, default=2.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--part", choices=("fill", "ask"))
    arguments = parser.parse_args()
    if arguments.part:
        if arguments.limit_gb:
            limit = int(arguments.limit_gb * (1 << 30))
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        {"fill": fill, "ask": ask}[arguments.part](arguments.folder, arguments.n)
        return
    cap = f"at most {arguments.limit_gb} GB of address space" if arguments.limit_gb else "no limit of its own"
    print(f"{arguments.n:,} x {DIM}, {cap}, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("fill", "ask"):
            command = [sys.executable, "-m", "benchmarks.million", "--part", part, "--folder", f"{scratch}/c"]
            command += ["--n", str(arguments.n), "--limit-gb", str(arguments.limit_gb)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
