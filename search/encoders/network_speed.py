"""Makes a network quicker without changing what it computes: folded layers, and the shortest numbers that hold."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from search.encoders.device import choose_dtype, has_bf16_instructions
from search.encoders.picture_layers import Tapped

LEAST_COSINE = 0.999
_ROUNDING = 1e-5  # how far a unit row's numbers may move by folding

# Shows a network of a number format a few items; gives one row for each.
Run: TypeAlias = Callable[[nn.Module, torch.dtype], Tensor]


def settle(
    network: nn.Module, run: Run, device: torch.device, precision: str
) -> tuple[nn.Module, torch.dtype]:
    """The network on its device, ready to be run, and the number format it is in.

    Batch normalisations behind convolutions are folded into them; "auto" takes 16-bit numbers where the device
    has instructions for them. Each is compared with the network as it was, and left where rows differ.

    Args:
        network: in fp32; it is changed.
        run: used for the comparisons.
        device: where it will run.
        precision: auto, fp32, bf16 or fp16.

    Raises:
        ModelError: `precision` is none of these.
    """
    dtypes = candidates(precision, device)
    network = network.eval().requires_grad_(False).to(device)
    # Convolutions read pixels with their channels side by side faster; other networks do not mind.
    network.to(memory_format=torch.channels_last)
    norms = [name for name, one in network.named_modules() if _is_foldable(one)]
    if not norms and len(dtypes) == 1:
        return network.to(dtypes[0]), dtypes[0]
    with torch.inference_mode():
        pairs, exact = _watched(network, norms, run)
        if pairs:
            _fold(network, pairs, run, exact)
        for dtype in dtypes[:-1]:
            quick = copy.deepcopy(network).to(dtype)
            if bool(((_units(run(quick, dtype)) * exact).sum(dim=1) >= LEAST_COSINE).all()):
                return quick, dtype
    return network.to(dtypes[-1]), dtypes[-1]


def candidates(precision: str, device: torch.device) -> list[torch.dtype]:
    """The number formats to try, in order; the last is taken without question.

    Raises:
        ModelError: `precision` is none of auto, fp32, bf16 and fp16.
    """
    chosen = choose_dtype(precision, device)
    if precision != "auto":
        return [chosen]
    if device.type == "cpu" and has_bf16_instructions():
        return [torch.bfloat16, torch.float32]
    return [torch.float32] if chosen is torch.float32 else [chosen, torch.float32]


def probe_pictures() -> list[Image.Image]:
    """Two pictures in which there is something to see: a slope with edges, and coarse noise."""
    slope = np.add.outer(np.arange(96), 2 * np.arange(96)) % 256
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return [
        Image.fromarray(np.stack([slope, slope.T, 255 - slope], axis=-1).astype(np.uint8)),
        Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC),
    ]


def _units(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows.to("cpu", torch.float32), dim=1)


def _watched(network: nn.Module, norms: list[str], run: Run) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of convolutions, each with that of the batch normalisation which is handed its output; and the rows.

    Found by watching: a tensor that a convolution has just made and that a normalisation takes. Whether
    something else takes it too is not seen; that is what the comparison is for.
    """
    made: list[tuple[Tensor, str]] = []
    taken: list[tuple[Tensor, str]] = []

    def watch_convolution(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: made.append((output, name))

    def watch_norm(name: str) -> Callable[..., None]:
        return lambda module, inputs: taken.append((inputs[0], name))

    tapped = [one.tap for one in network.modules() if isinstance(one, Tapped)]
    hooks: list[Any] = []
    for name, one in network.named_modules() if norms else ():
        if type(one) is nn.Conv2d:  # others compute their weights anew each time
            hooks.append(one.register_forward_hook(watch_convolution(name)))
        elif name in norms and not any(one is tap for tap in tapped):
            hooks.append(one.register_forward_pre_hook(watch_norm(name)))
    try:
        rows = _units(run(network, torch.float32))
    finally:
        for hook in hooks:
            hook.remove()
    makers = {id(tensor): name for tensor, name in made}
    found = [(makers[id(tensor)], name) for tensor, name in taken if id(tensor) in makers]
    runs = Counter(name for _, name in (*made, *taken))
    return [pair for pair in found if all(runs[name] == 1 for name in pair)], rows


def _is_foldable(module: nn.Module) -> bool:
    if not isinstance(module, nn.BatchNorm2d) or module.running_var is None or module.training:
        return False
    # The second is timm's: a normalisation with an activation behind it.
    return type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d"


def _fold(network: nn.Module, pairs: list[tuple[str, str]], run: Run, exact: Tensor) -> None:
    """Fold them all, in place, or none if rows come out otherwise."""
    before = {name: network.get_submodule(name) for pair in pairs for name in pair}
    for convolution, norm in pairs:
        first: Any = before[convolution]
        old: Any = before[norm]
        _put(network, convolution, fuse_conv_bn_eval(first, old))
        plain = type(old) is nn.BatchNorm2d
        _put(network, norm, nn.Identity() if plain else nn.Sequential(old.drop, old.act))
    if not torch.allclose(_units(run(network, torch.float32)), exact, rtol=0, atol=_ROUNDING):
        for name, module in before.items():
            _put(network, name, module)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
