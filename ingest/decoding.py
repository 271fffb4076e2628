"""Decodes pictures ahead of the network, and makes them ready for it; a damaged one is rejected alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ingest.decoding_process import Made, Making, make
from ingest.decoding_processes import Processes
from ingest.pipeline import Ready
from ingest.sources.contract import Item, Rejected
from ingest.thumbnails import Thumbnails
from search.encoders.contract import PictureModel
from search.encoders.pictures import PictureFile, available_cores, named
from search.types import WHOLE

MOST_THREADS = 16
PREPARED_BYTES = 96 << 20  # of prepared pictures that are encoded, and committed, together
PICTURES_AT_ONCE = 256  # likewise; the network should not wait long for the first
DECODING_PIXELS = 128_000_000  # of whole pictures in memory at once while they are decoded: 384 MB
PROCESSES_AFTER = 2_000  # pictures: for fewer, processes cost more than they save
MOST_PROCESSES = 32
_SENT_TOGETHER = 2  # pictures to a process: with more, some would wait for the last ones of a handful
_LEAST_CORES = 4
_LARGEST_RATIO = 256 / 224  # a network's own preparation shrinks to more than the side that it takes


class Decoded:
    """Decodes each picture and makes it ready for the encoder, in as many threads as there are processors.

    Pillow decodes and scales without holding the interpreter, so threads keep up with a network on a processor. Where
    the network computes on a GPU, processes take over once many pictures have come. What is prepared is yielded in
    order, a few pictures ahead; how many whole pictures are in memory at once is bounded by their pixels.

    Args:
        encoder: gives the encoder, whose `preparation` is done here; None yields the pictures themselves, in RGB.
        thumbnails: makes one of each picture; None makes none.
        draft: decode JPEGs at a fraction of their size where the network needs no more.
        threads: how many; None is as many as there are processors, up to MOST_THREADS.
        processes: how many take over; None is as many as `processes_for` says of the device.
        device: where the encoder computes, as the user said it.
    """

    def __init__(
        self,
        encoder: Callable[[], object] | None = None,
        *,
        thumbnails: Thumbnails | None = None,
        draft: bool = False,
        threads: int | None = None,
        processes: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._encoder = encoder
        self._thumbnails = thumbnails
        self._draft = draft
        self._threads = threads or min(MOST_THREADS, available_cores())
        self._n_processes = processes
        self._device = device
        self._processes: Processes | None = None
        self._n_seen = 0
        self._room = _Room(DECODING_PIXELS)

    def __call__(self, items: Sequence[Item]) -> Iterator[Ready | Rejected]:
        making = self._making()
        self._n_seen += len(items)
        processes = self._started(making)
        at_once, workers = (_SENT_TOGETHER, processes.ready) if processes else (1, self._threads)
        # A prepared picture is small; a whole one may take much memory.
        ahead = 2 * workers if making.preparation is not None else workers
        waiting: deque[tuple[Sequence[Item], Future[list[Made]]]] = deque()
        with ThreadPoolExecutor(workers, "nearkin-decode") as threads:
            try:
                for begin in range(0, len(items), at_once):
                    some = items[begin : begin + at_once]
                    waiting.append((some, threads.submit(self._some, some, making, processes)))
                    if len(waiting) > ahead:
                        yield from _outcome(*waiting.popleft())
                while waiting:
                    yield from _outcome(*waiting.popleft())
            finally:
                for _, left in waiting:
                    left.cancel()

    def _making(self) -> Making:
        """How pictures are made ready, and the least side that they may be decoded to."""
        encoder = None if self._encoder is None else self._encoder()
        if not isinstance(encoder, PictureModel):
            return Making(thumbnails=self._thumbnails)
        if not self._draft:
            return Making(encoder.preparation, None, self._thumbnails)
        side = max(encoder.preparation(Image.new("RGB", (64, 64))).shape[1:])
        least = max(round(side * _LARGEST_RATIO), 0 if self._thumbnails is None else self._thumbnails.side)
        return Making(encoder.preparation, least, self._thumbnails)

    def _started(self, making: Making) -> Processes | None:
        """The processes, once most of them have begun; None as long as threads are to do it."""
        if self._processes is None:
            if making.preparation is None or self._n_seen < PROCESSES_AFTER:
                return None
            if self._n_processes is None:
                self._n_processes = processes_for(self._device)
            if not self._n_processes:
                return None
            self._processes = Processes(making, self._n_processes)
        return self._processes if 2 * self._processes.ready >= (self._n_processes or 0) else None

    def _some(self, items: Sequence[Item], making: Making, processes: Processes | None) -> list[Made]:
        pictures: list[Path | PictureFile] = [item.picture for item in items if item.picture is not None]
        assert len(pictures) == len(items)
        with self._room.taken(max(item.pixels for item in items)):
            if processes is not None:
                return processes.make(pictures)
            return [make(making, picture) for picture in pictures]


def processes_for(device: str) -> int:
    """How many processes should decode for a model on this device: none where it is slower than decoding threads."""
    if device != "auto" and not device.startswith("cuda"):
        return 0
    cores = available_cores()
    if cores < _LEAST_CORES:
        return 0
    import torch  # the encoder has imported it before

    return min(MOST_PROCESSES, cores - 1) if torch.cuda.is_available() else 0


def _outcome(items: Sequence[Item], future: Future[list[Made]]) -> Iterator[Ready | Rejected]:
    for item, made in zip(items, future.result(), strict=True):
        assert item.picture is not None
        if made.encodable is None:
            yield Rejected(item.file or named(item.picture), made.reason, item.line, item.record.id)
        else:
            weight = max(made.n_bytes / PREPARED_BYTES, 1 / PICTURES_AT_ONCE)
            yield Ready(item, (WHOLE,), (made.encodable,), weight=weight, thumbnail=made.thumbnail)


class _Room:
    """Lets threads work as long as what they work on fits; what is larger than all of it works alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """A block in which so much of the room is taken."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
