"""Any network of timm as an encoder: its pooled features, with the preprocessing that it was trained with."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL.Image import Image
from torch import Tensor, nn

from search.encoders.networks import (
    NetworkEncoder,
    fill_network,
    moved,
    read_weights,
    refuse_drift,
    width_of,
)
from search.encoders.packaged import file_sha256, locate, weight_files
from search.errors import MissingExtra, ModelUnavailable
from search.types import EncoderSpec, Modality

PREFIX = "timm:"

# Tables that older files carry and newer networks work out themselves.
_DERIVED = ("attn_mask", "relative_position_index")


class TimmEncoder(NetworkEncoder):
    """A timm network without its classifier: what it pools for it, in the way the network itself pools."""

    @classmethod
    def from_name(
        cls, name: str, *, weights: Path | None = None, device: str = "auto", precision: str = "auto"
    ) -> TimmEncoder:
        """The encoder for a network's name.

        Args:
            name: as in timm.list_models(), "nfnet_l0" or with the tag of its weights "resnet50.a1_in1k"; with
                "timm:" before it or not.
            weights: a file to use instead of the published weights.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.

        Raises:
            MissingExtra: timm is not installed.
            ModelUnavailable: there is no such network, or its weights cannot be had.
        """
        name = name.removeprefix(PREFIX)
        timm = _timm(name)
        network: Any = _network(timm, name)
        config = timm.data.resolve_data_config({}, model=network)
        prepare: Callable[[Image], Tensor] = timm.data.create_transform(**config)
        about: dict[str, Any] = dict(network.pretrained_cfg)
        path = weights if weights is not None else _published(about, name)
        classifier = about.get("classifier") or ()
        unused = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        fill_network(network, _converted(read_weights(path), network), unused=unused, name=name, path=path)
        spec = EncoderSpec(
            family="timm",
            model=PREFIX + name,
            modality=Modality.IMAGE,
            dim=width_of(network, prepare, name),
            accepts=("image",),
            weights=file_sha256(path),
            options={"weights": None if weights is None else str(weights.resolve())},
        )
        return cls(spec, network, prepare, device=device, precision=precision)

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
        encoder = cls.from_name(
            spec.model,
            weights=None if given is None else moved(Path(str(given))),
            device=device,
            precision=precision,
        )
        refuse_drift(spec, encoder.spec)
        encoder.spec = spec
        return encoder


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
