"""What every picture network shares: running batches into unit rows, and reading weights as data."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from search.encoders.contract import Item, PictureModel, Pixels, Role, Vectors
from search.encoders.device import choose_device, precision_name
from search.encoders.network_speed import probe_pictures, settle
from search.encoders.picture_batches import CPU_BATCH, Batches, Scale, assemble, split_transform
from search.encoders.pictures import prepare_ahead
from search.errors import EncoderDrift, ModelError, ModelUnavailable, WrongModality
from search.types import EncoderSpec

# Left in the keys by data-parallel training, by compilation, and by training frameworks.
_KEY_PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.", "encoder_q.")
# What safetensors and torch's own restricted unpickler are known to raise on files of another kind.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    RuntimeError,
    struct.error,
    pickle.PickleError,
    SafetensorError,
)
_NESTED = ("state_dict", "model_state_dict", "model")


class NetworkEncoder(PictureModel):
    """Pictures to unit vectors by one network.

    Pictures are decoded and prepared by threads while the network works on the batch before.

    Args:
        spec: what it is; `spec.dim` is the width that `network` gives.
        network: (n, channels, height, width) to (n, dim); it is changed, and moved to the device.
        prepare: an RGB picture to the network's input (channels, height, width) float32.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16. auto is the shortest that the device has instructions for and that
            keeps the rows at a cosine of 0.999 to fp32's.

    Raises:
        ModelUnavailable: there is no such device.
        ModelError: an option makes no sense.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        network: nn.Module,
        prepare: Callable[[Image.Image], Tensor],
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.spec = spec
        self._device = choose_device(device)
        self._batches = Batches(self._device)
        self.preparation, scaling = split_transform(prepare)
        shown = [self.preparation(picture) for picture in probe_pictures()]

        def run(network: nn.Module, dtype: torch.dtype) -> Tensor:
            rows: Tensor = network(Scale(scaling, self._device, dtype)(assemble(shown, self._device)))
            return rows

        self._network, self._dtype = settle(network, run, self._device, precision)
        self._scale = Scale(scaling, self._device, self._dtype)

    @property
    def precision(self) -> str:
        """The number format that was chosen: fp32, bf16 or fp16."""
        return precision_name(self._dtype)

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of pictures, (n, dim) float32, row i for item i.

        Args:
            items: files, images in memory, or pictures made ready by `preparation`.
            role: makes no difference to a picture.

        Raises:
            WrongModality: an item is words.
            SourceError: a picture cannot be read.
            ModelError: the numbers overflow in this precision, or memory is too small for one picture.
        """
        pictures = refuse_words(items, self.spec.model)
        rows = np.empty((len(items), self.spec.dim), dtype=np.float32)
        done = 0
        for count, features in self._batches.run(prepared(pictures, self.preparation), self._features):
            rows[done : done + count] = unit_rows(features)
            done += count
        return rows

    def _features(self, inputs: Sequence[Pixels]) -> Tensor:
        with torch.inference_mode():
            features: Tensor = self._network(self._scale(assemble(inputs, self._device)))
        return features


def prepared(
    items: Sequence[Path | Image.Image | Pixels], preparation: Callable[[Image.Image], Pixels]
) -> Iterator[Pixels]:
    """What a network takes of each item, in order, worked out ahead by threads where there is anything to do."""
    ready = [item for item in items if isinstance(item, np.ndarray)]
    return iter(ready) if len(ready) == len(items) else prepare_ahead(items, preparation)


def batches(inputs: Iterator[Pixels], size: int = CPU_BATCH) -> Iterator[list[Pixels]]:
    """Lists of at most `size` inputs, in order."""
    while batch := list(islice(inputs, size)):
        yield batch


def unit_rows(features: Tensor) -> Vectors:
    """Rows (n, dim) of any number format as float32 of length 1.

    A picture that excites nothing (a row of zeros) has no direction; it is given the one that leans to no side,
    so that every row is a unit row.

    Raises:
        ModelError: a number is not finite.
    """
    rows = features.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(rows).all()):
        raise ModelError("the model's numbers overflow in this precision; use --precision fp32 or bf16")
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = torch.where(lengths > 0, rows, torch.ones_like(rows))
    return np.asarray(nn.functional.normalize(rows, dim=1).numpy(), dtype=np.float32)


def refuse_words(items: Sequence[Item], model: str) -> list[Path | Image.Image | Pixels]:
    """The items, all of them pictures; raises WrongModality where one is not."""
    found: list[Path | Image.Image | Pixels] = []
    for item in items:
        if not isinstance(item, Path | Image.Image | np.ndarray):
            raise WrongModality(
                f"'{model}' takes pictures, not words; ask with a picture, or use a CLIP model for the space"
            )
        found.append(item)
    return found


def weights_option(weights: Path | None) -> str | None:
    """A given file of weights as a spec remembers it."""
    return None if weights is None else str(weights.resolve())


def width_of(network: nn.Module, prepare: Callable[[Image.Image], Tensor], what: str) -> int:
    """How many numbers the network gives for a picture, found by showing it two.

    Raises:
        ModelUnavailable: it does not give one row for each picture.
    """
    with torch.inference_mode():
        batch = torch.stack([prepare(Image.new("RGB", (64, 64), grey)) for grey in ("black", "white")])
        output = network.eval()(batch)
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != 2:
        raise ModelUnavailable(f"{what} does not give one vector for each picture; choose another layer")
    return int(output.shape[1])


def refuse_drift(stored: EncoderSpec, found: EncoderSpec) -> None:
    """Raises EncoderDrift where a model was built again from other weights than a space was made with."""
    if found.weights != stored.weights or found.dim != stored.dim:
        raise EncoderDrift(
            f"the weights of {stored.model} are not those that the space was made with "
            f"(sha256 {stored.weights}); put those back, or ingest into a new space"
        )


def moved(weights: Path) -> Path:
    """A weights file that was given by its path; on another machine it may lie in torch's cache."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.name
    return cached if not weights.is_file() and cached.is_file() else weights


def is_offline() -> bool:
    """Whether the user has said that nothing may be downloaded (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    yes = {"1", "ON", "YES", "TRUE"}
    return any(os.environ.get(name, "").upper() in yes for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file: safetensors by its suffix, else a state dict saved by torch.

    Never runs code from the file. A state dict inside a training checkpoint is found, and prefixes that
    wrappers leave on all keys are taken off.

    Raises:
        ModelUnavailable: the file is missing or does not hold plain tensors.
    """
    if not path.is_file():
        raise ModelUnavailable(
            f"there is no weights file {path}; give the path of a .safetensors or .pth file"
        )
    try:
        if path.suffix == ".safetensors":
            held: object = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelUnavailable(
            f"weights file {path} cannot be read as plain tensors ({reason[0].rstrip('.')}); "
            "give a safetensors file, or a state dict saved with torch.save"
        ) from error
    for key in _NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(v, Tensor) for v in held.values()):
        raise ModelUnavailable(
            f"weights file {path} holds no state dict; give a safetensors file, or torch.save(model.state_dict())"
        )
    return _stripped({str(key): value for key, value in held.items()})


def _stripped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _KEY_PREFIXES:
        if all(key.startswith(prefix) for key in state):
            return _stripped({key[len(prefix) :]: value for key, value in state.items()})
    return state


def fill_network(
    network: nn.Module, state: Mapping[str, Tensor], *, unused: Sequence[str], name: str, path: Path
) -> None:
    """Puts weights into a network, all of them, in place.

    Args:
        network: the network to fill.
        state: tensors by name.
        unused: names of the network's modules that will not run (a classifier of other classes may differ).
        name: what the network is called, for the message.
        path: where the weights come from, for the message.

    Raises:
        ModelUnavailable: a tensor is missing, left over, or of another shape; the first one is named.
    """
    below = tuple(f"{module}." for module in unused)
    wanted = {key: value for key, value in network.state_dict().items() if not key.startswith(below)}
    given = {key: value for key, value in state.items() if not key.startswith(below)}
    advice = f"give the weights of {name}, or name the network that they belong to"
    for key, value in wanted.items():
        if key not in given:
            if key.endswith("num_batches_tracked"):  # only training reads it, and old files lack it
                continue
            raise ModelUnavailable(f"weights file {path} lacks '{key}' of {name}; {advice}")
        if given[key].shape != value.shape:
            shapes = f"{tuple(given[key].shape)} where {name} has {tuple(value.shape)}"
            raise ModelUnavailable(f"in weights file {path} '{key}' is {shapes}; {advice}")
    for key in given:
        if key not in wanted:
            raise ModelUnavailable(f"weights file {path} holds '{key}', which {name} has not; {advice}")
    network.load_state_dict(_versioned(given, network), strict=False)


def _versioned(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """`state` with the version marks that torch's own loading looks for (MNASNet insists on them)."""
    marked = network.state_dict()
    marked.clear()
    marked.update(state)
    return marked
