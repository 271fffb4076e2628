"""Attention over rows of different lengths that lie one behind the other, with no padding between them.

torch has it for GPUs, as a young part of it that has changed its arguments before: so it is tried on a small case
before it is trusted, and padded attention stands in where it fails.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn import functional

_TOLERANCE = (
    0.03  # numbers of 8 bits of precision, summed in another order; a wrong operator is off by far more
)


def attention_unpadded(packed: torch.Tensor, starts: torch.Tensor, longest: int) -> torch.Tensor:
    """(n_tokens, heads, width) of what each token sees of its own row.

    Args:
        packed: (n_tokens, 3, heads, width) queries, which are scaled already, keys and values; fp16 or bf16, on a GPU.
        starts: (n_rows + 1,) int32, where each row begins, and the end of the last.
        longest: the tokens of the longest row.
    """
    from torch.nn.attention.varlen import varlen_attn

    queries, keys, values = packed.unbind(1)
    seen = varlen_attn(queries, keys, values, starts, starts, longest, longest, scale=1.0)
    assert isinstance(seen, torch.Tensor)  # it gives two only where asked
    return seen


@lru_cache
def unpadded_works(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether this torch, on this device, has it for heads of this width, and it gives what padded attention gives."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    lengths = (3, 7, 1)
    packed = torch.randn(sum(lengths), 3, 2, width, generator=generator).to(device, dtype)
    packed[:, 0] *= width**-0.5
    starts = torch.tensor([0, 3, 10, 11], dtype=torch.int32, device=device)
    try:
        with torch.inference_mode():
            got = attention_unpadded(packed, starts, max(lengths))
    except (AttributeError, ImportError, RuntimeError, TypeError, ValueError):
        return False  # another torch, another GPU, or a width that it does not take
    for row in range(len(lengths)):
        queries, keys, values = packed[starts[row] : starts[row + 1]].float().permute(1, 2, 0, 3)
        want = functional.scaled_dot_product_attention(queries, keys, values, scale=1.0).transpose(0, 1)
        if not torch.allclose(
            got[starts[row] : starts[row + 1]].float(), want, atol=_TOLERANCE, rtol=_TOLERANCE
        ):
            return False
    return True
