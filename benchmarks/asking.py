"""What nearkin adds to the encoder and to FAISS when it is asked: each measured in turns with its limit, in one run.

    python -m benchmarks.asking [--n 100000] [--queries 200] [--keep FOLDER] [--only text,hybrid,recommend,batch,first]

The passages are made up, a record each: 35 words (200 letters) drawn by Zipf's law, vectors of 384 numbers in clusters
under the name of all-MiniLM-L6-v2, and of 128 under "mine". Queries have eight words; they are encoded by the packaged
model. The raw search is by FAISS in the same graph with the same effort, one thread.
Ratios count; single times on a shared machine do not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

import search
from benchmarks.store import clustered
from search.collection import Collection
from search.encoders import load, probes
from search.encoders.contract import Encoder
from search.index.approximate import ApproximateIndex
from search.types import EncoderSpec, Modality, Part, Record
from search.vectors import unit_rows

MODEL = "all-MiniLM-L6-v2"
_VOCABULARY, _WORDS, _ASKED = 50_000, 35, 8
_DIMS = {"text": 384, "mine": 128}
_PARTS = ("text", "hybrid", "recommend", "batch", "first")
_FIRST = {
    "nothing": "pass",
    "vector": "shop.search(vector=numpy.zeros(128) + 1, space='mine')",
    "text": "shop.search('{query}')",
    "hybrid": "shop.search('{query}', hybrid=True)",
    "recommend": "shop.recommend(likes=['1', '2', '3', '4', '5'], spaces=['text', 'mine'])",
}


@dataclass(frozen=True, slots=True)
class Raw:
    """FAISS's own search in the index of a space, by one thread."""

    index: faiss.Index
    parameters: faiss.SearchParameters

    def search(self, queries: np.ndarray, k: int = 10) -> object:
        parameters = self.parameters
        if parameters is not None and parameters.efSearch < k:
            parameters = faiss.SearchParametersHNSW(efSearch=k)
        return self.index.search(queries, k, params=parameters)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="make the collection here, or measure the one that is here")
    parser.add_argument("--only", default=",".join(_PARTS), help="some of the parts")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(_PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(_PARTS)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch) / "shop"
        encoder = load.load_named(MODEL)
        if not folder.exists():
            make(folder, options.n, encoder)
        run(folder, options.queries, wanted)


def run(folder: Path, n_queries: int, wanted: list[str]) -> None:
    """Each part that is wanted, of a collection that is there."""
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / "copy"
        shutil.copytree(folder, copied)  # hybrid writes to it
        with search.open(copied) as shop:
            encoder = shop.encoder("text")
            words = Words(encoder)
            queries = words.texts(n_queries * 2, _ASKED, seed=7)
            if "text" in wanted:
                by_text(shop, encoder, queries[:n_queries])
            if "hybrid" in wanted:
                by_words(shop, queries[n_queries : 2 * n_queries])
            if "recommend" in wanted:
                by_likes(shop, n_queries)
            if "batch" in wanted:
                in_batches(shop, encoder, words)
        if "first" in wanted:
            in_new_processes(folder, queries[-1])


class Words:
    """Texts of words drawn by Zipf's law: the r-th most frequent of 50,000 in proportion to r ** -1.07.

    The words are those of the model's own vocabulary, which is sorted by frequency, so that queries have as many tokens
    as they have words; beyond it they are made up.
    """

    def __init__(self, encoder: Encoder) -> None:
        own = encoder._tokens._tokenizer.get_vocab()
        plain = [word for word in sorted(own, key=own.__getitem__) if word.isascii() and word.isalpha()]
        made = [f"{plain[n % len(plain)]}{n}" for n in range(_VOCABULARY)]
        self._vocabulary = np.array((plain + made)[:_VOCABULARY])
        shares = 1 / np.arange(1, _VOCABULARY + 1) ** 1.07
        self._shares = shares / shares.sum()

    def texts(self, n: int, words: int, seed: int) -> list[str]:
        numbers = np.random.default_rng(seed).choice(_VOCABULARY, (n, words), p=self._shares)
        return [" ".join(row) for row in self._vocabulary[numbers].tolist()]


def make(folder: Path, n: int, encoder: Encoder) -> None:
    """The collection: records with a passage each, vectors in two spaces, and a price from 0 to 999."""
    passages, spent = Words(encoder).texts(n, _WORDS, seed=0), 0.0
    vectors = {name: clustered(n, dim) for name, dim in _DIMS.items()}
    with search.open(folder) as shop:
        with shop.writing() as writer:
            text = writer.space("text", encoder.spec, probes=probes.probe(encoder))
            mine = writer.space("mine", EncoderSpec("given", "given", Modality.VECTOR, _DIMS["mine"]))
            for begin in range(0, n, 5_000):
                some = range(begin, min(begin + 5_000, n))
                span = slice(some.start, some.stop)
                records = [Record(str(i), text=passages[i], metadata={"price": i % 1000}) for i in some]
                parts = [[Part(0, len(passages[i]))] for i in some]
                started = time.perf_counter()
                writer.put(records, vectors["text"][span], text, parts=parts)
                spent += time.perf_counter() - started
                writer.put([Record(str(i)) for i in some], vectors["mine"][span], mine)
        print(f"{n:,} passages of {_WORDS} words stored: {n / spent:,.0f} records/s", flush=True)
        shop.tune(kind="hnsw", space="mine")  # which would be scanned


def raw_of(shop: Collection, name: str) -> Raw:
    """FAISS's own search in the index of a space, with the effort that it was tuned to."""
    look = shop._asker.looked(shop.spaces()[name], lambda _, look: look)
    index = look.approximate
    if not isinstance(index, ApproximateIndex):
        return Raw(_flat(look.rows.matrix), None)
    return Raw(index.structure._index, faiss.SearchParametersHNSW(efSearch=index.effort))


def _flat(rows: np.ndarray) -> faiss.Index:
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return index


def in_turns(ways: Mapping[str, Callable[[int], object]], times: int) -> dict[str, np.ndarray]:
    """Milliseconds (times,) of each way, each called once before all are called in turns."""
    for call in ways.values():
        call(0)
        call(0)
    spent = {name: np.empty(times) for name in ways}
    for number in range(times):
        for name, call in ways.items():
            begin = time.perf_counter()
            call(number)
            spent[name][number] = (time.perf_counter() - begin) * 1e3
    return spent


def told(name: str, ms: np.ndarray, beside: str = "") -> None:
    """One line: the median and the 95th percentile."""
    median, slow = np.percentile(ms, [50, 95])
    print(f"{name:<46} {median:8.3f} ms   95% {slow:8.3f}   {beside}", flush=True)


def by_text(shop: Collection, encoder: Encoder, queries: list[str]) -> None:
    """A query in words beside its parts."""
    raw = raw_of(shop, "text")
    encoded = encoder.encode(queries, role="query")
    ms = in_turns(
        {
            "encode the query": lambda i: encoder.encode([queries[i]], role="query"),
            "raw search": lambda i: raw.search(encoded[i : i + 1]),
            "text": lambda i: shop.search(queries[i], space="text"),
            "text, filter 10%": lambda i: shop.search(queries[i], space="text", where="price < 100"),
            "vector": lambda i: shop.search(vector=encoded[i], space="text"),
        },
        len(queries),
    )
    limit = np.median(ms["encode the query"]) + np.median(ms["raw search"])
    for name in ("encode the query", "raw search", "vector"):
        told(name, ms[name])
    for name in ("text", "text, filter 10%"):
        told(name, ms[name], f"{np.median(ms[name]) / limit:.2f}x of encode + raw search (target 1.15)")


def by_words(shop: Collection, queries: list[str]) -> None:
    """What hybrid adds: words asked for the first time, again, and after a commit, each beside the same by text."""
    for name in ("words first asked", "words asked before"):
        ms = in_turns(
            {
                "text": lambda i: shop.search(queries[i], space="text"),
                "hybrid": lambda i: shop.search(queries[i], space="text", hybrid=True),
            },
            len(queries),
        )
        _added(name, ms)
    rng = np.random.default_rng(1)

    def after_a_commit(i: int, *, hybrid: bool) -> float:
        record = {"id": f"new{hybrid}", "text": queries[-1 - i]}
        shop.add([record], unit_rows(rng.standard_normal((1, _DIMS["mine"])).astype("f4")), space="mine")
        begin = time.perf_counter()
        shop.search(queries[i], space="text", hybrid=hybrid)
        return (time.perf_counter() - begin) * 1e3

    several = range(min(len(queries), 100))
    spent = np.array([[after_a_commit(i, hybrid=hybrid) for hybrid in (False, True)] for i in several])
    _added("after a commit", {"text": spent[:, 0], "hybrid": spent[:, 1]})


def _added(name: str, ms: Mapping[str, np.ndarray]) -> None:
    added = ms["hybrid"] - ms["text"]
    told(f"hybrid, {name}", ms["hybrid"], f"text {np.median(ms['text']):.3f}")
    told("  adds to each query", added, "(target 3)")


def by_likes(shop: Collection, times: int) -> None:
    """Recommendation from five likes over two spaces beside two raw searches."""
    rng = np.random.default_rng(2)
    n = shop.count("id <> 'none'")
    likes = rng.integers(0, min(n, 10_000), (times, 5)).astype(str).tolist()
    raws = {name: raw_of(shop, name) for name in _DIMS}
    queries = {name: clustered(times, dim, seed=3) for name, dim in _DIMS.items()}

    def raw(i: int, k: int = 10) -> None:
        for name, one in raws.items():
            one.search(queries[name][i : i + 1], k)

    ms = in_turns(
        {
            "two raw searches": raw,
            "two raw searches, 500 candidates": lambda i: raw(i, 500),
            "recommend, 5 likes, 2 spaces": lambda i: shop.recommend(likes[i], spaces=list(_DIMS)),
            "recommend, filter 10%": lambda i: shop.recommend(
                likes[i], spaces=list(_DIMS), where="price < 100"
            ),
        },
        times,
    )
    limit, as_many = (np.median(ms[name]) for name in list(ms)[:2])
    for name, spent in ms.items():
        beside = f"{np.median(spent) / limit:.1f}x (target 3), {np.median(spent) / as_many:.1f}x for as many candidates"
        told(name, spent, beside)


def in_batches(shop: Collection, encoder: Encoder, words: Words) -> None:
    """Batches of words beside encoding and FAISS with the same batch, all cores."""
    faiss.omp_set_num_threads(2)
    raw = raw_of(shop, "text")
    for size, times in ((1, 100), (32, 10), (1000, 2)):
        queries = words.texts(size, _ASKED, seed=size)

        def limit(_: int, queries: list[str] = queries) -> None:
            raw.search(encoder.encode(queries, role="query"))

        ms = in_turns(
            {
                "limit": limit,
                "text": lambda _, queries=queries: shop.search(queries, space="text"),
                "hybrid": lambda _, queries=queries: shop.search(queries, space="text", hybrid=True),
            },
            times,
        )
        least = np.median(ms["limit"])
        told(f"batch of {size}, encode + raw search", ms["limit"], f"{size / least * 1e3:,.0f} queries/s")
        for name in ("text", "hybrid"):
            spent = np.median(ms[name])
            rate = f"{size / spent * 1e3:,.0f} queries/s, {spent / least:.2f}x"
            told(f"batch of {size}, {name}", ms[name], rate)
    faiss.omp_set_num_threads(1)


def in_new_processes(folder: Path, query: str) -> None:
    """A new process's first answer, interpreter and imports included, by each way of asking."""
    spent: dict[str, list[float]] = {name: [] for name in _FIRST}
    for _ in range(5):
        for name, asked in _FIRST.items():
            code = (
                f"import sys, numpy, search\nshop = search.open({str(folder)!r}, 'r')\n{asked.format(query=query)}\n"
                f"assert 'torch' in sys.modules or {name in ('nothing', 'vector', 'recommend')}\n"
                f"assert 'torch' not in sys.modules or {name in ('text', 'hybrid')}"
            )
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            spent[name].append((time.perf_counter() - begin) * 1e3)
    for name, some in spent.items():
        loads = " (loads torch)" if name in ("text", "hybrid") else ", no torch"
        told(f"new process, first {name}{loads}", np.array(some))


if __name__ == "__main__":
    main()
