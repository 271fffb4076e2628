"""Any expression over any metadata picks the records that SQL's three-valued logic picks, worked out in Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import search
from search.catalog import fields, where
from search.collection import Collection

Truth: TypeAlias = "bool | None"
Value: TypeAlias = "bool | int | float | str"
FIELDS = ("a", "b", "deep.x", "deep.er.y", "two words", "dotted.key", "select", "ÿ")
DECLARED = ("a", "deep.x", "deep.er.y", "two words", "day")
SPACES = ("v", "w", "it's", "V")


@dataclass(frozen=True)
class Row:
    """A record: its metadata, and the names of the spaces that it has a vector in."""

    metadata: dict[str, Any]
    spaces: frozenset[str]


@dataclass(frozen=True)
class Tree:
    """An expression as it is written, and what it says of one record."""

    text: str
    holds: Callable[[Row], Truth]


# ---- the reference -------------------------------------------------------------------------------------------


def value_of(metadata: dict[str, Any], field: str) -> Any:
    """The value of a field; None where it is absent or null."""
    if field == "dotted.key":
        return metadata.get(field)
    held: Any = metadata
    for name in field.split("."):
        if not isinstance(held, dict) or name not in held:
            return None
        held = held[name]
    return held


def family(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def compared(op: Callable[[Any, Any], bool], held: Any, value: Value) -> Truth:
    if held is None:
        return None
    return family(held) == family(value) and bool(op(held, value))


def negated(truth: Truth) -> Truth:
    return None if truth is None else not truth


def both(one: Truth, other: Truth) -> Truth:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def either(one: Truth, other: Truth) -> Truth:
    return negated(both(negated(one), negated(other)))


def alike(text: str, pattern: str) -> bool:
    """SQL's like, where only the letters of ASCII have no case."""

    def lowered(words: str) -> str:
        return "".join(c.lower() if c.isascii() else c for c in words)

    text, pattern = lowered(text), lowered(pattern)
    ends = {0}
    for sign in pattern:
        if sign == "%":
            ends = set(range(min(ends), len(text) + 1)) if ends else ends
        else:
            ends = {at + 1 for at in ends if at < len(text) and (sign == "_" or text[at] == sign)}
    return len(text) in ends


def moment_of(said: Any) -> datetime | None:
    """The moment that a stored value states, if it is the text of one."""
    try:
        stated = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return stated if stated.tzinfo else stated.replace(tzinfo=UTC)


# ---- what is drawn -------------------------------------------------------------------------------------------

words = st.one_of(
    st.sampled_from(
        [
            "",
            "a",
            "A",
            "ab",
            "it's",
            "''",
            "%",
            "_",
            "ÿ",
            "🐟",
            "-- x",
            "/*",
            "\\",
            "a\nb",
            "null",
            "5",
            "true",
        ]
    ),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=4),
)
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.5, 1.0, 1e300, 1e-300, 0.1, 1 / 3]),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
)
values = st.one_of(st.booleans(), numbers, words)
anything = st.one_of(
    st.none(),
    values,
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.just("z"), st.none(), max_size=1),
)


@st.composite
def metadata(draw: st.DrawFn) -> dict[str, Any]:
    """Some of the fields, each of any type, some null; sometimes a level is no object at all."""
    made: dict[str, Any] = {}
    for name in ("a", "b", "two words", "dotted.key", "select", "ÿ"):
        if draw(st.booleans()):
            made[name] = draw(anything)
    if draw(st.booleans()):
        deep: dict[str, Any] = {}
        if draw(st.booleans()):
            deep["x"] = draw(anything)
        if draw(st.booleans()):
            deep["er"] = draw(st.one_of(st.just(5), st.dictionaries(st.just("y"), anything, max_size=1)))
        made["deep"] = draw(st.one_of(st.just(deep), st.just(deep), st.just("no object")))
    if draw(st.booleans()):
        made["day"] = draw(dated)
    return made


def written_field(field: str) -> str:
    return f'"{field}"' if field in ("two words", "select", "dotted.key") else field


def written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


SIGNS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "=": (operator.eq, "="),
    "!=": (operator.ne, "!="),
    "<>": (operator.ne, "<>"),
    "<": (operator.lt, ">"),
    "<=": (operator.le, ">="),
    ">": (operator.gt, "<"),
    ">=": (operator.ge, "<="),
}


@st.composite
def comparison(draw: st.DrawFn) -> Tree:
    field, value = draw(st.sampled_from(FIELDS)), draw(values)
    sign = draw(st.sampled_from(list(SIGNS)))
    op, mirrored = SIGNS[sign]

    def holds(record: Row) -> Truth:
        held = value_of(record.metadata, field)
        # `!=` is `not =`: a string is not 5.
        return negated(compared(operator.eq, held, value)) if op is operator.ne else compared(op, held, value)

    left, right = written_field(field), written(value)
    turned = draw(st.booleans())
    return Tree(f"{right} {mirrored} {left}" if turned else f"{left} {sign} {right}", holds)


@st.composite
def one_of_them(draw: st.DrawFn) -> Tree:
    field, some = draw(st.sampled_from(FIELDS)), draw(st.lists(values, min_size=1, max_size=4))
    denied = draw(st.booleans())

    def holds(record: Row) -> Truth:
        truth: Truth = False
        for value in some:
            truth = either(truth, compared(operator.eq, value_of(record.metadata, field), value))
        return negated(truth) if denied else truth

    listed = ", ".join(map(written, some))
    return Tree(f"{written_field(field)} {'not ' * denied}in ({listed})", holds)


@st.composite
def between(draw: st.DrawFn) -> Tree:
    field, low, high = draw(st.sampled_from(FIELDS)), draw(values), draw(values)
    denied = draw(st.booleans())

    def holds(record: Row) -> Truth:
        held = value_of(record.metadata, field)
        truth = both(compared(operator.ge, held, low), compared(operator.le, held, high))
        return negated(truth) if denied else truth

    return Tree(f"{written_field(field)} {'not ' * denied}between {written(low)} and {written(high)}", holds)


@st.composite
def like(draw: st.DrawFn) -> Tree:
    field = draw(st.sampled_from(FIELDS))
    pattern = draw(st.one_of(words, st.text("aAb%_ÿ'", max_size=5)))
    denied = draw(st.booleans())

    def holds(record: Row) -> Truth:
        held = value_of(record.metadata, field)
        truth = None if held is None else isinstance(held, str) and alike(held, pattern)
        return negated(truth) if denied else truth

    return Tree(f"{written_field(field)} {'not ' * denied}like {written(pattern)}", holds)


@st.composite
def nothing(draw: st.DrawFn) -> Tree:
    field, denied = draw(st.sampled_from(FIELDS)), draw(st.booleans())
    return Tree(
        f"{written_field(field)} is {'not ' * denied}null",
        lambda record: (value_of(record.metadata, field) is None) != denied,
    )


@st.composite
def bare(draw: st.DrawFn) -> Tree:
    field = draw(st.sampled_from(FIELDS))
    return Tree(
        written_field(field), lambda record: compared(operator.eq, value_of(record.metadata, field), True)
    )


days = st.dates(date(2023, 12, 30), date(2024, 3, 2))
zones = st.sampled_from(["", "Z", "+00:00", "+02:00", "-05:30", "+14:00"])
times = st.builds(
    lambda day, hour, minute, rest, zone, gap: f"{day}{gap}{hour:02}:{minute:02}{rest}{zone}",
    days,
    st.sampled_from([0, 1, 12, 22, 23]),
    st.sampled_from([0, 30, 59]),
    st.sampled_from(["", ":00", ":59", ":59.5", ":00.000001", ":59.999999"]),
    zones,
    st.sampled_from("T "),
)
no_dates = st.sampled_from(
    ["2024-02-30", "2024-13-01", "2024-1-1", "24-01-01", "now", "2460000.5", "10:00", "2024-01-01x", ""]
)
dated = st.one_of(days.map(str), times, times, no_dates, st.none(), st.integers(2023, 2025), st.booleans())


@st.composite
def moment(draw: st.DrawFn) -> tuple[str, datetime]:
    """A literal, and what it means."""
    if draw(st.booleans()):
        day = draw(days)
        return f"date '{day}'", datetime(day.year, day.month, day.day, tzinfo=UTC)
    said = draw(times)
    meant = moment_of(said)
    assert meant is not None
    return f"timestamp '{said}'", meant


@st.composite
def dates(draw: st.DrawFn) -> Tree:
    """A comparison of `day` with moments: unknown where it states none."""
    (one, first), (two, second) = draw(moment()), draw(moment())
    sign = draw(st.sampled_from([*SIGNS, "between", "in"]))
    denied = sign in ("between", "in") and draw(st.booleans())

    def holds(record: Row) -> Truth:
        held = moment_of(record.metadata.get("day"))
        if held is None:
            return None
        if sign == "between":
            return (first <= held <= second) != denied
        return (held in (first, second)) != denied if sign == "in" else bool(SIGNS[sign][0](held, first))

    word = "not " * denied
    if sign == "between":
        return Tree(f"day {word}between {one} and {two}", holds)
    return Tree(f"day {word}in ({one}, {two})" if sign == "in" else f"day {sign} {one}", holds)


@st.composite
def places(draw: st.DrawFn) -> Tree:
    """A condition on `space`: it holds if it does for one of the record's spaces, and is never unknown."""
    names = draw(st.lists(st.sampled_from(SPACES), min_size=1, max_size=3))
    pattern = draw(st.sampled_from(["v", "%", "_", "it%", "x%", "%'s"]))
    denied = draw(st.booleans())
    word = "not " * denied
    listed = ", ".join(map(written, names))
    return draw(
        st.sampled_from(
            [
                Tree(
                    f"space {'!=' if denied else '='} {written(names[0])}",
                    lambda r: (names[0] in r.spaces) != denied,
                ),
                Tree(f"space {word}in ({listed})", lambda r: bool(r.spaces & set(names)) != denied),
                Tree(
                    f"space {word}like {written(pattern)}",
                    lambda r: any(alike(name, pattern) for name in r.spaces) != denied,
                ),
                Tree(f"space is {word}null", lambda r: (not r.spaces) != denied),
            ]
        )
    )


def joined(parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    def conjunction(one: Tree, other: Tree) -> Tree:
        return Tree(f"({one.text}) and ({other.text})", lambda r: both(one.holds(r), other.holds(r)))

    def disjunction(one: Tree, other: Tree) -> Tree:
        return Tree(f"({one.text}) or ({other.text})", lambda r: either(one.holds(r), other.holds(r)))

    def negation(one: Tree) -> Tree:
        return Tree(f"not ({one.text})", lambda r: negated(one.holds(r)))

    return st.one_of(
        st.builds(conjunction, parts, parts), st.builds(disjunction, parts, parts), st.builds(negation, parts)
    )


leaves = st.one_of(comparison(), one_of_them(), between(), like(), nothing(), bare(), dates(), places())
trees = st.recursive(leaves, joined, max_leaves=8)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return prepared(tmp_path_factory, ())


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The same with declared fields, so that the same questions are looked up."""
    return prepared(tmp_path_factory, DECLARED)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return search.open(tmp_path_factory.mktemp("names") / "c")


def prepared(tmp_path_factory: pytest.TempPathFactory, declared: tuple[str, ...]) -> Collection:
    shop = search.open(tmp_path_factory.mktemp("property") / "c")
    # A record that has every field, so that each may be asked for.
    full = {
        "a": 1,
        "b": 1,
        "deep": {"x": 1, "er": {"y": 1}},
        "two words": 1,
        "dotted.key": 1,
        "select": 1,
        "ÿ": 1,
        "day": 1,
    }
    for space in SPACES:
        shop.add([{"id": "full", "metadata": full}], [[1.0]], space=space)
    for name in declared:
        shop.index_field(name)
    shop.delete("full")
    return shop


def matching(shop: Collection, expression: str) -> list[str]:
    """The ids that match, as the catalog looks them up; its keys rise as the records were added."""
    with shop.database.reading() as connection:
        keys = where.matching(connection, where.asked(connection, expression)).tolist()
        ids = dict(connection.sql("select key, id from record"))
    assert keys == sorted(set(keys))
    return [ids[key] for key in keys]


rows = st.builds(Row, metadata(), st.frozensets(st.sampled_from(SPACES), max_size=3))


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    records=st.lists(rows, min_size=1, max_size=6),
    some=st.lists(trees, min_size=1, max_size=6),
    changed=st.lists(metadata(), max_size=2),
    taken_in=st.booleans(),
)
def test_sql_agrees_with_python(
    shop: Collection,
    quick: Collection,
    records: list[Row],
    some: list[Tree],
    changed: list[dict[str, Any]],
    taken_in: bool,
) -> None:
    ids = [f"r{i}" for i in range(6)]
    for one in (shop, quick):
        one.delete(ids)
        one.add([{"id": id, "metadata": row.metadata} for id, row in zip(ids, records, strict=False)])
        for space in SPACES:
            if there := [id for id, row in zip(ids, records, strict=False) if space in row.spaces]:
                one.add([{"id": id} for id in there], [[1.0]] * len(there), space=space)
    if taken_in:  # declared once more: the new records are sorted now, else they are read
        for name in DECLARED:
            quick.index_field(name)
    for i, made in enumerate(changed[: len(records)]):
        records[i] = Row(made, records[i].spaces)
        for one in (shop, quick):
            one.add([{"id": ids[i], "metadata": made}])
    with quick.database.reading() as connection:
        assert fields.declared(connection) == sorted(DECLARED)
        assert fields.problems(connection) == []
    for one in (shop, quick):
        assert [found.metadata for found in one.get(ids[: len(records)]) if found] == [
            r.metadata for r in records
        ]
        for tree in some:
            expected = [id for id, row in zip(ids, records, strict=False) if tree.holds(row) is True]
            assert matching(one, tree.text) == expected, tree.text
            assert one.count(tree.text) == len(expected)


@settings(max_examples=60)
@given(name=st.text(min_size=1, max_size=8).filter(lambda name: name != "z"), value=words)
def test_any_name_may_be_declared(names: Collection, name: str, value: str) -> None:
    """Whatever a field is called, its name is only a name: it can be declared and asked for, or is refused."""
    try:
        names.add([{"id": "a", "metadata": {name: value, "z": 1}}, {"id": "b", "metadata": {"z": 2}}])
    except search.QueryError:
        assert any("\ud800" <= sign < "\ue000" for sign in name)
        return
    try:
        names.index_field(name)
    except search.QueryError:
        assert '"' in name
        return
    if "\0" not in name:
        quoted = '"' + name + '"'
        assert matching(names, f"metadata.{quoted} = {written(value)}") == ["a"]
        assert matching(names, f"metadata.{quoted} is null and z > 0") == ["b"]
    with names.database.reading() as connection:
        assert fields.declared(connection) == [name]
        assert fields.problems(connection) == []
    names.index_field(name, drop=True)
    assert names.count() == 2


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from(
                [
                    "a",
                    "b",
                    "deep.x",
                    "(",
                    ")",
                    "not",
                    "and",
                    "or",
                    "in",
                    "like",
                    "is",
                    "null",
                    "=",
                    "<",
                    "5",
                    "'x'",
                    ",",
                    ";",
                    "--",
                    "/*",
                    '"',
                    "between",
                ]
            ),
            max_size=12,
        ).map(" ".join),
    )
)
def test_any_text_is_answered_or_refused(shop: Collection, expression: str) -> None:
    """Whatever is written, there is a number or a FilterError: never another error, never a change."""
    before = shop.count()
    refused: search.FilterError | None = None
    n = 0
    try:
        n = shop.count(expression)
    except search.FilterError as error:
        refused = error
    if refused is not None:
        assert refused.position is None or 0 <= refused.position <= len(expression)
        assert "\n" not in str(refused)
    assert 0 <= n <= before
    assert shop.count() == before
