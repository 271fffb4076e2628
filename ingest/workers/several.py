"""One model on several devices: an encoder that hands each call to the next process that is free."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.workers.devices import devices
from ingest.workers.pipes import receive, send, start
from ingest.workers.process import LOADED
from ingest.workers.wire import Loaded, Order, Question
from search.encoders.contract import Attempt, Encoder, Item, PictureModel, Role, TextModel, Vectors
from search.encoders.load import Device, ModelChoice
from search.encoders.load import load as load_here
from search.errors import ModelError
from search.types import EncoderSpec

_ENDING_S = 10.0  # a process whose pipe is closed ends at once; one that hangs in a driver is killed then

Model = TypeVar("Model", bound=Encoder)


def load(model: str | EncoderSpec, choice: ModelChoice, device: Device) -> Encoder:
    """The encoder of this name, or with this spec, in this process, or in one process for each of several devices.

    Raises:
        ModelUnavailable: the model, its weights or a device cannot be had.
        ModelError: the choice or the devices mean nothing for this model.
        MissingExtra: the library that the model comes from is not installed.
    """
    names = devices(device.name, model if isinstance(model, str) else model.model)
    if len(names) == 1:
        return load_here(model, choice, device=device)
    workers = [
        Worker(Order(model, choice, Device(name, device.precision), _threads(names)), name) for name in names
    ]
    try:
        told, *_ = (worker.loaded() for worker in workers)
        if told.max_tokens is not None:
            return SeveralTexts(workers, told)
        return Several(workers, told) if told.preparation is None else SeveralPictures(workers, told)
    except BaseException:
        _close(workers)
        raise


def _threads(names: Sequence[str]) -> int | None:
    """How many threads each process has, so that several on one processor do not get in each other's way."""
    if names[0] != "cpu":
        return None
    import torch

    return max(torch.get_num_threads() // len(names), 1)


@contextmanager
def lent(load: Callable[[], Model]) -> Iterator[Callable[[], Model]]:
    """What gives an encoder, loaded when first asked for; the processes it has are ended with the block."""
    made: list[Model] = []

    @cache
    def once() -> Model:
        made.append(load())
        return made[0]

    try:
        yield once
    finally:
        for one in made:
            end(one)


def end(encoder: Encoder) -> None:
    """End the processes of an encoder, where it has any."""
    if isinstance(encoder, Several):
        encoder.close()


class Worker:
    """A process with a model on one device; it does one thing after the other, and cuts texts beside that."""

    def __init__(self, order: Order, device: str) -> None:
        self._device = device
        self._pending: dict[int, Future[Any]] = {LOADED: Future()}
        self._loaded = self._pending[LOADED]
        self._numbers = LOADED
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._over: ModelError | None = None
        self._process = start("ingest.workers.process")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions: BinaryIO = self._process.stdin  # type: ignore[assignment]
        answers: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._thread = threading.Thread(
            target=self._listen, args=(answers,), daemon=True, name=f"nearkin-{device}"
        )
        self._thread.start()
        self._send(order)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def loaded(self) -> Loaded:
        """Wait for the model; what it is, or the error that loading ended with."""
        told: Loaded = self._loaded.result()
        return told

    def ask(self, what: str, *given: Any) -> Any:
        """Have something done and wait for it.

        Raises:
            ModelError: the process has ended.
            Exception: whatever the work raised there.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._over is not None:
                raise ModelError(str(self._over))
            self._numbers += 1
            number = self._numbers
            self._pending[number] = future
        self._send(Question(number, what, given))
        return future.result()

    def close(self) -> None:
        """End the process, also in the midst of its work."""
        self._fail(ModelError(f"the process for {self._device} was ended; run again to go on"))
        with contextlib.suppress(OSError):  # what was not sent yet is of no use any more
            self._questions.close()

    def wait(self) -> None:
        """Wait for the end of a process that was closed; one that hangs is killed."""
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    def _send(self, message: Order | Question) -> None:
        try:
            with self._writing:
                send(self._questions, message)
        except (OSError, ValueError):
            pass  # it has ended, which `_listen` notices, and says to all that wait

    def _listen(self, answers: BinaryIO) -> None:
        with answers:
            while True:
                try:
                    answer = receive(answers)
                except (EOFError, OSError):
                    break
                with self._lock:
                    future = self._pending.pop(answer.number, None)
                if future is None:
                    continue
                if answer.failure is None:
                    future.set_result(answer.value)
                else:
                    future.set_exception(answer.failure.error())
        self._fail(ModelError(self._ended()))

    def _fail(self, error: ModelError) -> None:
        with self._lock:
            self._over = self._over or error
            waiting, self._pending = list(self._pending.values()), {}
        for future in waiting:
            future.set_exception(ModelError(str(self._over)))

    def _ended(self) -> str:
        try:
            code = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"was killed by signal {-code}, perhaps for want of memory" if code < 0 else f"ended ({code})"
        return (
            f"the process for {self._device} {how}; what was committed is kept, run again to go on, "
            "with fewer devices if memory is short"
        )


class Several(Encoder):
    """A model in a process for each device. Each call is done by one of them; `at_once` calls are done side by side.

    So what one call gives is what one device gives, whatever their number.
    """

    def __init__(self, workers: Sequence[Worker], told: Loaded) -> None:
        self.spec = told.spec
        self.at_once = len(workers)
        self._workers = tuple(workers)
        self._probe_texts = told.probe_texts
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in workers:
            self._idle.put(worker)

    @property
    def pids(self) -> tuple[int, ...]:
        """The numbers of the processes."""
        return tuple(worker.pid for worker in self._workers)

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Vectors of `items`, in their order, by the next process that is free: (n, dim) float32 unit rows.

        Raises:
            ModelError: its process has ended.
            NearkinError: as the model itself.
        """
        vectors: Vectors = self._by_one("encode", list(items), role)
        return vectors

    def attempt(self, items: Sequence[Item]) -> Attempt:
        """As the model's own."""
        outcome: Attempt = self._by_one("attempt", list(items))
        return outcome

    def probe_texts(self) -> tuple[str, ...]:
        """As the model's own."""
        return self._probe_texts

    def memory_elsewhere(self) -> int:
        """The most bytes that its processes have had together."""
        return sum(worker.ask("peak_bytes") or 0 for worker in self._workers)

    def close(self) -> None:
        """End all processes, also in the midst of their work."""
        _close(self._workers)

    def _by_one(self, what: str, *given: Any) -> Any:
        worker = self._idle.get()
        try:
            return worker.ask(what, *given)
        finally:
            self._idle.put(worker)


class SeveralTexts(Several, TextModel):
    """A model for texts, or for words in them, in several processes; the first one cuts the texts for all."""

    def __init__(self, workers: Sequence[Worker], told: Loaded) -> None:
        super().__init__(workers, told)
        assert told.max_tokens is not None
        self.max_tokens = told.max_tokens

    def token_offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where each token of each text stands: (n_tokens, 2) start and end, in characters."""
        offsets: list[NDArray[np.int32]] = self._workers[0].ask("token_offsets", list(texts))
        return offsets


class SeveralPictures(Several, PictureModel):
    """A model for pictures in several processes; they are prepared in this one, for all."""

    def __init__(self, workers: Sequence[Worker], told: Loaded) -> None:
        super().__init__(workers, told)
        self.preparation = told.preparation


def _close(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.close()
    for worker in workers:
        worker.wait()
