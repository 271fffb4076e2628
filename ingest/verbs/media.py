"""The verbs for what an encoder reads: text and images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import pipeline
from ingest.pipeline import Job
from ingest.report import Options, Report
from ingest.verbs.opening import DEFAULT, Paths, listed, opened
from search.collection import Collection
from search.encoders import load
from search.encoders.load import PUBLISHED, ModelChoice
from search.errors import SourceError

if TYPE_CHECKING:
    from ingest.sources.contract import Source
    from ingest.sources.pictures import PictureFolder
    from search.encoders.contract import Encoder
    from search.encoders.text import TextEncoder


class Level(StrEnum):
    """What of a text has a vector of its own."""

    PASSAGE = "passage"
    WORD = "word"


TEXT_MODEL = "all-MiniLM-L6-v2"
PICTURE_MODEL = "clip-ViT-B-32"


def text(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    text: str | None = None,
    id: str | None = None,
    model: str = TEXT_MODEL,
    choice: ModelChoice = PUBLISHED,
    level: str = Level.PASSAGE,
    words: Sequence[str] = (),
    space: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in texts: folders of .txt and .md files, .jsonl, .csv and .tsv, cut into passages.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file or folder, or several.
        text: the column or field that holds the text; None finds it by its usual names.
        id: the column or field that holds the id; None finds it by its usual names.
        model: a Hugging Face encoder by name, or the folder of a checkpoint.
        choice: what else is to be said of the model: layer, pooling, prompts and the like.
        level: what has a vector: each "passage", or each "word" in the context that it stands in.
        words: at level word, those to take, whatever their case; none means all. Another choice replaces the former.
        space: where the vectors go; None means text, or words at level word.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: device, precision, passage length, progress.

    Raises:
        SourceError: a path is missing, or nothing in it can be read as text; words without level word.
        ModelUnavailable: the model cannot be had.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.sources.tables import text_source

    level = _level(level, words)
    if level is Level.PASSAGE and model.startswith("word:"):
        raise SourceError(f"'{model}' encodes words and not passages; add --level word, or leave out 'word:'")
    source = text_source(listed(paths), text=text, id=id)
    if level is Level.WORD:
        return _words(collection, source, (model, choice), words, space or "words", prune, dry_run, options)
    space = space or "text"
    settings = f"passages {options.passage_tokens} {options.passage_overlap}"
    if dry_run:
        with opened(collection, must_write=False) as there:
            return pipeline.forecast(there, source, space, model, settings, prune=prune)
    from ingest.prepare import Passages

    @cache
    def encoder() -> TextEncoder:
        from search.encoders.text import TextEncoder

        loaded = load.load_named(model, choice, device=load.Device(options.device, options.precision))
        if not isinstance(loaded, TextEncoder):
            raise SourceError(f"'{model}' is a model for pictures; name a text model, such as {TEXT_MODEL}")
        return loaded

    if choice != PUBLISHED:
        encoder()  # the name does not say whether the space was made with these
    job = Job(
        space,
        model,
        encoder,
        Passages(encoder, options.passage_tokens, options.passage_overlap),
        settings,
        prune=prune,
    )
    with _filled(collection, job) as there:
        return pipeline.fill(there, source, job, options.progress)


def _level(level: str, words: Sequence[str]) -> Level:
    try:
        chosen = Level(level)
    except ValueError:
        raise SourceError(f"'{level}' is no level; use {' or '.join(Level)}") from None
    if isinstance(words, str):
        raise SourceError("words is one string; give a list of words")
    if words and chosen is not Level.WORD:
        raise SourceError(
            "words were named, and passages are taken whole; add --level word, or leave them out"
        )
    return chosen


def _words(
    collection: Collection | str | Path,
    source: Source,
    named: tuple[str, ModelChoice],
    words: Sequence[str],
    space: str,
    prune: bool,
    dry_run: bool,
    options: Options,
) -> Report:
    """As `text`, at level word."""
    from ingest.words_in_context import WordsInContext
    from search.encoders.contextual_words import PREFIX, ContextualWordEncoder

    plain, choice = named
    model = PREFIX + plain.removeprefix(PREFIX)
    chosen = json.dumps(sorted({word.casefold() for word in words}))
    settings = f"words {options.passage_tokens} {options.passage_overlap} {chosen}"
    if dry_run:
        with opened(collection, must_write=False) as there:
            return pipeline.forecast(there, source, space, model, settings, prune=prune)

    @cache
    def encoder() -> ContextualWordEncoder:
        loaded = load.load_named(model, choice, device=load.Device(options.device, options.precision))
        assert isinstance(loaded, ContextualWordEncoder)
        return loaded

    prepare = WordsInContext(encoder, words, options.passage_tokens, options.passage_overlap)
    if choice != PUBLISHED:
        encoder()  # the name does not say whether the space was made with these
    job = Job(space, model, encoder, prepare, settings, prune=prune)
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
            return pipeline.forecast(there, source, space, model, "pictures", prune=prune)
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
