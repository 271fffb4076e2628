"""Names that are near a misspelt one, for the messages that refuse it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 12  # names listed where none is near


def hint(name: str, known: Iterable[str]) -> str:
    """What to try instead of `name`: the nearest of the known names, or else a list of them."""
    names = sorted(known)
    if not names:
        return "there are none"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are: {', '.join(names[:_MOST])}{', …' if len(names) > _MOST else ''}"
