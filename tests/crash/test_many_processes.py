"""Two writers and two readers, killed again and again: nothing acknowledged is lost, and nobody sees half a commit."""

from __future__ import annotations

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
from search.index import choose
from tests.crash import many
from tests.crash.many import DIM, FLAT_UP_TO, N_WRITERS, SPACE, Actor, Journal, everything

_ROLES = [("writer", 0), ("writer", 1), ("reader", 0), ("reader", 1)]
_QUERY = np.eye(DIM, dtype=np.float32)[0]


class Stage:
    """The process that forks an actor whenever one is wanted."""

    def __init__(self) -> None:
        self._alive: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.many"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def _told(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def enter(self, actor: Actor) -> int:
        """Start an actor; its pid."""
        pid = self._told(many.asked(actor))
        self._alive.add(pid)
        return pid

    def kill(self, pid: int, actor: Actor) -> None:
        """Kill an actor, which must have been at work until now, and wait until it is gone."""
        os.kill(pid, signal.SIGKILL)
        self._alive.discard(pid)
        ended = self._told(json.dumps({"wait": pid}))
        log = actor.log.read_text() if actor.log.exists() else ""
        assert ended == -signal.SIGKILL, f"{actor.role} {actor.number} ended by itself: {log[-3000:]}"

    def close(self) -> None:
        """Let the process go, and whom a failed test has left at work."""
        for pid in self._alive:
            os.kill(pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FLAT_UP_TO", FLAT_UP_TO)


def judge(c: Collection, folder: Path, writer: int) -> bool:
    """Hold the groups of a dead writer against its journal, and say there whether the commit in flight was done."""
    journal = Journal(folder, writer).read()
    state = everything(c, _QUERY)[writer]
    assert state in journal.possible(journal.acknowledged), (
        f"writer {writer} left {state}, and not one of {journal.possible(journal.acknowledged)}"
    )
    if not journal.in_flight:
        return False
    done = state == journal.states[-1]  # where the two are alike, either word is right
    journal.say(f"{'ok' if done else 'void'} {journal.generation}")
    return done


def whole(path: Path, folder: Path) -> None:
    """Nobody is left: the next writer need not wait, no file is damaged, and the state is the acknowledged one."""
    with search.open(path) as c:
        with c.writing(wait_s=0):
            pass
        assert c.check() == []
        states = everything(c, _QUERY)
        for writer, state in enumerate(states):
            journal = Journal(folder, writer).read()
            assert state == journal.states[journal.acknowledged]
        assert c.count() == 1 + sum(len(many.ids_of(0, 0)) * len(state) for state in states)


def until_one_more_commit(folder: Path) -> None:
    """Wait until the writers have done something: a kill is to meet work, on a slow machine too."""
    journals = [Journal(folder, writer).read() for writer in range(N_WRITERS)]
    before = [journal.acknowledged for journal in journals]
    deadline = time.monotonic() + 60
    while [journal.read().acknowledged for journal in journals] == before:
        assert time.monotonic() < deadline, "nobody commits"
        time.sleep(0.001)


def killed_again_and_again(stage: Stage, folder: Path, n_kills: int, seed: int) -> None:
    """Kill some of the four, or all, at random moments, and start them anew."""
    rng = random.Random(seed)
    path = folder / "c"
    with search.open(path) as c:
        seed_record = {"id": "seed", "metadata": {"writer": -1, "group": -1, "generation": 0}}
        c.add([seed_record], _QUERY[None], space=SPACE)
    follower = search.open(path, "r")  # lives through it all
    playing: dict[tuple[str, int], tuple[int, Actor]] = {}
    n_killed = n_all = n_landed = n_rounds = 0
    while n_killed < n_kills:
        for role, number in _ROLES:
            if (role, number) not in playing:
                actor = Actor(role, number, str(path), str(folder), rng.randrange(1 << 30))
                playing[role, number] = stage.enter(actor), actor
        until_one_more_commit(folder)
        time.sleep(rng.uniform(0, 0.5))
        everyone = n_rounds % 2 == 1
        victims = list(_ROLES) if everyone else rng.sample(_ROLES, rng.randint(1, 3))
        rng.shuffle(victims)
        for role in victims:
            stage.kill(*playing.pop(role))
            n_killed += 1
        for role, number in victims:
            if role == "writer":
                n_landed += judge(follower if rng.random() < 0.5 else search.open(path, "r"), folder, number)
        n_rounds += 1
        if everyone:
            n_all += 1
            whole(path, folder)
    for role in list(playing):
        stage.kill(*playing.pop(role))
    for writer in range(N_WRITERS):
        judge(follower, folder, writer)
    whole(path, folder)
    logs = {name: Path(folder, f"{name}.log") for name in (f"{role}-{number}" for role, number in _ROLES)}
    lines = {name: log.read_text().splitlines() if log.exists() else [] for name, log in logs.items()}
    n_commits = [Journal(folder, writer).read().acknowledged for writer in range(N_WRITERS)]
    n_asked = [len(lines[f"reader-{number}"]) for number in range(2)]
    print(
        f"\n{n_killed} kills, {n_all} times all at once; {sum(n_commits)} commits of two writers, {n_landed} of them "
        f"whole though not acknowledged; {sum(n_asked)} answers to two readers, none wrong; writers found the "
        f"lock taken for too long {sum(len(lines[f'writer-{number}']) for number in range(2))} times"
    )
    assert sum(n_commits) >= n_rounds  # the kills met work
    assert min(n_asked) > 0


def test_writers_and_readers_are_killed(stage: Stage, tmp_path: Path) -> None:
    killed_again_and_again(stage, tmp_path, n_kills=20, seed=1)


@pytest.mark.crash
@pytest.mark.parametrize("seed", [2, 3])
def test_writers_and_readers_are_killed_two_hundred_times(stage: Stage, tmp_path: Path, seed: int) -> None:
    killed_again_and_again(stage, tmp_path, n_kills=200, seed=seed)
