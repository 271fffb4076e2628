"""Rankings learned from interactions, side by side: python -m benchmarks.recommendation FOLDER [options]

FOLDER holds data1.txt and test1.txt (LastFM as in LightGCN-PyTorch: user, item, weight), or train.txt and test.txt
(a user and the items on each line). All items that a user has not taken are ranked. --plain trains BPR and LightGCN by
a plain torch loop too; --fold-in leaves every fifth user out of the learning and ranks by what they took alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ingest.learn.interactions.baselines import ItemKNN, Popularity
from ingest.learn.interactions.contract import Factors, FactorTrainer, Ranker
from ingest.learn.interactions.evaluation import Measured, measure
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


class PlainLoop(FactorTrainer):
    """BPR or LightGCN as usually written: batches of 2,048 triples, gradients by autograd, Adam at 0.001."""

    def __init__(self, layers: int, epochs: int, decay: float) -> None:
        self.layers, self.epochs, self.decay = layers, epochs, decay
        self.spec = load_trainer("bpr").spec

    def fit(self, interactions: Interactions, *, progress: object = None) -> Factors:
        import torch

        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        n_users, n_items = interactions.n_users, interactions.n_items
        own = torch.nn.Embedding(n_users + n_items, PairwiseSettings().dim)
        torch.nn.init.normal_(own.weight, std=0.1)
        graph = propagation(interactions, self.layers, device_of("cpu")) if self.layers else None
        users, items = interactions.users.astype(np.int64), interactions.indices.astype(np.int64)
        taken = [
            set(interactions.indices[a:b].tolist())
            for a, b in zip(interactions.indptr, interactions.indptr[1:], strict=False)
        ]
        adam = torch.optim.Adam(own.parameters(), lr=1e-3)
        for _ in range(self.epochs):
            others = rng.integers(0, n_items, len(users))
            for at in range(len(users)):
                while int(others[at]) in taken[users[at]]:
                    others[at] = rng.integers(0, n_items)
            order = rng.permutation(len(users))
            for begin in range(0, len(order), 2048):
                some = order[begin : begin + 2048]
                rows = [
                    torch.from_numpy(x) for x in (users[some], items[some] + n_users, others[some] + n_users)
                ]
                seen = own.weight if graph is None else graph(own.weight)
                user, item, other = (seen[row] for row in rows)
                apart = (user * other).sum(1) - (user * item).sum(1)
                held = sum(own(row).square().sum() for row in rows) / 2 / len(some)
                loss = torch.nn.functional.softplus(apart).mean() + self.decay * held
                adam.zero_grad()
                loss.backward()
                adam.step()
        made = (own.weight if graph is None else graph(own.weight)).detach().numpy()
        return Factors(made[:n_users], made[n_users:])


def shown(name: str, ranker: Ranker, train: Interactions, test: Interactions) -> Measured:
    """Learn, measure, and print a row."""
    began, cpu = time.perf_counter(), time.process_time()
    ranker.learn(train)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    told = measure(ranker, train, test)
    print(_row(name, told) + f" {took:7.1f} {cpu:7.1f}", flush=True)
    return told


def _row(name: str, told: Measured) -> str:
    cells = [
        f"{told.means[m]:.4f} [{told.intervals[m][0]:.4f}, {told.intervals[m][1]:.4f}]" for m in told.means
    ]
    return f"{name:22} " + "  ".join(cells) + f"  {told.coverage:6.3f} {told.novelty:6.2f}"


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
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--fold-in", action="store_true")
    parser.add_argument("--epochs", type=int, nargs="*", default=[100, 200, 400])
    parser.add_argument("--methods", nargs="*")
    told = parser.parse_args()
    device_of("cpu")  # torch's import is nobody's training
    train, test = both(told.folder)
    print(
        f"{train.n_users:,} users, {train.n_items:,} items, {len(train.indices):,} and {len(test.indices):,} pairs"
    )
    print(f"{'k = 20':22} {'recall [95%]':24}  {'nDCG':24}  {'MAP':24} cover. novelty     s   cpu s")
    if told.fold_in:
        fold_in(train, test, told.methods or METHODS)
        return
    methods: dict[str, Callable[[], Ranker]] = {
        "popularity": Popularity,
        "item-kNN": ItemKNN,
        "item-kNN, BM25": lambda: ItemKNN(bm25=True),
    }
    methods |= {name: (lambda name=name: load_trainer(name, InteractionSettings())) for name in METHODS}  # type: ignore[misc]
    if told.plain:
        methods = {name: methods[name] for name in ("bpr", "lightgcn")}
        for epochs in told.epochs:
            methods[f"plain bpr, {epochs}"] = lambda epochs=epochs: PlainLoop(0, epochs, 1e-2)  # type: ignore[misc]
            methods[f"plain lightgcn, {epochs}"] = lambda epochs=epochs: PlainLoop(3, epochs, 1e-4)  # type: ignore[misc]
    for name, made in methods.items():
        if told.methods and name not in told.methods:
            continue
        shown(name, made(), train, test)


if __name__ == "__main__":
    main()
