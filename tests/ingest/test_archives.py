"""Compressed files, archives and standard input: what is read, what is refused, and within which bounds."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from ingest.sources.archives import members
from ingest.sources.contract import Rejected
from ingest.sources.formats import Format, Kind
from ingest.sources.inputs import Input
from ingest.sources.load import TextFormat, text_source
from ingest.sources.unpacking import Limits
from search.errors import SourceError
from tests.ingest import documents
from tests.ingest.test_text_sources import split, write

FILES = {
    "docs/b.txt": b"Bee",
    "docs/a.md": b"# Ay",
    "rows.csv": b"id,text\n1,one\n2,two\n",
    "lines.jsonl.gz": gzip.compress(b'{"text": "packed"}\n', mtime=0),
    "page.html": b"<p>page</p>",
    "book.epub": documents.epub(),
    "picture.png": b"\x89PNG",
    ".hidden.txt": b"no",
    "__MACOSX/x.txt": b"no",
    "void.txt": b"",
    "in.zip": b"PK",
    "../out.txt": b"leaves",
}
RECORDS = [
    ("x/docs/b.txt", "Bee"),
    ("x/docs/a.md", "# Ay"),
    ("1", "one"),
    ("2", "two"),
    ("x/lines.jsonl.gz:1", "packed"),
    ("x/page.html", "page"),
    ("x/book.epub", "# One\n\nGrüße.\n\n# Two\n\nThe end."),
]
REJECTED = [
    ("x/void.txt", "empty file"),
    ("x/in.zip", "an archive inside an archive; unpack it first"),
    ("x/../out.txt", "its path leads out of the archive"),
]


def zipped(files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.zip", zipped(FILES)),
        ("x.tar", tarred(FILES)),
        ("x.tar.gz", gzip.compress(tarred(FILES), mtime=0)),
        ("x.tgz", gzip.compress(tarred(FILES), mtime=0)),
        ("x.tar.zst", zstandard.compress(tarred(FILES))),
    ],
)
def test_an_archive(tmp_path, name, data):
    path = write(tmp_path / "in" / name, data)
    before = set(tmp_path.rglob("*"))
    source = text_source([path])
    for _ in range(2):  # it can be read again, as a forecast and a run do
        records, rejected = split(source)
        assert [(r.id, r.text) for r in records] == [
            (id.replace("x/", f"{name}/", 1), text) for id, text in RECORDS
        ]
        assert [(r.id, r.reason) for r in rejected] == [
            (id.replace("x/", f"{name}/", 1), reason) for id, reason in REJECTED
        ]
    assert {r.file for r in rejected} == {f"{path}/{id.removeprefix('x/')}" for id, _ in REJECTED}
    assert {r.uri for r in records} == {str(path), None}  # a row of a table has none of its own
    assert {item.origin for item in source if not isinstance(item, Rejected)} == {str(path)}
    assert records[0].metadata == {"bytes": 3, "folder": f"{name}/docs"}
    assert set(tmp_path.rglob("*")) == before
    inside = split(text_source([tmp_path]))[0]
    assert inside[0].id == f"in/{name}/docs/b.txt"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_files(tmp_path, pack):
    ending = ".gz" if pack is gzip.compress else ".zst"
    write(tmp_path / f"a.txt{ending}", pack("Grüße".encode()))
    write(tmp_path / f"b.csv{ending}", pack(b"id,text\n1,one\n"))
    write(tmp_path / f"c.pdf{ending}", pack(documents.pdf("words")))
    write(tmp_path / f"d.jsonl{ending}", pack(b'{"text": "x"}\n') + pack(b'{"text": "y"}\n'))
    records, rejected = split(text_source([tmp_path]))
    assert rejected == []
    assert [(r.id, r.text) for r in records] == [
        (f"a.txt{ending}", "Grüße"),
        ("1", "one"),
        (f"c.pdf{ending}", "words"),
        (f"d.jsonl{ending}:1", "x"),
        (f"d.jsonl{ending}:2", "y"),
    ]


def test_a_compressed_table_that_ends_too_early_keeps_its_rows(tmp_path):
    rows = b"".join(b'{"id": %d, "text": "row %d"}\n' % (n, n * n) for n in range(10_000))
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(rows, mtime=0)[:-5000])
    records, rejected = split(text_source([path]))
    assert 1000 < len(records) < 10_000
    assert [r.reason[:9] for r in rejected] == ["damaged: "]


BOMB = "unpacks to more than 250 times its size, as a zip bomb does"


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.txt.gz", "bomb.zip", "bomb.tar.gz", "bomb.csv.zst"])
def test_a_bomb(tmp_path, name):
    size = 80_000_000
    if name.endswith(".zip"):
        data = zipped({"good.txt": b"fine", "bomb.txt": bytes(size)})
    elif ".tar" in name:
        data = gzip.compress(tarred({"good.txt": b"fine", "bomb.txt": bytes(size)}))
    else:
        data = (zstandard if name.endswith(".zst") else gzip).compress(b" " * size)
    records, rejected = split(text_source([write(tmp_path / "x" / name, data).parent]))
    assert [r.text for r in records] == (
        ["fine"] if "csv" not in name and "jsonl" not in name and "txt.gz" not in name else []
    )
    assert len(rejected) == 1
    assert rejected[0].reason in (BOMB, "too large (unpacked; the most is 64); split it")


def of_bytes(data: bytes, format: Format) -> Input:
    return Input("x", "/x", "/x", "/x", Kind(format), lambda: io.BytesIO(data))


@pytest.mark.parametrize(("format", "pack"), [(Format.ZIP, zipped), (Format.TAR, tarred)])
def test_too_many_members(format, pack):
    archive = of_bytes(pack({f"{n}.txt": b"x" for n in range(5)}), format)
    found = list(members(archive, Limits(members=3)))
    assert [one.reason for one in found if isinstance(one, Rejected)] == ["more than 3 files in it; split it"]
    assert len([one for one in members(archive, Limits(members=6)) if isinstance(one, Input)]) == 5


def test_a_locked_member(tmp_path):
    data = bytearray(zipped({"a.txt": b"secret", "b.txt": b"open"}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of encryption, in both of its places
        data[data.index(mark) + at] |= 1
    records, rejected = split(text_source([write(tmp_path / "a.zip", bytes(data))]))
    assert [r.text for r in records] == ["open"]
    assert [(r.id, r.reason) for r in rejected] == [("a.zip/a.txt", "locked with a password")]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", zipped(FILES)[:300]),
        ("a.zip", b"no"),
        ("a.tar", b"no"),
        ("a.tar.gz", b"no"),
        ("a.tar.gz", gzip.compress(tarred(FILES), mtime=0)[:400]),
    ],
)
def test_a_damaged_archive(tmp_path, name, data):
    _, rejected = split(text_source([write(tmp_path / name, data)]))
    assert rejected[-1].reason.startswith("damaged")
    assert rejected[-1].id is None


def test_an_archive_of_nothing_to_read(tmp_path):
    path = write(tmp_path / "a.zip", zipped({"a.png": b"x"}))
    assert [r.reason for r in split(text_source([path]))[1]] == [
        "there is no file in it that can be read as text"
    ]


# --- standard input, and formats that are said -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "format", "records"),
    [
        (b' {"id": 1, "text": "a"}\n{"text": "b", "id": 2}', None, [("1", "a"), ("2", "b")]),
        (b'{\n "items": [{"text": "a"}]\n}', None, [("stdin:1", "a")]),
        (b'[{"text": "a"}]', None, [("stdin:1", "a")]),
        ("[1] Grüße".encode(), None, [("stdin", "[1] Grüße")]),
        (b"id,text\n7,row\n", "csv", [("7", "row")]),
        (gzip.compress(b"id\ttext\n7\trow\n", mtime=0), ".tsv.gz", [("7", "row")]),
        (documents.pdf("words"), "pdf", [("stdin", "words")]),
        (zipped({"a.txt": b"Ay"}), "zip", [("stdin/a.txt", "Ay")]),
    ],
)
def test_standard_input(monkeypatch, data, format, records):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    source = text_source([Path("-")], form=TextFormat(format))
    for _ in range(2):
        found, rejected = split(source)
        assert ([(r.id, r.text) for r in found], rejected) == (records, [])
    assert source.origins == ()


def test_a_format_that_is_said(tmp_path):
    path = write(tmp_path / "notes.log", "words")
    assert [r.text for r in split(text_source([path], form=TextFormat("txt")))[0]] == ["words"]
    for options, match in [
        ({"form": TextFormat("exe")}, "--format exe is none of ours"),
        ({}, "cannot read .log files as text"),
        ({"form": TextFormat("txt", rows="a")}, "--rows is for .json files"),
        ({"form": TextFormat("txt"), "text": "a"}, "--text and --id are for tables"),
    ]:
        with pytest.raises(SourceError, match=match):
            text_source([path], **options)
    with pytest.raises(SourceError, match="leave out --format"):
        text_source([tmp_path], form=TextFormat("txt"))
