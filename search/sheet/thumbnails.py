"""Small pictures for a page: from what the collection keeps, else made now from the record's file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from search.encoders.pictures import SUFFIXES, PictureFile, named, open_picture, read_header
from search.encoders.regions import Box
from search.errors import NearkinError
from search.types import Json

SIDE = 256
_QUALITY = 80

# The stored thumbnail of a record by its id, a WebP file; None where there is none.
Stored = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Outline:
    """A box as shares, in per cent, of the picture's width and height."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data URL, or the reason why there is none; both None where a record is no picture."""

    data: str | None = None
    reason: str | None = None
    outline: Outline | None = None


NONE = Thumbnail()


def of_record(
    id: str, uri: str | None, metadata: Mapping[str, Json], box: Box | None, stored: Stored | None
) -> Thumbnail:
    """The picture of a record, with a box in it."""
    kept = None if stored is None else stored(id)
    if kept is not None:
        size = (metadata.get("width"), metadata.get("height"))
        return Thumbnail(_url(kept, "webp"), None, _outline(box, size))
    path = None if uri is None else _local(uri)
    if path is None or path.suffix.lower() not in SUFFIXES:
        return NONE
    frame = metadata.get(
        "frame"
    )  # from 1: ingest gives it to each frame of an animation, each page of a file
    if isinstance(frame, int) and frame > 1:
        return of_picture(PictureFile(str(path), path, frame - 1), box)
    return of_picture(path, box)


def of_picture(item: Path | PictureFile, box: Box | None = None) -> Thumbnail:
    """A picture in a file, with a box in it."""
    try:
        if isinstance(item, Path):
            header = read_header(item)
            size = (header.width, header.height)
            picture = open_picture(item, at_least=SIDE)
        else:
            picture = open_picture(item)
            size = picture.size
    except (NearkinError, OSError, EOFError) as error:
        what_is_wrong = str(error).removeprefix(f"{named(item)}: ").partition(";")[0]
        return Thumbnail(reason=what_is_wrong)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=_QUALITY)
    return Thumbnail(_url(file.getvalue(), "webp"), None, _outline(box, size))


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _outline(box: Box | None, size: tuple[Any, Any]) -> Outline | None:
    """Where the box is drawn; None where it is not known how large the picture is."""
    if box is None or not all(isinstance(side, int | float) and side > 0 for side in size):
        return None
    width, height = size
    x, y, across, down = box
    return Outline(100 * x / width, 100 * y / height, 100 * across / width, 100 * down / height)


def _local(uri: str) -> Path | None:
    """The path of a file on this machine; nothing is fetched from elsewhere."""
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        return Path(unquote(parts.path)) if parts.netloc in ("", "localhost") else None
    return None if "://" in uri or "\0" in uri else Path(uri)
