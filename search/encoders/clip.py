"""CLIP and its kin: words and pictures in one space, from any such checkpoint of the Hugging Face hub or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from search.encoders.clip_checkpoint import (
    ClipCheckpoint,
    empty_network,
    find_checkpoint,
    load_network,
    load_preparation,
    load_tokenizer,
    patches_of,
)
from search.encoders.contract import PROBES, Item, PictureModel, Pixels, Role, Vectors
from search.encoders.device import choose_device, precision_name
from search.encoders.network_speed import probe_pictures, settle
from search.encoders.networks import (
    moved,
    prepared,
    refuse_drift,
    refuse_words,
    unit_rows,
    weights_option,
)
from search.encoders.packaged import file_sha256
from search.encoders.picture_batches import TRANSFORMER_CPU_BATCH, Batches, Scale, assemble
from search.encoders.picture_layers import (
    NO_SEQUENCE,
    Layer,
    Pool,
    Tapped,
    hooked_layers,
    parse_pooling,
    refuse_unknown,
)
from search.encoders.picture_layers import Sequence as TokenSequence
from search.errors import ModelError, WrongModality
from search.types import EncoderSpec, Modality

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """What may be said of such a model beside its name.

    Args:
        weights: a file of weights to use instead of the checkpoint's.
        layer: a hidden layer of the network for pictures, one of `layers(name)`; then only pictures can ask.
        pooling: of that layer: avg, gem, max or cls.
        query_prompt: templates for the words of a query, divided by "|", each with {} where the words go:
            "a photo of a {}.|a drawing of a {}.". A query is the mean of its vectors in all of them (Radford et
            al. 2021, sec. 3.1.4).
    """

    weights: Path | None = None
    layer: str | None = None
    pooling: str | None = None
    query_prompt: str | None = None


PUBLISHED = ClipOptions()


class ClipEncoder(PictureModel):
    """Words (str) and pictures (Path or Image) to unit vectors of one space.

    Radford et al. 2021, "Learning transferable visual models from natural language supervision"; Zhai et al.
    2023, "Sigmoid loss for language image pre-training". What goes beyond the text window of the model (77 or 64
    tokens) is not seen.

    Args:
        checkpoint: what is loaded.
        options: what was said of it beside its name.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
    """

    def __init__(
        self,
        checkpoint: ClipCheckpoint,
        options: ClipOptions = PUBLISHED,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._templates = parse_templates(options, checkpoint.name)
        self._device = choose_device(device)
        self._batches = Batches(self._device, on_cpu=TRANSFORMER_CPU_BATCH)
        self._kind = checkpoint.kind
        self.preparation, self._scaling = load_preparation(checkpoint)
        model = load_network(checkpoint, options.weights)
        self._patch = int(getattr(model.config.vision_config, "patch_size", 0) or 0)
        self._patchwork = checkpoint.kind_name == "siglip2"
        self._shown = [self.preparation(picture) for picture in probe_pictures()]
        network: nn.Module = model
        self._tapped = options.layer is not None
        if options.layer is None:
            self._tokenizer = load_tokenizer(checkpoint)
            self._window = _window(checkpoint, model.config, self._tokenizer)
        else:
            network = _tapped(model, options, checkpoint.name)
        self._network, self._dtype = settle(network, self._probed, self._device, precision)
        self._scale = Scale(self._scaling, self._device, self._dtype)
        said = {
            "weights": weights_option(options.weights),
            "layer": options.layer,
            "pooling": options.pooling,
            "query_prompt": "|".join(self._templates) or None,
        }
        folder = Path(checkpoint.name).expanduser()
        self.spec = EncoderSpec(
            family="clip",
            model=checkpoint.name,
            modality=Modality.IMAGE,
            dim=int(self._of_pictures(self._shown[:1]).shape[1]),
            accepts=("image",) if self._tapped else ("text", "image"),
            weights=checkpoint.fingerprint() if options.weights is None else file_sha256(options.weights),
            options={"folder": str(folder.resolve()) if folder.is_dir() else None}
            | {key: value for key, value in said.items() if value is not None},
        )

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        options: ClipOptions = PUBLISHED,
        device: str = "auto",
        precision: str = "auto",
    ) -> ClipEncoder:
        """The encoder for a checkpoint's name on the hub, or its folder.

        Args:
            name: "clip-ViT-B-32", "openai/clip-vit-base-patch32", "google/siglip2-base-patch16-224", or a folder
                that transformers or sentence-transformers has saved.
            options: what else is said of it.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.

        Raises:
            ModelUnavailable: it is not on this machine and could not be fetched, or is no such model.
            ModelError: an option makes no sense.
            MissingExtra: its tokenizer needs a library that is not installed.
        """
        return cls(find_checkpoint(name), options, device=device, precision=precision)

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
        said = {key: str(value) for key, value in spec.options.items() if value is not None}
        folder = said.get("folder")
        name = folder if folder is not None and Path(folder).is_dir() else spec.model
        options = ClipOptions(
            weights=moved(Path(said["weights"])) if "weights" in said else None,
            layer=said.get("layer"),
            pooling=said.get("pooling"),
            query_prompt=said.get("query_prompt"),
        )
        encoder = cls.from_name(name, options=options, device=device, precision=precision)
        refuse_drift(spec, encoder.spec)
        encoder.spec = spec
        return encoder

    @property
    def precision(self) -> str:
        """The number format that was chosen: fp32, bf16 or fp16."""
        return precision_name(self._dtype)

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of words and pictures, (n, dim) float32, row i for item i.

        Args:
            items: a str is words; a Path or an Image is a picture, or Pixels that `preparation` has made.
            role: the words of a query are put into the templates, if there are any.

        Raises:
            WrongModality: an item is neither, or is words where a hidden layer was chosen.
            SourceError: a picture cannot be read.
            ModelError: the numbers overflow in this precision, or memory is too small for one picture.
        """
        if self._tapped:
            refuse_words(items, self.spec.model)
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
        templates = (self._templates if role == "query" else ()) or ("{}",)
        order = iter(words)
        while numbers := list(islice(order, max(1, _TEXTS_AT_ONCE // len(templates)))):
            said = [template.replace("{}", words[number]) for number in numbers for template in templates]
            of_each = unit_rows(self._of_words(self._network, said)).reshape(len(numbers), len(templates), -1)
            rows[numbers] = unit_rows(torch.from_numpy(of_each.mean(axis=1)))
        order = iter(pictures)
        ready = prepared(list(pictures.values()), self.preparation)
        for count, features in self._batches.run(ready, self._of_pictures):
            rows[list(islice(order, count))] = unit_rows(features)
        return rows

    @torch.inference_mode()
    def _of_words(self, network: Any, texts: list[str]) -> Tensor:
        # Halves of surrogate pairs, which no tokenizer takes, become "?".
        sound = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        if self._kind.lower_case:
            sound = [text.lower() for text in sound]
        tokens = self._tokenizer(
            sound,
            padding="max_length" if self._kind.padded else True,
            truncation=True,
            max_length=self._window,
            return_tensors="pt",
        ).to(self._device)
        given = {name: tokens[name] for name in self._kind.inputs if name in tokens}
        return _features(network.get_text_features(**given))

    def _of_pictures(self, inputs: Sequence[Pixels]) -> Tensor:
        return self._seen(self._network, inputs, self._scale)

    @torch.inference_mode()
    def _seen(self, network: Any, inputs: Sequence[Pixels], scale: Scale) -> Tensor:
        if self._patchwork:
            given = {
                name: one.to(self._device) for name, one in patches_of(list(inputs), self._patch).items()
            }
            given["pixel_values"] = scale(given["pixel_values"])
        else:
            given = {"pixel_values": scale(assemble(inputs, self._device))}
        if self._tapped:
            tapped: Tensor = network(given)
            return tapped
        return _features(network.get_image_features(**given))

    def _probed(self, network: nn.Module, dtype: torch.dtype) -> Tensor:
        """What is compared between number formats: pictures and words."""
        rows = self._seen(network, self._shown, Scale(self._scaling, self._device, dtype))
        return rows if self._tapped else torch.cat([rows, self._of_words(network, list(PROBES))])


def layers(model: str) -> list[Layer]:
    """The modules of such a model's network for pictures that `layer` can name, with the shapes of their output.

    Raises:
        ModelUnavailable: the checkpoint cannot be had.
    """
    checkpoint = find_checkpoint(model)
    preparation, _ = load_preparation(checkpoint)
    shown = [preparation(picture) for picture in probe_pictures()]
    vision = empty_network(checkpoint).vision_model
    if checkpoint.kind_name == "siglip2":
        given = patches_of(shown, int(vision.config.patch_size))
        # Positions are worked out from the sides of each picture, which must be real.
        return hooked_layers(vision.to_empty(device="cpu"), lambda network: network(**given))
    empty = torch.empty((2, *shown[0].shape), device="meta")
    return hooked_layers(vision, lambda network: network(pixel_values=empty))


def parse_templates(options: ClipOptions, name: str) -> tuple[str, ...]:
    """The templates in `query_prompt`, none where there are none.

    Raises:
        ModelError: one has no place for the words, or words cannot be asked.
    """
    if options.pooling is not None and options.layer is None:
        raise ModelError(
            f"'{name}' pools its last layer in its own way; leave --pooling out, or name a --layer"
        )
    if not options.query_prompt:
        return ()
    if options.layer is not None:
        raise ModelError("a hidden layer knows no words; leave --query-prompt or --layer out")
    templates = tuple(one.strip() for one in options.query_prompt.split("|"))
    for template in templates:
        if template.count("{}") != 1:
            raise ModelError(
                f"'{template}' is no template; write {{}} once where the words go, as in 'a photo of a {{}}.', "
                "and | between several"
            )
    return templates


class _Named(nn.Module):
    """A network that is given its arguments by name, as one mapping."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: dict[str, Tensor]) -> Any:
        return self.network(**given)


def _tapped(model: Any, options: ClipOptions, name: str) -> nn.Module:
    """The network for pictures up to a hidden layer."""
    assert options.layer is not None
    vision = model.vision_model
    refuse_unknown(options.layer, (one for one, _ in vision.named_modules() if one), name)
    own: Any = getattr(vision, "embeddings", None)
    sequence = NO_SEQUENCE
    if getattr(own, "class_embedding", None) is not None:
        sequence = TokenSequence(int(own.num_patches) + 1, prefix=1, has_class=True)
    pool = Pool(parse_pooling(options.pooling, name), sequence, f"layer '{options.layer}' of {name}")
    return Tapped(_Named(vision), f"network.{options.layer}", pool)


def _window(checkpoint: ClipCheckpoint, config: Any, tokenizer: Any) -> int:
    """The most tokens of a text."""
    positions = int(config.text_config.max_position_embeddings) - checkpoint.kind.reserved
    return min(positions, int(tokenizer.model_max_length), checkpoint.kind.window or positions)


def _features(output: Any) -> Tensor:
    """The projected features: transformers 4 gives them bare, 5 inside an output object."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features
