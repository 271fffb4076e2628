"""Hands what was prepared to the encoder, as many calls at a time as it works on, and gives it back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np

from ingest.reuse import Reuse, Wanted
from search.encoders.contract import Attempt, Encoder, Item

Thing = TypeVar("Thing")


def in_order(
    handfuls: Iterable[Thing],
    items: Callable[[Thing], Sequence[Item]],
    encoder: Callable[[], Encoder],
    reuse: Reuse,
    timed: Callable[[], AbstractContextManager[None]],
) -> Iterator[tuple[Thing, Attempt]]:
    """Each handful with what came of encoding it, in their order.

    An encoder that works on several calls side by side has one more waiting, so that none of its devices does.

    Args:
        handfuls: what is encoded together.
        items: what the encoder takes of it.
        encoder: the same one each time.
        reuse: knows which of the vectors are at hand already.
        timed: counts the seconds that are spent on encoding.
    """
    waiting: deque[tuple[Thing, Wanted, Future[Attempt]]] = deque()
    threads: ThreadPoolExecutor | None = None

    def first() -> tuple[Thing, Attempt]:
        handful, wanted, future = waiting.popleft()
        with timed():
            outcome = future.result()
        return handful, reuse.taken(wanted, outcome)

    try:
        for handful in handfuls:
            model = encoder()
            wanted = reuse.wanted(items(handful))
            if model.at_once == 1:
                with timed():
                    outcome = _attempt(model, wanted)
                yield handful, reuse.taken(wanted, outcome)
                continue
            if threads is None:
                threads = ThreadPoolExecutor(model.at_once, "nearkin-encode")
            waiting.append((handful, wanted, threads.submit(_attempt, model, wanted)))
            if len(waiting) > model.at_once:
                yield first()
        while waiting:
            yield first()
    finally:
        if threads is not None:  # work that was begun ends with its processes, which are not waited for here
            threads.shutdown(wait=False, cancel_futures=True)


def _attempt(encoder: Encoder, wanted: Wanted) -> Attempt:
    if not wanted.to_encode:
        return Attempt(np.empty((0, encoder.spec.dim), np.float32), np.ones(0, np.bool_))
    return encoder.attempt(wanted.to_encode)
