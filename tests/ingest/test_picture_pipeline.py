"""Pictures on their way into a collection: decoded ahead, prepared, with thumbnails, and what a second run does."""

from __future__ import annotations

import gc
import io
import os
import sqlite3
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ingest
import search
from ingest import decoding, decoding_process, pipeline
from ingest.decoding import Decoded
from ingest.picture_forecast import PictureOutlook
from ingest.pipeline import Job, Ready
from ingest.report import QUIET, Report
from ingest.sources.contract import Item, Rejected
from ingest.sources.pictures import PictureFormat, Pictures
from ingest.thumbnails import Thumbnails, make_missing
from search.collection import Collection
from search.encoders.contract import Pixels
from search.errors import CollectionCorrupt, SourceError
from tests.pictures import ColourModel, MeanColour, save

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


@pytest.fixture
def album(tmp_path: Path):
    with search.open(tmp_path / "album") as opened:
        yield opened


def fill(
    album: Collection,
    path: Path,
    model: ColourModel,
    *,
    small: int | None = None,
    prune: bool = False,
    space: str = "image",
) -> Report:
    thumbnails = None if small is None else Thumbnails(small)
    job = Job(
        space, "colour", lambda: model, Decoded(lambda: model, thumbnails=thumbnails), "pictures", prune=prune
    )
    return pipeline.fill(album, Pictures([path]), job, QUIET)


def test_pictures_are_prepared_before_the_network_sees_them(album: Collection, tmp_path: Path) -> None:
    for name, colour in (("r.png", RED), ("g.png", GREEN), ("b.png", BLUE)):
        save(tmp_path / "in" / name, colour)
    (tmp_path / "in" / "bad.png").write_bytes(b"bad")
    model = ColourModel()
    report = fill(album, tmp_path / "in", model)
    assert (report.read, report.added, report.rejected, report.vectors) == (4, 3, 1, 3)
    seen = model.seen[1:]  # the first is the probe that every new space asks for
    assert [one.shape for one in seen if isinstance(one, np.ndarray)] == [(3, 1, 1)] * 3
    hits = album.search(vector=[1, 0.5, 0], k=3, space="image")
    assert [hit.id for hit in hits] == ["r.png", "g.png", "b.png"]
    np.testing.assert_allclose([hit.score for hit in hits], [2 / 5**0.5, 1 / 5**0.5, 0], atol=1e-6)


def test_the_report_names_the_stage_that_the_others_waited_for(album: Collection, tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "in" / f"{number}.png")

    class Slow(ColourModel):
        def encode(self, items, *, role="document"):
            time.sleep(0.3)
            return super().encode(items, role=role)

    report = fill(album, tmp_path / "in", Slow())
    assert report.limit is not None
    assert report.limit.stage == "encode"
    assert 0.3 < report.limit.busy <= 1
    assert report.to_json()["limit"] == {"stage": "encode", "busy": report.limit.busy}
    assert fill(album, tmp_path / "in", ColourModel()).limit is None  # nothing was encoded


def items_of(folder: Path) -> list[Item]:
    return [one for one in Pictures([folder]) if isinstance(one, Item)]


def test_decoding_keeps_the_order_and_rejects_alone(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"{number:02}.png", (number, 0, 0))
    items = items_of(tmp_path)
    (tmp_path / "07.png").write_bytes((tmp_path / "07.png").read_bytes()[:45])
    (tmp_path / "09.png").unlink()
    outcome = list(Decoded(ColourModel, threads=4)(items))
    rejected = [one for one in outcome if isinstance(one, Rejected)]
    ready = [one for one in outcome if isinstance(one, Ready)]
    assert [one.id for one in rejected] == ["07.png", "09.png"]
    assert "cannot be decoded" in rejected[0].reason
    assert "no such file" in rejected[1].reason
    assert [one.item.record.id for one in ready] == [f"{n:02}.png" for n in range(40) if n not in (7, 9)]
    for one in ready:
        (pixels,) = one.encodable
        assert isinstance(pixels, np.ndarray)
        assert pixels[0, 0, 0] == int(one.item.record.id[:2])


class Deadly(MeanColour):
    """Kills its process at a picture of one pixel."""

    def __call__(self, picture: Image.Image) -> Pixels:
        if picture.size == (1, 1):
            os._exit(9)
        return super().__call__(picture)


def test_processes_give_the_same_and_outlive_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(24):
        save(tmp_path / "in" / f"{number:02}.png", (number, 0, 0), (40, 30))
    save(tmp_path / "in" / "13.png", RED, (1, 1))
    (tmp_path / "in" / "07.png").write_bytes((tmp_path / "in" / "07.png").read_bytes()[:45])
    with zipfile.ZipFile(tmp_path / "in" / "z.zip", "w") as archive:
        archive.writestr("a.png", (tmp_path / "in" / "02.png").read_bytes())
    items = items_of(tmp_path / "in")
    monkeypatch.setattr(decoding, "PROCESSES_AFTER", 2)
    model = ColourModel()
    model.preparation = Deadly()
    decoded = Decoded(lambda: model, processes=2, thumbnails=Thumbnails(16))
    list(decoded(items[:2]))  # they start
    assert decoded._processes is not None
    while decoded._processes.ready < 2:
        time.sleep(0.05)
    outcome = list(decoded(items))
    ready = {one.item.record.id: one for one in outcome if isinstance(one, Ready)}
    rejected = {one.id: one.reason for one in outcome if isinstance(one, Rejected)}
    assert set(rejected) == {"07.png", "13.png"}
    assert "cannot be decoded" in rejected["07.png"]
    assert rejected["13.png"] == "the process that decoded it died; replace it or leave it out"
    assert list(ready) == [item.record.id for item in items if item.record.id not in rejected]
    for id, one in ready.items():
        (pixels,) = one.encodable
        assert isinstance(pixels, np.ndarray)
        assert pixels[0, 0, 0] == (2 if id == "z.zip/a.png" else int(id[:2]))
        assert one.thumbnail is not None
    ended = [one._process for one in decoded._processes._every]
    del decoded
    gc.collect()
    assert [one.poll() for one in ended] == [0, 0]


def test_only_a_gpu_is_fed_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "available_cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [decoding.processes_for(name) for name in ("cpu", "mps", "cuda", "cuda:1", "auto")] == [
        0,
        0,
        7,
        7,
        7,
    ]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert decoding.processes_for("auto") == 0
    monkeypatch.setattr(decoding, "available_cores", lambda: 2)
    assert decoding.processes_for("cuda") == 0


def test_without_an_encoder_the_picture_itself_is_given(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED, (700, 500))
    (one,) = Decoded()(items_of(tmp_path))
    assert isinstance(one, Ready)
    (picture,) = one.encodable
    assert isinstance(picture, Image.Image)
    assert picture.size == (700, 500)
    assert one.weight == 700 * 500 * 3 / decoding.PREPARED_BYTES


def test_a_small_picture_weighs_its_share_of_a_handful(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED, (7, 5))
    (one,) = Decoded(ColourModel)(items_of(tmp_path))
    assert isinstance(one, Ready)
    assert one.weight == 1 / decoding.PICTURES_AT_ONCE


def test_whole_pictures_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        save(tmp_path / f"{number:02}.png", size=(10, 10))
    save(tmp_path / "large.png", size=(40, 40))
    monkeypatch.setattr(decoding, "DECODING_PIXELS", 250)
    decoded = Decoded(ColourModel, threads=6)
    inside, most = [0], [0]
    real = decoding_process.open_picture

    def counted(*arguments, **more):
        picture = real(*arguments, **more)
        inside[0] += picture.width * picture.height
        most[0] = max(most[0], inside[0])
        return picture

    prepare = MeanColour.__call__

    def prepared(self, picture):
        time.sleep(0.01)
        inside[0] -= picture.width * picture.height if picture.size != (64, 64) else 0
        return prepare(self, picture)

    monkeypatch.setattr(decoding_process, "open_picture", counted)
    monkeypatch.setattr(MeanColour, "__call__", prepared)
    assert len(list(decoded(items_of(tmp_path)))) == 13
    assert most[0] in (1600, 100, 200)  # the large one alone, the others in twos
    assert most[0] == 1600


def test_draft_decodes_no_more_than_the_network_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slope = np.tile(np.linspace(0, 255, 512).astype(np.uint8), (512, 1))
    Image.fromarray(slope).save(tmp_path / "a.jpg", quality=95)
    sizes = []

    class Sized(MeanColour):
        def __call__(self, picture):
            sizes.append(picture.size)
            return np.zeros((3, 56, 56), np.float32)

    model = ColourModel()
    model.preparation = Sized()
    list(Decoded(lambda: model, draft=True)(items_of(tmp_path)))
    list(Decoded(lambda: model)(items_of(tmp_path)))
    list(Decoded(lambda: model, draft=True, thumbnails=Thumbnails(200))(items_of(tmp_path)))
    assert sizes == [
        (64, 64),
        (64, 64),
        (512, 512),
        (64, 64),
        (256, 256),
    ]  # the first of each draft asks the side


def shown(album: Collection, id: str) -> Image.Image:
    data = album.thumbnail(id)
    assert data is not None
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "WEBP"
    return picture.convert("RGB")


def test_thumbnails_follow_their_records(album: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "a.png", RED, (400, 200))
    save(folder / "b.png", GREEN, (20, 30))
    save(folder / "c.png", BLUE)
    fill(album, folder, ColourModel(), small=64)
    assert shown(album, "a.png").size == (64, 32)
    assert shown(album, "b.png").size == (20, 30)
    np.testing.assert_allclose(shown(album, "a.png").getpixel((9, 9)), RED, atol=12)
    assert album.thumbnail("nobody") is None
    said = album.info()["thumbnails"]
    assert isinstance(said, dict)
    assert said["count"] == 3
    assert said["bytes"] == sum(len(album.thumbnail(id) or b"") for id in ("a.png", "b.png", "c.png"))

    save(folder / "a.png", GREEN, (200, 400))  # another picture: another thumbnail, or none
    fill(album, folder, ColourModel(), small=64)
    assert shown(album, "a.png").size == (32, 64)
    save(folder / "a.png", BLUE, (100, 100))
    fill(album, folder, ColourModel())
    assert album.thumbnail("a.png") is None

    (folder / "b.png").unlink()
    fill(album, folder, ColourModel(), prune=True)
    assert album.thumbnail("b.png") is None
    album.delete("c.png")
    assert album.info()["thumbnails"] == {"count": 0, "bytes": 0}
    assert album.check() == []


def test_another_space_of_the_same_pictures_leaves_thumbnails(album: Collection, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", RED)
    fill(album, tmp_path / "in", ColourModel(), small=64)
    fill(album, tmp_path / "in", ColourModel(), space="second")
    assert album.thumbnail("a.png") is not None
    with album.writing() as writer:
        writer.withdraw(["a.png"], album.spaces()["second"])
    assert album.thumbnail("a.png") is not None


def test_what_was_taken_in_without_gets_its_thumbnail_later(album: Collection, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, RED, (100, 50))
    fill(album, tmp_path / "in", ColourModel())
    source = Pictures([tmp_path / "in"])
    with album.writing() as writer:
        assert make_missing(album, writer, source, Thumbnails(32)) == 2
        assert make_missing(album, writer, source, Thumbnails(32)) == 0
        assert make_missing(album, writer, source, Thumbnails(16)) == 2
    assert shown(album, "b.png").size == (16, 8)
    with pytest.raises(SourceError, match="give 16 to 2048"):
        Thumbnails(5)


def test_thumbnails_are_copied_and_damage_is_noticed(album: Collection, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", RED)
    fill(album, tmp_path / "in", ColourModel(), small=64)
    album.backup(tmp_path / "copy")
    with search.open(tmp_path / "copy", "r") as copy:
        assert copy.thumbnail("a.png") == album.thumbnail("a.png")
        catalog = copy.layout.catalog
    with sqlite3.connect(catalog) as connection:
        connection.execute("update thumbnail set data = cast(data || x'00' as blob)")
        connection.execute("insert into thumbnail values (999, 64, x'00', 0)")
    connection.close()
    with search.open(tmp_path / "copy", "r") as copy:
        with pytest.raises(CollectionCorrupt, match="thumbnail of record 1 does not match"):
            copy.thumbnail("a.png")
        found = copy.check()
    assert any("thumbnail of record 1 does not match" in line for line in found)
    assert any("thumbnail of record 999 is of no record" in line for line in found)


def test_a_caption_is_text_that_can_be_filtered_and_changed(album: Collection, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", RED)
    save(tmp_path / "in" / "b.png", RED)
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.txt").write_text("the same words", encoding="utf-8")
    model = ColourModel()
    fill(album, tmp_path / "in", model)
    assert [hit.id for hit in album.search(vector=[1, 0, 0], where="text like '%same%'", space="image")] == [
        "a.png",
        "b.png",
    ]
    (tmp_path / "in" / "a.txt").write_text("other words", encoding="utf-8")
    report = fill(album, tmp_path / "in", model)
    assert (report.updated, report.unchanged) == (1, 1)
    record = album.get("a.png")[0]
    assert record is not None
    assert record.text == "other words"
    assert (
        sum(isinstance(one, np.ndarray) for one in model.seen) == 3
    )  # decoded once, though its text is known


def test_frames_all_and_back(album: Collection, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), one) for one in (RED, GREEN, BLUE)]
    (tmp_path / "in").mkdir()
    frames[0].save(tmp_path / "in" / "clip.gif", save_all=True, append_images=frames[1:])
    model = ColourModel()
    job = Job("image", "colour", lambda: model, Decoded(lambda: model), "pictures", prune=True)
    pipeline.fill(album, Pictures([tmp_path / "in"], PictureFormat(frames="all")), job, QUIET)
    assert [hit.id for hit in album.search(vector=[0, 1, 0], k=1, space="image")] == ["clip.gif#2"]
    assert album.count() == 3
    pipeline.fill(album, Pictures([tmp_path / "in"]), job, QUIET)
    assert [record.id for record in album.get(["clip.gif"]) if record] == ["clip.gif"]
    assert album.count() == 1


def test_a_forecast_beside_the_run(tmp_path: Path) -> None:
    for number in range(150):
        save(tmp_path / "in" / f"{number:03}.png", (number, 90, 90), (120, 90))
    model = ColourModel()
    job = Job("image", "colour", lambda: model, Decoded(lambda: model, thumbnails=Thumbnails(32)), "pictures")
    source = Pictures([tmp_path / "in"])
    report = pipeline.forecast(
        None, source, ("image", "colour", "pictures"), prune=False, seer=PictureOutlook(job)
    )
    told = report.forecast
    assert told is not None
    assert (report.added, report.vectors, told.passages, told.tokens) == (150, 150, 150, 0)
    assert told.seconds is not None
    assert told.seconds > 0
    assert told.memory_bytes is None or told.memory_bytes > 1_000_000
    assert len(model.seen) <= 2 * 64  # a sample
    with search.open(tmp_path / "album") as album:
        pipeline.fill(album, source, job, QUIET)
    used = sum(file.stat().st_size for file in (tmp_path / "album").rglob("*") if file.is_file())
    assert used / 1.4 < told.disk_bytes < used * 1.4


def test_the_verb_makes_thumbnails_of_unchanged_pictures_and_reads_lists(tmp_path: Path) -> None:
    rows = ["sku,file,price"]
    for number in range(12):
        save(tmp_path / "in" / f"{number}.png", (20 * number, 90, 255 - 20 * number), (40, 20 + number))
        rows.append(f"k{number},{number}.png,{number}")
    (tmp_path / "in" / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    path = tmp_path / "in" / "list.csv"
    first = ingest.images(tmp_path / "shop", path, model="patches", form=PictureFormat(path="file", id="sku"))
    assert (first.added, first.rejected) == (12, 0)
    again = ingest.images(tmp_path / "shop", path, model="patches", thumbnails=32)
    assert (again.unchanged, again.vectors) == (12, 0)
    with search.open(tmp_path / "shop", "r") as shop:
        assert shown(shop, "k3").size == (32, round(23 * 32 / 40))
        assert [hit.id for hit in shop.search(like="k3", where="price = 4", k=5)] == ["k4"]
    dry = ingest.images(tmp_path / "other", path, model="patches", dry_run=True)
    assert (dry.added, dry.forecast) == (12, None)
    assert not (tmp_path / "other").exists()
    with pytest.raises(SourceError, match="give 16 to 2048"):
        ingest.images(tmp_path / "other", path, model="patches", thumbnails=0)
