"""Picks what learns from interactions by the name of its method, and imports it only then."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ingest.learn.interactions.contract import FactorTrainer
from search.errors import ModelError, ModelUnavailable
from search.query.personal import RIDGE
from search.types import EncoderSpec

METHODS = ("als", "item-knn", "bpr", "lightgcn", "node2vec")
_WIDE, _USUAL = 128, 64  # numbers per vector: sparse sets gain by more, where they are cheap
_KNOWN = {
    "als": ("dim", "epochs", "seed", "alpha", "regularization", "half_life_items"),
    "item-knn": ("dim", "epochs", "seed", "neighbours", "shrink", "half_life_items"),
    "bpr": ("dim", "epochs", "seed", "device", "rate", "decay"),
    "lightgcn": ("dim", "epochs", "seed", "device", "rate", "decay", "layers"),
    "node2vec": ("dim", "epochs", "seed", "device"),
}


@dataclass(frozen=True, slots=True)
class InteractionSettings:
    """What a caller may set; None is what did well for the method.

    `dim` numbers per vector (None: 128 for als and item-knn, else 64), `epochs` over all interactions. `alpha` and
    `regularization` are those of als; `rate` and `decay` those of bpr and lightgcn, `layers` of lightgcn alone;
    `neighbours` and `shrink` those of item-knn. `half_life_items` (als, item-knn): what a user took counts half once so
    many others were taken since; it needs times. `device` is where: cpu, cuda or cuda:N (not als and item-knn).
    The same seed gives the same vectors on a processor.
    """

    dim: int | None = None
    epochs: int | None = None
    seed: int = 0
    device: str = "cpu"
    alpha: float | None = None
    regularization: float | None = None
    rate: float | None = None
    decay: float | None = None
    layers: int | None = None
    neighbours: int | None = None
    shrink: float | None = None
    half_life_items: float | None = None


def settings_of(spec: EncoderSpec) -> InteractionSettings:
    """The settings that a space with this spec, of a trainer from here, was learned with."""
    told = {**spec.options, "dim": spec.dim, "regularization": spec.options.get(RIDGE)}
    given = {name: told.get(name) for name in _KNOWN[spec.family] if name != "device"}
    return InteractionSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def load_trainer(method: str, settings: InteractionSettings = InteractionSettings()) -> FactorTrainer:
    """The trainer of this name, with these settings.

    Raises:
        ModelUnavailable: no method has this name.
        ModelError: a setting is out of its range, or the method does not know it.
    """
    if method not in METHODS:
        raise ModelUnavailable(
            f"no method to learn from interactions is named {method!r}; use {', '.join(METHODS[:-1])} or {METHODS[-1]}"
        )
    for field in fields(settings):
        if field.name not in _KNOWN[method] and getattr(settings, field.name) != field.default:
            raise ModelError(f"{method} takes no {field.name}; leave it out")
    if settings.dim is not None and settings.dim < 1:
        raise ModelError(f"dim is {settings.dim}; give at least 1")
    given = {name: value for name in _KNOWN[method] if (value := getattr(settings, name)) is not None}
    given.setdefault("dim", _WIDE if method in ("als", "item-knn") else _USUAL)
    if method == "als":
        from ingest.learn.interactions.als import ALSSettings, ImplicitALS

        return ImplicitALS(ALSSettings(**given))
    if method == "item-knn":
        from ingest.learn.interactions.together import Together, TogetherSettings

        return Together(TogetherSettings(**given))
    if method == "node2vec":
        from ingest.learn.interactions.walked import Walked
        from ingest.learn.nodes.load import NodeSettings
        from ingest.learn.nodes.load import load_trainer as load_node_trainer

        return Walked(load_node_trainer("node2vec", NodeSettings(**given)))
    from ingest.learn.interactions.pairwise import Pairwise, PairwiseSettings

    if method == "lightgcn":
        layers = int(given.pop("layers", 3))
        if layers < 1:
            raise ModelError(f"layers is {layers}; give at least 1, or use bpr")
        return Pairwise(PairwiseSettings(layers=layers, **given))
    return Pairwise(PairwiseSettings(**given))
