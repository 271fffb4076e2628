"""The work that is killed: a stream of commits that can be told again, and a process that forks doers of it.

    python -m tests.crash.workload
    python -m tests.crash.workload '{"path": ...}'

With a run (a JSON object, see `Run`) it does it and ends. Without, it imports once and then forks one child for each
run on its standard input, printing the child's pid; so a kill costs a fork and not a start of Python. The tests
import the rest.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

import search
from search import failpoints
from search.catalog import migrations
from search.catalog.database import Transaction
from search.collection import Collection
from search.failpoints import Step
from search.index import choose
from search.types import EncoderSpec, Modality, Part, Record

DIM = 8
FLAT_UP_TO = 60 * DIM  # sixty rows and there is a graph: snapshots are part of the work
SPACE = "v"
_GROUPS = 6
_LONGEST_S = 60.0  # then a child ends by itself, should nobody be left to kill it
_MOST = 260  # records; beyond that the stream deletes


@dataclass(frozen=True)
class Kept:
    """What the collection must hold of one record."""

    version: int  # of its vectors
    n_parts: int
    group: int
    note: int | None = None


State = Mapping[str, Kept]


@dataclass(frozen=True)
class Operation:
    """One commit of the stream (or none, for upkeep): what is written, or deleted."""

    kind: str
    number: int
    records: Mapping[str, Kept] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    group: int = -1


@dataclass(frozen=True)
class Run:
    """What a child is to do: the stream of `seed` from operation `start`, dying at a step or when it is killed."""

    path: str
    journal: str
    seed: int
    start: int = 0
    n: int | None = None  # operations; None goes on until killed
    step: str | None = None
    occurrence: int = 1
    newer: bool = False  # it is a nearkin of the next format, see `add_format`


def vectors_of(id: str, kept: Kept) -> np.ndarray:
    """The vectors (n_parts, DIM) of a record at a version: no two alike."""
    rng = np.random.default_rng([zlib.crc32(id.encode()), kept.version])
    return rng.standard_normal((kept.n_parts, DIM)).astype(np.float32)


def text_of(id: str) -> str:
    """The text of a record, which never changes: long enough that deleting many leaves pages to give back."""
    n = zlib.crc32(id.encode()) % 3000
    return (f"{id} " * (n // len(id) + 1))[:n]


_SCRIPT = (
    "many",
    "index",
    "update",
    "meta",
    "delete",
    "compact",
    "parts",
    "add",
    "group",
    "index",
    "many",
    "backup",
    "most",
    "compact",
)
SCRIPTED = len(_SCRIPT)
BACKED_UP = _SCRIPT.index("backup")  # the number of the first copy


def stream(seed: int) -> Iterator[tuple[Operation, State]]:
    """Endless operations, each with the state after it; the first are always of the kinds of the script."""
    rng = random.Random(seed)
    state: dict[str, Kept] = {}
    number = 0
    while True:
        kind = (
            _SCRIPT[number]
            if number < len(_SCRIPT)
            else rng.choices(
                ("add", "many", "update", "parts", "meta", "delete", "group", "index", "compact", "backup"),
                (30, 6, 18, 10, 8, 12, 3 if len(state) < _MOST else 40, 5, 5, 2),
            )[0]
        )
        operation = _drawn(kind, number, rng, state)
        for id in operation.gone:
            del state[id]
        state.update(operation.records)
        yield operation, dict(state)
        number += 1


def _drawn(kind: str, number: int, rng: random.Random, state: State) -> Operation:
    some = rng.sample(sorted(state), min(len(state), rng.randint(1, 8)))
    records: dict[str, Kept] = {}
    gone: tuple[str, ...] = ()
    group = -1
    if kind in ("add", "many"):
        n = rng.randint(1, 6) if kind == "add" else 70
        records = {f"r{number}-{i}": Kept(number, 1, rng.randrange(_GROUPS)) for i in range(n)}
    elif kind == "update":
        records = {id: replace(state[id], version=number, n_parts=1) for id in some}
    elif kind == "parts":
        fresh = [f"p{number}-{i}" for i in range(2)]
        records = {id: Kept(number, rng.randint(1, 4), rng.randrange(_GROUPS)) for id in [*fresh, *some[:2]]}
    elif kind == "meta":
        records = {id: replace(state[id], note=number) for id in some}
    elif kind == "delete":
        gone = tuple(some)
    elif kind == "most":
        gone = tuple(rng.sample(sorted(state), len(state) * 2 // 3))
    elif kind == "group":
        group = rng.randrange(_GROUPS)
        gone = tuple(id for id, kept in state.items() if kept.group == group)
    return Operation(kind, number, records, gone, group)


def metadata_of(kept: Kept) -> dict[str, int]:
    """What stands in the record's metadata."""
    return {"group": kept.group} | ({} if kept.note is None else {"note": kept.note})


def backup_of(path: Path, number: int) -> Path:
    """Where operation `number` of the stream puts its copy of the collection."""
    return path.with_name(f"{path.name}-backup-{number}")


def apply(c: Collection, operation: Operation) -> None:
    """Do it; durable when this returns."""
    meta = operation.kind == "meta"  # a text that is not given stays
    records = [
        Record(id, text=None if meta else text_of(id), metadata=metadata_of(kept))
        for id, kept in operation.records.items()
    ]
    if operation.kind == "index":
        c.index()
    elif operation.kind == "compact":
        c.compact()
    elif operation.kind == "backup":
        target = backup_of(c.path, operation.number)
        if target.exists():  # done before the kill, but not acknowledged
            shutil.rmtree(target)
        c.backup(target)
    elif operation.kind in ("delete", "most"):
        c.delete(list(operation.gone))
    elif operation.kind == "group":
        c.delete(where=f"group = {operation.group}")
    elif operation.kind == "meta":
        c.add(records)
    else:
        rows = [vectors_of(id, kept) for id, kept in operation.records.items()]
        if operation.kind == "parts":
            with c.writing() as writer:
                space = writer.space(SPACE, EncoderSpec("given", "given", Modality.VECTOR, DIM))
                parts = [[Part(i, i + 1) for i in range(len(some))] for some in rows]
                writer.put(records, np.concatenate(rows), space, parts=parts)
        else:
            c.add(records, np.concatenate(rows), space=SPACE)


def _one_more(transaction: Transaction) -> None:
    """A migration that touches the layout and every record."""
    transaction.sql("alter table record add column colour text not null default 'grey'")
    transaction.sql("update record set colour = 'of ' || id")


def add_format() -> None:
    """Make the nearkin of this process one format newer than it is."""
    migrations.MIGRATIONS = (*migrations.MIGRATIONS, _one_more)
    migrations.CURRENT = len(migrations.MIGRATIONS)


def work(run: Run) -> None:
    """Do the run, telling the journal each operation that was acknowledged, and at the end each step's count."""
    choose.FLAT_UP_TO = FLAT_UP_TO
    if run.newer:
        add_format()
    reached: Counter[str] = Counter()

    def hook(step: Step) -> None:
        reached[step.value] += 1
        if step.value == run.step and reached[step.value] == run.occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.hook = hook
    journal = os.open(run.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledged(line: str) -> None:
        os.write(journal, line.encode() + b"\n")
        os.fsync(journal)

    c = search.open(run.path)
    acknowledged("opened")
    begun = time.monotonic()
    for number, (operation, _) in enumerate(stream(run.seed)):
        if (run.n is not None and number >= run.n) or time.monotonic() - begun > _LONGEST_S:
            break
        if number >= run.start:
            apply(c, operation)
            acknowledged(str(number))
    acknowledged(json.dumps(reached))


def serve() -> None:
    """Fork a child for each run that is asked for; say its pid, and how it ended once it has."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(Run(**json.loads(line)))
                status = 0
            except BaseException:  # noqa: BLE001 - the child must end here, never in the parent's loop
                traceback.print_exc()
            finally:
                os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def asked(run: Run) -> str:
    """The line that asks for a run."""
    return json.dumps(asdict(run))


def last_acknowledged(journal: Path) -> int:
    """The number of the last operation acknowledged in a journal; -1 for none."""
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
    return max((int(line) for line in lines if line.isdigit()), default=-1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(Run(**json.loads(sys.argv[1])))
    else:
        serve()
