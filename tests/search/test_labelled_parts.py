"""Regions of pictures that say what is in them: stored, answered, checked and exported with label and score."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars
import pytest

import search
from search.collection import Collection
from search.types import EncoderSpec, Modality, Part, Record

CUP = Part(box=(4.0, 5.0, 10.0, 12.0), label="cup", score=0.875)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Collection]:
    with search.open(tmp_path / "shop") as shop:
        with shop.writing() as writer:
            space = writer.space("p", EncoderSpec("given", "given", Modality.IMAGE, 2))
            writer.put(
                [Record("desk", uri="desk.png"), Record("wall", uri="wall.png")],
                np.array([[1, 0], [0, 1], [-1, 0]], np.float32),
                space,
                parts=[[Part(), CUP], [Part()]],
            )
        yield shop


def test_a_hit_carries_label_and_score(shop: Collection) -> None:
    told = {"box": [4.0, 5.0, 10.0, 12.0], "label": "cup", "score": 0.875}
    for _ in range(3):  # by a transaction, then by glimpses
        (hit,) = shop.search(vector=[0, 1], k=1)
        assert (hit.id, hit.part) == ("desk", told)
    assert CUP.to_json() == told
    (hit,) = shop.search(vector=[-1, 0], k=1)
    assert (hit.id, hit.part) == ("wall", None)


@pytest.mark.parametrize(
    "damage", ["label = 'cap'", "label = null", "score = 0.5", "label = null, score = null"]
)
def test_a_changed_label_is_noticed(shop: Collection, damage: str) -> None:
    with sqlite3.connect(shop.layout.catalog) as connection:
        connection.execute(f"update part set {damage} where box is not null")
    connection.close()
    (problem,) = shop.check()
    assert "does not match its checksum" in problem
    with pytest.raises(search.CollectionCorrupt, match="does not match its checksum; "):
        shop.search(vector=[0, 1], k=1)


def test_they_travel_to_parquet_and_back(shop: Collection, tmp_path: Path) -> None:
    shop.export(tmp_path / "out.parquet", vectors=True)
    each = polars.read_parquet(tmp_path / "out.parquet").explode("parts_p").unnest("parts_p")
    assert each.select("id", "label", "score").rows() == [
        ("desk", None, None),
        ("desk", "cup", 0.875),
        ("wall", None, None),
    ]
    with search.open(tmp_path / "again") as again:
        again.import_file(tmp_path / "out.parquet")
        assert again.search(vector=[0, 1], k=1)[0].part == CUP.to_json()


@pytest.mark.parametrize(
    ("said", "wrong"),
    [('"label": 3', "label is not a string"), ('"score": "high"', "score is not a number")],
)
def test_an_odd_label_is_refused(shop: Collection, tmp_path: Path, said: str, wrong: str) -> None:
    file = tmp_path / "out.jsonl"
    shop.export(file, vectors=True)
    before = '"label": "cup"' if "label" in said else '"score": 0.875'
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, said))
    with search.open(tmp_path / "again") as again:
        with pytest.raises(search.SourceError, match=wrong):
            again.import_file(file)
        assert again.count() == 0
