"""`nearkin ingest text` from outside: what it reads, how it tells of encodings, and one line for each failure."""

from __future__ import annotations

import io
import sys

import pytest

from tests.ingest import documents
from tests.ingest.test_cli import nearkin  # noqa: F401 - a fixture
from tests.ingest.test_text_sources import jsonl, write


def test_what_was_decoded_how_is_told(nearkin, tmp_path):  # noqa: F811
    write(tmp_path / "in" / "a.txt", "Grüße".encode("cp1252"))
    write(tmp_path / "in" / "b.txt", "Grüße".encode("utf-16"))
    write(tmp_path / "in" / "c.txt", "Grüße")
    write(tmp_path / "in" / "d.csv", "text\nGrüße\nGrüße\nplain\n".encode("cp1252"))
    arguments = ("ingest", "text", tmp_path / "in", "-c", tmp_path / "c", "--dry-run")
    done = nearkin(*arguments, "--json")
    assert (done.code, done.json()["read"], done.json()["decoded"]) == (0, 6, {"cp1252": 3, "utf-16": 1})
    done = nearkin(*arguments)
    assert done.out == ""
    assert "inputs that were not UTF-8 were read as cp1252 (3), utf-16 (1)" in done.err


def test_standard_input_and_templates(nearkin, tmp_path, monkeypatch):  # noqa: F811
    data = b'{"sku": 1, "title": "One", "by": {"name": "Ann"}}\n{"sku": 2, "title": "Two"}\n{"sku": 3}\n'
    arguments = ("ingest", "text", "-", "-c", tmp_path / "c", "--text", "{title}, {by.name}", "--id", "sku")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    report = nearkin(*arguments, "--dry-run", "--json").json()
    assert (report["read"], report["added"], report["rejected"]) == (3, 2, 1)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id,text\n7,row\n")))
    done = nearkin("ingest", "text", "-", "-c", tmp_path / "c", "--format", "csv", "--dry-run", "--json")
    assert done.json()["added"] == 1
    done = nearkin("ingest", "text", "-", "-c", tmp_path / "c", "--prune")
    assert (done.code, "leave out --prune" in done.error()) == (1, True)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["p.jsonl", "--text", "{nothing}"], "no column 'nothing' for the text; there are: title, by.name"),
        (["p.jsonl", "--text", "{title"], "has a brace alone; write {column}"),
        (["p.jsonl", "--rows", "items"], "--rows is for .json files, and none was named; leave it out"),
        (["p.jsonl", "--format", "exe"], "--format exe is none of ours; use txt, md,"),
        (["a.pdf", "--text", "title"], "--text and --id are for tables, and none was named; leave them out"),
        (["a.bin"], "cannot read .bin files as text; use .txt,"),
    ],
)
def test_each_bad_request_is_one_line(nearkin, tmp_path, arguments, said):  # noqa: F811
    jsonl(tmp_path / "p.jsonl", {"title": "x", "by": {"name": "y"}})
    write(tmp_path / "a.pdf", documents.pdf("words"))
    write(tmp_path / "a.bin", b"x")
    done = nearkin("ingest", "text", tmp_path / arguments[0], "-c", tmp_path / "c", *arguments[1:])
    assert done.code == 1
    assert said in done.error()
    assert not (tmp_path / "c").exists()
