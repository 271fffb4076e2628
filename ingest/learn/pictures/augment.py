"""Random views of pictures for self-supervised learning, worked out for a whole batch on the device that learns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Red, green and blue to lightness and two colour axes (NTSC's YIQ): a turn in the plane of the axes changes the hue.
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_LIGHTNESS = _TO_YIQ[0]
_JITTERED = 0.8  # the share of views whose colours are changed, as in the paper
_WIDEST_BLUR = 1 / 64  # of the side: the paper's 2 pixels of 224, a little more


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a view may be from the picture that it is of.

    Args:
        least_area: of a crop, as a share of the picture's; crops are resized to the whole.
        aspect: the most by which a crop is wider or higher than the picture, as a factor.
        turn: the most that a view is turned by to either side, in degrees.
        flip: whether half of the views are mirrored.
        jitter: strength of changes of brightness, contrast and, where there are colours, of saturation and hue.
        grey: share of views without colours.
        blur: share of views that are blurred.
    """

    least_area: float = 0.2
    aspect: float = 4 / 3
    turn: float = 0.0
    flip: bool = True
    jitter: float = 0.8
    grey: float = 0.2
    blur: float = 0.5


PHOTOGRAPHS = Augmentation()
# A glyph that is mirrored, or of which a corner is shown, is another glyph; so it is only moved about a little.
GLYPHS = Augmentation(least_area=0.5, aspect=1.2, turn=15.0, flip=False, jitter=0.4, grey=0.0, blur=0.25)


def views(pictures: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """One random view of each picture: (n, channels, side, side) float32 from 0 to 1, on the pictures' device.

    Crop, turn and mirroring are one resampling, the changes of colour one matrix (Chen et al. 2020, "A simple
    framework for contrastive learning of visual representations", appendix A). What is random is drawn on the
    processor, so that the same generator gives the same views on any device, up to rounding.

    Args:
        pictures: (n, channels, side, side) uint8, of 1 or 3 channels.
        how: the limits.
        generator: of the processor; it moves on.
    """
    device = pictures.device
    drawn = _Drawn(len(pictures), generator)
    lying = _placement(drawn, how).to(device)
    grid = nn.functional.affine_grid(lying, list(pictures.shape), align_corners=False)
    seen = nn.functional.grid_sample(
        pictures.to(torch.float32).div_(255), grid, padding_mode="border", align_corners=False
    )
    seen = _recoloured(seen, drawn, how)
    return _blurred(seen, drawn, how) if how.blur > 0 else seen


class _Drawn:
    """Random numbers, one for each picture."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self._n = n
        self._generator = generator

    def uniform(self, least: float, greatest: float) -> Tensor:
        return torch.rand(self._n, generator=self._generator) * (greatest - least) + least

    def chosen(self, share: float) -> Tensor:
        return torch.rand(self._n, generator=self._generator) < share


def _placement(drawn: _Drawn, how: Augmentation) -> Tensor:
    """Where in its picture each view lies: (n, 2, 3), from the view's coordinates to the picture's, both -1 to 1."""
    area = drawn.uniform(how.least_area, 1.0)
    ratio = torch.exp(drawn.uniform(-math.log(how.aspect), math.log(how.aspect)))
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    right, down = drawn.uniform(-1, 1) * (1 - wide), drawn.uniform(-1, 1) * (1 - high)
    mirror = torch.where(drawn.chosen(0.5), -1.0, 1.0) if how.flip else torch.ones_like(wide)
    angle = drawn.uniform(-math.radians(how.turn), math.radians(how.turn))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rows = [wide * cosine * mirror, -wide * sine, right, high * sine * mirror, high * cosine, down]
    return torch.stack(rows, dim=1).reshape(-1, 2, 3)


def _recoloured(seen: Tensor, drawn: _Drawn, how: Augmentation) -> Tensor:
    """Brightness and contrast, and where there are three channels saturation, hue and greyness."""
    n, channels = seen.shape[:2]
    changed = drawn.chosen(_JITTERED)
    reach = min(0.8 * how.jitter, 0.95)
    factors = [torch.where(changed, drawn.uniform(1 - reach, 1 + reach), 1.0) for _ in range(3)]
    brightness, contrast, saturation = factors
    hue = torch.where(changed, drawn.uniform(-0.2 * how.jitter, 0.2 * how.jitter), 0.0) * 2 * math.pi
    saturation = torch.where(drawn.chosen(how.grey), 0.0, saturation)
    if channels == 3:
        to_yiq = torch.tensor(_TO_YIQ)
        turned = torch.zeros(n, 3, 3)
        turned[:, 0, 0] = 1
        turned[:, 1, 1] = turned[:, 2, 2] = saturation * torch.cos(hue)
        turned[:, 1, 2] = -saturation * torch.sin(hue)
        turned[:, 2, 1] = saturation * torch.sin(hue)
        matrix = (torch.linalg.inv(to_yiq) @ turned @ to_yiq).to(seen.device)
        lightness = torch.tensor(_LIGHTNESS, device=seen.device)
        middle = (seen.mean((2, 3)) @ lightness)[:, None, None, None]
        seen = torch.einsum("nij,njhw->nihw", matrix, seen)
    else:
        middle = seen.mean((1, 2, 3), keepdim=True)
    brightness, contrast = (one.to(seen.device)[:, None, None, None] for one in (brightness, contrast))
    return (((seen - middle) * contrast + middle) * brightness).clamp_(0, 1)


def _blurred(seen: Tensor, drawn: _Drawn, how: Augmentation) -> Tensor:
    """A Gaussian blur of a random width on some of the views."""
    n, channels, side = seen.shape[:3]
    widest = max(side * _WIDEST_BLUR, 0.5)
    radius = math.ceil(2 * widest)
    widths = torch.where(drawn.chosen(how.blur), drawn.uniform(0.1, widest), 0.01)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / widths[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0).to(seen.device)
    flat = nn.functional.pad(seen.reshape(1, n * channels, side, -1), [radius] * 4, mode="replicate")
    flat = nn.functional.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    flat = nn.functional.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    return flat.reshape(seen.shape)
