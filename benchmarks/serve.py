"""Queries in words over HTTP: how many a second, and how long each takes, with and without gathering them.

    python -m benchmarks.serve

Serves 20,000 passages (made-up vectors in the space of the packaged MiniLM) in a process of its own, and asks it from
another by 1, 8 and 32 clients, each of which asks again as soon as it is answered. No two queries are the same.
Without gathering each thread of the server encodes and searches for itself. The runs take turns; medians over them.
On a machine with other work the processor time that the server took for each query is the steadier figure.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import psutil

import search
from search.types import EncoderSpec, Modality, Record

SENTENCE = (
    "water proof jacket wool red blue garden kettle iron saw river bank light heavy old new children summer winter "
    "book lamp chair table wooden steel glass cup plate knife warm cold cheap large small road bicycle tent rope"
)
WORDS = SENTENCE.split()
# What the server would do if every thread answered for itself.
ALONE = """
from search.query import gathering
gathering.Gathering.ask = lambda self, question: answer(self._answer([question])[0])
def answer(given):
    if isinstance(given, Exception):
        raise given
    return given
"""


def made(path: Path, n: int) -> None:
    """A collection of n passages whose vectors are of the width of MiniLM's."""
    rng = np.random.default_rng(0)
    with search.open(path) as c, c.writing() as writer:
        from search.encoders.text import TextEncoder

        encoder = TextEncoder.from_name("all-MiniLM-L6-v2", device="cpu")
        spec = EncoderSpec("text", "all-MiniLM-L6-v2", Modality.TEXT, 384, ("text",), encoder.spec.weights)
        space = writer.space("text", spec)
        vectors = rng.standard_normal((n, 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        records = [
            Record(f"r{i}", "text", None, " ".join(rng.choice(WORDS, 12)), {"price": i % 100})
            for i in range(n)
        ]
        writer.put(records, vectors, space)


@contextmanager
def served(path: Path, *, gathered: bool) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server of its own, and its process."""
    code = f"{'' if gathered else ALONE}\nfrom search.cli.main import run\nrun()"
    command = [sys.executable, "-c", code, "serve", "-c", str(path), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = next(match for line in process.stderr if (match := re.search(r"http://\S+(?=;)", line)))
        url = found[0]
        connection = connected(url)
        for _ in range(20):  # the model is loaded, and all is warm
            ask(connection, "warm up")
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def connected(url: str) -> http.client.HTTPConnection:
    """A connection that is kept; the standard library's takes the least of the processor for itself."""
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)


def ask(connection: http.client.HTTPConnection, words: str) -> None:
    """One query."""
    body = json.dumps({"query": words, "k": 10})
    connection.request("POST", "/search", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status


def asking(url: str, n_clients: int, seconds: float, out: multiprocessing.SimpleQueue[list[float]]) -> None:
    """Ask by so many threads for so long; gives the latencies in seconds."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    def client(seed: int) -> None:
        random, connection = Random(seed), connected(url)
        while (began := time.perf_counter()) < end:
            ask(connection, " ".join(random.choices(WORDS, k=random.randint(3, 8))))
            taken.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(time.time_ns() + i,)) for i in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put(taken)


def measured(
    url: str, server: psutil.Process, n_clients: int, seconds: float
) -> tuple[float, float, float, float]:
    """Queries a second, median and 99th percentile of their latencies in ms, and the server's ms of processor for each.

    Seen from another process.
    """
    before = sum(server.cpu_times()[:2])
    spawn = multiprocessing.get_context("spawn")
    out = spawn.SimpleQueue()
    asker = spawn.Process(target=asking, args=(url, n_clients, seconds, out))
    asker.start()
    taken = np.array(out.get()) * 1e3
    asker.join()
    used = (sum(server.cpu_times()[:2]) - before) * 1e3 / len(taken)
    return len(taken) / seconds, float(np.percentile(taken, 50)), float(np.percentile(taken, 99)), used


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20_000, help="passages")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c"
        made(path, wanted.n)
        seen: dict[tuple[int, bool], list[tuple[float, float, float, float]]] = {}
        for _ in range(wanted.rounds):
            for gathered in (True, False):
                with served(path, gathered=gathered) as (url, server):
                    for n_clients in (1, 8, 32):
                        run = measured(url, server, n_clients, wanted.seconds)
                        seen.setdefault((n_clients, gathered), []).append(run)
    print(
        "| clients | gathered | queries/s | p50, ms | p99, ms | processor, ms a query |\n|---|---|---|---|---|---|"
    )
    for (n_clients, gathered), runs in sorted(seen.items(), key=lambda one: (one[0][0], not one[0][1])):
        rate, p50, p99, used = (statistics.median(values) for values in zip(*runs, strict=True))
        print(
            f"| {n_clients} | {'yes' if gathered else 'no'} | {rate:,.0f} | {p50:,.1f} | {p99:,.1f} | {used:.1f} |"
        )


if __name__ == "__main__":
    main()
