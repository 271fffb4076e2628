"""Which devices a run computes on: the user's words as a list, of which each gets a process of its own."""

from __future__ import annotations

from search.encoders.load import computes_here
from search.errors import ModelError


def devices(name: str, model: str) -> tuple[str, ...]:
    """The devices that a name stands for: one, or several with commas; "auto" takes all GPUs there are.

    Args:
        name: as for `search.encoders.device.choose_device`, or several of one kind ("cuda:0,cuda:1").
        model: the model that is to run there.

    Raises:
        ModelError: a device is unknown, they are of several kinds, or the model computes on none.
        ModelUnavailable: a device is not on this machine.
    """
    names = tuple(one.strip() for one in name.split(","))
    if name != "auto" and len(names) == 1:
        return names
    if not computes_here(model):
        if name != "auto":
            raise ModelError(f"'{model}' does not run on several devices; leave --device {name} out")
        return names
    if name == "auto":
        import torch

        count = torch.cuda.device_count()
        return tuple(f"cuda:{number}" for number in range(count)) if count > 1 else names
    from search.encoders.device import choose_device

    if "auto" in names:
        raise ModelError(f"auto stands for all devices; write --device auto, or name them, instead of {name}")
    if len({choose_device(one).type for one in names}) > 1:
        raise ModelError(
            f"{name} are devices of several kinds, which round differently; name some of one kind"
        )
    return names
