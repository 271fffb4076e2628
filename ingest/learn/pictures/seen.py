"""Pictures as a network that is learned from them sees them: of which size, in colour or grey, in which views."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.learn.pictures.augment import GLYPHS, PHOTOGRAPHS, Augmentation
from ingest.learn.pictures.settings import SimclrSettings
from search.encoders.learned_pictures import pixels
from search.encoders.pictures import Openable, available_cores, open_picture, read_header
from search.errors import SourceError

Pixels = NDArray[np.uint8]

SMALLEST_SIDE, LARGEST_SIDE = 16, 64
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """Different pictures, (n, channels, side, side) uint8, and how far views of them may be from them."""

    pixels: Pixels
    augmentation: Augmentation

    @property
    def side(self) -> int:
        """Of a picture, in pixels."""
        return int(self.pixels.shape[2])

    @property
    def channels(self) -> int:
        """1 where all are grey, else 3."""
        return int(self.pixels.shape[1])


def see(pictures: Sequence[Openable], settings: SimclrSettings) -> Seen:
    """What is learned from: those that can be read, equal ones once, in their order.

    Pictures that are all grey and no larger than 64 pixels are taken for glyphs, whose views are moved, turned a
    little and never mirrored; all others for photographs.

    Raises:
        SourceError: fewer than two different pictures can be read.
    """
    chosen = _sample(pictures, settings)
    own = _own_side(chosen)
    side = settings.side if settings.side is not None else min(max(own, SMALLEST_SIDE), LARGEST_SIDE)
    found = _read(chosen, side)
    if not len(found):
        raise SourceError("none of the pictures can be read; give at least two that can")
    is_grey = bool((found[:, :1] == found[:, 1:]).all())
    if is_grey and settings.is_small:
        found = np.ascontiguousarray(found[:, :1])
    found = _different(found)
    if len(found) < 2:
        raise SourceError(
            f"of {len(pictures):,} pictures that were given no two differ, and a network learns by telling them "
            "apart; give more, or use --learn patches"
        )
    how = GLYPHS if is_grey and own <= LARGEST_SIDE else PHOTOGRAPHS
    return Seen(found, how if settings.flip is None else replace(how, flip=settings.flip))


def _sample(pictures: Sequence[Openable], settings: SimclrSettings) -> list[Openable]:
    if len(pictures) <= settings.most_pictures:
        return list(pictures)
    random = np.random.default_rng(settings.seed)
    return [pictures[i] for i in np.sort(random.choice(len(pictures), settings.most_pictures, replace=False))]


def _own_side(pictures: Sequence[Openable]) -> int:
    """The median of the pictures' sides, in pixels (of the first thousand); 0 where none can be read."""
    sides = []
    for picture in pictures[:1000]:
        try:
            header = picture if isinstance(picture, Image.Image) else read_header(picture)
        except SourceError:
            continue
        sides.append(math.sqrt(header.width * header.height))
    return round(float(np.median(sides))) if sides else 0


def _read(pictures: Sequence[Openable], side: int) -> Pixels:
    """Those that can be read, (n, 3, side, side)."""

    def one(picture: Openable) -> Pixels | None:
        try:
            return pixels(open_picture(picture), side, 3)
        except SourceError:
            return None

    found: list[Pixels] = []
    with ThreadPoolExecutor(min(4, available_cores())) as threads:
        for start in range(0, len(pictures), _BATCH):
            several = threads.map(one, pictures[start : start + _BATCH])
            found += [picture for picture in several if picture is not None]
    return np.stack(found) if found else np.empty((0, 3, side, side), np.uint8)


def _different(found: Pixels) -> Pixels:
    """Equal pictures once: two views of the same one must not be told apart."""
    hashes = [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in found]
    first = {mark: place for place, mark in reversed(list(enumerate(hashes)))}
    return found if len(first) == len(found) else found[sorted(first.values())]
