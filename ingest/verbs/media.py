"""The verbs for what an encoder reads: text and images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import pipeline
from ingest.pipeline import Job
from ingest.report import Level, Options, Report
from ingest.sources.load import BY_NAME, STDIN, TextFormat
from ingest.verbs.opening import DEFAULT, Paths, listed, opened
from search.collection import Collection
from search.encoders import load
from search.encoders.load import PUBLISHED, ModelChoice
from search.errors import ModelError, SourceError

if TYPE_CHECKING:
    from ingest.learn.words.settings import WordSettings
    from ingest.sources.pictures import PictureFolder
    from search.encoders.contract import Encoder, TextModel

TEXT_MODEL = "all-MiniLM-L6-v2"
PICTURE_MODEL = "clip-ViT-B-32"


def text(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    text: str | None = None,
    id: str | None = None,
    form: TextFormat = BY_NAME,
    model: str = TEXT_MODEL,
    choice: ModelChoice = PUBLISHED,
    words: WordSettings | None = None,
    level: Level = Level.PASSAGE,
    space: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in texts, cut into passages: documents (.txt to .pdf), tables (.jsonl to .parquet), archives, folders.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file or folder, or several; `-` is standard input.
        text: the field of a table that holds the text: its name, a path (`author.name`) or a template
            (`{title}. {abstract}`); None finds it by its usual names.
        id: the field that holds the id, likewise.
        form: how to read what does not say so by its name.
        model: a Hugging Face encoder by name, the folder of a checkpoint, or `openai:NAME` at an endpoint; a file of
            word vectors (word2vec, GloVe); or `word2vec`, `word2vec:cbow` or `glove`, learned from these texts.
        choice: what else is to be said of the model: layer, pooling, prompts and the like.
        words: how words are learned, where they are; None takes the usual settings.
        level: what has a vector of its own: each passage, or each word of the vocabulary that stands in the texts
            (a record of the kind "word", with its count); the latter only with word vectors.
        space: where the vectors go; None is "text", or "words" at the level of words.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done and, from a timed sample, what it would take; and do nothing.
        options: device, precision, passage length, progress.

    Raises:
        SourceError: a path is missing, or nothing in it can be read as text, or learned from it.
        MissingExtra: a file that was named needs a package that is not installed.
        ModelUnavailable: the model cannot be had.
        ModelError: the model has no vectors of words, and words were asked for; or the choice is not for it.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.sources.load import text_source

    files = listed(paths)
    if prune and STDIN in files:
        raise SourceError("what is missing from standard input is not gone; leave out --prune")
    source = text_source(files, text=text, id=id, form=form)
    settings = f"passages {options.passage_tokens} {options.passage_overlap}"
    if space is None:
        space = "words" if level is Level.WORD else "text"
    if load.is_static(model):
        from ingest.learn.words.settings import WordSettings
        from ingest.verbs.words import WordsRun, static_text

        run = WordsRun(space, model, choice, level, words or WordSettings(), prune, options)
        return static_text(collection, source, run, settings, dry_run=dry_run)
    if level is Level.WORD:
        raise ModelError(
            f"'{model}' has no vectors of words alone; name a file of word vectors, word2vec or glove"
        )
    if words is not None:
        raise ModelError(f"'{model}' is not learned from texts; leave out how words are learned")
    from ingest.prepare import Known, Passages

    @cache
    def encoder() -> TextModel:
        from search.encoders.contract import TextModel

        loaded = load.load_named(model, choice, device=load.Device(options.device, options.precision))
        if not isinstance(loaded, TextModel):
            raise SourceError(f"'{model}' is a model for pictures; name a text model, such as {TEXT_MODEL}")
        return loaded

    if choice != PUBLISHED and not dry_run:
        encoder()  # the name does not say whether the space was made with these
    job = Job(
        space,
        model,
        encoder,
        Known(Passages(encoder, options.passage_tokens, options.passage_overlap), encoder),
        settings,
        prune=prune,
    )
    if dry_run:
        from ingest.forecast import Outlook

        with opened(collection, must_write=False) as known:
            wanted = (space, model, settings)
            return pipeline.forecast(known, source, wanted, prune=prune, seer=Outlook(job))
    with _filled(collection, job) as there:
        return pipeline.fill(there, source, job, options.progress)


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
    if dry_run:
        with opened(collection, must_write=False) as there:
            return pipeline.forecast(there, source, (space, model, "pictures"), prune=prune)
    from ingest.prepare import Decoded

    if model == "patches":
        if weights is not None or layer is not None:
            raise SourceError(
                "patches takes neither weights nor a layer: it is learned from the pictures; leave them out"
            )
        with opened(collection) as there:
            assert there is not None
            patches, learned = _patches(there, source, space, options)
            job = Job(space, model, lambda: patches, Decoded(), "pictures", learned, prune)
            return pipeline.fill(there, source, job, options.progress)

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

    if weights is not None or layer is not None:
        encoder()  # the name does not say whether the space was made with these
    job = Job(space, model, encoder, Decoded(), "pictures", prune=prune)
    with _filled(collection, job) as there:
        return pipeline.fill(there, source, job, options.progress)


@contextmanager
def _filled(collection: Collection | str | Path, job: Job) -> Iterator[Collection]:
    """The open collection; a model that cannot be had is told before a new collection is made for it."""
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(job.space)
    if known is None or known.encoder.model != job.model:
        job.encoder()
    with opened(collection) as there:
        assert there is not None
        yield there


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
