"""A word's vector in its context, so that the same word has another vector where it means something else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from search.encoders.contract import Encoder, Item, Occurrence, Role, Vectors
from search.encoders.text import TextEncoder
from search.encoders.text_load import TextOptions, in_order
from search.errors import ModelError, QueryError, WrongModality
from search.types import EncoderSpec
from search.vectors import unit_rows

FAMILY = "text-words"
PREFIX = "word:"  # stands before the name of the text model
# The last four, averaged: among the best for all-MiniLM-L6-v2 by nearest neighbours of the same sense, where single
# layers and averages from the third on hardly differ (benchmarks/RESULTS.md). A network of fewer gives its last.
LAYERS = "-4,-3,-2,-1"
LAST = "-1"

_MARKED = re.compile(r"\[([^\[\]]*)\]")
_AT_ONCE = 64  # contexts whose token vectors are in memory together


class ContextualWordEncoder(Encoder):
    """A word in a text: the mean of its tokens' hidden states, at length 1.

    A str is a query: the word of it that stands in square brackets ("I sat by the river [bank]"), or all of it.
    """

    def __init__(self, text: TextEncoder, layer: str = LAYERS) -> None:
        self.text = text
        self._layer = layer
        ((_, states),) = text.token_vectors(["a"], layer=layer)
        self.spec = replace(
            text.spec,
            family=FAMILY,
            model=PREFIX + text.spec.model,
            dim=states.shape[1],
            options={"layer": layer, "max_tokens": text.max_tokens},
        )

    @classmethod
    def from_name(
        cls, model: str, *, layer: str | None = None, device: str = "auto", precision: str = "auto"
    ) -> ContextualWordEncoder:
        """The words of that text model (`word:NAME` without the prefix), by name or folder.

        Raises:
            ModelUnavailable: as `TextEncoder.from_name`.
            ModelError: the network has no such layer.
        """
        plain = TextOptions(query_prompt="", document_prompt="")
        text = TextEncoder.from_name(model, device=device, precision=precision, options=plain)
        if layer is not None:
            return cls(text, in_order(layer))
        try:
            return cls(text, LAYERS)
        except ModelError:
            return cls(text, LAST)

    @classmethod
    def from_spec(
        cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto"
    ) -> ContextualWordEncoder:
        """The encoder that a space was made with.

        Raises:
            ModelUnavailable: as `TextEncoder.from_spec`.
            EncoderDrift: the model of that name now has other weights.
        """
        inner = replace(
            spec,
            family="text",
            model=spec.model.removeprefix(PREFIX),
            options={"max_tokens": spec.options["max_tokens"]},
        )
        return cls(
            TextEncoder.from_spec(inner, device=device, precision=precision), str(spec.options["layer"])
        )

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Vectors of words: (n, dim) float32, each row of length 1; the same for queries and documents.

        Words of one text are encoded together. Of a text longer than the model's window the stretch around the
        word is read.

        Raises:
            WrongModality: an item is neither a str nor an `Occurrence`.
            QueryError: several words of a str are marked, or there is nothing in it or in the brackets.
            ModelError: the model sees no token in a word.
        """
        wanted: dict[str, list[tuple[int, int, int]]] = {}
        for number, item in enumerate(items):
            one = self._windowed(self._occurrence(item))
            wanted.setdefault(one.text, []).append((number, one.start, one.end))
        out = np.empty((len(items), self.spec.dim), dtype=np.float32)
        texts = sorted(wanted, key=len)
        for begin in range(0, len(texts), _AT_ONCE):
            some = texts[begin : begin + _AT_ONCE]
            pairs = self.text.token_vectors(some, layer=self._layer)
            for text, (offsets, states) in zip(some, pairs, strict=True):
                for number, start, end in wanted[text]:
                    within = (offsets[:, 0] < end) & (offsets[:, 1] > start)
                    if not within.any():
                        raise ModelError(
                            f"{self.spec.model} sees no token in {text[start:end]!r}; leave that word out"
                        )
                    out[number] = states[within].mean(axis=0)
        if not np.isfinite(out).all():
            raise ModelError("the model's numbers overflow in this precision; use --precision fp32 or bf16")
        return unit_rows(out)

    def _occurrence(self, item: Item) -> Occurrence:
        if isinstance(item, Occurrence):
            return item
        if not isinstance(item, str):
            raise WrongModality(
                f"{self.spec.model} encodes words in texts, not {type(item).__name__}; pass a str"
            )
        return marked(item)

    def _windowed(self, one: Occurrence) -> Occurrence:
        """The occurrence in a text that fits into the window, with about as much before as behind it."""
        if len(one.text) <= self.text.max_tokens:  # a token has at least a character
            return one
        (offsets,) = self.text.token_offsets([one.text])
        most = self.text.max_tokens
        if len(offsets) <= most:
            return one
        first = int(np.searchsorted(offsets[:, 1], one.start, side="right"))
        behind = int(np.searchsorted(offsets[:, 0], one.end))
        room = most - (behind - first)
        if room <= 0:
            return Occurrence(one.text[one.start : one.end], 0, one.end - one.start)
        low = max(min(first - room // 2, len(offsets) - most), 0)
        start, end = int(offsets[low, 0]), int(offsets[low + most - 1, 1])
        return Occurrence(one.text[start:end], one.start - start, one.end - start)


def marked(query: str) -> Occurrence:
    """The word that a query marks by square brackets, without them in its text; all of it where there are none.

    Raises:
        QueryError: several words are marked, or there is nothing to encode.
    """
    found = list(_MARKED.finditer(query))
    if len(found) > 1:
        raise QueryError(
            f"{len(found)} words are marked in {query!r}; put one of them in square brackets, such as [bank]"
        )
    if not found:
        start = len(query) - len(query.lstrip())
        return _checked(query, query, start, len(query.rstrip()))
    start, word = found[0].start(), found[0][1]
    text = query[:start] + word + query[found[0].end() :]
    left = len(word) - len(word.lstrip())
    return _checked(query, text, start + left, start + len(word.rstrip()))


def _checked(query: str, text: str, start: int, end: int) -> Occurrence:
    if start >= end:
        raise QueryError(f"no word is there in {query!r}; write one, in square brackets within a sentence")
    return Occurrence(text, start, end)
