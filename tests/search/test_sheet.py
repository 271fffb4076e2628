"""Contact sheets: whole, well-formed, with boxes where they belong, and deaf to what records would have them run."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import lxml.html
import numpy as np
import pytest
from PIL import Image

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.sheet import sheet
from search.sheet.thumbnails import Outline, of_picture, of_record
from search.types import EncoderSpec, Modality, Part, Record
from tests.search.test_clip import save_tiny_clip

EVIL = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>"


def gradient(width: int, height: int) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8))


@pytest.fixture
def shop(tmp_path: Path) -> Collection:
    """A wide picture with a cup in it, a record whose file is gone, a torn one, a text, and one with evil in it."""
    gradient(800, 400).save(tmp_path / "wide.png")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff and no more")
    size = {"width": 800, "height": 400}
    records = [
        Record("wide", "image", str(tmp_path / "wide.png"), metadata=size),
        Record("gone", "image", str(tmp_path / "gone.png")),
        Record("torn", "image", (tmp_path / "torn.jpg").as_uri()),
        Record("words", "text", "notes.md", "some words of a text"),
        Record(EVIL, "image", "https://evil.example/a.png", EVIL, {EVIL: EVIL, "list": [EVIL, 1]}),
    ]
    cup = Part(box=(200.0, 100.0, 80.0, 40.0), label="cup <b>", score=0.91)
    radians = np.radians([50, 0, 10, 20, 30, 40])
    rows = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    shop = search.open(tmp_path / "shop")
    with shop.writing() as writer:
        space = writer.space("s", EncoderSpec("given", "given", Modality.IMAGE, 2))
        writer.put(records, rows, space, parts=[[Part(), cup], *([Part()] for _ in range(4))])
    return shop


def page_of(path: Path) -> lxml.html.HtmlElement:
    text = path.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    parser.close()
    return lxml.html.fromstring(text)


class Balanced(HTMLParser):
    """Fails where an element is not closed, or closed where it was not opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def close(self) -> None:
        assert self.open == []


@pytest.fixture
def page(shop: Collection, tmp_path: Path) -> lxml.html.HtmlElement:
    hits = shop.search(vector=[1, 0], k=9)
    assert [hit.id for hit in hits] == ["wide", "gone", "torn", "words", EVIL]
    sheet.write(
        tmp_path / "out.html", sheet.of_hits(hits, [sheet.Card(EVIL, "words")], f"asked {EVIL}", None)
    )
    return page_of(tmp_path / "out.html")


def cards(page: lxml.html.HtmlElement) -> dict[str, lxml.html.HtmlElement]:
    return {one.find_class("id")[0].text: one for one in page.xpath("//section[not(@class)]//figure")}


def test_a_picture_is_shown_with_its_box(page: lxml.html.HtmlElement) -> None:
    wide = cards(page)["wide"]
    (image,) = wide.xpath(".//img")
    head, _, data = image.get("src").partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as shown:
        assert (shown.format, shown.size) == ("WEBP", (256, 128))
        want = np.asarray(gradient(800, 400).resize((256, 128)), dtype=float)
        assert np.abs(np.asarray(shown.convert("RGB"), dtype=float) - want).mean() < 4
    (box,) = wide.find_class("box")
    assert box.get("style") == "left:25.000%;top:25.000%;width:10.000%;height:10.000%"
    assert wide.find_class("said")[0].text == "1.000  s  cup <b> 0.91"
    assert [(dt.text, dd.text) for dt, dd in zip(wide.xpath(".//dt"), wide.xpath(".//dd"), strict=True)] == [
        ("width", "800"),
        ("height", "400"),
    ]


def test_what_cannot_be_shown_says_why(page: lxml.html.HtmlElement) -> None:
    missing = {
        id: card.find_class("missing")[0].text_content().strip()
        for id, card in cards(page).items()
        if card.find_class("missing")
    }
    assert set(missing) == {"gone", "torn"}
    assert missing["gone"].startswith("no picture: there is no such file")
    assert missing["torn"].startswith("no picture: ")
    words = cards(page)["words"]
    assert not words.find_class("frame")
    assert words.xpath(".//figcaption/p")[0].text == "some words of a text"


def test_nothing_of_a_record_is_run_or_fetched(page: lxml.html.HtmlElement) -> None:
    assert EVIL in cards(page)
    assert page.xpath("//script | //iframe | //object | //form") == []
    for element in page.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
    assert [one for one in page.xpath("//@src | //@href") if not one.startswith("data:")] == []
    evil = cards(page)[EVIL]
    assert evil.xpath(".//img") == []
    assert [(dt.text, dd.text) for dt, dd in zip(evil.xpath(".//dt"), evil.xpath(".//dd"), strict=True)] == [
        (EVIL, EVIL),
        ("list", json.dumps([EVIL, 1])),
    ]
    policy = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_a_stored_thumbnail_goes_before_the_file(tmp_path: Path) -> None:
    shown = of_record("a", "gone.png", {"width": 200, "height": 100}, (20.0, 10.0, 100.0, 50.0), str.encode)
    assert shown.data == "data:image/webp;base64," + base64.b64encode(b"a").decode()
    assert shown.outline is not None
    assert (shown.outline.left, shown.outline.top, shown.outline.width, shown.outline.height) == (
        10,
        10,
        50,
        50,
    )
    assert of_record("a", "gone.png", {}, (1.0, 1.0, 1.0, 1.0), str.encode).outline is None
    assert of_record("a", "gone.png", {}, None, {}.get).reason is not None
    for elsewhere in ("https://x.example/a.png", "file://host/a.png", "a\0.png", "notes.md", None):
        assert of_record("a", elsewhere, {}, None, None) == sheet.NONE


def test_a_box_counts_from_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient(80, 40).save(tmp_path / "lying.jpg", exif=exif)
    shown = of_picture(tmp_path / "lying.jpg", (20.0, 40.0, 10.0, 8.0))
    assert shown.outline is not None
    assert (shown.outline.left, shown.outline.top) == (50, 50)
    assert (shown.outline.width, shown.outline.height) == (25, 10)


def test_each_frame_is_shown(tmp_path: Path) -> None:
    colours = [Image.new("RGB", (30, 20), colour) for colour in ("red", "lime", "blue")]
    colours[0].save(tmp_path / "a.gif", save_all=True, append_images=colours[1:])
    uri = str(tmp_path / "a.gif")
    shown = []
    for number in (1, 2, 3):
        data = of_record(f"a.gif#{number}", uri, {"frame": number}, (15.0, 5.0, 6.0, 5.0), None)
        assert data.outline == Outline(50, 25, 20, 25)
        assert data.data is not None
        with Image.open(io.BytesIO(base64.b64decode(data.data.partition(",")[2]))) as image:
            shown.append(int(np.asarray(image.convert("RGB")).mean(axis=(0, 1)).argmax()))
    assert shown == [0, 1, 2]
    assert of_record("a.gif#9", uri, {"frame": 9}, None, None).reason is not None


def test_a_kept_thumbnail_outlives_its_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    gradient(800, 400).save(tmp_path / "wide.png")
    gradient(40, 60).save(tmp_path / "tall.png")
    model = str(save_tiny_clip(tmp_path / "clip"))
    at = ["-c", str(tmp_path / "c")]
    files = [str(tmp_path / "wide.png"), str(tmp_path / "tall.png")]
    assert outcome(app, ["ingest", "images", *files, *at, "--model", model, "--thumbnails", "64"]) == 0
    (tmp_path / "wide.png").unlink()
    out = tmp_path / "page.html"
    assert outcome(app, ["search", "--like", "tall.png", *at, "--html", str(out)]) == 0
    (image,) = cards(page_of(out))["wide.png"].xpath(".//img")
    with Image.open(io.BytesIO(base64.b64decode(image.get("src").partition(",")[2]))) as shown:
        assert shown.size == (64, 32)


def test_a_long_page_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MOST_CARDS", 3)
    hits = [search.Hit(f"h{i}", 1 - i / 10, "s", "x", None, {}) for i in range(5)]
    made = sheet.of_hits(hits, [], "", None)
    assert [card.id for card in made.sections[0].cards] == ["h0", "h1", "h2"]
    assert "2 more are not shown" in sheet.render(made)
    assert "nothing found" in sheet.render(sheet.of_hits([], [], "", None))


def test_what_was_asked_is_shown(shop: Collection, tmp_path: Path) -> None:
    region = [400, 100, 80, 40]
    words, picture, like = sheet.query_cards("red", tmp_path / "wide.png", region, shop.get("gone")[0], None)
    assert (words.id, words.said) == ("red", "words")
    assert (picture.said, picture.picture.outline) == ("picture", Outline(50, 25, 10, 10))
    assert (like.id, like.said, like.picture.reason) == ("gone", "like", "there is no such file")


def test_the_verbs_write_pages(shop: Collection, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    at = ["-c", str(shop.path)]
    out = tmp_path / "page.html"
    assert outcome(app, ["search", "--like", "wide", "-k", "2", *at, "--html", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    assert [hit["id"] for hit in json.loads(shown.out)] == list(cards(page_of(out)))
    assert "page.html written" in shown.err
    assert "2 hits in" in page_of(out).find_class("told")[0].text
    assert page_of(out).find_class("asked")[0].find_class("id")[0].text == "wide"
    assert len(page_of(out).find_class("asked")[0].xpath(".//img")) == 1

    assert outcome(app, ["duplicates", "--min-score", "0.98", *at, "--html", str(out)]) == 0
    page = page_of(out)
    assert len(page.find_class("chosen")) == len(page.xpath("//h2")) > 0
    shop.add([{"id": "gone", "metadata": {"v": "a"}}, {"id": "words", "metadata": {"v": "b"}}])
    assert outcome(app, ["label", "--field", "v", "--min-confidence", "0", *at, "--html", str(out)]) == 0
    page = page_of(out)
    assert {one.text for one in page.xpath("//h2")} <= {"v: a", "v: b"}
    assert set(cards(page)) == {"wide", "torn", EVIL}

    capsys.readouterr()
    nowhere = tmp_path / "nowhere" / "page.html"
    before = shop.count()
    asked = ["duplicates", "--min-score", "0.9", "--delete", *at, "--html", str(nowhere)]
    assert outcome(app, asked) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert shop.count() == before  # no page, no deletion
    assert outcome(app, [*asked[:-1], str(out)]) == 0
    assert shop.count() < before
    assert cards(page_of(out))
