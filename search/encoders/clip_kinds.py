"""Which models put words and pictures into one space, and what each wants of words; found without loading any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Where sentence-transformers keeps the transformers' checkpoint inside its own.
ROOMS = ("", "0_CLIPModel")


@dataclass(frozen=True, slots=True)
class ClipKind:
    """How a kind of model was shown its words.

    Args:
        inputs: what of the tokenizer's output the network takes.
        padded: whether each text is padded to the whole window, as in training.
        lower_case: whether words are put in lower case, whatever the tokenizer does.
        window: the most tokens, where the network's own positions are more than it was trained with.
        reserved: positions that no token takes.
    """

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    padded: bool = False
    lower_case: bool = False
    window: int | None = None
    reserved: int = 0


# SigLIP was trained without a mask, on texts in lower case padded to 64 tokens: its checkpoints' own tokenizers
# differ in how much of that they do.
_SIGLIP = ClipKind(("input_ids",), padded=True, lower_case=True, window=64)
_BERT = ("input_ids", "attention_mask", "token_type_ids")

# By the `model_type` in config.json.
KINDS = {
    "clip": ClipKind(),
    "siglip": _SIGLIP,
    "siglip2": _SIGLIP,
    "metaclip_2": ClipKind(),
    "chinese_clip": ClipKind(_BERT),
    "altclip": ClipKind(reserved=2),
    "align": ClipKind(_BERT, padded=True, window=64),
}


def kinds_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each place in a checkpoint's folder where a model may lie, with the kind that its configuration says."""
    for room in ROOMS:
        config = folder / room / "config.json"
        if not config.is_file():
            continue
        try:
            told = json.loads(config.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(told, dict):
            yield folder / room, str(told.get("model_type", ""))


def is_clip(model: str) -> bool:
    """Whether a name or a checkpoint's folder is of such a model."""
    from search.encoders.packaged import cached

    folder: Path | None = Path(model).expanduser()
    if folder is not None and not folder.is_dir():
        folder = cached(model)
    if folder is not None:
        return any(kind in KINDS for _, kind in kinds_in(folder))
    name = model.rpartition("/")[2].lower()
    return "clip" in name or "siglip" in name
