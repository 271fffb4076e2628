"""Interactions: how files are read, that the sums of the methods are those of the papers, how rankings are measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from ingest.learn.interactions import als, baselines, evaluation, pairwise, recency
from ingest.learn.interactions.contract import Ranker
from ingest.learn.interactions.load import InteractionSettings, load_trainer
from ingest.sources.interaction_files import InteractionFormat, read_interactions
from ingest.sources.interactions import Interactions, from_pairs
from search.errors import ModelError, ModelUnavailable, SourceError
from tests.taste import shop

ROWS = [("a", "x", 5.0, 100.0), ("a", "y", 3.0, 200.0), ("b", "x", 4.0, 50.0), ("a", "x", 2.0, 300.0)]


def table(given: Interactions) -> dict[tuple[str, str], tuple[float, float | None]]:
    times = [None] * len(given.indices) if given.times is None else given.times.tolist()
    return {
        (given.user_ids[user], given.item_ids[item]): (float(weight), time)
        for user, item, weight, time in zip(given.users, given.indices, given.weights, times, strict=True)
    }


# ---- reading -----------------------------------------------------------------------------------------------


def test_a_pair_that_stands_again_counts_for_the_sum_at_its_last_time() -> None:
    users, items, weights, times = zip(*ROWS, strict=True)
    assert table(from_pairs(users, items, weights, times)) == {
        ("a", "x"): (7.0, 300.0),
        ("a", "y"): (3.0, 200.0),
        ("b", "x"): (4.0, 50.0),
    }


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_table_reads_alike(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"orders.{suffix}"
    names = ("customer", "sku", "stars", "day")
    days = ["1970-01-01T00:01:40", "1970-01-01T00:03:20", "1970-01-01T00:00:50", "1970-01-01T00:05:00"]
    rows = [dict(zip(names, (*row[:3], day), strict=True)) for row, day in zip(ROWS, days, strict=True)]
    if suffix == "parquet":
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame(rows).to_parquet(path)
    elif suffix == "jsonl":
        import json

        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        mark = "," if suffix == "csv" else "\t"
        path.write_text("\n".join([mark.join(names), *(mark.join(map(str, row.values())) for row in rows)]))
    read = read_interactions([path], InteractionFormat(weight="stars", time="day"))
    users, items, weights, times = zip(*ROWS, strict=True)
    assert table(read.interactions) == table(from_pairs(users, items, weights, times))
    assert (read.rows, read.merged, read.rejected) == (4, 1, [])


def test_lines_of_a_user_and_items(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("0 5 7\n1 7\n2\n")
    read = read_interactions([path])
    assert table(read.interactions) == {
        ("0", "5"): (1.0, None),
        ("0", "7"): (1.0, None),
        ("1", "7"): (1.0, None),
    }
    assert [(one.line, one.reason) for one in read.rejected] == [(3, "a user who took nothing")]


def test_lines_in_order_have_their_places_as_times(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("0 5 7 5\n1 7\n")
    read = read_interactions([path], InteractionFormat(ordered=True))
    assert table(read.interactions) == {
        ("0", "5"): (2.0, 2.0),
        ("0", "7"): (1.0, 1.0),
        ("1", "7"): (1.0, 0.0),
    }
    (tmp_path / "o.csv").write_text("user,item\na,x\n")
    with pytest.raises(SourceError, match=r"only the lines of \.txt are ordered"):
        read_interactions([tmp_path / "o.csv"], InteractionFormat(ordered=True))


def test_bad_rows_are_listed_and_the_rest_goes_in(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(
        "user,item,rating,time\na,x,nan,1\na,y,0,1\n,x,1,1\na,,1,1\na,z,good,1\na,w,1,soon\na,v,1\na,u,2,1\n"
    )
    read = read_interactions([path])
    assert table(read.interactions) == {("a", "u"): (2.0, 1.0)}
    assert [one.line for one in read.rejected] == [2, 3, 4, 5, 6, 7, 8]
    assert "'nan', and not a positive number" in read.rejected[0].reason
    assert "no user in 'user'" in read.rejected[2].reason


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    lines = [f"{user},{item}" for user, item in [("b", "x"), ("a", "y"), ("a", "x"), ("c", "z")]]
    digests = []
    for name, rows in (("one.csv", lines), ("two.csv", lines[::-1])):
        (tmp_path / name).write_text("\n".join(["user,item", *rows]))
        digests.append(read_interactions([tmp_path / name]).digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("content", "form", "told"),
    [
        ("who,what\na,x\n", InteractionFormat(), "cannot tell which column is the user"),
        ("user,item\na,x\n", InteractionFormat(item="sku"), "no column 'sku' for the item"),
        ("user,item\na,x\n", InteractionFormat(item="user"), "name two columns"),
        ("user,item\n", InteractionFormat(), "no interaction"),
        ("user,item,weight\na,x,nan\n", InteractionFormat(), "no interaction.*nan"),
        ("user,item,weight\na,x,1e308\n", InteractionFormat(), "no interaction.*1e308"),
    ],
)
def test_files_that_cannot_be_learned_from(
    tmp_path: Path, content: str, form: InteractionFormat, told: str
) -> None:
    path = tmp_path / "given.csv"
    path.write_text(content)
    with pytest.raises(SourceError, match=told):
        read_interactions([path], form)


# ---- methods -----------------------------------------------------------------------------------------------


def test_the_gradient_of_bpr_is_that_of_autograd() -> None:
    dice = torch.Generator().manual_seed(0)
    vectors = torch.randn(9, 5, generator=dice, dtype=torch.float64).requires_grad_()
    triples = torch.tensor([[0, 1, 2, 0, 0], [3, 4, 5, 3, 6], [7, 8, 3, 8, 7]])
    user, item, other = (vectors[rows] for rows in triples)
    held = sum(rows.square().sum() for rows in (user, item, other)) / 2 / 5
    loss = -torch.nn.functional.logsigmoid((user * (item - other)).sum(1)).mean() + 0.3 * held
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        ours = pairwise.bpr_gradient(vectors, triples)
        pairwise.add_decay(ours, vectors, triples, 0.3)
    torch.testing.assert_close(ours, vectors.grad)


def test_the_propagation_of_lightgcn_is_that_of_the_dense_matrix_and_its_own_transpose() -> None:
    given = shop(0, n_users=12)
    n = given.n_users + given.n_items
    taken = (given.matrix().toarray() > 0).astype(np.float64)
    dense = np.zeros((n, n))
    dense[: given.n_users, given.n_users :] = taken
    dense += dense.T
    degrees = dense.sum(axis=1)
    smooth = dense / np.sqrt(np.outer(degrees, degrees))
    whole = sum(np.linalg.matrix_power(smooth, power) for power in range(4)) / 4
    ours = pairwise.propagation(given, 3, torch.device("cpu"))(torch.eye(n)).numpy()
    np.testing.assert_allclose(ours, whole, atol=1e-6)
    np.testing.assert_allclose(ours, ours.T, atol=1e-6)


def test_triples_hold_each_pair_once_and_no_item_that_was_taken() -> None:
    given = shop(1, n_users=40)
    drawn = pairwise.Pairs(given, torch.device("cpu")).drawn(torch.Generator().manual_seed(0)).numpy()
    pairs = set(zip(given.users.tolist(), (given.indices + given.n_users).tolist(), strict=True))
    positive = list(zip(drawn[0].tolist(), drawn[1].tolist(), strict=True))
    assert len(set(positive)) == len(positive)
    assert set(positive) <= pairs
    assert len(positive) > 0.95 * len(pairs)  # left out only where two draws in a row were taken
    assert not set(zip(drawn[0].tolist(), drawn[2].tolist(), strict=True)) & pairs
    assert drawn[2].min() >= given.n_users
    assert len(set(drawn[2].tolist())) > given.n_items / 2


def test_a_user_who_took_all_items_leaves_nothing_to_compare() -> None:
    given = from_pairs(["a", "a"], ["x", "y"])
    assert pairwise.Pairs(given, torch.device("cpu")).drawn(torch.Generator().manual_seed(0)).shape == (3, 0)


def test_the_half_step_of_als_is_the_closed_form() -> None:
    given = shop(2, n_users=20)
    rng = np.random.default_rng(0)
    items = rng.standard_normal((given.n_items, 6)).astype(np.float32)
    users = np.zeros((given.n_users, 6), np.float32)
    extra = given.matrix().copy()
    extra.data = rng.random(len(extra.data)).astype(np.float32) * 9
    with ThreadPoolExecutor(2) as workers:
        als.half_step(extra, users, items, 0.02, 12, workers)
    dense, y = extra.toarray().astype(np.float64), items.astype(np.float64)
    for user, row in enumerate(dense):
        c = 1 + row
        ridge = 0.02 * row.sum()
        exact = np.linalg.solve(y.T @ (c[:, None] * y) + ridge * np.eye(6), y.T @ (c * (row > 0)))
        np.testing.assert_allclose(users[user], exact, rtol=2e-3, atol=2e-4)


def test_what_was_taken_counts_less_the_more_was_taken_since() -> None:
    given = from_pairs(["a", "a", "a", "b"], ["z", "x", "y", "x"], None, [10, 30, 20, 5])
    # of a: z first, then y, then x; in rows x, y, z
    np.testing.assert_allclose(recency.faded(given, 2.0), [1, 0.5**0.5, 0.5, 1])
    assert recency.faded(given, None).tolist() == [1, 1, 1, 1]
    with pytest.raises(SourceError, match="what was taken when"):
        recency.faded(from_pairs(["a"], ["x"]), 2.0)


def test_the_vectors_of_als_by_what_was_taken_last() -> None:
    given = shop(2, n_users=20)
    plain = als.ImplicitALS(als.ALSSettings(dim=6)).fit(given)
    lately = als.ImplicitALS(als.ALSSettings(dim=6, half_life_items=2.0)).fit(given)
    assert lately.items.tobytes() == plain.items.tobytes()  # only users forget
    y = lately.items.astype(np.float64)
    counts = given.weights * recency.faded(given, 2.0)
    for user in range(20):
        span = slice(given.indptr[user], given.indptr[user + 1])
        rows, extra = y[given.indices[span]], 5 * np.log1p(counts[span])
        left = y.T @ y + rows.T @ (extra[:, None] * rows) + 0.15 * extra.sum() * np.eye(6)
        exact = np.linalg.solve(left, rows.T @ (1 + extra))
        np.testing.assert_allclose(lately.users[user], exact, rtol=2e-3, atol=2e-4)


def test_item_knn_with_vectors_beside_it() -> None:
    given = shop(1, n_users=30)
    settings = InteractionSettings(dim=6, neighbours=7, shrink=3, half_life_items=2.0)
    learned = load_trainer("item-knn", settings)
    learned.learn(given)
    taken = (given.matrix().toarray() > 0).astype(np.float64)
    lengths = np.sqrt(taken.sum(axis=0))
    likeness = (taken.T @ taken) / (np.outer(lengths, lengths) + 3)
    np.fill_diagonal(likeness, 0)
    for row in likeness:  # row j: the neighbours of j, among equals the first
        row[np.argsort(-row, kind="stable")[7:]] = 0
    counts = np.zeros_like(taken)
    counts[given.users, given.indices] = recency.faded(given, 2.0)
    assert learned.factors is not None
    whole = counts @ likeness.T + 0.2 * (learned.factors.users @ learned.factors.items.T)
    np.testing.assert_allclose(learned.scores(np.arange(30)), whole, atol=1e-5)


def test_item_knn_by_hand() -> None:
    # x and y share a and b (x: a b c, y: a b); z is c's alone beside x.
    given = from_pairs(["a", "a", "b", "b", "c", "c"], ["x", "y", "x", "y", "x", "z"])
    ranker = baselines.ItemKNN(neighbours=2, shrink=0)
    ranker.learn(given)
    xy, xz = 2 / np.sqrt(3 * 2), 1 / np.sqrt(3)
    np.testing.assert_allclose(
        ranker.scores(np.arange(3)), [[xy, xy, xz], [xy, xy, xz], [xz, xy, xz]], rtol=1e-6
    )


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ModelUnavailable, match="als, item-knn, bpr, lightgcn or node2vec"):
        load_trainer("svd")
    for method, settings in (
        ("als", InteractionSettings(layers=2)),
        ("als", InteractionSettings(device="cuda")),
        ("bpr", InteractionSettings(alpha=1)),
        ("node2vec", InteractionSettings(rate=0.1)),
        ("bpr", InteractionSettings(dim=0)),
        ("als", InteractionSettings(regularization=float("nan"))),
        ("lightgcn", InteractionSettings(layers=0)),
        ("bpr", InteractionSettings(epochs=0)),
        ("bpr", InteractionSettings(half_life_items=2)),
        ("als", InteractionSettings(half_life_items=0)),
        ("als", InteractionSettings(neighbours=5)),
        ("item-knn", InteractionSettings(neighbours=0)),
        ("item-knn", InteractionSettings(shrink=-1)),
        ("item-knn", InteractionSettings(half_life_items=float("inf"))),
        ("item-knn", InteractionSettings(device="cuda")),
    ):
        with pytest.raises(ModelError):
            load_trainer(method, settings)
    with pytest.raises(ModelError, match="cannot be used here"):
        load_trainer("bpr", InteractionSettings(device="cuda:99")).fit(shop(0, n_users=6))


# ---- measuring ---------------------------------------------------------------------------------------------


class _Fixed(Ranker):
    def __init__(self, table: list[list[float]]) -> None:
        self._table = np.array(table, dtype=np.float32)

    def learn(self, interactions: Interactions) -> None:
        pass

    def scores(self, users: np.ndarray) -> np.ndarray:
        return self._table[users]


def test_metrics_by_hand() -> None:
    everyone, items = ("a", "b", "c"), tuple("vwxyz")
    whole = from_pairs([*"aaaaabbbbbccccc"], [*items, *items, *items])
    assert (whole.user_ids, whole.item_ids) == (everyone, items)
    held = np.array([0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], dtype=bool)  # a: x and z; b: v
    took = np.array(
        [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1], dtype=bool
    )  # a took v, b took w, c the rest
    scores = [[9, 5, 4, 3, 2], [1, 9, 8, 7, 6], [0, 0, 0, 0, 0]]
    told = evaluation.measure(_Fixed(scores), whole.where(took), whole.where(held), k=3)
    # a is shown w x y: x is right, at the second place, of two. b is shown x y z, and none is right.
    gain, ideal = 1 / np.log2(3), 1 + 1 / np.log2(3)
    assert told.per_user["recall"].tolist() == [0.5, 0]
    np.testing.assert_allclose(told.per_user["ndcg"], [gain / ideal, 0])
    np.testing.assert_allclose(told.per_user["map"], [(1 / 2) / 2, 0])
    assert told.coverage == 4 / 5
    assert told.novelty == pytest.approx(np.log2(3))  # one of three users took each
    low, high = told.intervals["recall"]
    assert 0 <= low <= told.means["recall"] <= high <= 0.5
    assert evaluation.difference(told, told, "ndcg") == (0, 0)


def test_what_nobody_took_is_not_foretold() -> None:
    whole = from_pairs(["a", "a", "a", "b"], ["v", "w", "x", "v"])  # (a, v) (a, w) (a, x) (b, v)
    known = np.array([True, True, False, True])
    told = evaluation.measure(_Fixed([[0, 0, 9], [0, 0, 9]]), whole.where(known), whole.where(~known), k=3)
    assert (told.means["recall"], told.coverage, str(told.novelty)) == (0, 0, "0.0")


def test_nobody_is_shown_what_was_taken_and_short_lists_stay_short() -> None:
    whole = from_pairs(["a", "a", "a", "b"], ["x", "y", "z", "z"])
    held = np.array([False, False, True, False])
    told = evaluation.measure(_Fixed([[3, 2, 1], [0, 0, 0]]), whole.where(~held), whole.where(held), k=20)
    assert told.means == {"recall": 1.0, "ndcg": 1.0, "map": 1.0}


def test_splits_hold_out_what_came_last() -> None:
    given = shop(0, n_users=30)
    assert given.times is not None
    train, last = evaluation.leave_last_out(given)
    assert np.diff(last.indptr).tolist() == [1] * 30
    assert train.times is not None
    assert last.times is not None
    for user in range(30):
        before = train.times[train.indptr[user] : train.indptr[user + 1]]
        assert last.times[user] > before.max()
    assert len(train.indices) + len(last.indices) == len(given.indices)
    early, late = evaluation.temporal(given, 0.25)
    assert early.times is not None
    assert late.times is not None
    assert early.times.max() < late.times.min()
    assert len(late.indices) == pytest.approx(0.25 * len(given.indices), rel=0.05)


def test_a_split_needs_times() -> None:
    given = from_pairs(["a", "a"], ["x", "y"])
    for split in (evaluation.leave_last_out, evaluation.temporal):
        with pytest.raises(SourceError, match="no times"):
            split(given)
    with pytest.raises(SourceError, match="too much alike"):
        evaluation.temporal(from_pairs(["a", "a"], ["x", "y"], None, [1, 1]))
