"""Picks the graph trainer by the name of its method, and imports it only then."""

from __future__ import annotations

from ingest.learn.graphs.contract import GraphTrainer
from ingest.learn.graphs.settings import USUAL, GraphSettings
from search.errors import ModelError, ModelUnavailable

METHODS = ("wl", "graph2vec", "pooled")
GRAPH_METHOD = "wl"  # the one taken where none is named
_OWN = {"wl": (), "graph2vec": ("epochs", "negatives", "threads"), "pooled": ("pooling",)}


def load_trainer(method: str, settings: GraphSettings = USUAL) -> GraphTrainer:
    """The trainer of this name, with these settings.

    Raises:
        ModelUnavailable: no method has this name.
        ModelError: a setting is out of its range, or the method does not know it.
    """
    if method not in METHODS:
        raise ModelUnavailable(
            f"no method to learn from whole graphs is named {method!r}; use {', '.join(METHODS[:-1])} or {METHODS[-1]}"
        )
    for name in ("epochs", "negatives", "threads", "pooling"):
        if getattr(settings, name) is not None and name not in _OWN[method]:
            raise ModelError(f"{method} takes no {name}; leave it out")
    if method == "wl":
        from ingest.learn.graphs.wl import WordProjection

        return WordProjection(settings)
    if method == "graph2vec":
        from ingest.learn.graphs.graph2vec import Graph2VecTrainer

        return Graph2VecTrainer(settings)
    from ingest.learn.graphs.pooled import PooledTrainer

    return PooledTrainer(settings)
