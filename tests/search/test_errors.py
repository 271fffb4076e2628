"""Bad input: one clear line of the right kind, and a collection that is as it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from search import errors
from search.collection import Collection
from search.index import choose
from search.types import EncoderSpec, Metric, Modality, Part, Record

GOOD = [[1.0, 0.0], [0.0, 1.0]]


@pytest.fixture
def shop(tmp_path: Path) -> Collection:
    shop = search.open(tmp_path / "shop")
    shop.add([Record("a", "k", "u", "t", {"x": 1}), {"id": "b"}], GOOD, space="v")
    with shop.writing() as writer:
        writer.space("words", EncoderSpec("given", "given", Modality.TEXT, 3))
        writer.space("big", EncoderSpec("given", "given", Modality.VECTOR, 4), metric=Metric.L2)
    return shop


def all_of(shop: Collection) -> object:
    info = shop.info()
    info.pop("bytes")
    return info, shop.get(["a", "b"]), [(h.id, h.score) for h in shop.search(vector=[1, 0.5], space="v")]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value}
    return value


def ring() -> Any:
    value: dict[str, Any] = {}
    value["x"] = value["y"] = value
    return value


def ids(*names: str) -> list[dict[str, Any]]:
    return [{"id": name} for name in names]


def meta(value: Any) -> list[dict[str, Any]]:
    return [{"id": "new", "metadata": value}]


BAD_ADD: dict[str, tuple[Any, Any, str | None, str]] = {
    "an id twice": (ids("new", "new"), GOOD, "v", "'new' stands twice"),
    "an id twice without vectors": (ids("new", "a", "new"), None, None, "'new' stands twice"),
    "NaN": (ids("new", "a"), [[1, 2], [np.nan, 1]], "v", "NaN or infinity in row 1"),
    "infinity": (ids("new", "a"), [[1, np.inf], [1, 1]], "v", "NaN or infinity in row 0"),
    "beyond float32": (ids("new", "a"), [[1, 1e300], [1, 1]], "v", "NaN or infinity in row 0"),
    "beyond float": (ids("new"), [[10**400, 1]], "v", "not an array of numbers"),
    "None": (ids("new"), [[None, 1]], "v", "NaN or infinity in row 0"),
    "another width": (ids("new"), [[1, 2, 3]], "v", "3 dimensions where the space has 2"),
    "zeros": (ids("new", "a"), [[1, 1], [0, 0]], "v", "only zeros in row 1"),
    "zeros in a new space": (ids("new"), [[0, 0]], "fresh", "only zeros in row 0"),
    "NaN in a new space": (ids("new"), [[np.nan, 0]], "fresh", "NaN"),
    "an id twice in a new space": (ids("new", "new"), GOOD, "fresh", "stands twice"),
    "bad JSON in a new space": (meta({"x": {1}}), [[1, 0]], "fresh", "cannot be stored"),
    "too large to square": (ids("new"), [[1e20, 0, 0, 0]], "big", "too large"),
    "too few vectors": (ids("new", "newer"), [[1, 2]], "v", "1 vectors were given for 2 records"),
    "too many vectors": (ids("new"), GOOD, "v", "2 vectors were given for 1 records"),
    "one vector as a row": (ids("new"), [1.0, 2.0], "v", r"shape \(2,\)"),
    "three dimensions": (ids("new"), [[[1.0, 2.0]]], "v", "shape"),
    "no dimensions": (ids("new"), [[]], "v", "shape"),
    "ragged": (ids("new", "a"), [[1, 2], [1]], "v", "not an array of numbers"),
    "words": (ids("new"), [["1", "2"]], "v", "not an array of numbers"),
    "complex": (ids("new"), [[1j, 2]], "v", "not an array of numbers"),
    "objects": (ids("new"), [[object(), 1]], "v", "not an array of numbers"),
    "vectors alone": (ids("new"), GOOD[:1], None, "belong together"),
    "space alone": (ids("new"), None, "v", "belong together"),
    "a space without a name": (ids("new"), GOOD[:1], " ", "cannot be called"),
    "a space that is no text": (ids("new"), GOOD[:1], "\ud800", "cannot be called"),
    "an id that is a number": ([{"id": 7}], None, None, "must be a string"),
    "an id that is None": ([{"id": None}], None, None, "must be a string"),
    "an empty id": (ids("new", ""), None, None, "at least one character"),
    "half a surrogate as id": (ids("new", "\ud800"), None, None, "cannot be stored"),
    "NUL in an id": (ids("new", "x\x00y"), None, None, "NUL"),
    "half a surrogate in the text": ([{"id": "new", "text": "x\udfff"}], None, None, "cannot be stored"),
    "half a surrogate in the metadata": (meta({"x": ["\ud800"]}), None, None, "cannot be stored"),
    "half a surrogate as a key": (meta({"\ud800": 1}), None, None, "cannot be stored"),
    "a text that is bytes": ([{"id": "new", "text": b"x"}], None, None, "text must be a string, not bytes"),
    "a kind that is a number": ([{"id": "new", "kind": 1}], None, None, "kind must be a string, not int"),
    "a path as uri": ([{"id": "new", "uri": Path("x")}], None, None, "uri must be a string"),
    "metadata that are a list": (meta([1]), None, None, "must be a JSON object, not list"),
    "metadata that are JSON text": (meta("{}"), None, None, "must be a JSON object, not str"),
    "NaN in the metadata": (meta({"x": float("nan")}), None, None, "cannot be stored"),
    "a set in the metadata": (meta({"x": {1}}), None, None, "cannot be stored"),
    "a numpy number in the metadata": (meta({"x": np.int64(1)}), None, None, "cannot be stored"),
    "bytes in the metadata": (meta({"x": b"1"}), None, None, "cannot be stored"),
    "a key that is a number": (meta({1: 2}), None, None, "key 1 is not a string"),
    "a deep key that is None": (meta({"x": [{"y": {None: 2}}]}), None, None, "key None is not a string"),
    "metadata too deep": (meta(nested(101)), None, None, "more than 100 levels"),
    "metadata without end": (meta(ring()), None, None, "more than 100 levels"),
    "an unknown field": ([{"id": "new", "colour": 1}], None, None, "unknown field 'colour'"),
    "unknown fields of all kinds": ([{"id": "new", 1: 1, None: 2}], None, None, "unknown field"),
    "no id": ([{"text": "x"}], None, None, "has no id"),
    "a record that is a string": (["new"], None, None, "a record is a str"),
    "a record that is None": ([None], None, None, "a record is a NoneType"),
}


@pytest.mark.parametrize("case", BAD_ADD)
def test_a_bad_add_changes_nothing(shop: Collection, case: str) -> None:
    records, vectors, space, said = BAD_ADD[case]
    before = all_of(shop)
    with pytest.raises((errors.QueryError, errors.CollectionError), match=said) as caught:
        shop.add(records, vectors, space=space)
    assert one_line(caught.value)
    assert all_of(shop) == before
    assert shop.check() == []
    assert shop.add([{"id": "good", "metadata": {"y": 1}}], [[1, 1]], space="v") == ["good"]
    assert shop.count("y = 1") == 1


def one_line(error: Exception) -> bool:
    message = str(error)
    message.encode()  # it can be printed
    return "\n" not in message and ";" in message


def test_fields_of_a_failed_commit_are_not_taken_for_known(shop: Collection) -> None:
    """The names of metadata fields are written with the commit; one that failed must not leave them out later."""
    with pytest.raises(errors.QueryError):
        shop.add([{"id": "new", "metadata": {"fresh": 1}}], [[0, 0]], space="other")
    with pytest.raises(errors.FilterError):
        shop.count("fresh = 1")
    shop.add([{"id": "new", "metadata": {"fresh": 1}}], [[0, 1]], space="other")
    assert shop.count("fresh = 1") == search.open(shop.path).count("fresh = 1") == 1


def test_calls_made_together_are_one_commit(shop: Collection) -> None:
    before = all_of(shop)

    def stopped_midway() -> None:
        with shop.writing() as writer, writer.together():
            space = writer.space("fresh", EncoderSpec("given", "given", Modality.VECTOR, 2))
            writer.put([Record("new", metadata={"fresh": 1})], np.array(GOOD[:1], "f4"), space)
            writer.delete([1])
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        stopped_midway()
    assert all_of(shop) == before
    with shop.writing() as writer, writer.together():
        writer.put([Record("new", metadata={"fresh": 1})])
        assert shop.get("new") == [None]  # nobody sees it yet
        writer.delete([1])
    assert [one and one.id for one in shop.get(["a", "b", "new"])] == [None, "b", "new"]
    assert shop.count("fresh = 1") == 1


BAD_SEARCH: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, errors.QueryError, "nothing to search for"),
    "weights of one way": (
        {"query": "x", "weights": {"text": 2}},
        errors.QueryError,
        "several ways of asking",
    ),
    "a weight of no way": (
        {"vector": [1, 0], "like": "a", "weights": {"sound": 2}},
        errors.QueryError,
        "a weight was given for 'sound'",
    ),
    "a weight of what is not given": (
        {"vector": [1, 0], "like": "a", "weights": {"text": 2}},
        errors.QueryError,
        "given for text, by which nothing is asked",
    ),
    "a weight of 0": (
        {"vector": [1, 0], "like": "a", "weights": {"like": 0}},
        errors.QueryError,
        "the weight of like is 0; give a positive number, from 0.000001 to 1,000,000",
    ),
    "a batch in a mix": ({"vector": [[1, 0]], "like": "a"}, errors.QueryError, "a mix takes one vector"),
    "queries in a mix": ({"query": ["x", "y"], "like": "a"}, errors.QueryError, "several questions by text"),
    "effort in a mix": ({"vector": [1, 0], "like": "a", "effort": 9}, errors.QueryError, "leave effort out"),
    "rerank in a mix": ({"query": "x", "like": "a", "rerank": "maxsim"}, errors.QueryError, "text and like"),
    "an unknown id in a mix": ({"vector": [1, 0], "like": "zz"}, errors.UnknownRecord, "has the id 'zz'"),
    "no vector in a mix": (
        {"vector": [1, 0], "like": "bare"},
        errors.UnknownRecord,
        "'bare' has no vector in any",
    ),
    "a mix that cancels itself out": (
        {"vector": [-1, 0], "like": "a", "space": "v"},
        errors.QueryError,
        "like and vector cancel each other out|vector and like cancel each other out",
    ),
    "a region of no picture": (
        {"vector": [1, 0], "region": (0, 0, 1, 1)},
        errors.QueryError,
        "one query picture",
    ),
    "k of 0": ({"vector": [1, 0], "k": 0}, errors.QueryError, "k must be"),
    "k of -1": ({"vector": [1, 0], "k": -1}, errors.QueryError, "k must be"),
    "k of 1.5": ({"vector": [1, 0], "k": 1.5}, errors.QueryError, "k must be"),
    "k of True": ({"vector": [1, 0], "k": True}, errors.QueryError, "k must be"),
    "a number": ({"vector": 1.0, "space": "v"}, errors.QueryError, "is the number"),
    "NaN": ({"vector": [1, np.nan]}, errors.QueryError, "NaN"),
    "NaN in a batch": ({"vector": [[1, 1], [1, np.nan]]}, errors.QueryError, "row 1"),
    "zeros": ({"vector": [0, 0]}, errors.QueryError, "only zeros"),
    "a width of no space": ({"vector": [1, 2, 3, 4, 5]}, errors.UnknownSpace, "no space has vectors of 5"),
    "no numbers": ({"vector": []}, errors.QueryError, "shape"),
    "another width": (
        {"vector": [1, 2, 3], "space": "v"},
        errors.QueryError,
        "3 numbers where space 'v' has 2",
    ),
    "words as a vector": ({"vector": ["a", "b"]}, errors.QueryError, "not an array of numbers"),
    "three dimensions": ({"vector": np.zeros((1, 1, 2))}, errors.QueryError, "shape"),
    "an unknown space": ({"vector": [1, 0], "space": "w"}, errors.UnknownSpace, "no space 'w'.*v, words"),
    "an unknown id": ({"like": "zz"}, errors.UnknownRecord, "no record has the id 'zz'"),
    "an id with no vector": ({"like": "bare"}, errors.UnknownRecord, "'bare' has no vector in any space"),
    "an id elsewhere": (
        {"like": "a", "space": "words"},
        errors.UnknownRecord,
        "'a' has no vector in the spaces",
    ),
    "an empty query": ({"query": "  "}, errors.QueryError, "query is empty"),
    "an empty query in a batch": ({"query": ["x", ""]}, errors.QueryError, "query number 2 is empty"),
    "a query that is a number": ({"query": ["x", 5]}, errors.QueryError, "query number 2 is a int"),
    "words where none can be asked": ({"query": "x"}, errors.UnknownSpace, "can be asked by text"),
    "words of a space that takes none": (
        {"query": "x", "space": "v"},
        errors.WrongModality,
        "cannot be asked",
    ),
    "an unknown field": (
        {"vector": [1, 0], "where": "y = 1"},
        errors.FilterError,
        "no record has a field 'y'",
    ),
    "a filter that is a list": ({"vector": [1, 0], "where": ["x = 1"]}, errors.FilterError, "give a string"),
    "a filter that is a number": ({"vector": [1, 0], "where": 5}, errors.FilterError, "give a string"),
}


@pytest.mark.parametrize("case", BAD_SEARCH)
def test_a_bad_question(shop: Collection, case: str) -> None:
    shop.add([{"id": "bare"}])
    asked, kind, said = BAD_SEARCH[case]
    with pytest.raises(kind, match=said) as caught:
        shop.search(**asked)
    assert one_line(caught.value)


def test_a_vector_that_fits_two_spaces_needs_a_name(shop: Collection) -> None:
    shop.add([{"id": "a"}], [[1, 0]], space="twin")
    with pytest.raises(errors.UnknownSpace, match=r"'v', 'twin'.*name one"):
        shop.search(vector=[1, 0])


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda c: c.recommend(), errors.QueryError, "at least one like"),
        (lambda c: c.recommend([], ["a"]), errors.QueryError, "at least one like"),
        (lambda c: c.recommend("zz", "yy"), errors.UnknownRecord, "'zz', 'yy'"),
        (lambda c: c.recommend("a", diversity=1.1), errors.QueryError, "diversity"),
        (lambda c: c.recommend("a", diversity=float("nan")), errors.QueryError, "diversity"),
        (lambda c: c.recommend("a", spaces={"v": 0}), errors.QueryError, "weight of space 'v' is 0"),
        (lambda c: c.recommend("a", spaces={"v": -1}), errors.QueryError, "weight"),
        (lambda c: c.recommend("a", spaces={"v": float("nan")}), errors.QueryError, "weight"),
        (lambda c: c.recommend("a", spaces={"v": float("inf")}), errors.QueryError, "weight"),
        (lambda c: c.recommend("a", spaces={"v": "1"}), errors.QueryError, "weight"),
        (lambda c: c.recommend("a", spaces=["w"]), errors.UnknownSpace, "no space 'w'"),
        (lambda c: c.recommend("a", k=0), errors.QueryError, "k must be"),
        (lambda c: c.recommend("a", where="nope = 1"), errors.FilterError, "nope"),
        (lambda c: c.delete(), errors.QueryError, "one of the two"),
        (lambda c: c.delete("a", where="x = 1"), errors.QueryError, "one of the two"),
        (lambda c: c.delete(where="nope = 1"), errors.FilterError, "nope"),
        (lambda c: c.delete(where=""), errors.FilterError, "empty"),
        (lambda c: c.count("x ="), errors.FilterError, "character"),
        (lambda c: c.export("/nonexistent/x.jsonl"), errors.CollectionError, "cannot be written"),
        (lambda c: c.backup("/proc/nonexistent/x"), errors.CollectionError, "cannot be written"),
        (lambda c: search.open(c.path, mode="w"), errors.QueryError, "mode 'w'"),  # type: ignore[arg-type]
    ],
)
def test_other_bad_calls(
    shop: Collection, call: Callable[[Collection], Any], kind: type[Exception], said: str
) -> None:
    before = all_of(shop)
    with pytest.raises(kind, match=said) as caught:
        call(shop)
    assert one_line(caught.value)
    assert all_of(shop) == before


def test_a_space_belongs_to_its_model(shop: Collection) -> None:
    with shop.writing() as writer:
        for spec, metric in (
            (EncoderSpec("given", "given", Modality.VECTOR, 3), Metric.COSINE),
            (EncoderSpec("text", "other", Modality.TEXT, 2), Metric.COSINE),
            (EncoderSpec("given", "given", Modality.VECTOR, 2, options={"layer": 1}), Metric.COSINE),
            (EncoderSpec("given", "given", Modality.VECTOR, 2), Metric.DOT),
        ):
            with pytest.raises(errors.CollectionError, match=r"space 'v'.*--space"):
                writer.space("v", spec, metric=metric)
        assert writer.space("v", EncoderSpec("given", "given", Modality.VECTOR, 2)).dim == 2
        for parts in ([[Part()]], [[Part()], [Part()], [Part()]], [[Part()], []]):
            with pytest.raises(errors.QueryError):
                writer.put([Record("x"), Record("y")], np.array(GOOD, "f4"), shop.spaces()["v"], parts=parts)
        with pytest.raises(errors.UnknownSpace):
            writer.put([Record("x")], np.array(GOOD[:1], "f4"))
    assert shop.count() == 2


def test_an_index_that_cannot_be_written_says_so(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FLAT_UP_TO", 100)
    shop.layout.indexes.write_text("a file where the directory should be")
    rows = np.random.default_rng(0).standard_normal((100, 2))
    shop.add([{"id": f"r{i}"} for i in range(100)], rows, space="v")  # durable: no reason to complain
    with pytest.raises(errors.CollectionError, match="index of space 'v' cannot be written") as caught:
        shop.index()
    assert one_line(caught.value)
    shop.layout.indexes.unlink()
    shop.index()
    assert [hits[0].id for hits in shop.search(vector=rows, space="v", k=1)] == [f"r{i}" for i in range(100)]


def test_the_tree_is_drawn_as_it_is() -> None:
    """The picture in the module's docstring is the tree."""
    drawn, above = {}, ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        name = line.strip("│├└─ ").split(" ")[0]
        if hasattr(errors, name) and inspect.isclass(getattr(errors, name)):
            depth = (len(line) - len(line.lstrip("│├└─ ")) - 4) // 4 + 1
            above[depth:] = [name]
            drawn[name] = above[depth - 1]
    real = {
        name: kind.__base__.__name__
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    assert drawn == real
