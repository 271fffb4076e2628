"""The contract of what learns from interactions, asked of every method, and of the baselines as far as it goes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ingest.learn.interactions.baselines import ItemKNN, Popularity
from ingest.learn.interactions.contract import FactorTrainer, Ranker
from ingest.learn.interactions.evaluation import leave_last_out, measure
from ingest.learn.interactions.load import METHODS, InteractionSettings, load_trainer
from ingest.learn.interactions.walked import Walked
from ingest.learn.nodes.load import NodeSettings
from ingest.learn.nodes.load import load_trainer as load_node_trainer
from ingest.sources.interactions import Interactions, from_pairs
from search.errors import SourceError
from search.query.personal import is_personal
from search.types import EncoderSpec, Metric, Space
from tests.taste import shop

SMALL = InteractionSettings(dim=12, seed=1)


def trainer_of(method: str, settings: InteractionSettings = SMALL) -> FactorTrainer:
    if method == "node2vec":  # with shorter walks, more often: the set is small
        walks = NodeSettings(dim=settings.dim, length=20, window=3, epochs=3, seed=settings.seed, threads=1)
        return Walked(load_node_trainer("node2vec", walks))
    return load_trainer(method, settings)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_rows_are_users_and_items_finite_and_float32(method: str) -> None:
    given = shop(0)
    made = trainer_of(method).fit(given)
    assert made.users.shape == (given.n_users, 12)
    assert made.items.shape == (given.n_items, 12)
    for rows in (made.users, made.items):
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        assert np.isfinite(rows).all()
        assert (np.linalg.norm(rows, axis=1) > 0).all()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(method: str) -> None:
    given = shop(0, n_users=30)
    once, again, other = (
        trainer_of(method, replace(SMALL, seed=seed)).fit(given).items.tobytes() for seed in (1, 1, 2)
    )
    assert once == again
    assert once != other


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_known_taste_is_found_and_popularity_beaten(method: str, seed: int) -> None:
    train, last = leave_last_out(shop(seed))
    floor, learned = Popularity(), trainer_of(method)
    floor.learn(train)
    learned.learn(train)
    reached, least = (measure(one, train, last, k=8).means["recall"] for one in (learned, floor))
    assert reached > least + 0.3  # six shelves: popularity finds about a sixth of what the shelf would


def test_a_user_is_nearest_to_items_of_the_own_group(method: str) -> None:
    given = shop(3)
    learned = trainer_of(method)
    learned.learn(given)
    scores = learned.scores(np.arange(given.n_users))
    first = scores.argmax(axis=1)
    right = [user[1] == given.item_ids[item][1] for user, item in zip(given.user_ids, first, strict=True)]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize(
    ("users", "items"),
    [(["a"], ["x"]), (["a", "a"], ["x", "y"]), (["a", "b"], ["x", "x"]), (["a", "b"], ["x", "y"])],
    ids=["one pair", "one user", "one item", "no overlap"],
)
def test_the_least_there_can_be(method: str, users: list[str], items: list[str]) -> None:
    given = from_pairs(users, items)
    made = trainer_of(method).fit(given)
    assert np.isfinite(made.users @ made.items.T).all()
    assert made.users.shape == (given.n_users, 12)


def test_the_spec_comes_back_from_json_and_marks_the_space(method: str) -> None:
    spec = trainer_of(method).spec
    assert EncoderSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.accepts == ()
    assert is_personal(Space(1, "s", spec.modality, spec.dim, Metric.DOT, spec))


def test_progress_ends_with_all_done(method: str) -> None:
    told: list[tuple[int, int]] = []
    trainer_of(method).fit(shop(0, n_users=12), progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.parametrize("ranker", [*METHODS, "popularity", "item-kNN"])
def test_nothing_to_learn_from_is_said(ranker: str) -> None:
    baselines: dict[str, Ranker] = {"popularity": Popularity(), "item-kNN": ItemKNN()}
    made = baselines.get(ranker) or trainer_of(ranker)
    given = shop(0, n_users=6)
    nothing: Interactions = given.where(np.zeros(len(given.indices), dtype=bool))
    with pytest.raises(SourceError, match="no interaction"):
        made.learn(nothing)
