"""Prepares texts for an encoder: they are cut into passages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingest.markup import Passage, cut_markup
from ingest.passages import Lengths, cut
from ingest.pipeline import Prepare, Ready
from ingest.sources.contract import Item, Rejected
from search.types import Part

if TYPE_CHECKING:
    from search.encoders.contract import TextModel


class Passages:
    """Cuts each text into passages by the tokens that the model counts.

    What is encoded of a passage of Markdown is the headings above it, then a line end, then the passage.
    """

    def __init__(self, encoder: Callable[[], TextModel], lengths: Lengths) -> None:
        self._encoder = encoder
        self._lengths = lengths

    def __call__(self, items: Sequence[Item]) -> list[Ready | Rejected]:
        texts = [item.record.text or "" for item in items]
        outcome: list[Ready | Rejected] = []
        encoder = self._encoder()
        tokens, overlap = self._lengths.within(encoder.max_tokens, encoder.spec.model)
        for item, text, offsets in zip(items, texts, encoder.token_offsets(texts), strict=True):
            if item.markup:
                passages = cut_markup(text, offsets, self._count, tokens=tokens, overlap=overlap)
            else:
                spans = cut(text, offsets, tokens=tokens, overlap=overlap)
                passages = [Passage(start, end, "") for start, end in spans]
            if not passages:
                place = item.file or str(item.record.uri or item.origin)
                outcome.append(Rejected(place, "there are no words in it", item.line, item.record.id))
                continue
            parts = tuple(Part(one.start, one.end) for one in passages)
            encodable = tuple(_in_context(text, one) for one in passages)
            outcome.append(Ready(item, parts, encodable, tokens_in(offsets, parts)))
        return outcome

    def _count(self, texts: Sequence[str]) -> list[int]:
        return [len(offsets) for offsets in self._encoder().token_offsets(texts)]


def _in_context(text: str, passage: Passage) -> str:
    words = text[passage.start : passage.end]
    return f"{passage.context}\n{words}" if passage.context else words


def tokens_in(offsets: NDArray[np.int32], parts: Sequence[Part]) -> int:
    """How many of a text's tokens stand in its passages; those in two of them count twice.

    Args:
        offsets: (n, 2) start and end of each token, in characters.
        parts: the passages.
    """
    if len(parts) == 1:
        return len(offsets)
    starts = np.maximum.accumulate(offsets[:, 0])
    bounds = np.searchsorted(starts, [(part.start or 0, part.end or 0) for part in parts])
    return int((bounds[:, 1] - bounds[:, 0]).sum())


class Known:
    """Passes on what the model knows something of; a text all of whose passages are unknown to it is rejected."""

    def __init__(self, prepare: Prepare, encoder: Callable[[], TextModel]) -> None:
        self._prepare = prepare
        self._encoder = encoder

    def __call__(self, items: Sequence[Item]) -> Iterable[Ready | Rejected]:
        outcome = list(self._prepare(items))
        encoder = self._encoder()
        texts = [str(one) for ready in outcome if isinstance(ready, Ready) for one in ready.encodable]
        known = iter(encoder.knows(texts).tolist())
        for one in outcome:
            if isinstance(one, Rejected):
                yield one
                continue
            stays = [next(known) for _ in one.encodable]
            if all(stays):
                yield one
            elif any(stays):
                parts = tuple(part for part, there in zip(one.parts, stays, strict=True) if there)
                texts_ = tuple(text for text, there in zip(one.encodable, stays, strict=True) if there)
                yield replace(one, parts=parts, encodable=texts_)
            else:
                item = one.item
                place = item.file or str(item.record.uri or item.origin)
                reason = f"no word of it is in the vocabulary of '{encoder.spec.model}'"
                yield Rejected(place, reason, item.line, item.record.id)
