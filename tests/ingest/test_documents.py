"""Documents of every format: the text and the metadata that come out, and why there are none."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile

import pytest
import zstandard

from ingest.sources.contract import Item, Rejected
from ingest.sources.load import text_source
from search.errors import MissingExtra
from tests.ingest import documents


def read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    (one,) = list(text_source([tmp_path / name]))
    return one


@pytest.mark.parametrize(
    ("name", "data", "text", "metadata"),
    [
        (
            "a.html",
            documents.HTML,
            documents.HTML_TEXT,
            {"title": "My page", "author": "Ann", "date": "2024-01-31", "language": "en"},
        ),
        (
            "a.docx",
            documents.docx(),
            documents.DOCX_TEXT,
            {"title": "A report", "author": "Bo", "language": "de-DE"},
        ),
        (
            "a.epub",
            documents.epub(),
            "# One\n\nGrüße.\n\n# Two\n\nThe end.",
            {"title": "Tales", "author": "Ann, Bo", "date": "2024-01-31", "language": "en"},
        ),
        (
            "a.eml",
            documents.mail(),
            "# Grüße an alle\n\nSchöne Grüße",
            {
                "title": "Grüße an alle",
                "author": "Ann <a@example.org>",
                "to": "b@example.org",
                "date": "2024-01-31T09:00:00Z",
                "attachments": ["a.pdf"],
            },
        ),
        (
            "a.rst",
            documents.RST,
            documents.RST_TEXT,
            {"title": "Title", "author": "Bo", "date": "2024-01-31"},
        ),
        (
            "a.pdf",
            documents.pdf("An exam-\nple of text", "Page two", title="Small"),
            "An example of text\n\nPage two",
            {"title": "Small", "author": "Ann", "date": "2024-01-31T10:00:00Z", "pages": 2},
        ),
    ],
)
def test_a_document_keeps_its_structure(tmp_path, name, data, text, metadata):
    item = read(tmp_path, name, data)
    assert isinstance(item, Item), item
    assert item.record.text == text
    found = dict(item.record.metadata)
    assert found.pop("bytes") == len(data)
    if name == "a.docx":
        assert found.pop("date").startswith("2024-01-31T10:00:00")
    assert found == metadata
    assert item.markup == (name != "a.pdf")
    assert item.record.id == name
    assert item.record.uri == str(tmp_path / name)


def test_mail_that_is_html_only(tmp_path):
    item = read(tmp_path, "a.eml", documents.mail(plain=False))
    assert item.record.text == "# Grüße an alle\n\n## News\n\nSchöne Grüße"


def test_how_mail_was_decoded_is_told(tmp_path):
    assert read(tmp_path, "a.eml", documents.mail()).encoding == "cp1252"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<main><p>kept</p></main><p>around</p>", "kept"),
        ("<p>a</p><footer>imprint</footer>", "a"),
        ("<article><p>a</p><footer>b</footer></article>", "a\n\nb"),
        ("<table><tr><td><h1>T</h1><p>laid out</p></td></tr></table>", "# T\n\nlaid out"),
        ("<pre>a ``` b</pre>", "````\na ``` b\n````"),
        ("<div>" * 1500 + "deep" + "</div>" * 1500, "deep"),
        ("<p>open <b>tags <i>everywhere", "open tags everywhere"),
    ],
)
def test_pages_as_they_are(tmp_path, page, text):
    assert read(tmp_path, "a.htm", page.encode()).record.text == text


@pytest.mark.parametrize(
    ("data", "encoding", "guessed"),
    [
        ('<meta charset="windows-1251"><p>Привет</p>'.encode("cp1251"), "cp1251", None),
        ('<meta charset="iso-8859-1"><p>Привет</p>'.encode(), None, None),
        (
            "<p>Привет, это довольно длинное предложение на русском языке</p>".encode("koi8_r"),
            "koi8_r",
            "koi8_r",
        ),
    ],
)
def test_pages_in_other_encodings(tmp_path, data, encoding, guessed):
    item = read(tmp_path, "a.html", data)
    assert item.record.text.startswith("Привет")
    assert item.encoding == encoding
    assert item.record.metadata.get("encoding") == guessed


GERMAN = "Die Größe der Straße über dem Fluß wäre möglich. Äpfel und Öl für schöne Mädchen. "
POLISH = "Zażółć gęślą jaźń, to jest zdanie po polsku które ma wiele znaków. Książki są źródłem wiedzy. "
RUSSIAN = "Это предложение написано на русском языке, и в нём довольно много букв. "
JAPANESE = "これは日本語の文章です。本を読むのは楽しいことだと思います。"


@pytest.mark.parametrize(
    ("text", "written", "read_as"),
    [
        (GERMAN, "cp1252", "cp1252"),
        (GERMAN, "iso8859_1", "cp1252"),
        (POLISH, "cp1250", "cp1250"),
        (POLISH, "iso8859_2", "iso8859_2"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        (JAPANESE, "shift_jis", "shift_jis"),
        (JAPANESE, "euc_jp", "euc_jp"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.tsv"])
def test_the_encoding_is_told_by_the_letters(tmp_path, text, written, read_as, name):
    content = text if name == "a.txt" else f"text\n{text}\n"
    item = read(tmp_path, name, content.encode(written))
    assert item.record.text == text
    assert (item.encoding, item.record.metadata["encoding"]) == (read_as, read_as)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("locked.pdf", documents.pdf("secret", password="x"), "locked with a password; save it without one"),
        ("scan.pdf", documents.pdf("", ""), "no text layer in its 2 pages: scanned, needs OCR"),
        ("cut.pdf", documents.pdf("words")[:200], "damaged, or no PDF: "),
        ("no.pdf", b"words", "damaged, or no PDF: "),
        ("void.pdf", b"", "damaged, or no PDF: "),
        ("cut.docx", documents.docx()[:2000], "damaged, or no zip archive: "),
        ("locked.docx", b"\xd0\xcf\x11\xe0rest", "locked with a password, or an old .doc"),
        ("locked.epub", documents.epub(locked=True), "locked by its seller (DRM)"),
        ("cut.epub", documents.epub(missing=True), "damaged: OPS/a.xhtml is missing"),
        ("not.epub", b"words", "damaged, or no zip archive: "),
        ("no.eml", b"\x00\x01binary", "no e-mail: it has no From, Subject or Date"),
        (
            "void.html",
            b"<html><script>render()</script></html>",
            "no text in it: what it shows may be made by",
        ),
        ("void.rst", b"", "empty file"),
        ("picture.txt", b"\x89PNG\r\n\x1a\n....", "not text: it is a PNG picture"),
        ("picture.md", b"\xff\xd8\xff\xe0....", "not text: it is a JPEG picture"),
        ("cut.txt.gz", gzip.compress(b"x" * 1000, mtime=0)[:-8], "damaged: "),
        ("not.txt.gz", b"words", "damaged: "),
        ("cut.txt.zst", zstandard.compress(bytes(range(256)) * 99)[:-9], "damaged: it ends too early"),
        ("not.txt.zst", b"words", "damaged: "),
    ],
)
def test_a_bad_document_is_told_with_its_reason(tmp_path, name, data, reason):
    rejected = read(tmp_path, name, data)
    assert isinstance(rejected, Rejected)
    assert rejected.reason.startswith(reason), rejected.reason
    assert "\n" not in rejected.reason
    assert (rejected.file, rejected.id) == (str(tmp_path / name), name)


def test_a_pdf_that_only_forbids_printing_is_read(tmp_path):
    assert read(tmp_path, "a.pdf", documents.pdf("words", password="")).record.text == "words"


def test_a_zip_bomb_in_a_document(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"\0" * 100_000_000)
    assert read(tmp_path, "a.docx", out.getvalue()).reason == (
        "unpacks to more than 250 times its size, as a zip bomb does"
    )


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.pdf", "pypdf", "files"),
        ("a.docx", "docx", "files"),
        ("a.rst", "docutils", "files"),
        ("a.txt.zst", "zstandard", "files"),
        ("a.parquet", "pyarrow", "parquet"),
    ],
)
def test_a_missing_extra(tmp_path, monkeypatch, name, module, extra):
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b.txt").write_text("good")
    line = f'install it with: pip install "nearkin[{extra}]"'
    with pytest.raises(MissingExtra) as caught:
        text_source([tmp_path / name])
    assert str(caught.value).endswith(line)
    rejected, good = list(text_source([tmp_path]))
    assert rejected.reason.endswith(line)
    assert good.record.text == "good"
