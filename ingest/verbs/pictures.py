"""The verb for pictures: images."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import pipeline
from ingest.pipeline import Job
from ingest.report import Options, Report
from ingest.verbs.learned_pictures import asked, foretold, learned_images
from ingest.verbs.opening import DEFAULT, Paths, filled, listed, opened
from search.collection import Collection
from search.encoders import load
from search.encoders.load import ModelChoice
from search.errors import MissingExtra, ModelError, SourceError
from search.writer import check_same

if TYPE_CHECKING:
    from ingest.learn.pictures.settings import SimclrSettings
    from search.encoders.contract import Encoder

PICTURE_MODEL = "clip-ViT-B-32"


def images(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    layer: str | None = None,
    learn: str | SimclrSettings | None = None,
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
        model: a CLIP model (words find pictures; clip-ViT-B-32 unless another is named), `torchvision:NAME` or
            `timm:NAME`; with `learn` the network to be learned, `torchvision:NAME`, instead of a small one.
        weights: a file of weights to use instead of the published ones (torchvision and timm).
        layer: a hidden layer of a torchvision network to take the vectors from.
        learn: learn the encoder from these pictures themselves, without a download: `patches` (seconds), `simclr` (a
            network; minutes to hours) or `SimclrSettings`, which say more. The space keeps it: later runs learn
            nothing, and an interrupted run goes on.
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
    learning = asked(model, learn)
    if learning is not None:
        if weights is not None or layer is not None:
            raise SourceError(
                f"{learning.model} takes neither weights nor a layer: it is learned from the pictures; leave them out"
            )
        with opened(collection, must_write=not dry_run) as there:
            if dry_run:
                return foretold(there, source, learning, space, prune=prune)
            assert there is not None
            return learned_images(there, source, learning, space, options, prune=prune)
    from ingest.prepare import Decoded

    model = PICTURE_MODEL if model is None else model

    @cache
    def encoder() -> Encoder:
        file = None if weights is None else Path(weights)
        device = load.Device(options.device, options.precision)
        loaded = load.load_named(model, ModelChoice(weights=file, layer=layer), device=device)
        if "image" not in loaded.spec.accepts:
            raise SourceError(
                f"'{model}' is a model for texts; name a picture model, such as {PICTURE_MODEL}"
            )
        return loaded

    chosen = weights is not None or layer is not None
    if dry_run:
        with opened(collection, must_write=False) as there:
            known = None if there is None else there.spaces().get(space)
            if known is not None and (chosen or known.encoder.model != model):
                with suppress(ModelError, MissingExtra):  # the counts can be had all the same
                    check_same(known, encoder().spec)
            return pipeline.forecast(there, source, (space, model, "pictures"), prune=prune)
    job = Job(space, model, encoder, Decoded(), "pictures", prune=prune)
    started = time.perf_counter()
    with filled(collection, job, chosen=chosen) as there:
        loading_s = time.perf_counter() - started
        return pipeline.fill(there, source, job, options.progress).after("load", loading_s)
