"""Objects in pictures: a detection network finds them, and each becomes a part of its picture's record."""

from __future__ import annotations

import difflib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL.Image import Image

from ingest.pipeline import Prepare, Ready
from ingest.sources.contract import Item, Rejected
from search.encoders.contract import Encoder, PictureModel
from search.encoders.contract import Item as Encodable
from search.encoders.regions import cut_out
from search.errors import ModelUnavailable, SourceError
from search.types import WHOLE, Json, Part

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

DETECTOR = "fasterrcnn_resnet50_fpn_v2"
FIELD = "objects"  # of the record's metadata: how many of each label
_LEAST_SIDE = 1.0  # pixels; there is nothing to see on less
_PRECISION = 2  # digits of a pixel that a box is kept with
_PREPARED_BYTES = 96 << 20  # of prepared regions that are encoded, and committed, together


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """How objects are looked for.

    `model` is one of torchvision's detection networks; `weights` a file to use instead of its published ones;
    `min_score` how sure, from 0 to 1, it must be of an object; `most` how many are kept of a picture, the surest.

    Raises:
        SourceError: a number is out of its range.
    """

    model: str = DETECTOR
    weights: str | Path | None = None
    min_score: float = 0.5
    most: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise SourceError(f"the least score of an object is {self.min_score}; give a number from 0 to 1")
        if isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 1:
            raise SourceError(f"the most objects of a picture are {self.most!r}; give 1 or more")


class Detector(Protocol):
    """Finds objects. `settings` says all that its findings depend on beside the picture."""

    settings: str

    def find(self, picture: Image) -> list[Part]:
        """The objects in an upright RGB picture, the surest first, each with box, label and score."""


class TorchvisionDetector:
    """A detection network of torchvision; its weights are read when it is first asked.

    Pictures are looked at one by one, since the network pads those of a batch to one size, and what it finds in one
    would depend on the others.

    Args:
        wanted: the network, and what of its findings to keep.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        ModelUnavailable: there is no such network, or its weights cannot be had.
    """

    def __init__(self, wanted: ObjectSettings = ObjectSettings(), *, device: str = "auto") -> None:
        from search.encoders.packaged import file_sha256

        self._wanted = wanted
        self._device_name = device
        self._published = _published(wanted.model)
        self._path = _weights(wanted, self._published)
        self._categories = [str(one) for one in self._published.meta["categories"]]
        self._network: Any = None
        self._loading = threading.Lock()
        kept = f"from {wanted.min_score:g}, {wanted.most} at most"
        self.settings = f"objects {wanted.model} {file_sha256(self._path)} {kept}"

    def find(self, picture: Image) -> list[Part]:
        """See `Detector`.

        Raises:
            ModelUnavailable: the weights are not those of the network.
        """
        import torch

        with self._loading:
            if self._network is None:
                self._network = self._loaded()
        network, device, transform = self._network
        with torch.inference_mode():
            (found,) = network([transform(picture).to(device)])
        columns = (found[name].cpu().tolist() for name in ("boxes", "labels", "scores"))
        parts = []
        for corners, label, score in sorted(zip(*columns, strict=True), key=lambda one: -one[2]):
            left, top, right, bottom = (round(corner, _PRECISION) for corner in corners)
            width, height = right - left, bottom - top
            if score >= self._wanted.min_score and min(width, height) >= _LEAST_SIDE:
                box = (left, top, round(width, _PRECISION), round(height, _PRECISION))
                parts.append(Part(box=box, label=self._categories[label], score=score))
        return parts[: self._wanted.most]

    def _loaded(self) -> tuple[Any, Any, Callable[[Image], Any]]:
        from torchvision.models import get_model

        from search.encoders.device import choose_device
        from search.encoders.networks import fill_network, read_weights

        name = self._wanted.model
        network = get_model(name, weights=None, weights_backbone=None)
        fill_network(network, read_weights(self._path), unused=(), name=name, path=self._path)
        device = choose_device(self._device_name)
        return network.eval().requires_grad_(False).to(device), device, self._published.transforms()


class WithObjects:
    """Adds to each whole picture the regions of the objects in it, as further parts.

    The labels found are put into the record's metadata under `objects`, with how many of each there are.

    Args:
        whole: prepares the whole pictures, and yields them decoded: upright, in RGB.
        detector: finds the objects.
        encoder: gives the encoder, whose preparation is done here, where it has one; None passes pictures on.
    """

    def __init__(
        self, whole: Prepare, detector: Detector, encoder: Callable[[], Encoder] | None = None
    ) -> None:
        self._whole = whole
        self._detector = detector
        self._encoder = encoder

    def __call__(self, items: Sequence[Item]) -> Iterator[Ready | Rejected]:
        encoder = None if self._encoder is None else self._encoder()
        for one in self._whole(items):
            if isinstance(one, Rejected):
                yield one
            else:
                yield self._divided(one, encoder)

    def _divided(self, ready: Ready, encoder: Encoder | None) -> Ready:
        (picture,) = ready.encodable
        assert isinstance(picture, Image)
        objects = self._detector.find(picture)
        regions = [picture, *(cut_out(picture, part.box) for part in objects if part.box is not None)]
        counts: dict[str, Json] = dict(sorted(Counter(str(part.label) for part in objects).items()))
        record = ready.item.record
        record = replace(record, metadata={**(record.metadata or {}), FIELD: counts})
        encodable: tuple[Encodable, ...] = tuple(regions)
        n_bytes = sum(3 * region.width * region.height for region in regions)
        if isinstance(encoder, PictureModel):
            prepared = [encoder.preparation(region) for region in regions]
            encodable, n_bytes = tuple(prepared), sum(one.nbytes for one in prepared)
        return replace(
            ready,
            item=replace(ready.item, record=record),
            parts=(WHOLE, *objects),
            encodable=encodable,
            weight=n_bytes / _PREPARED_BYTES,
        )


def _published(model: str) -> WeightsEnum:
    """The published weights of a detection network.

    Raises:
        ModelUnavailable: there is no such network.
    """
    from torchvision.models import detection, get_model_weights, list_models

    known = list_models(detection)
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3) or known
        raise ModelUnavailable(
            f"torchvision has no detection network '{model}'; use one of {', '.join(near)}"
        )
    published: WeightsEnum = get_model_weights(model).DEFAULT
    return published


def _weights(wanted: ObjectSettings, published: WeightsEnum) -> Path:
    """The file of weights: the one given, else the one in torch's cache, else downloaded there.

    Raises:
        ModelUnavailable: it is not here and cannot be had.
    """
    import torch

    from search.encoders.networks import is_offline
    from search.encoders.packaged import file_sha256

    if wanted.weights is not None:
        given = Path(wanted.weights).expanduser()
        if not given.is_file():
            raise ModelUnavailable(
                f"there is no weights file {given}; give the path of a .safetensors or .pth file"
            )
        return given
    path = Path(torch.hub.get_dir()) / "checkpoints" / str(published.url).rsplit("/", 1)[-1]
    why = "downloads are switched off"
    if not path.is_file() and not is_offline():
        try:
            published.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        except (
            OSError,
            RuntimeError,
        ) as error:  # of which URLError, TimeoutError and ConnectionError are some
            why = f"{published.url} cannot be had: {' '.join(str(error).split())}"
    if not path.is_file():
        raise ModelUnavailable(
            f"the weights of {wanted.model} are not here ({why}); put {path.name} into {path.parent}, "
            "or give a file with --objects-weights FILE"
        )
    if not file_sha256(path).startswith(path.stem.rpartition("-")[2]):
        raise ModelUnavailable(f"weights file {path} is damaged; delete it and fetch it again")
    return path
