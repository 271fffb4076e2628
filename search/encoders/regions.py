"""Cuts regions out of pictures: the same pixels for a box of a stored part as for the region of a query."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from search.errors import QueryError

if TYPE_CHECKING:
    from PIL.Image import Image

Box: TypeAlias = "tuple[float, float, float, float]"
_ROUNDING = 1e-3  # of a pixel: what a box may stand out by, since it was worked out in float32


def region_of(given: Any) -> Box:
    """(x, y, width, height) in pixels, from four numbers.

    Raises:
        QueryError: they are no region.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 4:
        raise QueryError(
            f"the region is {given!r}; give four numbers, x, y, width and height, in pixels of the picture"
        )
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not isfinite(one) for one in given):
        raise QueryError(f"the region {tuple(given)!r} holds what is no number; give x, y, width and height")
    x, y, width, height = map(float, given)
    if width <= 0 or height <= 0:
        raise QueryError(f"the region is {width:g} x {height:g} pixels; give a width and a height above 0")
    return x, y, width, height


def cut_out(picture: Image, box: Box) -> Image:
    """The pixels that a box touches, of an upright picture.

    Args:
        picture: as it is shown.
        box: x, y, width and height in its pixels, from the upper left corner; whole pixels are taken, from the
            largest whole numbers at or below its upper left to the least at or above its lower right.

    Raises:
        QueryError: it reaches beyond the picture.
    """
    x, y, width, height = box
    left, top = floor(x + _ROUNDING), floor(y + _ROUNDING)
    right, bottom = max(ceil(x + width - _ROUNDING), left + 1), max(ceil(y + height - _ROUNDING), top + 1)
    if left < 0 or top < 0 or right > picture.width or bottom > picture.height:
        raise QueryError(
            f"the region {x:g},{y:g},{width:g},{height:g} reaches beyond the picture, which is "
            f"{picture.width} x {picture.height} pixels as it is shown; give one inside it"
        )
    return picture.crop((left, top, right, bottom))
