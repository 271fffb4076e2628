"""The verb for texts: their passages, or their words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import pipeline
from ingest.passages import Lengths
from ingest.pipeline import Job
from ingest.report import Level, Options, Report
from ingest.sources.load import BY_NAME, STDIN, TextFormat
from ingest.verbs.opening import (
    DEFAULT,
    Paths,
    check_address,
    emptied,
    filled,
    listed,
    opened,
    own_encoder,
    placed,
)
from ingest.workers import several
from ingest.workers.several import lent
from search.collection import Collection
from search.encoders import load
from search.encoders.load import PUBLISHED, ModelChoice
from search.errors import MissingExtra, ModelError, NearkinError, SourceError
from search.types import EncoderSpec
from search.writer import check_same

if TYPE_CHECKING:
    from ingest.learn.words.settings import WordSettings
    from ingest.sources.contract import Source
    from search.encoders.contract import TextModel

TEXT_MODEL = "all-MiniLM-L6-v2"


def text(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    text: str | None = None,
    id: str | None = None,
    form: TextFormat = BY_NAME,
    model: str | None = None,
    choice: ModelChoice = PUBLISHED,
    learning: WordSettings | None = None,
    level: Level | str = Level.PASSAGE,
    words: Sequence[str] = (),
    space: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    options: Options = DEFAULT,
) -> Report:
    """Take in texts: documents, tables of texts, folders and archives of them, cut into passages.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file or folder, or several; `-` is standard input.
        text: the field of a table that holds the text: its name, a path (`author.name`) or a template
            (`{title}. {abstract}`); None finds it by its usual names.
        id: the field that holds the id, likewise.
        form: how to read what does not say so by its name.
        model: a Hugging Face encoder by name, the folder of a checkpoint, or `openai:NAME` at an endpoint; a file of
            word vectors (word2vec, GloVe); or `word2vec`, `word2vec:cbow` or `glove`, learned from these texts. None
            takes what made the space, with all that was said of it then, else all-MiniLM-L6-v2.
        choice: what else is to be said of the model: layer, pooling, prompts and the like.
        learning: how vectors of words are learned, where they are; None takes the usual settings.
        level: what has a vector of its own: each "passage", or each "word". With an encoder a word has one wherever it
            stands, in its context; with word vectors one in all (a record of the kind "word", with its count).
        words: at level word, in context: those to take, whatever their case; none means all. Another choice replaces
            the former.
        space: where the vectors go; None is "text", or "words" at level word.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done and, from a timed sample, what it would take; and do nothing.
        options: device, precision, passage length, progress.

    Raises:
        SourceError: a path is missing, or nothing in it can be read as text, or learned from it; or words were named
            that mean nothing here.
        MissingExtra: a file that was named needs a package that is not installed.
        ModelUnavailable: the model cannot be had.
        ModelError: the choice, or how words are learned, means nothing for this model.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.sources.load import text_source

    files = listed(paths)
    _check_names(text, id)
    level = Level.named(level)
    if space is None:
        space = "words" if level is Level.WORD else "text"
    own = own_encoder(collection, space, "text") if model is None else None
    model = model or (TEXT_MODEL if own is None else own.model)
    static = load.is_static(model)
    if not static and own is None:
        model = placed(model)
    _check_words(words, level, static=static)
    if level is Level.PASSAGE and model.startswith("word:"):
        raise SourceError(f"'{model}' encodes words and not passages; add --level word, or leave out 'word:'")
    if learning is not None and not static:
        raise ModelError(f"'{model}' is not learned from texts; leave out how words are learned")
    if prune and STDIN in files:
        raise SourceError("what is missing from standard input is not gone; leave out --prune")
    known = emptied(collection, space) if prune else frozenset()
    source = text_source(files, text=text, id=id, form=form, may_be_empty=known)
    settings = f"passages {Lengths(options.passage_tokens, options.passage_overlap)}"
    if static:
        from ingest.learn.words.settings import WordSettings
        from ingest.verbs.words import WordsRun, static_text

        run = WordsRun(space, model, choice, level, learning or WordSettings(), prune, options)
        return static_text(collection, source, run, settings, dry_run=dry_run)
    wanted = own if own is not None and choice == PUBLISHED else model
    if level is Level.WORD:
        from ingest.verbs.occurrences import occurrences, word_model, word_name

        with lent(lambda: word_model(wanted, choice, options)) as encoder:
            job = occurrences(space, word_name(model), encoder, words, prune=prune, options=options)
            return _run(collection, source, job, choice, options, named=own is None, dry_run=dry_run)
    with lent(lambda: _text_model(wanted, choice, options)) as encoder:
        job = _passages(space, model, encoder, settings, prune=prune, options=options)
        return _run(collection, source, job, choice, options, named=own is None, dry_run=dry_run)


def _check_names(text: object, id: object) -> None:
    for what, named in (("text", text), ("id", id)):
        if named is not None and not isinstance(named, str):
            raise SourceError(f"{what} is a {type(named).__name__}; give the name of a field as a string")


def _check_words(words: Sequence[str], level: Level, *, static: bool) -> None:
    if isinstance(words, str):
        raise SourceError("words is one string; give a list of words")
    if words and level is not Level.WORD:
        raise SourceError(
            "words were named, and passages are taken whole; add --level word, or leave them out"
        )
    if words and static:
        raise SourceError("word vectors are stored of all the words that stand in the texts; leave words out")


def _text_model(model: str | EncoderSpec, choice: ModelChoice, options: Options) -> TextModel:
    from search.encoders.contract import TextModel

    lengths = Lengths(options.passage_tokens, options.passage_overlap)
    loaded = several.load(model, choice, load.Device(options.device, options.precision))
    try:
        if not isinstance(loaded, TextModel):
            name = loaded.spec.model
            raise SourceError(f"'{name}' is a model for pictures; name a text model, such as {TEXT_MODEL}")
        lengths.within(loaded.max_tokens, loaded.spec.model)  # before anything is stored
    except NearkinError:
        several.end(loaded)
        raise
    return loaded


def _passages(
    space: str,
    model: str,
    encoder: Callable[[], TextModel],
    settings: str,
    *,
    prune: bool,
    options: Options,
) -> Job:
    """What is to be done at the level of passages."""
    from ingest.prepare import Known, Passages

    lengths = Lengths(options.passage_tokens, options.passage_overlap)
    prepare = Known(Passages(encoder, lengths), encoder)
    return Job(space, model, encoder, prepare, settings, prune=prune)


def _run(
    collection: Collection | str | Path,
    source: Source,
    job: Job,
    choice: ModelChoice,
    options: Options,
    *,
    named: bool,
    dry_run: bool,
) -> Report:
    """Fill the space, or foretell it; where the model was not `named`, a remote one stays where it was."""
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(job.space)
        if named or choice.base_url is not None:
            check_address(known, job.model, choice)
    if dry_run:
        from ingest.forecast import Outlook

        with opened(collection, must_write=False) as there:
            why = None
            if known is not None and (choice != PUBLISHED or known.encoder.model != job.model):
                try:
                    check_same(known, job.encoder().spec)
                except (ModelError, MissingExtra) as error:  # the counts can be had all the same
                    why = str(error)
            wanted = (job.space, job.model, job.settings)
            told = pipeline.forecast(there, source, wanted, prune=job.prune, seer=Outlook(job, known))
            return told if why is None else replace(told, no_forecast=why)
    started = time.perf_counter()
    with filled(collection, job, chosen=choice != PUBLISHED) as open_one:
        loading_s = time.perf_counter() - started
        return pipeline.fill(open_one, source, job, options.progress).after("load", loading_s)
