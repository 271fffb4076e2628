"""The tokenizer of a model, spoken to in Rust: one call for many texts, in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from search.encoders.packaged import read_json
from search.encoders.text_batches import Rows
from search.encoders.text_checkpoint import Checkpoint
from search.errors import ModelUnavailable

# Stands for "no limit" where neither the tokenizer nor the network has one.
UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """What the library transformers keeps beside a tokenizer.

    Args:
        limit: the most tokens of a row that the tokenizer was made for, special ones included.
        direction: the end at which a text that is too long is cut, "right" or "left".
        filler: the token that stands for an empty text where no special tokens are added.
        takes_types: whether the network tells tokens of a first and a second text apart.
    """

    limit: int = UNLIMITED
    direction: str = "right"
    filler: int = 0
    takes_types: bool = False


class Tokens:
    """Texts as rows of token ids, cut to the model's window."""

    def __init__(self, tokenizer: Tokenizer, settings: TokenizerSettings, *, lower_case: bool) -> None:
        self._tokenizer = tokenizer
        self._whole: Tokenizer | None = None
        self._settings = settings
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if lower_case:
            own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
            tokenizer.normalizer = Normalizers([Lowercase(), *own])
        self._needs_types = settings.takes_types and any(tokenizer.encode("a").type_ids)
        self.special_tokens: int = tokenizer.num_special_tokens_to_add(False)
        self.limit = settings.limit

    def truncate(self, window: int) -> None:
        """See no more than `window` tokens of a text, special ones included, from now on."""
        self._tokenizer.enable_truncation(window, direction=self._settings.direction)

    def count(self, text: str) -> int:
        """How many tokens a text has, without special ones."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt_length(self, prompt: str) -> int:
        """How many tokens at the start of a row belong to the prompt, for poolings that leave it out."""
        mask = self._tokenizer.encode(prompt).special_tokens_mask
        while mask and mask[-1]:
            mask.pop()
        return len(mask)

    def rows(self, texts: Sequence[str]) -> Rows:
        """The token ids of each text, truncated, and its type ids where they are not all 0."""
        return self._rows(self._tokenizer.encode_batch_fast([_sound(text) for text in texts]))

    def placed(self, texts: Sequence[str]) -> tuple[Rows, list[NDArray[np.int32]], list[NDArray[np.bool_]]]:
        """Also where each token stands, (n, 2) in characters, and whether it comes from the text (n,)."""
        encodings = self._tokenizer.encode_batch([_sound(text) for text in texts])
        offsets = [np.array(encoding.offsets or [(0, 0)], dtype=np.int32) for encoding in encodings]
        own = [np.array(encoding.special_tokens_mask or [1]) == 0 for encoding in encodings]
        return self._rows(encodings), offsets, own

    def _rows(self, encodings: Sequence[Any]) -> Rows:
        ids = [encoding.ids or [self._settings.filler] for encoding in encodings]
        starts = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)), out=starts[1:])
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(starts[-1]))
        if not self._needs_types:
            return Rows(flat, starts)
        types = chain.from_iterable(encoding.type_ids or [0] for encoding in encodings)
        return Rows(flat, starts, np.fromiter(types, dtype=np.int64, count=len(flat)))

    def offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Start and end of each token in characters, of whole texts."""
        if self._whole is None:
            # A copy: truncation is a state of the tokenizer, and another thread may be encoding with it.
            whole = Tokenizer.from_str(self._tokenizer.to_str())
            whole.no_truncation()
            self._whole = whole
        encodings = self._whole.encode_batch([_sound(text) for text in texts], add_special_tokens=False)
        return [np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2) for encoding in encodings]


def tokens_from_files(checkpoint: Checkpoint) -> Tokens | None:
    """The tokenizer in a checkpoint's tokenizer.json, without importing transformers; None if it has none."""
    file = checkpoint.network / "tokenizer.json"
    beside = checkpoint.network / "tokenizer_config.json"
    if not file.is_file() or not beside.is_file():
        return None
    (settings, *_) = read_json(beside) or [{}]
    limit = checkpoint.max_length or settings.get("model_max_length")
    takes = settings.get("model_input_names")
    return Tokens(
        Tokenizer.from_file(str(file)),
        TokenizerSettings(
            limit=min(int(limit), UNLIMITED) if isinstance(limit, int | float) else UNLIMITED,
            direction=str(settings.get("truncation_side", "right")),
            takes_types="token_type_ids" in takes
            if isinstance(takes, list)
            else checkpoint.config.get("model_type") == "bert",
        ),
        lower_case=checkpoint.lower_case,
    )


def tokens_from_transformers(checkpoint: Checkpoint, tokenizer: Any) -> Tokens:
    """The tokenizer that transformers made of a checkpoint's files.

    Raises:
        ModelUnavailable: it is written in Python, and cannot say where its tokens stand.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelUnavailable(
            f"{checkpoint.name} has only a slow tokenizer, which cannot say where its tokens stand; "
            "choose a model with a tokenizer.json"
        )
    fillers = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
    return Tokens(
        tokenizer.backend_tokenizer,
        TokenizerSettings(
            limit=min(int(checkpoint.max_length or tokenizer.model_max_length or UNLIMITED), UNLIMITED),
            direction=tokenizer.truncation_side,
            filler=next(int(token) for token in fillers if token is not None),
            takes_types="token_type_ids" in tokenizer.model_input_names,
        ),
        lower_case=checkpoint.lower_case,
    )


def _sound(text: str) -> str:
    """The text, as long as before, with "?" for halves of surrogate pairs, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
