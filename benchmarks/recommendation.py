"""Rankings learned from interactions, side by side: python -m benchmarks.recommendation FOLDER [options]

FOLDER holds data1.txt and test1.txt (LastFM as in LightGCN-PyTorch: user, item, weight), or train.txt and test.txt
(a user and the items on each line); or it is a file of lines with a user and the items in the order they were taken
(Beauty.txt of CIKM2020-S3Rec), of which the last is held out, and with --tune the one before. All items that a user has
not taken are ranked. --plain bpr|lightgcn trains by a plain torch loop too and tells its figures every --every epochs;
--fold-in leaves every fifth user out of the learning and ranks by what they took alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ingest.learn.interactions.baselines import ItemKNN, Popularity
from ingest.learn.interactions.contract import Factors, FactorTrainer, Ranker
from ingest.learn.interactions.evaluation import Measured, leave_last_out, measure
from ingest.learn.interactions.load import METHODS, InteractionSettings, load_trainer
from ingest.learn.interactions.pairwise import PairwiseSettings, device_of, propagation
from ingest.sources.interactions import Interactions, numbered
from search.query.personal import folded_in, gram_of
from search.types import Metric, Space


def both(folder: Path) -> tuple[Interactions, Interactions]:
    """What is learned from and what is held out, of the same users and items."""
    if (folder / "data1.txt").exists():
        columns = [np.loadtxt(folder / name) for name in ("data1.txt", "test1.txt")]
    else:
        columns = [_lists(folder / name) for name in ("train.txt", "test.txt")]
    together = np.concatenate(columns)
    users, items = (tuple(f"{int(id):09}" for id in np.unique(together[:, at])) for at in (0, 1))
    made = []
    for one in columns:
        user = np.searchsorted(np.unique(together[:, 0]), one[:, 0])
        item = np.searchsorted(np.unique(together[:, 1]), one[:, 1])
        made.append(numbered(users, items, user, item, one[:, 2], None))
    return made[0], made[1]


def _lists(path: Path) -> np.ndarray:
    rows = [line.split() for line in path.read_text().splitlines()]
    return np.array([(int(row[0]), int(item), 1) for row in rows for item in row[1:]], dtype=np.float64)


def ordered(path: Path) -> Interactions:
    """Of lines with a user and the items in the order they were taken; the times are the places in the line."""
    rows = [line.split() for line in path.read_text().splitlines()]
    pairs = [(int(row[0]), int(item), place) for row in rows for place, item in enumerate(row[1:])]
    table = np.array(pairs, dtype=np.float64)
    (users, user), (items, item) = (np.unique(table[:, at], return_inverse=True) for at in (0, 1))
    names = [tuple(f"{int(id):09}" for id in some) for some in (users, items)]
    return numbered(names[0], names[1], user, item, np.ones(len(table)), table[:, 2])


class Ease(Ranker):
    """Ridge regression of each item on all others, in closed form (Steck 2019); memory for two dense matrices."""

    def __init__(self, penalty: float) -> None:
        self._penalty = penalty

    def learn(self, interactions: Interactions) -> None:
        self._taken = interactions.once().matrix()
        products = np.asarray((self._taken.T @ self._taken).toarray(), np.float32)
        np.fill_diagonal(products, products.diagonal() + self._penalty)
        inverse = np.linalg.inv(products)
        self._weights = inverse / -inverse.diagonal()
        np.fill_diagonal(self._weights, 0)

    def scores(self, users: np.ndarray) -> np.ndarray:
        return np.asarray(self._taken[users] @ self._weights, np.float32)


class PlainLoop:
    """BPR or LightGCN as usually written: batches of 2,048 triples, gradients by autograd, Adam at 0.001."""

    def __init__(self, interactions: Interactions, layers: int, decay: float) -> None:
        import torch

        torch.manual_seed(0)
        self._rng = np.random.default_rng(0)
        self._given, self._decay = interactions, decay
        self._own = torch.nn.Embedding(interactions.n_users + interactions.n_items, PairwiseSettings().dim)
        torch.nn.init.normal_(self._own.weight, std=0.1)
        self._graph = propagation(interactions, layers, device_of("cpu")) if layers else None
        self._taken = [
            set(interactions.indices[a:b].tolist())
            for a, b in zip(interactions.indptr, interactions.indptr[1:], strict=False)
        ]
        self._adam = torch.optim.Adam(self._own.parameters(), lr=1e-3)

    def epoch(self) -> None:
        """Each pair once, with an item drawn until it is one that was not taken."""
        import torch

        given, rng = self._given, self._rng
        users, items = given.users.astype(np.int64), given.indices.astype(np.int64)
        others = rng.integers(0, given.n_items, len(users))
        for at in range(len(users)):
            while int(others[at]) in self._taken[users[at]]:
                others[at] = rng.integers(0, given.n_items)
        order = rng.permutation(len(users))
        for begin in range(0, len(order), 2048):
            some = order[begin : begin + 2048]
            columns = (users[some], items[some] + given.n_users, others[some] + given.n_users)
            rows = [torch.from_numpy(column) for column in columns]
            seen = self._own.weight if self._graph is None else self._graph(self._own.weight)
            user, item, other = (seen[row] for row in rows)
            apart = (user * other).sum(1) - (user * item).sum(1)
            held = sum(self._own(row).square().sum() for row in rows) / 2 / len(some)
            loss = torch.nn.functional.softplus(apart).mean() + self._decay * held
            self._adam.zero_grad()
            loss.backward()
            self._adam.step()

    def ranker(self) -> Ranker:
        """What it has learned so far."""
        made = self._own.weight if self._graph is None else self._graph(self._own.weight)
        rows, n_users = made.detach().numpy(), self._given.n_users
        return Learned(Factors(rows[:n_users], rows[n_users:]))


class Learned(FactorTrainer):
    """Vectors that are there."""

    def __init__(self, factors: Factors) -> None:
        self.factors = factors

    def fit(self, interactions: Interactions, *, progress: object = None) -> Factors:
        assert self.factors is not None
        return self.factors


def beside_a_plain_loop(
    method: str, train: Interactions, test: Interactions, every: int, limit: float
) -> None:
    """Learn, then let the loop run until its recall is as high, or it has taken `limit` seconds of processor time."""
    wanted = shown(method, load_trainer(method), train, test).means["recall"]
    layers, decay = (3, 1e-4) if method == "lightgcn" else (0, 1e-2)
    loop, spent, epochs, reached = PlainLoop(train, layers, decay), 0.0, 0, 0.0
    while reached < wanted and spent < limit:
        began = time.process_time()
        for _ in range(every):
            loop.epoch()
        spent, epochs = spent + time.process_time() - began, epochs + every
        found = measure(loop.ranker(), train, test)
        reached = found.means["recall"]
        print(_row(f"plain loop, {epochs} epochs", found) + f" {spent:15.1f}", flush=True)


def shown(name: str, ranker: Ranker, train: Interactions, test: Interactions, k: int = 20) -> Measured:
    """Learn, measure, and print a row."""
    began, cpu = time.perf_counter(), time.process_time()
    ranker.learn(train)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    told = measure(ranker, train, test, k)
    print(_row(name, told) + f" {took:7.1f} {cpu:7.1f}", flush=True)
    return told


def _row(name: str, told: Measured) -> str:
    cells = [
        f"{told.means[m]:.4f} [{told.intervals[m][0]:.4f}, {told.intervals[m][1]:.4f}]" for m in told.means
    ]
    return f"{name:24} " + "  ".join(cells) + f"  {told.coverage:6.3f} {told.novelty:6.2f}"


class _Folded(Ranker):
    """Users by what they took alone, with the vectors of the items as learned from others."""

    def __init__(self, trainer: FactorTrainer, made: Factors, train: Interactions, way: str) -> None:
        self._made, self._train, self._way = made, train, way
        self._space = Space(0, "", trainer.spec.modality, trainer.spec.dim, Metric.DOT, trainer.spec)
        self._gram = gram_of(made.items)

    def learn(self, interactions: Interactions) -> None:
        """Nothing."""

    def scores(self, users: np.ndarray) -> np.ndarray:
        rows = []
        for user in users:
            span = slice(self._train.indptr[user], self._train.indptr[user + 1])
            items, weights = self._made.items[self._train.indices[span]], self._train.weights[span]
            if self._way == "mean":
                rows.append(items.mean(axis=0))
            else:
                rows.append(folded_in(self._space, self._gram, items, weights.astype(np.float64))[0])
        return np.stack(rows) @ self._made.items.T


def fold_in(train: Interactions, test: Interactions, methods: Sequence[str]) -> None:
    """Every fifth user left out of the learning, and ranked for by what they took."""
    left_out = np.arange(train.n_users) % 5 == 0
    others = train.where(~left_out[train.users])
    theirs = test.where(left_out[test.users])
    popular = Popularity()
    popular.learn(others)
    print(_row("popularity", measure(popular, train, theirs)))
    for method in methods:
        trainer = load_trainer(method)
        made = trainer.fit(others)
        for way in ("mean", "least squares"):
            folded = _Folded(trainer, made, train, way)
            print(_row(f"{method}, {way}", measure(folded, train, theirs)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plain", choices=("bpr", "lightgcn"))
    parser.add_argument("--every", type=int, default=20, help="epochs of the plain loop between two figures")
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds of processor time for the plain loop"
    )
    parser.add_argument("--fold-in", action="store_true")
    parser.add_argument("--tune", action="store_true", help="hold out the last but one, of an ordered file")
    parser.add_argument("--half-life-items", type=float, default=2.0, help="of an ordered file")
    parser.add_argument("--ease", type=float, help="EASE too, with this penalty")
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--also", type=int, help="another k")
    parser.add_argument("--methods", nargs="*")
    told = parser.parse_args()
    device_of("cpu")  # torch's import is nobody's training
    timed = told.folder.is_file()
    if timed:
        train, test = leave_last_out(ordered(told.folder))
        if told.tune:
            train, test = leave_last_out(train)
    else:
        train, test = both(told.folder)
    print(
        f"{train.n_users:,} users, {train.n_items:,} items, {len(train.indices):,} and {len(test.indices):,} pairs"
    )
    heading = f"k = {told.k}"
    print(f"{heading:24} {'recall [95%]':24}  {'nDCG':24}  {'MAP':24} cover. novelty     s   cpu s")
    if told.fold_in:
        fold_in(train, test, told.methods or METHODS)
    elif told.plain:
        beside_a_plain_loop(told.plain, train, test, told.every, told.limit)
    else:
        for name, made in rankers(told, timed=timed).items():
            if not told.methods or name in told.methods:
                ranker = made()
                shown(name, ranker, train, test, told.k)
                if told.also:
                    print(
                        _row(f"  the same, k = {told.also}", measure(ranker, train, test, told.also)),
                        flush=True,
                    )


def rankers(told: argparse.Namespace, *, timed: bool) -> dict[str, Callable[[], Ranker]]:
    """What is set side by side, by name."""
    found: dict[str, Callable[[], Ranker]] = {
        "popularity": Popularity,
        "item-kNN alone": lambda: ItemKNN(shrink=20),
        "item-kNN alone, BM25": lambda: ItemKNN(bm25=True),
    }
    for name in METHODS:
        found[name] = lambda name=name: load_trainer(name)  # type: ignore[misc]
    if timed:
        lately = InteractionSettings(half_life_items=told.half_life_items)
        for name in ("als", "item-knn"):
            found[f"{name}, half-life {told.half_life_items:g}"] = lambda name=name: load_trainer(
                name, lately
            )  # type: ignore[misc]
        found["als of 256, half-life"] = lambda: load_trainer("als", replace(lately, dim=256))
    if told.ease:
        found[f"EASE, penalty {told.ease:g}"] = lambda: Ease(told.ease)
    return found


if __name__ == "__main__":
    main()
