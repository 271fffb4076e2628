"""Scikit-learn's handwritten digits as a folder of PNG files, and how well neighbours agree on what they show."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

Pixels: TypeAlias = NDArray[np.uint8]

SHADES = 16  # the digits' pixels are 0 (paper) to 16 (ink)
_AT_ONCE = 512  # rows compared with all others in one step, so that memory stays small


@dataclass(frozen=True, slots=True)
class Pictures:
    """Handwritten digits: `pixels` (n, 8, 8), 0..16, and the digit that each shows, `labels` (n,)."""

    pixels: Pixels
    labels: NDArray[np.int64]


def digits(n: int | None = None) -> Pictures:
    """The first `n` digits, or all 1,797.

    (Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits"; the test part, as scikit-learn has it.)
    """
    data = load_digits()
    return Pictures(data.images[:n].astype(np.uint8), data.target[:n].astype(np.int64))


def write_digits(folder: Path, pictures: Pictures) -> list[Path]:
    """Write each as a PNG in a folder named after its digit; the paths, in order.

    A file that is there with the same bytes is left alone.
    """
    paths = []
    for number, (picture, label) in enumerate(zip(pictures.pixels, pictures.labels.tolist(), strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _png(picture)
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
        paths.append(path)
    return paths


def _png(picture: Pixels) -> bytes:
    """Ink is white on black, as in the data, spread over the whole range of a byte."""
    grey = np.rint(picture * (255 / SHADES)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def read_digit(path: Path) -> Pixels:
    """The pixels (8, 8), 0..16, of a file that `write_digits` wrote."""
    with Image.open(path) as picture:
        return np.rint(np.asarray(picture, dtype=np.float64) * (SHADES / 255)).astype(np.uint8)


def agreement_of_pixels(pictures: Pictures) -> float:
    """How often the nearest other picture, by the plain distance of the pixels, shows the same digit."""
    labels = pictures.labels
    rows = pictures.pixels.reshape(len(labels), -1).astype(np.float32)
    squares = np.square(rows).sum(axis=1)
    right = 0
    for begin in range(0, len(rows), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        distance = squares - 2 * rows[some] @ rows.T
        distance[np.arange(len(distance)), np.arange(len(distance)) + begin] = np.inf
        right += int(np.count_nonzero(labels[distance.argmin(axis=1)] == labels[some]))
    return right / len(rows)
