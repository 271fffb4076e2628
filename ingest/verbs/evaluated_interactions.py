"""How well methods foretell what users take: some of it is held out, the rest learned from, all items ranked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ingest.report import Options
from ingest.sources.interaction_files import InteractionFormat
from ingest.verbs.opening import DEFAULT, Paths, listed
from search.errors import QueryError, SourceError
from search.types import Json

if TYPE_CHECKING:
    from ingest.learn.interactions.contract import Ranker
    from ingest.learn.interactions.evaluation import Measured
    from ingest.learn.interactions.load import InteractionSettings
    from ingest.sources.interactions import Interactions

SPLITS = ("last", "time", "random")
FLOOR = "popularity"
SHARE = 0.2
_NO_FORMAT = InteractionFormat()


@dataclass(frozen=True, slots=True)
class MethodQuality:
    """What the rankings of one method reach, by metric: means and their 95% intervals by bootstrap over users.

    `less_than_best` is the 95% interval of its nDCG less that of the best method, paired by user; `coverage` the share
    of items recommended to anyone, `novelty` the mean of -log2 of the share of users that had taken what was
    recommended, `seconds` the time that learning took.
    """

    method: str
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    less_than_best: tuple[float, float]
    coverage: float
    novelty: float
    seconds: float


@dataclass(frozen=True, slots=True)
class InteractionQuality:
    """What was held out and how well each method found it, the best first.

    `users` have something held out and something to go by; `unknown_users` have only the former, and are left out;
    `unknown_items` of those held out were taken by nobody before, and count as not found.
    """

    split: str
    k: int
    learned_from: int
    held_out: int
    users: int
    unknown_users: int
    unknown_items: int
    methods: list[MethodQuality]
    rejected: int

    def to_json(self) -> dict[str, Json]:
        """As one JSON object."""
        from dataclasses import asdict

        return asdict(self)


def evaluate_interactions(
    paths: Paths,
    *,
    format: InteractionFormat = _NO_FORMAT,
    methods: Sequence[str] = ("als", "item-knn"),
    settings: InteractionSettings | None = None,
    split: str = "last",
    share: float | None = None,
    k: int = 20,
    seed: int = 0,
    options: Options = DEFAULT,
) -> InteractionQuality:
    """Hold some interactions out, learn from the others, rank all items not taken, and say how many are found.

    Popularity, which is the same for everyone, is measured beside the methods as the floor. Nothing is stored.

    Args:
        paths: as `interactions` takes them.
        format: the columns.
        methods: als, item-knn, bpr, lightgcn, node2vec.
        settings: of all of them alike; what one of them does not know is refused.
        split: "last", the last item of each user with two or more; "time", what happened last over all users alike;
            "random", interactions by chance, which lets the future be known: only where there are no times.
        share: of the interactions that are held out (not for "last"); None for a fifth.
        k: how many items are recommended.
        seed: of the chance split and the intervals.
        options: progress.

    Raises:
        SourceError: a file cannot be read, there are no times to split by, or the split leaves nothing on one side.
        QueryError: there is no such split, or k or share make no sense.
        ModelError: a setting makes no sense.
    """
    from ingest.learn.interactions.baselines import Popularity
    from ingest.learn.interactions.evaluation import difference, measure
    from ingest.learn.interactions.load import InteractionSettings, load_trainer
    from ingest.sources.interaction_files import read_interactions

    _check(split, share, k, methods)
    told = settings if settings is not None else InteractionSettings()
    rankers: dict[str, Ranker] = {FLOOR: Popularity()}
    rankers |= {method: load_trainer(method, told) for method in methods}
    read = read_interactions(listed(paths), format)
    train, held = _split(read.interactions, split, SHARE if share is None else share, seed)
    known = np.diff(train.indptr) > 0
    unknown = int((~known[np.flatnonzero(np.diff(held.indptr))]).sum())
    held = held.where(known[held.users])
    if not len(held.indices) or not len(train.indices):
        raise SourceError("the split leaves nothing to learn from or nothing to find; split otherwise")
    found: dict[str, tuple[Measured, float]] = {}
    options.progress.begin("learning", len(rankers))
    for done, (name, ranker) in enumerate(rankers.items()):
        began = time.perf_counter()
        ranker.learn(train)
        seconds = time.perf_counter() - began
        found[name] = measure(ranker, train, held, k, seed), seconds
        options.progress.reached("learning", done + 1, len(rankers))
    options.progress.end("learning")
    order = sorted(found, key=lambda name: -found[name][0].means["ndcg"])
    best = found[order[0]][0]
    made = [_quality(name, *found[name], difference(found[name][0], best, "ndcg", seed)) for name in order]
    unseen = np.bincount(train.indices, minlength=train.n_items) == 0
    return InteractionQuality(
        split,
        k,
        len(train.indices),
        len(held.indices),
        len(best.users),
        unknown,
        int(unseen[held.indices].sum()),
        made,
        len(read.rejected),
    )


def _check(split: str, share: float | None, k: int, methods: Sequence[str]) -> None:
    if split not in SPLITS:
        raise QueryError(f"there is no split '{split}'; use {', '.join(SPLITS)}")
    if split == "last" and share is not None:
        raise QueryError("the last item of each user is held out whatever the share; leave share out")
    if share is not None and not 0 < share < 1:
        raise QueryError(f"share is {share}; give a number between 0 and 1")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise QueryError(f"k is {k!r}; give a whole number of at least 1")
    if not methods:
        raise QueryError("no method is given; name one, such as als")


def _split(given: Interactions, split: str, share: float, seed: int) -> tuple[Interactions, Interactions]:
    from ingest.learn.interactions.evaluation import at_random, leave_last_out, temporal

    if split == "last":
        return leave_last_out(given)
    return temporal(given, share) if split == "time" else at_random(given, share, seed)


def _quality(name: str, told: Measured, seconds: float, less: tuple[float, float]) -> MethodQuality:
    return MethodQuality(
        name, dict(told.means), dict(told.intervals), less, told.coverage, told.novelty, round(seconds, 3)
    )
