"""Any expression over any metadata picks the records that SQL's three-valued logic picks, worked out in Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import search
from search.collection import Collection

Truth: TypeAlias = "bool | None"
Value: TypeAlias = "bool | int | float | str"
FIELDS = ("a", "b", "deep.x", "deep.er.y", "two words", "dotted.key", "select", "ÿ")


@dataclass(frozen=True)
class Tree:
    """An expression as it is written, and what it says of one record."""

    text: str
    holds: Callable[[dict[str, Any]], Truth]


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

    def holds(record: dict[str, Any]) -> Truth:
        held = value_of(record, field)
        # `!=` is `not =`: a string is not 5.
        return negated(compared(operator.eq, held, value)) if op is operator.ne else compared(op, held, value)

    left, right = written_field(field), written(value)
    turned = draw(st.booleans())
    return Tree(f"{right} {mirrored} {left}" if turned else f"{left} {sign} {right}", holds)


@st.composite
def one_of_them(draw: st.DrawFn) -> Tree:
    field, some = draw(st.sampled_from(FIELDS)), draw(st.lists(values, min_size=1, max_size=4))
    denied = draw(st.booleans())

    def holds(record: dict[str, Any]) -> Truth:
        truth: Truth = False
        for value in some:
            truth = either(truth, compared(operator.eq, value_of(record, field), value))
        return negated(truth) if denied else truth

    listed = ", ".join(map(written, some))
    return Tree(f"{written_field(field)} {'not ' * denied}in ({listed})", holds)


@st.composite
def between(draw: st.DrawFn) -> Tree:
    field, low, high = draw(st.sampled_from(FIELDS)), draw(values), draw(values)
    denied = draw(st.booleans())

    def holds(record: dict[str, Any]) -> Truth:
        held = value_of(record, field)
        truth = both(compared(operator.ge, held, low), compared(operator.le, held, high))
        return negated(truth) if denied else truth

    return Tree(f"{written_field(field)} {'not ' * denied}between {written(low)} and {written(high)}", holds)


@st.composite
def like(draw: st.DrawFn) -> Tree:
    field = draw(st.sampled_from(FIELDS))
    pattern = draw(st.one_of(words, st.text("aAb%_ÿ'", max_size=5)))
    denied = draw(st.booleans())

    def holds(record: dict[str, Any]) -> Truth:
        held = value_of(record, field)
        truth = None if held is None else isinstance(held, str) and alike(held, pattern)
        return negated(truth) if denied else truth

    return Tree(f"{written_field(field)} {'not ' * denied}like {written(pattern)}", holds)


@st.composite
def nothing(draw: st.DrawFn) -> Tree:
    field, denied = draw(st.sampled_from(FIELDS)), draw(st.booleans())
    return Tree(
        f"{written_field(field)} is {'not ' * denied}null",
        lambda record: (value_of(record, field) is None) != denied,
    )


@st.composite
def bare(draw: st.DrawFn) -> Tree:
    field = draw(st.sampled_from(FIELDS))
    return Tree(written_field(field), lambda record: compared(operator.eq, value_of(record, field), True))


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


leaves = st.one_of(comparison(), one_of_them(), between(), like(), nothing(), bare())
trees = st.recursive(leaves, joined, max_leaves=8)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Collection:
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
    }
    shop.add([{"id": "full", "metadata": full}])
    shop.delete("full")
    return shop


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(records=st.lists(metadata(), min_size=1, max_size=6), some=st.lists(trees, min_size=1, max_size=6))
def test_sql_agrees_with_python(shop: Collection, records: list[dict[str, Any]], some: list[Tree]) -> None:
    if there := [f"r{i}" for i in range(6)]:
        shop.delete(there)
    shop.add([{"id": f"r{i}", "metadata": made} for i, made in enumerate(records)])
    assert [one.metadata for one in shop.get([f"r{i}" for i in range(len(records))]) if one] == records
    for tree in some:
        expected = sum(tree.holds(made) is True for made in records)
        assert shop.count(tree.text) == expected, tree.text


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
