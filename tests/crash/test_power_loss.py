"""The power goes at any moment, with any of what was not synced lost: every acknowledged commit is there, whole.

A child works on a collection while every file operation of its is recorded; the trace is then cut at many points, and
what a disk may hold there is laid out and opened (see tests/crash/power.py for what a disk may forget). That the
replay would see a missing sync is shown by disks that lie: one sync left out, and something is found lost.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

import search
from search.errors import NearkinError
from search.index import choose
from tests.crash import trace
from tests.crash.power import Disk, Left, Loss, lay_out
from tests.crash.trace import CannotTrace, Event, Kind
from tests.crash.verdict import answers_as, held_in, is_in, told, verify
from tests.crash.workload import FLAT_UP_TO, SCRIPTED, Run, last_acknowledged

_SEED = 1
_OTHERS = tuple(loss for loss in Loss if loss is not Loss.ALL)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return trace.build(tmp_path_factory.mktemp("recorder"))
    except CannotTrace as reason:
        pytest.skip(str(reason))


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FLAT_UP_TO", FLAT_UP_TO)


@dataclass(frozen=True)
class Recorded:
    """A run of the workload, as it went."""

    root: Path  # the collection stood in root / "c"
    events: list[Event]
    n: int  # operations


def recorded(recorder: Path, folder: Path, n: int, lie: str | None = None) -> Recorded:
    root, mark = folder.resolve() / "root", folder.resolve() / "journal"
    root.mkdir()
    run = json.dumps(asdict(Run(str(root / "c"), str(mark), _SEED, n=n)))
    command = [sys.executable, "-m", "tests.crash.workload", run]
    events = trace.record(recorder, root, mark, command, lie)
    assert last_acknowledged(mark) == n - 1
    return Recorded(root, events, n)


@dataclass(frozen=True)
class Cut:
    """What the power left."""

    after: int  # events
    loss: Loss
    acknowledged: int  # the last operation; -1 for none
    n_unsynced: int
    left: Left


def cuts(run: Recorded, chosen: dict[int, list[Loss]], seed: int) -> Iterator[Cut]:
    """The chosen cuts of a run, each different from the one before it."""
    disk, acknowledged, seen = Disk(run.root), -1, b""
    for after, event in enumerate(run.events, 1):
        disk.do(event)
        if event.kind is Kind.MARK and event.content.strip().isdigit():
            acknowledged = int(event.content)
        for loss in chosen.get(after, ()):
            left = disk.left(loss, random.Random(f"{seed} {after} {loss}"))
            digest = hashlib.sha256(repr((acknowledged, sorted(left.items()))).encode()).digest()
            if digest != seen:
                seen = digest
                yield Cut(after, loss, acknowledged, disk.n_unsynced(), left)


def some(run: Recorded, n: int, seed: int) -> dict[int, list[Loss]]:
    """About n cuts: half where a sync or a name is about to change, half anywhere; all lost, or in some other way."""
    rng = random.Random(seed)
    turns = (Kind.SYNC, Kind.RENAME, Kind.UNLINK, Kind.MARK, Kind.CREATE, Kind.TRUNCATE)
    edges = [after for after, event in enumerate(run.events) if event.kind in turns and after]
    anywhere = range(1, len(run.events) + 1)
    chosen = [*rng.sample(edges, min(len(edges), n // 4)), *rng.sample(anywhere, min(len(anywhere), n // 4))]
    return {after: [Loss.ALL, rng.choice(_OTHERS)] for after in chosen}


def fault(run: Recorded, cut: Cut, folder: Path, spared: tuple[str, ...] = ()) -> str | None:
    """What is wrong with what the cut has left, or None."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    lay_out(cut.left, folder)
    operations, states = told(_SEED, run.n)
    path, scratch = folder / "c", folder.with_suffix(".jsonl")
    try:
        seen = None
        if cut.after % 3 == 0 and cut.acknowledged >= 0:  # a reader may be the first to come
            with search.open(path, "r") as c:
                seen = next(i for i, state in enumerate(states) if is_in(state, held_in(c, scratch)))
                answers_as(c, states[seen])
        n_done = verify(path, cut.acknowledged, operations, states, scratch, spared=spared)
        assert seen is None or states[seen] == states[n_done], "a reader saw another commit"
    except (AssertionError, NearkinError, StopIteration, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def replayed(run: Recorded, chosen: dict[int, list[Loss]], folder: Path, seed: int = 0) -> str:
    """Look at each of the cuts, none of which may show a fault; the counts."""
    n_cuts = n_forgotten = 0
    most = 0
    for cut in cuts(run, chosen, seed):
        found = fault(run, cut, folder)
        assert found is None, f"{found}; after {cut.after} of {len(run.events)} events, lost: {cut.loss}"
        n_cuts += 1
        n_forgotten += cut.n_unsynced
        most = max(most, cut.n_unsynced)
    return (
        f"\n{n_cuts} cuts of a trace of {len(run.events)} events, {run.n} operations; {n_forgotten} writes and "
        f"names not yet synced at the cuts, up to {most} at one"
    )


def test_the_trace_is_complete(recorder: Path, tmp_path: Path) -> None:
    """Replayed without any loss, it gives the very bytes that stand on the disk; nothing was done unseen."""
    run = recorded(recorder, tmp_path, SCRIPTED)
    disk = Disk(run.root)
    for event in run.events:
        disk.do(event)
    truth = {
        str(path.relative_to(run.root)): None if path.is_dir() else path.read_bytes()
        for path in run.root.rglob("*")
        if not path.name.endswith("-shm")  # SQLite's shared memory, made anew after a crash
    }
    assert disk.now() == truth
    kinds = {event.kind for event in run.events}
    assert kinds == set(Kind) - {Kind.UNKNOWN}
    catalogs = {event.inode for event in run.events if event.content.endswith(b"/c/catalog.sqlite")}
    cut_back = [event for event in run.events if event.kind is Kind.TRUNCATE and event.inode in catalogs]
    assert [event for event in cut_back if event.offset > 0]  # the vacuum is part of the work


def test_power_loss(recorder: Path, tmp_path: Path) -> None:
    run = recorded(recorder, tmp_path, SCRIPTED + 10)
    print(replayed(run, some(run, 200, seed=1), tmp_path / "left"))


@pytest.mark.parametrize(
    "lie",
    [
        "*/c/catalog.sqlite*",  # as with `pragma synchronous = off`
        "*/c/catalog.sqlite-wal",
        "*/c/catalog.sqlite",
        "*/c",
        "*/root",
        "*/c/indexes",
        "*/c/indexes/*",
        "*/.c-backup-*.partial",
        "*/.c-backup-*.partial/catalog.sqlite",
        "*/.c-backup-*.partial/indexes",
        "*/.c-backup-*.partial/indexes/*",
    ],
)
def test_a_missing_sync_is_noticed(recorder: Path, tmp_path: Path, lie: str) -> None:
    """Were any one of the syncs left out of the code, the replay would fail: here the disk leaves it out."""
    run = recorded(recorder, tmp_path, SCRIPTED, lie)
    for n, cut in enumerate(cuts(run, some(run, 240, seed=2), seed=2), 1):
        found = fault(run, cut, tmp_path / "left")
        if found is not None:
            print(f"\n{lie}: cut {n}, lost {cut.loss}: {found}")
            return
    pytest.fail(f"the disk never synced {lie}, and nothing was found lost")


@pytest.mark.parametrize("lie", ["*/c/indexes", "*/c/indexes/*"], ids=["name", "content"])
def test_a_torn_snapshot_is_never_answered_from(recorder: Path, tmp_path: Path, lie: str) -> None:
    """Were snapshots not synced, they would be recognised as torn and told by `check`, and answers still right."""
    run = recorded(recorder, tmp_path, SCRIPTED, lie)
    n_torn = n = 0
    for cut in cuts(run, some(run, 60, seed=3), seed=3):
        n += 1
        if fault(run, cut, tmp_path / "left") is not None:
            n_torn += 1
            found = fault(run, cut, tmp_path / "left", spared=("it will be built again",))
            assert found is None, f"{found}; after {cut.after} of {len(run.events)} events, lost: {cut.loss}"
    print(f"\n{n_torn} torn snapshots at {n} cuts, all recognised")
    assert n_torn > 5


@pytest.mark.crash
def test_power_loss_at_every_event(recorder: Path, tmp_path: Path) -> None:
    run = recorded(recorder, tmp_path, SCRIPTED + 20)
    chosen = {
        after: [Loss.ALL, Loss.SCATTERED if after % 2 else _OTHERS[after // 2 % len(_OTHERS)]]
        for after in range(1, len(run.events) + 1)
    }
    print(replayed(run, chosen, tmp_path / "left"))
