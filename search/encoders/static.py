"""Texts into unit vectors by the vectors of their words: word2vec, GloVe and their kin, averaged with SIF weights."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import Item, Role, TextModel, Vectors
from search.encoders.packaged import file_sha256
from search.encoders.word_files import read_words
from search.encoders.word_table import WordTable
from search.encoders.words import UNKNOWN, Forms, spans_of, words_of
from search.errors import EncoderDrift, ModelUnavailable, QueryError, SourceError, WrongModality
from search.types import EncoderSpec, Json, Modality

FAMILY = "static"

SIF = 1e-3  # Arora et al. 2017, sec. 4.1: anything from 1e-4 to 1e-3 serves
UNLIMITED = 1_000_000  # words of a text; there is no window
_RUN = 65_536  # texts averaged together
_VANISHED = 1e-4  # of its length: what is left of a text that lies along the common component is rounding


class StaticEncoder(TextModel):
    """The mean of a text's word vectors, each weighted by a / (a + p(word)), less their common component.

    p(word) is the word's share of the corpus where counts are known; else it is taken from its place in the
    file, which lists the commonest first, by Zipf's law: p(r) = 1 / (r (1 + 1/2 + ... + 1/n)). Words that are
    not in the vocabulary are passed over. The component is learned from a corpus (`first_component`), never
    from what is being encoded, so that documents and queries agree.
    Arora, Liang & Ma 2017, "A simple but tough-to-beat baseline for sentence embeddings", algorithm 1.

    Args:
        table: the words and their vectors.
        name: the model as the user called it.
        weights: the sha256 of the file, or of the bytes that the catalog keeps.
        component: (dim,) the unit vector to be taken out of each mean; None takes out nothing.
        by_word: whether the items are words of the vocabulary, each with its own vector, rather than texts.
        file: where the vectors stand, if they are not kept in the catalog.
        source: the sha256 of the file that the kept bytes were made from, so that a change of it is noticed.
    """

    max_tokens = UNLIMITED

    def __init__(
        self,
        table: WordTable,
        *,
        name: str,
        weights: str,
        component: NDArray[np.float32] | None = None,
        by_word: bool = False,
        file: str | None = None,
        source: str | None = None,
    ) -> None:
        self.table = table
        self._vocabulary = {word: row for row, word in enumerate(table.words)}
        self._forms = Forms(self._vocabulary)
        self._sif = (SIF / (SIF + frequencies(table))).astype(np.float32)
        self._component = component
        self._by_word = by_word
        options: dict[str, Json] = {"level": "word"} if by_word else {"sif": SIF}
        options["frequencies"] = "zipf" if table.counts is None else "counts"
        if component is not None:
            options["component"] = base64.b64encode(component.astype("<f4").tobytes()).decode()
        if file is not None:
            options["file"] = file
        if source is not None:
            options["source"] = source
        self.spec = EncoderSpec(
            family=FAMILY,
            model=name,
            modality=Modality.TEXT,
            dim=table.dim,
            accepts=("text",),
            weights=weights,
            options=options,
        )

    @classmethod
    def from_name(cls, model: str) -> StaticEncoder:
        """The encoder of a file of word vectors, without a common component.

        Args:
            model: the path of a word2vec (text or binary), GloVe, npz or safetensors file.

        Raises:
            ModelUnavailable: the file is missing, damaged or of another kind, or the name is that of a method
                that learns from texts.
        """
        path = Path(model).expanduser()
        if not path.suffix and not path.is_file():
            raise ModelUnavailable(
                f"'{model}' is learned from your own texts; ingest texts with --model {model}"
            )
        table = _read(path)
        return cls(table, name=model, weights=file_sha256(path), file=str(path.resolve()))

    @classmethod
    def from_spec(cls, spec: EncoderSpec, *, data: bytes | None = None) -> StaticEncoder:
        """The encoder that a space was made with.

        Args:
            spec: as stored with the space.
            data: the words and vectors where the catalog keeps them (learned ones, and small files).

        Raises:
            ModelUnavailable: the file or the bytes are missing or damaged.
            EncoderDrift: they are not those that the space was made with.
        """
        options = spec.options
        file = cast("str | None", options.get("file"))
        if data is not None:
            found = hashlib.sha256(data).hexdigest()
        elif file is None:
            raise ModelUnavailable(f"the word vectors of '{spec.model}' are missing; restore a backup")
        elif not Path(file).is_file():
            raise ModelUnavailable(
                f"the word vectors of this space stood in {file}, which is gone; put the file back "
                f"(sha256 {spec.weights}), or ingest again into a new space"
            )
        else:
            found = file_sha256(Path(file))
        if spec.weights not in (None, found):
            raise EncoderDrift(
                f"the word vectors of '{spec.model}' are not those that the space was made with "
                f"(sha256 {spec.weights}); put the former file back, or ingest again into a new space"
            )
        if data is not None:
            try:
                table = WordTable.from_bytes(data, f"the model '{spec.model}'")
            except SourceError as error:
                raise ModelUnavailable(str(error)) from None
        else:
            table = _read(Path(cast("str", file)))
        said = options.get("component")
        return cls(
            table,
            name=spec.model,
            weights=found,
            component=None if said is None else np.frombuffer(base64.b64decode(str(said)), "<f4"),
            by_word=options.get("level") == "word",
            file=file,
            source=cast("str | None", options.get("source")),
        )

    def with_component(self, component: NDArray[np.float32]) -> StaticEncoder:
        """The same encoder, which also takes this unit vector (dim,) out of each mean."""
        options = self.spec.options
        return StaticEncoder(
            self.table,
            name=self.spec.model,
            weights=str(self.spec.weights),
            component=component,
            file=cast("str | None", options.get("file")),
            source=cast("str | None", options.get("source")),
        )

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of texts (or of words, where the space holds words), (n, dim) float32, row i for item i.

        Args:
            items: texts.
            role: makes no difference.

        Raises:
            WrongModality: an item is not a str.
            QueryError: no word of an item is in the vocabulary, so nothing can be said of it.
        """
        texts: list[str] = []
        for item in items:
            if not isinstance(item, str):
                raise WrongModality(f"{self.spec.model} encodes texts, not {type(item).__name__}; pass a str")
            texts.append(item)
        out = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        for start in range(0, len(texts), _RUN):
            some = texts[start : start + _RUN]
            rows, ends = self.rows_of(some)
            unknown = np.flatnonzero(np.diff(ends) == 0)
            if len(unknown):
                raise QueryError(
                    f"no word of {some[unknown[0]][:60]!r} is in the vocabulary of '{self.spec.model}' "
                    f"({len(self.table.words):,} words); use other words"
                )
            out[start : start + _RUN] = self._unit(self.means(rows, ends))
        return out

    def rows_of(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The vocabulary's rows of the known words of texts, one text after the other.

        Returns:
            The rows, and (n + 1,) where each text's begin and the last one's end.
        """
        forms = self._forms
        found: list[int] = []
        ends = [0]
        for text in texts:
            whole = self._vocabulary.get(text) if self._by_word else None
            if whole is not None:
                found.append(whole)
            else:
                found += [row for row in [forms[word] for word in words_of(text)] if row != UNKNOWN]
            ends.append(len(found))
        return np.asarray(found, np.int32), np.asarray(ends, np.int64)

    def means(self, rows: NDArray[np.int32], ends: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weighted means of word vectors (n, dim), the component still in them; by one sparse product."""
        from scipy.sparse import csr_matrix

        counts = np.diff(ends)
        weights = np.ones(len(rows), np.float32) if self._by_word else self._sif[rows]
        weights /= np.repeat(np.maximum(counts, 1), counts).astype(np.float32)
        shape = (len(counts), len(self.table.words))
        return np.asarray(csr_matrix((weights, rows, ends), shape=shape) @ self.table.vectors, np.float32)

    def knows(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether at least one word of each text is in the vocabulary, with a vector that is not zero."""
        rows, ends = self.rows_of(texts)
        return np.asarray(np.abs(self.means(rows, ends)).max(axis=1, initial=0) > 0)

    def token_offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where each word of each text stands, known or not: (n_words, 2) start and end, in characters."""
        return [np.asarray(spans_of(text), np.int32).reshape(-1, 2) for text in texts]

    def probe_texts(self) -> tuple[str, ...]:
        """Texts of its own words, as those that other models are probed with may be unknown to it."""
        known = np.flatnonzero(np.abs(self.table.vectors).max(axis=1) > 0)
        if not len(known):
            return ()
        chosen = [self.table.words[known[at]] for at in np.linspace(0, len(known) - 1, 12).astype(int)]
        texts = (chosen[0], *(" ".join(chosen[at : at + 4]) for at in (0, 4, 8)))
        return tuple(text for text, known_ in zip(texts, self.knows(texts), strict=True) if known_)

    def _unit(self, means: NDArray[np.float32]) -> Vectors:
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        if self._component is not None:
            less = means - np.outer(means @ self._component, self._component)
            left = np.linalg.norm(less, axis=1, keepdims=True)
            stays = left > _VANISHED * lengths
            means, lengths = np.where(stays, less, means), np.where(stays, left, lengths)
        if (lengths == 0).any():
            raise QueryError(
                f"the words of a text have only zeros as vectors in '{self.spec.model}'; use other words"
            )
        return np.asarray(means / lengths, np.float32)


def frequencies(table: WordTable) -> NDArray[np.float64]:
    """The share of each word in the corpus (n,): from counts, else from its rank by Zipf's law."""
    n = len(table.words)
    if table.counts is not None and table.counts.sum() > 0:
        return np.asarray(table.counts / table.counts.sum())
    inverse = 1.0 / np.arange(1, n + 1)
    return np.asarray(inverse / inverse.sum())


def first_component(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first right singular vector (dim,) of texts' means (n, dim), of length 1; they are not centred."""
    wide = means.astype(np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)
    first = vectors[:, -1]
    largest = first[np.argmax(np.abs(first))]
    return np.asarray(first * np.sign(largest), np.float32)


def _read(path: Path) -> WordTable:
    try:
        return read_words(path)
    except SourceError as error:
        raise ModelUnavailable(str(error)) from None
