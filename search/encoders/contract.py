"""The contract of an encoder: items in, unit vectors out, at any time and for queries as for documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from search.encoders.graph_items import LabelledGraph
from search.errors import ModelError
from search.types import EncoderSpec

Role: TypeAlias = Literal["document", "query"]
Vectors: TypeAlias = NDArray[np.float32]
Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]  # a prepared picture: (channels, height, width)

PROBES = ("nearkin finds the nearest kin", "Ein Satz über Äpfel und Birnen.", "def add(a, b): return a + b")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of encoding: row i of `vectors` (n, dim) is right where `done[i]`; `error` says why not all are."""

    vectors: Vectors
    done: NDArray[np.bool_]
    error: ModelError | None = None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A word where it stands: text[start:end], in characters."""

    text: str
    start: int
    end: int


# A str is words, a Path or an Image is a picture, Pixels are one that the model's own `preparation` has made ready; an
# Occurrence is taken by encoders of words in their context. A LabelledGraph or its Path is taken by those of graphs.
Item: TypeAlias = str | Path | Image | Pixels | Occurrence | LabelledGraph


class Encoder(ABC):
    """Turns texts or pictures into unit vectors.

    `spec` says everything needed to build the same encoder again; it is stored with the space. `tokens_used`
    is what a remote model has counted, and charges for, until now; None where nobody counts. `at_once` says how many
    calls it works on side by side, when they come from several threads.
    """

    spec: EncoderSpec
    tokens_used: int | None = None
    at_once: int = 1

    @abstractmethod
    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Vectors of `items`, in their order: (n, dim) float32, each row of length 1.

        The result of an item does not depend on what else is in the call (beyond rounding).

        Raises:
            WrongModality: an item is of a kind that the model cannot take.
            SourceError: a picture cannot be read.
        """

    def attempt(self, items: Sequence[Item]) -> Attempt:
        """As `encode` of documents, but a model that fails half-way loses nothing of what it gave before.

        Most models give all or nothing; one that is paid for by the piece says more.
        """
        return Attempt(self.encode(items), np.ones(len(items), dtype=np.bool_))

    def memory_elsewhere(self) -> int:
        """The most bytes that processes of its own have taken, 0 where it has none."""
        return 0

    def probe_texts(self) -> tuple[str, ...]:
        """Texts that it can encode, the same ones each time, by whose vectors a changed model is noticed."""
        return PROBES


class TextModel(Encoder):
    """An encoder of texts that also says where a text may be cut, so that the pieces fit it.

    `max_tokens` is how many tokens of a document it sees, beside what it adds itself.
    """

    max_tokens: int

    @abstractmethod
    def token_offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where each token of each text stands: (n_tokens, 2) start and end, in characters.

        Without special tokens, without prompts, and of the whole text, however long.
        """

    def knows(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether each text can be encoded; a model with a fixed vocabulary of words may know none of it."""
        return np.ones(len(texts), dtype=np.bool_)


class PictureModel(Encoder):
    """An encoder of pictures, whose preparation can be done elsewhere, ahead of it.

    `preparation` turns an RGB picture into what the network takes. It holds no network and can be pickled, so that
    other threads and processes can do it; what it gives is taken by `encode` in the picture's stead, with the same
    result.
    """

    preparation: Callable[[Image], Pixels]
