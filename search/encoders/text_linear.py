"""Linear layers as a network for texts needs them: plain, with an activation behind, or added to what came in.

On a processor torch has these as one operation each, with the weights laid out once for its matrix instructions
(oneDNN). `torch.compile` uses them, but takes minutes; called by name they are private, so they are tried on a small
case before they are trusted, and plain torch stands in where they fail.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

# hidden_act of a configuration -> the name and algorithm by which oneDNN knows it.
ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
# Plain torch and oneDNN round differently; a wrong operator is off by far more.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}


class Linear(ABC):
    """x @ weight.T + bias, over rows x (n, in)."""

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(n, out)."""

    @abstractmethod
    def activated(self, x: torch.Tensor, activation: str) -> torch.Tensor:
        """(n, out), with one of `ACTIVATIONS` behind."""

    @abstractmethod
    def added(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """(n, out), plus the residual."""


class PlainLinear(Linear):
    """By the operators that torch documents."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight, self._bias)

    def activated(self, x: torch.Tensor, activation: str) -> torch.Tensor:
        name, algorithm = ACTIVATIONS[activation]
        if name == "relu":
            return torch.relu_(self(x))
        return functional.gelu(self(x), approximate=algorithm)

    def added(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self(x).add_(residual)


class FusedLinear(Linear):
    """By oneDNN's, with packed weights; only where `fused_works`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._operator: Any = torch.ops.mkldnn._linear_pointwise
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self._operator(x, self._weight, self._bias, "none", [], "")
        return out

    def activated(self, x: torch.Tensor, activation: str) -> torch.Tensor:
        name, algorithm = ACTIVATIONS[activation]
        out: torch.Tensor = self._operator(x, self._weight, self._bias, name, [], algorithm)
        return out

    def added(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self._operator.binary(x, residual, self._weight, self._bias, "add")
        return out


@lru_cache
def fused_works(dtype: torch.dtype) -> bool:
    """Whether this torch, on this processor, has the fused operators and they give what plain torch gives."""
    if dtype not in _TOLERANCE:
        return False
    generator = torch.Generator().manual_seed(0)
    weight, bias, x, residual = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((48, 32), (48,), (7, 32), (7, 48))
    )
    plain = PlainLinear(weight, bias)
    try:
        with torch.inference_mode():
            fused = FusedLinear(weight, bias)
            pairs = [(fused(x), plain(x)), (fused.added(x, residual), plain.added(x, residual))]
            pairs += [(fused.activated(x, name), plain.activated(x, name)) for name in ACTIVATIONS]
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False  # another torch: its private operators are gone, or want other arguments
    limit = _TOLERANCE[dtype]
    return all(
        left.dtype == dtype and torch.allclose(left.float(), right.float(), atol=limit, rtol=limit)
        for left, right in pairs
    )
