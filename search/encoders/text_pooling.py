"""From the vectors of a text's tokens to one vector, and what a checkpoint does with that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from search.encoders.text_batches import Batch

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "torch.nn.modules.activation.Tanh": torch.tanh,
    "torch.nn.modules.activation.ReLU": torch.relu,
    "torch.nn.modules.activation.GELU": functional.gelu,
    "torch.nn.modules.activation.Sigmoid": torch.sigmoid,
    "torch.nn.modules.linear.Identity": lambda x: x,
}
_DENSE = {"in_features", "out_features", "bias", "activation_function"}
_DEFAULTS = {
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
    "use_residual": False,
}


class PoolingMode(StrEnum):
    """How the vectors of tokens become one. The first four are what `--pooling` takes."""

    CLS = "cls"
    MAX = "max"
    MEAN = "mean"
    MEAN_SQRT = "mean_sqrt_len_tokens"
    WEIGHTED_MEAN = "weightedmean"
    LAST = "last"

    @property
    def saved(self) -> str:
        """As sentence-transformers writes it."""
        return "lasttoken" if self is PoolingMode.LAST else str(self)

    @property
    def flags(self) -> tuple[str, str]:
        """As its older versions wrote it, behind "pooling_mode_"."""
        return (self.saved, f"{self.saved}_tokens") if self is not PoolingMode.CLS else ("cls", "cls_token")


CHOOSABLE = (PoolingMode.CLS, PoolingMode.MEAN, PoolingMode.MAX, PoolingMode.LAST)


@dataclass(frozen=True, slots=True)
class Pooling:
    """One way, or several whose vectors are joined; `include_prompt`: whether the prompt's tokens count."""

    modes: tuple[PoolingMode, ...]
    include_prompt: bool = True

    def __call__(self, states: torch.Tensor, batch: Batch, prompt_length: int) -> torch.Tensor:
        """(rows, width * modes) float32, of hidden states (rows, tokens, width).

        Args:
            states: of the network.
            batch: which of them are tokens.
            prompt_length: how many at the start of a row are the prompt's.
        """
        skipped = 0 if self.include_prompt else prompt_length
        mask = None if batch.full and not skipped else batch.mask()
        if mask is not None and skipped:
            # A row that is nothing but the prompt keeps it: it has nothing else to be told by.
            rest = batch.lengths[:, None] > skipped
            mask = mask & ((torch.arange(states.shape[1], device=states.device) >= skipped) | ~rest)
        joined = [_pool(mode, states, batch, mask) for mode in self.modes]
        return joined[0] if len(joined) == 1 else torch.cat(joined, dim=1)


def _pool(mode: PoolingMode, states: torch.Tensor, batch: Batch, mask: torch.Tensor | None) -> torch.Tensor:
    rows = torch.arange(len(states), device=states.device)
    match mode:
        case PoolingMode.CLS:
            first = 0 if mask is None else mask.int().argmax(dim=1)
            return states[rows, first].float()
        case PoolingMode.LAST:
            return states[rows, batch.lengths - 1].float()
        case PoolingMode.MAX:
            if mask is not None:
                states = states.masked_fill(~mask[:, :, None], -torch.inf)
            return states.amax(dim=1).float()
        case PoolingMode.MEAN if mask is None:
            return states.mean(dim=1, dtype=torch.float32)
        case PoolingMode.MEAN | PoolingMode.MEAN_SQRT:
            if mask is None:
                total, count = states.sum(dim=1, dtype=torch.float32), batch.lengths[:, None].float()
            else:
                # The states at places of padding may be anything, infinite too: they are left out, not weighed.
                total = states.masked_fill(~mask[:, :, None], 0).sum(dim=1, dtype=torch.float32)
                count = mask.sum(dim=1, keepdim=True).float()
            return total / (count if mode is PoolingMode.MEAN else count.sqrt())
        case PoolingMode.WEIGHTED_MEAN:
            weights = torch.arange(1, states.shape[1] + 1, device=states.device, dtype=torch.float32)
            weights = weights.expand(states.shape[:2])
            if mask is not None:
                weights, states = weights * mask, states.masked_fill(~mask[:, :, None], 0)
            total = (states.float() * weights[:, :, None]).sum(dim=1)
            return total / weights.sum(dim=1, keepdim=True)


@dataclass(frozen=True, slots=True)
class Step:
    """What a checkpoint does with the pooled vector: Dense, LayerNorm or Normalize, with its settings."""

    kind: str
    folder: Path
    settings: Mapping[str, Any]

    def understood(self) -> bool:
        """Whether `load` can build it; else sentence-transformers has to."""
        unusual = {key for key, usual in _DEFAULTS.items() if self.settings.get(key) not in (None, usual)} | (
            {*self.settings} - _DEFAULTS.keys() - _DENSE - {"dimension"}
        )
        activation = self.settings.get("activation_function", "torch.nn.modules.activation.Tanh")
        return not unusual and activation in _ACTIVATIONS

    def load(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function (rows, in) -> (rows, out), in float32.

        Raises:
            KeyError: a tensor is missing.
            OSError: there is no file of weights.
        """
        if self.kind == "Normalize":
            return lambda x: functional.normalize(x, dim=1)
        weights = {name: tensor.float().to(device) for name, tensor in load_tensors(self.folder).items()}
        if self.kind == "LayerNorm":
            weight, shift = weights["norm.weight"], weights["norm.bias"]
            return lambda x: functional.layer_norm(x, weight.shape, weight, shift)
        weight, bias = weights["linear.weight"], None
        if self.settings.get("bias", True):
            bias = weights["linear.bias"]
        activation = _ACTIVATIONS[
            str(self.settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
        ]
        return lambda x: activation(functional.linear(x, weight, bias))


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder's one file of weights, by name: safetensors, or a pickle of nothing but tensors.

    Raises:
        OSError: there is no such file.
        pickle.UnpicklingError: the pickle holds anything but tensors.
    """
    safe = folder / "model.safetensors"
    if safe.is_file():
        from safetensors.torch import load_file

        return load_file(safe)
    tensors: dict[str, torch.Tensor] = torch.load(
        folder / "pytorch_model.bin", map_location="cpu", weights_only=True
    )
    return tensors


class Head:
    """Pooling, the steps behind it, and unit length.

    Args:
        pooling: how tokens become one vector.
        steps: what follows, in order.
        dim: keep the first so many numbers (Matryoshka; Kusupati et al. 2022), before the vector gets unit
            length; None keeps all.
    """

    def __init__(
        self, pooling: Pooling, steps: Sequence[Callable[[torch.Tensor], torch.Tensor]], dim: int | None
    ) -> None:
        self._pooling, self._steps, self._dim = pooling, steps, dim

    def __call__(self, states: torch.Tensor, batch: Batch, prompt_length: int) -> torch.Tensor:
        """(rows, dim) float32 unit rows, of hidden states (rows, tokens, width)."""
        vectors = self._pooling(states, batch, prompt_length)
        for step in self._steps:
            vectors = step(vectors)
        return functional.normalize(vectors[:, : self._dim], dim=1)
