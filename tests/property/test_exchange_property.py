"""Whatever a collection holds, it comes back from either format bit for bit, in handfuls of any size."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import search
from search.catalog.part_writes import Provenance
from search.collection import Collection
from search.exchange import gather, lines, parquet
from search.types import WHOLE, EncoderSpec, Metric, Modality, Part, Record
from tests.contents import contents, spaces

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=5).filter(str.strip)
ids = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=4)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False, allow_infinity=False),
    words,
)
values = st.recursive(
    plain,
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(words, below, max_size=3)),
    max_leaves=6,
)
records = st.builds(
    Record,
    ids,
    st.none() | words,
    st.none() | words,
    st.none() | words,
    st.dictionaries(words, values, max_size=4),
)
numbers = st.floats(-(2.0**40), 2.0**40, width=32)
places = st.none() | st.integers(-(2**63), 2**63 - 1)
sides = st.floats(allow_nan=False, allow_infinity=False)
parts = st.one_of(
    st.just(WHOLE),
    st.builds(Part, places, places),
    st.builds(Part, box=st.tuples(sides, sides, sides, sides)),
    st.builds(
        Part,
        box=st.tuples(sides, sides, sides, sides),
        label=st.none() | words,
        score=st.none() | st.floats(0, 1),
    ),
)
sources = st.none() | st.builds(Provenance, st.binary(max_size=20), words)


@dataclass(frozen=True)
class Piece:
    """The vectors that one record gets in one space."""

    space: int
    record: int
    parts: list[Part]
    numbers: list[float]
    source: Provenance | None


@dataclass(frozen=True)
class Filling:
    """What goes into a collection, in this order."""

    spaces: list[tuple[str, int, Metric, str]]
    records: list[Record]
    pieces: list[Piece]


@st.composite
def fillings(draw: st.DrawFn) -> Filling:
    some = [
        (name, draw(st.integers(1, 3)), draw(st.sampled_from(list(Metric))), draw(words))
        for name in draw(st.lists(names, max_size=3, unique=True))
    ]
    held = draw(st.lists(records, max_size=6, unique_by=lambda record: record.id))
    pieces = []
    for _ in range(draw(st.integers(0, 8)) if some and held else 0):
        space = draw(st.integers(0, len(some) - 1))
        cut = draw(st.lists(parts, max_size=3) | st.just([WHOLE]))
        size = len(cut) * some[space][1]
        pieces.append(
            Piece(
                space,
                draw(st.integers(0, len(held) - 1)),
                cut,
                draw(st.lists(numbers, min_size=size, max_size=size)),
                draw(sources),
            )
        )
    return Filling(some, held, pieces)


def fill(shop: Collection, filling: Filling) -> None:
    with shop.writing() as writer:
        there = [
            writer.space(
                name, EncoderSpec("given", model, Modality.VECTOR, dim, options={"x": model}), metric=metric
            )
            for name, dim, metric, model in filling.spaces
        ]
        if filling.records:
            writer.put(filling.records)
        for piece in filling.pieces:
            space = there[piece.space]
            rows = np.array(piece.numbers, np.float32).reshape(-1, space.dim)
            rows[~rows.any(axis=1)] = 1  # a cosine needs a direction
            rows[np.abs(rows).max(axis=1, initial=0) < 1e-10] = -1
            writer.put(
                [Record(filling.records[piece.record].id)],
                rows,
                space,
                parts=[piece.parts],
                provenance=[] if piece.source is None else [piece.source],
            )


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_what_is_exported_comes_back(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(filling=fillings(), out=st.integers(1, 4), back=st.integers(1, 4))
    def check(filling: Filling, out: int, back: int) -> None:
        monkeypatch.setattr(gather, "MOST_RECORDS", out)
        monkeypatch.setattr(parquet, "MOST_RECORDS", back)
        monkeypatch.setattr(lines, "_AT_ONCE", back)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            with search.open(folder / "one") as one, search.open(folder / "two") as two:
                fill(one, filling)
                assert one.export(folder / f"1.{form}", vectors=True) == len(filling.records)
                two.import_file(folder / f"1.{form}")
                assert list(contents(two)) == [record.id for record in filling.records]
                assert contents(two) == contents(one)
                if filling.records or form == "parquet":  # without a line, lines have no place for spaces
                    assert spaces(two) == spaces(one)
                two.export(folder / f"2.{form}", vectors=True)
                assert (folder / f"2.{form}").read_bytes() == (folder / f"1.{form}").read_bytes()
                seen.append((len(filling.records), sum(len(one.vectors) for one in contents(two).values())))

    check()
    assert sum(n > 1 and n_vectors > 1 for n, n_vectors in seen) > 10  # or this test would say little
