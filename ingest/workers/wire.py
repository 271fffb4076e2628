"""What goes between a run and the processes that compute for it: an order, then numbered questions and answers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

from search.encoders.load import Device, ModelChoice
from search.types import EncoderSpec


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to load, and on how many threads of the processor it computes (None: as it likes).

    `model` is a name, of which `choice` says more, or the spec that a space was made with.
    """

    model: str | EncoderSpec
    choice: ModelChoice
    device: Device
    threads: int | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a process says of the model that it has loaded.

    `max_tokens` is None where it takes no texts, `preparation` None where it takes no pictures.
    """

    spec: EncoderSpec
    probe_texts: tuple[str, ...]
    max_tokens: int | None
    preparation: Any


@dataclass(frozen=True, slots=True)
class Question:
    """Something to do, and what with; the answer comes under the same number."""

    number: int
    what: str
    given: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question, or the error that it ended with."""

    number: int
    value: Any = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, taken apart: errors whose constructor wants more than a message do not survive pickling."""

    kind: type[BaseException]
    arguments: tuple[Any, ...]
    state: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The error taken apart; one that cannot be sent becomes a RuntimeError that says the same."""
        failure = cls(type(error), error.args, dict(error.__dict__))
        try:
            pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own bytes
        except Exception:  # noqa: BLE001 - whatever the parts of a foreign error raise
            return cls(RuntimeError, (f"{type(error).__name__}: {error}",))
        return failure

    def error(self) -> BaseException:
        """The same error again."""
        try:
            made = self.kind(*self.arguments)
        except TypeError:  # its constructor wants other things than it keeps
            made = self.kind.__new__(self.kind, *self.arguments)
        made.args = self.arguments
        made.__dict__.update(self.state)
        return made
