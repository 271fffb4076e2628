"""What taking in pictures will need: seconds, memory and disk, from a sample that is decoded and encoded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ingest.decoding import PREPARED_BYTES
from ingest.forecast import Outlook
from ingest.pipeline import Job, Ready
from ingest.report import Forecast
from ingest.sources.contract import Item
from search.types import WHOLE, Space

_SAMPLE = 64  # pictures
_IN_HAND = 5  # handfuls of prepared pictures that the stages hold at a time


class PictureOutlook(Outlook):
    """As `Outlook`, but only a sample of the pictures is decoded; how many there are is exact."""

    def __init__(self, job: Job, space: Space | None = None) -> None:
        super().__init__(job, space)
        self._items: list[Item] = []

    def see(self, items: Sequence[Item]) -> None:
        """Take in the next inputs.

        Raises:
            ModelUnavailable: the model cannot be had.
            CollectionError: the run would be refused, as the space was made by another model.
        """
        self._load()
        for item in items:
            self._count(Ready(item, (WHOLE,), ()))
            self._passages += 1
            if len(self._items) < _SAMPLE:
                self._items.append(item)
            elif (place := self._draw.randrange(self._passages)) < _SAMPLE:
                self._items[place] = item

    def told(self, reading_s: float, rows_there: int) -> Forecast:
        """The forecast; of pictures that cannot be decoded there are as many as in the sample.

        Args:
            reading_s: seconds that reading and comparing all inputs took.
            rows_there: vectors that the space has already.
        """
        n_found = self._passages
        begin = time.perf_counter()
        ready = [one for one in self._job.prepare(self._items) if isinstance(one, Ready)]
        each_s = (time.perf_counter() - begin) / max(1, len(self._items))
        self._passages = round(n_found * len(ready) / max(1, len(self._items)))
        self._cutting_s = each_s * n_found
        self._sample = [(picture, 1.0) for one in ready for picture in one.encodable]
        self._distinct, self._tokens = self._passages, float(self._passages)
        small = sum(len(one.thumbnail.data) for one in ready if one.thumbnail is not None)
        told = super().told(reading_s, rows_there)
        share = 1 / max(1, len(ready))
        handfuls = min(_IN_HAND, sum(one.weight for one in ready) * share * self._passages)
        return replace(
            told,
            tokens=0,
            disk_bytes=told.disk_bytes + round(small * share * self._passages),
            memory_bytes=None
            if told.memory_bytes is None
            else told.memory_bytes + round(handfuls * PREPARED_BYTES),
        )
