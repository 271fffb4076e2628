"""Long runs: a set like LastFM from a seeded generator, and a file of a million rows of which some are bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest.learn.interactions.evaluation import leave_last_out
from ingest.learn.interactions.load import InteractionSettings
from ingest.sources.interaction_files import InteractionFormat, read_interactions
from ingest.verbs.evaluated_interactions import evaluate_interactions


def listened(path: Path, n_users: int = 1_500, n_items: int = 3_000, each: int = 24) -> Path:
    """Artists of thirty genres, some far better known than others; each user mixes two genres, and plays by Zipf.

    One in ten plays is of an artist that is known at large. Times rise with each play of a user.
    """
    rng = np.random.default_rng(5)
    genre = rng.integers(0, 30, n_items)
    fame = 1 / np.arange(1, n_items + 1) ** 0.8
    rows = ["user,artist,count,time"]
    for user in range(n_users):
        two = rng.choice(30, 2, replace=False)
        taste = np.where(genre == two[0], 1.0, np.where(genre == two[1], 0.5, 0.0)) * fame
        chance = 0.9 * taste / taste.sum() + 0.1 * fame / fame.sum()
        plays = np.sort(rng.zipf(1.6, each).clip(max=100_000))[::-1]
        for when, (item, count) in enumerate(
            zip(rng.choice(n_items, each, False, chance), plays, strict=True)
        ):
            rows.append(f"u{user},a{item},{count},{when * 86_400 + 1}")
    path.write_text("\n".join(rows))
    return path


@pytest.mark.quality
def test_taste_is_found_where_some_are_far_better_known(tmp_path: Path) -> None:
    path = listened(tmp_path / "plays.csv")
    found = evaluate_interactions(
        path,
        format=InteractionFormat(item="artist"),
        methods=["als", "item-knn", "bpr", "lightgcn", "node2vec"],
        split="time",
        settings=InteractionSettings(seed=0),
    )
    recall = {one.method: one.means["recall"] for one in found.methods}
    ndcg = {one.method: one.means["ndcg"] for one in found.methods}
    for method in ("als", "item-knn", "bpr", "lightgcn"):
        assert recall[method] > 1.5 * recall["popularity"], recall
        assert ndcg[method] > 1.5 * ndcg["popularity"], ndcg
    assert recall["als"] > 0.9 * max(recall.values()), recall
    novelty = {one.method: one.novelty for one in found.methods}
    assert min(novelty, key=novelty.__getitem__) == "popularity"


@pytest.mark.quality
def test_a_million_rows_of_which_some_are_bad(tmp_path: Path) -> None:
    path, rng = tmp_path / "big.csv", np.random.default_rng(0)
    n = 1_000_000
    user, item = rng.integers(0, 20_000, n), rng.integers(0, 5_000, n)
    rating = rng.integers(1, 6, n).astype(object)
    rating[::1000], rating[1::1000], rating[2::1000] = "nan", "-1", "good"
    times = rng.integers(10**9, 2 * 10**9, n).astype(object)
    times[3::1000], times[4::1000], times[5::1000] = "2026-03-11", "2026-03-11T10:00:00Z", "some day"
    names = user.astype(object)
    names[6::1000] = ""
    lines = (f"{u},{i},{r},{t}" for u, i, r, t in zip(names, item, rating, times, strict=True))
    path.write_text("\n".join(["user,item,rating,time", *lines]))
    read = read_interactions([path])
    assert read.rows == n
    assert len(read.rejected) == 5 * n // 1000
    assert [one.line for one in read.rejected[:5]] == [2, 3, 4, 7, 8]
    bad = np.isin(np.arange(n) % 1000, [0, 1, 2, 5, 6])
    weights = rating[~bad].astype(np.float64)
    assert float(read.interactions.weights.sum(dtype=np.float64)) == pytest.approx(weights.sum())
    pairs = np.unique(user[~bad].astype(np.int64) * 5_000 + item[~bad])
    assert len(read.interactions.indices) == len(pairs)
    assert read.merged == int((~bad).sum()) - len(pairs)
    assert read.interactions.times is not None
    assert read.interactions.times.max() < 2 * 10**9
    train, last = leave_last_out(read.interactions)
    assert len(last.indices) == int((np.diff(read.interactions.indptr) > 1).sum())
    assert len(train.indices) + len(last.indices) == len(pairs)
