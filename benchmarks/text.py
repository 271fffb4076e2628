"""How fast texts become vectors, beside sentence-transformers' own `encode` in the same run.

    python -m benchmarks.text [--precision fp32 bf16] [--device cpu] [--model NAME] [--repeats 5] [--threads 2]
    python -m benchmarks.text --device cuda --shape bert-base --precision bf16 fp16 --scale 40 --threads 16

They take turns, and the medians are compared: read the ratio, not the rate. The texts are made at run time from the
words of Python's own documentation. The peak is that of matrix products alone, at the shapes of this model, measured
in the same turns; "of alone" is what the network takes by itself, on rows of tokens, as a share of the whole, and the
tokenizer's share is measured alone too. With `--shape` the model is one of random weights. On a
GPU the time that its kernels take is told by their kind.
"""

from __future__ import annotations

import argparse
import email.message
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

import ingest
from benchmarks.checkpoints import SHAPES, save_random_bert
from benchmarks.gpu_time import shares
from search.encoders.packaged import DEFAULT_MODEL, locate
from search.encoders.text import TextEncoder
from search.encoders.text_runs import runs_of

PRODUCTS = 8  # of each shape, in one measurement of the peak


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
    """Wall time of one call, the device's work included."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Peak:
    """Tokens a second that the matrix products of the linear layers would allow, were there nothing else."""

    def __init__(self, encoder: TextEncoder, inner: int, device: torch.device) -> None:
        network = encoder._model.network
        width, dtype = network.width, network.dtype
        self._layers = network.depth
        tokens = 1024 if device.type == "cpu" else 65_536
        self._tokens = tokens
        shapes = ((width, 3 * width), (width, width), (width, inner), (inner, width))
        made = lambda *shape: torch.randn(*shape, device=device).to(dtype)  # noqa: E731
        self._pairs = [(made(tokens, into), made(into, out)) for into, out in shapes]

    @torch.inference_mode()
    def rate(self) -> float:
        """One measurement, in tokens a second."""

        def work() -> None:
            for left, right in self._pairs:
                for _ in range(PRODUCTS):
                    torch.mm(left, right)

        return self._tokens * PRODUCTS / (seconds(work) * self._layers)


def compare(
    theirs: SentenceTransformer,
    ours: dict[str, TextEncoder],
    peaks: dict[str, Peak],
    texts: list[str],
    repeats: int,
) -> None:
    """One line for each precision, measured in turns."""
    want = theirs.encode(texts, normalize_embeddings=True)
    got = {precision: encoder.encode(texts) for precision, encoder in ours.items()}
    times: dict[str, list[float]] = {name: [] for name in ("theirs", "tokenizer", *ours)}
    rates: dict[str, list[float]] = {name: [] for name in ours}
    alone: dict[str, list[float]] = {name: [] for name in ours}
    some = next(iter(ours.values()))
    n_runs = len(list(runs_of(texts, None)))
    for _ in range(repeats):
        times["theirs"].append(seconds(lambda: theirs.encode(texts, normalize_embeddings=True)))
        times["tokenizer"].append(seconds(lambda: some._tokens.rows(texts)))
        for precision, encoder in ours.items():
            times[precision].append(seconds(lambda: encoder.encode(texts)))  # noqa: B023
            rates[precision].append(peaks[precision].rate())
            for run in runs_of(texts, None):
                rows = encoder._tokens.rows(texts[run])
                alone[precision].append(seconds(lambda: encoder._started(rows, "")))  # noqa: B023
    middle = {name: median(one) for name, one in times.items()}
    tokens = int(some._tokens.rows(texts).starts[-1])
    for precision, encoder in ours.items():
        before = encoder.stats
        encoder.encode(texts)
        after = encoder.stats
        padding = after.padding - before.padding
        mine = middle[precision]
        print(
            f"  {precision:6}{len(texts) / middle['theirs']:10.1f}{len(texts) / mine:12.1f}"
            f"{middle['theirs'] / mine:8.2f}{float((got[precision] * want).sum(axis=1).min()):14.6f}"
            f"{tokens / mine:11.0f}{tokens / mine / median(rates[precision]):9.0%}"
            f"{median(alone[precision]) * n_runs / mine:9.0%}{middle['tokenizer'] / mine:11.1%}"
            f"{padding / (tokens + padding):9.1%}"
        )


def from_disk(
    theirs: SentenceTransformer, ours: dict[str, TextEncoder], texts: list[str], repeats: int, where: Where
) -> None:
    """One line for each precision: a jsonl on disk to committed vectors, beside `encode` of its texts alone.

    Each text is made different, so that none is spared for being there already. The loading of the model is left
    out on both sides.
    """
    texts = [f"{text[: len(text) * 9 // 10]} {n}" for n, text in enumerate(texts)]  # each is one passage
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.jsonl"
        lines = (json.dumps({"id": f"t{n}", "text": text}) for n, text in enumerate(texts))
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        times: dict[str, list[float]] = {"theirs": []}
        for turn in range(repeats):
            times["theirs"].append(seconds(lambda: theirs.encode(texts, normalize_embeddings=True)))
            for precision, encoder in ours.items():
                alone = seconds(lambda: encoder.encode(texts))  # noqa: B023
                options = ingest.Options(device=where.device, precision=precision)
                report = ingest.text(
                    Path(folder) / f"{precision}{turn}", source, model=where.model, options=options
                )
                assert report.vectors == report.added == len(texts)
                times.setdefault(precision, []).append(report.seconds - report.stages["load"])
                times.setdefault(f"{precision} alone", []).append(alone)
    middle = {name: median(one) for name, one in times.items()}
    stages = {name: round(one, 2) for name, one in report.stages.items() if name != "load"}
    for precision in ours:
        mine = middle[precision]
        print(
            f"  {precision:6}{len(texts) / middle['theirs']:10.1f}{len(texts) / mine:12.1f}"
            f"{middle['theirs'] / mine:8.2f}"
            f"   {mine / middle[f'{precision} alone']:.2f} of its own encode alone; stages of the last {stages}"
        )


@dataclass(frozen=True, slots=True)
class Where:
    """Which model, and on which device."""

    model: str
    device: str


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer texts")
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights, with the tokenizer of --model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if options.shape is not None:
            options.model = str(save_random_bert(options.shape, locate(options.model), Path(scratch)))
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Load the models and print a block for each kind of text."""
    folder = str(locate(options.model))
    theirs = SentenceTransformer(
        folder, device=options.device, local_files_only=True, trust_remote_code=False
    )
    ours = {
        precision: TextEncoder.from_name(options.model, device=options.device, precision=precision)
        for precision in options.precision
    }
    inner = (
        int(getattr(theirs[0].auto_model.config, "intermediate_size", 0))
        or 4 * theirs[0].auto_model.config.hidden_size
    )
    peaks = {
        precision: Peak(encoder, inner, torch.device(options.device)) for precision, encoder in ours.items()
    }
    rng = np.random.default_rng(0)
    count = lambda n: max(4, round(n * options.scale))  # noqa: E731
    kinds = {
        "short (15 tokens)": [15] * count(800),
        "long (256 tokens)": [256] * count(40),
        "mixed (63 on average)": [int(n) for n in np.clip(rng.lognormal(3.8, 0.85, count(160)), 3, 256)],
        "one query (10 tokens)": [10],
    }
    print(
        f"{options.shape or options.model} on {options.device}, {options.threads} threads, {options.repeats} turns each"
    )
    print(
        f"  {'':6}{'st/s':>10}{'nearkin/s':>12}{'ratio':>8}{'least cosine':>14}{'tokens/s':>11}"
        f"{'of peak':>9}{'of alone':>9}{'tokenizer':>11}{'padding':>9}"
    )
    for seed, (kind, lengths) in enumerate(kinds.items()):
        print(kind)
        texts = make_texts(next(iter(ours.values())), lengths, seed)
        compare(theirs, ours, peaks, texts, options.repeats)
        if options.device.startswith("cuda"):
            for precision, encoder in ours.items():
                told = shares(lambda: encoder.encode(texts))  # noqa: B023
                print(f"  {precision:6} " + ", ".join(f"{kind} {share:.0%}" for kind, share in told.items()))
        if len(texts) > 1:
            print("  the same from a jsonl on disk to committed vectors")
            from_disk(theirs, ours, texts, options.repeats, Where(options.model, options.device))


if __name__ == "__main__":
    main()
