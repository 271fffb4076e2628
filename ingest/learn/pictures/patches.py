"""Learns the patches encoder from the user's own pictures, in seconds, without labels and without a download."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from search.encoders.patches import Centroids, PatchesShape, PatchFeatures, pixels, to_bytes
from search.encoders.pictures import Openable, available_cores, open_picture, read_header
from search.errors import SourceError

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]

# Ten grey levels of 255: below that contrast a patch is noise, and is not blown up.
CONTRAST = 10.0 / 255.0**2
SMALLEST_SIDE, LARGEST_SIDE = 8, 32
_BATCH = 64
_ITERATIONS = 10  # of k-means; its error hardly falls after that
_RANK = 1e-6  # of the strongest variance: weaker directions are rounding
_SHRINKAGE = 1e-3  # of the strongest variance: weaker directions are not blown up to variance 1


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
            raise SourceError(
                "settings of patches must be positive, and a patch at least 2 pixels; correct them"
            )
        if self.side is not None and self.side < self.patch:
            raise SourceError(
                f"a patch of {self.patch} does not fit a side of {self.side}; make the side larger"
            )


def learn_patches(
    pictures: Sequence[Openable],
    settings: PatchesSettings = PatchesSettings(),  # frozen
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
    chosen = _sample(pictures, settings)
    tell = progress or (lambda done, total: None)
    total = len(chosen) + 3
    side = settings.side if settings.side is not None else _side(chosen, settings.patch)
    channels = 3 if settings.colour else 1
    shape = PatchesShape(
        side=side,
        patch=settings.patch,
        stride=1,
        channels=channels,
        k=settings.k,
        grid=settings.grid,
        dim=settings.dim,
    )
    views = _views(chosen, shape, settings.seed, lambda done: tell(done, total))
    if not len(views):
        raise SourceError("none of the pictures can be read; give at least one that can")
    centroids = _learn_centroids(views, shape, settings)
    tell(total - 2, total)
    k = len(centroids.squares)
    shape = replace(shape, k=k, dim=min(shape.dim, k * shape.grid**2))
    features = _features(views, shape, centroids)
    tell(total - 1, total)
    mean, projection = _whitened_directions(features, shape.dim)
    tell(total, total)
    return to_bytes(shape, centroids, torch.from_numpy(mean), torch.from_numpy(projection))


def _sample(pictures: Sequence[Openable], settings: PatchesSettings) -> list[Openable]:
    if len(pictures) <= settings.most_pictures:
        return list(pictures)
    random = np.random.default_rng(settings.seed)
    return [pictures[i] for i in np.sort(random.choice(len(pictures), settings.most_pictures, replace=False))]


def _side(pictures: Sequence[Openable], patch: int) -> int:
    """The pictures' own size where they are small (a median of 8 stays 8), at most 32."""
    sizes = []
    for picture in pictures:
        try:
            header = picture.size if isinstance(picture, Image.Image) else read_header(picture)
        except SourceError:
            continue
        width, height = header if isinstance(header, tuple) else (header.width, header.height)
        sizes.append(math.sqrt(width * height))
    own = round(float(np.median(sizes))) if sizes else SMALLEST_SIDE
    return max(min(own, LARGEST_SIDE), SMALLEST_SIDE, patch)


def _views(
    pictures: Sequence[Openable],
    shape: PatchesShape,
    seed: int,
    done: Callable[[int], None],
) -> Floats:
    """Pictures as the encoder sees them, (n, channels, side, side); of few pictures, random cuttings too."""
    wanted = 2 * shape.dim
    cuttings = math.ceil((wanted - len(pictures)) / len(pictures)) if 0 < len(pictures) < wanted else 0

    def seen(number: int) -> list[Floats]:
        try:
            picture = open_picture(pictures[number])
        except SourceError:
            return []
        random = np.random.default_rng((seed, number))
        cut = [_cutting(picture, random) for _ in range(cuttings)]
        return [pixels(one, shape) for one in [picture, *cut]]

    views: list[Floats] = []
    with ThreadPoolExecutor(min(4, available_cores())) as threads:
        for start in range(0, len(pictures), _BATCH):
            numbers = range(start, min(start + _BATCH, len(pictures)))
            for several in threads.map(seen, numbers):
                views += several
            done(numbers.stop)
    return np.stack(views) if views else np.empty((0, shape.channels, shape.side, shape.side), np.float32)


def _cutting(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """A rectangle of 60 to 95% of the picture's width and of its height, anywhere in it."""
    width, height = picture.size
    wide = max(1, round(width * random.uniform(0.6, 0.95)))
    high = max(1, round(height * random.uniform(0.6, 0.95)))
    left, top = int(random.integers(width - wide + 1)), int(random.integers(height - high + 1))
    return picture.crop((left, top, left + wide, top + high))


def _learn_centroids(views: Floats, shape: PatchesShape, settings: PatchesSettings) -> Centroids:
    """Whitening and k-means on normalised patches, folded into one convolution; k falls where patches are few."""
    random = np.random.default_rng(settings.seed)
    size = shape.patch
    windows = np.lib.stride_tricks.sliding_window_view(views, (size, size), axis=(2, 3))
    n, _, rows, columns = windows.shape[:4]
    places = n * rows * columns
    count = min(settings.patches, places)
    picked = random.choice(places, count, replace=False, shuffle=False)
    which, row, column = np.unravel_index(picked, (n, rows, columns))
    patches = windows[which, :, row, column].reshape(count, -1).astype(np.float64)
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.sqrt(patches.var(axis=1, keepdims=True) + CONTRAST)

    mean = patches.mean(axis=0)
    patches -= mean
    variances, directions = np.linalg.eigh(patches.T @ patches / count)
    whitening = (directions / np.sqrt(np.maximum(variances, 0) + settings.whitening)) @ directions.T
    whitened = np.ascontiguousarray(patches @ whitening, dtype=np.float32)

    k = min(shape.k, count)
    kmeans = faiss.Kmeans(
        whitened.shape[1],
        k,
        niter=_ITERATIONS,
        seed=settings.seed,
        min_points_per_centroid=1,
        max_points_per_centroid=max(1, math.ceil(count / k)),
    )
    kmeans.train(whitened)
    centroids = np.asarray(kmeans.centroids, dtype=np.float64)
    kernels = np.concatenate([centroids @ whitening, whitening])
    offsets = kernels @ mean
    kernels -= kernels.mean(axis=1, keepdims=True)
    return Centroids(
        kernels=torch.from_numpy(kernels.astype(np.float32)).reshape(-1, shape.channels, size, size),
        offsets=torch.from_numpy(offsets.astype(np.float32)),
        squares=torch.from_numpy(np.square(centroids).sum(axis=1).astype(np.float32)),
        contrast=CONTRAST,
    )


def _features(views: Floats, shape: PatchesShape, centroids: Centroids) -> Floats:
    network = PatchFeatures(shape, centroids).eval()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(views[i : i + _BATCH])).numpy() for i in range(0, len(views), _BATCH)
        ]
    return np.concatenate(parts)


def _whitened_directions(features: Floats, dim: int) -> tuple[Floats, Floats]:
    """The mean (features,) and the projection (features, dim) to principal directions of variance 1.

    Directions beyond the rank of the features are zeros.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    n, width = centred.shape
    if n < width:  # the same directions from the smaller of the two products
        variances, sides = np.linalg.eigh(centred @ centred.T / n)
        directions = centred.T @ sides
        directions /= np.maximum(np.linalg.norm(directions, axis=0), 1e-12)
    else:
        variances, directions = np.linalg.eigh(centred.T @ centred / n)
    variances, directions = variances[::-1][:dim], directions[:, ::-1][:, :dim]
    strongest = max(float(variances[0]), 1e-12)
    keep = variances > strongest * _RANK
    projection = np.zeros((width, dim))
    projection[:, : len(variances)] = np.where(
        keep, directions / np.sqrt(np.maximum(variances, 0) + strongest * _SHRINKAGE), 0.0
    )
    signs = np.sign(projection[np.abs(projection).argmax(axis=0), np.arange(dim)])
    return mean.astype(np.float32), (projection * np.where(signs < 0, -1.0, 1.0)).astype(np.float32)
