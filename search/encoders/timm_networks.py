"""Any network of timm as an encoder: its pooled features, or any hidden layer, prepared for as it was trained."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from search.encoders.networks import (
    NetworkEncoder,
    fill_network,
    moved,
    read_weights,
    refuse_drift,
    weights_option,
    width_of,
)
from search.encoders.packaged import file_sha256, locate, weight_files
from search.encoders.picture_layers import (
    NO_SEQUENCE,
    Layer,
    Pool,
    Sequence,
    Tapped,
    hooked_layers,
    parse_pooling,
    refuse_unknown,
)
from search.errors import MissingExtra, ModelUnavailable
from search.types import EncoderSpec, Modality

PREFIX = "timm:"

# Tables that older files carry and newer networks work out themselves.
_DERIVED = ("attn_mask", "relative_position_index")


class TimmEncoder(NetworkEncoder):
    """A timm network without its classifier: what it pools for it, in the way the network itself pools.

    Of a hidden layer, maps are averaged over their positions, and of a sequence of tokens the class token is
    taken where there is one, else the mean of the patches. A pooling that is asked for takes the place of
    either; without a layer it is given what the network itself would pool.
    """

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        weights: Path | None = None,
        layer: str | None = None,
        pooling: str | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> TimmEncoder:
        """The encoder for a network's name.

        Args:
            name: as in timm.list_models(), "nfnet_l0" or with the tag of its weights "resnet50.a1_in1k"; with
                "timm:" before it or not.
            weights: a file to use instead of the published weights.
            layer: a hidden layer, one of `layers(name)`; None for the pooled features.
            pooling: avg, gem, max or cls; None for the network's own.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.

        Raises:
            MissingExtra: timm is not installed.
            ModelUnavailable: there is no such network or layer, or its weights cannot be had.
            ModelError: the pooling means nothing there.
        """
        name = name.removeprefix(PREFIX)
        timm = _timm(name)
        how = parse_pooling(pooling, PREFIX + name)
        network: Any = _network(timm, name)
        if layer is not None:
            refuse_unknown(layer, (one for one, _ in network.named_modules() if one), PREFIX + name)
        config = timm.data.resolve_data_config({}, model=network)
        prepare: Callable[[Image], Tensor] = timm.data.create_transform(**config)
        about: dict[str, Any] = dict(network.pretrained_cfg)
        path = weights if weights is not None else _published(about, name)
        classifier = about.get("classifier") or ()
        unused = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        fill_network(network, _converted(read_weights(path), network), unused=unused, name=name, path=path)
        what = name if layer is None else f"layer '{layer}' of {name}"
        features: nn.Module = network
        if layer is not None:
            features = Tapped(network, layer, Pool(how, _sequence(network), what))
        elif how is not None:
            features = _Unpooled(network, Pool(how, _sequence(network), what))
        said = {"layer": layer, "pooling": None if how is None else how.value}
        spec = EncoderSpec(
            family="timm",
            model=PREFIX + name,
            modality=Modality.IMAGE,
            dim=width_of(features, prepare, what),
            accepts=("image",),
            weights=file_sha256(path),
            options={"weights": weights_option(weights)}
            | {key: value for key, value in said.items() if value is not None},
        )
        return cls(spec, features, prepare, device=device, precision=precision)

    @classmethod
    def from_spec(
        cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto", data: bytes | None = None
    ) -> TimmEncoder:
        """The encoder that a space was made with.

        Args:
            spec: as `from_name` made it.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.
            data: not needed by this family.

        Raises:
            MissingExtra: timm is not installed.
            ModelUnavailable: the weights are not here any more.
            EncoderDrift: the weights are here, but others than the space was made with.
        """
        given = spec.options.get("weights")
        said = {key: str(spec.options[key]) for key in ("layer", "pooling") if spec.options.get(key)}
        encoder = cls.from_name(
            spec.model,
            weights=None if given is None else moved(Path(str(given))),
            layer=said.get("layer"),
            pooling=said.get("pooling"),
            device=device,
            precision=precision,
        )
        refuse_drift(spec, encoder.spec)
        encoder.spec = spec
        return encoder


def layers(model: str) -> list[Layer]:
    """The modules of a timm network that `layer` can name, from input to output, with the shapes of their output.

    Raises:
        MissingExtra: timm is not installed.
        ModelUnavailable: there is no such network.
    """
    name = model.removeprefix(PREFIX)
    timm = _timm(name)
    network = _network(timm, name)
    size = timm.data.resolve_data_config({}, model=network)["input_size"]
    return hooked_layers(network.to("meta"), lambda one: one(torch.empty(2, *size, device="meta")))


class _Unpooled(nn.Module):
    """A network up to what it pools itself, and another pooling of that."""

    def __init__(self, network: Any, pool: Pool) -> None:
        super().__init__()
        self.network = network
        self.pool = pool

    def forward(self, batch: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.network.forward_features(batch))
        return pooled


def _sequence(network: Any) -> Sequence:
    """What the network's sequences begin with: a class token, and registers or a token of distillation behind it."""
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    if not prefix:
        return NO_SEQUENCE
    has_class = getattr(network, "cls_token", None) is not None
    patches = getattr(getattr(network, "patch_embed", None), "num_patches", None)
    return Sequence(None if patches is None else int(patches) + prefix, prefix, has_class)


def _timm(name: str) -> ModuleType:
    try:
        importlib.import_module("timm.data")
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the model '{PREFIX}{name}'", "timm") from error


def _network(timm: Any, name: str) -> nn.Module:
    """The bare network; its random weights are always replaced before it is used."""
    architecture, _, tag = name.partition(".")
    known = timm.list_models() if not tag else timm.list_pretrained(f"{architecture}.*")
    if not timm.is_model(architecture) or (tag and name not in known):
        near = difflib.get_close_matches(name, known, n=3)
        meant = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise ModelUnavailable(f"timm has no network '{name}'; {meant}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return network.eval()


def _published(about: dict[str, Any], name: str) -> Path:
    """The file of a network's published weights, from the hub's cache or the hub."""
    advice = "give a file with --weights FILE, or use --model patches, which needs none"
    address = about.get("hf_hub_id")
    if not address:
        raise ModelUnavailable(f"there are no published weights of {PREFIX}{name}; {advice}")
    try:
        files = weight_files(locate(str(address)))
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{error}; or {advice}") from error
    return files[0]


def _converted(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights as the network names them: timm keeps, beside many networks, how older files are to be read."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        wants_network = len(inspect.signature(convert).parameters) > 1
        state = convert(state, network) if wants_network else convert(state)
    return {key: value for key, value in state.items() if not key.endswith(_DERIVED)}
