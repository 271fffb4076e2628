"""What an encoder learned from the user's own data is kept as: a safetensors file with its settings in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from search.errors import ModelUnavailable
from search.types import Json

_KEY = "nearkin"


def to_file(tensors: Mapping[str, Tensor], settings: Mapping[str, Json], form: str) -> bytes:
    """The bytes of a file; the same tensors and settings give the same bytes.

    Args:
        tensors: by name; they are kept in their own number formats.
        settings: all that is needed beside them.
        form: what kind of file it is, in which version.
    """
    kept = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    return save(kept, metadata={_KEY: json.dumps({"format": form, **settings}, sort_keys=True)})


def from_file(data: bytes, form: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and settings of a file.

    Args:
        data: its bytes.
        form: what `to_file` was told.
        what: is named in messages.

    Raises:
        ModelUnavailable: it is damaged, or of another form.
    """
    advice = "ingest the pictures again"
    try:
        length = int.from_bytes(data[:8], "little")
        settings = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
        found = settings.pop("format", None)
        tensors = load(data)
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelUnavailable(f"the learned '{what}' encoder is damaged; {advice}") from error
    if found != form:
        raise ModelUnavailable(f"the learned '{what}' encoder is of another version of nearkin; {advice}")
    return tensors, settings


def float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in float32."""
    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
