"""Texts at the level of words in their context: a vector for each place where one stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ingest.passages import Lengths
from ingest.pipeline import Job
from ingest.report import Options
from ingest.words_in_context import WordsInContext
from ingest.workers import several
from ingest.workers.process import reader_of
from search.encoders import load
from search.encoders.contextual_words import PREFIX
from search.encoders.contract import Encoder, TextModel
from search.encoders.load import ModelChoice
from search.types import EncoderSpec


def word_name(model: str) -> str:
    """The name of the model of words in their context that this text model makes."""
    return PREFIX + model.removeprefix(PREFIX)


def word_model(model: str | EncoderSpec, choice: ModelChoice, options: Options) -> Encoder:
    """The model of words in their context, on the devices that were asked for."""
    wanted = word_name(model) if isinstance(model, str) else model
    return several.load(wanted, choice, load.Device(options.device, options.precision))


def occurrences(
    space: str,
    model: str,
    encoder: Callable[[], Encoder],
    words: Sequence[str],
    *,
    prune: bool,
    options: Options,
) -> Job:
    """What is to be done with texts to store each occurrence of some words, or of all.

    Raises:
        SourceError: one of `words` is none.
    """
    chosen = json.dumps(sorted({word.strip().casefold() for word in words}))
    lengths = Lengths(options.passage_tokens, options.passage_overlap)
    settings = f"words {lengths} {chosen}"

    def reader() -> TextModel:
        found = reader_of(encoder())
        assert found is not None
        return found

    prepare = WordsInContext(reader, words, lengths)
    return Job(space, model, encoder, prepare, settings, prune=prune)
