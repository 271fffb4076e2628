"""What a run will take: seconds, memory and disk, from a timed sample of what it would encode."""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from collections.abc import Sequence

from ingest.pipeline import ENCODE_AT_ONCE, Job, Ready
from ingest.report import Forecast
from ingest.reuse import MOST_BYTES
from ingest.sources.contract import Item
from ingest.workers.memory import bytes_now, peak_bytes
from search.catalog.metadata_text import encoded
from search.encoders.contract import Encoder
from search.encoders.contract import Item as Encodable
from search.errors import QueryError
from search.index.choose import Wanted, choose
from search.index.structure import Kind
from search.types import Space
from search.writer import check_same

_SAMPLE = 256  # passages; drawn from all, so that short and long ones stand in it as in the whole
_FIRST, _TRIED = 8, 32  # of them: encoded untimed, and timed to see how many more there is time for
_ENOUGH_S = 5.0  # of timing; a slow model sees only a part of the sample
_REMEMBERED = 500_000  # texts whose repetition is noticed

# Measured on catalogs of 2,000 to 100,000 rows: what SQLite keeps beside the words and numbers themselves.
_RECORD_BYTES = 90  # its row, its places in the indexes on ids and commits, its line in `synced`
_PART_BYTES = 60
_VECTOR_BYTES = 17  # two keys beside its numbers, and the rest of the pages of a batch
_EMPTY_BYTES = 213_000  # of a collection that holds nothing yet
_COMMIT_S = 60e-6  # a passage, and its record
_LINK_BYTES = 160
# On a processor oneDNN keeps code and room for each shape of batch that it meets, up to 1,024 pieces; new shapes grow
# rare. Of MiniLM 137 MB after 30 batches, 331 after 88, 547 after 231: the batches to the power of 0.68.
_GROWTH, _MOST_GROWTH = 0.68, 15.0
_HANDFULS = 5  # in the hands of the stages at a time
_PASSAGE_BYTES = 1_200  # in memory: its text twice, its part, its hash


class Outlook:
    """Is shown every input that a run would encode; then says what the run would take.

    Inputs are cut as the run would cut them, so passages and tokens are exact. A model that runs elsewhere, and
    counts what it is sent, is not sent the sample: `seconds` is None then.
    """

    def __init__(self, job: Job, space: Space | None = None) -> None:
        self._job = job
        self._space = space
        self._draw = random.Random(0)  # noqa: S311 - a sample, no secret
        self._sample: list[tuple[Encodable, float]] = []
        self._texts: set[bytes] = set()
        self._passages = self._distinct = 0
        self._tokens = self._all_tokens = 0.0
        self._bytes = 0
        self._cutting_s = self._loading_s = 0.0
        self._growth = 0

    def see(self, items: Sequence[Item]) -> None:
        """Take in the next inputs.

        Raises:
            ModelUnavailable: the model cannot be had.
            CollectionError: the run would be refused, as the space was made by another model.
        """
        self._load()
        loaded = time.perf_counter()
        for ready in self._job.prepare(items):
            if isinstance(ready, Ready):
                self._count(ready)
        self._cutting_s += time.perf_counter() - loaded

    def _load(self) -> None:
        begin = time.perf_counter()
        encoder = self._job.encoder()
        if self._space is not None:
            check_same(self._space, encoder.spec)
        self._loading_s += time.perf_counter() - begin

    def told(self, reading_s: float, rows_there: int) -> Forecast:
        """The forecast.

        Args:
            reading_s: seconds that reading and comparing all inputs took.
            rows_there: vectors that the space has already.
        """
        encoder = self._job.encoder()
        dim = encoder.spec.dim
        rows = rows_there + self._passages
        kind = choose(rows, dim, Wanted()).kind
        links = 0 if kind is Kind.FLAT else rows * (_LINK_BYTES if kind is Kind.HNSW else dim + 8)
        disk = self._bytes + self._passages * (dim * 4 + _VECTOR_BYTES) + links
        seconds = None
        if self._distinct and encoder.tokens_used is None:
            seconds = self._loading_s + self._working_s(encoder, reading_s)
        return Forecast(
            seconds=seconds,
            memory_bytes=self._memory(encoder, links, rows),
            disk_bytes=disk + (_EMPTY_BYTES if not rows_there else 0),
            passages=self._passages,
            tokens=round(self._tokens),
        )

    def _count(self, ready: Ready) -> None:
        record, origin = ready.item.record, ready.item.origin
        try:
            metadata = encoded(record) or ""
        except QueryError:
            return  # the run would reject it
        words = sum(
            len((word or "").encode("utf-8", "replace")) for word in (record.kind, record.uri, record.text)
        )
        named = 2 * len(record.id.encode("utf-8", "replace")) + len(origin.encode("utf-8", "replace"))
        self._bytes += words + named + len(metadata.encode()) + _RECORD_BYTES + _PART_BYTES * len(ready.parts)
        each = ready.tokens / len(ready.encodable) if ready.tokens else 1.0
        for one in ready.encodable:
            self._passages += 1
            if isinstance(one, str) and len(self._texts) < _REMEMBERED:
                key = hashlib.blake2b(one.encode("utf-8", "replace"), digest_size=8).digest()
                if key in self._texts:
                    continue
                self._texts.add(key)
            self._distinct += 1
            self._tokens += each
            if len(self._sample) < _SAMPLE:
                self._sample.append((one, each))
            elif (place := self._draw.randrange(self._distinct)) < _SAMPLE:
                self._sample[place] = (one, each)

    def _working_s(self, encoder: Encoder, reading_s: float) -> float:
        """Seconds of the stages, which work side by side as far as there are processors for it."""
        self._draw.shuffle(self._sample)
        before = bytes_now()
        encoder.encode([one for one, _ in self._sample[:_FIRST]])  # makes ready what later calls use
        spent, tokens = self._timed(encoder, self._sample[:_TRIED])
        # Many together, as in the run: the fewer, the worse they go together in batches.
        rest = self._sample[_TRIED:]
        room = int((_ENOUGH_S - spent) / max(spent, 1e-6) * _TRIED)
        if room >= _TRIED and len(rest) >= _TRIED:
            spent, tokens = self._timed(encoder, rest[:room])
            tokens_seen = sum(each for _, each in self._sample[: _TRIED + room])
        else:
            tokens_seen = tokens
        after = bytes_now()
        if before is not None and after is not None and tokens_seen:
            more = max(min(self._tokens / tokens_seen, _MOST_GROWTH), 1.0)
            self._growth = int(max(after - before, 0) * (more**_GROWTH - 1))
        encoding_s = self._tokens * spent / tokens / encoder.at_once
        beside_s = reading_s + self._cutting_s + self._passages * _COMMIT_S
        threads, processors = _threads(), _processors()
        return max(encoding_s, beside_s, (encoding_s * threads + beside_s) / max(processors, threads))

    @staticmethod
    def _timed(encoder: Encoder, sample: Sequence[tuple[Encodable, float]]) -> tuple[float, float]:
        """The seconds of encoding some of the sample, and how many tokens it has."""
        started = time.perf_counter()
        encoder.encode([one for one, _ in sample])
        return time.perf_counter() - started, sum(each for _, each in sample)

    def _memory(self, encoder: Encoder, links: int, rows: int) -> int | None:
        """The most bytes of memory: those of this process, which has loaded the model and used it, and the run's."""
        peak = peak_bytes()
        if peak is None:
            return None
        now = bytes_now() or peak
        dim = encoder.spec.dim
        in_hand = _HANDFULS if encoder.at_once == 1 else _HANDFULS + encoder.at_once
        handfuls = in_hand * min(self._passages, ENCODE_AT_ONCE) * (dim * 4 + _PASSAGE_BYTES)
        memo = min(self._distinct * (dim * 4 + 300), MOST_BYTES)
        run = self._growth + handfuls + memo + (rows * dim * 4 + links if links else 0)
        return max(peak, now + run) + encoder.memory_elsewhere()


def _threads() -> int:
    """How many threads a model computes with on the processor; 1 where it computes elsewhere."""
    torch = sys.modules.get("torch")
    return 1 if torch is None or torch.cuda.is_available() else int(torch.get_num_threads())


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
