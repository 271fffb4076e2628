"""The README cannot lie: its tour is run, and every verb there is stands in it or in the help."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    return tmp_path


def test_the_commands_of_the_tour_run_as_printed(copy: Path):
    commands = "\n".join(blocks("sh"))
    assert commands.count("nearkin") >= 4
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stderr
    assert "0 added, 0 updated" in ran.stderr.splitlines()[-1]


def test_ingest_and_search_together_leave_json_alone_on_stdout(copy: Path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    commands = 'nearkin ingest text docs/ -c c && nearkin search "how are copies made" -c c --json'
    ran = subprocess.run(["bash", "-c", commands], cwd=copy, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    hits = json.loads(ran.stdout)
    assert {hit["space"] for hit in hits} == {"text"}
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    pages = {path.name for path in (copy / "docs").glob("*.md")}
    assert {hit["id"] for hit in hits} <= pages
    assert len({hit["id"] for hit in hits}) == len(hits) == min(10, len(pages))


def test_the_python_of_the_tour_runs_as_printed(copy: Path):
    for code in blocks("python"):
        ran = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr


def test_the_first_commands_are_demo_and_test():
    first = re.search(r"```\n(.*?)```", README, flags=re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first.group(1).strip().splitlines()] == [
        "make demo",
        "make test",
    ]
