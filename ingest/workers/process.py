"""The process of one device: loads a model, then encodes what it is sent, until the pipe to it closes.

`python -m ingest.workers.process` is started by `ingest.workers.several`, which talks to it on standard input and
output.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from ingest.workers.memory import peak_bytes
from ingest.workers.pipes import receive, send
from ingest.workers.wire import Answer, Failure, Loaded, Order, Question
from search.encoders.contract import Encoder, PictureModel, TextModel
from search.encoders.load import load

LOADED = 0  # the number of the answer that says so; questions begin at 1


class Server:
    """Answers questions of two kinds side by side: the encoding, and the cutting of texts for what comes next."""

    def __init__(self, answers: BinaryIO, order: Order) -> None:
        self._answers = answers
        self._order = order
        self._writing = threading.Lock()
        self._encoding: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self._cutting: queue.SimpleQueue[Question] = queue.SimpleQueue()

    def serve(self, questions: BinaryIO) -> None:
        """Until the other end closes the pipe, or dies."""
        threading.Thread(target=self._load_and_work, daemon=True, name="nearkin-encode").start()
        while True:
            try:
                question = receive(questions)
            except (EOFError, OSError):
                return
            (self._cutting if question.what == "token_offsets" else self._encoding).put(question)

    def _load_and_work(self) -> None:
        try:
            encoder = self._loaded()
        except BaseException as error:  # noqa: BLE001 - told to the other end, and raised there
            self._answer(Answer(LOADED, failure=Failure.of(error)))
            return
        reader = reader_of(encoder)
        self._answer(
            Answer(
                LOADED,
                Loaded(
                    encoder.spec,
                    encoder.probe_texts(),
                    None if reader is None else reader.max_tokens,
                    encoder.preparation if isinstance(encoder, PictureModel) else None,
                ),
            )
        )
        if reader is not None:
            cutting = lambda: self._work(self._cutting, reader)  # noqa: E731
            threading.Thread(target=cutting, daemon=True, name="nearkin-cut").start()
        self._work(self._encoding, encoder)

    def _loaded(self) -> Encoder:
        if self._order.threads is not None:
            import torch

            torch.set_num_threads(self._order.threads)
        return load(self._order.model, self._order.choice, device=self._order.device)

    def _work(self, questions: queue.SimpleQueue[Question], encoder: Encoder) -> None:
        while True:
            question = questions.get()
            try:
                value = _done(encoder, question)
            except BaseException as error:  # noqa: BLE001 - told to the other end, and raised there
                self._answer(Answer(question.number, failure=Failure.of(error)))
            else:
                self._answer(Answer(question.number, value))

    def _answer(self, answer: Answer) -> None:
        with self._writing:
            try:
                send(self._answers, answer)
            except OSError:
                os._exit(1)  # nobody is there to be answered


def reader_of(encoder: Encoder) -> TextModel | None:
    """What cuts texts for an encoder: itself, or the text model within one of words in their context."""
    if isinstance(encoder, TextModel):
        return encoder
    from search.encoders.contextual_words import ContextualWordEncoder

    return encoder.text if isinstance(encoder, ContextualWordEncoder) else None


def _done(encoder: Encoder, question: Question) -> Any:
    asked: dict[str, Callable[..., Any]] = {
        "encode": lambda items, role: encoder.encode(items, role=role),
        "attempt": encoder.attempt,
        "peak_bytes": peak_bytes,
    }
    if isinstance(encoder, TextModel):
        asked["token_offsets"] = encoder.token_offsets
    return asked[question.what](*question.given)


def main() -> None:
    """Serve on standard input and output, and end at once with the other end."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    questions = sys.stdin.buffer
    Server(answers, receive(questions)).serve(questions)
    os._exit(0)  # also in the midst of work that nobody waits for any more


if __name__ == "__main__":
    main()
