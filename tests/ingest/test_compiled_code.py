"""Compiled code: where it is kept where nothing can be written, and what is said while it is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest import compiled_code
from ingest.cli.compiling import MESSAGE, told

INGEST = "from ingest.cli.main import run; run()"


def test_numba_gets_a_folder_where_it_could_write_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiled_code.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(compiled_code.VARIABLE, "")
    compiled_code.place()
    assert os.environ[compiled_code.VARIABLE] == ""  # it can write beside the modules here
    monkeypatch.setattr(compiled_code, "_writable", lambda folder: False)
    monkeypatch.setitem(sys.modules, "numba", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "numba")
    compiled_code.place()
    folder = Path(os.environ[compiled_code.VARIABLE])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    compiled_code.place()
    assert os.environ[compiled_code.VARIABLE] == str(folder)  # named is named


def test_a_folder_is_writable_where_it_could_be_made(tmp_path: Path) -> None:
    assert compiled_code._writable(tmp_path / "not" / "there" / "yet")
    file = tmp_path / "file"
    file.touch()
    assert not compiled_code._writable(file / "below")


def test_compiling_is_told_once_and_only_when_it_happens(capsys: pytest.CaptureFixture[str]) -> None:
    from numba import njit

    @njit
    def doubled(x: int) -> int:
        return 2 * x

    with told():
        assert capsys.readouterr().err == ""
        assert doubled(3) == 6
        assert doubled(3.5) == 7.0
    assert capsys.readouterr().err == MESSAGE + "\n"
    with told():
        assert doubled(4) == 8
    assert doubled(2j) == 4j
    assert capsys.readouterr().err == ""


def test_the_first_ingest_says_that_it_compiles_and_the_second_does_not(tmp_path: Path) -> None:
    edges = tmp_path / "few.edgelist"
    edges.write_text("a b\nb c\n")
    said = []
    for collection in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-c", INGEST, "ingest", "graph", edges, "--model", "cleora", "--dim", "2",
             "-c", tmp_path / collection],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        said.append(MESSAGE in done.stderr)
    assert said == [True, False]
