"""Read, prepare, encode, commit: each stage in a thread of its own, working ahead of the next one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from ingest.encoding import in_order
from ingest.report import Forecast, GraphCounts, InteractionCounts, Limit, Progress, Report, write_rejects
from ingest.reuse import Reuse
from ingest.sources.contract import Item, Rejected, Source
from ingest.sync import Sync, chunks
from search.catalog import reads
from search.catalog.metadata_text import encoded
from search.catalog.part_writes import Provenance
from search.catalog.thumbnails import Thumbnail
from search.catalog.writes import Written
from search.collection import Collection
from search.encoders import probes
from search.encoders.contract import Attempt, Encoder
from search.encoders.contract import Item as Encodable
from search.errors import MissingExtra, ModelError, QueryError
from search.types import Part, Space
from search.vectors import Vectors
from search.writer import Writer

_READ_AT_ONCE = 256  # inputs compared with the catalog in one question
ENCODE_AT_ONCE = 4096  # parts encoded, and committed, together; enough to sort by length within
_TOKENS_AT_ONCE = 131_072  # of such a handful, where tokens are counted
_TOLD = 5  # rejects that the report itself names
_AHEAD = 2  # how many such handfuls a stage may be ahead of the next

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Ready:
    """An input prepared for the encoder: its parts, and for each what is to be encoded.

    `tokens` is how many tokens a text model will see of it. `weight` is the share of the memory for one handful
    that it takes, beside the count of its parts and tokens. `thumbnail` is kept with its record.
    """

    item: Item
    parts: tuple[Part, ...]
    encodable: tuple[Encodable, ...]
    tokens: int = 0
    weight: float = 0.0
    thumbnail: Thumbnail | None = None


# Turns inputs into what the encoder takes; what cannot be prepared is rejected with a reason.
Prepare: TypeAlias = Callable[[Sequence[Item]], Iterable[Ready | Rejected]]


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is to do with its source.

    `encoder` gives the encoder, the same one each time, and is called only when there is something to encode:
    a run that finds nothing changed loads no model. `model` is its name. `settings` names all that a vector
    depends on beside the input and the model, such as the passage length; what `prepare` makes of a text depends on
    the text and these alone. `learned` holds the bytes of a model
    that was learned from the user's data, to be kept with the space.
    """

    space: str
    model: str
    encoder: Callable[[], Encoder]
    prepare: Prepare
    settings: str
    learned: bytes | None = None
    prune: bool = False


class Seer(Protocol):
    """Is shown what a run would encode, and says what that will take; `ingest.forecast` has one."""

    def see(self, items: Sequence[Item]) -> None:
        """Take in the next inputs."""

    def told(self, reading_s: float, rows_there: int) -> Forecast:
        """The forecast."""


class Ahead(Generic[Thing]):
    """Runs an iterator in a thread, a few steps ahead of whoever iterates here; stops it when closed."""

    def __init__(self, things: Iterator[Thing], depth: int = _AHEAD) -> None:
        self._things = things
        self._queue: queue.Queue[tuple[Thing | None, BaseException | None, bool]] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="nearkin-ahead")
        self._thread.start()

    def _run(self) -> None:
        try:
            for thing in self._things:
                if not self._offer((thing, None, False)):
                    return
            self._offer((None, None, True))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that iterates, and raised there
            self._offer((None, error, True))

    def _offer(self, entry: tuple[Thing | None, BaseException | None, bool]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[Thing]:
        while True:
            thing, error, last = self._queue.get()
            if error is not None:
                raise error
            if last:
                return
            assert thing is not None
            yield thing

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closed.set()
        self._thread.join()


@dataclass(slots=True)
class Tally:
    """Counts of a run while it goes on."""

    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    vectors: int = 0
    reused: int = 0
    tokens: int | None = None
    rejected: list[Rejected] = field(default_factory=list)
    unpruned: tuple[str, ...] = ()
    decoded: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    graph: GraphCounts | None = None
    interactions: InteractionCounts | None = None
    working_s: float = 0.0  # while the stages worked side by side

    def take(self, inputs: Sequence[Item | Rejected]) -> None:
        """Count inputs that were read, and how they were decoded."""
        self.read += len(inputs)
        for one in inputs:
            if isinstance(one, Item) and one.encoding is not None:
                self.decoded[one.encoding] = self.decoded.get(one.encoding, 0) + 1

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the seconds of the block as the stage's."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0.0) + time.perf_counter() - begin

    @property
    def limit(self) -> Limit | None:
        """The busiest of the stages that work side by side; None where nothing had to be encoded."""
        if not self.working_s or not self.vectors:
            return None
        busy = {name: self.stages.get(name, 0.0) for name in ("read", "prepare", "encode", "commit")}
        busy["prepare"] += self.stages.get("compare", 0.0)  # in the same thread
        stage = max(busy, key=lambda name: busy[name])
        return Limit(stage, round(min(1.0, busy[stage] / self.working_s), 3))

    def report(
        self, collection: Collection | None, space: str, model: str, started: float, *, dry_run: bool
    ) -> Report:
        """The counts as a report; the rejects are written beside the collection unless nothing is to be."""
        file = None
        if self.rejected and collection is not None and not dry_run:
            file = str(write_rejects(collection.layout.rejects, space, self.rejected))
        return Report(
            collection="" if collection is None else str(collection.path),
            space=space,
            model=model,
            read=self.read,
            added=self.added,
            updated=self.updated,
            unchanged=self.unchanged,
            removed=self.removed,
            rejected=len(self.rejected),
            vectors=self.vectors,
            reused=self.reused,
            tokens=self.tokens,
            dry_run=dry_run,
            rejects_file=file,
            rejects=tuple(one.said() for one in self.rejected[:_TOLD]),
            unpruned=self.unpruned,
            decoded=dict(sorted(self.decoded.items())),
            seconds=time.perf_counter() - started,
            limit=self.limit,
            stages={name: round(seconds, 4) for name, seconds in self.stages.items()},
            graph=self.graph,
            interactions=self.interactions,
        )


def forecast(
    collection: Collection | None,
    source: Source,
    wanted: tuple[str, str, str],
    *,
    prune: bool,
    seer: Seer | None = None,
) -> Report:
    """What a run would do, without storing anything.

    Args:
        collection: None where there is none yet.
        source: what would be read.
        wanted: the space, the model and the settings, as in `Job`.
        prune: whether the run would prune.
        seer: says what it would take; None leaves that out.
    """
    started = time.perf_counter()
    tally = Tally()
    name, model, settings = wanted
    space = None if collection is None else collection.spaces().get(name)
    sync = Sync(None if collection is None else collection.database, space, settings)
    reason = None
    for inputs in _read(source, tally):
        with tally.timed("compare"):
            sorted_ = sync.sort(inputs)
        tally.take(inputs)
        tally.added += len(sorted_.new)
        tally.updated += len(sorted_.changed)
        tally.unchanged += sorted_.unchanged
        tally.rejected += sorted_.rejected
        todo = sorted_.new + sorted_.changed
        if seer is not None and reason is None and todo:
            try:
                seer.see(todo)
            except (ModelError, MissingExtra) as error:  # the counts can be had all the same
                reason = str(error)
    if prune:
        tally.removed = len(sync.gone(source.origins))
        tally.unpruned = tuple(sync.doubtful(source.origins))
    report = tally.report(collection, name, model, started, dry_run=True)
    if seer is None or reason is not None or not report.written:
        return replace(report, no_forecast=reason)
    rows_there = 0
    if collection is not None and space is not None:
        with collection.database.reading() as transaction:
            rows_there = reads.rows_in(transaction, space)
    try:
        told = seer.told(tally.stages["read"] + tally.stages["compare"], rows_there)
    except (ModelError, MissingExtra) as error:
        return replace(report, no_forecast=str(error))
    return replace(report, forecast=told, vectors=told.passages)


def fill(collection: Collection, source: Source, job: Job, progress: Progress) -> Report:
    """Bring a space up to date with a source: encode what is new or changed, commit as it goes.

    Every handful is one durable commit, so a run that is killed goes on where its last commit was.
    """
    started = time.perf_counter()
    tally = Tally()
    with collection.writing() as writer:
        space = collection.spaces().get(job.space)
        claimed = False
        if space is None or space.encoder.model != job.model:
            space, claimed = _claimed(collection, writer, space, job), True
        sync = Sync(collection.database, space, job.settings)
        progress.begin("records", len(source))
        reuse = Reuse(collection.database, space)
        prepared = Ahead(_prepared(source, job, (sync, reuse, tally), progress))
        handfuls = iter(prepared)
        committing = ThreadPoolExecutor(1, "nearkin-commit")
        pending: Future[None] | None = None
        begun = time.perf_counter()
        try:
            first = next(handfuls, None)
            if first is not None and not claimed:
                space, claimed = _claimed(collection, writer, space, job), True
            for some, outcome in in_order(
                () if first is None else chain([first], handfuls),
                lambda some: [one for ready in some for one in ready.encodable],
                job.encoder,
                reuse,
                lambda: tally.timed("encode"),
            ):
                if pending is not None:
                    pending.result()
                whole, vectors = _whole(some, outcome)
                pending = committing.submit(_commit, writer, space, whole, vectors, (sync, tally, progress))
                if outcome.error is not None:
                    pending.result()  # what was encoded before the model failed is kept
                    raise outcome.error
            if pending is not None:
                pending.result()
            tally.working_s = time.perf_counter() - begun
        finally:
            prepared.close()
            committing.shutdown(wait=True)
        tally.reused = reuse.reused
        tally.tokens = job.encoder().tokens_used if claimed else None
        if job.prune:
            tally.removed = _prune(writer, space, sync, source)
            tally.unpruned = tuple(sync.doubtful(source.origins))
        progress.end("records")
        with tally.timed("index"):
            collection.index(progress.reached, wait=progress.waits)
    return tally.report(collection, job.space, job.model, started, dry_run=False)


def _claimed(collection: Collection, writer: Writer, there: Space | None, job: Job) -> Space:
    """The space, made now if it is not there; refused if another model made it."""
    encoder = job.encoder()
    known = probes.probe(encoder) if there is None else None
    if there is not None and encoder.spec == there.encoder and encoder.spec.weights is None:
        with collection.database.reading() as transaction:
            stored = reads.probes(transaction, there)
        if stored is not None:
            probes.check(encoder, there, stored)  # nothing else would tell that it is another model by now
    return writer.space(job.space, encoder.spec, probes=known, model=job.learned)


def _whole(some: Sequence[Ready], outcome: Attempt) -> tuple[list[Ready], Vectors]:
    """The inputs of which every part was encoded, and their vectors."""
    if outcome.done.all():
        return list(some), outcome.vectors
    owners = np.repeat(np.arange(len(some)), [len(ready.parts) for ready in some])
    broken = set(owners[~outcome.done].tolist())
    kept = [ready for number, ready in enumerate(some) if number not in broken]
    return kept, outcome.vectors[~np.isin(owners, sorted(broken))]


def _read(source: Source, tally: Tally) -> Iterator[list[Item | Rejected]]:
    """The inputs in lists, each timed while the source reads it."""
    inputs = chunks(source, _READ_AT_ONCE)
    while True:
        with tally.timed("read"):
            some = next(inputs, None)
        if some is None:
            return
        yield some


def _prepared(
    source: Source, job: Job, run: tuple[Sync, Reuse, Tally], progress: Progress
) -> Iterator[list[Ready]]:
    """Handfuls of inputs that need encoding, prepared; everything else is counted on the way."""
    sync, reuse, tally = run
    waiting = _Handful()
    inputs_ahead = Ahead(_read(source, tally))

    def cut(items: Sequence[Item]) -> Iterator[tuple[Item, tuple[Part, ...], tuple[Encodable, ...]]]:
        for one in job.prepare(items):
            if isinstance(one, Ready):
                yield one.item, one.parts, one.encodable

    try:
        for inputs in inputs_ahead:
            with tally.timed("compare"):
                sorted_ = sync.sort(inputs)
            tally.take(inputs)
            tally.unchanged += sorted_.unchanged
            tally.rejected += sorted_.rejected
            progress.advance("records", sorted_.unchanged + len(sorted_.rejected))
            with tally.timed("compare"):
                reuse.look(sorted_.new, sorted_.changed, sync, cut)
            outcome = _prepare(job, sorted_.new + sorted_.changed)
            while True:
                with tally.timed("prepare"):
                    one = next(outcome, None)
                if one is None:
                    break
                if isinstance(one, Rejected):
                    tally.rejected.append(one)
                    progress.advance("records", 1)
                    continue
                if waiting.add(one):
                    yield waiting.inputs
                    waiting = _Handful()
        if waiting.inputs:
            yield waiting.inputs
    finally:
        inputs_ahead.close()


@dataclass(slots=True)
class _Handful:
    """Inputs that wait to be encoded together, and how much of the room for them they take."""

    inputs: list[Ready] = field(default_factory=list)
    parts: int = 0
    tokens: int = 0
    weight: float = 0.0

    def add(self, one: Ready) -> bool:
        """Add one; whether the room is full now."""
        self.inputs.append(one)
        self.parts += len(one.parts)
        self.tokens += one.tokens
        self.weight += one.weight
        return self.parts >= ENCODE_AT_ONCE or self.tokens >= _TOKENS_AT_ONCE or self.weight >= 1


def _prepare(job: Job, items: Sequence[Item]) -> Iterator[Ready | Rejected]:
    """Prepare what can be stored; a record that the catalog would refuse must not stop those beside it."""
    storable: list[Item] = []
    for item in items:
        try:
            encoded(item.record)
        except QueryError as error:
            yield Rejected(
                item.file or str(item.record.uri or item.origin), str(error), item.line, item.record.id
            )
        else:
            storable.append(item)
    if storable:
        yield from job.prepare(storable)


def _commit(
    writer: Writer, space: Space, some: Sequence[Ready], vectors: Vectors, run: tuple[Sync, Tally, Progress]
) -> None:
    sync, tally, progress = run
    if not some:
        return
    with tally.timed("commit"):
        written: Written = writer.put(
            [ready.item.record for ready in some],
            np.asarray(vectors, dtype=np.float32),
            space,
            parts=[ready.parts for ready in some],
            provenance=[Provenance(sync.full_digest(ready.item), ready.item.origin) for ready in some],
            thumbnails=[ready.thumbnail for ready in some],
            merge=True,
        )
    tally.added += written.added
    tally.updated += written.updated
    tally.vectors += len(vectors)
    progress.advance("records", len(some))


def _prune(writer: Writer, space: Space, sync: Sync, source: Source) -> int:
    gone = sync.gone(source.origins)
    return sum(
        writer.withdraw(gone[begin : begin + ENCODE_AT_ONCE], space)
        for begin in range(0, len(gone), ENCODE_AT_ONCE)
    )
