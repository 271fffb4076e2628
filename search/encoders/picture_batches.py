"""Prepared pictures on their way to a network: what is left to its device, and how many go at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from search.encoders.contract import Pixels
from search.errors import ModelError

CPU_BATCH = 16  # more is no faster: what each layer hands to the next should stay near the processor ...
TRANSFORMER_CPU_BATCH = 32  # ... but matrix products of tokens want more rows
GPU_PIXELS = 256 * 224 * 224  # of one batch


@dataclass(frozen=True, slots=True)
class Scaling:
    """How whole numbers 0 to 255 become a network's input: value * factor + shift, a pair for each channel."""

    factor: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], rescale: float = 1 / 255) -> Scaling:
        """(value * rescale - mean) / std, as one multiplication and one addition."""
        pairs = list(zip(mean, std, strict=True))
        return cls(tuple(rescale / s for _, s in pairs), tuple(-m / s for m, s in pairs))


class Cut:
    """A picture resized and cut, as whole numbers; the rest of its preparation is left to the network's device.

    They take a fourth of the memory on their way there, and no time of the threads that decode.
    """

    def __init__(self, steps: Callable[[Image], Any]) -> None:
        self.steps = steps

    def __call__(self, picture: Image) -> Pixels:
        # Channels stay side by side in memory, as convolutions read them.
        pixels: Pixels = np.asarray(self.steps(picture)).transpose(2, 0, 1)
        return pixels


class ResizedAndCut:
    """The first half of torchvision's transform for classification: resize, then cut the middle out."""

    def __init__(self, transform: Any) -> None:
        self.resize_size, self.crop_size = transform.resize_size, transform.crop_size
        self.interpolation, self.antialias = transform.interpolation, transform.antialias

    def __call__(self, picture: Image) -> Image:
        from torchvision.transforms import functional

        resized = functional.resize(
            picture, self.resize_size, interpolation=self.interpolation, antialias=self.antialias
        )
        cut: Image = functional.center_crop(resized, self.crop_size)
        return cut


class Transform:
    """A library's own transform, to a tensor, as a preparation."""

    def __init__(self, transform: Callable[[Image], Tensor]) -> None:
        self.transform = transform

    def __call__(self, picture: Image) -> Pixels:
        pixels: Pixels = self.transform(picture).numpy()
        return pixels


def split_transform(transform: Callable[[Image], Tensor]) -> tuple[Callable[[Image], Pixels], Scaling | None]:
    """A transform as a preparation to whole numbers and what is left to do with them.

    What is no resizing and cutting with a normalisation behind it is a preparation as a whole, with nothing left.
    """
    from torchvision.transforms import Compose, Normalize, ToTensor
    from torchvision.transforms._presets import ImageClassification

    preset: Any = transform
    if type(preset) is ImageClassification:
        return Cut(ResizedAndCut(preset)), Scaling.of(preset.mean, preset.std)
    if isinstance(transform, Compose) and len(transform.transforms) > 2:
        *steps, to_tensor, normalize = transform.transforms
        # timm has its own of the first, which differs only where it is given a tensor.
        if isinstance(normalize, Normalize) and (
            isinstance(to_tensor, ToTensor) or type(to_tensor).__name__ == "MaybeToTensor"
        ):
            mean, std = (np.asarray(one, dtype=float).ravel() for one in (normalize.mean, normalize.std))
            if len(mean) == len(std) == 3:
                return Cut(Compose(steps)), Scaling.of(mean.tolist(), std.tolist())
    return Transform(transform), None


class Scale:
    """What is left of a preparation, done on a network's device.

    Args:
        scaling: None where nothing is left.
        device: the network's.
        dtype: its number format.
    """

    def __init__(self, scaling: Scaling | None, device: torch.device, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._terms = (
            None
            if scaling is None
            else tuple(
                torch.tensor(one, dtype=torch.float64).to(torch.float32).to(device)[:, None, None]
                for one in (scaling.factor, scaling.shift)
            )
        )

    def __call__(self, batch: Tensor) -> Tensor:
        """A batch (n, channels, height, width), as prepared, as the network takes it."""
        if self._terms is not None and batch.dtype is torch.uint8:
            factor, shift = self._terms
            batch = batch.to(torch.float32).mul_(factor).add_(shift)
        return batch.to(self._dtype)


def assemble(inputs: Sequence[Pixels], device: torch.device) -> Tensor:
    """Prepared pictures as one batch (n, channels, height, width) on a device, with channels side by side."""
    channels, height, width = inputs[0].shape
    dtype = torch.uint8 if inputs[0].dtype == np.uint8 else torch.float32
    cuda = device.type == "cuda"
    batch = torch.empty((len(inputs), height, width, channels), dtype=dtype, pin_memory=cuda)
    rows = batch.numpy()
    for row, pixels in zip(rows, inputs, strict=True):
        row[:] = pixels.transpose(1, 2, 0)
    return batch.to(device, non_blocking=cuda).permute(0, 3, 1, 2)


class Batches:
    """Runs pictures through a network, as many at once as its device has memory for; on a processor `on_cpu`."""

    def __init__(self, device: torch.device, *, on_cpu: int = CPU_BATCH) -> None:
        self._device = device
        self._on_cpu = on_cpu
        self._most: int | None = None  # once memory was short

    def size(self, pixels: int) -> int:
        """How many pictures of so many pixels make a batch."""
        usual = (
            self._on_cpu if self._device.type == "cpu" else max(1, min(GPU_PIXELS // max(pixels, 1), 1024))
        )
        return usual if self._most is None else min(usual, self._most)

    def run(
        self, inputs: Iterator[Pixels], work: Callable[[Sequence[Pixels]], Tensor]
    ) -> Iterator[tuple[int, Tensor]]:
        """How many pictures, and what `work` makes of them, batch by batch, in order.

        A batch is given out when the next one has been handed to the device, so that a GPU is not waited for.
        Where memory is too small for a batch it is halved, from then on.

        Raises:
            ModelError: one picture alone is too much.
        """
        held: tuple[int, Tensor] | None = None
        for first in inputs:
            batch = [first, *islice(inputs, self.size(first.shape[1] * first.shape[2]) - 1)]
            while batch:
                some = batch if self._most is None else batch[: self._most]
                done = self._tried(some, work)
                if done is None:
                    continue
                batch = batch[len(some) :]
                if held is not None:
                    yield held
                held = (len(some), done)
        if held is not None:
            yield held

    def _tried(self, batch: Sequence[Pixels], work: Callable[[Sequence[Pixels]], Tensor]) -> Tensor | None:
        """What `work` gives; None where memory was short, and batches are half the size from now on."""
        short: torch.OutOfMemoryError | None = None
        try:
            return work(batch)
        except torch.OutOfMemoryError as error:
            short = error.with_traceback(None)  # whose frames hold on to the memory
        if len(batch) == 1:
            raise ModelError(
                f"one picture alone is more than the memory of {self._device} holds; "
                "use --device cpu or --precision bf16"
            ) from short
        self._most = max(len(batch) // 2, 1)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None
