"""Words with their vectors and counts, as a value that can be kept as a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import SourceError

FORMAT = "nearkin words 1"
MOST_NUMBERS = 65_536  # of one vector; a file that announces more is damaged or means harm


@dataclass(frozen=True, slots=True)
class WordTable:
    """Distinct words, the commonest first where that is known.

    Args:
        words: n of them.
        vectors: (n, dim) float32, finite.
        counts: (n,) int64, how often each stood in the corpus; None if unknown.
        repeated: how many later rows of a file were left out because their word stood there before.
    """

    words: tuple[str, ...]
    vectors: NDArray[np.float32]
    counts: NDArray[np.int64] | None = None
    repeated: int = 0

    @property
    def dim(self) -> int:
        """The width of the vectors."""
        return int(self.vectors.shape[1])

    @classmethod
    def made(
        cls,
        words: Sequence[str],
        vectors: NDArray[np.float32],
        counts: NDArray[np.int64] | None = None,
        *,
        place: str,
    ) -> WordTable:
        """The table of these rows after a look at them; of a word that stands twice the first row stays.

        Raises:
            SourceError: lengths differ, a number is not finite, or a count is negative; `place` is the file.
        """
        n = len(words)
        if vectors.ndim != 2 or len(vectors) != n or not n or not 1 <= vectors.shape[1] <= MOST_NUMBERS:
            shape = "x".join(str(size) for size in vectors.shape)
            raise SourceError(f"it holds {n} words and {shape} numbers; give a vector for each", place)
        bad = _first_bad(vectors)
        if bad is not None:
            raise SourceError(
                f"the vector of word {bad + 1} ({words[bad]!r}) holds NaN or infinity; mend or remove it",
                place,
            )
        if counts is not None:
            if counts.shape != (n,) or counts.dtype.kind not in "iu" or (counts < 0).any():
                raise SourceError(
                    f"the counts are not {n} whole numbers from 0; save one for each word", place
                )
            counts = counts.astype(np.int64)
        if len(set(words)) == n:
            return cls(tuple(words), vectors, counts)
        seen: dict[str, int] = {}
        for row, word in enumerate(words):
            seen.setdefault(word, row)
        kept = np.fromiter(seen.values(), np.int64, len(seen))
        return cls(tuple(seen), vectors[kept], None if counts is None else counts[kept], n - len(kept))

    def to_bytes(self) -> bytes:
        """The table as a safetensors file: vectors, counts, and the words as UTF-8 with their lengths."""
        from safetensors.numpy import save

        encoded = [word.encode("utf-8", "surrogatepass") for word in self.words]
        tensors: dict[str, NDArray[np.generic]] = {
            "vectors": np.ascontiguousarray(self.vectors, np.float32),
            "letters": np.frombuffer(b"".join(encoded), np.uint8),
            "lengths": np.fromiter(map(len, encoded), np.int32, len(encoded)),
        }
        if self.counts is not None:
            tensors["counts"] = self.counts
        return bytes(save(tensors, metadata={"nearkin": FORMAT}))

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> WordTable:
        """The table that `to_bytes` wrote.

        Raises:
            SourceError: the bytes are damaged or of something else; `place` is what the message calls them.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            length = int.from_bytes(data[:8], "little")
            said = json.loads(data[8 : 8 + length]).get("__metadata__", {}).get("nearkin")
            tensors = load(data)
        except (ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
            raise SourceError(f"it is damaged ({type(error).__name__}); get it again", place) from None
        if said != FORMAT or not {"vectors", "letters", "lengths"} <= set(tensors):
            raise SourceError("it holds no words that nearkin wrote; give word2vec, GloVe or npz", place)
        ends = np.cumsum(tensors["lengths"], dtype=np.int64)
        letters = tensors["letters"].tobytes()
        if len(ends) and (ends[-1] != len(letters) or (tensors["lengths"] < 0).any()):
            raise SourceError("its words do not match their lengths; get it again", place)
        starts = (ends - tensors["lengths"]).tolist()
        words = [
            letters[start:end].decode("utf-8", "surrogatepass")
            for start, end in zip(starts, ends.tolist(), strict=True)
        ]
        vectors = tensors["vectors"].astype(np.float32, copy=False)
        return cls.made(words, vectors, tensors.get("counts"), place=place)


def _first_bad(vectors: NDArray[np.float32]) -> int | None:
    for begin in range(0, len(vectors), 65_536):
        good = np.isfinite(vectors[begin : begin + 65_536]).all(axis=1)
        if not good.all():
            return begin + int(np.argmin(good))
    return None
