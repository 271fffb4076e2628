"""Hidden layers of picture networks: which there are, how one is tapped, and how its output becomes one row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from search.errors import ModelError, ModelUnavailable

GEM_POWER = 3.0  # Radenović et al. 2018 start from it, and learn 2.2 to 3.4
_GEM_LEAST = 1e-6


class PicturePooling(StrEnum):
    """How the positions of a map, or the tokens of a sequence, become one row."""

    AVG = "avg"
    GEM = "gem"
    MAX = "max"
    CLS = "cls"


@dataclass(frozen=True, slots=True)
class Layer:
    """A hidden layer: its name, and the shape of its output for one picture."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """What stands in a transformer's sequence beside the patches of the picture.

    Args:
        length: how many tokens it has in all; None where that depends on the picture, 0 where there is none.
        prefix: how many of them, at its start, are no patches.
        has_class: whether the first of those is a class token.
    """

    length: int | None = 0
    prefix: int = 0
    has_class: bool = False

    def begins(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens begins with the prefix (before it is joined, they are fewer)."""
        return self.prefix > 0 and self.length in (None, tokens)


NO_SEQUENCE = Sequence()


def parse_pooling(word: str | None, model: str) -> PicturePooling | None:
    """The pooling of that name; "mean", as texts have it, is avg.

    Raises:
        ModelError: there is no such pooling of pictures.
    """
    if word is None:
        return None
    try:
        return PicturePooling("avg" if word == "mean" else word)
    except ValueError:
        raise ModelError(f"'{model}' has no pooling '{word}'; use {', '.join(PicturePooling)}") from None


class Pool(nn.Module):
    """Any output of a layer as rows (n, channels).

    Args:
        pooling: None averages maps, and takes the class token of a sequence where there is one, else the mean.
            "gem" is the generalised mean with power 3, in which strong positions count more; what is below 0
            counts as 0 (Radenović, Tolias & Chum 2018, "Fine-tuning CNN image retrieval with no human
            annotation", sec. 3.2).
        sequence: what a sequence holds beside patches, which avg, gem and max leave out.
        what: what is pooled, for messages.
    """

    def __init__(
        self,
        pooling: PicturePooling | None = None,
        sequence: Sequence = NO_SEQUENCE,
        what: str = "this layer",
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.sequence = sequence
        self.what = what

    def forward(self, output: Tensor) -> Tensor:
        pooling = self.pooling
        if output.ndim == 3 and self.sequence.begins(output.shape[1]):
            if pooling is PicturePooling.CLS or (pooling is None and self.sequence.has_class):
                self._refuse_class(self.sequence.has_class)
                return output[:, 0]
            output = output[:, self.sequence.prefix :]
        if output.ndim not in (3, 4):
            if pooling is not None and output.ndim == 2:
                raise ModelError(f"{self.what} is one vector already; leave --pooling out")
            return output
        self._refuse_class(pooling is not PicturePooling.CLS)
        across = _positions(output)
        if pooling is PicturePooling.MAX:
            return output.amax(across)
        if pooling is PicturePooling.GEM:
            # Cubes leave the range of 16-bit numbers.
            powers = output.float().clamp(min=_GEM_LEAST).pow(GEM_POWER)
            return powers.mean(across).pow(1 / GEM_POWER)
        return output.mean(across)

    def _refuse_class(self, there: bool) -> None:
        if not there:
            raise ModelError(f"{self.what} has no class token; use --pooling avg, gem or max")


def _positions(output: Tensor) -> tuple[int, ...]:
    """The dimensions that are positions, not channels."""
    if output.ndim == 3:
        return (1,)
    # Swin keeps channels last; inputs are square, so two equal sides tell where they are.
    return (1, 2) if output.shape[1] == output.shape[2] != output.shape[3] else (2, 3)


class _Reached(Exception):
    """Ends a network's work where the wanted layer has given its output."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class Tapped(nn.Module):
    """A network up to one of its modules, the first time that it runs, and a pooling of what that gives.

    What comes behind it is not computed. Nothing is kept between calls, so threads may share it.
    """

    def __init__(self, network: nn.Module, layer: str, pool: Pool) -> None:
        super().__init__()
        self.network = network
        self.layer = layer
        self.pool = pool
        network.get_submodule(layer).register_forward_hook(_stop)

    @property
    def tap(self) -> nn.Module:
        """The module whose output is taken."""
        return self.network.get_submodule(self.layer)

    def forward(self, batch: Tensor) -> Tensor:
        try:
            self.network(batch)
        except _Reached as reached:
            output = bare(reached.output)
            if output is not None:
                pooled: Tensor = self.pool(output)
                return pooled
        raise ModelUnavailable(f"layer '{self.layer}' gives nothing for a picture; choose another layer")


def _stop(module: nn.Module, inputs: Any, output: Any) -> NoReturn:
    raise _Reached(output)


def bare(output: Any) -> Tensor | None:
    """The tensor in a module's output, the first one where it gives several."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def hooked_layers(network: nn.Module, run: Callable[[nn.Module], object]) -> list[Layer]:
    """The modules of a network that give a tensor for each picture, in the order in which they begin.

    Args:
        network: it may be on torch's meta device, where nothing is computed.
        run: shows it two pictures.
    """
    shapes: dict[str, tuple[int, ...] | None] = {}

    def begun(name: str, module: nn.Module, inputs: Any) -> None:
        shapes.setdefault(name, None)

    def done(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = bare(output)
        if shapes[name] is None and tensor is not None and tensor.ndim >= 2 and tensor.shape[0] == 2:
            shapes[name] = tuple(tensor.shape[1:])

    hooks = []
    for name, module in network.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(partial(begun, name)))
            hooks.append(module.register_forward_hook(partial(done, name)))
    try:
        with torch.inference_mode():
            run(network)
    finally:
        for hook in hooks:
            hook.remove()
    return [Layer(name, shape) for name, shape in shapes.items() if shape is not None]


def refuse_unknown(layer: str, known: Iterable[str], model: str) -> None:
    """Raises ModelUnavailable, with names near to it, where a network has no such layer."""
    names = list(known)
    if layer in names:
        return
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0.4) or [n for n in names if "." not in n][:8]
    raise ModelUnavailable(
        f"{model.partition(':')[2] or model} has no layer '{layer}'; some that it has: {', '.join(near)} "
        f"(all: nearkin models {model} --layers)"
    )
