"""Learns a network from the user's own pictures without labels: views of one picture are alike, of two not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ingest.learn.pictures.augment import Augmentation, views
from ingest.learn.pictures.checkpoint import Checkpoint, fingerprint
from ingest.learn.pictures.seen import Seen, see
from ingest.learn.pictures.settings import SimclrSettings
from search.encoders.device import choose_device, choose_dtype
from search.encoders.learned_pictures import (
    Learned,
    Levels,
    Whitening,
    autocast,
    normalised,
    to_bytes,
)
from search.encoders.picture_network import NetworkShape, build
from search.encoders.pictures import Openable
from search.errors import ModelError

Progress = Callable[[int, int], None]

METHOD = "simclr"
DEFAULT = SimclrSettings()
_WARM_UP = 0.05  # of the steps: the rate rises first, then falls as a cosine
_EVENNESS = (
    0.1  # of the strongest variance, added to all before they are evened: weak directions are mostly noise
)
_AT_ONCE = 128  # pictures whose features are worked out together


@dataclass(frozen=True, slots=True)
class Run:
    """Where and how a network is learned, which makes no difference to what is learned, beyond rounding.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32 or bf16. auto is bf16 on a GPU that has it, else fp32.
        checkpoint: a file from which an interrupted learning goes on, and where this one is kept now and then.
        every_s: seconds between two such moments.
        progress: called with the steps done and the steps in all.
    """

    device: str = "auto"
    precision: str = "auto"
    checkpoint: Path | None = None
    every_s: float = 60.0
    progress: Progress | None = None


def learn_simclr(
    pictures: Sequence[Openable],
    settings: SimclrSettings = DEFAULT,
    run: Run = Run(),  # frozen
) -> bytes:
    """An encoder learned from pictures, as the bytes of a safetensors file for LearnedPictureEncoder.

    In each step a batch of pictures is seen in two random views; the network and a head of two layers are moved so
    that the two are near each other and far from all other views of the batch. The head is dropped in the end, and
    the network's vectors of the pictures are turned to their main directions, which are evened (whitening).
    The same pictures, settings and seed give the same bytes on a processor with the same number of threads,
    interrupted or not; on a GPU the same up to rounding.
    Chen, Kornblith, Norouzi & Hinton 2020, "A simple framework for contrastive learning of visual representations".

    Args:
        pictures: files or images; those that cannot be read are left out, and equal ones count once.
        settings: network, views, length, seed.
        run: device, checkpoint, progress.

    Raises:
        SourceError: fewer than two different pictures can be read.
        ModelUnavailable: there is no such network or device.
        ModelError: a precision that is not for learning was asked.
    """
    device = choose_device(run.device)
    dtype = _dtype(run.precision, device)
    seen = see(pictures, settings)
    shape = NetworkShape(
        settings.network, seen.side, seen.channels, settings.width if settings.is_small else 0
    )
    learner = _Learner(seen, shape, settings, device, dtype)
    checkpoint = None
    if run.checkpoint is not None:
        checkpoint = Checkpoint(run.checkpoint, fingerprint(METHOD, settings, seen.pixels))
        learner.restore(checkpoint.read())
    tell = run.progress or (lambda done, total: None)
    tell(learner.step, learner.steps)
    kept = time.monotonic()
    while learner.step < learner.steps:
        learner.learn()
        tell(learner.step, learner.steps)
        if checkpoint and (learner.step == learner.steps or time.monotonic() - kept >= run.every_s):
            checkpoint.write(learner.state())
            kept = time.monotonic()
    whitening = learner.whitening()
    return to_bytes(Learned(METHOD, asdict(settings), shape, learner.network, learner.levels, whitening))


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The loss of a batch of pairs: how badly each view's partner is told from all other views.

    Of 2n views, each is compared by cosine with the 2n - 1 others; the loss is the mean cross entropy of choosing
    the partner by the softmax of cosines over the temperature. Chen et al. 2020, eq. 1.

    Args:
        first, second: (n, dim); row i of one is the partner of row i of the other.
        temperature: above 0; small ones count near views more.
    """
    rows = nn.functional.normalize(torch.cat([first, second]), dim=1)
    cosines = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
    partners = torch.arange(len(rows), device=rows.device).roll(len(first))
    return nn.functional.cross_entropy(cosines, partners)


class _Learner:
    """A network that is being learned: what it is after so many steps depends on the settings alone."""

    def __init__(
        self,
        seen: Seen,
        shape: NetworkShape,
        settings: SimclrSettings,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._pixels = torch.from_numpy(seen.pixels)
        self._how: Augmentation = seen.augmentation
        self._settings = settings
        self._device, self._dtype = device, dtype
        self._batch = settings.batch_of(len(seen.pixels))
        self._rounds = len(seen.pixels) // self._batch  # in an epoch
        self.steps = self._rounds * settings.epochs_of(len(seen.pixels))
        self.step = 0
        self.levels = _levels(self._pixels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(settings.seed, 0, 0))
            network = build(shape)
            dim = _width(network, shape)
            head = nn.Sequential(
                nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.ReLU(), nn.Linear(dim, settings.compared)
            )
        self.network = network.to(device)
        self.network.to(memory_format=torch.channels_last)
        self._head = head.to(device)
        self._both = nn.ModuleDict({"network": self.network, "head": self._head})
        self._optimizer = torch.optim.AdamW(
            self._both.parameters(), lr=settings.rate, weight_decay=settings.decay
        )

    def learn(self) -> None:
        """One step."""
        self._both.train()
        settings = self._settings
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        pictures = self._pixels[self._chosen()].to(self._device)
        random = torch.Generator().manual_seed(_seed(settings.seed, 2, self.step))
        both = torch.cat([views(pictures, self._how, random), views(pictures, self._how, random)])
        with autocast(self._device, self._dtype):
            rows = self._head(self.network(normalised(both * 255, self.levels)))
        first, second = rows.to(torch.float32).chunk(2)
        loss = nt_xent(first, second, settings.temperature)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self.step += 1

    def whitening(self) -> Whitening:
        """The mean of the pictures' vectors, and the turn to their main directions that evens these."""
        self._both.eval()
        with torch.inference_mode(), autocast(self._device, self._dtype):
            rows = [
                self.network.describe(normalised(some.to(self._device), self.levels)).cpu().double()
                for some in torch.split(self._pixels, _AT_ONCE)
            ]
        features = torch.cat(rows).numpy()
        mean = features.mean(axis=0)
        centred = features - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
        strongest = max(float(variances[-1]), 1e-12)
        directions = directions / np.sqrt(np.maximum(variances, 0) + strongest * _EVENNESS)
        signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(len(mean))])
        projection = (directions * np.where(signs < 0, -1.0, 1.0))[:, ::-1][:, : self._settings.dim]
        return Whitening(
            torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(projection.astype(np.float32))
        )

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on."""
        found = {f"both.{name}": tensor for name, tensor in self._both.state_dict().items()}
        for number, parameter in enumerate(self._both.parameters()):
            for name, tensor in self._optimizer.state[parameter].items():
                found[f"optimizer.{number}.{name}"] = tensor
        return found | {"step": torch.tensor(self.step)}

    def restore(self, state: dict[str, Tensor] | None) -> None:
        """Go on from such a state; nothing happens without one."""
        if state is None:
            return
        self.step = int(state["step"])
        self._both.load_state_dict(
            {name.removeprefix("both."): one for name, one in state.items() if name.startswith("both.")}
        )
        for number, parameter in enumerate(self._both.parameters()):
            prefix = f"optimizer.{number}."
            moved = {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
            self._optimizer.state[parameter] = {
                name: one if one.ndim == 0 else torch.empty_like(parameter).copy_(one)
                for name, one in moved.items()
            }

    def _rate(self) -> float:
        done = self.step / self.steps
        rising = min(1.0, (self.step + 1) / max(self.steps * _WARM_UP, 1))
        return self._settings.rate * rising * 0.5 * (1 + float(np.cos(np.pi * done)))

    def _chosen(self) -> Tensor:
        """Which pictures are in this step's batch: each at most once in an epoch."""
        epoch, place = divmod(self.step, self._rounds)
        random = torch.Generator().manual_seed(_seed(self._settings.seed, 1, epoch))
        order = torch.randperm(len(self._pixels), generator=random)
        return order[place * self._batch : (place + 1) * self._batch]


def _levels(pixels: Tensor) -> Levels:
    """Of each channel over all pictures."""
    flat = pixels.transpose(0, 1).flatten(1).numpy()
    mean, deviation = (
        flat.mean(axis=1, dtype=np.float64),
        np.maximum(flat.std(axis=1, dtype=np.float64), 1.0),
    )
    return Levels(torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32)))


def _width(network: nn.Module, shape: NetworkShape) -> int:
    with torch.inference_mode():
        return int(network.eval()(torch.zeros(1, shape.channels, shape.side, shape.side)).shape[1])


def _seed(seed: int, purpose: int, number: int) -> int:
    """A seed for each purpose (0 the first weights, 1 the order of an epoch, 2 the views of a step)."""
    return int(np.random.SeedSequence((seed, purpose, number)).generate_state(1, np.uint64)[0])


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    dtype = choose_dtype(precision, device)
    if dtype != torch.float16:
        return dtype
    if precision == "fp16":
        raise ModelError("a network is not learned in fp16, whose small steps vanish; use --precision bf16")
    return torch.float32  # auto, on a GPU without bf16
