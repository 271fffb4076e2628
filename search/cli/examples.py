"""Examples as they are said on the command line: an id, and how much it counts or since when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime


def said(some: Sequence[str]) -> list[str] | dict[str, float | str]:
    """The ids as they stand; or, where one of them ends in =2 or =2026-03-11, what each counts for.

    One without a number counts 1, and one that is said again the sum. An id that itself ends so is told apart by a
    number of its own behind it. What cannot stand together, dates and numbers for one id, is the last of them.
    """
    counted = [_counted(one) for one in some]
    if all(count is None for _, count in counted):
        return [id for id, _ in counted]
    found: dict[str, float | str] = {}
    for id, count in counted:
        before, now = found.get(id), 1.0 if count is None else count
        found[id] = before + now if isinstance(before, float) and isinstance(now, float) else now
    return found


def _counted(one: str) -> tuple[str, float | str | None]:
    id, equals, end = one.rpartition("=")
    if not equals or not id:
        return one, None
    try:
        number = float(end)
    except ValueError:
        pass
    else:
        return (id, number) if math.isfinite(number) else (one, None)
    try:
        datetime.fromisoformat(end)
    except ValueError:
        return one, None
    return id, end
