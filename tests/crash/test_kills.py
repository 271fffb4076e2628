"""Killed at any moment, a collection holds exactly the commits that were acknowledged, and goes on working."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import search
from search.collection import Collection
from search.failpoints import Step
from search.index import choose
from tests.crash import workload
from tests.crash.workload import (
    FLAT_UP_TO,
    SPACE,
    Run,
    State,
    last_acknowledged,
    metadata_of,
    stream,
    vectors_of,
)

# The steps of one collection's own life; those of copies are reached in test_copies.
STEPS = [step for step in Step if not step.name.startswith("COPY_")]
_SCRIPTED = 12  # operations of the scripted workload: each kind at least once


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


def held_in(c: Collection, target: Path) -> dict[str, tuple[dict[str, object], np.ndarray]]:
    """The metadata and vectors of each record."""
    c.export(target, vectors=True)
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    return {line["id"]: (line["metadata"], np.array(line["vectors"].get(SPACE, []))) for line in lines}


def is_in(state: State, held: dict[str, tuple[dict[str, object], np.ndarray]]) -> bool:
    """Whether exactly this state is held, down to the numbers of each vector."""
    if set(state) != set(held):
        return False
    for id, kept in state.items():
        metadata, vectors = held[id]
        expected = vectors_of(id, kept)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        if metadata != metadata_of(kept) or vectors.shape != expected.shape:
            return False
        if not np.allclose(vectors, expected, atol=1e-6):
            return False
    return True


def verify(path: Path, acknowledged: int, seed: int, scratch: Path) -> int:
    """Open what a kill has left, and hold it against what was acknowledged; the number of operations done."""
    states: list[State] = [{}, *(state for _, state in itertools.islice(stream(seed), acknowledged + 2))]
    with search.open(path) as c:
        assert c.check() == []
        held = held_in(c, scratch)
        if is_in(states[acknowledged + 1], held):
            n_done = acknowledged + 1
        else:
            assert is_in(states[acknowledged + 2], held), "neither without nor with the commit in flight"
            n_done = acknowledged + 2
        assert c.count() == len(held)
        if held:
            owners = [id for id, (_, vectors) in held.items() for _ in vectors]
            rows = np.concatenate([vectors for _, vectors in held.values()])
            for owner, (hit,) in zip(owners, c.search(vector=rows, k=1), strict=True):
                assert (hit.id, round(hit.score, 5)) == (owner, 1.0)
    return n_done


def next_write_works(path: Path) -> None:
    with search.open(path) as c:
        before = c.count()
        row = np.linspace(1, 2, workload.DIM)
        c.add([{"id": "after"}], [row], space=SPACE)
        c.index()
        assert c.search(vector=row)[0].id == "after"
        c.compact()
        assert c.delete("after") == 1
        assert (c.count(), c.check()) == (before, [])


def counted(doers: Doers, folder: Path) -> dict[str, int]:
    """How often each step is reached by the scripted workload, when nobody dies."""
    journal = folder / "whole.journal"
    doers.begin(Run(str(folder / "whole"), str(journal), seed=1, n=_SCRIPTED))
    assert doers.end() == 0
    assert verify(folder / "whole", _SCRIPTED - 1, 1, folder / "scratch") == _SCRIPTED
    counts: dict[str, int] = json.loads(journal.read_text().splitlines()[-1])
    return counts


def killed_at(doers: Doers, folder: Path, step: Step, occurrence: int) -> None:
    path, journal = folder / "c", folder / "journal"
    run = Run(str(path), str(journal), seed=1, n=_SCRIPTED, step=step.value, occurrence=occurrence)
    doers.begin(run)
    assert doers.end() == -signal.SIGKILL
    verify(path, last_acknowledged(journal), 1, folder / "scratch")
    next_write_works(path)


def test_every_step_is_reached(doers: Doers, tmp_path: Path) -> None:
    """A step that is new must be reached by the workload, or this fails: no step goes untested."""
    counts = counted(doers, tmp_path)
    assert {step.value for step in STEPS} == set(counts)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name.lower())
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
    for step in STEPS:
        for occurrence in range(1, counts[step.value] + 1):
            folder = tmp_path / f"{step.name}-{occurrence}"
            folder.mkdir()
            killed_at(doers, folder, step, occurrence)
    print(f"{sum(counts.values())} kills, one at each step reached")


def killed_at_random(doers: Doers, folder: Path, n_kills: int, seed: int, longest_s: float) -> None:
    """Kill the writer of one collection again and again, each time at another moment."""
    rng = random.Random(seed)
    path, n_done, n_mid = folder / "c", 0, 0
    for kill in range(n_kills):
        journal = folder / f"{kill}.journal"
        pid = doers.begin(Run(str(path), str(journal), seed, start=n_done))
        deadline = time.monotonic() + 60
        while not journal.exists():  # let it come as far as to open the collection
            assert time.monotonic() < deadline, "the child does not begin"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, longest_s))
        os.kill(pid, signal.SIGKILL)
        assert doers.end() == -signal.SIGKILL
        acknowledged = max(n_done - 1, last_acknowledged(journal))
        n_done = verify(path, acknowledged, seed, folder / "scratch")
        n_mid += n_done - 1 - acknowledged
    next_write_works(path)
    print(f"\n{n_kills} kills, {n_done} operations; {n_mid} were whole though not yet acknowledged")
    assert n_done > n_kills // 4  # the kills met work, on a slow machine too


def test_fifty_random_kills(doers: Doers, tmp_path: Path) -> None:
    killed_at_random(doers, tmp_path, n_kills=50, seed=2, longest_s=0.5)


@pytest.mark.crash
@pytest.mark.parametrize("seed", [3, 4])
def test_two_hundred_random_kills(doers: Doers, tmp_path: Path, seed: int) -> None:
    killed_at_random(doers, tmp_path, n_kills=200, seed=seed, longest_s=1.0)
