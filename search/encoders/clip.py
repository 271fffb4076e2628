"""CLIP: words and pictures in one space, from any CLIP checkpoint of the Hugging Face hub or a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor
from transformers.utils import logging as transformers_logging

from search.encoders.contract import Item, PictureModel, Pixels, Role, Vectors
from search.encoders.device import choose_device, choose_dtype
from search.encoders.networks import BATCH, batches, refuse_drift, unit_rows
from search.encoders.packaged import file_sha256, locate, read_json, weight_files
from search.encoders.pictures import prepare_ahead
from search.errors import ModelUnavailable, WrongModality
from search.types import EncoderSpec, Modality

# The names that sentence-transformers gives to OpenAI's own checkpoints: the same weights, two addresses.
_SAME = {
    "clip-ViT-B-32": "openai/clip-vit-base-patch32",
    "clip-ViT-B-16": "openai/clip-vit-base-patch16",
    "clip-ViT-L-14": "openai/clip-vit-large-patch14",
}
# Where sentence-transformers keeps the transformers' checkpoint inside its own.
_ROOMS = ("", "0_CLIPModel")


class Processor:
    """A transformers image processor as a preparation."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, picture: Image.Image) -> Pixels:
        values: Pixels = self.processor(images=picture, return_tensors="np")["pixel_values"][0]
        return values


class ClipEncoder(PictureModel):
    """Words (str) and pictures (Path or Image) to unit vectors of one space.

    Radford et al. 2021, "Learning transferable visual models from natural language supervision". What goes
    beyond the text window of the model (77 tokens) is not seen.

    Args:
        spec: what it is.
        model: the network, with all its weights.
        processor: its tokenizer and picture preparation.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        model: CLIPModel,
        processor: CLIPProcessor,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.spec = spec
        self._device = choose_device(device)
        self._dtype = choose_dtype(precision, self._device)
        self._model = model.eval().requires_grad_(False).to(self._device, self._dtype)
        self._tokenizer = processor.tokenizer
        self.preparation = Processor(processor.image_processor)
        self._window = int(model.config.text_config.max_position_embeddings)

    @classmethod
    def from_name(cls, name: str, *, device: str = "auto", precision: str = "auto") -> ClipEncoder:
        """The encoder for a checkpoint's name on the hub, or its folder.

        Args:
            name: "clip-ViT-B-32", "openai/clip-vit-base-patch32", or a folder that transformers or
                sentence-transformers has saved.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.

        Raises:
            ModelUnavailable: it is not on this machine and could not be fetched, or it is not a CLIP model.
        """
        room = _room(_located(name), name)
        model, processor = _load(room, name)
        folder = Path(name).expanduser()
        spec = EncoderSpec(
            family="clip",
            model=name,
            modality=Modality.IMAGE,
            dim=int(model.config.projection_dim),
            accepts=("text", "image"),
            weights=_fingerprint(room),
            options={"folder": str(folder.resolve()) if folder.is_dir() else None},
        )
        return cls(spec, model, processor, device=device, precision=precision)

    @classmethod
    def from_spec(
        cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto", data: bytes | None = None
    ) -> ClipEncoder:
        """The encoder that a space was made with.

        Args:
            spec: as `from_name` made it.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.
            data: not needed by this family.

        Raises:
            ModelUnavailable: the checkpoint is not here any more.
            EncoderDrift: it has other weights now.
        """
        folder = spec.options.get("folder")
        name = str(folder) if folder is not None and Path(str(folder)).is_dir() else spec.model
        encoder = cls.from_name(name, device=device, precision=precision)
        refuse_drift(spec, encoder.spec)
        encoder.spec = spec
        return encoder

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of words and pictures, (n, dim) float32, row i for item i.

        Args:
            items: a str is words; a Path or an Image is a picture.
            role: makes no difference.

        Raises:
            WrongModality: an item is neither.
            SourceError: a picture cannot be read.
        """
        words: dict[int, str] = {}
        pictures: dict[int, Path | Image.Image | Pixels] = {}
        for row, item in enumerate(items):
            if isinstance(item, str):
                words[row] = item
            elif isinstance(item, Path | Image.Image | np.ndarray):
                pictures[row] = item
            else:
                raise WrongModality(
                    f"'{self.spec.model}' takes words and pictures, not {type(item).__name__}; pass a str or a Path"
                )
        rows = np.empty((len(items), self.spec.dim), dtype=np.float32)
        with torch.inference_mode():
            order = iter(words)
            while numbers := list(islice(order, BATCH)):
                rows[numbers] = self._of_words([words[number] for number in numbers])
            order = iter(pictures)
            for inputs in batches(prepare_ahead(pictures.values(), self.preparation, ahead=2 * BATCH)):
                rows[list(islice(order, len(inputs)))] = self._of_pictures(inputs)
        return rows

    def _of_words(self, texts: list[str]) -> Vectors:
        # Halves of surrogate pairs, which no tokenizer takes, become "?".
        sound = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        tokens = self._tokenizer(
            sound, padding=True, truncation=True, max_length=self._window, return_tensors="pt"
        ).to(self._device)
        return unit_rows(
            _features(
                self._model.get_text_features(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                )
            )
        )

    def _of_pictures(self, inputs: list[Pixels]) -> Vectors:
        batch = torch.from_numpy(np.stack(inputs)).to(self._device, self._dtype)
        return unit_rows(_features(self._model.get_image_features(pixel_values=batch)))


def _features(output: Any) -> Tensor:
    """The projected features: transformers 4 gives them bare, 5 inside an output object."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


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


def _room(folder: Path, name: str) -> Path:
    """The folder inside the checkpoint that holds the CLIP model itself."""
    kinds = []
    for room in _ROOMS:
        config = folder / room / "config.json"
        if config.is_file():
            kinds += [str(entry.get("model_type", "")) for entry in read_json(config)]
            if kinds[-1:] == ["clip"]:
                return folder / room
    found = f"its config says '{kinds[0]}'" if kinds else "it has no config.json of one"
    raise ModelUnavailable(f"{name} is not a CLIP model ({found}); choose another model")


def _load(room: Path, name: str) -> tuple[CLIPModel, CLIPProcessor]:
    """The network in fp32 and its processor; never with a weight left at random."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model, told = CLIPModel.from_pretrained(
            str(room), local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
        processor = CLIPProcessor.from_pretrained(str(room), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(
            f"{name} cannot be loaded from {room} ({reason}); get its files again"
        ) from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    missing = sorted(key for key in told["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise ModelUnavailable(f"{name} in {room} lacks the weights '{missing[0]}'; get its files again")
    return model.float(), processor


def _fingerprint(room: Path) -> str:
    """The sha256 of the weights; of several files, the sha256 of the list of theirs."""
    sums = [file_sha256(file) for file in weight_files(room)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
