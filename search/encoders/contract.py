"""The contract of an encoder: items in, unit vectors out, at any time and for queries as for documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from search.types import EncoderSpec

Role: TypeAlias = Literal["document", "query"]
Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A word where it stands: text[start:end], in characters."""

    text: str
    start: int
    end: int


# A str is words, a Path or an Image is a picture; an Occurrence is taken by encoders of words in their context.
Item: TypeAlias = str | Path | Image | Occurrence


class Encoder(ABC):
    """Turns texts or pictures into unit vectors.

    `spec` says everything needed to build the same encoder again; it is stored with the space.
    """

    spec: EncoderSpec

    @abstractmethod
    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Vectors of `items`, in their order: (n, dim) float32, each row of length 1.

        The result of an item does not depend on what else is in the call (beyond rounding).

        Raises:
            WrongModality: an item is of a kind that the model cannot take.
            SourceError: a picture cannot be read.
        """
