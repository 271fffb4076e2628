"""Pictures by an encoder that is learned from these pictures themselves: patches, or a network by simclr."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ingest import pipeline
from ingest.learn.pictures.settings import SimclrSettings
from ingest.report import Report
from search.collection import Collection
from search.errors import CollectionError, SourceError
from search.types import Space

if TYPE_CHECKING:
    from ingest.verbs.picture_intake import Intake
    from search.encoders.contract import Encoder

PATCHES, SIMCLR = "patches", "simclr"
METHODS = (PATCHES, SIMCLR)
_NETWORKS = "torchvision:"


DEFAULT = SimclrSettings()


@dataclass(frozen=True, slots=True)
class Learning:
    """What is to be learned; `settings` says how, where the method is simclr."""

    method: str
    settings: SimclrSettings = DEFAULT

    @property
    def model(self) -> str:
        """The name of the encoder, as the space has it."""
        if self.method == PATCHES or self.settings.is_small:
            return self.method
        return f"{self.method}:{self.settings.network}"


def asked(model: str | None, learn: str | SimclrSettings | None) -> Learning | None:
    """What a user's words ask to be learned; None where the model is one that is there already.

    Args:
        model: patches, simclr or simclr:NETWORK, which learn too; beside `learn` the network to be learned, or None.
        learn: the method, or simclr's settings.

    Raises:
        SourceError: there is no such method, or the model is no network that it can learn.
    """
    named, _, network = (model or "").partition(":")
    if learn is None:
        if named not in METHODS:
            return None
        learn, model = named, network or None
    settings = learn if isinstance(learn, SimclrSettings) else DEFAULT
    method = SIMCLR if isinstance(learn, SimclrSettings) else learn
    if method not in METHODS:
        raise SourceError(
            f"there is no way '{method}' to learn from pictures; use --learn {' or --learn '.join(METHODS)}"
        )
    if method == PATCHES:
        if model not in (None, PATCHES):
            raise SourceError(f"patches is a model of its own, and not {model}; leave --model out")
        return Learning(PATCHES)
    if model in (None, SIMCLR):
        return Learning(SIMCLR, settings)
    if model != "small" and not str(model).startswith(_NETWORKS):
        raise SourceError(
            f"'{model}' is no network that simclr can learn; use {_NETWORKS}NAME, or leave --model out for a small one"
        )
    return Learning(SIMCLR, replace(settings, network=str(model)))


def foretold(
    there: Collection | None, intake: Intake, learning: Learning, space: str, *, prune: bool
) -> Report:
    """What a run would do, without learning anything.

    Raises:
        CollectionError: the space was made by another model, or learned with other settings.
    """
    _refuse_another(None if there is None else there.spaces().get(space), learning)
    return pipeline.forecast(there, intake.source, (space, learning.model, intake.settings), prune=prune)


def learned_images(
    there: Collection,
    intake: Intake,
    learning: Learning,
    space: str,
    *,
    prune: bool,
) -> Report:
    """Bring a space up to date with pictures by the encoder that was learned for it, or is learned now from them.

    A learning that was interrupted goes on from its checkpoint in the collection's directory.

    Raises:
        CollectionError: the space was made by another model, or learned with other settings.
        SourceError: too few pictures can be read.
    """
    known = there.spaces().get(space)
    _refuse_another(known, learning)  # before anything is learned for nothing
    started = time.perf_counter()
    learned = None
    if known is not None:
        encoder = there.encoder(space)
    else:
        encoder, learned = _learn(there, intake, learning, space)
    learning_s = time.perf_counter() - started
    job = intake.job(space, learning.model, lambda: encoder, learned=learned, prune=prune)
    report = intake.fill(there, job).after("learn", learning_s)
    checkpoint = there.layout.checkpoint(space)
    checkpoint.unlink(missing_ok=True)  # the network is in the catalog now
    with suppress(OSError):  # there is none, or it holds another space's
        checkpoint.parent.rmdir()
    return report


def _refuse_another(there: Space | None, learning: Learning) -> None:
    if there is None:
        return
    if there.encoder.model != learning.model:
        raise CollectionError(
            f"space '{there.name}' was made by {there.encoder.model}, and this is {learning.model}; "
            "give another name with --space"
        )
    made, plain = there.encoder.options.get("settings"), asdict(DEFAULT)
    if not isinstance(made, dict):
        return
    for name, value in asdict(learning.settings).items():
        if value != plain[name] and made.get(name) != value:
            raise CollectionError(
                f"space '{there.name}' was learned with {name} {_shown(made.get(name))}, not {_shown(value)}; "
                "give another name with --space"
            )


def _shown(value: object) -> str:
    return "by its rule" if value is None else str(value)


def _learn(there: Collection, intake: Intake, learning: Learning, space: str) -> tuple[Encoder, bytes]:
    stage = f"learning {learning.method}"
    options, progress = intake.options, intake.options.progress
    pictures = list(intake.source.pictures())
    progress.begin(stage, 0)
    tell: Callable[[int, int], None] = lambda done, total: progress.reached(stage, done, total)  # noqa: E731
    encoder: Encoder
    if learning.method == PATCHES:
        from ingest.learn.pictures.patches import PatchesSettings, learn_patches
        from search.encoders.patches import PatchesEncoder

        data = learn_patches(pictures, PatchesSettings(), progress=tell)
        encoder = PatchesEncoder(data, device=options.device, precision=options.precision)
    else:
        from ingest.learn.pictures.simclr import Run, learn_simclr
        from search.encoders.learned_pictures import LearnedPictureEncoder

        checkpoint = there.layout.checkpoint(space)
        run = Run(options.device, options.precision, checkpoint, progress=tell)
        data = learn_simclr(pictures, learning.settings, run)
        encoder = LearnedPictureEncoder(data, device=options.device, precision=options.precision)
    progress.end(stage)
    return encoder, data
