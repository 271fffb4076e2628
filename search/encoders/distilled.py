"""Distilled static models (the format of model2vec): the mean of the vectors of a text's tokens, no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import PROBES, Item, Role, TextModel, Vectors
from search.encoders.packaged import file_sha256, locate, read_json
from search.errors import EncoderDrift, ModelError, ModelUnavailable, QueryError, WrongModality
from search.types import EncoderSpec, Json, Modality

FAMILY = "model2vec"
UNLIMITED = 1_000_000  # tokens of a text; there is no window
_RUN = 8_192  # texts tokenized together
_FILES = ("model.safetensors", "tokenizer.json")


class DistilledEncoder(TextModel):
    """The mean of token vectors, each times its weight where the model has weights; unit rows.

    Unknown tokens are left out, as model2vec does. A text is taken whole, however long.

    Args:
        folder: config.json, tokenizer.json and model.safetensors.
        name: the model as the user called it.
        dim: keep only the first so many numbers (they are ordered by variance); None keeps all.

    Raises:
        ModelUnavailable: a file is missing or damaged.
        ModelError: `dim` is not one that the model has.
    """

    max_tokens = UNLIMITED

    def __init__(self, folder: Path, *, name: str, dim: int | None = None) -> None:
        self._tokenizer, self._unknown = _tokenizer(folder)
        tensors = _tensors(folder)
        embeddings = tensors["embeddings"].astype(np.float32)
        width = embeddings.shape[1]
        if dim is not None and not 1 <= dim <= width:
            raise ModelError(f"'{name}' has {width} numbers a vector, not {dim}; choose 1 to {width}")
        self._vectors = np.ascontiguousarray(embeddings[:, :dim])
        self._mapping, self._weights = tensors.get("mapping"), tensors.get("weights")
        n = self._tokenizer.get_vocab_size()
        rows = len(embeddings) if self._mapping is None else len(self._mapping)
        short = rows < n or (self._weights is not None and len(self._weights) < n)
        if short or (self._mapping is not None and not _within(self._mapping, len(embeddings))):
            raise ModelUnavailable(
                f"{folder}: the vectors do not match the tokenizer; get the model's files again"
            )
        options: dict[str, Json] = {} if dim is None else {"dim": dim}
        listed = "".join(f"{file_sha256(folder / file)}\n" for file in _FILES)
        self.spec = EncoderSpec(
            family=FAMILY,
            model=name,
            modality=Modality.TEXT,
            dim=self._vectors.shape[1],
            accepts=("text",),
            weights=hashlib.sha256(listed.encode()).hexdigest(),
            options=options,
        )

    @classmethod
    def from_name(cls, model: str, *, dim: int | None = None) -> DistilledEncoder:
        """The model of that name on the Hugging Face hub, or in that folder.

        Raises:
            ModelUnavailable: it is not on this machine and could not be fetched, or its files cannot be used.
            ModelError: `dim` is not one that the model has.
        """
        return cls(locate(model), name=model, dim=dim)

    @classmethod
    def from_spec(cls, spec: EncoderSpec) -> DistilledEncoder:
        """The encoder that a space was made with.

        Raises:
            ModelUnavailable: as `from_name`.
            EncoderDrift: the model of that name now has other weights.
        """
        dim = spec.options.get("dim")
        encoder = cls.from_name(spec.model, dim=None if dim is None else int(str(dim)))
        if spec.weights not in (None, encoder.spec.weights):
            raise EncoderDrift(
                f"the weights of {spec.model} are not those that its vectors were made with; "
                "get the former files back, or ingest again into a new space"
            )
        return encoder

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Unit vectors of texts, (n, dim) float32, row i for item i; `role` makes no difference.

        Raises:
            WrongModality: an item is not a str.
            QueryError: a text has no known token.
        """
        texts: list[str] = []
        for item in items:
            if not isinstance(item, str):
                raise WrongModality(f"{self.spec.model} encodes texts, not {type(item).__name__}; pass a str")
            texts.append(item)
        out = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        for start in range(0, len(texts), _RUN):
            some = texts[start : start + _RUN]
            means = self._means(some)
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            nothing = np.flatnonzero(lengths[:, 0] == 0)
            if len(nothing):
                raise QueryError(
                    f"no part of {some[nothing[0]][:60]!r} is known to '{self.spec.model}'; use other words"
                )
            out[start : start + _RUN] = means / lengths
        return out

    def knows(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether something can be said of each text."""
        return np.asarray(np.abs(self._means(texts)).max(axis=1, initial=0) > 0)

    def token_offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where each token of each text stands: (n_tokens, 2) start and end, in characters."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.asarray(one.offsets, np.int32).reshape(-1, 2) for one in encoded]

    def probe_texts(self) -> tuple[str, ...]:
        """Those of the usual texts that its vocabulary has something of."""
        return tuple(text for text, known in zip(PROBES, self.knows(PROBES), strict=True) if known)

    def _means(self, texts: Sequence[str]) -> NDArray[np.float32]:
        from scipy.sparse import csr_matrix

        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        lists = [[id for id in one.ids if id != self._unknown] for one in encoded]
        counts = np.fromiter(map(len, lists), np.int64, len(lists))
        ids = np.fromiter((id for one in lists for id in one), np.int64, int(counts.sum()))
        weights = (
            np.ones(len(ids), np.float32) if self._weights is None else self._weights[ids].astype(np.float32)
        )
        weights /= np.repeat(np.maximum(counts, 1), counts).astype(np.float32)
        rows = ids if self._mapping is None else self._mapping[ids]
        ends = np.concatenate([[0], np.cumsum(counts)])
        product = csr_matrix((weights, rows, ends), shape=(len(lists), len(self._vectors))) @ self._vectors
        return np.asarray(product, np.float32)


def is_distilled(model: str) -> bool:
    """Whether a folder, or a model in the hub's cache on this machine, is in the format of model2vec."""
    from search.encoders.packaged import cached

    folder = Path(model).expanduser()
    found = folder if folder.is_dir() else cached(model)
    config = None if found is None else found / "config.json"
    if config is None or not config.is_file():
        return False
    said = read_json(config)
    return bool(said) and said[0].get("model_type") == FAMILY


def _tokenizer(folder: Path) -> tuple[Any, int | None]:
    """The tokenizer, cutting and padding nothing, and the number of its unknown token."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
        said = json.loads(tokenizer.to_str())["model"]
    except Exception as error:  # noqa: BLE001 - the library raises a bare Exception
        reason = " ".join(str(error).split())
        raise ModelUnavailable(f"{file} cannot be used ({reason}); get the model's files again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if said.get("unk_id") is not None:
        return tokenizer, int(said["unk_id"])
    token = said.get("unk_token")
    return tokenizer, None if token is None else tokenizer.token_to_id(token)


def _tensors(folder: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = folder / "model.safetensors"
    try:
        tensors: dict[str, NDArray[Any]] = load_file(file)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ModelUnavailable(f"{file} cannot be used ({error}); get the model's files again") from None
    embeddings = tensors.get("embeddings")
    if embeddings is None or embeddings.ndim != 2 or not embeddings.size:
        raise ModelUnavailable(f"{file} holds no 'embeddings' (n, dim); get the model's files again")
    if not np.isfinite(embeddings.astype(np.float32)).all():
        raise ModelUnavailable(f"{file} holds NaN or infinity; get the model's files again")
    return tensors


def _within(mapping: NDArray[Any], n: int) -> bool:
    return mapping.dtype.kind in "iu" and bool((mapping >= 0).all() and (mapping < n).all())
