"""What a checkpoint's folder says of itself: network, pooling, prompts and window, from its configuration alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.encoders.packaged import file_sha256, read_json, weight_files
from search.encoders.text_pooling import Pooling, PoolingMode, Step
from search.errors import ModelUnavailable

# What a Transformer module's own settings may say without changing what it computes.
_HARMLESS = {"max_seq_length", "do_lower_case", "unpad_inputs"}
_USUAL = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
}
_NOTHING: tuple[Any, ...] = (None, {}, [], "", False)
_SETTINGS = (
    "sentence_bert",
    "sentence_roberta",
    "sentence_distilbert",
    "sentence_xlm-roberta",
    "sentence_mpnet",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as its configuration describes it.

    Args:
        name: as the user gave it.
        folder: where its files are.
        network: the folder of the transformer, `folder` or one below.
        config: the transformer's config.json.
        pooling: how the vectors of tokens become one, None where the checkpoint does not say.
        steps: what is done with that vector.
        prompts: by name, as sentence-transformers keeps them.
        max_length: the most tokens of a row, if the checkpoint says so beside its tokenizer.
        lower_case: whether texts are put in lower case first, whatever the tokenizer does.
        needs: the first module that only sentence-transformers can compute, if there is one.
    """

    name: str
    folder: Path
    network: Path
    config: Mapping[str, Any]
    pooling: Pooling | None = None
    steps: tuple[Step, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    max_length: int | None = None
    lower_case: bool = False
    needs: str | None = None

    def fingerprint(self) -> str:
        """The sha256 of the weights; of several files, the sha256 of the list of theirs."""
        files = weight_files(self.folder)
        if len(files) == 1:
            return file_sha256(files[0])
        listed = "".join(
            f"{file_sha256(file)}  {file.relative_to(self.folder).as_posix()}\n" for file in files
        )
        return hashlib.sha256(listed.encode()).hexdigest()


def read_checkpoint(folder: Path, name: str) -> Checkpoint:
    """Read the configuration in a folder; no weights, and none of the folder's own code.

    Raises:
        ModelUnavailable: a file cannot be read, or the model would need code of its own.
    """
    _refuse_code(folder, name)
    listed = folder / "modules.json"
    if not listed.is_file():
        return Checkpoint(name, folder, folder, _object(folder / "config.json"))
    modules = read_json(listed)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    rooms = [_below(folder, str(module.get("path", "")), name) for module in modules]
    if not kinds or kinds[0] != "Transformer":
        if "Router" not in kinds[:1]:
            raise ModelUnavailable(f"{name} does not begin with a transformer for text; choose another model")
        return Checkpoint(name, folder, folder, {}, needs="Router", prompts=_prompts(folder))
    settings, needs = _transformer_settings(rooms[0])
    pooling, steps = None, []
    for kind, room in zip(kinds[1:], rooms[1:], strict=True):
        if kind == "Pooling" and pooling is None:
            pooling = _pooling(room, name)
            needs = needs or (None if pooling else kind)
        elif kind in ("Dense", "LayerNorm", "Normalize") and pooling is not None:
            own = _object(room / "config.json") if (room / "config.json").is_file() else {}
            steps.append(Step(kind, room, own))
            needs = needs or (None if steps[-1].understood() else kind)
        elif kind != "Dropout":  # which does nothing outside training
            needs = needs or kind
    if pooling is None:
        needs = needs or "Transformer"
    length = settings.get("max_seq_length")
    return Checkpoint(
        name,
        folder,
        rooms[0],
        _object(rooms[0] / "config.json"),
        pooling=pooling,
        steps=tuple(steps),
        prompts=_prompts(folder),
        max_length=length if isinstance(length, int) and length > 0 else None,
        lower_case=bool(settings.get("do_lower_case")),
        needs=needs,
    )


def _object(file: Path) -> dict[str, Any]:
    """The one object in a file."""
    found = read_json(file)
    if len(found) != 1:
        raise ModelUnavailable(f"{file} holds no JSON object; get the model's files again")
    return found[0]


def _below(folder: Path, path: str, name: str) -> Path:
    """The folder of a module; never one outside the model's own."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ModelUnavailable(f"{name} names a file outside its folder ({path}); choose another model")
    return folder / path


def _transformer_settings(room: Path) -> tuple[dict[str, Any], str | None]:
    """The settings of a Transformer module, and "Transformer" if they ask for more than is understood here."""
    for stem in _SETTINGS:
        file = room / f"{stem}_config.json"
        if file.is_file():
            settings = _object(file)
            for key, value in settings.items():
                if key not in _HARMLESS and value not in _NOTHING and value not in _USUAL.get(key, ()):
                    return settings, "Transformer"
            return settings, None
    return {}, None


def _pooling(room: Path, name: str) -> Pooling | None:
    """How a Pooling module pools; None where it does so in a way that is not known here."""
    config = _object(room / "config.json")
    named = config.get("pooling_mode")
    if named is None:
        flags = {
            key.removeprefix("pooling_mode_"): value
            for key, value in config.items()
            if key.startswith("pooling_mode_")
        }
        if not flags:
            raise ModelUnavailable(
                f"{name}: {room.name}/config.json does not say how to pool; get the model's files again"
            )
        # In the order in which sentence-transformers joins them, whatever that of the file.
        modes = [mode for mode in PoolingMode if any(flags.get(flag) for flag in mode.flags)] or [
            PoolingMode.MEAN
        ]
        if sum(map(bool, flags.values())) > len(modes):
            return None
    else:
        known = {mode.saved: mode for mode in PoolingMode}
        listed = [named] if isinstance(named, str) else list(named)
        if not listed or not all(mode in known for mode in listed):
            return None
        modes = [known[mode] for mode in listed]
    return Pooling(tuple(modes), include_prompt=bool(config.get("include_prompt", True)))


def _prompts(folder: Path) -> dict[str, str]:
    file = folder / "config_sentence_transformers.json"
    found = _object(file).get("prompts") if file.is_file() else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _refuse_code(folder: Path, name: str) -> None:
    """Stop where the configuration asks for classes from elsewhere: their code would come with the model."""
    for file in [*folder.glob("modules.json"), *folder.glob("**/router_config.json")]:
        for entry in read_json(file):
            kinds = entry.get("types", {"": entry.get("type", "sentence_transformers.")})
            for kind in kinds.values() if isinstance(kinds, dict) else []:
                if not str(kind).startswith("sentence_transformers."):
                    raise ModelUnavailable(
                        f"{name} needs code of its own ({kind}), which is never run; choose another model"
                    )
