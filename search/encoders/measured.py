"""How fast the models on this machine are, measured once and remembered in the user's cache directory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from search.errors import ModelError
from search.types import Json

if TYPE_CHECKING:
    from search.encoders.contract import Encoder, Item
    from search.encoders.load import Device

FOLDER_NAME = "NEARKIN_CACHE"
_TEXTS, _PICTURES, _TURNS = 64, 16, 3


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured: `per_s` texts of 24 words, or pictures of 320 x 240 pixels, a second, on this machine."""

    model: str
    device: str
    precision: str
    dim: int
    per_s: float
    what: str
    measured: str


def measure(model: str, device: Device) -> Speed:
    """Load a model and time it: the median of three turns, after a first one that does not count.

    Raises:
        ModelUnavailable: it cannot be had.
        ModelError: it runs elsewhere, or is learned from data.
    """
    from search.encoders.load import LEARNED_PICTURES, load_named

    is_learned = model.partition(":")[0] in LEARNED_PICTURES
    if is_learned or model.startswith("openai:"):
        why = "is learned from your pictures" if is_learned else "runs elsewhere, and charges for it"
        raise ModelError(f"'{model}' {why}; name a model that is on this machine")
    encoder = load_named(model, device=device)
    text = "text" in encoder.spec.accepts and "image" not in encoder.spec.accepts
    items = _texts() if text else _pictures()
    seconds = []
    encoder.encode(items)
    for _ in range(_TURNS):
        started = time.perf_counter()
        encoder.encode(items)
        seconds.append(time.perf_counter() - started)
    where, precision = _ran(encoder, device)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    per_s = round(len(items) / median(seconds), 1)
    return Speed(model, where, precision, encoder.spec.dim, per_s, "texts" if text else "pictures", now)


def remembered(path: Path | None = None) -> list[Speed]:
    """What was measured before; what cannot be read is as if it had not been."""
    try:
        told = json.loads((path or _file()).read_text(encoding="utf-8"))
        return [Speed(**one) for one in told]
    except (OSError, ValueError, TypeError):
        return []


def remember(speed: Speed, path: Path | None = None) -> None:
    """Keep a measurement, in the place of a former one of the same model, device and precision."""
    file = path or _file()
    key = (speed.model, speed.device, speed.precision)
    kept = [one for one in remembered(file) if (one.model, one.device, one.precision) != key]
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    said: list[dict[str, Json]] = [asdict(one) for one in (*kept, speed)]
    fresh.write_text(json.dumps(said, indent=1), encoding="utf-8")
    fresh.replace(file)


def _file() -> Path:
    from platformdirs import user_cache_path

    folder = os.environ.get(FOLDER_NAME)
    return (Path(folder) if folder else user_cache_path("nearkin", appauthor=False)) / "speeds.json"


def _texts() -> Sequence[Item]:
    """Texts of 24 words, of several lengths in tokens."""
    words = "search model vector nearest people data query answer graph node embeddings"
    return [" ".join(words.split()[(n * 7 + i * (n % 5 + 1)) % 11] for i in range(24)) for n in range(_TEXTS)]


def _pictures() -> Sequence[Item]:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (_PICTURES, 240, 320, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


def _ran(encoder: Encoder, device: Device) -> tuple[str, str]:
    """Where it ran and in which number format: what it chose itself, if it says so."""
    from search.encoders.device import choose_device, choose_dtype, precision_name

    where = choose_device(device.name)
    chosen: str | None = getattr(encoder, "precision", None)
    return str(where), chosen or precision_name(choose_dtype(device.precision, where))
