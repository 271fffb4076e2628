"""What goes between a run and the processes that compute for it: numbered messages over a pair of pipes.

They are pickled, which is safe here alone: both ends are this program, and nobody else holds the pipes.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from search.encoders.load import Device, ModelChoice
from search.types import EncoderSpec

_LENGTH = 8  # bytes before each message that say how long it is


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to load, and on how many threads of the processor it computes (None: as it likes)."""

    model: str
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


def send(pipe: BinaryIO, message: Order | Question | Answer) -> None:
    """Write one message, whole."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(data).to_bytes(_LENGTH, "little"))
    pipe.write(data)
    pipe.flush()


def receive(pipe: BinaryIO) -> Any:
    """The next message.

    Raises:
        EOFError: the other end has gone.
    """
    head = pipe.read(_LENGTH)
    data = pipe.read(int.from_bytes(head, "little")) if len(head) == _LENGTH else b""
    if not data or len(data) != int.from_bytes(head, "little"):
        raise EOFError
    return pickle.loads(data)  # noqa: S301 - the other end is this program
