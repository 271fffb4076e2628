"""What a user should see next, of many items, beside the raw product: python -m benchmarks.users [--items N]

Users take 40 items each, of shelves of 500 whose first are taken oftenest. Each is measured in turns with its limit:
one product of all items' vectors with one query, and the first ten of it, in numpy by one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import ingest
import search
from search.vectors import top_k

_USERS, _EACH, _SHELF = 3_000, 40, 500


def orders(path: Path, n_items: int) -> Path:
    """A line for each user: who, and what was taken, first to last; each item is taken by somebody."""
    rng = np.random.default_rng(0)
    chance = 1 / np.arange(1, _SHELF + 1)
    lines = []
    for user in range(_USERS):
        shelf = rng.integers(n_items // _SHELF)
        taken = shelf * _SHELF + rng.choice(_SHELF, _EACH, replace=False, p=chance / chance.sum())
        lines.append(f"u{user} " + " ".join(f"i{item}" for item in taken))
    rest = rng.permutation(n_items).reshape(-1, _SHELF)
    lines += [f"rest{row} " + " ".join(f"i{item}" for item in some) for row, some in enumerate(rest)]
    path.write_text("\n".join(lines))
    return path


def in_turns(ways: dict[str, Callable[[int], object]], times: int) -> dict[str, float]:
    """The median milliseconds of each way, asked one after the other."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(-3, times):
        for name, way in ways.items():
            began = time.perf_counter()
            way(max(i, 0))
            if i >= 0:
                spent[name].append((time.perf_counter() - began) * 1000)
    return {name: float(np.median(some)) for name, some in spent.items()}


def measured(shop: search.Collection, lines: list[list[str]], times: int) -> None:
    """Print the times of one collection."""
    look = shop._asker.looked(shop.spaces()["interactions"], lambda _, look: look)
    matrix = np.ascontiguousarray(look.rows.matrix)
    queries = matrix[:times]
    ms = in_turns(
        {
            "raw product": lambda i: top_k(matrix @ queries[i], 10),
            "user": lambda i: shop.recommend(user=lines[i][0]),
            "history of 40": lambda i: shop.recommend(history=lines[i][1:]),
            "user, explained": lambda i: shop.recommend(user=lines[i][0], explain=True),
        },
        times,
    )
    for name, one in ms.items():
        print(f"  {name:16} {one:8.2f} ms  {one / ms['raw product']:5.1f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=50)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = orders(Path(scratch) / "orders.txt", told.items)
        lines = [line.split() for line in path.read_text().splitlines()[:_USERS]]
        for method in ("als", "item-knn"):
            began = time.process_time()
            with search.open(Path(scratch) / method) as shop:
                settings = ingest.InteractionSettings(dim=64, epochs=3)
                ingest.interactions(shop, path, method=method, settings=settings)
                print(f"{method}: {told.items:,} items taken in, {time.process_time() - began:.1f} cpu s")
                measured(shop, lines, told.times)


if __name__ == "__main__":
    main()
