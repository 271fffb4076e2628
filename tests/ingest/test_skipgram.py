"""Skip-gram: its step against autograd, its pairs and negatives against the definition, its bytes for any threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from numpy.typing import NDArray
from scipy.stats import chi2

from ingest.learn.nodes.skipgram import SkipGram, SkipGramSettings, deal, keep_chances
from ingest.learn.nodes.step import sgd_step
from search.errors import ModelError


@njit  # type: ignore[untyped-decorator, unused-ignore]
def take_step(
    tiles: Any, inputs: Any, center: Any, outputs: Any, targets: Any, rate: Any, weight: Any
) -> None:
    sgd_step(tiles, inputs, center, outputs, targets, 0, len(targets), rate, weight)


@pytest.mark.parametrize("dim", [16, 48, 128])
def test_one_step_is_the_gradient_of_the_loss(dim: int) -> None:
    """-log sigmoid(v . u) - sum log sigmoid(-v . n), Mikolov et al. 2013, eq. 4."""
    rng = np.random.default_rng(dim)
    inputs = rng.normal(0, 0.4, (5, dim)).astype(np.float32)
    outputs = rng.normal(0, 0.4, (9, dim)).astype(np.float32)
    center, context, negatives, rate = 3, 4, [0, 8, 1, 6], 0.05
    v = torch.tensor(inputs, dtype=torch.float64, requires_grad=True)
    u = torch.tensor(outputs, dtype=torch.float64, requires_grad=True)
    loss = -torch.nn.functional.logsigmoid(v[center] @ u[context])
    loss = loss - 2.5 * torch.nn.functional.logsigmoid(-(u[negatives] @ v[center])).sum()
    loss.backward()
    assert v.grad is not None
    assert u.grad is not None
    expected_inputs = (v - rate * v.grad).detach().numpy()
    expected_outputs = (u - rate * u.grad).detach().numpy()
    targets = np.array([0, ~context, 8, 1, 6], np.int32)
    take_step((0,) * (dim // 16), inputs, center, outputs, targets, np.float32(rate), np.float32(2.5))
    np.testing.assert_allclose(inputs, expected_inputs, atol=2e-6)
    np.testing.assert_allclose(outputs, expected_outputs, atol=2e-6)


def test_extreme_scores_saturate_and_nan_does_not_crash() -> None:
    inputs = np.full((2, 16), 100.0, np.float32)
    outputs = np.stack([np.full(16, 100.0), np.full(16, -100.0)]).astype(np.float32)
    before = outputs.copy()
    take_step((0,), inputs, 0, outputs, np.array([~0, 1], np.int32), np.float32(0.1), np.float32(1))
    np.testing.assert_allclose(outputs, before, rtol=1e-3)  # a sure context and a sure negative hardly move
    inputs[1] = np.nan
    take_step((0,), inputs, 1, outputs, np.array([~0], np.int32), np.float32(0.1), np.float32(1))
    assert np.isnan(outputs[0]).all()


def sentences(n: int, seed: int) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    rows = rng.zipf(1.4, (400, 25)).astype(np.int64) % n
    rows[rng.random(400) < 0.2, 17:] = -1
    return rows.astype(np.int32)


@pytest.mark.parametrize("n", [20, 100, 700, 5000])
def test_the_bytes_do_not_depend_on_the_threads(n: int) -> None:
    rows = sentences(n, 1)
    frequencies = np.bincount(rows[rows >= 0], minlength=n)
    found = set()
    for threads in (0, 1, 2, 8):
        model = SkipGram(frequencies, SkipGramSettings(dim=24, window=4, seed=9))
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for first in range(0, len(rows), 100):
                model.learn(rows[first : first + 100].copy(), first, 0.05, pool if threads else None)
        vectors = model.vectors()
        assert vectors.shape == (n, 24)
        assert np.isfinite(vectors).all()
        found.add(vectors.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("n", [5, 40, 300, 5000])
def test_blocks_hold_each_token_once_and_weigh_the_same(n: int) -> None:
    frequencies = np.random.default_rng(n).zipf(2.0, n)
    blocks = deal(frequencies)
    block, row = blocks.codes >> blocks.shift, blocks.codes & ((1 << blocks.shift) - 1)
    assert len(set(zip(block.tolist(), row.tolist(), strict=True))) == n
    assert block.max() < blocks.n_blocks
    assert row.max() < blocks.size
    counts = np.bincount(block, minlength=blocks.n_blocks)
    assert counts.max() - counts.min() <= 1


def test_pairs_are_those_of_the_window() -> None:
    """With windows of 1 and no thinning, the pairs are exactly the neighbours in the sequences."""
    rows = sentences(300, 2)
    frequencies = np.bincount(rows[rows >= 0], minlength=300)
    model = SkipGram(frequencies, SkipGramSettings(window=1, sample=0.0))
    taken = np.zeros((300, 300), np.int64)
    for pairs, center in iterate_pairs(model, rows):
        np.add.at(taken, (center, pairs), 1)
    expected = np.zeros((300, 300), np.int64)
    for left, right in ((rows[:, :-1], rows[:, 1:]), (rows[:, 1:], rows[:, :-1])):
        both = (left >= 0) & (right >= 0)
        np.add.at(expected, (left[both], right[both]), 1)
    assert (taken == expected).all()


def test_windows_are_drawn_from_one_to_the_greatest() -> None:
    rows = np.arange(300, dtype=np.int32)[None, :].repeat(400, 0)
    model = SkipGram(np.full(300, 400), SkipGramSettings(window=5, sample=0.0))
    distance = np.zeros(10, np.int64)
    for contexts, centers in iterate_pairs(model, rows):
        inside = (centers >= 10) & (centers < 290)
        distance += np.bincount(np.abs(contexts - centers)[inside], minlength=10)
    # a context at distance d is taken when the window is at least d: chance (6 - d) / 5, on both sides
    np.testing.assert_allclose(distance[1:6] / (2 * 280 * 400), np.array([5, 4, 3, 2, 1]) / 5, atol=0.01)
    assert distance[6:].sum() == 0


def iterate_pairs(model: SkipGram, rows: NDArray[np.int32]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """(contexts, centers) of each block, as token numbers."""
    blocks = model.blocks
    token = np.full(blocks.n_blocks * blocks.size, -1)
    token[model.rows] = np.arange(len(model.rows))
    found = []
    for block, pairs in enumerate(model.pairs(rows.copy(), 0, None)):
        group = np.repeat(np.arange(len(pairs.ends)), np.diff(pairs.ends, prepend=0))
        contexts = token[group // blocks.size * blocks.size + pairs.contexts]
        centers = token[block * blocks.size + group % blocks.size]
        assert (np.bincount(group % blocks.size, minlength=blocks.size) == pairs.per_center).all()
        found.append((contexts, centers))
    return found


def test_negatives_follow_the_frequencies_to_the_power_of_three_quarters() -> None:
    frequencies = np.random.default_rng(3).zipf(1.8, 500)
    model = SkipGram(frequencies, SkipGramSettings(negatives=7))
    held = np.zeros(model.blocks.n_blocks * model.blocks.size)
    for block, noise in enumerate(model.noise):
        counts = np.bincount(noise.table, minlength=model.blocks.size)
        low = block * model.blocks.size
        held[low : low + model.blocks.size] = counts / counts.sum() * noise.per_pair * noise.weight
    expected = frequencies**0.75 / (frequencies**0.75).sum() * 7
    np.testing.assert_allclose(held[model.rows], expected, rtol=0.25)  # the rarest have 4 entries
    np.testing.assert_allclose(held[model.rows][frequencies > 50], expected[frequencies > 50], rtol=0.02)
    assert held.sum() == pytest.approx(7)


def test_frequent_tokens_are_thinned_out() -> None:
    frequencies = np.array([900_000, 100, 99_900])
    chances = keep_chances(frequencies, 1e-3)
    np.testing.assert_allclose(
        chances, [(1e-3 / 0.9) ** 0.5 + 1e-3 / 0.9, 1.0, (1e-3 / 0.0999) ** 0.5 + 1e-3 / 0.0999]
    )
    assert (keep_chances(frequencies, 0.0) == 1).all()
    rows = np.random.default_rng(0).integers(0, 50, (2000, 20)).astype(np.int32)
    model = SkipGram(np.full(50, 800), SkipGramSettings(sample=1e-3, window=1))
    chance = keep_chances(np.full(50, 800), 1e-3)[0]
    kept = sum(int(pairs.per_center.sum()) for pairs in model.pairs(rows, 0, None))
    tokens = (rows != -1).sum(1)
    assert kept == 2 * np.maximum(tokens - 1, 0).sum()
    expected, spread = 40_000 * chance, (40_000 * chance * (1 - chance)) ** 0.5
    assert chi2.sf(((tokens.sum() - expected) / spread) ** 2, 1) > 1e-4


def test_training_lowers_the_loss_towards_the_shifted_information() -> None:
    """Levy & Goldberg 2014: at the optimum v . u is log(#(v,u) N / (#v #u)) - log k (here for exponent 1)."""
    rng = np.random.default_rng(4)
    rows = np.zeros((3000, 2), np.int32)
    rows[:, 0] = rng.integers(0, 4, 3000)
    rows[:, 1] = np.where(rng.random(3000) < 0.7, rows[:, 0], rng.integers(0, 4, 3000))
    model = SkipGram(np.full(4, 1500), SkipGramSettings(dim=16, window=1, negatives=2, sample=0.0, rate=0.1))
    for epoch in range(30):
        for first in range(0, 3000, 100):
            model.learn(rows[first : first + 100].copy(), epoch * 3000 + first, 0.1 * (1 - epoch / 30), None)
    counts = np.zeros((4, 4))
    np.add.at(counts, (rows[:, 0], rows[:, 1]), 1)
    counts += counts.T
    expected = np.log(counts / counts.sum(1, keepdims=True) / 0.25) - np.log(2)
    scores = model.vectors() @ model.contexts().T
    assert np.abs(scores - expected).max() < 0.25


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 0}, "dim is 0; give at least 1"),
        ({"negatives": 0}, "negatives is 0; give at least 1"),
        ({"rate": 0.0}, "rate is 0.0 down to 0.0001"),
        ({"sample": -1.0}, "sample is -1.0; give 0 for no thinning"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        SkipGramSettings(**wrong)  # type: ignore[arg-type]
