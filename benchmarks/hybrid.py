"""What hybrid search adds to a search by vectors: milliseconds for one query, over texts of words drawn by Zipf's law.

    python -m benchmarks.hybrid [--n 100000] [--words 100] [--queries 200]

The texts have so many words of a vocabulary of 50,000, and so have the queries, eight each; vectors are random, of 384
dimensions, and no model runs: what is timed is all but the encoding. "first" is each query asked once, "again" with its
words asked before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import search
from search.query.request import Options
from search.types import EncoderSpec, Modality, Record

_VOCABULARY, _DIM = 50_000, 384


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, usual in (("--n", 100_000), ("--words", 100), ("--queries", 200)):
        parser.add_argument(name, type=int, default=usual)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, _VOCABULARY + 1) ** 1.07
    shares /= shares.sum()

    def drawn(n: int, words: int) -> list[str]:
        numbers = rng.choice(_VOCABULARY, (n, words), p=shares)
        return [" ".join(f"w{number}" for number in row) for row in numbers.tolist()]

    with tempfile.TemporaryDirectory() as folder, search.open(Path(folder) / "c") as shop:
        started = time.perf_counter()
        with shop.writing() as writer:
            space = writer.space("text", EncoderSpec("given", "given", Modality.VECTOR, _DIM))
            spent = 0.0
            for begin in range(0, options.n, 5_000):
                several = range(begin, min(begin + 5_000, options.n))
                texts = drawn(len(several), options.words)
                vectors = rng.standard_normal((len(several), _DIM)).astype(np.float32)
                started = time.perf_counter()
                writer.put(
                    [Record(str(i), text=one) for i, one in zip(several, texts, strict=True)], vectors, space
                )
                spent += time.perf_counter() - started
        print(f"{options.n:,} records of {options.words} words stored: {options.n / spent:,.0f} records/s")
        shop.index()
        queries = drawn(options.queries, 8)
        vectors = rng.standard_normal((len(queries), _DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        asker = shop._asker
        asker.encoder = lambda _: None  # type: ignore[method-assign,assignment,return-value]
        turn = iter(list(range(len(queries))) * 2)
        asker._encoded = lambda *_: (vectors[[next(turn)]], 0.0)  # type: ignore[method-assign]
        plain = [lambda i=i: shop.search(vector=vectors[i], space="text") for i in range(len(queries))]
        both = [lambda one=one: asker.by_words_too([one], space, Options(hybrid=True)) for one in queries]
        _timed(plain)
        print("vectors alone", _timed(plain))
        print("both, first  ", _timed(both))
        print("both, again  ", _timed(both))


def _timed(asked: list[Callable[[], object]]) -> str:
    times = []
    for one in asked:
        started = time.perf_counter()
        one()
        times.append((time.perf_counter() - started) * 1e3)
    median, slow = np.percentile(times, [50, 95])
    return f"median {median:.2f} ms, 95% {slow:.2f} ms"


if __name__ == "__main__":
    main()
