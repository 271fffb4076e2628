"""Prepares inputs for an encoder: texts are cut into passages, pictures are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from PIL.Image import Image
from search.encoders.pictures import open_picture

from ingest.passages import cut
from ingest.pipeline import Ready
from ingest.sources.contract import Item, Rejected
from search.errors import SourceError
from search.types import WHOLE, Part

if TYPE_CHECKING:
    from search.encoders.text import TextEncoder

_DECODERS = 2  # threads; PIL frees the interpreter while it decodes


class Passages:
    """Cuts each text into passages by the model's own tokenizer."""

    def __init__(self, encoder: TextEncoder, tokens: int, overlap: int) -> None:
        self._encoder = encoder
        self._tokens = min(tokens, encoder.max_tokens)
        self._overlap = min(overlap, max((self._tokens - 1) // 2, 0))

    def __call__(self, items: Sequence[Item]) -> list[Ready | Rejected]:
        texts = [item.record.text or "" for item in items]
        outcome: list[Ready | Rejected] = []
        for item, text, offsets in zip(items, texts, self._encoder.token_offsets(texts), strict=True):
            spans = cut(text, offsets, tokens=self._tokens, overlap=self._overlap)
            if not spans:
                place = str(item.record.uri or item.origin)
                outcome.append(Rejected(place, "there are no words in it", id=item.record.id))
                continue
            parts = tuple(Part(start, end) for start, end in spans)
            outcome.append(Ready(item, parts, tuple(text[start:end] for start, end in spans)))
        return outcome


class Decoded:
    """Decodes each picture, in threads, so that a damaged one is rejected alone."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_DECODERS, "nearkin-decode")

    def __call__(self, items: Sequence[Item]) -> list[Ready | Rejected]:
        return list(self._threads.map(self._one, items))

    @staticmethod
    def _one(item: Item) -> Ready | Rejected:
        assert item.picture is not None
        try:
            picture: Image = open_picture(item.picture)
        except SourceError as error:
            return Rejected(str(item.picture), str(error), id=item.record.id)
        return Ready(item, (WHOLE,), (picture,))
