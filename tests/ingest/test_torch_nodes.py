"""node2vec in torch: the walks of the compiled trainer, the gradient of the loss, and vectors as good as its."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import logsigmoid

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.load import NodeSettings, load_trainer
from ingest.learn.nodes.node2vec import Node2Vec
from ingest.learn.nodes.skipgram import SkipGram, SkipGramSettings
from ingest.learn.nodes.torch_node2vec import TorchNode2Vec
from ingest.learn.nodes.torch_skipgram import TorchSkipGram, ascent
from ingest.learn.nodes.torch_walks import TorchWalker
from ingest.learn.nodes.transitions import END
from ingest.learn.nodes.walks import Walker, WalkSettings
from ingest.sources.graphs import from_edges, from_networkx
from search.errors import ModelError, ModelUnavailable

CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def make_graph(kind: str) -> Graph:
    if kind == "star":
        return from_edges(["hub"] * 30, [f"leaf {k}" for k in range(30)])
    rng = np.random.default_rng(3)
    ends = rng.integers(0, 60, (400, 2)).astype(str)
    weights = rng.pareto(1.0, 400) + 0.1 if "weighted" in kind else None
    return from_edges(ends[:, 0].tolist(), ends[:, 1].tolist(), weights, directed="directed" in kind)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["plain", "weighted", "directed", "directed weighted", "star"])
@pytest.mark.parametrize(
    ("p", "q"), [(1, 1), (0.25, 0.25), (0.25, 4), (4, 0.5), (1, 500), (1000, 1), (0.001, 1)]
)
@pytest.mark.parametrize("gamma", [None, 0.5])
def test_walks_are_those_of_the_compiled_trainer(
    kind: str, p: float, q: float, device: str, gamma: float | None
) -> None:
    """Whose steps have the exact chances; p and q of 500 make it draw from the exact ones after many rejections."""
    settings = WalkSettings(walks=3, length=25, p=p, q=q, seed=7, gamma=gamma)
    graph = make_graph(kind)
    walker = Walker(graph, settings)
    expected = walker.walk(5, walker.n_walks - 5)
    found = TorchWalker(graph, settings, torch.device(device)).walk(5, walker.n_walks - 5)
    assert found.dtype == torch.int32
    assert (found.cpu().numpy() == expected).all()


def test_summed_gradients_are_those_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(3, length, 8, generator=generator) for length in (7, 7, 5)]
    pairs = torch.rand((3, 7, 7), generator=generator) < 0.4
    centers, contexts, noise = (row.double().requires_grad_() for row in rows)
    likelihood = (pairs * logsigmoid(centers @ contexts.mT)).sum()
    likelihood += (0.3 * pairs.sum(2, keepdim=True) * logsigmoid(-(centers @ noise.mT))).sum()
    expected = torch.autograd.grad(likelihood, (centers, contexts, noise))
    for found, gradient in zip(ascent(*rows, pairs, 0.3), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), gradient.numpy(), atol=2e-6)


def sentences(n: int, seed: int) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    rows = (rng.zipf(1.4, (200, 25)).astype(np.int64) % n).astype(np.int32)
    rows[rng.random(200) < 0.2, 17:] = END
    return rows


@pytest.mark.parametrize("sample", [0.0, 1e-2])
def test_pairs_are_those_of_the_compiled_trainer(sample: float) -> None:
    """The same tokens thinned out, the same windows drawn."""
    rows = sentences(300, 1)
    frequencies = np.bincount(rows[rows != END], minlength=300)
    settings = SkipGramSettings(dim=8, window=4, sample=sample, seed=5)
    compiled = SkipGram(frequencies, settings)
    token = np.full(compiled.blocks.n_blocks * compiled.blocks.size, -1)
    token[compiled.rows] = np.arange(300)
    expected = np.zeros((300, 300), np.int64)
    size = compiled.blocks.size
    for block, pairs in enumerate(compiled.pairs(rows.copy(), 11, None)):
        group = np.repeat(np.arange(len(pairs.ends)), np.diff(pairs.ends, prepend=0))
        centers, contexts = token[block * size + group % size], token[group // size * size + pairs.contexts]
        np.add.at(expected, (centers, contexts), 1)
    model = TorchSkipGram(frequencies, settings, CPU)
    numbers = torch.arange(11, 11 + len(rows))
    kept = model.thinned(torch.from_numpy(rows), numbers)
    sequence, center, context = (part.numpy() for part in model.pairs(kept, numbers).nonzero(as_tuple=True))
    found = np.zeros((300, 300), np.int64)
    np.add.at(found, (kept.numpy()[sequence, center], kept.numpy()[sequence, context]), 1)
    assert (found == expected).all()
    assert found.sum() > 10_000 or sample


def test_negatives_follow_the_frequencies_to_the_power_of_three_quarters() -> None:
    frequencies = np.array([1, 10, 100, 1000, 0])
    model = TorchSkipGram(frequencies, SkipGramSettings(dim=8), CPU)
    drawn = model.negatives(torch.arange(4000)).numpy()
    mass = np.maximum(frequencies, 1) ** 0.75
    expected, n = mass / mass.sum(), drawn.size
    counts = np.bincount(drawn.ravel(), minlength=5)
    assert (np.abs(counts - n * expected) < 4 * np.sqrt(n * expected)).all()


def test_a_batch_is_a_step_along_the_gradient_and_frequent_rows_take_a_mean() -> None:
    """Row 0 stands STALE times in one batch and twice as often in the other, where it takes half of the sum."""
    settings = SkipGramSettings(dim=16, window=1, sample=0.0)
    often = torch.tensor([[0, k, END] for k in range(1, 9)], dtype=torch.int32)
    moved = {}
    for count in (4, 8):
        model = TorchSkipGram(np.full(9, 5), settings, CPU)
        model.learn(model.drawn(often[:count], 0), 0.01)
        # All input vectors are as at the start, so each output vector moves along half the sum of its centers.
        centers, outputs = torch.from_numpy(model.vectors()), model.contexts()
        numbers = torch.arange(count)
        expected = torch.zeros(9, 16)
        occurrences = torch.bincount(often[:count, :2].reshape(-1), minlength=9)
        for row, noise in zip(often[:count, :2].long(), model.negatives(numbers), strict=True):
            expected[row] += centers[row.flip(0)] * 0.5
            expected.index_add_(
                0, noise, -0.5 * settings.negatives / len(noise) * centers[row].sum(0).expand(64, 16)
            )
            occurrences += torch.bincount(noise, minlength=9)
        expected *= (4 / occurrences.clamp(min=1)).clamp(max=1)[:, None] * 0.01
        np.testing.assert_allclose(outputs, expected.numpy(), rtol=1e-4, atol=1e-9)
        moved[count] = occurrences[0]
    assert moved[8] > moved[4] > 4


@pytest.mark.parametrize("device", DEVICES)
def test_vectors_are_as_good_as_those_of_the_compiled_trainer(device: str) -> None:
    """Communities that overlap so much that the nearest are right in about three of four cases."""
    graph = from_networkx(nx.planted_partition_graph(8, 40, 0.22, 0.025, seed=5))
    block = np.array([int(name) // 40 for name in graph.ids])
    walks, learning = WalkSettings(length=40, seed=1), SkipGramSettings(dim=32, window=5, seed=1)
    right = []
    for trainer in (Node2Vec(walks, learning, threads=1), TorchNode2Vec(walks, learning, device=device)):
        vectors = trainer.fit(graph)
        assert trainer.fit(graph).tobytes() == vectors.tobytes()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = unit @ unit.T - 2 * np.eye(len(unit))
        right.append((block[np.argsort(-scores, axis=1)[:, :10]] == block[:, None]).mean())
    assert 0.5 < right[0] < 0.98
    assert right[1] > right[0] - 0.02


def test_the_device_chooses_the_trainer() -> None:
    with pytest.raises(ModelError, match="unknown device 'gpu'"):
        load_trainer("node2vec", NodeSettings(device="gpu"))
    with pytest.raises(ModelError, match=r"deepwalk has p = q = 1, not 2\.0 and 1\.0"):
        TorchNode2Vec(WalkSettings(p=2.0), device="cpu", family="deepwalk")
    if not torch.cuda.is_available():
        with pytest.raises(ModelUnavailable, match="torch sees no CUDA GPU"):
            load_trainer("deepwalk", NodeSettings(device="cuda"))
    trainer = TorchNode2Vec(WalkSettings(walks=2), SkipGramSettings(dim=16), device="cpu", family="deepwalk")
    assert trainer.spec == replace(load_trainer("deepwalk", NodeSettings(dim=16, walks=2)).spec)
