"""Picks the node trainer by the name of its method, and imports it only then."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.learn.nodes.contract import NodeTrainer
from search.errors import ModelUnavailable

METHODS = ("node2vec", "deepwalk")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a caller may set of any method; each takes what it knows.

    `dim` numbers per vector; `walks` from each node, of `length` nodes; `window` contexts on either side,
    `negatives` per context; `epochs` over all walks; `p` and `q` as in node2vec; `threads` None for all
    processors. The result does not depend on `threads`. `device` is where: "cpu" (compiled), or "cuda" or "cuda:N"
    (torch; its vectors are others, of the same quality).
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


def load_trainer(method: str, settings: NodeSettings = NodeSettings()) -> NodeTrainer:
    """The trainer of this name, with these settings.

    Raises:
        ModelUnavailable: no method has this name.
        ModelError: a setting is out of its range.
    """
    if method not in METHODS:
        raise ModelUnavailable(
            f"no method to learn from a graph is named {method!r}; use {' or '.join(METHODS)}"
        )
    # numba and its compiled code are loaded here and not before: most runs never train on a graph.
    from ingest.learn.nodes.node2vec import DeepWalk, Node2Vec
    from ingest.learn.nodes.skipgram import SkipGramSettings
    from ingest.learn.nodes.walks import WalkSettings

    walks = WalkSettings(settings.walks, settings.length, settings.p, settings.q, settings.seed)
    learning = SkipGramSettings(
        dim=settings.dim,
        window=settings.window,
        negatives=settings.negatives,
        epochs=settings.epochs,
        seed=settings.seed,
    )
    if settings.device != "cpu":
        from ingest.learn.nodes.torch_node2vec import TorchNode2Vec

        return TorchNode2Vec(walks, learning, device=settings.device, family=method)
    trainer = Node2Vec if method == "node2vec" else DeepWalk
    return trainer(walks, learning, threads=settings.threads)
