"""The store beside its limits: raw FAISS, and bare SQLite with the same rows, in one run.

    python -m benchmarks.store [--n 100000] [--dim 384]

Ratios of one run are what counts; single times on a shared machine are not.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

import ingest
import search
from search.index.hnsw import EF_CONSTRUCTION, LINKS
from search.types import EncoderSpec, Modality, Record
from search.vectors import unit_rows

SELECTIVITIES = ((50, 0.5), (10, 0.1), (1, 0.01), (0.1, 0.001))


def clustered(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around n/200 centres, as learned embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(n // 200, 1), dim), dtype=np.float32)
    rows = centres[rng.integers(0, len(centres), n)]
    return unit_rows(rows + 0.7 * rng.standard_normal((n, dim), dtype=np.float32))


def median_ms(call: Callable[[int], object], times: int = 200) -> float:
    """The median of `times` calls, each with its number, in milliseconds."""
    call(0)
    spent = []
    for number in range(times):
        begin = time.perf_counter()
        call(number)
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent) * 1e3


def line(name: str, value: str, limit: str = "") -> None:
    print(f"{name:<52} {value:>18}   {limit}", flush=True)


def bare_sqlite(folder: Path, vectors: np.ndarray, metadata: list[dict]) -> float:
    """Records per second of one durable transaction with one row each: id, metadata, vector."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table r (key integer primary key, id text unique, metadata text, vector blob)")
    begin = time.perf_counter()
    connection.execute("begin immediate")
    connection.executemany(
        "insert into r values (?, ?, ?, ?)",
        (
            (i, f"r{i}", json.dumps(told), row.tobytes())
            for i, (told, row) in enumerate(zip(metadata, vectors, strict=True))
        ),
    )
    connection.execute("commit")
    return len(vectors) / (time.perf_counter() - begin)


def ingest_with_texts(
    folder: Path, vectors: np.ndarray, metadata: list[dict], texts: list[str]
) -> tuple[float, float]:
    """Records per second acknowledged, in commits of 5,000, and seconds until the words of all texts are indexed."""
    spec = EncoderSpec("given", "given", Modality.VECTOR, vectors.shape[1])
    with search.open(folder / "texts") as shop, shop.writing() as writer:
        space = writer.space("v", spec)
        begin = time.perf_counter()
        for first in range(0, len(vectors), 5_000):
            span = slice(first, first + 5_000)
            records = [
                Record(f"r{i}", text=text, metadata=told)
                for i, text, told in zip(
                    range(first, len(vectors)), texts[span], metadata[span], strict=False
                )
            ]
            writer.put(records, vectors[span], space)
        spent = time.perf_counter() - begin
        begin = time.perf_counter()
        shop._indexer._take_in_words()
        return len(vectors) / spent, time.perf_counter() - begin


def zipf_texts(n: int) -> list[str]:
    """Texts of 200 letters, their words drawn by Zipf's law of a vocabulary of 50,000."""
    shares = 1 / np.arange(1, 50_001) ** 1.07
    words = np.array([f"w{number}ab" for number in range(50_000)])
    drawn = np.random.default_rng(2).choice(50_000, (n, 35), p=shares / shares.sum())
    return [" ".join(row)[:200] for row in words[drawn].tolist()]


def bare_commits(folder: Path, vectors: np.ndarray, about: str, size: int, times: int, prefix: str) -> float:
    """Records per second in durable commits of `size` rows each, with the same bytes, upserts by id."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    connection.execute("pragma synchronous = full")
    begin = time.perf_counter()
    for number in range(times):
        connection.execute("begin immediate")
        connection.executemany(
            "insert into r values (null, ?, ?, ?) on conflict (id) do update "
            "set metadata = excluded.metadata, vector = excluded.vector",
            [
                (f"{prefix}{i}", json.dumps({"about": about}), vectors[i].tobytes())
                for i in range(number * size, (number + 1) * size)
            ],
        )
        connection.execute("commit")
    return times * size / (time.perf_counter() - begin)


def our_commits(
    shop: search.Collection, vectors: np.ndarray, about: str, size: int, times: int, prefix: str
) -> float:
    """As `bare_commits`, by nearkin."""
    begin = time.perf_counter()
    for number in range(times):
        span = slice(number * size, (number + 1) * size)
        records = [{"id": f"{prefix}{i}", "metadata": {"about": about}} for i in range(span.start, span.stop)]
        shop.add(records, vectors[span], space="v")
    return times * size / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    n, dim = parser.parse_args().n, parser.parse_args().dim
    faiss.omp_set_num_threads(2)
    vectors = clustered(n, dim)
    queries = unit_rows(
        vectors[:1000] + 0.02 * np.random.default_rng(1).standard_normal((1000, dim)).astype("f4")
    )
    metadata = [
        {"category": f"c{i % 50}", "year": 1990 + i % 30, "price": i % 1000, "about": "x" * 200}
        for i in range(n)
    ]
    ids = [f"r{i}" for i in range(n)]
    print(
        f"{n:,} x {dim}, faiss {faiss.__version__}, sqlite {sqlite3.sqlite_version}, python {sys.version.split()[0]}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bare = bare_sqlite(folder, vectors, metadata)
        begin = time.perf_counter()
        raw = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        raw.hnsw.efConstruction = EF_CONSTRUCTION
        raw.add(vectors)
        raw_build = time.perf_counter() - begin

        shop = search.open(folder / "shop")
        report = ingest.vectors(shop, ids, vectors, space="v", metadata=metadata)
        commit_s = report.stages["commit"]
        begin = time.perf_counter()
        shop.index()  # waits for the background
        index_s = time.perf_counter() - begin
        line(
            "ingest, acknowledged, records/s",
            f"{n / commit_s:,.0f}",
            f"bare SQLite {bare:,.0f}: {n / commit_s / bare:.2f}x",
        )
        line(
            "index built, s",
            f"{index_s:.1f}",
            f"raw HNSW {raw_build:.1f}: {index_s / raw_build:.2f}x (measures recall too)",
        )
        plain = [{name: told[name] for name in ("category", "year", "price")} for told in metadata]
        rate, words_s = ingest_with_texts(folder, vectors, plain, zipf_texts(n))
        line(
            "the same with 200 letters of text, records/s",
            f"{rate:,.0f}",
            f"bare SQLite {bare:,.0f}: {rate / bare:.2f}x; words indexed {words_s:.1f} s later",
        )
        size = shop.info()["bytes"] / vectors.nbytes
        line("disk over raw vectors", f"{size:.2f}", "target 1.5")

        tuned = shop.info()["spaces"][0]["index"]
        line("index", tuned["kind"], f"ef {tuned.get('effort')}, recall@10 {tuned['recall']:.3f} measured")
        effort = int(tuned.get("effort", 64))
        faiss.omp_set_num_threads(1)
        parameters = faiss.SearchParametersHNSW(efSearch=effort)
        raw_ms = median_ms(lambda i: raw.search(queries[i : i + 1], 10, params=parameters))
        ours_ms = median_ms(lambda i: shop.search(vector=queries[i], space="v", k=10))
        line(
            "query, k 10, p50 ms",
            f"{ours_ms:.3f}",
            f"raw HNSW, same ef {raw_ms:.3f}: {ours_ms / raw_ms:.1f}x",
        )
        faiss.omp_set_num_threads(2)
        begin = time.perf_counter()
        raw.search(queries, 10, params=parameters)
        raw_batch = len(queries) / (time.perf_counter() - begin)
        begin = time.perf_counter()
        shop.search(vector=queries, space="v", k=10)
        ours_batch = len(queries) / (time.perf_counter() - begin)
        line(
            "batch of 1,000, queries/s",
            f"{ours_batch:,.0f}",
            f"raw HNSW {raw_batch:,.0f}: {ours_batch / raw_batch:.2f}x",
        )
        prices = np.array([told["price"] for told in metadata])
        for percent, share in SELECTIVITIES:
            limit = int(1000 * share)
            allowed = np.flatnonzero(prices < limit)
            recall = []
            for query in queries[:50]:
                hits = shop.search(vector=query, space="v", k=10, where=f"price < {limit}")
                truth = allowed[np.argsort(-(vectors[allowed] @ query), kind="stable")[:10]]
                recall.append(len({hit.id for hit in hits} & {ids[i] for i in truth}) / 10)
            ms = median_ms(
                lambda i, limit=limit: shop.search(
                    vector=queries[i], space="v", k=10, where=f"price < {limit}"
                ),
                50,
            )
            line(f"filter {percent}%, p50 ms", f"{ms:.2f}", f"recall {np.mean(recall):.3f}")
        shop.index_field("price")
        for percent, share in SELECTIVITIES:
            # Another number each time, so that no answer is remembered.
            spent = median_ms(
                lambda i, share=share: shop.search(
                    vector=queries[i], space="v", k=10, where=f"price < {1000 * share - i / 1e6:.6f}"
                ),
                15,
            )
            line(f"filter {percent}% never asked before, declared, ms", f"{spent:.2f}", "target 5")
        about = "x" * 250
        for what, size, times, update in (
            ("durable commits of 1", 1, 300, False),
            ("durable commits of 10", 10, 200, False),
            ("durable commits of 100", 100, 100, False),
            ("updates, commits of 10", 10, 200, True),
        ):
            bare_rates, rates = [], []
            for turn in range(3):
                prefix = "r" if update else f"s{size}-{turn}-"
                bare_rates.append(bare_commits(folder, vectors[turn::3], about, size, times, prefix))
                rates.append(our_commits(shop, vectors[turn::3], about, size, times, prefix))
            bare_rate, rate = statistics.median(bare_rates), statistics.median(rates)
            line(
                what + ", records/s", f"{rate:,.0f}", f"bare SQLite {bare_rate:,.0f}: {rate / bare_rate:.2f}x"
            )
        begin = time.perf_counter()
        gone = shop.delete(ids[: n // 10])
        line("delete 10%, records/s", f"{gone / (time.perf_counter() - begin):,.0f}", "")
        np.save(folder / "q.npy", queries[0])
        shop.close()
        shop_at, query_at = str(folder / "shop"), str(folder / "q.npy")
        code = f"import numpy, search; search.open({shop_at!r}, 'r').search(vector=numpy.load({query_at!r}))"
        cold = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            cold.append(time.perf_counter() - begin)
        line("new process to first answer, s", f"{statistics.median(cold):.2f}", "target 0.5")


if __name__ == "__main__":
    main()
