"""The picture encoder that is learned from the user's own pictures: one convolution, pooling, one projection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from search.encoders.contract import Item, PictureModel, Role, Vectors
from search.encoders.device import choose_device, choose_dtype
from search.encoders.learned_file import float32, from_file, to_file
from search.encoders.networks import batches, refuse_words, unit_rows
from search.encoders.pictures import prepare_ahead
from search.errors import EncoderDrift, ModelError, ModelUnavailable
from search.types import EncoderSpec, Modality

FAMILY = "patches"
FORMAT = "nearkin patches 1"


@dataclass(frozen=True, slots=True)
class PatchesShape:
    """The sizes of a learned encoder, as they stand in its file.

    `side` is what pictures are resized to (side x side pixels), `patch` the side of a patch and `stride` the
    step between patches, in those pixels; `channels` is 1 (grey) or 3; `k` the number of centroids, `grid` the
    number of pooling cells a side (2: quadrants), `dim` the width of the vectors.
    """

    side: int
    patch: int
    stride: int
    channels: int
    k: int
    grid: int
    dim: int


@dataclass(frozen=True, slots=True)
class Centroids:
    """What a patch is compared with, folded into one convolution.

    The first k `kernels` give a patch's scalar product with each centroid, the rest its whitened self, both
    after subtracting `offsets` and dividing by the patch's own contrast.
    """

    kernels: Tensor  # (k + d, channels, patch, patch), d = channels * patch * patch
    offsets: Tensor  # (k + d,)
    squares: Tensor  # (k,) squared lengths of the centroids
    contrast: float  # added to a patch's variance, so that flat patches stay flat


class PatchFeatures(nn.Module):
    """Pictures (n, channels, side, side) to pooled features (n, k * grid * grid).

    Each patch is normalised to mean 0 and variance 1, whitened, and described by how much nearer each centroid
    is than the average one (the triangle activation); descriptions are averaged in each cell of the grid.
    Coates, Lee & Ng 2011, "An analysis of single-layer networks in unsupervised feature learning", sec. 3.
    """

    kernels: Tensor
    offsets: Tensor
    squares: Tensor

    def __init__(self, shape: PatchesShape, centroids: Centroids) -> None:
        super().__init__()
        self.shape = shape
        self.contrast = centroids.contrast
        self.register_buffer("kernels", centroids.kernels)
        self.register_buffer("offsets", centroids.offsets)
        self.register_buffer("squares", centroids.squares)

    def forward(self, batch: Tensor) -> Tensor:
        shape = self.shape
        mean = nn.functional.avg_pool2d(batch, shape.patch, shape.stride).mean(1, keepdim=True)
        square = nn.functional.avg_pool2d(batch * batch, shape.patch, shape.stride).mean(1, keepdim=True)
        deviation = torch.sqrt((square - mean * mean).clamp(min=0) + self.contrast)
        # The kernels sum to nothing, so that the patch's mean needs no subtracting.
        products = nn.functional.conv2d(batch, self.kernels, stride=shape.stride)
        products = products / deviation - self.offsets[:, None, None]
        lengths = products[:, shape.k :].square().sum(1, keepdim=True)
        distances = lengths + self.squares[:, None, None] - 2 * products[:, : shape.k]
        distances = distances.clamp_(min=0).sqrt_()
        nearness = (distances.mean(1, keepdim=True) - distances).clamp_(min=0)
        return nn.functional.adaptive_avg_pool2d(nearness, shape.grid).flatten(1)


class PatchesEncoder(PictureModel):
    """The encoder that `ingest.learn.pictures.patches.learn_patches` has learned.

    Args:
        data: the bytes of its safetensors file.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto or fp32: it is small, and distances need fp32.

    Raises:
        ModelUnavailable: the bytes are not those of such an encoder.
        ModelError: another precision was asked.
    """

    def __init__(self, data: bytes, *, device: str = "auto", precision: str = "auto") -> None:
        shape, tensors, contrast = _read(data)
        self.preparation = partial(pixels, shape=shape)
        self._device = choose_device(device)
        if precision != "auto" and choose_dtype(precision, self._device) != torch.float32:
            raise ModelError("patches computes in fp32 only; leave --precision at auto")
        centroids = Centroids(tensors["kernels"], tensors["offsets"], tensors["squares"], contrast)
        self._features = PatchFeatures(shape, centroids).eval().to(self._device)
        self._mean = tensors["mean"].to(self._device)
        self._projection = tensors["projection"].to(self._device)
        self.spec = EncoderSpec(
            family=FAMILY,
            model=FAMILY,
            modality=Modality.IMAGE,
            dim=shape.dim,
            accepts=("image",),
            weights=hashlib.sha256(data).hexdigest(),
            options=asdict(shape),
        )

    @classmethod
    def from_name(
        cls, name: str, *, weights: Path | None = None, device: str = "auto", precision: str = "auto"
    ) -> PatchesEncoder:
        """An encoder learned earlier, from its file.

        Args:
            name: "patches".
            weights: the safetensors file.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto or fp32.

        Raises:
            ModelUnavailable: no file was given, or it is not one of these.
        """
        if weights is None:
            raise ModelUnavailable(
                f"'{name}' is learned from your own pictures; ingest pictures with --model {FAMILY}"
            )
        try:
            data = weights.read_bytes()
        except OSError as error:
            raise ModelUnavailable(
                f"weights file {weights} cannot be read ({error.strerror}); give the path of a .safetensors file"
            ) from error
        return cls(data, device=device, precision=precision)

    @classmethod
    def from_spec(
        cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto", data: bytes | None = None
    ) -> PatchesEncoder:
        """The encoder that a space was made with.

        Args:
            spec: as stored with the space.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto or fp32.
            data: the bytes of the learned encoder, stored with the space.

        Raises:
            ModelUnavailable: the bytes are missing or damaged.
            EncoderDrift: they are of another encoder.
        """
        if data is None:
            raise ModelUnavailable(f"the learned '{FAMILY}' encoder is missing; ingest the pictures again")
        encoder = cls(data, device=device, precision=precision)
        if encoder.spec.weights != spec.weights:
            raise EncoderDrift(
                f"the learned '{FAMILY}' encoder is not the one that the space was made with "
                f"(sha256 {spec.weights}); ingest the pictures into a new space"
            )
        return encoder

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of pictures, (n, dim) float32, row i for item i.

        Args:
            items: files or images in memory.
            role: makes no difference to a picture.

        Raises:
            WrongModality: an item is words.
            SourceError: a picture cannot be read.
        """
        given = refuse_words(items, FAMILY)
        rows = np.empty((len(items), self.spec.dim), dtype=np.float32)
        done = 0
        pictures = prepare_ahead(given, self.preparation)
        for inputs in batches(pictures):
            with torch.inference_mode():
                features = self._features(torch.from_numpy(np.stack(inputs)).to(self._device))
                rows[done : done + len(inputs)] = unit_rows((features - self._mean) @ self._projection)
            done += len(inputs)
        return rows


def pixels(picture: Image.Image, shape: PatchesShape) -> NDArray[np.float32]:
    """An RGB picture as the encoder sees it: (channels, side, side), from 0 to 1."""
    picture = picture if shape.channels == 3 else picture.convert("L")
    if picture.size != (shape.side, shape.side):
        picture = picture.resize((shape.side, shape.side), Image.Resampling.BILINEAR)
    values = np.asarray(picture, dtype=np.float32) / 255.0
    return values[None] if shape.channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def to_bytes(shape: PatchesShape, centroids: Centroids, mean: Tensor, projection: Tensor) -> bytes:
    """The safetensors file of an encoder; `mean` (features,) and `projection` (features, dim) make the vectors."""
    tensors = {
        "kernels": centroids.kernels,
        "offsets": centroids.offsets,
        "squares": centroids.squares,
        "mean": mean,
        "projection": projection,
    }
    return to_file(float32(tensors), {"contrast": centroids.contrast} | asdict(shape), FORMAT)


def _read(data: bytes) -> tuple[PatchesShape, dict[str, Tensor], float]:
    tensors, settings = from_file(data, FORMAT, FAMILY)
    contrast = float(settings.pop("contrast"))
    return PatchesShape(**settings), tensors, contrast
