"""How fast JPEG files become vectors in a collection, beside the bare network and what people write by hand.

    python -m benchmarks.pictures [--models mobilenet_v2 resnet50 clip] [--precision fp32 bf16] [--device cpu|cuda]
        [--data FOLDER | --n 256] [--repeats 3] [--threads 2] [--workers 2] [--draft] [--thumbnails SIDE]

In turns, medians: nearkin's whole ingest (files found, hashed, decoded, prepared, encoded, committed); the bare
network
on tensors that lie ready, in the same batches and the same number format; plain torchvision with a DataLoader, or
sentence-transformers for CLIP, from the same files in fp32. Read the ratios, not the rates. Weights are random: time
does not depend on them, and the cosines are those of random networks. Without --data the JPEGs are made at run time,
600 x 800 pixels of about 50 kB.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models

import search
from ingest import pipeline
from ingest.decoding import Decoded
from ingest.pipeline import Job
from ingest.report import QUIET, Report
from ingest.sources.pictures import Pictures
from ingest.thumbnails import Thumbnails
from search.encoders.contract import PictureModel
from search.encoders.load import Device, ModelChoice, load_named

BATCH = 32
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
HEADS = {"mobilenet_v2": "classifier", "resnet50": "fc"}


def make_jpegs(folder: Path, n: int) -> Path:
    """Pictures with as much detail as photographs have: noise of every size, the finer the weaker."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    scenes = [_scene(rng) for _ in range(min(n, 16))]
    for number in range(n):
        shift = rng.integers(0, 600, 2)
        moved = np.roll(scenes[number % len(scenes)], tuple(shift.tolist()), axis=(0, 1))
        Image.fromarray(moved).save(folder / f"{number:05}.jpg", quality=88)
    return folder


def _scene(rng: np.random.Generator) -> np.ndarray:
    total = np.zeros((600, 800, 3), dtype=np.float32)
    for octave in range(8):
        side = 2 << octave
        coarse = rng.normal(size=(side, side, 3)).astype(np.float32)
        layers = [
            np.asarray(Image.fromarray(coarse[..., c]).resize((800, 600), Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        total += np.stack(layers, axis=2) * 0.62**octave
    return np.clip(128 + 48 * total, 0, 255).astype(np.uint8)


class Opened(Dataset[Tensor]):
    """What the tutorials show: open, convert, transform."""

    def __init__(self, files: list[Path], transform: Callable[[Image.Image], Tensor]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> Tensor:
        with Image.open(self.files[at]) as image:
            return self.transform(image.convert("RGB"))


@dataclass
class Peer:
    """A model as it is used without nearkin: the network in fp32, and a run from files to vectors."""

    network: nn.Module
    run: Callable[[], np.ndarray]
    name: str
    model: str  # its name in nearkin
    choice: ModelChoice


def torchvision_peer(name: str, files: list[Path], room: Path, options: argparse.Namespace) -> Peer:
    torch.manual_seed(0)
    network = models.get_model(name, weights=None)
    file = room / f"{name}.pth"
    torch.save(network.state_dict(), file)
    setattr(network, HEADS[name], nn.Identity())
    network = network.eval().to(options.device)
    transform = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    loader = DataLoader(
        Opened(files, transform),
        batch_size=BATCH,
        num_workers=options.workers,
        persistent_workers=True,
        pin_memory=options.device != "cpu",
    )

    @torch.inference_mode()
    def run() -> np.ndarray:
        rows = [network(batch.to(options.device, non_blocking=True)).cpu() for batch in loader]
        return nn.functional.normalize(torch.cat(rows), dim=1).numpy()

    return Peer(
        network, run, f"torchvision + DataLoader({options.workers})", f"torchvision:{name}", ModelChoice(file)
    )


def clip_peer(files: list[Path], room: Path, options: argparse.Namespace) -> Peer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import CLIPModel as TheirClip
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    folder = room / "clip"
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "a b", "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizerFast(
        vocab={token: n for n, token in enumerate(tokens)}, merges=[], model_max_length=77
    )
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig()).eval()  # the defaults are those of ViT-B/32
    model.save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(), tokenizer).save_pretrained(folder)
    theirs = SentenceTransformer(modules=[TheirClip(str(folder))], device=options.device)

    def run() -> np.ndarray:
        pictures: Any = [Image.open(file) for file in files]
        rows: np.ndarray = theirs.encode(pictures, batch_size=BATCH, normalize_embeddings=True)
        return rows

    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Tensor) -> Tensor:
            features = self.model.get_image_features(pixel_values=batch)
            return features if isinstance(features, Tensor) else features.pooler_output

    return Peer(Vision().to(options.device), run, "sentence-transformers", str(folder), ModelChoice())


def bare(peer: Peer, precision: str, n: int, device: str) -> Callable[[], float]:
    """Pictures a second of the network alone, on tensors that lie on the device."""
    import copy

    network = copy.deepcopy(peer.network).to(DTYPES[precision]).to(memory_format=torch.channels_last)
    batch = torch.rand(BATCH, 3, 224, 224, device=device, dtype=DTYPES[precision])
    batch = batch.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def rate() -> float:
        begin = time.perf_counter()
        for _ in range(max(1, n // BATCH)):
            network(batch)
        if device != "cpu":
            torch.cuda.synchronize()
        return max(1, n // BATCH) * BATCH / (time.perf_counter() - begin)

    return rate


def ours(
    peer: Peer, encoder: PictureModel, folder: Path, room: Path, options: argparse.Namespace
) -> tuple[float, Report, np.ndarray]:
    """Seconds of a whole run into a new collection, its report, and the vectors in the order of the files."""
    small = None if options.thumbnails is None else Thumbnails(options.thumbnails)
    with tempfile.TemporaryDirectory(dir=room) as place, search.open(Path(place) / "c") as shelf:
        begin = time.perf_counter()
        decoded = Decoded(lambda: encoder, thumbnails=small, draft=options.draft, device=options.device)
        job = Job("image", peer.model, lambda: encoder, decoded, "pictures")
        report = pipeline.fill(shelf, Pictures([folder]), job, QUIET)
        seconds = time.perf_counter() - begin
        space = shelf.spaces()["image"]
        from search.catalog import reads

        with shelf.database.reading() as transaction:
            vectors = np.concatenate([batch.vectors for batch in reads.batches(transaction, space)])
    return seconds, report, vectors


def measure(peer: Peer, folder: Path, files: list[Path], room: Path, options: argparse.Namespace) -> None:
    encoders: dict[str, PictureModel] = {}
    for precision in options.precision:
        made = load_named(peer.model, peer.choice, device=Device(options.device, precision))
        assert isinstance(made, PictureModel)
        encoders[precision] = made
    rates = {name: bare(peer, name, len(files), options.device) for name in encoders}
    want = peer.run()  # warm, too
    for rate in rates.values():
        rate()
    seconds: dict[str, list[float]] = {name: [] for name in ("theirs", *encoders)}
    alone: dict[str, list[float]] = {name: [] for name in encoders}
    told: dict[str, tuple[Report, np.ndarray]] = {}
    for turn in range(options.repeats + 1):
        begin = time.perf_counter()
        peer.run()
        spent = time.perf_counter() - begin
        for name, encoder in encoders.items():
            took, report, vectors = ours(peer, encoder, folder, room, options)
            told[name] = (report, vectors)
            if turn:  # the first warms
                seconds[name].append(took)
                alone[name].append(rates[name]())
        if turn:
            seconds["theirs"].append(spent)
    theirs = len(files) / median(seconds["theirs"])
    print(f"{peer.model.rpartition('/')[2]}: {peer.name} {theirs:.1f}/s")
    for name in encoders:
        rate, network = len(files) / median(seconds[name]), median(alone[name])
        report, vectors = told[name]
        cosines = (vectors * want).sum(axis=1)
        limit = "" if report.limit is None else f"{report.limit.stage} {report.limit.busy:.0%}"
        busy = " ".join(f"{stage} {spent:.2f}" for stage, spent in report.stages.items())
        print(
            f"  {name}: nearkin {rate:8.1f}/s  bare network {network:8.1f}/s  ratio {rate / network:5.2f}  "
            f"over the peer {rate / theirs:5.2f}  cosine mean {cosines.mean():.5f} least {cosines.min():.5f}  "
            f"limit: {limit}  [{busy}]",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["mobilenet_v2", "resnet50", "clip"])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=list(DTYPES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--draft", action="store_true")
    parser.add_argument("--thumbnails", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        folder = options.data or make_jpegs(room / "jpegs", options.n)
        files = [Path(str(one)) for one in Pictures([folder]).pictures()]
        size = sum(file.stat().st_size for file in files) / len(files)
        print(
            f"{len(files)} pictures of {size / 1e3:.0f} kB, {options.device}, {options.threads} threads, "
            f"batches of {BATCH}, {options.repeats} turns, torch {torch.__version__}"
        )
        for name in options.models:
            peer = (
                clip_peer(files, room, options)
                if name == "clip"
                else torchvision_peer(name, files, room, options)
            )
            measure(peer, folder, files, room, options)


if __name__ == "__main__":
    main()
