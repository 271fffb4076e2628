"""Cross-encoders: networks that read a query and a passage together and say how well they fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from search.encoders.device import choose_device, choose_dtype
from search.encoders.packaged import locate
from search.encoders.text_load import LOAD_ERRORS, quiet
from search.errors import ModelError, ModelUnavailable

_PAIRS = 32  # in a batch
_WINDOW = 512  # tokens of a pair, where the model does not say
_UNLIMITED = 1_000_000  # what tokenizers say that know no window


class CrossEncoder:
    """A sequence classifier of transformers with one output, such as cross-encoder/ms-marco-MiniLM-L6-v2."""

    def __init__(self, model: str, network: Any, tokenizer: Any, device: torch.device) -> None:
        """See `from_name`."""
        self.model = model
        self._network, self._tokenizer, self._device = network, tokenizer, device
        window = getattr(network.config, "max_position_embeddings", _WINDOW)
        if network.config.model_type in ("roberta", "xlm-roberta", "camembert"):
            window -= 2  # their positions begin behind that of the padding
        limit = tokenizer.model_max_length
        self._window = min(window, limit if limit < _UNLIMITED else _WINDOW)

    @classmethod
    def from_name(cls, model: str, *, device: str = "auto", precision: str = "auto") -> CrossEncoder:
        """The cross-encoder of that name on the Hugging Face hub, or in that folder; its weights as safetensors.

        Raises:
            ModelUnavailable: it is not on this machine and could not be fetched, or its files cannot be used.
            ModelError: it has more than one output, or `device` or `precision` makes no sense.
        """
        where = choose_device(device)
        dtype = choose_dtype(precision, where)
        folder = locate(model)
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        own = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(folder, **own)
            kinds = getattr(config, "architectures", None) or [""]
            if config.num_labels != 1 or not kinds[0].endswith("ForSequenceClassification"):
                raise ModelError(
                    f"{model} is no cross-encoder with one score ({kinds[0] or 'of no kind'}, {config.num_labels} "
                    "outputs); choose one, such as cross-encoder/ms-marco-MiniLM-L6-v2, or maxsim"
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, **own)
            with quiet():
                network = AutoModelForSequenceClassification.from_pretrained(
                    folder, use_safetensors=True, dtype=dtype, **own
                )
        except LOAD_ERRORS as error:
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise ModelUnavailable(
                f"{model} cannot be loaded from {folder} ({reason}); get its files again, with safetensors"
            ) from error
        return cls(model, network.to(where).eval(), tokenizer, where)

    @torch.inference_mode()
    def scores(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """How well each passage fits its query: the network's output (n,) before any squashing, higher is better.

        Pairs that are too long lose the end of the passage, or of whichever of the two is longer.
        """
        found = np.empty(len(pairs), np.float32)
        # Alike in length go together, so that little is padding.
        order = sorted(range(len(pairs)), key=lambda number: -sum(map(len, pairs[number])))
        for begin in range(0, len(order), _PAIRS):
            some = order[begin : begin + _PAIRS]
            inputs = self._tokenizer(
                [pairs[number] for number in some],
                padding=True,
                truncation="longest_first",
                max_length=self._window,
                return_tensors="pt",
            ).to(self._device)
            found[some] = self._network(**inputs).logits[:, 0].float().cpu().numpy()
        return found
