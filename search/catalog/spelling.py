"""Names that are near a misspelt one, for the messages that refuse it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 12  # names listed where none is near
_SHOWN = 60  # characters of a name


def shown(name: str) -> str:
    """A name as a message of one line has room for it."""
    line = " ".join(name.split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def hint(name: str, known: Iterable[str]) -> str:
    """What to try instead of `name`: the nearest of the known names, or else a list of them."""
    names = sorted(known)
    if not names:
        return "there are none"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(map(shown, near))}?"
    return f"there are: {', '.join(map(shown, names[:_MOST]))}{', …' if len(names) > _MOST else ''}"
