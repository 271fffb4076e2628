"""Learns the patches encoder from the user's own pictures, in seconds, without labels and without a download."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from search.encoders.patches import Centroids, PatchesShape, PatchFeatures, pixels, to_bytes
from search.encoders.pictures import available_cores, open_picture, prepare_ahead

from search.errors import SourceError

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]

# Ten grey levels of 255: below that contrast a patch is noise, and is not blown up.
CONTRAST = 10.0 / 255.0**2
SMALLEST_SIDE = 8
_BATCH = 64


@dataclass(frozen=True, slots=True)
class PatchesSettings:
    """How to learn; the defaults suit digits of 8 x 8 pixels and photographs alike.

    Args:
        dim: width of the vectors.
        k: number of centroids.
        patch: side of a patch, in pixels of the resized picture.
        side: what pictures are resized to, in pixels; None takes their own size where they are small, else 32,
            where a patch of 6 covers a telling piece of the thing shown.
        grid: pooling cells a side; 2 makes quadrants.
        colour: whether colours count. Off, shape alone decides what is alike.
        whitening: added to the variances of patches, whose contrast is 1, before dividing by them.
        most_pictures: how many pictures are looked at; a sample of a larger set.
        patches: how many patches the centroids are learned from.
        seed: for the samples and for k-means.
    """

    dim: int = 256
    k: int = 400
    patch: int = 6
    side: int | None = None
    grid: int = 2
    colour: bool = False
    whitening: float = 0.1
    most_pictures: int = 5000
    patches: int = 60_000
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.dim, self.k, self.grid, self.most_pictures, self.patches)
        if min(counts) < 1 or self.patch < 2 or self.whitening <= 0:
            raise SourceError("settings of patches must be positive, and a patch at least 2 pixels; correct them")
        if self.side is not None and self.side < self.patch:
            raise SourceError(f"a patch of {self.patch} does not fit a side of {self.side}; make the side larger")


def learn_patches(
    pictures: Sequence[Path | Image.Image],
    settings: PatchesSettings = PatchesSettings(),  # noqa: B008  # frozen
    *,
    progress: Progress | None = None,
) -> bytes:
    """An encoder learned from pictures, as the bytes of a safetensors file for PatchesEncoder.

    Patches are taken at random places, normalised, and whitened (ZCA); k-means finds centroids; pictures are
    described by them, and the descriptions are turned to their `dim` strongest directions, each scaled to
    variance 1. The same pictures, settings and seed give the same encoder. Of fewer pictures than directions
    are to be told apart, random cuttings of them stand in beside them.
    Coates, Lee & Ng 2011, "An analysis of single-layer networks in unsupervised feature learning".

    Args:
        pictures: files or images; those that cannot be read are left out.
        settings: sizes, sample and seed.
        progress: called with the steps done and the steps in all.

    Raises:
        SourceError: none of the pictures can be read.
    """
    random = np.random.default_rng(settings.seed)
    chosen = range(len(pictures))
    if len(pictures) > settings.most_pictures:
        chosen = np.sort(random.choice(len(pictures), settings.most_pictures, replace=False)).tolist()
    total = len(chosen) + 3
    tell = progress or (lambda done, total: None)
    channels = 3 if settings.colour else 1
    side = settings.side
    if side is None:
        side = _side([pictures[i] for i in chosen], settings.patch)
    plain = PatchesShape(side, settings.patch, 1, channels, settings.k, settings.grid, settings.dim)
    views = _views([pictures[i] for i in chosen], plain, random, lambda done: tell(done, total))
    if not len(views):
        raise SourceError("none of the pictures can be read; give at least one that can")

    centroids, k = _learn_centroids(views, settings, random)
    tell(total - 2, total)
    shape = PatchesShape(side, settings.patch, 1, channels, k, settings.grid, min(settings.dim, k * settings.grid**2))
    features = _features(views, shape, centroids)
    tell(total - 1, total)
    mean, projection = _whitened_directions(features, shape.dim)
    tell(total, total)
    return to_bytes(shape, centroids, torch.from_numpy(mean), torch.from_numpy(projection))
