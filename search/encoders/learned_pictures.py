"""The encoder that is a network learned from the user's own pictures, with its vectors' directions evened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from search.encoders.contract import Item, PictureModel, Role, Vectors
from search.encoders.device import choose_device, choose_dtype
from search.encoders.learned_file import from_file, to_file
from search.encoders.load import SMALL_NETWORK
from search.encoders.networks import batches, refuse_words, unit_rows
from search.encoders.picture_network import NetworkShape, PictureNetwork, build
from search.encoders.pictures import prepare_ahead
from search.errors import EncoderDrift, ModelUnavailable
from search.types import EncoderSpec, Json, Modality

FAMILY = "learned-pictures"
FORMAT = "nearkin learned pictures 1"
_NETWORK = "network."


@dataclass(frozen=True, slots=True)
class Whitening:
    """What is done to a network's features: `mean` (features,) is taken off, `projection` (features, dim) turns."""

    mean: Tensor
    projection: Tensor


@dataclass(frozen=True, slots=True)
class Levels:
    """The mean and the deviation of the pixels of each channel, (channels,) each, of 255."""

    mean: Tensor
    deviation: Tensor


class LearnedPictureEncoder(PictureModel):
    """The encoder that `ingest.learn.pictures.simclr` has learned.

    Args:
        data: the bytes of its safetensors file.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16. auto is fp32: evened directions magnify what rounding does.

    Raises:
        ModelUnavailable: the bytes are not those of such an encoder.
    """

    def __init__(self, data: bytes, *, device: str = "auto", precision: str = "auto") -> None:
        learned = _read(data)
        shape = learned.shape
        self._levels, self._whitening = learned.levels, learned.whitening
        self._device = choose_device(device)
        self._dtype = torch.float32 if precision == "auto" else choose_dtype(precision, self._device)
        self.preparation = partial(pixels, side=shape.side, channels=shape.channels)
        self._network = learned.network.eval().requires_grad_(False).to(self._device)
        self._network.to(memory_format=torch.channels_last)
        self.spec = EncoderSpec(
            family=FAMILY,
            model=model_name(learned.method, shape.network),
            modality=Modality.IMAGE,
            dim=self._whitening.projection.shape[1],
            accepts=("image",),
            weights=hashlib.sha256(data).hexdigest(),
            options={"method": learned.method, "settings": dict(learned.settings)} | asdict(shape),
        )

    @classmethod
    def from_spec(
        cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto", data: bytes | None = None
    ) -> LearnedPictureEncoder:
        """The encoder that a space was made with.

        Args:
            spec: as stored with the space.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.
            data: the bytes of the learned encoder, stored with the space.

        Raises:
            ModelUnavailable: the bytes are missing or damaged.
            EncoderDrift: they are of another encoder.
        """
        if data is None:
            raise ModelUnavailable(
                f"the learned '{spec.model}' encoder is missing; ingest the pictures again"
            )
        encoder = cls(data, device=device, precision=precision)
        if encoder.spec.weights != spec.weights:
            raise EncoderDrift(
                f"the learned '{spec.model}' encoder is not the one that the space was made with "
                f"(sha256 {spec.weights}); ingest the pictures into a new space"
            )
        return encoder

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of pictures, (n, dim) float32, row i for item i.

        Args:
            items: files, images in memory, or pictures made ready by `preparation`.
            role: makes no difference to a picture.

        Raises:
            WrongModality: an item is words.
            SourceError: a picture cannot be read.
        """
        given = refuse_words(items, self.spec.model)
        rows = np.empty((len(items), self.spec.dim), dtype=np.float32)
        done = 0
        for inputs in batches(prepare_ahead(given, self.preparation)):
            batch = torch.from_numpy(np.stack(inputs)).to(self._device)
            with torch.inference_mode(), autocast(self._device, self._dtype):
                features = self._network.describe(normalised(batch, self._levels))
            even = (features.to("cpu", torch.float32) - self._whitening.mean) @ self._whitening.projection
            rows[done : done + len(inputs)] = unit_rows(even)
            done += len(inputs)
        return rows


def model_name(method: str, network: str) -> str:
    """What a user calls the encoder: simclr, or simclr:torchvision:resnet18 where it is not the small network."""
    return method if network == SMALL_NETWORK else f"{method}:{network}"


def pixels(picture: Image.Image, side: int, channels: int) -> NDArray[np.uint8]:
    """An RGB picture as the encoder takes it: (channels, side, side) uint8."""
    picture = picture if channels == 3 else picture.convert("L")
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    values = np.asarray(picture, dtype=np.uint8)
    return values[None].copy() if channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def normalised(batch: Tensor, levels: Levels) -> Tensor:
    """Pictures (n, channels, side, side), uint8 or of the same range, as a network takes them: float32, levelled."""
    mean, deviation = (one.to(batch.device)[:, None, None] for one in (levels.mean, levels.deviation))
    values = (batch.to(torch.float32) - mean) / deviation
    return values.contiguous(memory_format=torch.channels_last)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Computing in `dtype` where that is safe; nothing special in float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@dataclass(frozen=True, slots=True)
class Learned:
    """What has been learned: `settings` are those of the method, as they were asked for."""

    method: str
    settings: Mapping[str, Json]
    shape: NetworkShape
    network: PictureNetwork
    levels: Levels
    whitening: Whitening


def to_bytes(learned: Learned) -> bytes:
    """The safetensors file of an encoder."""
    levels, whitening = learned.levels, learned.whitening
    tensors = {
        "level mean": levels.mean,
        "level deviation": levels.deviation,
        "mean": whitening.mean,
        "projection": whitening.projection,
    }
    tensors |= {_NETWORK + name: tensor for name, tensor in learned.network.state_dict().items()}
    told: dict[str, Json] = {"method": learned.method, "settings": dict(learned.settings)}
    return to_file(tensors, told | asdict(learned.shape), FORMAT)


def _read(data: bytes) -> Learned:
    tensors, told = from_file(data, FORMAT, "pictures")
    try:
        method, settings = str(told.pop("method")), dict(told.pop("settings"))
        shape = NetworkShape(**told)
        network = build(shape)
        network.load_state_dict(
            {key.removeprefix(_NETWORK): value for key, value in tensors.items() if key.startswith(_NETWORK)}
        )
        levels = Levels(tensors["level mean"], tensors["level deviation"])
        whitening = Whitening(tensors["mean"], tensors["projection"])
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ModelUnavailable(
            "the learned 'pictures' encoder does not fit its own settings; ingest the pictures again"
        ) from error
    return Learned(method, settings, shape, network, levels, whitening)
