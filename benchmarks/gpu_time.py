"""Where a GPU's time goes, by kind of kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

# The first word found in a kernel's name tells its kind.
KINDS = (
    ("attention", ("flash", "fmha", "attention", "softmax")),
    ("matrix products", ("gemm", "nvjet", "cutlass", "xmma", "cublas", "splitk")),
    ("convolutions", ("conv", "cudnn", "implicit", "winograd")),
    ("norms", ("norm",)),
    ("copies between host and device", ("memcpy", "memset")),
    ("gathering rows", ("index", "gather", "embedding", "scan", "scatter")),
)
REST = "all else, element by element"


def shares(work: Callable[[], object]) -> dict[str, float]:
    """The part of the wall time, 0 to 1, that each kind of kernel takes, and "idle": the GPU waits."""
    torch.cuda.synchronize()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
    wall_us = begin.elapsed_time(end) * 1e3
    spent: dict[str, float] = {}
    for event in seen.key_averages():
        if event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS if any(word in name for word in words)), REST)
        spent[kind] = spent.get(kind, 0.0) + event.self_device_time_total / wall_us
    spent["idle"] = max(0.0, 1 - sum(spent.values()))
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))
