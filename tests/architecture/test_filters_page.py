"""The page on filters cannot lie: its Python is run, and its expressions are read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from search.catalog import where

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
FIELDS = (
    "price",
    "brand",
    "year",
    "maker",
    "maker.city",
    "title",
    "discontinued",
    "in_stock",
    "published",
    "at",
)


def test_its_python_runs_as_printed(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_its_expressions_are_read() -> None:
    block = re.search(r"```\n(price .*?)```", PAGE, flags=re.DOTALL)
    assert block is not None
    read = [where.understood(line, FIELDS, ["pictures"]).undeclared for line in block[1].strip().splitlines()]
    assert read == [
        ("price", "brand"),
        ("year", "maker.city"),
        ("title", "discontinued"),
        ("in_stock",),
        ("published",),
    ]
