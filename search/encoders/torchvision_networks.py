"""Any classification network of torchvision as an encoder: its pooled features, or any hidden layer."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.models.feature_extraction import create_feature_extractor

from search.encoders.networks import (
    NetworkEncoder,
    fill_network,
    is_offline,
    moved,
    read_weights,
    refuse_drift,
    weights_option,
    width_of,
)
from search.encoders.packaged import file_sha256
from search.encoders.picture_layers import (
    NO_SEQUENCE,
    Layer,
    Pool,
    Sequence,
    bare,
    parse_pooling,
    refuse_unknown,
)
from search.encoders.torchvision_layers import layer_names, layer_shapes
from search.errors import ModelUnavailable
from search.types import EncoderSpec, Modality

PREFIX = "torchvision:"

# The module that turns features into classes, by the names the library uses.
_HEADS = ("fc", "classifier", "heads", "head")
# Classifiers beside the main path, which only training runs.
_SIDE_HEADS = ("aux1", "aux2", "AuxLogits")
# The published weights of these two expect another input range, and an auxiliary head only for training.
_EXTRAS = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": False},
}
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


class TorchvisionEncoder(NetworkEncoder):
    """A torchvision classification network without its classifier, with the preprocessing of its weights.

    By default a vector is what the network pools for its classifier (VGG and AlexNet hand theirs an unpooled
    map; it is averaged too). Of a hidden layer, maps are averaged over their positions, and of a sequence of
    tokens the class token is taken where there is one, else the mean. A pooling that is asked for takes the
    place of either; without a layer it is given what the network itself would pool.
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
    ) -> TorchvisionEncoder:
        """The encoder for a network's name.

        Args:
            name: as in torchvision.models.list_models(), "resnet50", or "resnet50:IMAGENET1K_V1" for a version
                of its published weights other than the newest; with "torchvision:" before it or not.
            weights: a file to use instead of the published weights. Pictures are prepared for it as for the
                published file of the same name or, for any other file, for the first version (at most networks
                the usual 256 pixels cut to 224), unless `name` says a version.
            layer: a hidden layer, one of `layers(name)`; None for the pooled features.
            pooling: avg, gem, max or cls; None for the network's own.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.

        Raises:
            ModelUnavailable: there is no such network, version or layer, or its weights cannot be had.
            ModelError: the pooling means nothing there.
        """
        name = name.removeprefix(PREFIX)
        network_name, _, _ = name.partition(":")
        network = _network(network_name)
        version = _version(name, weights)
        head = _head(network)
        how = parse_pooling(pooling, PREFIX + name)
        if layer is not None:
            refuse_unknown(layer, layer_names(network), PREFIX + network_name)
        path = find_weights(name, weights)
        state = read_weights(path)
        if network_name.startswith("densenet"):
            state = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
        reads_head = layer is not None and layer.split(".")[0] == head
        unused = _SIDE_HEADS if reads_head else (head, *_SIDE_HEADS)
        fill_network(network, state, unused=unused, name=network_name, path=path)
        what = network_name if layer is None else f"layer '{layer}' of {network_name}"
        if layer is None and how is None:
            features = _pooled(network, head)
        else:
            pool = Pool(how, _sequence(network), what)
            features = _Hidden(network, layer or _last_map(name, weights), pool)
        prepare: Callable[[Image], Tensor] = version.transforms()
        spec = EncoderSpec(
            family="torchvision",
            model=PREFIX + name,
            modality=Modality.IMAGE,
            dim=width_of(features, prepare, what),
            accepts=("image",),
            weights=file_sha256(path),
            options={"layer": layer, "weights": weights_option(weights), "version": version.name}
            | ({} if how is None else {"pooling": how.value}),
        )
        return cls(spec, features, prepare, device=device, precision=precision)

    @classmethod
    def from_spec(
        cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto", data: bytes | None = None
    ) -> TorchvisionEncoder:
        """The encoder that a space was made with.

        Args:
            spec: as `from_name` made it.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, fp32, bf16 or fp16.
            data: not needed by this family.

        Raises:
            ModelUnavailable: the weights are not here any more.
            EncoderDrift: the weights are here, but others than the space was made with.
        """
        given = spec.options.get("weights")
        said = {key: str(spec.options[key]) for key in ("layer", "pooling") if spec.options.get(key)}
        name = spec.model.removeprefix(PREFIX).partition(":")[0]
        encoder = cls.from_name(
            f"{name}:{spec.options['version']}",
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
    """The hidden layers of a torchvision network that `layer` can name, from input to output.

    A module's name stands for its output. The shapes are for pictures of the size that the newest weights want.

    Raises:
        ModelUnavailable: there is no such network.
    """
    return _listed(model.removeprefix(PREFIX))


def _listed(name: str, weights: Path | None = None) -> list[Layer]:
    """As `layers`, for the pictures that these weights want."""
    network_name = name.partition(":")[0]
    if network_name.startswith("regnet"):  # which reckons its widths with tensors that must be real
        network = _network(network_name).to("meta")
    else:
        with torch.device("meta"):
            network = _network(network_name)
    return layer_shapes(network, _version(name, weights).transforms().crop_size[0])


def find_weights(name: str, given: Path | None = None) -> Path:
    """The file of a network's weights: the one given, else the one in torch's cache, else downloaded there.

    Raises:
        ModelUnavailable: it is not here and cannot be had; the message says what to do.
    """
    if given is not None:
        return given
    published = _version(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / _file_name(published)
    why = "downloads are switched off"
    if not path.is_file() and not is_offline():
        try:
            published.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        except (URLError, TimeoutError, ConnectionError) as error:
            why = f"{published.url} cannot be reached: {getattr(error, 'reason', error)}"
        except (OSError, RuntimeError) as error:
            why = f"the download of {published.url} failed: {' '.join(str(error).split())}"
    if not path.is_file():
        raise ModelUnavailable(
            f"the weights of {PREFIX}{name} are not here ({why}); put {path.name} into {folder}, "
            "or give a file with --weights FILE, or use --model patches, which needs none"
        )
    mark = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if mark and not file_sha256(path).startswith(mark[1]):
        raise ModelUnavailable(f"weights file {path} is damaged; delete it and fetch it again")
    return path


def _version(name: str, weights: Path | None = None) -> WeightsEnum:
    """Which of a network's published weights is meant, or whose preprocessing fits the given file."""
    network, _, wanted = name.partition(":")
    published = list(models.get_model_weights(network))
    names = [version.name for version in published]
    if wanted:
        if wanted not in names:
            raise ModelUnavailable(f"{network} has no weights '{wanted}'; it has {', '.join(names)}")
        return published[names.index(wanted)]
    if weights is None:
        return models.get_model_weights(network).DEFAULT
    return next((one for one in published if _file_name(one) == weights.name), published[0])


def _file_name(version: WeightsEnum) -> str:
    return str(version.url).rsplit("/", 1)[-1]


def _network(name: str) -> nn.Module:
    """The bare network; its random weights are always replaced before it is used."""
    known = models.list_models(module=models)
    if name not in known and name in models.list_models():
        raise ModelUnavailable(
            f"'{name}' of torchvision classifies no pictures (it detects, segments, or takes films or other "
            "numbers); name a classification network, such as torchvision:resnet50"
        )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        meant = f"did you mean {', '.join(near)}?" if near else "see torchvision.models.list_models()"
        raise ModelUnavailable(f"torchvision has no classification network '{name}'; {meant}")
    network: nn.Module = models.get_model(name, weights=None, **_EXTRAS.get(name, {}))
    return network.eval()


def _head(network: nn.Module) -> str:
    return next(name for name in _HEADS if hasattr(network, name))


def _pooled(network: nn.Module, head: str) -> nn.Module:
    """The network with its classifier taken off."""
    setattr(network, head, Pool())
    pool = getattr(network, "avgpool", None)
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        network.avgpool = nn.AdaptiveAvgPool2d(1)  # larger only in VGG and AlexNet
    return network


def _sequence(network: nn.Module) -> Sequence:
    """Its vision transformers begin a sequence with a class token."""
    length = int(getattr(network, "seq_length", 0))
    return Sequence(length, prefix=1, has_class=True) if length else NO_SEQUENCE


def _last_map(name: str, weights: Path | None) -> str:
    """The layer that the network itself pools: the last one before the classifier that still has positions."""
    listed = _listed(name, weights)
    head = next(place for place, layer in enumerate(listed) if layer.name.split(".")[0] in _HEADS)
    before = [layer.name for layer in listed[:head] if len(layer.shape) > 1 and layer.shape[-2:] != (1, 1)]
    return before[-1]


class _Hidden(nn.Module):
    """A hidden layer's output as one row for each picture; what comes behind it is not computed."""

    def __init__(self, network: nn.Module, layer: str, pool: Pool) -> None:
        super().__init__()
        self.extractor = create_feature_extractor(network, {layer: "features"}, suppress_diff_warning=True)
        self.pool = pool

    def forward(self, batch: Tensor) -> Tensor:
        output = bare(self.extractor(batch)["features"])
        if output is None:
            raise ModelUnavailable(f"{self.pool.what} gives nothing for a picture; choose another layer")
        features: Tensor = self.pool(output)
        return features
