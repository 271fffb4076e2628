"""Killed at any step of a change of model, the space is wholly of the one or of the other, and the next run ends it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ingest
import search
from search.encoders import load
from search.failpoints import Step
from search.types import NEXT, OLD, Record
from tests.crash.migrating import AT_ONCE, N, words
from tests.models_by_letters import Letters, named, of_spec

STEPS = (Step.COMMIT_BEGUN, Step.COMMIT_VECTORS, Step.COMMIT_STATE, Step.COMMIT_DONE)


class Doers:
    """The process that forks a child for each run."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.migrating"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, path: Path, what: str, step: Step | None = None, occurrence: int = 1) -> int:
        """How the child ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        run = {"path": str(path), "what": what, "step": None if step is None else step.value}
        self._process.stdin.write(json.dumps(run | {"occurrence": occurrence}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Let it go."""
        self._process.communicate()


@pytest.fixture(scope="module")
def doers() -> Iterator[Doers]:
    doers = Doers()
    yield doers
    doers.close()


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_named", named)
    monkeypatch.setattr(load, "load_spec", of_spec)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A collection whose texts are of the model "few"."""
    model = Letters("few")
    with search.open(tmp_path / "start") as made, made.writing() as writer:
        texts = [words(i) for i in range(N)]
        writer.put(
            [Record(f"r{i}", "text", None, text) for i, text in enumerate(texts)],
            model.encode(texts),
            writer.space("text", model.spec),
        )
    return tmp_path / "start"


def model_of(path: Path) -> str:
    """The model of the space, all of whose vectors are found to be of it."""
    with search.open(path, "r") as there:
        assert there.count() == N
        assert there.check() == []
        space = there.spaces()["text"]
        model = Letters(space.encoder.model)
        assert sorted(there.ids_in(space)) == sorted(f"r{i}" for i in range(N))
        rows = model.encode([words(i) for i in range(N)])
        for i in range(N):
            scores = rows @ rows[i]
            hit = there.search(words(i), k=1)[0]  # not said in which space
            assert hit.space == "text"
            assert hit.score == pytest.approx(float(scores.max()), abs=1e-5)
            assert scores[int(hit.id[1:])] == pytest.approx(float(scores.max()), abs=1e-5)
        return space.encoder.model


def moments(doers: Doers, start: Path, what: str) -> list[tuple[Step, int]]:
    """The first, a middle and the last time that each step is reached."""
    whole = start.with_name(f"whole-{what}")
    shutil.copytree(start, whole)
    assert doers.run(whole, what) == 0
    counts = json.loads(Path(f"{whole}.steps").read_text())
    found = []
    for step in STEPS:
        n = counts.get(step.value, 0)
        found += [(step, one) for one in sorted({1, (n + 1) // 2, n}) if n]
    assert found
    return found


def test_killed_while_it_is_filled_or_switched(doers: Doers, start: Path) -> None:
    seen = set()
    for number, (step, occurrence) in enumerate(moments(doers, start, "migrate")):
        path = start.with_name(f"c{number}")
        shutil.copytree(start, path)
        assert doers.run(path, "migrate", step, occurrence) == -signal.SIGKILL
        model = model_of(path)
        with search.open(path, "r") as there:
            names = set(there.spaces())
            filled = len(there.ids_in(there.spaces()[f"text{NEXT}"])) if f"text{NEXT}" in names else 0
        seen.add((model, filled))
        if model == "few":
            with search.open(path) as there:
                done = ingest.migrate(there, "text", "all", comparing=ingest.Comparing(compare=False))
            assert done.switched
            assert done.filled == N - filled  # what was committed is not encoded again
        else:
            assert names == {"text", f"text{OLD}"}
        assert model_of(path) == "all"
    assert {model for model, _ in seen} == {"few", "all"}
    assert {("few", 0), ("few", N)} < seen
    assert any(0 < filled < N and filled % AT_ONCE == 0 for _, filled in seen)


def test_killed_on_the_way_back_or_while_the_old_one_is_dropped(doers: Doers, start: Path) -> None:
    with search.open(start) as there:
        ingest.migrate(there, "text", "all", comparing=ingest.Comparing(compare=False))
    for what in ("back", "drop"):
        for number, (step, occurrence) in enumerate(moments(doers, start, what)):
            path = start.with_name(f"{what}{number}")
            shutil.copytree(start, path)
            assert doers.run(path, what, step, occurrence) == -signal.SIGKILL
            model = model_of(path)
            with search.open(path, "r") as there:
                names = set(there.spaces())
                kept = {name: np.size(there.ids_in(space)) for name, space in there.spaces().items()}
            if what == "back":
                assert model in ("few", "all")
                assert kept == {"text": N, f"text{OLD}": N}
            else:
                assert model == "all"
                assert names in ({"text"}, {"text", f"text{OLD}"})
                assert set(kept.values()) == {N}
