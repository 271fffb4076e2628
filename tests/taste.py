"""A shop whose users' taste is known: groups of users, each of which likes its own shelf of items."""

from __future__ import annotations

import numpy as np

from ingest.sources.interactions import Interactions, from_pairs

GROUPS = 6
SHELF = 12  # items that a group likes


def shop(seed: int, n_users: int = 90, per_user: int = 7) -> Interactions:
    """Each user takes items of the group's shelf, some items much oftener than others, and one in eight at random.

    User and item names begin with their group: `u2-17`, `i2-05`. Times rise with each interaction of a user.
    """
    rng = np.random.default_rng(seed)
    liked = 1 / np.arange(1, SHELF + 1) ** 0.5
    users, items, times = [], [], []
    for user in range(n_users):
        group = user % GROUPS
        for when, place in enumerate(rng.choice(SHELF, per_user, replace=False, p=liked / liked.sum())):
            shelf = int(rng.integers(GROUPS)) if rng.random() < 1 / 8 else group
            users.append(f"u{group}-{user:02}")
            items.append(f"i{shelf}-{place:02}")
            times.append(float(when * 1000 + user))
    return from_pairs(users, items, None, times)
