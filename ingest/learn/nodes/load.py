"""Picks the node trainer by the name of its method, and imports it only then."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ingest.learn.nodes.contract import NodeTrainer
from search.errors import ModelError, ModelUnavailable

if TYPE_CHECKING:
    from ingest.learn.nodes.features import NodeEncoder
    from ingest.learn.nodes.skipgram import SkipGramSettings
    from ingest.learn.nodes.walks import WalkSettings

WALKING = ("node2vec", "node2vec+", "deepwalk")
OWN, REFERENCE = BACKENDS = ("own", "reference")
FEATURED = ("sgc",)  # learn from features of nodes, which come later: `FeatureTrainer.given`
METHODS = (*WALKING, "prone", "netmf", "cleora", "eigenmaps", "lle", *FEATURED)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a caller may set; methods without walks know `dim`, `seed` and `threads` alone.

    `dim` numbers per vector; `walks` from each node, of `length` nodes; `window` contexts on either side,
    `negatives` per context; `epochs` over all walks; `p` and `q` as in node2vec, `gamma` as in node2vec+ (None for its
    usual 0); `threads` None for all processors. The result does not depend on `threads`. `device` is where: "cpu"
    (compiled), or "cuda" or "cuda:N" (torch; its vectors are others, of the same quality). `backend` "reference" is
    the node2vec package, for comparison. `hops` are those of sgc; its features are the vectors of the space `features`,
    or these `attributes` of the nodes, or (with neither) the matrix of attributes in the graph's file.
    """

    dim: int = 128
    walks: int = 10
    length: int = 80
    window: int = 10
    negatives: int = 5
    epochs: int = 1
    p: float = 1.0
    q: float = 1.0
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    backend: str = OWN
    gamma: float | None = None
    hops: int = 2
    features: str | None = None
    attributes: tuple[str, ...] = ()


def load_trainer(method: str, settings: NodeSettings = NodeSettings()) -> NodeTrainer:
    """The trainer of this name, with these settings.

    Raises:
        ModelUnavailable: no method has this name.
        ModelError: a setting is out of its range, or the method does not know it.
    """
    if method not in METHODS:
        raise ModelUnavailable(
            f"no method to learn from a graph is named {method!r}; use {', '.join(METHODS[:-1])} or {METHODS[-1]}"
        )
    if settings.backend not in BACKENDS:
        raise ModelError(f"unknown backend {settings.backend!r}; use {' or '.join(BACKENDS)}")
    if method in FEATURED:
        _refuse_others(method, settings, ("dim", "seed", "threads", "hops", "features", "attributes"))
        if settings.features is not None and settings.attributes:
            raise ModelError("features are of a space or attributes of the nodes; give one of the two")
        from ingest.learn.nodes.sgc import SGC, SGCSettings

        return SGC(SGCSettings(settings.dim, settings.hops, settings.seed), threads=settings.threads)
    if method not in WALKING:
        return _spectral(method, settings)
    walking = [
        field.name for field in fields(settings) if field.name not in ("hops", "features", "attributes")
    ]
    _refuse_others(method, settings, tuple(walking))
    if settings.gamma is not None and method != "node2vec+":
        raise ModelError(f"gamma is of node2vec+, and {method} takes none; leave it out, or use node2vec+")
    # numba and its compiled code are loaded here and not before: most runs never train on a graph.
    from ingest.learn.nodes.node2vec import DeepWalk, Node2Vec, Node2VecPlus
    from ingest.learn.nodes.skipgram import SkipGramSettings
    from ingest.learn.nodes.walks import WalkSettings

    walks = WalkSettings(
        settings.walks, settings.length, settings.p, settings.q, settings.seed, settings.gamma
    )
    learning = SkipGramSettings(
        dim=settings.dim,
        window=settings.window,
        negatives=settings.negatives,
        epochs=settings.epochs,
        seed=settings.seed,
    )
    if settings.backend == REFERENCE:
        return _reference(method, settings, walks, learning)
    if settings.device != "cpu":
        from ingest.learn.nodes.torch_node2vec import TorchNode2Vec

        return TorchNode2Vec(walks, learning, device=settings.device, family=method)
    trainers = {trainer.family: trainer for trainer in (Node2Vec, Node2VecPlus, DeepWalk)}
    return trainers[method](walks, learning, threads=settings.threads)


def load_encoder(method: str, data: bytes) -> NodeEncoder:
    """The encoder of later nodes that a trainer of FEATURED learned, from its bytes.

    Raises:
        ModelUnavailable: the method learns none, or the bytes are damaged or of another version.
    """
    if method not in FEATURED:
        raise ModelUnavailable(f"{method} learns no encoder of later nodes; use {' or '.join(FEATURED)}")
    from ingest.learn.nodes.sgc import SmoothedAxes

    return SmoothedAxes.from_bytes(data)


def _reference(
    method: str, settings: NodeSettings, walks: WalkSettings, learning: SkipGramSettings
) -> NodeTrainer:
    """The node2vec package, which has one method and no GPU."""
    if method != "node2vec" or settings.device != "cpu":
        raise ModelError("the reference backend is node2vec on the processor alone; leave --backend out")
    from ingest.learn.nodes.reference import ReferenceNode2Vec

    return ReferenceNode2Vec(walks, learning)


def _spectral(method: str, settings: NodeSettings) -> NodeTrainer:
    """A trainer that takes no walks."""
    _refuse_others(method, settings, ("dim", "seed", "threads"))
    from ingest.learn.nodes.spectral import SpectralSettings, SpectralTrainer

    taken = SpectralSettings(settings.dim, settings.seed)
    trainer: type[SpectralTrainer]
    if method == "prone":
        from ingest.learn.nodes.prone import ProNE

        trainer = ProNE
    elif method == "netmf":
        from ingest.learn.nodes.netmf import NetMF

        trainer = NetMF
    elif method == "cleora":
        from ingest.learn.nodes.cleora import Cleora

        trainer = Cleora
    else:
        from ingest.learn.nodes.eigen import Eigenmaps, LocallyLinear

        trainer = Eigenmaps if method == "eigenmaps" else LocallyLinear
    return trainer(taken, threads=settings.threads)


def _refuse_others(method: str, settings: NodeSettings, known: tuple[str, ...]) -> None:
    """Raises ModelError where something is set that a method does not know."""
    for field in fields(settings):
        if field.name not in known and getattr(settings, field.name) != field.default:
            other = "sgc" if field.name in ("hops", "features", "attributes") else "node2vec"
            raise ModelError(f"{method} takes no {field.name}; leave it out, or use {other}")
