"""Declared fields: that the index serves each comparison, follows every change, and can be taken away."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import search
from search.catalog import fields, where
from search.catalog.compiled import compiled
from search.catalog.where.condition import Term
from search.catalog.where.spans import End, Sign, Span, beginning, stretch
from search.collection import Collection
from search.writer import Writer

ROWS: list[dict[str, Any]] = [
    {
        "price": None if i % 17 == 0 else i % 100 if i % 2 else i % 100 + 0.5,
        "name": ["ab", "Abc", "aBcd", "b", "ä", "z"][i % 6],
        "mixed": [i, str(i), True, False, [i], {"x": i}, None][i % 7],
        "on": f"2024-01-{1 + i % 31:02}",
        "a": {"b": i % 10} if i % 3 else "flat",
        "a.b": i % 4,
    }
    for i in range(5000)
]


def filled(path: Path, n: int, declared: tuple[str, ...] = (), at_once: int = 500) -> Collection:
    shop = search.open(path)
    shop.add([{"id": "first", "metadata": {**ROWS[1], "a": {"b": 1}}}])
    for name in declared:
        shop.index_field(name)
    shop.delete("first")
    for begin in range(0, n, at_once):
        rows = ROWS[begin : min(begin + at_once, n)]
        shop.add([{"id": str(begin + i), "metadata": row} for i, row in enumerate(rows)])
    return shop


def ids(shop: Collection, expression: str) -> list[int]:
    with shop.database.reading() as transaction:
        keys = where.matching(transaction, where.asked(transaction, expression)).tolist()
        names = dict(transaction.sql("select key, id from record"))
    return [int(names[key]) for key in keys]


def sound(shop: Collection) -> bool:
    with shop.database.reading() as transaction:
        return fields.problems(transaction) == []


QUESTIONS = {
    "price = 51": lambda row: row["price"] == 51,
    "price < 3": lambda row: row["price"] is not None and row["price"] < 3,
    "price >= 98.5": lambda row: row["price"] is not None and row["price"] >= 98.5,
    "price > 10 and price <= 12": lambda row: row["price"] is not None and 10 < row["price"] <= 12,
    "price > 10 and price < 12 and price != 11": lambda row: row["price"] in (10.5,),
    "price between 97 and 98": lambda row: row["price"] is not None and 97 <= row["price"] <= 98,
    "price not between 1 and 98": lambda row: row["price"] is not None and not 1 <= row["price"] <= 98,
    "not (price < 98 or price > 99)": lambda row: row["price"] is not None and 98 <= row["price"] <= 99,
    "price in (3, 4.5, 'x')": lambda row: row["price"] in (3, 4.5),
    "price is null": lambda row: row["price"] is None,
    "price is not null and name = 'z'": lambda row: row["price"] is not None and row["name"] == "z",
    "name >= 'A' and price is null": lambda row: row["price"] is None,
    "name like 'ab%'": lambda row: row["name"] in ("ab", "Abc", "aBcd"),
    "name like 'AB_'": lambda row: row["name"] == "Abc",
    "name like 'ä%'": lambda row: row["name"] == "ä",
    "name like '%c%' and price < 9": lambda row: "c" in row["name"] and (row["price"] or 9) < 9,
    "name not like 'a%'": lambda row: row["name"] in ("b", "ä", "z"),
    "name > 'b'": lambda row: row["name"] in ("ä", "z"),
    "name in ('b', 'z') and price = 3 and \"on\" = '2024-01-04'": lambda row: (
        row["name"] in ("b", "z") and row["price"] == 3 and row["on"] == "2024-01-04"
    ),
    "mixed > 100": lambda row: type(row["mixed"]) is int and row["mixed"] > 100,
    "mixed > '100'": lambda row: type(row["mixed"]) is str and row["mixed"] > "100",
    "mixed": lambda row: row["mixed"] is True,
    "mixed = false": lambda row: row["mixed"] is False,
    "mixed > false": lambda row: row["mixed"] is True,
    "mixed in (7, '8', true)": lambda row: row["mixed"] == "8" or row["mixed"] is True or row is ROWS[7],
    "mixed != '8'": lambda row: row["mixed"] is not None and row["mixed"] != "8",
    "\"on\" >= date '2024-01-30'": lambda row: row["on"] >= "2024-01-30",
    "\"on\" > date '2024-01-01' and \"on\" < date '2024-01-03'": lambda row: row["on"] == "2024-01-02",
    "a.b = 3": lambda row: row["a"]["b"] == 3 if isinstance(row["a"], dict) else row["a.b"] == 3,
    '"a.b" = 3': lambda row: row["a.b"] == 3,
    "price < 2 or name = 'z'": lambda row: (row["price"] is not None and row["price"] < 2) or row["name"] == "z",
    "id in ('3', '4', '4999') and price > 0": lambda row: row is ROWS[3] or row is ROWS[4] or row is ROWS[4999],
    "id = '3' and price = 3": lambda row: row is ROWS[3],
}  # fmt: skip
DECLARED = ("price", "name", "mixed", "on", "a.b")


@pytest.fixture(scope="module", params=["none", "before", "after"])
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Collection:
    """5,000 records: fields not declared, declared before they came, and after."""
    before = DECLARED if request.param == "before" else ()
    shop = filled(tmp_path_factory.mktemp("fields") / "c", len(ROWS), before)
    for name in DECLARED if request.param == "after" else ():
        shop.index_field(name)
    return shop


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_same_records_with_and_without(shop: Collection, question: str) -> None:
    expected = [i for i, row in enumerate(ROWS) if QUESTIONS[question](row)]
    assert expected, "a question that picks nothing asks nothing"
    assert ids(shop, question) == expected
    assert shop.count(question) == len(expected)


def test_new_records_are_taken_in_many_at_a_time(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 5000, ("price",), at_once=700)
    with shop.database.reading() as transaction:
        until = transaction.value("select until from indexed_field")
        n = transaction.value("select count(*) from indexed_value")
    assert until == 4097  # keys from 2; those of the last 904 are read from their JSON
    assert n == sum(row["price"] is not None for row in ROWS[: 4097 - 2])
    assert sound(shop)


CHANGES = {
    "a value": ({"price": 1000}, [7], "price > 999"),
    "to another type": ({"price": "1000"}, [7], "price = '1000'"),
    "to null": ({"price": None}, [7], "price is null and id = '7'"),
    "away": ({"other": 1}, [7], "price is null and id = '7'"),
    "to a date": ({"price": "2024-05-05"}, [7], "price = date '2024-05-05'"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sorted_already", [True, False])
def test_an_update_is_followed(tmp_path: Path, change: str, sorted_already: bool) -> None:
    shop = filled(tmp_path / "c", 20, ("price",))
    if sorted_already:
        shop.index_field("price")
    metadata, expected, question = CHANGES[change]
    old = ROWS[7]["price"]
    assert 7 in ids(shop, f"price = {old}")
    shop.add([{"id": "7", "metadata": metadata}])
    assert ids(shop, question) == expected
    assert 7 not in ids(shop, f"price = {old}")
    assert sound(shop)


def test_deletes_are_followed(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 300, ("price", "name"))
    shop.index_field("price")
    gone = ids(shop, "price < 50")
    assert shop.delete(where="price < 50") == len(gone)
    assert ids(shop, "price < 50") == []
    assert ids(shop, "name = 'z'") == [i for i in range(300) if i % 6 == 5 and i not in gone]
    assert sound(shop)
    shop.delete([str(i) for i in range(300)])
    with shop.database.reading() as transaction:
        assert transaction.value("select count(*) from indexed_value") == 0
    shop.add([{"id": "new", "metadata": {"price": 5}}])
    assert shop.count("price = 5") == 1
    shop.index_field("price")
    assert shop.count("price = 5") == 1
    assert sound(shop)


def _change_then_fail(writer: Writer) -> None:
    with writer.together():
        writer.put([search.Record("7", metadata={"price": 77})])
        writer.delete([3])
        writer.put([search.Record("")])


def test_a_commit_that_fails_leaves_nothing(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 20, ("price",))
    shop.index_field("price")
    with shop.writing() as writer, pytest.raises(search.QueryError):
        _change_then_fail(writer)
    assert ids(shop, "price = 7") == [7]
    assert sound(shop)


def test_another_process_sees_the_declaration_at_its_next_question(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 50)
    reader = search.open(tmp_path / "c", mode="r")
    assert ids(reader, "price = 7") == [7]
    shop.index_field("price")
    with reader.database.reading() as transaction:
        condition = where.asked(transaction, "price = 7")
        assert condition.undeclared == ()
        assert fields.declared(transaction) == ["price"]
    assert ids(reader, "price = 7") == [7]
    shop.add([{"id": "99", "metadata": {"price": 7}}])
    assert ids(reader, "price = 7") == [7, 99]
    with pytest.raises(search.CollectionError, match="read only"):
        reader.index_field("name")


def test_what_a_declaration_would_help(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 10, ("price",))
    question = "(name = 'x' or price < 3) and a.b = 1 and not name = 'y' and \"a.b\" = 1 and id = '1' and space is null"
    with shop.database.reading() as transaction:
        assert where.asked(transaction, question).undeclared == ("name", "a.b")


# ---- the plans ---------------------------------------------------------------------------------------------------


def plans(shop: Collection, expression: str) -> list[str]:
    """How SQLite looks up each query of an expression that is one term."""
    with shop.database.reading() as transaction:
        term = where.asked(transaction, expression).root
        assert isinstance(term, Term)
        assert term.lookup is not None
        found = []
        for query in term.lookup.queries:
            text, values = compiled(query)
            rows = transaction.sql(f"explain query plan {text}", values).fetchall()
            found += [row[3] for row in rows if "indexed_value" in row[3] or "record" in row[3]]
    return found


COVERING = "SEARCH indexed_value USING COVERING INDEX indexed_value_by_value "
REST = "SEARCH record USING INTEGER PRIMARY KEY (rowid>?)"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("price = 5", ["(field_key=? AND value=?)"]),
        ("price = '5'", ["(field_key=? AND value=?)"]),
        ("mixed", ["(field_key=? AND value=?)"]),
        ("price < 5", ["(field_key=? AND value<?)"]),
        ("price > 5", ["(field_key=? AND value>? AND value<?)"]),
        ("name < 'b'", ["(field_key=? AND value>? AND value<?)"]),
        ("name >= 'b'", ["(field_key=? AND value>? AND value<?)"]),
        ("price between 5 and 6.5", ["(field_key=? AND value>? AND value<?)"]),
        ("name between 'a' and 'b'", ["(field_key=? AND value>? AND value<?)"]),
        ("price > 5 and price < 9 and price <= 7", ["(field_key=? AND value>? AND value<?)"]),
        ("price in (5, 6, 7)", ["(field_key=? AND value=?)"]),
        ("name in ('a', 'b')", ["(field_key=? AND value=?)"]),
        ("price in (5, 'a')", ["(field_key=? AND value=?)"] * 2),
        ("price != 5", ["(field_key=? AND value<?)", "(field_key=? AND value>?)"]),
        ("not price < 5", ["(field_key=? AND value>?)"]),
        ("name like 'ä%'", ["(field_key=? AND value>? AND value<?)"]),
        ("name like 'a%'", ["(field_key=? AND value>? AND value<?)"] * 2),
    ],
)
def test_each_comparison_is_a_range_of_the_index(
    tmp_path: Path, expression: str, expected: list[str]
) -> None:
    shop = filled(tmp_path / "c", 10, ("price", "name", "mixed"))
    assert plans(shop, expression) == [*(COVERING + one for one in expected), REST]


def test_dates_are_a_range_of_their_own_index(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 10, ("on",))
    by_moment = "SEARCH indexed_value USING COVERING INDEX indexed_value_by_moment (field_key=? AND moment>?)"
    assert plans(shop, "\"on\" >= date '2024-01-01'") == [by_moment, REST]


def test_an_id_is_looked_up(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 10)
    assert plans(shop, "id = '3'") == ["SEARCH record USING COVERING INDEX sqlite_autoindex_record_1 (id=?)"]


# ---- stretches ---------------------------------------------------------------------------------------------------


def test_stretches_of_the_order_of_all_values() -> None:
    assert stretch(Sign.BELOW, 5) == Span(None, End(5, open=True))
    assert stretch(Sign.AT_LEAST, 5) == Span(End(5), End("", open=True))
    assert stretch(Sign.ABOVE, "a") == Span(End("a", open=True), End(b"", open=True))
    assert stretch(Sign.AT_MOST, "a") == Span(End(""), End("a"))
    assert stretch(Sign.EQUAL, True) == Span(End(b"\x01"), End(b"\x01"))
    assert stretch(Sign.AT_MOST, True) == Span(End(b"\x00"), End(b"\x01"))


def test_what_is_in_two_stretches() -> None:
    assert stretch(Sign.ABOVE, 3).within(stretch(Sign.AT_LEAST, 3)) == Span(
        End(3, open=True), End("", open=True)
    )
    assert stretch(Sign.AT_LEAST, 3).within(stretch(Sign.ABOVE, 3)) == Span(
        End(3, open=True), End("", open=True)
    )
    assert stretch(Sign.AT_MOST, 3).within(stretch(Sign.BELOW, 3)) == Span(None, End(3, open=True))
    assert stretch(Sign.AT_LEAST, 3).within(stretch(Sign.AT_MOST, 3)).is_point
    assert not stretch(Sign.ABOVE, 3).within(stretch(Sign.AT_MOST, 3)).is_point
    assert stretch(Sign.ABOVE, 3).within(stretch(Sign.ABOVE, "a")) == Span(
        End("a", open=True), End("", open=True)
    )


def test_what_is_outside_a_stretch() -> None:
    assert stretch(Sign.BELOW, 5).outside() == (Span(End(5), None),)
    assert stretch(Sign.EQUAL, "a").outside() == (
        Span(None, End("a", open=True)),
        Span(End("a", open=True), None),
    )


def test_the_stretch_of_a_beginning() -> None:
    assert beginning("ab") == Span(End("ab"), End("ac", open=True))
    assert beginning("a\ud7ff") == Span(End("a\ud7ff"), End("a\ue000", open=True))
    assert beginning("\U0010ffff") == Span(End("\U0010ffff"), End(b"", open=True))


# ---- declaring ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_declared(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 10)
    shop.add([{"id": "quote", "metadata": {'5" disk': 1}}])
    for name, said in (
        ("pricee", "no record has a field 'pricee'; did you mean price?"),
        ("kind", "'kind' is not in the metadata"),
        ("", "no record has a field ''"),
        ('5" disk', "quote in its name"),
        ("x'; drop table record; --", "no record has a field"),
        (5, "the name of a field is a int"),
    ):
        with pytest.raises(search.QueryError, match=said):
            shop.index_field(name)  # type: ignore[arg-type]
    with pytest.raises(search.QueryError, match="the field 'price' is not declared; there are none"):
        shop.index_field("price", drop=True)
    shop.index_field("price")
    with pytest.raises(search.QueryError, match="'prize' is not declared; did you mean price"):
        shop.index_field("prize", drop=True)


def test_names_that_would_break_out_are_only_names(tmp_path: Path) -> None:
    names = [
        "x'; drop table record; --",
        "')) or 1 = 1 --",
        "a b",
        "Größe",
        "Price",
        "price",
        "ta\tb",
        "bä\\ck",
    ]
    shop = search.open(tmp_path / "c")
    shop.add([{"id": "a", "metadata": {name: i for i, name in enumerate(names)}}, {"id": "b"}])
    for name in names:
        shop.index_field(name)
    for i, name in enumerate(names):
        with shop.database.reading() as transaction:
            condition = where.asked(transaction, f'"{name}" = {i}')
            assert condition.undeclared == ()
            assert len(where.matching(transaction, condition)) == 1
    with shop.database.reading() as transaction:
        assert fields.declared(transaction) == sorted(names)
    assert sound(shop)
    assert shop.count() == 2


def tables(shop: Collection) -> set[str]:
    connection = sqlite3.connect(shop.layout.catalog)
    names = {
        row[0] for row in connection.execute("select name from sqlite_master where name like 'indexed%'")
    }
    connection.close()
    return names


def test_dropping_leaves_the_others_and_then_nothing(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 100, ("price", "name"))
    shop.index_field("price", drop=True)
    with shop.database.reading() as transaction:
        assert fields.declared(transaction) == ["name"]
        kept = [row[0] for row in transaction.sql("select distinct value from indexed_value")]
        assert where.asked(transaction, "price = 3").undeclared == ("price",)
    assert set(kept) <= {row["name"] for row in ROWS}
    assert ids(shop, "price = 3") == [i for i in range(100) if ROWS[i]["price"] == 3]
    shop.index_field("name", drop=True)
    assert tables(shop) == set()
    shop.add([{"id": "7", "metadata": {"price": 8}}])
    shop.index_field("price")
    assert 7 in ids(shop, "price = 8")
    assert sound(shop)


def test_a_death_while_declaring_leaves_the_collection_as_it_was(tmp_path: Path) -> None:
    filled(tmp_path / "c", 3000).close()
    script = (
        "import os, sys, search\n"
        "from search.catalog import fields\n"
        "take = fields._take_in\n"
        "def die(connection):\n"
        "    take(connection)\n"
        "    os._exit(9)\n"
        "fields._take_in = die\n"
        "search.open(sys.argv[1]).index_field('price')\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path / "c")], check=False)
    assert died.returncode == 9
    shop = search.open(tmp_path / "c")
    assert tables(shop) == set()
    assert len(ids(shop, "price = 51")) == 28
    shop.index_field("price")
    assert len(ids(shop, "price = 51")) == 28


def test_damage_is_found_and_mended(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 100, ("price", "name", "on"))
    for name in ("price", "name", "on"):
        shop.index_field(name)
    wounds = (
        "update indexed_value set value = 999 where record_key = 20 and field_key = 1",
        "delete from indexed_value where record_key = 21 and field_key = 1",
        "insert into indexed_value values (1, 12345, 5, null)",
        "update indexed_value set moment = 5 where record_key = 22 and field_key = 3",
    )
    for wound in wounds:
        connection = sqlite3.connect(shop.layout.catalog)
        connection.execute(wound)
        connection.commit()
        connection.close()
    with shop.database.reading() as transaction:
        found = fields.problems(transaction)
    assert [line.split(";")[0] for line in found] == [
        "the declared field 'on' differs from 1 of the records",
        "the declared field 'price' differs from 3 of the records",
    ]
    for name in ("on", "price"):
        shop.index_field(name, drop=True)
        shop.index_field(name)
    assert sound(shop)


def test_without_its_triggers_a_declaration_is_not_believed(tmp_path: Path) -> None:
    shop = filled(tmp_path / "c", 100, ("price",))
    shop.index_field("price")
    connection = sqlite3.connect(shop.layout.catalog)
    connection.execute("drop trigger indexed_after_update")
    connection.commit()
    connection.close()
    shop.add([{"id": "7", "metadata": {"price": 1000}}])
    assert ids(shop, "price = 1000") == [7]
    assert not sound(shop)
    shop.index_field("price")
    assert ids(shop, "price = 1000") == [7]
    assert sound(shop)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ingest.cli.main import run

    place = ["-c", str(tmp_path / "c")]
    filled(tmp_path / "c", 20).close()

    def told(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(["index-field", *arguments, *place])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    assert told("price", "--json") == (
        0,
        json.dumps({"field": "price", "declared": True}, indent=2) + "\n",
        "",
    )
    assert told("a.b")[:2] == (0, "a.b is declared: filters on it are quick\n")
    with search.open(tmp_path / "c") as shop, shop.database.reading() as transaction:
        assert fields.declared(transaction) == ["a.b", "price"]
    assert told("price", "--drop")[:2] == (0, "price is no longer declared\n")
    code, out, err = told("prcie")
    assert (code, out) == (1, "")
    assert err == "error: no record has a field 'prcie'; did you mean price?\n"
    with search.open(tmp_path / "c") as shop, shop.database.reading() as transaction:
        assert fields.declared(transaction) == ["a.b"]
    with pytest.raises(SystemExit) as ended:
        run(["index-field", "price", "-c", str(tmp_path / "absent")])
    assert ended.value.code == 1
    assert not (tmp_path / "absent").exists()
