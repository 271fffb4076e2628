"""node2vec and DeepWalk on a torch device: walks and skip-gram without a byte of either leaving it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.node2vec import (
    COUNTED_TOKENS,
    DeepWalk,
    Node2Vec,
    Node2VecPlus,
    refuse_bias,
    with_gamma,
    without_isolated,
)
from ingest.learn.nodes.skipgram import SkipGramSettings
from ingest.learn.nodes.torch_skipgram import Drawn, TorchSkipGram
from ingest.learn.nodes.torch_walks import TorchWalker
from ingest.learn.nodes.transitions import END
from ingest.learn.nodes.walks import WalkSettings
from search.encoders.device import choose_device
from search.errors import ModelError, SourceError

BATCH_TOKENS = 1_000_000  # at most so many tokens in a batch: about 5 GB at 128 numbers per vector
WALKED_TOKENS = 64_000_000  # so many are walked at a time: 256 MB


class TorchNode2Vec(Node2Vec):
    """`Node2Vec` on a torch device: the same walks, vectors of the same quality, not of the same bytes.

    Batches hold about as many tokens as there are nodes, whose gradients are added up, where the compiled
    trainer takes one pair after the other. The same seed gives the same bytes on one device.

    Args:
        walks: how walks are taken.
        learning: how vectors are learned from them.
        device: cpu, cuda or cuda:N.
        family: "node2vec", "node2vec+", or "deepwalk" for first-order walks alone.
    """

    def __init__(
        self,
        walks: WalkSettings | None = None,
        learning: SkipGramSettings | None = None,
        *,
        device: str = "cuda",
        family: str = Node2Vec.family,
    ) -> None:
        if family == DeepWalk.family:
            refuse_bias(walks)
        elif family == Node2VecPlus.family:
            walks = with_gamma(walks)
        self.family = family
        self.device = choose_device(device)
        if self.device.type == "mps":  # it has no 64-bit floats, which second-order walks need
            raise ModelError(f"{family} does not run on mps; use --device cpu")
        super().__init__(walks, learning, threads=1)

    def fit(self, graph: Graph, *, progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """As `Node2Vec.fit`.

        Raises:
            SourceError: the graph has no edges.
        """
        connected, nodes = without_isolated(graph)
        if connected.n_nodes == 0:
            raise SourceError("the graph has no edges; nothing can be learned from it")
        vectors = np.zeros((graph.n_nodes, self.learning.dim), np.float32)
        vectors[nodes] = self._on_device(TorchWalker(connected, self.walks, self.device), progress)
        return vectors

    def _on_device(
        self, walker: TorchWalker, progress: Callable[[int, int], None] | None
    ) -> NDArray[np.float32]:
        length, n_walks = self.walks.length, walker.n_walks
        batch = max(1, min(walker.n_nodes, BATCH_TOKENS) // length)
        chunk = batch * max(1, WALKED_TOKENS // (batch * length))
        drawn_at_once = batch * max(1, BATCH_TOKENS // (batch * length))
        model = TorchSkipGram(self._counted(walker, chunk), self.learning, self.device)
        total = n_walks * self.learning.epochs
        for epoch in range(self.learning.epochs):
            for first in range(0, n_walks, chunk):
                rows = walker.walk(first, min(chunk, n_walks - first))
                for low in range(0, len(rows), drawn_at_once):
                    done = epoch * n_walks + first + low
                    drawn = model.drawn(rows[low : low + drawn_at_once], done)
                    for begin in range(0, len(drawn.tokens), batch):
                        if progress is not None:
                            progress(done + begin, total)
                        rate = max(
                            self.learning.last_rate, self.learning.rate * (1.0 - (done + begin) / total)
                        )
                        model.learn(Drawn(*(part[begin : begin + batch] for part in drawn)), rate)
        if progress is not None:
            progress(total, total)
        return model.vectors()

    def _counted(self, walker: TorchWalker, chunk: int) -> NDArray[np.int64]:
        """How often each node stands in the first walks, as `Node2Vec` counts them."""
        counted = min(walker.n_walks, max(walker.n_nodes, COUNTED_TOKENS // self.walks.length))
        frequencies = torch.zeros(walker.n_nodes, dtype=torch.int64, device=self.device)
        for first in range(0, counted, chunk):
            rows = walker.walk(first, min(chunk, counted - first)).view(-1)
            frequencies += torch.bincount(rows[rows != END], minlength=walker.n_nodes)
        return np.array(frequencies.cpu().numpy())
