"""How a space is asked where a question does not say: the language of its words, and weights that were learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from search.catalog import reads, writes
from search.catalog.database import Transaction
from search.catalog.reads import State
from search.query.languages import DEFAULT
from search.types import Json, Space

_NAME = "asking"  # beside what is wanted of the index


@dataclass(frozen=True, slots=True)
class Preferences:
    """What is kept with a space.

    `meaning` is how much the ranking by vectors counts in hybrid search, from 0 to 1; that by words counts for the
    rest. `weight` is how much the space counts where several answer in words. None is what nobody has learned.
    """

    language: str = DEFAULT
    meaning: float | None = None
    weight: float | None = None

    def to_json(self) -> dict[str, Json]:
        """A JSON object."""
        return {"language": self.language, "meaning": self.meaning, "weight": self.weight}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Preferences:
        """What `to_json` wrote; the default where nothing was kept."""
        return cls() if data is None else cls(data["language"], data["meaning"], data["weight"])


def read(transaction: Transaction, space: Space) -> Preferences:
    """Those of a space."""
    return Preferences.from_json((reads.wanted(transaction, space) or {}).get(_NAME))


def keep(transaction: Transaction, space: Space, preferred: Preferences) -> None:
    """Keep them with the space, beside what is wanted of its index."""
    wanted = reads.wanted(transaction, space) or {}
    writes.record_wanted(transaction, space, {**wanted, _NAME: preferred.to_json()})


def unlearned(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is wanted of a space, without what was learned with its model."""
    if _NAME not in wanted:
        return dict(wanted)
    language = Preferences.from_json(wanted[_NAME]).language
    return {**wanted, _NAME: replace(Preferences(), language=language).to_json()}


class Preferred:
    """The preferences of all spaces, read anew only when a space has changed. Several threads may ask at once."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[str, int], dict[int, Preferences]] = (("", -1), {})

    def of(self, transaction: Transaction, state: State, space: Space) -> Preferences:
        """Those of one."""
        seq, kept = self._kept
        if seq != (state.uuid, state.spaces_seq):
            kept = {}
            self._kept = ((state.uuid, state.spaces_seq), kept)
        if space.key not in kept:
            kept[space.key] = read(transaction, space)
        return kept[space.key]
