"""From a checkpoint's files to a network of words and pictures, its tokenizer and its preparation."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from search.encoders.clip_kinds import KINDS, ClipKind, kinds_in
from search.encoders.contract import Pixels
from search.encoders.network_speed import probe_pictures
from search.encoders.networks import fill_network, read_weights
from search.encoders.packaged import file_sha256, locate, read_json, weight_files
from search.encoders.picture_batches import Scale, Scaling
from search.errors import MissingExtra, ModelUnavailable

# The names that sentence-transformers gives to OpenAI's own checkpoints: the same weights, two addresses.
_SAME = {
    "clip-ViT-B-32": "openai/clip-vit-base-patch32",
    "clip-ViT-B-16": "openai/clip-vit-base-patch16",
    "clip-ViT-L-14": "openai/clip-vit-large-patch14",
}
_LOAD_ERRORS = (OSError, ValueError, LookupError, TypeError, RuntimeError, ImportError, SafetensorError)
# Counted up by the network itself; older files carry it.
_DERIVED = "position_ids"


@dataclass(frozen=True, slots=True)
class ClipCheckpoint:
    """Where a checkpoint lies and of what kind it is."""

    name: str
    room: Path
    kind_name: str

    @property
    def kind(self) -> ClipKind:
        """What it wants of words."""
        return KINDS[self.kind_name]

    def fingerprint(self) -> str:
        """The sha256 of the weights; of several files, the sha256 of the list of theirs."""
        sums = [file_sha256(file) for file in weight_files(self.room)]
        return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def find_checkpoint(name: str) -> ClipCheckpoint:
    """The checkpoint of that name: a folder, in the hub's cache, or fetched from the hub.

    Raises:
        ModelUnavailable: it cannot be had, or is no model of words and pictures.
    """
    folder = _located(name)
    found = list(kinds_in(folder))
    for room, kind in found:
        if kind in KINDS:
            return ClipCheckpoint(name, room, kind)
    told = f"its config says '{found[0][1]}'" if found else "it has no config.json of one"
    raise ModelUnavailable(
        f"{name} is not a CLIP model or of its kin ({told}; known: {', '.join(KINDS)}); choose another model"
    )


def load_network(checkpoint: ClipCheckpoint, weights: Path | None = None) -> Any:
    """The network in fp32; never with a weight left at random.

    Args:
        checkpoint: whose configuration and, but for `weights`, whose weights.
        weights: a file of weights to use instead.

    Raises:
        ModelUnavailable: its files cannot be used; a tensor that is missing or has another shape is named.
    """
    name, room = checkpoint.name, checkpoint.room
    if weights is not None:
        state = {k: v for k, v in read_weights(weights).items() if not k.endswith(_DERIVED)}
        with _told(checkpoint):
            empty: nn.Module = AutoModel.from_config(_config(room), trust_remote_code=False)
        fill_network(empty.float(), state, unused=(), name=name, path=weights)
        return empty
    with _told(checkpoint):
        model, told = AutoModel.from_pretrained(
            str(room),
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, by name
        )
    for key, given, wanted in sorted(told["mismatched_keys"]):
        raise ModelUnavailable(
            f"in the weights of {name} in {room} '{key}' is {tuple(given)} where its config.json means "
            f"{tuple(wanted)}; get its files again"
        )
    missing = sorted(key for key in told["missing_keys"] if not key.endswith(_DERIVED))
    if missing:
        raise ModelUnavailable(f"{name} in {room} lacks the weights '{missing[0]}'; get its files again")
    return model.float()


def empty_network(checkpoint: ClipCheckpoint) -> Any:
    """The network without weights, on torch's meta device, where shapes are worked out and nothing else."""
    with _told(checkpoint), torch.device("meta"):
        return AutoModel.from_config(_config(checkpoint.room), trust_remote_code=False).eval()


def load_tokenizer(checkpoint: ClipCheckpoint) -> Any:
    """Its tokenizer.

    Raises:
        MissingExtra: SigLIP's needs sentencepiece and protobuf.
        ModelUnavailable: its files cannot be used.
    """
    settings = checkpoint.room / "tokenizer_config.json"
    told = read_json(settings)[0] if settings.is_file() else {}
    packages = ("sentencepiece", "google", "google.protobuf")  # what is within one is looked for in it
    if told.get("tokenizer_class") == "SiglipTokenizer" and not all(map(importlib.util.find_spec, packages)):
        raise MissingExtra(f"the model '{checkpoint.name}'", "siglip")
    with _told(checkpoint):
        return AutoTokenizer.from_pretrained(
            str(checkpoint.room), local_files_only=True, trust_remote_code=False
        )


def load_preparation(checkpoint: ClipCheckpoint) -> tuple[Callable[[Image], Pixels], Scaling | None]:
    """Its preparation of pictures, and what of it is left to the network's device.

    Raises:
        ModelUnavailable: its files cannot be used.
    """
    with _told(checkpoint):
        processor = AutoImageProcessor.from_pretrained(
            str(checkpoint.room), local_files_only=True, trust_remote_code=False
        )
    if checkpoint.kind_name == "siglip2":
        return Patchwork(processor), None
    whole, cut = Processed(processor), Processed(processor, scaled=False)
    if not (getattr(processor, "do_rescale", False) and getattr(processor, "do_normalize", False)):
        return whole, None
    scaling = Scaling.of(processor.image_mean, processor.image_std, processor.rescale_factor)
    # Tried, since each processor goes its own way about it.
    picture = probe_pictures()[1]
    pixels = cut(picture)
    if pixels.dtype == np.uint8:
        scale = Scale(scaling, torch.device("cpu"), torch.float32)
        if np.allclose(scale(torch.from_numpy(pixels.copy())[None])[0].numpy(), whole(picture), atol=1e-5):
            return cut, scaling
    return whole, None


class Processed:
    """A transformers image processor as a preparation, with its scaling or without."""

    def __init__(self, processor: Any, *, scaled: bool = True) -> None:
        self.processor = processor
        self.options = {} if scaled else {"do_rescale": False, "do_normalize": False}

    def __call__(self, picture: Image) -> Pixels:
        values: Pixels = self.processor(images=picture, return_tensors="np", **self.options)["pixel_values"][
            0
        ]
        return values


class Patchwork:
    """The processor of SigLIP2's NaFlex variants as a preparation: pictures keep their proportions.

    It gives the picture that its patches make up, float32 (3, rows * patch, columns * patch); `patches_of` takes
    it apart again.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, picture: Image) -> Pixels:
        given = self.processor(images=picture, return_tensors="np")
        rows, columns = (int(side) for side in given["spatial_shapes"][0])
        patch = int(self.processor.patch_size)
        squares = given["pixel_values"][0][: rows * columns].reshape(rows, columns, patch, patch, -1)
        pixels: Pixels = np.ascontiguousarray(
            squares.transpose(4, 0, 2, 1, 3).reshape(-1, rows * patch, columns * patch), dtype=np.float32
        )
        return pixels


def patches_of(pictures: list[Pixels], patch: int) -> dict[str, torch.Tensor]:
    """What SigLIP2's NaFlex variants take, of pictures that `Patchwork` has prepared.

    Padded to the longest of them: where the mask says so, nothing is looked at.
    """
    apart = []
    for pixels in pictures:
        channels, height, width = pixels.shape
        squares = pixels.reshape(channels, height // patch, patch, width // patch, patch)
        apart.append(squares.transpose(1, 3, 2, 4, 0).reshape(-1, patch * patch * channels))
    longest = max(map(len, apart))
    values = np.zeros((len(apart), longest, apart[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(apart), longest), dtype=np.int64)
    for row, squares in enumerate(apart):
        values[row, : len(squares)] = squares
        mask[row, : len(squares)] = 1
    shapes = np.array([(one.shape[1] // patch, one.shape[2] // patch) for one in pictures])
    return {
        "pixel_values": torch.from_numpy(values),
        "pixel_attention_mask": torch.from_numpy(mask),
        "spatial_shapes": torch.from_numpy(shapes),
    }


def _config(room: Path) -> Any:
    return AutoConfig.from_pretrained(str(room), local_files_only=True, trust_remote_code=False)


def _located(name: str) -> Path:
    """The folder of the checkpoint, under either of its names."""
    try:
        return locate(name)
    except ModelUnavailable as error:
        for same in [_SAME[name]] if name in _SAME else []:
            try:
                return locate(same)
            except ModelUnavailable:
                continue
        raise ModelUnavailable(
            f"{error}; or use --model patches, which is learned from your pictures and needs no download"
        ) from error


@contextmanager
def _told(checkpoint: ClipCheckpoint) -> Iterator[None]:
    """Turns what transformers raises over a folder into one clear error, and keeps its bars off the screen."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    except _LOAD_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(
            f"{checkpoint.name} cannot be loaded from {checkpoint.room} ({reason}); get its files again"
        ) from error
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
