"""How an encoder of whole graphs is learned."""

from __future__ import annotations

from dataclasses import dataclass

from search.encoders.graph_words import MOST_DEPTH
from search.errors import ModelError

MOST_DIM = 4096


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """What a caller may set; None leaves it to the method.

    `dim` numbers per vector, fewer where the graphs have no more to tell. `depth`: how many steps around a node are
    looked at. graph2vec alone knows `epochs` (times over all words), `negatives` per word and `threads` (None for all
    processors; the result does not depend on it), pooled alone `pooling`: mean, sum or max over nodes.
    """

    dim: int = 128
    depth: int | None = None
    seed: int = 0
    epochs: int | None = None
    negatives: int | None = None
    threads: int | None = None
    pooling: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.dim <= MOST_DIM:
            raise ModelError(f"dim is {self.dim}; give 1 to {MOST_DIM}")
        if self.depth is not None and not 0 <= self.depth <= MOST_DEPTH:
            raise ModelError(f"depth is {self.depth}; give 0 to {MOST_DEPTH}")
        for name in ("epochs", "negatives", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ModelError(f"{name} is {value}; give at least 1")


USUAL = GraphSettings()
