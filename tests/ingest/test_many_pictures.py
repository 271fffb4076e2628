"""Many pictures, some damaged in every way that files are: the good go in, the bad are listed, a kill is survived."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from tests.conftest import REPOSITORY
from tests.ingest.album import BAD, Album, make_album

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes and looks at their memory")


def take_in(album: Album, collection: Path, **more: int) -> dict[str, Any] | None:
    """What a process of its own reports; None where it was killed."""
    told = {"folder": str(album.folder), "collection": str(collection), **more}
    done = subprocess.run(
        [sys.executable, "-m", "tests.ingest.album", json.dumps(told)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if "dies_after" in more:
        assert done.returncode == -signal.SIGKILL, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check_whole(album: Album, collection: Path, report: dict[str, Any]) -> None:
    """All that is good is in, under its own colour; all that is bad is listed with its reason."""
    with search.open(collection, "r") as there:
        ids = list(album.good)
        assert there.count() == len(ids)
        records = there.get(ids)
        assert [record.id for record in records if record] == ids
        for id in ids[:: max(1, len(ids) // 50)]:
            want = np.array(album.good[id], dtype=float)
            hit = there.search(vector=want, k=1, space="image")[0]
            got = np.array(album.good[hit.id], dtype=float)
            same = float(got @ want / np.linalg.norm(got) / np.linalg.norm(want))
            assert same > 0.9998  # several JPEGs of nearly one colour stand beside each other
            assert there.thumbnail(id) is not None
    lines = Path(report["rejects_file"]).read_text(encoding="utf-8").splitlines()
    told = {one["id"]: one["reason"] for one in map(json.loads, lines)}
    assert set(told) == set(album.bad)
    for id, word in album.bad.items():
        assert word in told[id]
    assert report["read"] == len(album.good) + len(album.bad)


def test_300_files_of_every_kind_with_a_kill(tmp_path: Path) -> None:
    album = make_album(tmp_path / "in", 300, one_in=30)
    assert set(album.bad.values()) == {word for _, word, _ in BAD}
    collection = tmp_path / "c"
    take_in(album, collection, at_once=20, dies_after=5)
    with search.open(collection, "r") as there:
        done = there.count()
    assert 0 < done < len(album.good)
    report = take_in(album, collection, at_once=20)
    assert report is not None
    assert (report["unchanged"], report["added"]) == (done, len(album.good) - done)
    assert report["encoded"] == len(album.good) - done  # nothing that was committed is done again
    check_whole(album, collection, report)


@pytest.mark.quality
def test_20000_files_in_a_memory_that_does_not_grow(tmp_path: Path) -> None:
    few = make_album(tmp_path / "few", 2_000, one_in=100)
    many = make_album(tmp_path / "many", 20_000, one_in=100)
    small = take_in(few, tmp_path / "c-few", at_once=500)
    take_in(many, tmp_path / "c", at_once=500, dies_after=15)
    with search.open(tmp_path / "c", "r") as there:
        done = there.count()
    assert 0 < done < len(many.good)
    report = take_in(many, tmp_path / "c", at_once=500)
    assert report is not None
    assert small is not None
    assert (report["unchanged"], report["added"]) == (done, len(many.good) - done)
    check_whole(many, tmp_path / "c", report)
    whole = take_in(many, tmp_path / "c-whole", at_once=500)
    assert whole is not None
    check_whole(many, tmp_path / "c-whole", whole)
    growth = (whole["peak"] - small["peak"]) / 18_000
    print(f"peak {small['peak'] / 1e6:.0f} MB of 2,000 and {whole['peak'] / 1e6:.0f} MB of 20,000 files")
    assert growth < 3_000  # bytes a file: its name, and what was found of it
