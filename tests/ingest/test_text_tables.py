"""Columns by path and template, dates, JSON documents and Parquet: the records that come out."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow
import pytest
from pyarrow import parquet

from ingest.sources import lines
from ingest.sources.columns import template
from ingest.sources.contract import Item
from ingest.sources.dates import moment
from ingest.sources.load import TextFormat, text_source
from search.errors import SourceError
from tests.ingest.test_text_sources import jsonl, reasons, split, write


@pytest.mark.parametrize(
    ("form", "cells", "text"),
    [
        ("{t}. {a}", {"t": "One", "a": "Two"}, "One. Two"),
        ("{t}. {a}", {"t": "One"}, "One."),
        ("{t}. {a}", {"a": "Two", "t": " "}, "Two"),
        ("{t}. {a}", {"t": None}, ""),
        ("{t} ({y}). {a}", {"t": "One", "a": "Two"}, "One Two"),
        ("{t} ({y}). {a}", {"t": "One", "y": 1999}, "One (1999)."),
        ("Title: {t}. Text: {a}", {"a": "Two"}, "Text: Two"),
        ("{t} | {a}", {"t": "One"}, "One"),
        ("{t} | {a}", {"a": "Two"}, "Two"),
        ("{{{t}}} {b.c}!", {"t": 1.5, "b": {"c": ["x", "y"]}}, "{1.5} x, y!"),
        ("{t}{a}", {"t": True, "a": "b"}, "trueb"),
        ("{a.0}", {"a": ["first"]}, "first"),
    ],
)
def test_templates(form, cells, text):
    assert template(form).fill(cells) == text


@pytest.mark.parametrize("form", ["{t", "t}", "{}", "{{t}}"])
def test_a_template_with_a_fault(tmp_path, form):
    path = jsonl(tmp_path / "p.jsonl", {"t": "x"})
    with pytest.raises(SourceError, match="the template"):
        text_source([path], text=form)


def test_columns_by_path_and_template(tmp_path):
    row = {"doc": {"title": "T", "body": "B", "n": 1}, "lang": "en", "sku": 7, "a.b": "dotted"}
    path = jsonl(
        tmp_path / "p.jsonl", row, {"doc": {"title": "U"}, "lang": "de", "sku": 8}, {"lang": "fr", "sku": 9}
    )
    records, rejected = split(text_source([path], text="{doc.title}: {doc.body}", id="{lang}-{sku}"))
    assert [(r.id, r.text) for r in records] == [("en-7", "T: B"), ("de-8", "U")]
    assert records[0].metadata == row
    assert [(r.line, r.id, r.reason) for r in rejected] == [
        (3, "fr-9", "no text in '{doc.title}: {doc.body}': all of its columns are empty")
    ]
    records, rejected = split(text_source([path], text="doc.body", id="sku"))
    assert [(r.id, r.text, r.metadata) for r in records] == [
        ("7", "B", {"doc": {"title": "T", "n": 1}, "lang": "en", "a.b": "dotted"})
    ]
    assert [r.reason for r in rejected] == ["no text in 'doc.body'"] * 2
    assert [r.text for r in split(text_source([path], text="a.b", id="sku"))[0]] == ["dotted"]


def test_half_an_id_is_none(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"a": 1, "b": 2, "text": "x"}, {"a": 1, "text": "y"})
    records, rejected = split(text_source([path], id="{a}-{b}"))
    assert [r.id for r in records] == ["1-2"]
    assert [r.reason for r in rejected] == ["no 'b' for the id"]


def test_a_field_of_a_template_that_no_row_has(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"title": "x", "author": {"name": "y", "born": {"at": "z"}}})
    with pytest.raises(
        SourceError, match=r"no column 'body' for the text; there are: title, author.name, author.born.at"
    ):
        text_source([path], text="{title} {body}")
    assert len(split(text_source([path], text="{title} {author.name}"))[0]) == 1


def test_a_template_in_csv(tmp_path):
    path = write(tmp_path / "p.csv", "sku,title,abstract\n1,One,Two\n2,One,\n3,,\n")
    records, rejected = split(text_source([path], text="{title}. {abstract}"))
    assert [(r.id, r.text) for r in records] == [("1", "One. Two"), ("2", "One.")]
    assert [(r.line, r.id) for r in rejected] == [(4, "3")]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024-01-31", "2024-01-31"),
        ("2024/1/31", "2024-01-31"),
        ("31 Jan 2024", "2024-01-31"),
        ("31-JAN-2024", "2024-01-31"),
        ("January 31st, 2024", "2024-01-31"),
        ("1 Sept. 2024", "2024-09-01"),
        ("2024-01-31 10:00", "2024-01-31T10:00:00"),
        ("2024-01-31T10:00:00+01:00", "2024-01-31T10:00:00+01:00"),
        ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        ("Wed, 31 Jan 2024 10:00:00 +0100", "2024-01-31T09:00:00Z"),
        ("03/04/2024", None),
        ("31/12/2024", None),
        ("2024.1.31", None),
        ("2024-02-31", None),
        ("31 Foo 2024", None),
        ("May 2024", None),
        ("20240131", None),
        ("31 Jan 2024 was a day", None),
        ("01234567", None),
    ],
)
def test_dates(written, read):
    assert moment(written) == read


def test_dates_in_tables_are_stored_as_iso(tmp_path):
    path = write(tmp_path / "p.csv", "id,text,on\n1,31 Jan 2024,31 Jan 2024\n2,b,03/04/2024\n")
    first, second = split(text_source([path]))[0]
    assert (first.text, first.metadata, second.metadata) == (
        "31 Jan 2024",
        {"on": "2024-01-31"},
        {"on": "03/04/2024"},
    )
    path = jsonl(tmp_path / "p.jsonl", {"id": 1, "text": "x", "a": {"b": ["2024/01/31", 5]}})
    assert split(text_source([path]))[0][0].metadata == {"a": {"b": ["2024-01-31", 5]}}


def test_what_was_taken_in_by_an_older_version_is_unchanged(tmp_path):
    """Digests as the first version made them: a collection is not encoded again for a new version's sake."""
    write(
        tmp_path / "p.csv",
        "id,text,n,when,zip\n1,a coat,12,2024-01-31,01234\n2,hat,,31/12/2024,\n3,b,1.5,31 Jan 2024,x\n",
    )
    write(
        tmp_path / "p.jsonl",
        b'{"sku":7,"description":"A coat","price":80.5,"tags":["a"],"url":"http://x","none":null,"on":"31 Jan 2024"}\n'
        b'{"sku":"8","description":"Gr\xfc\xdfe"}\n',
    )
    write(tmp_path / "r.tsv", "text\tn\nrow\t5\n")
    assert [(item.record.id, item.digest.hex()) for item in text_source([tmp_path])] == [
        ("1", "947e7bda7e1d902aa3f730b2374da53c"),
        ("2", "6221a5d2217d52811937ad2b039c5de9"),
        ("3", "7f1e80557fe3e6ca12bd507a2681c396"),
        ("7", "59718ea9b74f93af9449c9eb9311170b"),
        ("8", "c1d9cb71c4f251aa9b8f8fb0cda4ae1e"),
        ("r.tsv:2", "9a85a139dc4822d52713bae57612710d"),
    ]


# --- JSON documents --------------------------------------------------------------------------------------------


def test_an_array_of_objects(tmp_path):
    path = write(
        tmp_path / "p.json",
        '[{"id": 1, "text": "a", "n": 1.5, "big": 123456789012345678901}, 5, {"id": 2, "text": "b"}]',
    )
    records, rejected = split(text_source([path]))
    assert [(r.id, r.text, r.metadata) for r in records] == [
        ("1", "a", {"n": 1.5, "big": 123456789012345678901}),
        ("2", "b", {}),
    ]
    assert type(records[0].metadata["n"]) is float
    assert [(r.line, r.reason) for r in rejected] == [(2, "not a JSON object")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_an_object_that_holds_the_records(tmp_path, encoding):
    content = {"meta": {"n": 2}, "data": {"items": [{"text": "Grüße", "tags": [{"x": 1}]}, {"text": "漢"}]}}
    path = write(tmp_path / "p.json", json.dumps(content, ensure_ascii=False).encode(encoding))
    assert [(r.id, r.text) for r in split(text_source([path]))[0]] == [
        ("p.json:1", "Grüße"),
        ("p.json:2", "漢"),
    ]


def test_several_arrays_of_objects(tmp_path):
    path = write(tmp_path / "p.json", '{"a": [{"text": "x"}], "b": {"c": [{"text": "y"}]}}')
    with pytest.raises(SourceError, match=r"several arrays of objects in it; name .* --rows: a, b.c"):
        text_source([path])
    assert [r.text for r in split(text_source([path], form=TextFormat(rows="b.c")))[0]] == ["y"]
    assert reasons(text_source([path], form=TextFormat(rows="d"))) == [(None, "no array of objects at 'd'")]


def test_an_object_with_a_text_is_one_record(tmp_path):
    path = write(tmp_path / "p.json", '{"title": "T", "body": "B", "authors": [{"name": "A"}]}')
    ((record,), _) = split(text_source([path]))
    assert (record.id, record.text, record.metadata) == (
        "p.json:1",
        "B",
        {"title": "T", "authors": [{"name": "A"}]},
    )
    assert [r.text for r in split(text_source([path], text="{title}: {body}"))[0]] == ["T: B"]


@pytest.mark.parametrize(
    ("content", "texts", "line", "reason"),
    [
        ('[{"text": "a"}, {"text": ', ["a"], 2, "not JSON from here on: premature EOF"),
        ('[{"text": "a"}, {"text": NaN}]', ["a"], 2, "not JSON from here on: invalid char in json text."),
        ("{oops", [], 1, "not JSON: expecting property name enclosed in double quotes"),
        ("5", [], None, "neither an array of objects nor an object"),
        ("[]", [], None, "an empty array"),
        ("", [], None, "empty file"),
    ],
)
def test_json_that_is_damaged(tmp_path, content, texts, line, reason):
    records, rejected = split(text_source([write(tmp_path / "p.json", content)]))
    assert [r.text for r in records] == texts
    assert [(r.line, r.reason) for r in rejected] == [(line, reason)]


def test_a_value_too_long_in_json(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MOST_BYTES", 2**18)
    content = json.dumps([{"text": "a"}, {"text": "x" * 2**20}])
    records, rejected = split(text_source([write(tmp_path / "p.json", content)]))
    assert [r.text for r in records] == ["a"]
    assert [r.reason for r in rejected] == ["from here on a value of more than 0 MiB; split it"]


# --- Parquet ---------------------------------------------------------------------------------------------------


def test_parquet(tmp_path):
    table = pyarrow.table(
        {
            "sku": pyarrow.array([7, 8, 9], pyarrow.int32()),
            "text": ["A coat", None, "A hat"],
            "price": [Decimal("1.50"), None, Decimal("2")],
            "on": [date(2024, 1, 31), None, None],
            "at": pyarrow.array([datetime(2024, 1, 31, 10, tzinfo=UTC)] * 3, pyarrow.timestamp("us", "UTC")),
            "tags": [["a", "b"], [], None],
            "by": [{"name": "Ann", "photo": b"\xff"}, None, None],
            "score": [0.5, float("nan"), None],
        }
    )
    parquet.write_table(table, tmp_path / "p.parquet", row_group_size=2)
    records, rejected = split(text_source([tmp_path / "p.parquet"]))
    assert [(r.id, r.text) for r in records] == [("7", "A coat"), ("9", "A hat")]
    assert records[0].metadata == {
        "price": 1.5,
        "on": "2024-01-31",
        "at": "2024-01-31T10:00:00Z",
        "tags": ["a", "b"],
        "by": {"name": "Ann"},
        "score": 0.5,
    }
    assert records[1].metadata == {"price": 2, "at": "2024-01-31T10:00:00Z"}
    assert [(r.line, r.id, r.reason) for r in rejected] == [(2, "8", "no text in 'text'")]
    assert [r.text for r in split(text_source([tmp_path / "p.parquet"], text="{by.name}: {text}"))[0]] == [
        "Ann: A coat",
        "A hat",
    ]


def test_parquet_that_is_damaged(tmp_path):
    parquet.write_table(pyarrow.table({"text": ["a"] * 1000}), tmp_path / "p.parquet")
    data = (tmp_path / "p.parquet").read_bytes()
    for broken in (data[:-20], b"no", data[:4] + bytes(len(data) - 200) + data[-196:]):
        ((), (rejected,)) = split(text_source([write(tmp_path / "q.parquet", broken)]))
        assert rejected.reason.startswith("damaged")


def test_how_rows_were_decoded_is_told(tmp_path):
    write(tmp_path / "a.csv", "text\nGrüße\nplain\n".encode("cp1252"))
    write(tmp_path / "b.tsv", "text\nGrüße\n".encode("utf-16"))
    found = [
        (item.encoding, item.record.metadata.get("encoding"))
        for item in text_source([tmp_path])
        if isinstance(item, Item)
    ]
    assert found == [("cp1252", "cp1252"), (None, None), ("utf-16", None)]


@pytest.mark.parametrize("first", [{"n": 1}, {"text": None}, {"text": 5}, {"name": "Ann"}])
def test_a_first_row_without_text_decides_nothing(tmp_path, first):
    jsonl(tmp_path / "in" / "p.jsonl", first, {"text": "words", "id": "two"}, {"text": "more", "id": "three"})
    for path in (tmp_path / "in" / "p.jsonl", tmp_path / "in"):
        items, rejected = split(text_source([path]))
        assert [(one.id, one.text) for one in items] == [("two", "words"), ("three", "more")]
        assert [one.line for one in rejected] == [1]
