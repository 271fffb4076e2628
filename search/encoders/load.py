"""Picks and builds an encoder, from the name a user gives or from the spec a space was made with.

Each implementation is imported inside its branch: torch takes seconds to import, and most verbs need none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from search.encoders.clip_kinds import is_clip
from search.encoders.contract import Encoder
from search.errors import ModelError, ModelUnavailable
from search.types import EncoderSpec

if TYPE_CHECKING:
    from search.encoders.picture_layers import Layer


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model runs and how precisely: auto|cpu|cuda[:n]|mps, and auto|fp32|bf16|fp16."""

    name: str = "auto"
    precision: str = "auto"


AUTO = Device()
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,4})?")
_PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def check_words(devices: str, precision: str) -> None:
    """Refuse words that name no device or precision, before anything is loaded; several devices have commas between.

    Raises:
        ModelError: one of them does not.
    """
    for name in devices.split(","):
        if _DEVICE.fullmatch(name.strip()) is None:
            raise ModelError(f"unknown device {name.strip()!r}; use auto, cpu, cuda, cuda:N or mps")
    if precision not in _PRECISIONS:
        raise ModelError(f"unknown precision {precision!r}; use auto, fp32, bf16 or fp16")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What a user may say of a model beside its name; None leaves it as the model was published.

    Args:
        weights: a file of weights to use instead of the published ones (torchvision, timm, CLIP and its kin).
        layer: the hidden layer that vectors are taken from: the name of one in a network for pictures; for a text
            model its number, counted from the embeddings (0) or back from the last (-1), or several with commas,
            which are averaged.
        pooling: how the vectors of tokens become one: cls, mean, max or last; for pictures, how those of positions
            do: avg, gem, max or cls.
        dim: keep only so many numbers of each vector (for models trained so that the first ones suffice).
        query_prompt: stands before each query; for CLIP and its kin, templates for its words, divided by "|".
        document_prompt: stands before each document.
        base_url: where a remote model is asked.
    """

    weights: Path | None = None
    layer: str | None = None
    pooling: str | None = None
    dim: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    base_url: str | None = None

    def only(self, model: str, *allowed: str) -> None:
        """Refuse what was said and means nothing for this model.

        Raises:
            ModelError: a field other than those allowed was set.
        """
        for field in fields(self):
            if getattr(self, field.name) is not None and field.name not in allowed:
                flag = field.name.replace("_", "-")
                can = ", ".join(name.replace("_", "-") for name in allowed) or "nothing beside its name"
                raise ModelError(f"'{model}' takes no {flag} (it takes {can}); leave --{flag} out")


PUBLISHED = ModelChoice()
SMALL_NETWORK = "small"  # the network for pictures that is learned where no other is named
LEARNED_WORDS = ("word2vec", "word2vec:cbow", "glove")  # learned from the texts that are ingested
LEARNED_PICTURES = ("patches", "simclr")  # learned from the pictures that are ingested
LEARNED_GRAPHS = ("wl", "graph2vec", "pooled")  # learned from the whole graphs that are ingested


def load_named(model: str, choice: ModelChoice = PUBLISHED, *, device: Device = AUTO) -> Encoder:
    """The encoder of this name: `torchvision:NAME`, `timm:NAME`, `openai:NAME`, CLIP, or a Hugging Face text encoder.

    `word:NAME` is one of the latter for words in their context.

    Args:
        model: the name, or the path of a checkpoint's folder or of a file of word vectors.
        choice: what else was said of it.
        device: where and how precisely to run it.

    Raises:
        ModelUnavailable: the model or its weights cannot be had; the message says what to do.
        ModelError: the choice means nothing for this model.
        MissingExtra: the library that the model comes from is not installed.
    """
    family, _, name = model.partition(":")
    if family == "torchvision":
        choice.only(model, "weights", "layer", "pooling")
        from search.encoders.torchvision_networks import TorchvisionEncoder

        return TorchvisionEncoder.from_name(
            name,
            weights=choice.weights,
            layer=choice.layer,
            pooling=choice.pooling,
            device=device.name,
            precision=device.precision,
        )
    if family == "timm":
        choice.only(model, "weights", "layer", "pooling")
        from search.encoders.timm_networks import TimmEncoder

        return TimmEncoder.from_name(
            name,
            weights=choice.weights,
            layer=choice.layer,
            pooling=choice.pooling,
            device=device.name,
            precision=device.precision,
        )
    if family == "openai":
        choice.only(model, "dim", "query_prompt", "document_prompt", "base_url")
        if device != AUTO:
            raise ModelError(f"'{model}' runs elsewhere; leave --device and --precision out")
        from search.encoders.remote import RemoteEncoder

        return RemoteEncoder.from_name(
            name,
            base_url=choice.base_url,
            dim=choice.dim,
            query_prompt=choice.query_prompt,
            document_prompt=choice.document_prompt,
        )
    if is_static(model):
        choice.only(model)
        from search.encoders.static import StaticEncoder

        return StaticEncoder.from_name(model)
    if family == "word":
        choice.only(model, "layer")
        from search.encoders.contextual_words import ContextualWordEncoder

        return ContextualWordEncoder.from_name(
            name, layer=choice.layer, device=device.name, precision=device.precision
        )
    if is_clip(model):
        choice.only(model, "weights", "layer", "pooling", "query_prompt")
        from search.encoders.clip import ClipEncoder, ClipOptions

        options = ClipOptions(choice.weights, choice.layer, choice.pooling, choice.query_prompt)
        return ClipEncoder.from_name(model, options=options, device=device.name, precision=device.precision)
    from search.encoders.distilled import DistilledEncoder, is_distilled

    if is_distilled(model):
        choice.only(model, "dim")
        return DistilledEncoder.from_name(model, dim=choice.dim)
    _refuse_others(model)
    choice.only(model, "layer", "pooling", "dim", "query_prompt", "document_prompt")
    from search.encoders.text import TextEncoder
    from search.encoders.text_load import TextOptions

    text_options = TextOptions(
        query_prompt=choice.query_prompt,
        document_prompt=choice.document_prompt,
        layer=choice.layer,
        pooling=choice.pooling,
        dim=choice.dim,
    )
    return TextEncoder.from_name(model, device=device.name, precision=device.precision, options=text_options)


def load_spec(spec: EncoderSpec, *, data: bytes | None = None, device: Device = AUTO) -> Encoder:
    """The encoder that a space was made with.

    Args:
        spec: as stored with the space.
        data: the learned model, where the family is one that is learned from the user's own data.
        device: where and how precisely to run it.

    Raises:
        ModelUnavailable: the model or its weights cannot be had; the message says what to do.
    """
    if spec.family == "torchvision":
        from search.encoders.torchvision_networks import TorchvisionEncoder

        return TorchvisionEncoder.from_spec(spec, device=device.name, precision=device.precision)
    if spec.family == "timm":
        from search.encoders.timm_networks import TimmEncoder

        return TimmEncoder.from_spec(spec, device=device.name, precision=device.precision)
    if spec.family == "clip":
        from search.encoders.clip import ClipEncoder

        return ClipEncoder.from_spec(spec, device=device.name, precision=device.precision)
    if spec.family == "patches":
        from search.encoders.patches import PatchesEncoder

        return PatchesEncoder.from_spec(spec, data=data, device=device.name, precision=device.precision)
    if spec.family == "learned-pictures":
        from search.encoders.learned_pictures import LearnedPictureEncoder

        return LearnedPictureEncoder.from_spec(
            spec, data=data, device=device.name, precision=device.precision
        )
    if spec.family == "whole-graphs":
        from search.encoders import whole_graphs

        return whole_graphs.from_spec(spec, data=data)
    if spec.family == "openai":
        from search.encoders.remote import RemoteEncoder

        return RemoteEncoder.from_spec(spec)
    if spec.family == "static":
        from search.encoders.static import StaticEncoder

        return StaticEncoder.from_spec(spec, data=data)
    if spec.family == "model2vec":
        from search.encoders.distilled import DistilledEncoder

        return DistilledEncoder.from_spec(spec)
    if spec.family == "text-words":
        from search.encoders.contextual_words import ContextualWordEncoder

        return ContextualWordEncoder.from_spec(spec, device=device.name, precision=device.precision)
    if spec.family == "text":
        from search.encoders.text import TextEncoder

        return TextEncoder.from_spec(spec, device=device.name, precision=device.precision)
    raise ModelUnavailable(
        f"this nearkin has no encoder family '{spec.family}'; upgrade it, or ask by id or vector"
    )


def load(model: str | EncoderSpec, choice: ModelChoice = PUBLISHED, *, device: Device = AUTO) -> Encoder:
    """The encoder of this name, of which `choice` says more, or the one with this spec that no file has to go with.

    Raises:
        ModelUnavailable, ModelError, MissingExtra: as `load_named` and `load_spec`.
    """
    if isinstance(model, str):
        return load_named(model, choice, device=device)
    return load_spec(model, device=device)


def layers_of(model: str) -> list[Layer]:
    """The hidden layers of a picture network that `ModelChoice.layer` can name, from input to output.

    Nothing is computed, and no weights are needed (of CLIP and its kin the checkpoint's configuration is).

    Raises:
        ModelUnavailable: there is no such network.
        ModelError: it is no picture network, or has no layers to choose.
        MissingExtra: the library that it comes from is not installed.
    """
    family = model.partition(":")[0]
    if family == "torchvision":
        from search.encoders import torchvision_networks

        return torchvision_networks.layers(model)
    if family == "timm":
        from search.encoders import timm_networks

        return timm_networks.layers(model)
    if is_clip(model):
        from search.encoders import clip

        return clip.layers(model)
    _refuse_others(model)
    if family == "openai" or is_static(model):
        raise ModelError(f"'{model}' has no layers to choose; leave --layers out")
    raise ModelError(
        f"the layers of '{model}' are numbers: 0 for the embeddings, -1 for the last; give one with --layer"
    )


def computes_here(model: str) -> bool:
    """Whether a model is a network that computes on a device; else it runs elsewhere, or only looks vectors up."""
    if model.partition(":")[0] == "openai" or is_static(model):
        return False
    from search.encoders.distilled import is_distilled

    return not is_distilled(model)


def is_static(model: str) -> bool:
    """Whether this names a file of word vectors, or a method that learns them from texts (word2vec, glove)."""
    path = Path(model).expanduser()
    if model in LEARNED_WORDS or path.suffix.lower() in (".kv", ".vec", ".bin", ".txt", ".gz", ".npz"):
        return True
    if not path.is_file():
        return False
    from search.encoders.word_files import is_word_file

    return is_word_file(path)


def _refuse_others(model: str) -> None:
    """Say of a name that cannot be of an encoder what it is, rather than look for it on the hub."""
    if model.partition(":")[0] in LEARNED_PICTURES:
        raise ModelError(f"'{model}' is learned from pictures; use it with: nearkin ingest images")
    if model in ("node2vec", "node2vec+", "deepwalk", "prone", "netmf", "cleora", "eigenmaps", "lle", "sgc"):
        raise ModelError(f"'{model}' is learned from a graph; use it with: nearkin ingest graph")
    if model in LEARNED_GRAPHS:
        raise ModelError(f"'{model}' is learned from whole graphs; use it with: nearkin ingest graphs")
    if model.partition(":")[0] in ("word2vec", "glove"):
        raise ModelError(f"there is no '{model}'; use {', '.join(LEARNED_WORDS[:-1])} or {LEARNED_WORDS[-1]}")
    if Path(model).expanduser().is_file():
        raise ModelUnavailable(
            f"the file {model} holds no word vectors; name such a file, or the folder that holds a model"
        )
