"""Picks and builds an encoder, from the name a user gives or from the spec a space was made with.

Each implementation is imported inside its branch: torch takes seconds to import, and most verbs need none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search.encoders.contract import Encoder
from search.errors import ModelUnavailable
from search.types import EncoderSpec


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model runs and how precisely: auto|cpu|cuda[:n]|mps, and auto|fp32|bf16|fp16."""

    name: str = "auto"
    precision: str = "auto"


AUTO = Device()


def load_named(
    model: str, *, weights: Path | None = None, layer: str | None = None, device: Device = AUTO
) -> Encoder:
    """The encoder of this name: `torchvision:NAME`, `timm:NAME`, a CLIP model, or any Hugging Face text encoder.

    Args:
        model: the name, or the path of a checkpoint's folder.
        weights: a file of weights to use instead of the published ones (torchvision and timm).
        layer: a hidden layer to take the vectors from (torchvision).
        device: where and how precisely to run it.

    Raises:
        ModelUnavailable: the model or its weights cannot be had; the message says what to do.
        MissingExtra: the library that the model comes from is not installed.
    """
    family, _, name = model.partition(":")
    if family == "torchvision":
        from search.encoders.torchvision_networks import TorchvisionEncoder

        return TorchvisionEncoder.from_name(
            name, weights=weights, layer=layer, device=device.name, precision=device.precision
        )
    if layer is not None:
        raise ModelUnavailable(
            f"'{model}' has no choice of layer; layers can be named for torchvision: models"
        )
    if family == "timm":
        from search.encoders.timm_networks import TimmEncoder

        return TimmEncoder.from_name(name, weights=weights, device=device.name, precision=device.precision)
    if weights is not None:
        raise ModelUnavailable(
            f"'{model}' takes no file of weights; give the folder of a checkpoint as the model"
        )
    if _is_clip(model):
        from search.encoders.clip import ClipEncoder

        return ClipEncoder.from_name(model, device=device.name, precision=device.precision)
    from search.encoders.text import TextEncoder

    return TextEncoder.from_name(model, device=device.name, precision=device.precision)


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
    if spec.family == "text":
        from search.encoders.text import TextEncoder

        return TextEncoder.from_spec(spec, device=device.name, precision=device.precision)
    raise ModelUnavailable(
        f"this nearkin has no encoder family '{spec.family}'; upgrade it, or ask by id or vector"
    )


def _is_clip(model: str) -> bool:
    """Whether a name or a checkpoint's folder is of CLIP."""
    folder = Path(model)
    if folder.is_dir():
        import json

        for place in (folder, folder / "0_CLIPModel"):
            config = place / "config.json"
            if config.is_file():
                kind = json.loads(config.read_text(encoding="utf-8")).get("model_type", "")
                return str(kind) == "clip"
        return False
    return "clip" in model.rsplit("/", 1)[-1].lower()
