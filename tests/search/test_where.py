"""Where-expressions by table: which records each picks, where each fault stands, and what cannot be smuggled in."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import search
from search.catalog import migrations, where
from search.collection import Collection

RECORDS: dict[str, dict[str, Any]] = {
    "ints": {"n": 5, "flag": True, "s": "x"},
    "floats": {"n": 5.5, "flag": False, "s": "it's"},
    "five": {"n": 5.0, "s": "Straße"},
    "text": {"n": "5", "flag": "true", "s": ""},
    "null": {"n": None, "flag": None, "s": None},
    "none": {},
    "deep": {"a": {"b": {"c": 1}, "on": True, "off": False}, "a.b": 2, "x": {"y.z": 3}, "list": [1, 2]},
    "odd": {
        "two words": 1,
        "select": 2,
        "ключ": "знач🐟",
        "back\\slash": 3,
        "tab\t": 4,
        "UPPER": 5,
        "50%": "a_b",
    },
    "big": {"n": 2**63, "m": 2**53 + 1, "t": "2024-05-01"},
    "words": {
        "order": 1,
        "from": 2,
        "null": 3,
        "case": 4,
        "text": "own?",
        "year": 1999,
        "date": "x",
        "if": 5,
    },
    "small": {"n": -5, "m": 2**53, "t": "2024-04-30"},
    "true": {"n": True},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    shop = search.open(tmp_path_factory.mktemp("where") / "c")
    records = [search.Record(id, metadata=metadata) for id, metadata in RECORDS.items()]
    shop.add(records, [[float(i), 1.0] for i in range(len(records))], space="v")
    shop.add([search.Record("own", "a kind", "file:///x", "some Text")])
    shop.add([search.Record("ints"), search.Record("deep")], [[1.0], [2.0]], space="pictures")
    return shop


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, shop: Collection) -> Collection:
    """The same with every field declared that can be."""
    copy = shop.backup(tmp_path_factory.mktemp("quick") / "c")
    quick = search.open(copy)
    for name in quick.info()["fields"]:
        quick.index_field(name)
    return quick


def looked_up(shop: Collection, expression: str) -> str:
    """The ids that match, as the catalog finds them."""
    with shop.database.reading() as connection:
        keys = where.matching(connection, where.asked(connection, expression)).tolist()
        ids = dict(connection.sql("select key, id from record"))
    assert keys == sorted(set(keys))
    return " ".join(ids[key] for key in keys)


def picked(shop: Collection, expression: str) -> str:
    """The ids that match, as `count`, `search` and `export` must agree on them."""
    n = shop.count(expression)
    path = shop.path / "picked.jsonl"
    shop.export(path, where=expression)
    ids = [line.split('"')[3] for line in path.read_text().splitlines()]
    assert len(ids) == n
    hits = shop.search(vector=[1, 1], k=100, where=expression)
    assert {hit.id for hit in hits} == set(ids) - {"own"}
    return " ".join(ids)


TABLE = [
    # A comparison holds between values of one type: a number is no string, and true is no number.
    ("n = 5", "ints five"),
    ("n = 5.0", "ints five"),
    ("n == 5", "ints five"),
    ("5 = n", "ints five"),
    ("n = '5'", "text"),
    ("n = true", "true"),
    ("n > 4", "ints floats five big"),
    ("4 < n", "ints floats five big"),
    ("n >= 5.5", "floats big"),
    ("n < 5.1", "ints five small"),
    ("n <= -5", "small"),
    ("n < 'a'", "text"),
    ("n > -(-5)", "floats big"),
    ("n = +5", "ints five"),
    # What is unknown (absent or null) is left out, under `not` too.
    ("n != 5", "floats text big small true"),
    ("n <> 5", "floats text big small true"),
    ("not n = 5", "floats text big small true"),
    ("not (n > 0)", "text small true"),
    ("not not n = 5", "ints five"),
    ("n is null", "null none deep odd words own"),
    ("n isnull and id = 'none'", "none"),
    ("n is not null", "ints floats five text big small true"),
    ("n notnull", "ints floats five text big small true"),
    ("not n is null", "ints floats five text big small true"),
    ("n = 5 or n is null", "ints five null none deep odd words own"),
    ("not (n = 5 and flag)", "floats text big small true"),  # five: 5 and unknown is unknown
    ("n = 5 and not flag", ""),
    # A bare field is true where it is true.
    ("flag", "ints"),
    ("not flag", "floats text"),
    ("flag = false", "floats"),
    ("flag != true", "floats text"),
    ("flag = 'true'", "text"),
    ("flag = 1", ""),
    # Precedence: not, and, or.
    ("n = 5 or n = 5.5 and flag", "ints five"),
    ("(n = 5 or n = 5.5) and flag", "ints"),
    ("not n = 5 and n > 0", "floats big"),
    ("NOT N IS NULL AND n = 5 OR n = '5'", None),  # fields have the case they were given in
    # in and between.
    ("n in (5, '5')", "ints five text"),
    ("n in (5.5, true, 7)", "floats true"),
    ("n not in (5)", "floats text big small true"),
    ("n in (5,)", "ints five"),
    ("n between 5 and 5.5", "ints floats five"),
    ("n not between -10 and 10", "text big true"),
    ("n between 6 and 5", ""),
    ("s between 'a' and 'y'", "ints floats"),
    ("t between date '2024-05-01' and date '2025-01-01'", "big"),
    ("t < '2024-05-01'", "small"),
    # Large numbers.
    ("n > 9223372036854775806", "big"),
    ("n = 9223372036854775808", "big"),
    ("m = 9007199254740993", "big"),
    ("m = 9007199254740992", "small"),
    ("n < 1e999", "ints floats five big small"),
    ("n > -1e999", "ints floats five big small"),
    ("n in (1e999, 5)", "ints five"),
    ("n = 99999999999999999999999999", ""),
    # Strings, and like (in which a-z and A-Z are alike, as in SQLite).
    ("s = 'it''s'", "floats"),
    ("s = ''", "text"),
    ("s = 'straße'", ""),
    ("s like 'STRA%'", "five"),
    ("s like 'straße'", "five"),
    ("s like 'STRASSE'", ""),
    ("s like '_'", "ints"),
    ("s not like '_'", "floats five text"),
    ("s like '%'", "ints floats five text"),
    ("n like '5'", "text"),  # a number is no string
    ("\"50%\" like 'a_b'", "odd"),
    ("\"50%\" = 'a_b'", "odd"),
    # Names: nested ones with dots, keys that have dots, quoted ones.
    ("a.b.c = 1", "deep"),
    ("a.on", "deep"),
    ("a.off", ""),
    ("not a.off and a.on", "deep"),
    ('"a"."b"."c" = 1', "deep"),
    ('"a.b" = 2', "deep"),
    ("x.y.z = 3", "deep"),
    ('x."y.z" = 3', "deep"),
    ('"two words" = 1', "odd"),
    ("[two words] = 1", "odd"),
    ("`two words` = 1", "odd"),
    ('"select" = 2', "odd"),
    ("ключ = 'знач🐟'", "odd"),
    ('"back\\slash" = 3', "odd"),
    ('"tab\t" = 4', "odd"),
    ("UPPER = 5", "odd"),
    # The record's own fields.
    ("id = 'own'", "own"),
    ("id in ('own', 'none', 'absent')", "none own"),
    ("id like '%n%' and n is null", "null none own"),
    ("kind = 'a kind'", "own"),
    ("kind is null and n = 5", "ints five"),
    ("not kind = 'other'", "own"),
    ("uri like 'file:%'", "own"),
    ("text like '%TEXT%'", "own"),
    ("text > 'a'", "own"),
    # Fields of the metadata that are called like those, or like words of SQL.
    ("metadata.text = 'own?'", "words"),
    ("metadata.text is null and id = 'own'", "own"),
    ("metadata.n = 5", "ints five"),
    ('metadata."two words" = 1', "odd"),
    ("order = 1 and year > 1998 and date = 'x'", "words"),
    ('"from" = 2 and "null" = 3', "words"),
    ('"case" in (4) and not "if" < 5', "words"),
    ("metadata.order = 1", "words"),
    ("NOT n IN (5) AND n BETWEEN 5 AND 6", "floats"),
    ("S LIKE 'x'", None),
    # Comments and white space say nothing.
    ("  n\n=\t5 -- five\n or /* more */ n = '5'", "ints five text"),
]


@pytest.mark.parametrize(("expression", "expected"), TABLE)
def test_the_table(shop: Collection, quick: Collection, expression: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(search.FilterError):
            shop.count(expression)
    else:
        assert picked(shop, expression) == expected
        assert looked_up(quick, expression) == expected


SPACES = [
    ("space = 'v'", "ints floats five text null none deep odd big words small true"),
    ("space = 'pictures'", "ints deep"),
    ("space in ('pictures')", "ints deep"),
    ("space in ('pictures', 'v') and n > 5", "floats big"),
    ("space != 'pictures'", "floats five text null none odd big words small true own"),
    ("not (space = 'pictures')", "floats five text null none odd big words small true own"),
    ("space not in ('v')", "own"),
    ("space is null", "own"),
    ("space is not null and n is null", "null none deep odd words"),
    ("space like 'PICT%'", "ints deep"),
    ("space not like '%'", "own"),
    ("space = 'pictures' and space = 'v'", "ints deep"),
    ("space = 'pictures' and n = 5", "ints"),
    ("space = 'pictures' or n = 5", "ints five deep"),
    ("not (space = 'pictures' or n = 5)", "floats text big small true"),
    ("space > 'o' and space < 'q'", "ints deep"),
    ("space >= 'w'", ""),
    ("'pictures' = space", "ints deep"),
]


@pytest.mark.parametrize(("expression", "expected"), SPACES)
def test_the_spaces_of_a_record(shop: Collection, quick: Collection, expression: str, expected: str) -> None:
    assert looked_up(shop, expression) == expected
    assert looked_up(quick, expression) == expected
    n = len(expected.split())
    assert (shop.count(expression), quick.count(expression)) == (n, n)


def test_a_record_that_leaves_a_space_is_no_longer_found_by_it(tmp_path: Path) -> None:
    shop = search.open(tmp_path / "c")
    shop.add([{"id": "a", "text": "x"}, {"id": "b", "text": "y"}], [[1.0], [2.0]], space="v")
    assert looked_up(shop, "space = 'v'") == "a b"
    shop.delete("a")
    assert looked_up(shop, "space = 'v'") == "b"


DATES: dict[str, Any] = {
    "day": "2024-01-31",
    "noon": "2024-01-31T12:00:00Z",
    "space": "2024-01-31 12:00",
    "east": "2024-02-01T01:30:00+02:00",  # 23:30 of the day before
    "west": "2024-01-31T23:30:00.25-05:00",  # 04:30 and a quarter second of the day after
    "leap": "2024-02-29",
    "none": "2024-02-30",
    "year": 2024,
    "word": "later",
    "null": None,
    "long ago": "0001-01-01T00:00:00.000001",
}
MOMENTS = [
    ("seen >= date '2024-01-31'", "day noon space east west leap"),
    ("seen = date '2024-01-31'", "day"),
    ("seen < date '2024-02-01'", "day noon space east long ago"),
    ("seen >= date '2024-02-01'", "west leap"),
    ("date '2024-02-01' <= seen", "west leap"),
    ("seen != date '2024-01-31'", "noon space east west leap long ago"),
    ("not seen < date '2024-02-01'", "west leap"),
    ("seen = timestamp '2024-01-31T12:00:00'", "noon space"),
    ("seen = timestamp '2024-01-31 13:00+01:00'", "noon space"),
    ("seen = timestamp '2024-01-31T23:30:00Z'", "east"),
    ("seen > timestamp '2024-02-01T04:30:00.249999Z'", "west leap"),
    ("seen > timestamp '2024-02-01T04:30:00.25Z'", "leap"),
    ("seen = timestamp '2024-01-31'", "day"),
    ("seen between date '2024-01-31' and timestamp '2024-01-31T12:00:00Z'", "day noon space"),
    ("seen not between date '2024-01-31' and timestamp '2024-01-31T12:00:00Z'", "east west leap long ago"),
    ("seen in (date '2024-02-29', timestamp '2024-01-31T12:00:00Z')", "noon space leap"),
    ("seen in (date '2024-02-29', '2024-02-30', 2024)", "leap none year"),
    ("seen not in (date '2024-02-29')", "day noon space east west long ago"),
    ("seen < date '0001-01-02'", "long ago"),
    ("seen = timestamp '0001-01-01T00:00:00.000001'", "long ago"),
    # As strings: by their characters.
    ("seen >= '2024-01-31'", "day noon space east west leap none word"),
    ("seen = '2024-01-31'", "day"),
    ("seen like '2024-01-31%'", "day noon space west"),
]


@pytest.fixture(scope="module", params=["read", "declared"])
def calendar(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Collection:
    shop = search.open(tmp_path_factory.mktemp("dates") / "c")
    shop.add([{"id": id, "metadata": {"seen": value}} for id, value in DATES.items()])
    if request.param == "declared":
        shop.index_field("seen")
    return shop


@pytest.mark.parametrize(("expression", "expected"), MOMENTS)
def test_dates_are_moments(calendar: Collection, expression: str, expected: str) -> None:
    assert looked_up(calendar, expression) == expected


def test_the_own_columns_may_be_dates_too(tmp_path: Path) -> None:
    shop = search.open(tmp_path / "c")
    shop.add([{"id": "2024-01-31T23:00:00-05:00"}, {"id": "2024-01-31"}, {"id": "x"}])
    assert looked_up(shop, "id >= date '2024-02-01'") == "2024-01-31T23:00:00-05:00"
    assert looked_up(shop, "id in (date '2024-01-31', 'x')") == "2024-01-31 x"
    assert looked_up(shop, "id not in (date '2024-02-01')") == "2024-01-31T23:00:00-05:00 2024-01-31"


FAULTS = [
    ("", 0, "empty"),
    ("   ", 0, "empty"),
    ("m < ", 2, "near '<'"),
    ("m = 1 and", 6, "near 'and'"),
    ("m = 1 and\nand n = 2", 10, "near 'and n = 2'"),
    ("m = 1 nn = 2", 6, "near 'nn = 2'"),
    ("(m = 1", 5, "cannot be read"),
    ("m = 1)", 5, "cannot be read"),
    ("m = 'open", 4, "cannot be read"),
    ("price < 3", 0, "no record has a field 'price'"),
    ("m = 1 and flg", 10, "did you mean flag"),
    ("m = 1 and\nflg = 2", 10, "'flg'"),
    ("m = 1 and ключи = 2", 10, "did you mean ключ"),
    ("a.b.d = 1", 0, "'a.b.d'"),
    ("m = x", 4, "single quotes: 'x'"),
    ('m = "x"', 4, "single quotes"),
    ("m = null", 0, "is null"),
    ("m in (1, null)", 0, "is null"),
    ("id = 3", 0, "'id' is a string"),
    ("n = 1 or text > 2.5", 9, "'text' is a string"),
    ("id in ('a', 3)", 0, "'id' is a string"),
    ("text", 0, "'text' is a string"),
    ("m like 5", 0, "a pattern in quotes"),
    ("m = n", 4, "where a value should"),
    ("1 = 1", 0, "where a field should"),
    ("'n' = 5", 0, "where a field should"),
    ("true", 0, "cannot be used"),
    ("5", 0, "cannot be used"),
    ("m + 1 = 2", 0, "where a field should"),
    ("m = 1 + 1", 4, "cannot be used"),
    ("m = 1 = 1", 0, "where a field should"),
    ("m is true", 0, "cannot be used"),
    ("m is 5", 0, "cannot be used"),
    ("m between symmetric 5 and 1", 0, "cannot be used"),
    ("m = cast('5' as integer)", 9, "cannot be used"),
    ("m = -'5'", 5, "cannot be used"),
    ("m = x'41'", 0, "cannot be used"),
    ("m = ?", 4, "cannot be used"),
    ("m = :name", 0, "cannot be used"),
    ("s like 'a' escape 'b'", 0, "cannot be used"),
    ("s ilike 'a'", 0, "cannot be used"),
    ("s glob 'a*'", 0, "cannot be used"),
    ("s regexp 'a'", 0, "cannot be used"),
    ("s collate nocase = 'a'", 0, "where a field should"),
    ("(m, n) = (1, 2)", 1, "where a field should"),
    ("m in n", 0, "cannot be used"),
    ("m in ()", 0, ""),
    ("s = '\ud800'", 5, "surrogate"),
    ("s = 'a\0b'", 6, "NUL"),
    ("s = 'x' or \"open = 5", 11, "cannot be read"),
    ("s = 'x' /* open", 8, "cannot be read"),
    # Words of SQL, where a field has that name: the message says how to write it.
    ("from = 2", 0, 'in double quotes: "from"'),
    ("m = 1 and null = 3", 10, 'in double quotes: "null"'),
    ("m = 1 and case = 3", 10, 'in double quotes: "case"'),
    ("if = 5", 0, 'in double quotes: "if"'),
    ("m = 5 or if = 5", 9, 'in double quotes: "if"'),
    ("IF = 5", 0, "cannot be read"),
    ("metadata.zzz = 1", 0, "no record has a field 'zzz'"),
    ('"two\nlines" = 1', 0, "no record has a field 'two lines'"),
    # Dates that do not exist, or are written in another way.
    ("t = date '2024-13-40'", 9, "there is no day '2024-13-40'"),
    ("m = 1 and t >= date '2023-02-29'", 20, "there is no day '2023-02-29'"),
    ("t in ('x', date '0000-01-01')", 16, "there is no day"),
    ("t = date '2024-01-31T10:00'", 9, "is not a date"),
    ("t = date '20240131'", 9, "is not a date"),
    ("t = date '٢٠٢٤-01-01'", 9, "is not a date"),
    ("t = timestamp '2024-01-31 25:00'", 14, "there is no time"),
    ("t between date '2024-01-01' and timestamp 'noon'", 42, "is not a time"),
    ("t = timestamp '2024-01-31T10:00:00.1234567'", 14, "is not a time"),
    ("t = -date '2024-01-31'", 10, "cannot be used"),
    ("t like date '2024-01-31'", 0, "like takes a string"),
    # Spaces that there are not.
    ("space = 'u'", 8, "no space is called 'u'"),
    ("m = 1 or space in ('v', 'pictured')", 24, "did you mean pictures"),
    ("space != 'V'", 9, "there are: "),
    ("space = 3", 0, "'space' is a string"),
    ("space", 0, "'space' is a string"),
    ("space > date '2024-01-01'", 0, "compared with a date"),
]


@pytest.mark.parametrize(("expression", "position", "said"), FAULTS)
def test_each_fault_is_named_and_placed(
    shop: Collection, expression: str, position: int | None, said: str
) -> None:
    with pytest.raises(search.FilterError, match=None if not said else said.replace("(", r"\(")) as caught:
        shop.count(expression)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message
    if position is not None:
        assert caught.value.position == position
    assert caught.value.position is not None
    assert 0 <= caught.value.position <= len(expression)


INJECTIONS = [
    "x'; drop table record; --",
    "n = 5; drop table record",
    "n = 5; delete from record",
    "n = 5 union select 1",
    "n = 5) or (1 = 1",
    "n = 5 or 1 = 1",
    "n in (select key from record)",
    "exists (select 1)",
    "n = (select 5)",
    "n = (select count(*) from record)",
    "lower(s) = 'x'",
    "s = lower('X')",
    "load_extension('x') = 1",
    "n.lower() = 'x'",
    "a.b() = 2",
    "random() > 0",
    "case when n = 5 then 1 end",
    "n = case when 1 then 5 end",
    "n = @@version",
    "n = $1",
    "record.key = 1",
    "key = 1",
    "metadata like '%'",
    "rowid = 1",
    "s || 'x' = 'xx'",
    "a -> 'b' = 1",
    "a ->> '$.b' = 1",
    "n = 5 limit 1",
    "n = 5 order by n",
    "n = 5 group by n",
    "* = 1",
    "n = 5 /* unfinished",
    "n\x00 = 5",
    "select 1",
    "pragma user_version = 99",
    "attach database 'x' as y",
]


@pytest.mark.parametrize("expression", INJECTIONS)
def test_nothing_but_conditions_gets_through(shop: Collection, expression: str) -> None:
    for ask in (
        shop.count,
        lambda where: shop.delete(where=where),
        lambda where: shop.search(vector=[1, 1], where=where),
    ):
        with pytest.raises(search.FilterError):
            ask(expression)
    assert shop.count() == len(RECORDS) + 1
    connection = sqlite3.connect(shop.layout.catalog)
    assert connection.execute("pragma user_version").fetchone() == (migrations.CURRENT,)
    connection.close()


@pytest.mark.parametrize(
    "value",
    [
        "x'; drop table record; --",
        "' or '1' = '1",
        '" or "" = "',
        "%",
        "\\",
        "a\nb",
        "--",
        "/*",
        "?",
        ":x",
        "ÿ🐟",
    ],
)
def test_any_string_is_only_a_value(tmp_path: Path, value: str) -> None:
    shop = search.open(tmp_path / "c")
    shop.add(
        [
            {"id": value, "kind": value, "metadata": {"s": value, "t": 1}},
            {"id": "b", "metadata": {"s": "other"}},
        ]
    )
    quoted = "'" + value.replace("'", "''") + "'"
    for expression in (f"s = {quoted}", f"id = {quoted}", f"kind in ({quoted})", f"s in ('zz', {quoted})"):
        assert shop.count(expression) == 1
    assert shop.count(f"s != {quoted}") == 1
    assert shop.delete(where=f"s = {quoted}") == 1
    assert [one and one.id for one in shop.get([value, "b"])] == [None, "b"]


LONG = {
    "too long": "n = 5 or " * 20_000 + "n = 5",
    "too many": "n = 5 or " * 500 + "n = 5",
    "much too many": "n = 5 and " * 9_000 + "n = 5",
    "deep parentheses": "(" * 5_000 + "n = 5" + ")" * 5_000,
    "only parentheses": "(" * 50_000,
    "deep not": "not " * 20_000 + "n = 5",
    "deep minus": "n = " + "- " * 20_000 + "5",
    "deep in": "n in (" * 3_000,
    "deep case": "case when " * 3_000,
    "a long pattern": "s like '" + "%a" * 26_000 + "'",
    "a long name": "n" * 90_000 + " = 5",
}


@pytest.mark.parametrize("case", LONG)
def test_long_and_deep_input_is_an_error(shop: Collection, case: str) -> None:
    with pytest.raises(search.FilterError) as caught:
        shop.count(LONG[case])
    assert "\n" not in str(caught.value)


def test_what_is_long_but_fair_is_answered(shop: Collection) -> None:
    assert shop.count(" or ".join(["n = 5"] * 500)) == 2
    assert shop.count(" and ".join(["not (n = 6 or n = 7)"] * 250)) == 7
    assert shop.count("n in (" + ", ".join(map(str, range(5, 15_000))) + ")") == 2
    assert shop.count("id in (" + ", ".join(f"'r{i}'" for i in range(8_000)) + ", 'own')") == 1
    assert shop.count("s like '" + "%" * 40_000 + "'") == 4
    assert shop.count("(" * 20 + "not " * 20 + "n = 5" + ")" * 20) == 2
