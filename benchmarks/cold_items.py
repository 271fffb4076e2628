"""Items that nobody took yet, by the map from what is known of them: python -m benchmarks.cold_items FILE ATTRIBUTES

FILE holds a user and the items taken on each line; ATTRIBUTES is JSON, of each item the numbers of its attributes (as
in CIKM2020-S3Rec). Every tenth item is kept out of the learning. Users who took some of these are ranked for, by what
else they took: among the kept-out items alone, and among all items. Beside the map stand the likeness of attributes to
what the user took, and the same order for everyone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from benchmarks.recommendation import ordered
from ingest.learn.interactions.contract import Ranker
from ingest.learn.interactions.evaluation import measure
from ingest.learn.interactions.load import load_trainer
from ingest.learn.nodes.prediction import learned_map
from ingest.sources.interactions import Interactions
from search.vectors import unit_rows


class Scored(Ranker):
    """By the inner products of rows of users and rows of items; items outside `among` come last."""

    def __init__(self, users: np.ndarray, items: np.ndarray, among: np.ndarray) -> None:
        self._users, self._items, self._among = users, items, among

    def learn(self, interactions: Interactions) -> None:
        """Nothing."""

    def scores(self, users: np.ndarray) -> np.ndarray:
        return np.where(self._among, self._users[users] @ self._items.T, -np.inf).astype(np.float32)


def contents(path: Path, given: Interactions, dim: int) -> np.ndarray:
    """Unit vectors (n_items, dim) of what is known of the items: their attributes, rare ones weighing more."""
    told = json.loads(path.read_text())
    rows = [(n, one) for n, id in enumerate(given.item_ids) for one in told.get(str(int(id)), [])]
    item, attribute = np.array(rows).T
    matrix = sparse.csr_matrix(
        (np.ones(len(item), np.float32), (item, attribute)), shape=(given.n_items, attribute.max() + 1)
    )
    rarity = np.log(given.n_items / np.maximum(np.asarray((matrix > 0).sum(axis=0)).ravel(), 1))
    made = TruncatedSVD(dim, random_state=0).fit_transform(matrix @ sparse.diags(rarity))
    return unit_rows(np.asarray(made, np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("attributes", type=Path)
    parser.add_argument("--dim", type=int, default=128, help="of the vectors of the attributes")
    told = parser.parse_args()
    given = ordered(told.file)
    content = contents(told.attributes, given, told.dim)
    cold = np.random.default_rng(0).random(given.n_items) < 0.1
    train, held = given.where(~cold[given.indices]), given.where(cold[given.indices])
    some = np.diff(train.indptr) > 0
    held = held.where(some[held.users])
    made = load_trainer("als").fit(train)
    taken = np.diff(train.indptr)
    warm = ~cold & (np.bincount(train.indices, minlength=given.n_items) > 0)
    raw = learned_map(content[warm], made.items[warm])
    unit = learned_map(content[warm], unit_rows(made.items[warm]))
    usual = np.linalg.norm(made.items[warm], axis=1).mean()
    guessed = np.linalg.norm(raw.raw(content[warm]), axis=1).mean()
    ways = {
        "map of the vectors as they are": raw.raw(content),
        "the same, as long as the others": raw.raw(content) * usual / guessed,
        "map of their directions": unit.predicted(content),
        "the same, as long as the others ": unit.predicted(content) * usual,
    }
    binary = train.once().matrix()
    profile = np.asarray(binary @ content) / np.maximum(taken, 1)[:, None]
    n_learned, n_kept = int(warm.sum()), int(cold.sum())
    print(f"{given.n_users:,} users, {n_learned:,} items learned, {n_kept:,} kept out")
    print(
        f"{len(held.indices):,} pairs to find; vectors of items are {usual:.3f} long, predicted ones {guessed:.3f}"
    )
    for among, mask in (("the kept-out", cold), ("all items", cold | warm)):
        print(f"among {among}, k = 20: Recall, nDCG, share of places with kept-out items")
        same = np.random.default_rng(1).random((1, given.n_items)).astype(np.float32)
        rankers = {"the same for all": Scored(np.ones((given.n_users, 1), np.float32), same.T, mask)}
        rankers["likeness of attributes"] = Scored(profile, content, mask)
        for name, rows in ways.items():
            items = np.where(cold[:, None], rows, made.items).astype(np.float32)
            rankers[name] = Scored(made.users, items, mask)
        for name, ranker in rankers.items():
            found = measure(ranker, train, held, 20)
            low, high = found.intervals["recall"]
            reached = f"{found.means['recall']:.4f} [{low:.4f}, {high:.4f}]  {found.means['ndcg']:.4f}"
            print(f"  {name:32} {reached}  {share(ranker, cold):.3f}", flush=True)


def share(ranker: Ranker, cold: np.ndarray) -> float:
    """Of the first twenty for a thousand users, how many are of the items kept out."""
    scores = ranker.scores(np.arange(1000))
    return float(cold[np.argpartition(-scores, 20, axis=1)[:, :20]].mean())


if __name__ == "__main__":
    main()
