"""Folders of pictures: which files, under which ids, and what is said of those that are no good."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.sources.contract import Item, Rejected
from ingest.sources.pictures import Pictures
from search.errors import SourceError


def picture(file: Path, size: tuple[int, int] = (4, 3), level: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 0, 0)).save(file)
    return file


def items(source: Pictures) -> list[Item]:
    read = list(source)
    assert all(isinstance(one, Item) for one in read)
    return [one for one in read if isinstance(one, Item)]


def test_a_record_says_what_the_file_is(tmp_path: Path) -> None:
    file = picture(tmp_path / "photos" / "summer" / "sea.png", (7, 5))
    (item,) = items(Pictures([tmp_path / "photos"]))
    assert item.record.id == "summer/sea.png"
    assert item.record.kind == "image"
    assert item.record.uri == str(file)
    assert item.record.text is None
    assert item.record.metadata == {
        "width": 7,
        "height": 5,
        "format": "PNG",
        "bytes": file.stat().st_size,
        "folder": "summer",
    }
    assert item.origin == str(tmp_path / "photos")
    assert item.picture == file
    assert item.digest == hashlib.blake2b(file.read_bytes(), digest_size=16).digest()


def test_folders_are_walked_in_order_and_other_files_ignored(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.webp", "a/b/c.tif", "c.jpeg", "d.gif", "e.bmp", "f.tiff"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    picture(tmp_path / ".hidden.png")
    picture(tmp_path / ".cache" / "x.png")
    source = Pictures([tmp_path])
    expected = ["a/b/c.tif", "a/z.webp", "b.JPG", "c.jpeg", "d.gif", "e.bmp", "f.tiff"]
    assert [item.record.id for item in items(source)] == expected
    assert [file.relative_to(tmp_path).as_posix() for file in source.pictures()] == expected
    assert len(source) == 7
    assert source.origins == (str(tmp_path),)
    assert "folder" not in (items(source)[2].record.metadata or {})
    assert list(source) == list(Pictures([str(tmp_path)]))


def test_single_files_go_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a" / "one.png")
    picture(tmp_path / "two.png")
    monkeypatch.chdir(tmp_path)
    source = Pictures(["a/one.png", "two.png", "a"])
    assert [item.record.id for item in items(source)] == ["one.png", "two.png", "one.png"]
    assert source.origins == tuple(str(tmp_path / name) for name in ("a/one.png", "two.png", "a"))


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", level=1)
    before = items(Pictures([tmp_path]))[0].digest
    os.utime(file, (1, 1))
    assert items(Pictures([tmp_path]))[0].digest == before
    picture(file, level=2)
    assert items(Pictures([tmp_path]))[0].digest != before


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    picture(photos / "real" / "a.png")
    picture(elsewhere / "b.png")
    (photos / "circle").symlink_to(photos)
    (photos / "alias").symlink_to(photos / "real")
    (photos / "other").symlink_to(elsewhere)
    assert [item.record.id for item in items(Pictures([photos]))] == ["other/b.png", "real/a.png"]


def test_bad_pictures_are_rejected_one_by_one(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "letter.jpg").write_bytes(b"Dear Sir or Madam")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    Image.fromarray(np.zeros((9000, 9000), dtype=bool)).save(tmp_path / "huge.png")
    read = list(Pictures([tmp_path]))
    rejected = {one.id: one for one in read if isinstance(one, Rejected)}
    assert [one.record.id for one in read if isinstance(one, Item)] == ["good.png"]
    words = {
        "empty.png": "the file is empty",
        "letter.jpg": "is not a picture",
        "gone.png": "no such file",
        "huge.png": "9000 x 9000 pixels",
    }
    assert set(rejected) == set(words)
    for name, said in words.items():
        assert said in rejected[name].reason
        assert str(tmp_path) not in rejected[name].reason
        assert rejected[name].file == str(tmp_path / name)


def test_a_name_that_is_no_utf8_is_rejected(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    try:
        with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
            file.write((tmp_path / "good.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    rejected = [one for one in Pictures([tmp_path]) if isinstance(one, Rejected)]
    assert [one.reason for one in rejected] == ["its name is not UTF-8; rename it"]
    assert rejected[0].file.endswith("caf?.png")


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "good.png")
    picture(tmp_path / "closed" / "a.png")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("ingest.sources.pictures.os.scandir", scandir)
    source = Pictures([tmp_path])
    told = [one for one in source if isinstance(one, Rejected)]
    assert [(one.file, one.reason) for one in told] == [
        (str(tmp_path / "closed"), "the folder may not be read; change its permissions")
    ]
    assert len(source) == 2


def test_nothing_to_read_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(SourceError, match=r"no pictures in .*; supported: .*\.jpeg \.jpg \.png"):
        Pictures([tmp_path])
    with pytest.raises(SourceError, match="no pictures in an empty list of paths"):
        Pictures([])
    with pytest.raises(SourceError, match="no picture by its suffix; supported"):
        Pictures([tmp_path / "notes.txt"])
    with pytest.raises(SourceError, match="no such file or folder") as caught:
        Pictures([tmp_path / "absent"])
    assert caught.value.file == str(tmp_path / "absent")
