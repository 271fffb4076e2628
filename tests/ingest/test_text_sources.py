"""Text files and tables: what is read, what is rejected and why, and that nothing else happens."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources import lines
from ingest.sources.contract import Item, Rejected
from ingest.sources.load import text_source
from ingest.sources.texts import TextFolder
from search.errors import SourceError
from search.types import Record


def split(source):
    """The records and the rejections of a source, in order."""
    found = list(source)
    return [x.record for x in found if isinstance(x, Item)], [x for x in found if isinstance(x, Rejected)]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(path: Path, *rows) -> Path:
    return write(path, "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def reasons(source):
    return [(rejection.line, rejection.reason) for rejection in split(source)[1]]


# --- files -----------------------------------------------------------------------------------------------------


def test_a_folder_of_texts(tmp_path):
    write(tmp_path / "b.txt", "Bee\r\n")
    write(tmp_path / "a" / "deep" / "x.MD", "# Ex")
    write(tmp_path / "a.txt", "Ay")
    write(tmp_path / "c.png", "no text")
    write(tmp_path / ".hidden.txt", "hidden")
    write(tmp_path / ".git" / "x.txt", "hidden")
    source = TextFolder([tmp_path])
    records, rejected = split(source)
    assert rejected == []
    assert records == [
        Record(
            "a/deep/x.MD", "text", str(tmp_path / "a/deep/x.MD"), "# Ex", {"bytes": 4, "folder": "a/deep"}
        ),
        Record("a.txt", "text", str(tmp_path / "a.txt"), "Ay", {"bytes": 2}),
        Record("b.txt", "text", str(tmp_path / "b.txt"), "Bee\r\n", {"bytes": 5}),
    ]
    assert len(source) == 3
    assert source.origins == (str(tmp_path),)
    assert {item.origin for item in source} == {str(tmp_path)}


def test_a_file_by_itself(tmp_path, monkeypatch):
    write(tmp_path / "a.txt", "Ay")
    monkeypatch.chdir(tmp_path)
    source = TextFolder([Path("a.txt")])
    assert [record.id for record in split(source)[0]] == ["a.txt"]
    assert source.origins == (str(tmp_path / "a.txt"),)


def test_the_digest_follows_the_content(tmp_path):
    def digests():
        return [item.digest for item in TextFolder([tmp_path])]

    write(tmp_path / "a.txt", "one")
    write(tmp_path / "b.txt", "one")
    before = digests()
    assert digests() == before
    assert len(before[0]) == 16
    os.utime(tmp_path / "a.txt", (1, 1))
    assert digests() == before
    write(tmp_path / "a.txt", "two")
    assert [new == old for new, old in zip(digests(), before, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("Grüße".encode(), "Grüße", None),
        (b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe", "Grüße", None),
        ("Grüße".encode("utf-16"), "Grüße", None),
        (b"\xfe\xff" + "Grüße".encode("utf-16-be"), "Grüße", None),
        ("Grüße".encode("utf-32"), "Grüße", None),
        ("Grüße – “so”".encode("cp1252"), "Grüße – “so”", "cp1252"),
        ("Grüße".encode("latin-1"), "Grüße", "cp1252"),
        (b"a\x81\xff", "a\x81ÿ", "latin-1"),
        (b"\xef\xbb\xbfGr\xfc\xdfe", "Grüße", "cp1252"),
    ],
)
def test_encodings(tmp_path, data, text, encoding):
    write(tmp_path / "a.txt", data)
    ((record,), rejected) = split(TextFolder([tmp_path]))
    assert rejected == []
    assert record.text == text
    assert record.metadata.get("encoding") == encoding


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b" \n\t", "nothing but white space"),
        (b"PK\x03\x04\x00\x00", "not text: it has NUL bytes"),
        (b"\xff\xfea", "not the utf-16"),
    ],
)
def test_files_that_are_no_text(tmp_path, data, reason):
    write(tmp_path / "bad.txt", data)
    write(tmp_path / "good.txt", "fine")
    records, rejected = split(TextFolder([tmp_path]))
    assert [record.id for record in records] == ["good.txt"]
    assert [(r.file, r.id) for r in rejected] == [(str(tmp_path / "bad.txt"), "bad.txt")]
    assert rejected[0].reason.startswith(reason)


def test_a_file_too_large_is_not_read(tmp_path):
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate(lines.MOST_BYTES + 1)
    ((), (rejected,)) = split(TextFolder([tmp_path]))
    assert rejected.reason == "too large (64 MiB; the most is 64); split it"


def test_links(tmp_path):
    write(tmp_path / "docs" / "a.txt", "Ay")
    (tmp_path / "docs" / "loop").symlink_to(tmp_path / "docs")
    (tmp_path / "docs" / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    write(tmp_path / "other" / "b.txt", "Bee")
    (tmp_path / "docs" / "other").symlink_to(tmp_path / "other")
    records, rejected = split(TextFolder([tmp_path / "docs"]))
    assert [record.id for record in records] == ["a.txt", "other/b.txt"]
    assert [(r.id, r.reason) for r in rejected] == [("gone.txt", "no such file or directory")]


def test_a_folder_that_may_not_be_read_is_listed(tmp_path, monkeypatch):
    write(tmp_path / "a.txt", "Ay")
    write(tmp_path / "shut" / "b.txt", "Bee")
    scandir = os.scandir

    def guarded(folder):
        if Path(folder).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    for source in (TextFolder([tmp_path]), text_source([tmp_path])):
        records, rejected = split(source)
        assert [record.id for record in records] == ["a.txt"]
        assert [(r.file, r.id) for r in rejected] == [(str(tmp_path / "shut"), "shut")]


def test_a_name_that_is_no_utf8(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.txt", "w") as file:
        file.write("text")
    ((), (rejected,)) = split(TextFolder([tmp_path]))
    assert rejected.reason.startswith("the file's name is not valid UTF-8")
    assert rejected.file.encode()


# --- JSON Lines ------------------------------------------------------------------------------------------------


def test_json_lines(tmp_path):
    path = jsonl(
        tmp_path / "p.jsonl",
        {"sku": 7, "description": "A coat", "price": 80.5, "tags": ["a"], "url": "http://x", "none": None},
        "",
        {"sku": "007", "description": "A hat", "new": True, "url": 5},
    )
    records, rejected = split(text_source([path]))
    assert rejected == []
    assert records == [
        Record("7", "text", "http://x", "A coat", {"price": 80.5, "tags": ["a"], "none": None}),
        Record("007", "text", None, "A hat", {"new": True, "url": 5}),
    ]
    assert text_source([path]).origins == (str(path),)
    assert len(text_source([path])) == 0


def test_without_an_id_the_place_is_the_id(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"text": "a"}, "", {"text": "b", "n": 1})
    assert [(r.id, r.text, r.metadata) for r in split(text_source([path]))[0]] == [
        ("p.jsonl:1", "a", {}),
        ("p.jsonl:3", "b", {"n": 1}),
    ]


def test_columns_that_the_user_names(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"id": 1, "text": "no", "name": "n1", "words": "yes"})
    ((record,), _) = split(text_source([path], text="words", id="name"))
    assert record == Record("n1", "text", None, "yes", {"id": 1, "text": "no"})


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"title": "t", "body": "b"}, "body"),
        ({"Title": "t", "n": 3}, "Title"),
        ({"text": 3, "title": "t"}, "title"),
        ({"id": "x", "words": "w", "url": "u", "n": 3}, "words"),
    ],
)
def test_the_column_of_the_text_is_found(tmp_path, row, column):
    path = jsonl(tmp_path / "p.jsonl", row)
    assert [record.text for record in split(text_source([path]))[0]] == [row[column]]


def test_a_text_column_that_cannot_be_told(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"a": "x", "b": "y", "n": 3})
    with pytest.raises(SourceError, match=r"p.jsonl: cannot tell .* --text: a, b, n$"):
        text_source([path])


@pytest.mark.parametrize(("options", "what"), [({"text": "c"}, "text"), ({"id": "c"}, "id")])
def test_a_named_column_that_is_in_no_record(tmp_path, options, what):
    path = jsonl(tmp_path / "p.jsonl", {"text": "x"}, {"text": "y", "b": 1})
    with pytest.raises(SourceError, match=f"no column 'c' for the {what}; there are: text, b"):
        text_source([path], **options)


def test_a_named_column_may_come_later(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"id": 1}, {"id": 2, "note": "here"})
    records, rejected = split(text_source([path], text="note"))
    assert [record.id for record in records] == ["2"]
    assert rejected == [Rejected(str(path), "no text in 'note'", 1, "1")]


def test_bad_lines_end_nothing(tmp_path):
    path = write(
        tmp_path / "p.jsonl",
        b"\n".join(
            [
                b'{"id": 1, "text": "good"}',
                b"{not json",
                b'["a", "list"]',
                b'{"id": 3, "text": "x", "n": NaN}',
                b'{"text": "no id"}',
                b'{"id": "", "text": "x"}',
                b'{"id": 2.5, "text": "x"}',
                b'{"id": true, "text": "x"}',
                b'{"id": 8}',
                b'{"id": 9, "text": 5}',
                b'{"id": 10, "text": " "}',
                b'{"id": 11, "text": "\\ud800"}',
                b'{"id": 12, "text": "x", "n": 1e999}',
                b"[" * 100_000,
                b'{"id": 14, "text": "x", "n": ' + b"9" * 5_000 + b"}",
                b'{"id": 15, "text": "Gr\xfc\xdfe"}',
                b'{"id": 16, "text": "last, without a line end"}',
            ]
        ),
    )
    records, rejected = split(text_source([path]))
    assert [(record.id, record.text) for record in records] == [
        ("1", "good"),
        ("15", "Grüße"),
        ("16", "last, without a line end"),
    ]
    assert [record.metadata for record in records] == [{}, {"encoding": "cp1252"}, {}]
    assert [(r.line, r.id, r.reason) for r in rejected] == [
        (2, None, "not JSON: expecting property name enclosed in double quotes"),
        (3, None, "not a JSON object"),
        (4, None, "NaN is not JSON"),
        (5, None, "no id in 'id'"),
        (6, None, "no id in 'id'"),
        (7, None, "the id in 'id' is neither a string nor a whole number"),
        (8, None, "the id in 'id' is neither a string nor a whole number"),
        (9, "8", "no text in 'text'"),
        (10, "9", "the text in 'text' is not a string"),
        (11, "10", "no text in 'text'"),
        (12, "11", "half of a surrogate pair, which is no Unicode text"),
        (13, "12", "a number too large or lists too deep to keep"),
        (14, None, "not JSON: it is nested too deeply or has a number too long"),
        (15, None, "not JSON: it is nested too deeply or has a number too long"),
    ]
    assert {r.file for r in rejected} == {str(path)}


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.tsv"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(tmp_path, name, encoding):
    content = {
        "p.jsonl": '{"id": "1", "text": "Grüße"}\n{"id": "2", "text": "漢"}\n',
        "p.csv": "id,text\r\n1,Grüße\r\n2,漢\r\n",
        "p.tsv": "id\ttext\n1\tGrüße\n2\t漢\n",
    }[name]
    path = write(tmp_path / name, content.encode(encoding))
    records, rejected = split(text_source([path]))
    assert rejected == []
    assert [(r.id, r.text, r.metadata) for r in records] == [("1", "Grüße", {}), ("2", "漢", {})]


def test_a_line_too_long_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MOST_BYTES", 100)
    long = '{"id": 2, "text": "' + "x" * 1000 + '"}'
    path = jsonl(tmp_path / "p.jsonl", {"id": 1, "text": "a"}, long, {"id": 3, "text": "b"}, long)
    records, rejected = split(text_source([path]))
    assert [record.id for record in records] == ["1", "3"]
    assert [r.line for r in rejected] == [2, 4]
    assert rejected[0].reason.startswith("a line of more than")
    table = write(tmp_path / "p.csv", "id,text\n1,a\n2," + "x" * 1000 + "\n3,b\n")
    records, rejected = split(text_source([table]))
    assert [record.id for record in records] == ["1", "3"]
    assert [r.line for r in rejected] == [3]


# --- delimited files -------------------------------------------------------------------------------------------


def test_cells_become_what_they_say(tmp_path):
    header = "id,text,int,neg,float,exp,yes,no,zip,empty,nan,inf,big,words,phone"
    row = "007,a coat,12,-3,1.50,2e3,true,FALSE,01234,,NaN,inf,1234567890123456789012,two words,+49"
    ((record,), _) = split(text_source([write(tmp_path / "p.csv", f"{header}\n{row}\n")]))
    assert (record.id, record.text) == ("007", "a coat")
    assert record.metadata == {
        "int": 12,
        "neg": -3,
        "float": 1.5,
        "exp": 2000.0,
        "yes": True,
        "no": False,
        "zip": "01234",
        "nan": "NaN",
        "inf": "inf",
        "big": 1234567890123456789012.0,
        "words": "two words",
        "phone": "+49",
    }
    assert type(record.metadata["int"]) is int


def test_the_text_and_the_id_stay_as_they_are_written(tmp_path):
    ((record,), _) = split(text_source([write(tmp_path / "p.csv", "sku,title\n 1.0 , 5 \n")]))
    assert (record.id, record.text) == (" 1.0 ", " 5 ")


def test_quoted_cells_with_commas_quotes_and_lines(tmp_path):
    path = write(tmp_path / "p.csv", 'text,n\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n')
    assert [(r.id, r.text, r.metadata) for r in split(text_source([path]))[0]] == [
        ("p.csv:2", 'a, "b"\nc', {"n": 1}),
        ("p.csv:5", "d", {"n": 2}),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_what_a_csv_file_is_split_by(tmp_path, delimiter):
    path = write(tmp_path / "p.csv", f"id{delimiter}text\n1{delimiter}a\n")
    assert [(r.id, r.text) for r in split(text_source([path]))[0]] == [("1", "a")]


def test_one_column_of_texts(tmp_path):
    path = write(tmp_path / "p.csv", "question\nwhat; now?\nand then|\n")
    assert [r.text for r in split(text_source([path]))[0]] == ["what; now?", "and then|"]


def test_columns_without_a_name_and_with_the_same(tmp_path):
    path = write(tmp_path / "p.csv", ",text,n,n\n1,a,2,3\n")
    assert [r.metadata for r in split(text_source([path]))[0]] == [{"column_1": 1, "n": 2, "n_2": 3}]


def test_bad_rows_end_nothing(tmp_path):
    path = write(
        tmp_path / "p.csv",
        b'id,text\n1,a\n2\n3,b,c\n,d\n5,\n"6"x,e\n7,f\n8,Gr\xfc\xdfe\n9,"never closed\n10,g\n',
    )
    records, rejected = split(text_source([path]))
    assert [(record.id, record.text) for record in records] == [("1", "a"), ("7", "f"), ("8", "Grüße")]
    assert records[-1].metadata == {"encoding": "cp1252"}
    assert [(r.line, r.id, r.reason) for r in rejected] == [
        (3, None, "1 cells where the header has 2"),
        (4, None, "3 cells where the header has 2"),
        (5, None, "no id in 'id'"),
        (6, "5", "no text in 'text'"),
        (7, None, "not a row: ',' expected after '\"'"),
        (10, None, "not a row: unexpected end of data (up to line 11)"),
    ]


def test_a_text_column_that_a_table_has_not(tmp_path):
    path = write(tmp_path / "p.csv", "a,b\nx,y\n")
    with pytest.raises(SourceError, match="no column 'text' for the text; there are: a, b"):
        text_source([path], text="text")


# --- all together ----------------------------------------------------------------------------------------------


def test_a_folder_of_everything(tmp_path):
    write(tmp_path / "a.txt", "Ay")
    jsonl(tmp_path / "in" / "p.jsonl", {"text": "line"}, "broken")
    write(tmp_path / "in" / "q.tsv", "id\ttext\nq1\trow\n")
    write(tmp_path / "numbers.csv", "x,y\n1,2\n")
    write(tmp_path / "void.csv", "")
    source = text_source([tmp_path])
    records, rejected = split(source)
    assert [(r.id, r.text) for r in records] == [("a.txt", "Ay"), ("in/p.jsonl:1", "line"), ("q1", "row")]
    assert [(Path(r.file).name, r.line, r.reason) for r in rejected] == [
        ("p.jsonl", 2, "not JSON: expecting value"),
        ("numbers.csv", None, "cannot tell which column is the text; name it with --text: x, y"),
        ("void.csv", None, "empty file"),
    ]
    assert source.origins == (str(tmp_path),)
    assert {item.origin for item in source if isinstance(item, Item)} == {str(tmp_path)}
    assert len(source) == 0


def test_several_inputs_one_after_the_other(tmp_path):
    folder = tmp_path / "docs"
    write(folder / "b.txt", "Bee")
    write(folder / "a.txt", "Ay")
    file = write(tmp_path / "c.md", "Sea")
    source = text_source([file, folder, file])
    assert [r.id for r in split(source)[0]] == ["c.md", "a.txt", "b.txt"]
    assert source.origins == (str(file), str(folder))
    assert len(source) == 3


def test_what_is_refused_before_any_work(tmp_path):
    (tmp_path / "void").mkdir()
    picture = write(tmp_path / "a.PNG", "x")
    for paths, match in [
        ([], "nothing to read"),
        ([tmp_path / "gone"], "gone: no such file or folder"),
        ([tmp_path / "gone.jsonl"], "no such file or folder"),
        ([picture], r"a.PNG: cannot read .png files as text; use .txt, .md, .rst, .html"),
        ([tmp_path / "void"], "void: no .txt, .* file in this folder"),
    ]:
        with pytest.raises(SourceError, match=match) as caught:
            text_source(paths)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_an_empty_file_is_told(tmp_path, name):
    path = write(tmp_path / name, "")
    assert reasons(text_source([path])) == [(None, "empty file")]


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "oops\n[1]\n"), ("a.csv", "a,b\n1\n2\n")])
def test_a_table_of_nothing_usable_is_told_line_by_line(tmp_path, name, content):
    path = write(tmp_path / name, content)
    first = 1 if name == "a.jsonl" else 2
    assert [line for line, _ in reasons(text_source([path], text="t"))] == [first, first + 1]


@given(st.binary(max_size=300), st.sampled_from([".txt", ".jsonl", ".csv", ".tsv"]))
def test_any_bytes_give_records_or_reasons(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    path.write_bytes(data)
    try:
        found = list(text_source([path]))
    except SourceError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    for item in found:
        if isinstance(item, Rejected):
            assert item.reason
            assert "\n" not in item.reason
        else:
            assert item.record.text.strip()
            json.dumps(dict(item.record.metadata), allow_nan=False).encode()


def test_a_kind_in_a_table_is_the_kind_of_the_record(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "1", "text": "x", "kind": "module"}\n{"id": "2", "text": "y", "kind": 3}\n', encoding="utf-8"
    )
    first, second = text_source([path])
    assert (first.record.kind, first.record.metadata) == ("module", {"kind": "module"})
    assert (second.record.kind, second.record.metadata) == ("text", {"kind": 3})
