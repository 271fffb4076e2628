"""How well methods foretell what users take, from files: splits, what is left out, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ingest
from ingest.cli.main import app
from ingest.learn.interactions.baselines import Popularity
from ingest.learn.interactions.evaluation import at_random, leave_last_out, measure, temporal
from ingest.learn.interactions.load import InteractionSettings, load_trainer
from ingest.sources.interactions import Interactions
from ingest.verbs.evaluated_interactions import evaluate_interactions
from search.errors import ModelError, QueryError, SourceError
from tests.taste import shop

SETTINGS = InteractionSettings(dim=8)


def written(path: Path, given: Interactions, *, timed: bool = True) -> Path:
    assert given.times is not None
    lines = [
        f"{given.user_ids[user]},{given.item_ids[item]}" + (f",{time}" if timed else "")
        for user, item, time in zip(given.users, given.indices, given.times, strict=True)
    ]
    path.write_text("\n".join(["user,item" + (",time" if timed else ""), *lines]))
    return path


def test_the_figures_are_those_of_the_rankings(tmp_path: Path) -> None:
    given = shop(0)
    found = evaluate_interactions(
        written(tmp_path / "o.csv", given), methods=["item-knn", "als"], settings=SETTINGS, k=8
    )
    train, held = leave_last_out(given)
    rankers = {name: load_trainer(name, SETTINGS) for name in ("als", "item-knn")} | {
        "popularity": Popularity()
    }
    for one in found.methods:
        rankers[one.method].learn(train)
        told = measure(rankers[one.method], train, held, 8)
        assert one.means == dict(told.means)
        assert one.intervals == dict(told.intervals)
        assert (one.coverage, one.novelty) == (told.coverage, told.novelty)
    by_ndcg = [one.means["ndcg"] for one in found.methods]
    assert by_ndcg == sorted(by_ndcg, reverse=True)
    assert found.methods[-1].method == "popularity"
    assert found.methods[0].less_than_best == (0, 0)
    assert found.methods[-1].less_than_best[1] < 0  # worse by more than chance
    assert (found.users, found.held_out, found.learned_from) == (90, 90, len(given.indices) - 90)
    assert (found.unknown_users, found.unknown_items, found.rejected) == (0, 0, 0)


def test_who_is_new_and_what_is_new_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    rows = [("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "y", 4), ("c", "y", 5), ("c", "x", 5)]
    late = [("a", "z", 9), ("b", "z", 9), ("d", "x", 9), ("d", "y", 9), ("bad", "", 9)]
    path.write_text("\n".join(["user,item,time", *(f"{u},{i},{t}" for u, i, t in [*rows, *late])]))
    found = evaluate_interactions(path, methods=["als"], settings=SETTINGS, split="time", share=0.4, k=2)
    assert (found.learned_from, found.held_out, found.users) == (6, 2, 2)
    assert (found.unknown_users, found.unknown_items, found.rejected) == (1, 2, 1)
    popular = {one.means["recall"] for one in found.methods if one.method == "popularity"}
    assert popular == {0.0}  # only z is left, of which nothing is known


def test_splits_by_chance_are_the_same_again_and_hold_out_a_share() -> None:
    given = shop(0)
    train, held = at_random(given, 0.25, seed=3)
    assert at_random(given, 0.25, seed=3)[1].indices.tolist() == held.indices.tolist()
    assert at_random(given, 0.25, seed=4)[1].indices.tolist() != held.indices.tolist()
    assert len(held.indices) == pytest.approx(0.25 * len(given.indices), rel=0.2)
    both = train.matrix() + held.matrix()
    assert (both != given.matrix()).nnz == 0
    with pytest.raises(SourceError, match="leaves nothing"):
        at_random(given.where(np.arange(len(given.indices)) == 0), 0.25)


def test_the_future_is_known_to_nobody_in_a_split_by_time(tmp_path: Path) -> None:
    given = shop(0)
    found = evaluate_interactions(
        written(tmp_path / "o.csv", given), methods=["als"], settings=SETTINGS, split="time", share=0.3
    )
    train, held = temporal(given, 0.3)
    assert (found.learned_from, found.held_out) == (len(train.indices), len(held.indices))


@pytest.mark.parametrize(
    ("asked", "error", "what"),
    [
        ({"split": "first"}, QueryError, "no split 'first'; use last, time, random"),
        ({"split": "last", "share": 0.1}, QueryError, "leave share out"),
        ({"split": "time", "share": 1.0}, QueryError, "share is 1.0"),
        ({"k": 0}, QueryError, "k is 0"),
        ({"methods": []}, QueryError, "no method"),
        ({"methods": ["bpr"], "settings": InteractionSettings(alpha=2)}, ModelError, "bpr takes no alpha"),
        ({"split": "time"}, SourceError, "no times to split by"),
        ({"split": "last"}, SourceError, "no times to split by"),
    ],
)
def test_what_makes_no_sense_is_told(
    tmp_path: Path, asked: dict[str, object], error: type[Exception], what: str
) -> None:
    path = written(tmp_path / "o.csv", shop(0, n_users=12), timed=False)
    with pytest.raises(error, match=what):
        evaluate_interactions(path, **asked)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path) -> None:
    runner, path = CliRunner(), written(tmp_path / "o.csv", shop(0))
    asked = ["evaluate-interactions", str(path), "--dim", "8", "-k", "8", "--half-life-items", "3"]
    shown = runner.invoke(app, [*asked, "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    expected = ingest.evaluate_interactions(path, settings=InteractionSettings(dim=8, half_life_items=3), k=8)
    assert [(one["method"], one["means"]) for one in told["methods"]] == [
        (one.method, one.means) for one in expected.methods
    ]
    table = runner.invoke(app, asked).stdout.splitlines()
    best = expected.methods[0]
    assert table[0].split()[:3] == ["method", "recall@8", "ndcg@8"]
    assert table[1].split()[:2] == [best.method, f"{best.means['recall']:.4f}"]
    ordered = tmp_path / "o.txt"
    ordered.write_text("a x y z\nb y x z\nc x z y\n")
    assert (
        runner.invoke(app, ["evaluate-interactions", str(ordered), "--ordered", "--dim", "2"]).exit_code == 0
    )
