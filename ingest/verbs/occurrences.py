"""Texts at the level of words in their context: a vector for each place where one stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from ingest.pipeline import Job
from ingest.report import Options
from ingest.words_in_context import WordsInContext
from search.encoders import load
from search.encoders.contextual_words import PREFIX, ContextualWordEncoder
from search.encoders.load import ModelChoice


def occurrences(
    space: str, model: str, choice: ModelChoice, words: Sequence[str], *, prune: bool, options: Options
) -> Job:
    """What is to be done with texts to store each occurrence of some words, or of all.

    Raises:
        SourceError: one of `words` is none.
    """
    named = PREFIX + model.removeprefix(PREFIX)
    chosen = json.dumps(sorted({word.strip().casefold() for word in words}))
    settings = f"words {options.passage_tokens} {options.passage_overlap} {chosen}"

    @cache
    def encoder() -> ContextualWordEncoder:
        loaded = load.load_named(named, choice, device=load.Device(options.device, options.precision))
        assert isinstance(loaded, ContextualWordEncoder)
        return loaded

    prepare = WordsInContext(encoder, words, options.passage_tokens, options.passage_overlap)
    return Job(space, named, encoder, prepare, settings, prune=prune)
