"""Several ways of asking together, against the same sums in plain numpy; and regions of a query picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.encoders import probes
from search.encoders.clip import ClipEncoder
from search.encoders.regions import cut_out
from search.types import EncoderSpec, Metric, Modality, Record
from tests.search.test_clip import save_tiny_clip

N = 12
WORDS = [f"{chr(97 + i)}{chr(122 - i)} {i}" for i in range(N)]


def picture(i: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, np.ndarray]:
    """For each space its vectors, row i for record `r{i}`; NaN where it has none there."""
    encoder = ClipEncoder.from_name(str(folder), device="cpu", precision="fp32")
    graph = np.random.default_rng(5).standard_normal((N, 4)).astype(np.float32)
    graph /= np.linalg.norm(graph, axis=1, keepdims=True)
    graph[::3] = np.nan
    captions = encoder.encode(WORDS)
    captions[9:] = np.nan
    return {"image": encoder.encode([picture(i) for i in range(N)]), "captions": captions, "graph": graph}


@pytest.fixture(scope="module")
def shop(folder: Path, rows: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Collection:
    shop = search.open(tmp_path_factory.mktemp("mix") / "shop")
    encoder = ClipEncoder.from_name(str(folder), device="cpu", precision="fp32")
    specs = {"image": encoder.spec, "captions": encoder.spec}
    specs["graph"] = EncoderSpec("given", "given", Modality.VECTOR, 4)
    with shop.writing() as writer:
        for name, spec in specs.items():
            known = probes.probe(encoder) if name != "graph" else None
            space = writer.space(name, spec, probes=known)
            there = np.flatnonzero(~np.isnan(rows[name][:, 0]))
            records = [Record(f"r{i}", metadata={"i": i}) for i in there.tolist()]
            writer.put(records, rows[name][there], space)
    return shop


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


def by_hand(rows: dict[str, np.ndarray], queries: dict[str, tuple[float, np.ndarray]]) -> dict[str, float]:
    """The weighted mean of the cosines in each space; 0 where a record has no vector; without those with none."""
    total = sum(weight for weight, _ in queries.values())
    scores: dict[str, float] = {}
    for name, (weight, query) in queries.items():
        for i, row in enumerate(rows[name]):
            if not np.isnan(row[0]):
                scores[f"r{i}"] = scores.get(f"r{i}", 0.0) + weight / total * float(row @ query)
    return scores


def check(hits: list[search.Hit], scores: dict[str, float], k: int) -> None:
    want = sorted(scores.items(), key=lambda one: -one[1])[:k]
    assert [hit.id for hit in hits] == [id for id, _ in want]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in want], atol=1e-5)


@pytest.mark.parametrize("weights", [None, {"image": 0.5}, {"text": 3, "image": 0.25}])
def test_words_and_a_picture_in_one_space(
    shop: Collection, rows: dict[str, np.ndarray], weights: dict[str, float] | None
) -> None:
    counts = {"text": 1.0, "image": 1.0} | (weights or {})
    words, pixels = shop.encoder("image").encode(["q x"])[0], shop.encoder("image").encode([picture(99)])[0]
    query = unit(counts["text"] * words + counts["image"] * pixels)
    hits = shop.search("q x", image=picture(99), weights=weights, space="image", k=5)
    check(hits, by_hand(rows, {"image": (1.0, query)}), 5)


def test_all_ways_over_all_spaces(shop: Collection, rows: dict[str, np.ndarray]) -> None:
    """Words go to both spaces of the model, the picture too, the like where it has vectors, the vector to its own."""
    encoder = shop.encoder("image")
    words, pixels = encoder.encode(["q x"])[0], encoder.encode([picture(99)])[0]
    vector = np.array([1, 0, 2, 0], np.float32)
    w = {"text": 1.0, "image": 0.5, "like": 2.0, "vector": 4.0}
    queries = {name: (3.5, unit(words + 0.5 * pixels + 2 * rows[name][4])) for name in ("image", "captions")}
    queries["graph"] = (6.0, unit(2 * rows["graph"][4] + 4 * unit(vector)))
    scores = by_hand(rows, queries)
    del scores["r4"]
    hits = shop.search("q x", image=picture(99), like="r4", vector=vector, weights=w, k=20, explain=True)
    check(hits, scores, 20)
    assert hits[0].explain is not None
    assert hits[0].explain["ways"] == {
        "image": {"text": 1.0, "image": 0.5, "like": 2.0},
        "captions": {"text": 1.0, "image": 0.5, "like": 2.0},
        "graph": {"like": 2.0, "vector": 4.0},
    }
    few = shop.search("q x", image=picture(99), like="r4", vector=vector, weights=w, k=3, where="i > 6")
    check(few, {id: score for id, score in scores.items() if int(id[1:]) > 6}, 3)


def test_a_like_without_a_vector_in_some_space(shop: Collection, rows: dict[str, np.ndarray]) -> None:
    words = shop.encoder("image").encode(["q x"])[0]
    scores = by_hand(
        rows, {"image": (2.0, unit(words + rows["image"][9])), "captions": (1.0, words)}
    )  # r9 has no caption
    del scores["r9"]
    check(shop.search("q x", like="r9", k=20), scores, 20)


def test_under_another_metric_the_weighted_mean_is_the_query(tmp_path: Path) -> None:
    with search.open(tmp_path / "far") as shop:
        with shop.writing() as writer:
            space = writer.space("v", EncoderSpec("given", "given", Modality.VECTOR, 2), metric=Metric.L2)
            writer.put([Record(i) for i in "abc"], np.array([[0, 0], [4, 0], [0, 9]], np.float32), space)
        hits = shop.search(vector=[0, 8], like="b", weights={"vector": 3}, k=2)  # (1, 6)
    assert [(hit.id, hit.score) for hit in hits] == [("c", -10.0), ("a", -37.0)]


# ---- regions -----------------------------------------------------------------------------------------------------


def test_a_region_is_what_is_cut_out(shop: Collection, tmp_path: Path) -> None:
    whole = picture(99)
    whole.save(tmp_path / "q.png")
    cut = Image.fromarray(np.asarray(whole)[10:30, 5:40])
    want = shop.search(image=cut, space="image", k=4)
    for image in (whole, tmp_path / "q.png", str(tmp_path / "q.png")):
        assert shop.search(image=image, region=(5, 10, 35, 20), space="image", k=4) == want
    assert want != shop.search(image=whole, space="image", k=4)


def test_a_region_counts_from_the_upright_picture(shop: Collection, tmp_path: Path) -> None:
    whole = picture(99)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    whole.save(tmp_path / "lying.png", exif=exif)
    cut = Image.fromarray(np.rot90(np.asarray(whole), -1)[20:48, 3:23])
    want = shop.search(image=cut, space="image", k=4)
    assert shop.search(image=tmp_path / "lying.png", region=[3, 20, 20, 28], space="image", k=4) == want


def test_a_box_takes_each_pixel_that_it_touches() -> None:
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    image = Image.fromarray(pixels)
    for box, (x0, y0, x1, y1) in {
        (0, 0, 8, 6): (0, 0, 8, 6),
        (1.5, 2.2, 2, 1): (1, 2, 4, 4),
        (1.0001, 2, 2.9998, 1): (1, 2, 4, 3),
        (7.6, 5.6, 0.4, 0.4): (7, 5, 8, 6),
        (2.9999, 0, 0.0001, 1): (3, 0, 4, 1),
    }.items():
        np.testing.assert_array_equal(np.asarray(cut_out(image, box)), pixels[y0:y1, x0:x1], str(box))


@pytest.mark.parametrize(
    ("region", "wrong"),
    [
        (
            (40, 0, 9, 5),
            r"reaches beyond the picture, which is 48 x 40 pixels as it is shown; give one inside",
        ),
        ((-1, 0, 9, 5), "reaches beyond"),
        ((0, 36, 9, 4.5), "reaches beyond"),
        ((0, 0, 0, 5), "is 0 x 5 pixels; give"),
        ((0, 0, 5), "give four numbers"),
        ("0,0,5,5", "give four numbers"),
        ((0, 0, float("nan"), 5), "no number"),
        ((0, 0, "5", 5), "no number"),
    ],
)
def test_a_region_that_is_none(shop: Collection, region: Any, wrong: str) -> None:
    with pytest.raises(search.QueryError, match=wrong):
        shop.search(image=picture(99), region=region, space="image")
    with pytest.raises(search.QueryError, match="one query picture"):
        shop.search(image=[picture(99)], region=(0, 0, 1, 1), space="image")


def test_the_command_line_mixes_and_cuts(shop: Collection, tmp_path: Path, capsys: Any) -> None:
    picture(99).save(tmp_path / "q.png")
    asked = [
        "search",
        "q x",
        "--image",
        str(tmp_path / "q.png"),
        "--like",
        "r4",
        "--space",
        "image",
        "-k",
        "3",
    ]
    asked += ["-c", str(shop.path), "--json", "--device", "cpu"]
    assert (
        outcome(app, [*asked, "--weight", "image=0.5", "--weight", "like=2", "--region", "5,10,35,20"]) == 0
    )
    got = json.loads(capsys.readouterr().out)
    weights = {"image": 0.5, "like": 2}
    want = shop.search(
        "q x", image=picture(99), like="r4", weights=weights, region=(5, 10, 35, 20), space="image", k=3
    )
    assert [hit["id"] for hit in got] == [hit.id for hit in want]
    np.testing.assert_allclose([hit["score"] for hit in got], [hit.score for hit in want], atol=1e-5)
    for wrong in (["--weight", "image=x"], ["--region", "5,x"]):
        assert outcome(app, [*asked, *wrong]) == 2
    assert outcome(app, [*asked, "--region", "5,5"]) == 1
    assert "give four numbers" in capsys.readouterr().err
