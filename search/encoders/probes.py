"""Fixed items whose vectors are kept with a space, so that a model that has changed is noticed, not trusted."""

from __future__ import annotations

import numpy as np
from PIL import Image

from search.encoders.contract import Encoder, Item, Vectors
from search.errors import EncoderDrift
from search.types import Space

_LEAST_COSINE = 0.999  # what the precisions on offer promise; another model falls far below


def _items(encoder: Encoder) -> list[Item]:
    accepts = encoder.spec.accepts
    items: list[Item] = []
    if "text" in accepts:
        items.extend(encoder.probe_texts())
    if "image" in accepts:
        slope = np.add.outer(np.arange(96), 2 * np.arange(96)) % 256
        picture = np.stack([slope, slope.T, 255 - slope], axis=-1).astype(np.uint8)
        items.append(Image.fromarray(picture))
    return items


def probe(encoder: Encoder) -> Vectors:
    """The encoder's vectors (n, dim) of the fixed items, to be stored when a space is made."""
    return encoder.encode(_items(encoder))


def check(encoder: Encoder, space: Space, stored: bytes) -> None:
    """Compare the encoder with what it gave when the space was made.

    Raises:
        EncoderDrift: it gives other vectors now.
    """
    before = np.frombuffer(stored, "<f4").reshape(-1, space.dim)
    now = probe(encoder)
    if now.shape != before.shape:
        raise EncoderDrift(_said(space, f"has {now.shape[1]} dimensions where the space has {space.dim}"))
    if not len(before):
        return  # a model with a vocabulary too small for any probe; its weights have been compared
    cosine = float(np.min(np.einsum("nd,nd->n", now, before)))
    if cosine < _LEAST_COSINE:
        raise EncoderDrift(
            _said(space, f"gives other vectors than when the space was made (cosine {cosine:.3f})")
        )


def _said(space: Space, what: str) -> str:
    return (
        f"the model '{space.encoder.model}' of space '{space.name}' {what}; "
        "put the old model back, or ingest into a new space"
    )
