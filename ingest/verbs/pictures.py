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
from ingest.verbs.opening import DEFAULT, Paths, filled, listed, opened
from search.collection import Collection
from search.encoders import load
from search.encoders.load import ModelChoice
from search.errors import CollectionError, MissingExtra, ModelError, SourceError
from search.types import Space
from search.writer import check_same

if TYPE_CHECKING:
    from ingest.sources.pictures import PictureFormat, Pictures
    from ingest.thumbnails import Thumbnails
    from search.encoders.contract import Encoder

PICTURE_MODEL = "clip-ViT-B-32"


def images(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    model: str = PICTURE_MODEL,
    weights: str | Path | None = None,
    layer: str | None = None,
    form: PictureFormat | None = None,
    thumbnails: int | None = None,
    space: str = "image",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in pictures: files, folders and archives of them, and lists of their paths.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file, folder, archive or list, or several.
        model: a CLIP model (words find pictures), `torchvision:NAME`, `timm:NAME`, or `patches`, which is learned
            from these pictures themselves and needs no download.
        weights: a file of weights to use instead of the published ones (torchvision and timm).
        layer: a hidden layer of a torchvision network to take the vectors from.
        form: how to read lists and files of several frames; None is the usual way.
        thumbnails: keep a small picture of each record, no side longer than so many pixels, for
            `Collection.thumbnail`; None keeps none, and leaves those that are there. 256 suits most pages.
        space: where the vectors go.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: device, precision, progress.

    Raises:
        SourceError: a path is missing, or holds no picture; or the format or the size of thumbnails makes no sense.
        MissingExtra: a file that was named needs a package that is not installed.
        ModelUnavailable: the model or its weights cannot be had.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.decoding import Decoded
    from ingest.sources.pictures import PLAIN, Pictures
    from ingest.thumbnails import Thumbnails

    form = form or PLAIN
    small = None if thumbnails is None else Thumbnails(thumbnails)
    source = Pictures(listed(paths), form)
    settings = "pictures draft" if form.draft else "pictures"
    if model == "patches" and (weights is not None or layer is not None):
        raise SourceError(
            "patches takes neither weights nor a layer: it is learned from the pictures; leave them out"
        )
    if model == "patches" and not dry_run:
        with opened(collection) as there:
            assert there is not None
            _refuse_if_not_patches(there.spaces().get(space))  # before they are learned for nothing
            started = time.perf_counter()
            patches, learned = _patches(there, source, space, options)
            learning_s = time.perf_counter() - started
            decoded = Decoded(lambda: patches, thumbnails=small, draft=form.draft)
            job = Job(space, model, lambda: patches, decoded, settings, learned, prune)
            return _fill(there, source, job, small, options).after("learn", learning_s)

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

    job = Job(
        space,
        model,
        encoder,
        Decoded(encoder, thumbnails=small, draft=form.draft),
        settings,
        prune=prune,
    )
    chosen = weights is not None or layer is not None
    if dry_run:
        return _forecast(collection, source, job, chosen=chosen)
    started = time.perf_counter()
    with filled(collection, job, chosen=chosen) as there:
        loading_s = time.perf_counter() - started
        return _fill(there, source, job, small, options).after("load", loading_s)


def _forecast(collection: Collection | str | Path, source: Pictures, job: Job, *, chosen: bool) -> Report:
    """What a run would do and take; nothing is stored, and `patches` is not learned."""
    wanted = (job.space, job.model, job.settings)
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(job.space)
        if job.model == "patches":
            _refuse_if_not_patches(known)
            return pipeline.forecast(there, source, wanted, prune=job.prune)
        if known is not None and (chosen or known.encoder.model != job.model):
            with suppress(
                ModelError, MissingExtra
            ):  # told with the forecast; the counts can be had all the same
                check_same(known, job.encoder().spec)
        from ingest.picture_forecast import PictureOutlook

        return pipeline.forecast(there, source, wanted, prune=job.prune, seer=PictureOutlook(job, known))


def _fill(
    collection: Collection, source: Pictures, job: Job, small: Thumbnails | None, options: Options
) -> Report:
    """Fill the space, then make the thumbnails that unchanged records lack."""
    report = pipeline.fill(collection, source, job, options.progress)
    if small is not None and report.unchanged:
        from ingest.thumbnails import make_missing

        with collection.writing() as writer:
            make_missing(collection, writer, source, small)
    return report


def _refuse_if_not_patches(there: Space | None) -> None:
    if there is not None and there.encoder.family != "patches":
        raise CollectionError(
            f"space '{there.name}' was made by {there.encoder.model}, and this is patches; "
            "give another name with --space"
        )


def _patches(
    collection: Collection, source: Pictures, space: str, options: Options
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
        list(source.pictures()),
        PatchesSettings(),
        progress=lambda done, total: progress.reached("learning patches", done, total),
    )
    progress.end("learning patches")
    return PatchesEncoder(data), data
