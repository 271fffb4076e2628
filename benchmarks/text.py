"""How fast texts become vectors, beside sentence-transformers' own `encode` in the same run.

    python -m benchmarks.text [--precision bf16] [--model NAME] [--repeats 5] [--threads 2]

The two take turns, and the medians are compared: read the ratio, not the rate. The texts are made at run time
from the words of Python's own documentation.
"""

from __future__ import annotations

import argparse
import email.message
import json
import os
import time
from collections.abc import Callable
from statistics import median

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from search.encoders.packaged import DEFAULT_MODEL, locate
from search.encoders.text import TextEncoder


def make_texts(encoder: TextEncoder, lengths: list[int], seed: int) -> list[str]:
    """Texts of about these numbers of tokens, of words in their natural order."""
    docs = " ".join(
        doc
        for thing in (*vars(email.message.Message).values(), json, argparse, os, np, np.einsum)
        if (doc := getattr(thing, "__doc__", None))
    )
    (offsets,) = encoder.token_offsets([docs])
    places = np.random.default_rng(seed).integers(0, len(offsets) - max(lengths), len(lengths))
    return [docs[offsets[at, 0] : offsets[at + n - 1, 1]] for at, n in zip(places, lengths, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print one line per kind of text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer texts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    folder = str(locate(options.model))
    theirs = SentenceTransformer(folder, device="cpu", local_files_only=True, trust_remote_code=False)
    ours = TextEncoder.from_name(options.model, device="cpu", precision=options.precision)
    rng = np.random.default_rng(0)
    count = lambda n: max(4, round(n * options.scale))  # noqa: E731
    kinds = {
        "short (15 tokens)": [15] * count(800),
        "long (256 tokens)": [256] * count(40),
        "mixed (63 on average)": [int(n) for n in np.clip(rng.lognormal(3.8, 0.85, count(160)), 3, 256)],
    }
    print(f"{options.model}, {options.precision}, {options.threads} threads, {options.repeats} turns each")
    print(f"{'texts':24}{'st/s':>10}{'nearkin/s':>12}{'ratio':>8}{'least cosine':>15}")
    for seed, (kind, lengths) in enumerate(kinds.items()):
        texts = make_texts(ours, lengths, seed)
        want = theirs.encode(texts, normalize_embeddings=True)
        cosine = float((ours.encode(texts) * want).sum(axis=1).min())
        their_times, our_times = [], []
        for _ in range(options.repeats):
            their_times.append(seconds(lambda: theirs.encode(texts, normalize_embeddings=True)))  # noqa: B023
            our_times.append(seconds(lambda: ours.encode(texts)))  # noqa: B023
        rates = len(texts) / median(their_times), len(texts) / median(our_times)
        print(f"{kind:24}{rates[0]:10.1f}{rates[1]:12.1f}{rates[1] / rates[0]:8.2f}{cosine:15.6f}")


if __name__ == "__main__":
    main()
