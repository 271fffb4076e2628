"""Questions that several threads ask at once: those that come while others are being answered are answered together.

A model encodes thirty short texts in little more than the time of one, and rows read from memory for one query serve
all. Nobody waits for company: whoever asks while nothing is being answered is answered at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from search.errors import CollectionError, EncoderDrift, ModelUnavailable

Question = TypeVar("Question")
Answer = TypeVar("Answer")

MOST = 64  # questions answered together
# What no question of its own can be the cause of: to try the others one by one would only take longer.
_OF_ALL = (CollectionError, EncoderDrift, ModelUnavailable, MemoryError)


class Gathering(Generic[Question, Answer]):
    """Takes questions from any number of threads, and answers those that wait at the same time together.

    A caller alone is answered in its own thread. Once two have met, a thread of its own answers for all: the thread
    pools of numerical libraries are kept for each thread that calls them, and there should be one.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer | Exception]],
        cost: Callable[[Question], int],
        *,
        budget: int,
    ) -> None:
        """Nothing runs yet.

        Args:
            answer: gives an answer to each of some questions, in their order, or the error that it failed by.
            cost: of one question; any unit.
            budget: the cost of what is answered together at the most. A question that costs more is asked alone.
        """
        self._answer = answer
        self._cost = cost
        self._budget = budget
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Question, Future[Answer]]] = deque()
        self._busy = False
        self._thread: ThreadPoolExecutor | None = None  # made when two callers meet

    def ask(self, question: Question) -> Answer:
        """The answer; blocks until it is there.

        Raises:
            Exception: what this question failed by; others that it was gathered with do not fail with it.
        """
        with self._lock:
            alone = not self._busy and self._thread is None
            begin = not self._busy
            self._busy = True
            if not alone:
                answer: Future[Answer] = Future()
                self._waiting.append((question, answer))
                if self._thread is None:
                    self._thread = ThreadPoolExecutor(1, "nearkin-gathered")
                if begin:
                    self._thread.submit(self._work)
        if not alone:
            return answer.result()
        try:
            (given,) = self._answer([question])
        finally:
            self._hand_over()
        if isinstance(given, Exception):
            raise given
        return given

    def _hand_over(self) -> None:
        """What has come meanwhile is for the thread."""
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy and self._thread is not None:
                self._thread.submit(self._work)

    def _work(self) -> None:
        while taken := self._taken():
            for (_, answer), given in zip(
                taken, self._answered([question for question, _ in taken]), strict=True
            ):
                if isinstance(given, Exception):
                    answer.set_exception(given)
                else:
                    answer.set_result(given)
            del taken  # nobody's answer is held on to while the next are made

    def _taken(self) -> list[tuple[Question, Future[Answer]]]:
        """The questions that waited longest, as many as the budget allows; none, and no longer busy, if none wait."""
        with self._lock:
            taken: list[tuple[Question, Future[Answer]]] = []
            total = 0
            while self._waiting and len(taken) < MOST:
                total += self._cost(self._waiting[0][0])
                if taken and total > self._budget:
                    break
                taken.append(self._waiting.popleft())
            self._busy = bool(taken)
            return taken

    def _answered(self, questions: Sequence[Question]) -> Sequence[Answer | Exception]:
        """An answer or an error for each; if they fail together, each by itself."""
        try:
            return self._answer(questions)
        except _OF_ALL as error:
            return [error] * len(questions)
        except Exception as error:  # noqa: BLE001 - is raised where the question was asked
            if len(questions) == 1:
                return [error]
        given: list[Answer | Exception] = []
        for question in questions:
            given += self._answered([question])
        return given
