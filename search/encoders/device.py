"""Where an encoder computes and in which number format: the user's words turned into torch's."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import torch

from search.errors import ModelError, ModelUnavailable

DEVICES = "auto, cpu, cuda, cuda:N or mps (ingest takes several with commas)"
CPU_FLAGS = Path("/proc/cpuinfo")  # Linux only
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The torch device for `name`: "auto", "cpu", "cuda", "cuda:N" or "mps".

    "auto" takes the first GPU where there is one, then Apple's, then the processor.

    Raises:
        ModelUnavailable: this machine or this build of torch has no such device.
        ModelError: `name` is none of the words above.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise ModelUnavailable("no mps device on this machine; use --device cpu or auto")
        return torch.device("mps")
    match = re.fullmatch(r"cuda(?::(\d{1,4}))?", name)
    if match is None:
        raise ModelError(f"unknown device {name!r}; use {DEVICES}")
    if not torch.cuda.is_available():
        raise ModelUnavailable(
            f"device {name!r} is not there: torch sees no CUDA GPU; use --device cpu or auto"
        )
    number, count = int(match[1] or 0), torch.cuda.device_count()
    if number >= count:
        raise ModelUnavailable(
            f"device {name!r} is not there: torch sees {count} CUDA GPU(s); count from cuda:0"
        )
    return torch.device("cuda", number)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The number format for `precision`: "auto", "fp32", "bf16" or "fp16".

    "auto" is the fastest that keeps the cosine to fp32 at 0.999: on CUDA bf16, or fp16 where the GPU has no
    bf16. On a processor and on mps it is fp32 (models try bf16 where `has_bf16_instructions`, and compare).

    Raises:
        ModelError: `precision` is none of the words above.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        with torch.cuda.device(device):
            return (
                torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
            )
    if precision not in DTYPES:
        raise ModelError(f"unknown precision {precision!r}; use auto, fp32, bf16 or fp16")
    return DTYPES[precision]


def precision_name(dtype: torch.dtype) -> str:
    """What users call a number format: fp32, bf16 or fp16."""
    return next(word for word, one in DTYPES.items() if one == dtype)


@lru_cache
def has_bf16_instructions() -> bool:
    """Whether this processor multiplies matrices of bf16 by instructions of its own; without, bf16 is slower."""
    if not torch._C._has_mkldnn:
        return False
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        asked = getattr(torch.cpu, name, None)  # private: may be gone in another torch
        if callable(asked) and asked():
            return True
    try:
        told = CPU_FLAGS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False  # not Linux
    # x86 has them by the first two names, ARM by the last.
    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(told.split())


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a CUDA device, copied there beside what it computes, ready for the current stream.

    On a stream of its own: behind the work that is queued a copy would keep its memory until that is done, and the next
    one would need more, to be had only when the device has come to rest.
    """
    now, copies = torch.cuda.current_stream(device), _copy_stream(device)
    with torch.cuda.stream(copies):
        there = tensor.pin_memory().to(device, non_blocking=True)
    now.wait_stream(copies)
    there.record_stream(now)
    return there


@lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    assert isinstance(stream, torch.cuda.Stream)
    return stream
