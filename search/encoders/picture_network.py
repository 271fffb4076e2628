"""The networks that are learned from the user's own pictures: a small residual one, or one of torchvision's, bare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search.encoders.load import SMALL_NETWORK
from search.errors import ModelUnavailable

STAGES = 4
TORCHVISION = "torchvision:"


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """What a learned network is, as it stands in its file.

    `network` is "small" or "torchvision:NAME". It takes pictures of side x side pixels and `channels` 1 (grey) or 3;
    `width` is the number of channels of the small network's first stage, doubled at each of the next three (0 for
    torchvision's).
    """

    network: str
    side: int
    channels: int
    width: int


class _Block(nn.Module):
    """Two convolutions and a short cut around them; the first block of a stage halves the map and widens it."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(entering, leaving, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(leaving)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or entering != leaving:
            self.short = nn.Sequential(
                nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving)
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.first(maps)))
        return torch.relu(self.norm2(self.second(inner)) + self.short(maps))


class PictureNetwork(nn.Module):
    """A network with two outputs: one that is learned by, and one that pictures are compared by afterwards."""

    def describe(self, batch: Tensor) -> Tensor:
        """What pictures are compared by: (n, channels, side, side) to (n, features). By default the same."""
        features: Tensor = self(batch)
        return features


class SmallNetwork(PictureNetwork):
    """A residual network for pictures of 16 to 128 pixels: (n, channels, side, side) to (n, 8 * width).

    He et al. 2016, "Deep residual learning for image recognition", sec. 4.2, with one block a stage and four stages.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        # The map that is averaged in the end is 3 to 4 pixels a side, whatever the picture (up to 64).
        halvings = max(0, (shape.side - 1).bit_length() - 2)
        width = shape.width
        stem_stride = 2 if halvings >= STAGES else 1
        self.stem = nn.Conv2d(shape.channels, width, 3, stem_stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        left = halvings - (stem_stride - 1)
        blocks: list[nn.Module] = []
        entering = width
        for stage in range(STAGES):
            leaving = width * 2**stage
            stride = 2 if stage > 0 and STAGES - stage <= left else 1
            blocks.append(_Block(entering, leaving, stride))
            entering = leaving
        self.blocks = nn.Sequential(*blocks)

    def forward(self, batch: Tensor) -> Tensor:
        return self._stages(batch)[-1].mean((2, 3))

    def describe(self, batch: Tensor) -> Tensor:
        """The last two stages averaged in each quadrant of the picture: (n, 48 * width).

        What is where counts among pictures that show one thing each, and the stage before the last has kept more of it.
        """
        last_two = self._stages(batch)[-2:]
        quadrants = [nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1) for maps in last_two]
        return torch.cat(quadrants, dim=1)

    def _stages(self, batch: Tensor) -> list[Tensor]:
        maps = torch.relu(self.norm(self.stem(batch)))
        stages = []
        for block in self.blocks:
            maps = block(maps)
            stages.append(maps)
        return stages


def build(shape: NetworkShape) -> PictureNetwork:
    """The bare network of a shape, with random weights.

    Raises:
        ModelUnavailable: there is no such network, or it does not take such pictures.
    """
    if not 8 <= shape.side <= 512 or shape.channels not in (1, 3) or not 0 <= shape.width <= 256:
        raise ModelUnavailable(
            f"there is no learned network for pictures of {shape.side} pixels and {shape.channels} channels; "
            "take a side of 8 to 512"
        )
    if shape.network == SMALL_NETWORK and shape.width > 0:
        return SmallNetwork(shape)
    if shape.network.startswith(TORCHVISION) and shape.channels == 3:
        return _torchvision(shape.network.removeprefix(TORCHVISION), shape.side)
    raise ModelUnavailable(
        f"'{shape.network}' is no network that can be learned here; use {SMALL_NETWORK} or {TORCHVISION}resnet18"
    )


class _Bare(PictureNetwork):
    """A classification network of torchvision without its classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Tensor) -> Tensor:
        features: Tensor = self.network(batch)
        return features


def _torchvision(name: str, side: int) -> PictureNetwork:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ModelUnavailable(
            f"torchvision has no classification network '{name}'; use {TORCHVISION}resnet18, or another of them"
        )
    network: nn.Module = models.get_model(name, weights=None)
    head = next(one for one in ("fc", "classifier", "heads", "head") if hasattr(network, one))
    setattr(network, head, _Averaged())
    _try(network, name, side)
    return _Bare(network)


class _Averaged(nn.Module):
    """In the classifier's place: maps averaged over their positions, rows as they are."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3)) if features.ndim == 4 else features


def _try(network: nn.Module, name: str, side: int) -> None:
    """Refuse a network that does not give a row for each picture of that side while it is trained."""
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    try:
        with torch.no_grad():
            output = network.train()(torch.zeros(2, 3, side, side))
        fits = isinstance(output, Tensor) and output.ndim == 2
        why = "it does not give one vector for each picture"
    except (RuntimeError, ValueError, AssertionError) as error:
        fits, why = False, " ".join(str(error).split())
    if not fits:
        raise ModelUnavailable(
            f"torchvision's {name} cannot be learned from pictures of {side} x {side} pixels ({why}); "
            f"use {TORCHVISION}resnet18, or leave --model out"
        )
    network.load_state_dict(kept)  # as the trial has moved the averages of its normalisations
