"""Decodes pictures ahead of the network, and makes them ready for it, in threads; a damaged one is rejected alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from PIL import Image

from ingest.pipeline import Ready
from ingest.sources.contract import Item, Rejected
from ingest.thumbnails import Thumbnails
from search.encoders.contract import PictureModel, Pixels
from search.encoders.pictures import available_cores, named, open_picture
from search.errors import MissingExtra, SourceError
from search.types import WHOLE

MOST_THREADS = 16
PREPARED_BYTES = 96 << 20  # of prepared pictures that are encoded, and committed, together
PICTURES_AT_ONCE = 256  # likewise; the network should not wait long for the first
DECODING_PIXELS = 128_000_000  # of whole pictures in memory at once while they are decoded: 384 MB
_LARGEST_RATIO = 256 / 224  # a network's own preparation shrinks to more than the side that it takes

Preparation = Callable[[Image.Image], Pixels]


class Decoded:
    """Decodes each picture and makes it ready for the encoder, in as many threads as there are processors.

    Pillow decodes and scales without holding the interpreter. What is prepared is yielded in order, a few pictures
    ahead; how many whole pictures are in memory at once is bounded by their pixels.

    Args:
        encoder: gives the encoder, whose `preparation` is done here; None yields the pictures themselves, in RGB.
        thumbnails: makes one of each picture; None makes none.
        draft: decode JPEGs at a fraction of their size where the network needs no more.
        threads: how many; None is as many as there are processors, up to MOST_THREADS.
    """

    def __init__(
        self,
        encoder: Callable[[], object] | None = None,
        *,
        thumbnails: Thumbnails | None = None,
        draft: bool = False,
        threads: int | None = None,
    ) -> None:
        self._encoder = encoder
        self._thumbnails = thumbnails
        self._draft = draft
        self._threads = threads or min(MOST_THREADS, available_cores())
        self._room = _Room(DECODING_PIXELS)

    def __call__(self, items: Sequence[Item]) -> Iterator[Ready | Rejected]:
        preparation, at_least = self._wanted()
        waiting: deque[Future[Ready | Rejected]] = deque()
        # A prepared picture is small; a whole one may take much memory.
        ahead = 2 * self._threads if preparation is not None else self._threads
        with ThreadPoolExecutor(self._threads, "nearkin-decode") as threads:
            try:
                for item in items:
                    waiting.append(threads.submit(self._one, item, preparation, at_least))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for left in waiting:
                    left.cancel()

    def _wanted(self) -> tuple[Preparation | None, int | None]:
        """How pictures are made ready, and the least side that they may be decoded to."""
        encoder = None if self._encoder is None else self._encoder()
        if not isinstance(encoder, PictureModel):
            return None, None
        if not self._draft:
            return encoder.preparation, None
        side = max(encoder.preparation(Image.new("RGB", (64, 64))).shape[1:])
        at_least = round(side * _LARGEST_RATIO)
        return encoder.preparation, at_least if self._thumbnails is None else max(
            at_least, self._thumbnails.side
        )

    def _one(self, item: Item, preparation: Preparation | None, at_least: int | None) -> Ready | Rejected:
        assert item.picture is not None
        try:
            with self._room.taken(item.pixels):
                picture = open_picture(item.picture, at_least=at_least)
                thumbnail = None if self._thumbnails is None else self._thumbnails.of(picture)
                encodable = picture if preparation is None else preparation(picture)
        except (SourceError, MissingExtra) as error:
            file = named(item.picture)
            reason = str(error).removeprefix(f"{file}: ")
            return Rejected(item.file or file, reason, item.line, item.record.id)
        n_bytes = (
            encodable.nbytes if isinstance(encodable, np.ndarray) else 3 * picture.width * picture.height
        )
        weight = max(n_bytes / PREPARED_BYTES, 1 / PICTURES_AT_ONCE)
        return Ready(item, (WHOLE,), (encodable,), weight=weight, thumbnail=thumbnail)


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
