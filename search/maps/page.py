"""A map as a page that needs nothing beside it, or as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.errors import QueryError
from search.maps.colours import Colours
from search.partial import whole
from search.types import Place
from search.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_LETTERS = 200
_WIDE, _HIGH, _MARGIN = 1600, 1200, 40
_LEGEND = 300  # pixels on the right of a picture, where there is a legend
_TWICE = 2  # a picture is drawn larger, and made smaller for smooth edges


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn: places with their colours, and what is said above them."""

    title: str
    told: str
    places: Sequence[Place]
    colours: Colours


def write(path: Path, drawing: Drawing) -> None:
    """Write a page (.html) or a picture (.png), whole or not at all; an older file of the name is replaced.

    Raises:
        QueryError: the suffix is of neither.
        CollectionError: it cannot be written there.
    """
    check_suffix(path)
    with whole(path, replace=True) as place:
        if path.suffix.lower() == ".png":
            picture(drawing).save(place, format="PNG")
        else:
            place.write_text(page(drawing), encoding="utf-8", errors="replace")


def check_suffix(path: Path) -> None:
    """Refuse a name that does not say what to write.

    Raises:
        QueryError: its suffix is neither .html nor .png.
    """
    if path.suffix.lower() not in (".html", ".htm", ".png"):
        raise QueryError(f"a map is written as .html or .png, not as '{path.name}'; give such a name")


def page(drawing: Drawing) -> str:
    """The page; whatever comes from records stands in it as data, and is shown as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    colours = list(dict.fromkeys(drawing.colours.of_point))
    number = {colour: k for k, colour in enumerate(colours)}
    scaled = _within(drawing.places)
    points = [
        [round(x, 4), round(y, 4), number[colour], one.id, _short(one)]
        for (x, y), colour, one in zip(scaled.tolist(), drawing.colours.of_point, drawing.places, strict=True)
    ]
    data = {"points": points, "colours": colours, "legend": drawing.colours.legend}
    environment = Environment(
        loader=PackageLoader("search.maps", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("map.html.j2").render(
        title=drawing.title, told=drawing.told, data=_in_script(data), version=__version__
    )


def _in_script(data: object) -> str:
    """JSON that may stand in a script element: no letter in it can end that."""
    told = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return told.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _short(place: Place) -> str:
    text = place.text or ", ".join(f"{name}={value}" for name, value in place.metadata.items())
    words = " ".join(text.split())
    return words if len(words) <= _MOST_LETTERS else words[: _MOST_LETTERS - 1] + "…"


def _within(places: Sequence[Place]) -> NDArray[np.float64]:
    """The places (n, 2) between 0 and 1, with one scale for both directions."""
    xy = np.array([(one.x, one.y) for one in places], np.float64).reshape(-1, 2)
    low, high = xy.min(axis=0), xy.max(axis=0)
    span = float((high - low).max()) or 1.0
    scaled: NDArray[np.float64] = (xy - (low + high) / 2) / span + 0.5
    return scaled


def picture(drawing: Drawing) -> Image:
    """The map as a picture, with its legend beside it."""
    from PIL import Image, ImageDraw, ImageFont

    legend = drawing.colours.legend
    image = Image.new("RGB", (_WIDE * _TWICE, _HIGH * _TWICE), "white")
    pen = ImageDraw.Draw(image)
    room = np.array([_WIDE - (_LEGEND if legend else 0) - 2 * _MARGIN, _HIGH - 3 * _MARGIN], np.float64)
    side = room.min()
    corner = np.array([_MARGIN, 2 * _MARGIN]) + (room - side) / 2
    radius = _TWICE * float(np.clip(120 / max(len(drawing.places), 1) ** 0.5, 1.5, 6))
    scaled = _within(drawing.places)
    for (x, y), colour in zip(scaled.tolist(), drawing.colours.of_point, strict=True):
        at_x, at_y = _TWICE * (corner[0] + side * x), _TWICE * (corner[1] + side * (1 - y))
        pen.ellipse((at_x - radius, at_y - radius, at_x + radius, at_y + radius), fill=colour)
    font = ImageFont.load_default(size=20 * _TWICE)
    pen.text((_MARGIN * _TWICE, _MARGIN * _TWICE), _printable(drawing.title), fill="black", font=font)
    for number, (name, colour) in enumerate(legend):
        left, top = _TWICE * (_WIDE - _LEGEND), _TWICE * (2 * _MARGIN + 32 * number)
        pen.rectangle((left, top, left + 20 * _TWICE, top + 20 * _TWICE), fill=colour)
        pen.text((left + 30 * _TWICE, top - 3 * _TWICE), _printable(name)[:24], fill="black", font=font)
    return image.resize((_WIDE, _HIGH), Image.Resampling.LANCZOS)


def _printable(text: str) -> str:
    """In one line, without what no font can draw."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
