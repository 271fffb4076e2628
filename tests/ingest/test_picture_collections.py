"""Pictures in archives, shards and lists, with what stands beside them; and frames as records."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from ingest.sources import picture_archives, picture_sidecars
from ingest.sources.contract import Item, Rejected
from ingest.sources.pictures import PictureFormat, Pictures
from search.encoders.pictures import open_picture
from search.errors import SourceError
from tests.pictures import png, save

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def read(source: Pictures) -> tuple[dict[str, Item], dict[str | None, str]]:
    """The items by their ids, and the reasons of what was rejected by id."""
    every = list(source)
    items = {one.record.id: one for one in every if isinstance(one, Item)}
    return items, {one.id: one.reason for one in every if isinstance(one, Rejected)}


def colour(item: Item) -> object:
    assert item.picture is not None
    assert not isinstance(item.picture, str)
    return open_picture(item.picture).getpixel((0, 0))


def pack(path: Path, members: Mapping[str, bytes]) -> Path:
    """An archive of the kind that the name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


SHARD = {
    "a/0001.png": png(RED),
    "a/0001.txt": b"a red thing\n",
    "a/0001.json": b'{"url": "https://example.org/1", "width": 1200, "when": "31 Jan 2024"}',
    "a/0002.png": png(GREEN),
    "a/0002.json": b'{"caption": "a green thing", "stars": 4}',
    "a/0002.cls": b"17",
    "a/0003.png": png(BLUE),
    "b/0001.txt": b"of another folder",
    "a/.hidden.png": png(RED),
    "a/notes.md": b"# nothing",
    "a/0004.png": b"no picture",
}


@pytest.mark.parametrize("name", ["shard.zip", "shard.tar", "shard.tar.gz", "shard.tgz"])
def test_an_archive_gives_its_pictures_with_what_is_beside_them(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name, SHARD)
    source = Pictures([path])
    items, rejected = read(source)
    assert list(items) == [f"{name}/a/{number}.png" for number in ("0001", "0002", "0003")]
    assert [colour(item) for item in items.values()] == [RED, GREEN, BLUE]
    first, second, third = items.values()
    assert first.record.text == "a red thing"
    assert first.record.metadata == {
        "width": 1200,  # what the user says of a picture counts before its header
        "height": 6,
        "format": "PNG",
        "bytes": len(png(RED)),
        "folder": f"{name}/a",
        "url": "https://example.org/1",
        "when": "2024-01-31",
    }
    assert second.record.text == "a green thing"
    assert (second.record.metadata or {})["class"] == 17
    assert (second.record.metadata or {})["stars"] == 4
    assert "caption" not in (second.record.metadata or {})
    assert third.record.text is None
    assert {item.origin for item in items.values()} == {str(path)}
    assert {item.record.uri for item in items.values()} == {str(path)}
    assert list(rejected) == [f"{name}/a/0004.png"]
    assert "is not a picture" in rejected[f"{name}/a/0004.png"]
    assert source.origins == (str(path),)
    assert len(list(source.pictures())) == 4
    again, _ = read(Pictures([path]))
    assert {id: item.digest for id, item in again.items()} == {id: item.digest for id, item in items.items()}


def test_archives_in_a_folder_are_read_and_those_without_pictures_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "b.png", RED)
    pack(tmp_path / "photos" / "a.zip", {"x.png": png(GREEN)})
    pack(tmp_path / "photos" / "c.zip", {"x.txt": b"text"})
    items, rejected = read(Pictures([tmp_path / "photos"]))
    assert [(id, colour(item)) for id, item in items.items()] == [("a.zip/x.png", GREEN), ("b.png", RED)]
    assert {item.origin for item in items.values()} == {str(tmp_path / "photos")}
    assert not rejected
    _, rejected = read(Pictures([tmp_path / "photos" / "c.zip"]))
    assert rejected == {None: "there is no picture in it; name another"}


def test_damaged_and_hostile_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = png(RED)
    inside = pack(tmp_path / "in.zip", {"x.png": good})
    path = pack(
        tmp_path / "a.zip",
        {"ok.png": good, "../out.png": good, "in.zip": inside.read_bytes(), "big.png": bytes(50_000)},
    )
    monkeypatch.setattr(picture_archives, "MOST_BYTES", 40_000)
    items, rejected = read(Pictures([path]))
    assert list(items) == ["a.zip/ok.png"]
    assert "leads out of the archive" in rejected["a.zip/../out.png"]
    assert "an archive inside an archive" in rejected["a.zip/in.zip"]
    assert "larger than 0 MiB" in rejected["a.zip/big.png"]
    whole = pack(tmp_path / "b.tar", {"1.png": good, "2.png": good, "3.png": good}).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: 1536 + 30])
    items, rejected = read(Pictures([tmp_path / "b.tar"]))
    assert list(items) == ["b.tar/1.png"]
    assert any("damaged" in reason for reason in rejected.values())
    (tmp_path / "c.zip").write_bytes(b"PK\3\4 and no more")
    items, rejected = read(Pictures([tmp_path / "c.zip"]))
    assert not items
    assert "damaged, or no zip archive" in rejected[None]
    data = bytearray(inside.read_bytes())
    data[60] ^= 255
    (tmp_path / "d.zip").write_bytes(bytes(data))
    _, rejected = read(Pictures([tmp_path / "d.zip"]))
    assert "damaged" in rejected["d.zip/x.png"] or "decoded" in rejected["d.zip/x.png"]


def test_a_bomb_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"bomb.png": bytes(100 << 20), "ok.png": png(RED)})
    items, rejected = read(Pictures([path]))
    assert list(items) == ["a.zip/ok.png"]
    assert "as a zip bomb does" in rejected["a.zip/bomb.png"]


def test_sidecars_on_the_disk_change_the_digest(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    save(tmp_path / "b.png", GREEN)
    before, _ = read(Pictures([tmp_path]))
    assert before["a.png"].record.text is None
    (tmp_path / "a.txt").write_bytes("ein rotes Stück\n".encode("latin-1"))
    (tmp_path / "b.png.json").write_text(json.dumps({"stars": 3, "tags": ["x"]}), encoding="utf-8")
    after, _ = read(Pictures([tmp_path]))
    assert after["a.png"].record.text == "ein rotes Stück"
    assert (after["b.png"].record.metadata or {})["tags"] == ["x"]
    assert all(after[id].digest != before[id].digest for id in ("a.png", "b.png"))
    single, _ = read(Pictures([tmp_path / "a.png"]))
    assert single["a.png"].record.text == "ein rotes Stück"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "no JSON object"),
        (b"[1]", "holds no object"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b" " * 200, "larger"),
    ],
)
def test_a_bad_sidecar_rejects_its_picture_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setattr(picture_sidecars, "MOST_BYTES", 100)
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    (tmp_path / "a.json").write_bytes(content)
    items, rejected = read(Pictures([tmp_path]))
    assert list(items) == ["b.png"]
    assert rejected["a.png"].startswith("a.json beside it")
    assert reason in rejected["a.png"]


def test_frames_become_records(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), one) for one in (RED, GREEN)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "clip.txt").write_text("two colours", encoding="utf-8")
    save(tmp_path / "still.png", BLUE)
    first, _ = read(Pictures([tmp_path]))
    assert list(first) == ["clip.gif", "still.png"]
    items, _ = read(Pictures([tmp_path], PictureFormat(frames="all")))
    assert list(items) == ["clip.gif#1", "clip.gif#2", "still.png"]
    assert [colour(item) for item in items.values()][1:] == [GREEN, BLUE]
    assert {name: (items["clip.gif#2"].record.metadata or {})[name] for name in ("frame", "frames")} == {
        "frame": 2,
        "frames": 2,
    }
    assert items["clip.gif#2"].record.text == "two colours"
    assert items["clip.gif#1"].digest != items["clip.gif#2"].digest
    assert items["still.png"].digest == first["still.png"].digest
    with pytest.raises(SourceError, match="say first or all"):
        PictureFormat(frames="some")


def shop(folder: Path) -> Path:
    save(folder / "img" / "a.png", RED)
    save(folder / "img" / "b.png", GREEN)
    save(folder / "secret.png", BLUE)
    rows = [
        "sku,file,price,caption,url",
        "k1,img/a.png,35,A kettle,https://example.org/k1",
        "k2,img/../img/b.png,60,,",
        "k3,img/none.png,1,x,",
        "k4,../secret.png,1,x,",
        f"k5,{folder / 'secret.png'},1,x,",
        "k6,https://example.org/x.png,1,x,",
        "k7,,1,x,",
    ]
    path = folder / "list" / "shop.csv"
    path.parent.mkdir()
    (folder / "img").rename(folder / "list" / "img")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_list_names_pictures_and_says_what_is_known_of_them(tmp_path: Path) -> None:
    path = shop(tmp_path)
    source = Pictures([path])
    items, rejected = read(source)
    assert list(items) == ["k1", "k2"]
    assert [colour(item) for item in items.values()] == [RED, GREEN]
    record = items["k1"].record
    assert (record.kind, record.text, record.uri) == (
        "image",
        "A kettle",
        str(tmp_path / "list" / "img" / "a.png"),
    )
    assert record.metadata == {
        "width": 8,
        "height": 6,
        "format": "PNG",
        "bytes": len((tmp_path / "list" / "img" / "a.png").read_bytes()),
        "price": 35,
        "url": "https://example.org/k1",
    }
    assert items["k2"].record.text is None
    words = {
        "k3": "there is no such file",
        "k4": "leads out of",
        "k5": "leads out of",
        "k6": "nothing is fetched",
        "k7": "no path in 'file'",
    }
    assert set(rejected) == set(words)
    for id, said in words.items():
        assert said in rejected[id]
    assert (items["k1"].file, items["k1"].line) == (str(path), 2)
    assert source.origins == (str(path),)
    inside, _ = read(Pictures([path], PictureFormat(root=tmp_path)))
    assert list(inside) == ["k5"]  # the others are looked for below the root


def test_columns_of_a_list_can_be_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    rows = [
        {"doc": {"where": "a.png"}, "n": 1, "title": "One", "more": "Two"},
        {"doc": {"where": "a.png"}, "n": 2},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    form = PictureFormat(path="doc.where", id="p-{n}", text="{title}. {more}")
    items, _ = read(Pictures([path], form))
    assert [(id, item.record.text) for id, item in items.items()] == [("p-1", "One. Two"), ("p-2", None)]
    assert (items["p-1"].record.metadata or {})["title"] == "One"
    with pytest.raises(SourceError, match="no column 'nowhere' for the path"):
        Pictures([path], PictureFormat(path="nowhere"))
    path.write_text('{"x": "a.png", "y": "b"}\n', encoding="utf-8")
    with pytest.raises(SourceError, match="which column is the path; name it with --path: x, y"):
        Pictures([path])
    path.write_text('{"image": "a.png"}\n', encoding="utf-8")
    assert list(read(Pictures([path]))[0]) == ["a.png"]


def test_what_is_said_of_lists_needs_a_list(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for form in (
        PictureFormat(path="x"),
        PictureFormat(id="x"),
        PictureFormat(text="x"),
        PictureFormat(root=tmp_path),
    ):
        with pytest.raises(SourceError, match=r"is for lists of pictures .* leave it out"):
            Pictures([tmp_path], form)


def test_a_changed_row_is_another_digest(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    path = tmp_path / "list.csv"
    path.write_text("id,path,price\n1,a.png,5\n", encoding="utf-8")
    before, _ = read(Pictures([path]))
    path.write_text("id,path,price\n1,a.png,6\n", encoding="utf-8")
    after, _ = read(Pictures([path]))
    assert before["1"].digest != after["1"].digest
