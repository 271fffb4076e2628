"""Killed at any moment, a collection holds exactly the commits that were acknowledged, and goes on working."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import search
from search.catalog import migrations
from search.failpoints import Step
from search.index import choose
from tests.crash import workload
from tests.crash.verdict import next_write_works, told, verify
from tests.crash.workload import FLAT_UP_TO, SCRIPTED, Run, last_acknowledged


class Doers:
    """The process that forks a child for each run."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.workload"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def begin(self, run: Run) -> int:
        """Start a run; the pid of the child that does it."""
        assert self._process.stdin is not None
        self._process.stdin.write(workload.asked(run) + "\n")
        self._process.stdin.flush()
        return self._line()

    def end(self) -> int:
        """Wait for the child: its exit code, or minus the signal that killed it."""
        return self._line()

    def close(self) -> None:
        """Let the process go."""
        self._process.communicate()


@pytest.fixture(scope="module")
def doers() -> Iterator[Doers]:
    doers = Doers()
    yield doers
    doers.close()


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FLAT_UP_TO", FLAT_UP_TO)


def verified(path: Path, acknowledged: int, seed: int, scratch: Path, since: int = 0) -> int:
    return verify(path, acknowledged, *told(seed, acknowledged + 2), scratch, since=since)


def counted(doers: Doers, folder: Path) -> dict[str, int]:
    """How often each step is reached by the scripted workload, when nobody dies."""
    journal = folder / "whole.journal"
    doers.begin(Run(str(folder / "whole"), str(journal), seed=1, n=SCRIPTED))
    assert doers.end() == 0
    assert verified(folder / "whole", SCRIPTED - 1, 1, folder / "scratch") == SCRIPTED
    counts: dict[str, int] = json.loads(journal.read_text().splitlines()[-1])
    return counts


def killed_at(doers: Doers, folder: Path, step: Step, occurrence: int) -> None:
    path, journal = folder / "c", folder / "journal"
    run = Run(str(path), str(journal), seed=1, n=SCRIPTED, step=step.value, occurrence=occurrence)
    doers.begin(run)
    assert doers.end() == -signal.SIGKILL
    verified(path, last_acknowledged(journal), 1, folder / "scratch")
    next_write_works(path)


def test_every_step_is_reached(doers: Doers, tmp_path: Path) -> None:
    """A step that is new must be reached by the workload, or this fails: no step goes untested."""
    counts = counted(doers, tmp_path)
    assert {step.value for step in Step} == set(counts)


@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.name.lower())
def test_killed_at_each_step(doers: Doers, tmp_path: Path, step: Step) -> None:
    """At the first time that the step is reached, at the last, and once in between."""
    n = counted(doers, tmp_path)[step.value]
    for number, occurrence in enumerate(sorted({1, (n + 1) // 2, n})):
        folder = tmp_path / str(number)
        folder.mkdir()
        killed_at(doers, folder, step, occurrence)


@pytest.mark.crash
def test_killed_at_each_step_each_time(doers: Doers, tmp_path: Path) -> None:
    counts = counted(doers, tmp_path)
    for step in Step:
        for occurrence in range(1, counts[step.value] + 1):
            folder = tmp_path / f"{step.name}-{occurrence}"
            folder.mkdir()
            killed_at(doers, folder, step, occurrence)
    print(f"{sum(counts.values())} kills, one at each step reached")


def test_killed_in_a_migration(doers: Doers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection is of its old format, whole; and the next attempt brings it to the new one."""
    path, journal, scratch = tmp_path / "c", tmp_path / "journal", tmp_path / "scratch"
    doers.begin(Run(str(path), str(journal), seed=1, n=SCRIPTED))
    assert doers.end() == 0
    newer = Run(str(path), str(tmp_path / "newer"), seed=1, start=SCRIPTED, n=SCRIPTED + 3, newer=True)
    for _ in range(2):
        doers.begin(replace(newer, step=Step.MIGRATION_APPLIED.value))
        assert doers.end() == -signal.SIGKILL
        with search.open(path) as c:
            assert c.info()["format"] == migrations.CURRENT
    assert verified(path, SCRIPTED - 1, 1, scratch) == SCRIPTED
    next_write_works(path)
    doers.begin(newer)
    assert doers.end() == 0
    with pytest.raises(search.CollectionError, match="newer nearkin"):
        search.open(path)
    monkeypatch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS)  # to be put back at the end
    monkeypatch.setattr(migrations, "CURRENT", migrations.CURRENT)
    workload.add_format()
    assert verified(path, SCRIPTED + 2, 1, scratch, since=SCRIPTED) == SCRIPTED + 3
    with closing(sqlite3.connect(path / "catalog.sqlite")) as catalog:
        assert catalog.execute("select count(*) from record where colour = 'of ' || id").fetchone()[0] > 0


def killed_at_random(doers: Doers, folder: Path, n_kills: int, seed: int, longest_s: float) -> None:
    """Kill the writer of one collection again and again, each time at another moment."""
    rng = random.Random(seed)
    path, n_done, n_mid = folder / "c", 0, 0
    for kill in range(n_kills):
        journal = folder / f"{kill}.journal"
        pid = doers.begin(Run(str(path), str(journal), seed, start=n_done))
        deadline = time.monotonic() + 60
        # Let it come as far as to open the collection, and every other time to an operation, on a slow machine too.
        works = rng.random() < 0.5
        while not journal.exists() or (works and last_acknowledged(journal) < n_done):
            assert time.monotonic() < deadline, "the child does not begin"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, longest_s))
        os.kill(pid, signal.SIGKILL)
        assert doers.end() == -signal.SIGKILL
        acknowledged = max(n_done - 1, last_acknowledged(journal))
        n_done = verified(path, acknowledged, seed, folder / "scratch", since=n_done)
        n_mid += n_done - 1 - acknowledged
    next_write_works(path)
    print(f"\n{n_kills} kills, {n_done} operations; {n_mid} were whole though not yet acknowledged")
    assert n_done > n_kills // 4  # the kills met work


def test_fifty_random_kills(doers: Doers, tmp_path: Path) -> None:
    killed_at_random(doers, tmp_path, n_kills=50, seed=2, longest_s=0.5)


@pytest.mark.crash
@pytest.mark.parametrize("seed", [3, 4])
def test_two_hundred_random_kills(doers: Doers, tmp_path: Path, seed: int) -> None:
    killed_at_random(doers, tmp_path, n_kills=200, seed=seed, longest_s=1.0)
