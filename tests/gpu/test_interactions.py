"""On a GPU the sums of BPR and LightGCN are those of the processor, and every trainer finds the same taste."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ingest.learn.interactions import pairwise
from ingest.learn.interactions.baselines import Popularity
from ingest.learn.interactions.contract import FactorTrainer
from ingest.learn.interactions.evaluation import leave_last_out, measure
from ingest.learn.interactions.load import InteractionSettings, load_trainer
from ingest.learn.interactions.walked import Walked
from ingest.learn.nodes.load import NodeSettings
from ingest.learn.nodes.load import load_trainer as load_node_trainer
from tests.taste import shop


def trainer_of(method: str, device: str) -> FactorTrainer:
    if method == "node2vec":
        walks = NodeSettings(dim=12, length=20, window=3, epochs=3, seed=1, device=device)
        return Walked(load_node_trainer("node2vec", walks))
    return load_trainer(method, InteractionSettings(dim=12, seed=1, device=device))


@pytest.mark.parametrize("method", ["bpr", "lightgcn", "node2vec"])
def test_taste_is_found_as_on_the_processor(method: str) -> None:
    train, last = leave_last_out(shop(0))
    rankers = {device: trainer_of(method, device) for device in ("cpu", "cuda")}
    for ranker in rankers.values():
        ranker.learn(train)
    there, here = (measure(rankers[device], train, last, k=8).means["recall"] for device in ("cuda", "cpu"))
    floor = Popularity()
    floor.learn(train)
    assert there > measure(floor, train, last, k=8).means["recall"] + 0.3
    assert there == pytest.approx(here, abs=0.15)  # other dice
    for rows in (rankers["cuda"].factors.users, rankers["cuda"].factors.items):  # type: ignore[union-attr]
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()


def test_gradients_and_propagation_are_those_of_the_processor() -> None:
    given = shop(1, n_users=40)
    n = given.n_users + given.n_items
    vectors = torch.randn(n, 9, generator=torch.Generator().manual_seed(0))
    triples = pairwise.Pairs(given, torch.device("cpu")).drawn(torch.Generator().manual_seed(0))
    found = {}
    for device in (torch.device("cpu"), torch.device("cuda")):
        there = vectors.to(device)
        smooth = pairwise.propagation(given, 3, device)(there)
        gradient = pairwise.bpr_gradient(smooth, triples.to(device))
        pairwise.add_decay(gradient, there, triples.to(device), 0.1)
        found[device.type] = smooth.cpu(), gradient.cpu()
    for ours, expected in zip(found["cuda"], found["cpu"], strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)


def test_what_is_drawn_on_a_gpu_was_not_taken() -> None:
    given, device = shop(1, n_users=40), torch.device("cuda")
    dice = torch.Generator(device=device).manual_seed(0)
    user, item, other = pairwise.Pairs(given, device).drawn(dice).cpu().numpy()
    taken = set(zip(given.users.tolist(), (given.indices + given.n_users).tolist(), strict=True))
    assert set(zip(user.tolist(), item.tolist(), strict=True)) <= taken
    assert not set(zip(user.tolist(), other.tolist(), strict=True)) & taken


def test_the_same_seed_gives_near_the_same_on_a_gpu() -> None:
    given = shop(0, n_users=30)
    once, again = (trainer_of("lightgcn", "cuda").fit(given).items for _ in range(2))
    np.testing.assert_allclose(once, again, atol=0.05)  # sums are added in any order there
