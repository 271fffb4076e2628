"""The verb for pictures: images."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import pipeline
from ingest.objects import ObjectSettings, TorchvisionDetector
from ingest.pipeline import Job
from ingest.report import Options, Report
from ingest.verbs.learned_pictures import asked, foretold, learned_images
from ingest.verbs.opening import DEFAULT, Paths, filled, listed, opened, own_encoder
from ingest.workers import several
from search.collection import Collection
from search.encoders import load
from search.encoders.load import ModelChoice
from search.errors import MissingExtra, ModelError, SourceError
from search.writer import check_same

if TYPE_CHECKING:
    from ingest.learn.pictures.settings import SimclrSettings
    from ingest.sources.pictures import PictureFormat
    from ingest.verbs.picture_intake import Intake
    from search.encoders.contract import Encoder

PICTURE_MODEL = "clip-ViT-B-32"


def images(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    layer: str | None = None,
    pooling: str | None = None,
    query_prompt: str | None = None,
    learn: str | SimclrSettings | None = None,
    form: PictureFormat | None = None,
    thumbnails: int | None = None,
    objects: ObjectSettings | None = None,
    space: str = "image",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in pictures: files, folders, archives and lists of them.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file, folder, archive or list, or several.
        model: a CLIP model (words find pictures; clip-ViT-B-32 for a new space), `torchvision:NAME` or
            `timm:NAME`; with `learn` the network to be learned, `torchvision:NAME`, instead of a small one. None takes
            what made the space, with all that was said of it then.
        weights: a file of weights to use instead of the published ones (torchvision and timm).
        layer: a hidden layer of the network to take the vectors from; `nearkin models MODEL --layers` lists them.
        pooling: how the positions of a map become one vector: avg, gem, max or cls.
        query_prompt: of a CLIP model, templates for the words of queries, divided by "|", each with {} where the
            words go.
        learn: learn the encoder from these pictures themselves, without a download: `patches` (seconds), `simclr` (a
            network; minutes to hours) or `SimclrSettings`, which say more. The space keeps it: later runs learn
            nothing, and an interrupted run goes on.
        form: how to read lists and files of several frames; None is the usual way.
        thumbnails: keep a small picture of each record, no side longer than so many pixels, for
            `Collection.thumbnail`; None keeps none, and leaves those that are there. 256 suits most pages.
        objects: look for objects, and make each a part of its picture, with box, label and score.
        space: where the vectors go.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: device, precision, progress.

    Raises:
        SourceError: a path is missing, or holds no picture.
        ModelUnavailable: a model or its weights cannot be had.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.sources.pictures import PLAIN, Pictures
    from ingest.thumbnails import Thumbnails
    from ingest.verbs.picture_intake import Intake

    form = form or PLAIN
    small = None if thumbnails is None else Thumbnails(thumbnails)
    detector = None if objects is None else TorchvisionDetector(objects, device=options.device)
    intake = Intake(Pictures(listed(paths), form), form, small, detector, options)
    file = None if weights is None else Path(weights)
    choice = ModelChoice(weights=file, layer=layer, pooling=pooling, query_prompt=query_prompt)
    own = own_encoder(collection, space, "image") if model is None and learn is None else None
    learning = asked(model if own is None else own.model, learn)
    if learning is not None:
        choice.only(learning.model)
        with opened(collection, must_write=not dry_run) as there:
            if dry_run:
                return foretold(there, intake, learning, space, prune=prune)
            assert there is not None
            return learned_images(there, intake, learning, space, prune=prune)
    name = model or (PICTURE_MODEL if own is None else own.model)
    chosen = choice != ModelChoice()
    wanted = name if own is None or chosen else own

    def loaded() -> Encoder:
        made = several.load(wanted, choice, load.Device(options.device, options.precision))
        if "image" in made.spec.accepts:
            return made
        several.end(made)
        raise SourceError(f"'{name}' is a model for texts; name a picture model, such as {PICTURE_MODEL}")

    with several.lent(loaded) as encoder:
        job = intake.job(space, name, encoder, prune=prune)
        if dry_run:
            return _forecast(collection, intake, job, chosen=chosen)
        started = time.perf_counter()
        with filled(collection, job, chosen=chosen) as there:
            loading_s = time.perf_counter() - started
            return intake.fill(there, job).after("load", loading_s)


def _forecast(collection: Collection | str | Path, intake: Intake, job: Job, *, chosen: bool) -> Report:
    """What a run would do and take; nothing is stored."""
    from ingest.picture_forecast import PictureOutlook

    wanted = (job.space, job.model, job.settings)
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(job.space)
        why = None
        if known is not None and (chosen or known.encoder.model != job.model):
            try:
                check_same(known, job.encoder().spec)
            except (ModelError, MissingExtra) as error:  # the counts can be had all the same
                why = str(error)
        seer = PictureOutlook(job, known)
        told = pipeline.forecast(there, intake.source, wanted, prune=job.prune, seer=seer)
        return told if why is None else replace(told, no_forecast=why)
