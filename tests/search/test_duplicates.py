"""Duplicates: what is equal, what is near, what is kept, and what a deletion leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ingest
import search
from ingest.cli.main import app
from search.catalog.part_writes import Provenance
from search.cli.main import outcome
from search.collection import Collection
from search.types import Duplicates, EncoderSpec, Modality, Part, Record
from tests.search.test_clip import save_tiny_clip


def at(*degrees: float) -> np.ndarray:
    """Unit vectors at these angles."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def filled(
    path: Path, records: list[Record], rows: np.ndarray, modality: Modality = Modality.IMAGE, **more: Any
) -> Collection:
    shop = search.open(path)
    with shop.writing() as writer:
        space = writer.space("s", EncoderSpec("given", "given", modality, rows.shape[1]))
        writer.put(records, rows, space, **more)
    return shop


def told(found: list[Duplicates]) -> dict[str, list[tuple[str, bool]]]:
    """By the id of each record kept, those near to it in the order of their ids, and whether they are equal."""
    return {group.kept.id: sorted((hit.id, hit.explain["exact"]) for hit in group.others) for group in found}


def sized(id: str, width: int, height: int, n_bytes: int = 1) -> Record:
    return Record(id, "image", f"{id}.png", metadata={"width": width, "height": height, "bytes": n_bytes})


@pytest.fixture
def shop(tmp_path: Path) -> Collection:
    """Three within 8 degrees, two within 5, one alone, and one equal to it."""
    records = [
        sized("small", 10, 10),
        sized("large", 40, 30),
        sized("also small", 10, 10, 900),
        sized("b", 9, 9),
        sized("a", 9, 9),
        sized("alone", 5, 5),
        sized("its copy", 5, 5),
    ]
    return filled(tmp_path / "shop", records, at(0, 4, 8, 50, 55, 120, 120))


def test_the_largest_is_kept(shop: Collection) -> None:
    found = shop.duplicates(min_score=0.99)  # 8.1 degrees
    assert told(found) == {
        "large": [("also small", False), ("small", False)],
        "b": [("a", False)],
        "alone": [("its copy", True)],
    }
    (first, *_) = found
    assert (first.kept.score, first.kept.uri, first.kept.space) == (1.0, "large.png", "s")
    np.testing.assert_allclose([hit.score for hit in first.others], [np.cos(np.radians(4))] * 2, atol=1e-6)


def test_the_first_is_kept(shop: Collection) -> None:
    assert told(shop.duplicates(min_score=0.99, keep="first")) == {
        "small": [("also small", False), ("large", False)],
        "b": [("a", False)],
        "alone": [("its copy", True)],
    }


def test_of_a_chain_nothing_goes_that_is_far_from_what_is_kept(shop: Collection) -> None:
    """At 5.1 degrees `small` and `also small` hang together by `large` alone."""
    chain = told(shop.duplicates(min_score=0.996, keep="first"))
    assert chain["small"] == [("large", False)]
    assert told(shop.duplicates(min_score=0.996))["large"] == [("also small", False), ("small", False)]


def test_resolution_then_bytes_then_the_first(tmp_path: Path) -> None:
    records = [sized("a", 10, 10, 5), sized("b", 10, 10, 7), sized("c", 10, 10, 7), sized("d", 9, 11, 9)]
    shop = filled(tmp_path / "c", records, at(0, 1, 2, 3))
    assert told(shop.duplicates())["b"] == [("a", False), ("c", False), ("d", False)]
    odd = [Record("x", metadata={"width": "wide", "height": True}), sized("y", 1, 1)]
    assert list(told(filled(tmp_path / "odd", odd, at(0, 1)).duplicates())) == ["y"]


def test_of_texts_the_longest_is_kept_and_passages_are_averaged(tmp_path: Path) -> None:
    records = [Record("short", text="ab"), Record("long", text="ab cd"), Record("other", text="xy zz qq")]
    parts = [[Part(0, 2)], [Part(0, 2), Part(3, 5)], [Part(0, 2), Part(3, 8)]]
    shop = filled(tmp_path / "c", records, at(2, -10, 12, 0, 90), Modality.TEXT, parts=parts)
    assert told(shop.duplicates(min_score=0.999)) == {"long": [("short", False)]}  # 1 degree, and not 12


def test_a_picture_with_objects_counts_as_its_whole(tmp_path: Path) -> None:
    box = Part(box=(0, 0, 1, 1), label="cup", score=0.9)
    shop = filled(
        tmp_path / "c", [sized("a", 1, 1), sized("b", 2, 2)], at(0, 80, 1), parts=[[Part(), box], [Part()]]
    )
    assert told(shop.duplicates(min_score=0.999)) == {"b": [("a", False)]}


@pytest.mark.parametrize("modality", list(Modality))
def test_equal_contents_are_equal_but_for_rounding(tmp_path: Path, modality: Modality) -> None:
    """By the hash that ingest keeps: of a picture the whole, of a text the end of it, which is about the text.

    Of a graph it is that of all of it, and of a picture that is one of many in a file it may be that of the file.
    """
    tails = {Modality.IMAGE: b"", Modality.TEXT: b"samecontents"}
    firsts = {Modality.IMAGE: (1, 1, 1, 4, 5), Modality.TEXT: (1, 2, 3, 4, 5)}.get(modality, (1, 1, 1, 1, 1))
    ends = [tails.get(modality, b"")] * 3 + [b"", b""]
    sources = [Provenance(bytes([i]) * 16 + end, "/x") for i, end in zip(firsts, ends, strict=True)]
    records = [Record(i) for i in "abcde"]
    shop = filled(tmp_path / "c", records, at(0, 0.1, 90, 180, 270), modality, provenance=sources)
    known = modality in tails
    assert told(shop.duplicates()) == {"a": [("b", known)]}
    assert shop.duplicates()[0].others[0].score == pytest.approx(1, abs=2e-6)


def test_a_condition_and_a_space(shop: Collection) -> None:
    assert told(shop.duplicates("s", min_score=0.99, where="width < 20")) == {
        "also small": [("small", False)],
        "b": [("a", False)],
        "alone": [("its copy", True)],
    }
    shop.add([{"id": "a"}, {"id": "b"}], at(0, 0), space="v")
    assert len(shop.duplicates(min_score=0.99)) == 3  # still that of the pictures
    assert told(shop.duplicates("v")) == {"b": [("a", True)]}


def test_deleting_leaves_those_kept(shop: Collection, tmp_path: Path) -> None:
    shop.delete("large")
    found = shop.duplicates(min_score=0.99, delete=True)
    assert told(found) == {
        "also small": [("small", False)],
        "b": [("a", False)],
        "alone": [("its copy", True)],
    }
    left = ["also small", "b", "alone"]
    assert sorted(hit.id for hit in shop.search(vector=[1, 0], k=9)) == sorted(left)
    assert shop.duplicates(min_score=0.99) == []


def test_nothing_and_one_record(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", [Record("a")], at(0))
    assert shop.duplicates() == []
    shop.delete("a")
    assert shop.duplicates(delete=True) == []


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"min_score": 0}, search.QueryError, "above 0, up to 1"),
        ({"min_score": 1.2}, search.QueryError, "above 0, up to 1"),
        ({"min_score": "high"}, search.QueryError, "above 0, up to 1"),
        ({"keep": "best"}, search.QueryError, "keep the largest or first"),
        ({"space": "t"}, search.UnknownSpace, "no space 't'"),
        ({"where": "widht < 3"}, search.FilterError, "did you mean width"),
    ],
)
def test_what_makes_no_sense(shop: Collection, arguments: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        shop.duplicates(**arguments)


def test_of_several_spaces_one_is_named(shop: Collection, tmp_path: Path) -> None:
    shop.add([{"id": "a"}, {"id": "b"}], at(0, 0), space="v")
    with search.open(tmp_path / "none") as empty, pytest.raises(search.UnknownSpace, match="no space yet"):
        empty.duplicates()
    shop.add([{"id": "a"}], at(0), space="w")
    with shop.writing() as writer:
        writer.space("more pictures", EncoderSpec("given", "given", Modality.IMAGE, 2))
    with pytest.raises(search.UnknownSpace, match=r"several spaces are there .*; name one with --space"):
        shop.duplicates()


def test_pictures_from_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two files of the same bytes, one of the same pixels in another format, a smaller one, and two others."""
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "x", "y"):
        pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(photos / f"{name}.png")
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes())
    with Image.open(photos / "a.png") as a:
        a.save(photos / "c.bmp")
        a.resize((24, 24), Image.Resampling.BICUBIC).save(photos / "d.png")
    ingest.images(tmp_path / "c", photos, model=str(save_tiny_clip(tmp_path / "clip")))
    with search.open(tmp_path / "c") as shop:
        scores = {hit.id: hit.score for hit in shop.search(like="a.png", k=9)}
    assert scores["d.png"] > max(scores["x.png"], scores["y.png"]) + 1e-3
    bound = scores["d.png"] - 1e-4
    asked = ["duplicates", "-c", str(tmp_path / "c"), "--min-score", str(bound)]
    assert outcome(app, [*asked, "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    (group,) = got["groups"]
    assert group["kept"]["id"] == "c.bmp"  # as many pixels, more bytes
    exact = {hit["id"]: hit["explain"]["exact"] for hit in group["others"]}
    assert exact == {"a.png": True, "b.png": True, "d.png": False}
    assert (got["duplicates"], got["deleted"]) == (3, False)
    assert outcome(app, [*asked, "--keep", "first"]) == 0
    assert "3 duplicates that --delete would delete, of 1 records that are kept" in capsys.readouterr().out
    assert outcome(app, [*asked, "--delete", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] is True
    with search.open(tmp_path / "c", "r") as shop:
        assert shop.count() == 3
        assert shop.get(["a.png", "c.bmp"])[0] is None
    assert outcome(app, ["duplicates", "-c", str(tmp_path / "nowhere"), "--delete"]) == 1
    assert not (tmp_path / "nowhere").exists()
