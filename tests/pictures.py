"""Made pictures that several tests look at, and a model for pictures whose vectors can be worked out by hand."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from search.encoders.contract import Item, PictureModel, Pixels, Role, Vectors
from search.encoders.pictures import open_picture
from search.types import EncoderSpec, Modality


def save(
    file: Path, colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (8, 6), **more: object
) -> Path:
    """A picture of one colour, in the format of the file's suffix."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file, **more)
    return file


def png(colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (8, 6)) -> bytes:
    """The bytes of a PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A well-formed PNG of a few bytes that says it is of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


class MeanColour:
    """A preparation: the mean colour of a picture, as one pixel (3, 1, 1) float32."""

    def __call__(self, picture: Image.Image) -> Pixels:
        return np.asarray(picture, dtype=np.float32).mean(axis=(0, 1)).reshape(3, 1, 1)


class ColourModel(PictureModel):
    """A picture's vector is its mean colour, of length 1; black is given the direction of grey."""

    def __init__(self) -> None:
        self.spec = EncoderSpec("colour", "colour", Modality.IMAGE, 3, ("image",))
        self.preparation = MeanColour()
        self.seen: list[Item] = []

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        self.seen += items
        ready = [one if isinstance(one, np.ndarray) else self.preparation(open_picture(one)) for one in items]  # type: ignore[arg-type]
        rows = np.array([one.reshape(3) for one in ready], dtype=np.float32).reshape(-1, 3)
        rows[~rows.any(axis=1)] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
