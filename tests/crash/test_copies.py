"""Killed at any step, a backup, a restore and an export are whole or absent, and an import goes on where it was.

    python -m tests.crash.test_copies VERB SOURCE TARGET STEP OCCURRENCE

Run so, it does the verb and dies by its own hand at that step.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import search
from search import failpoints
from search.collection import Collection
from search.exchange import gather, lines, parquet
from search.failpoints import Step
from tests.contents import contents

_AT_ONCE = 10  # records in a handful, so that an import has many commits
_N = 95
COPIES = [step for step in Step if step.name.startswith("COPY_")]


def backup(source: Path, target: Path) -> None:
    with search.open(source, "r") as c:
        c.backup(target)


def export(source: Path, target: Path) -> None:
    with search.open(source, "r") as c:
        c.export(target, vectors=True)


def take_in(source: Path, target: Path) -> None:
    with search.open(target) as c:
        c.import_file(source)


VERBS: dict[str, Callable[[Path, Path], object]] = {
    "backup": backup,
    "restore": search.restore,
    "export": export,
    "import": take_in,
}


def small_handfuls() -> None:
    gather.MOST_RECORDS = lines._AT_ONCE = parquet.MOST_RECORDS = _AT_ONCE


def killed(verb: str, source: Path, target: Path, step: Step, occurrence: int = 1) -> None:
    """Do the verb in a process that is dead when this returns."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.test_copies", verb, source, target, step.name, str(occurrence)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    rows = np.random.default_rng(0).standard_normal((_N, 4))
    shop = search.open(tmp_path_factory.mktemp("shop") / "c")
    shop.add([{"id": f"r{i}", "text": f"t{i}", "metadata": {"i": i}} for i in range(_N)], rows, space="v")
    shop.add([{"id": f"r{i}"} for i in range(0, _N, 3)], rows[::3, :2], space="w")
    shop.backup(shop.path.with_name("backup"))
    return shop


def held_by(path: Path, folder: Path) -> object:
    """What a copy of any kind holds."""
    if path.is_dir():
        with search.open(path, "r") as c:
            assert c.check() == []
            return contents(c)
    with search.open(folder / f"of-{path.name}") as c:
        c.import_file(path)
        return contents(c)


@pytest.mark.parametrize("step", COPIES, ids=lambda step: step.name.lower())
@pytest.mark.parametrize(
    ("verb", "name"),
    [("backup", "copy"), ("restore", "copy"), ("export", "copy.jsonl"), ("export", "copy.parquet")],
)
def test_a_copy_is_whole_or_absent(
    shop: Collection, tmp_path: Path, verb: str, name: str, step: Step
) -> None:
    source = shop.path.with_name("backup") if verb == "restore" else shop.path
    folder = tmp_path / "copies"
    folder.mkdir()
    target = folder / name
    killed(verb, source, target, step)
    if step is Step.COPY_NAMED:
        assert held_by(target, tmp_path) == contents(shop)
        return
    assert not target.exists()
    VERBS[verb](source, target)
    assert held_by(target, tmp_path) == contents(shop)
    assert [path.name for path in folder.iterdir()] == [name]  # what the dead one had left is gone


def test_an_older_export_outlives_a_kill(shop: Collection, tmp_path: Path) -> None:
    target = tmp_path / "copy.parquet"
    target.write_text("older")
    killed("export", shop.path, target, Step.COPY_SYNCED)
    assert target.read_text() == "older"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_killed_import_has_whole_handfuls_and_goes_on(shop: Collection, tmp_path: Path, form: str) -> None:
    file, target = tmp_path / f"x.{form}", tmp_path / "there"
    shop.export(file, vectors=True)
    expected = contents(shop)
    # Two writes a handful: the eighth is the second of the fourth, whose first must not be there either.
    killed("import", file, target, Step.COMMIT_STATE, 8)
    with search.open(target) as there:
        assert there.check() == []
        assert contents(there) == {f"r{i}": expected[f"r{i}"] for i in range(3 * _AT_ONCE)}
    VERBS["import"](file, target)
    with search.open(target) as there:
        assert contents(there) == expected
        assert there.check() == []
        assert there.search(vector=[1, 0, 0, 0], k=5) == shop.search(vector=[1, 0, 0, 0], k=5)


def _die_at(step: Step, occurrence: int) -> None:
    left = iter(range(occurrence - 1))

    def hook(reached: Step) -> None:
        if reached is step and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.hook = hook


if __name__ == "__main__":
    small_handfuls()
    verb, source, target, step, occurrence = sys.argv[1:]
    _die_at(Step[step], int(occurrence))
    VERBS[verb](Path(source), Path(target))
