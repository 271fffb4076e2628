"""The verb for pictures: images."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import pipeline
from ingest.pipeline import Job
from ingest.report import Options, Report
from ingest.verbs.opening import DEFAULT, Paths, filled, listed, opened
from ingest.workers import several
from search.collection import Collection
from search.encoders import load
from search.encoders.load import ModelChoice
from search.errors import CollectionError, MissingExtra, ModelError, SourceError
from search.types import Space
from search.writer import check_same

if TYPE_CHECKING:
    from ingest.sources.pictures import PictureFolder
    from search.encoders.contract import Encoder

PICTURE_MODEL = "clip-ViT-B-32"


def images(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    model: str = PICTURE_MODEL,
    weights: str | Path | None = None,
    layer: str | None = None,
    space: str = "image",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in pictures: files, or folders of them.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file or folder, or several.
        model: a CLIP model (words find pictures), `torchvision:NAME`, `timm:NAME`, or `patches`, which is learned
            from these pictures themselves and needs no download.
        weights: a file of weights to use instead of the published ones (torchvision and timm).
        layer: a hidden layer of a torchvision network to take the vectors from.
        space: where the vectors go.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: device, precision, progress.

    Raises:
        SourceError: a path is missing, or holds no picture.
        ModelUnavailable: the model or its weights cannot be had.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.sources.pictures import PictureFolder

    source = PictureFolder(listed(paths))
    if model == "patches" and (weights is not None or layer is not None):
        raise SourceError(
            "patches takes neither weights nor a layer: it is learned from the pictures; leave them out"
        )
    from ingest.prepare import Decoded

    if model == "patches" and not dry_run:
        with opened(collection) as there:
            assert there is not None
            _refuse_if_not_patches(there.spaces().get(space))  # before they are learned for nothing
            started = time.perf_counter()
            patches, learned = _patches(there, source, space, options)
            learning_s = time.perf_counter() - started
            job = Job(space, model, lambda: patches, Decoded(), "pictures", learned, prune)
            return pipeline.fill(there, source, job, options.progress).after("learn", learning_s)

    def loaded() -> Encoder:
        file = None if weights is None else Path(weights)
        device = load.Device(options.device, options.precision)
        made = several.load(model, ModelChoice(weights=file, layer=layer), device)
        if "image" in made.spec.accepts:
            return made
        several.end(made)
        raise SourceError(f"'{model}' is a model for texts; name a picture model, such as {PICTURE_MODEL}")

    chosen = weights is not None or layer is not None
    with several.lent(loaded) as encoder:
        if dry_run:
            with opened(collection, must_write=False) as there:
                known = None if there is None else there.spaces().get(space)
                if model == "patches":
                    _refuse_if_not_patches(known)
                why = None
                if model != "patches" and known is not None and (chosen or known.encoder.model != model):
                    try:
                        check_same(known, encoder().spec)
                    except (ModelError, MissingExtra) as error:  # the counts can be had all the same
                        why = str(error)
                told = pipeline.forecast(there, source, (space, model, "pictures"), prune=prune)
                return told if why is None else replace(told, no_forecast=why)
        job = Job(space, model, encoder, Decoded(), "pictures", prune=prune)
        started = time.perf_counter()
        with filled(collection, job, chosen=chosen) as there:
            loading_s = time.perf_counter() - started
            return pipeline.fill(there, source, job, options.progress).after("load", loading_s)


def _refuse_if_not_patches(there: Space | None) -> None:
    if there is not None and there.encoder.family != "patches":
        raise CollectionError(
            f"space '{there.name}' was made by {there.encoder.model}, and this is patches; "
            "give another name with --space"
        )


def _patches(
    collection: Collection, source: PictureFolder, space: str, options: Options
) -> tuple[Encoder, bytes | None]:
    """The patches encoder of the space, or one learned now from the pictures, with its bytes."""
    from ingest.learn.pictures.patches import PatchesSettings, learn_patches
    from search.encoders.patches import PatchesEncoder

    there = collection.spaces().get(space)
    if there is not None and there.encoder.family == "patches":
        return collection.encoder(space), None
    progress = options.progress
    progress.begin("learning patches", 0)
    data = learn_patches(
        source.paths,
        PatchesSettings(),
        progress=lambda done, total: progress.reached("learning patches", done, total),
    )
    progress.end("learning patches")
    return PatchesEncoder(data), data
