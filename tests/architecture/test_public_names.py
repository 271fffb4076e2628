"""The public names are those that are listed, and each listed one is there, documented and stands where it should."""

from __future__ import annotations

import inspect

import ingest
import search
from search import errors
from search.collection import Collection

PUBLIC = {
    "Collection",
    "Duplicates",
    "Hit",
    "Labelled",
    "Labelling",
    "Place",
    "Record",
    "Sense",
    "__version__",
    "open",
    "restore",
    "CollectionCorrupt",
    "CollectionError",
    "CollectionLocked",
    "CollectionNotFound",
    "EncoderDrift",
    "FilterError",
    "MissingExtra",
    "ModelError",
    "ModelUnavailable",
    "NearkinError",
    "QueryError",
    "SourceError",
    "UnknownRecord",
    "UnknownSpace",
    "WrongModality",
}


def test_search_shows_what_it_lists() -> None:
    """A name is public by being listed here and in `__all__`; to add one is a decision."""
    assert set(search.__all__) == PUBLIC
    assert len(search.__all__) == len(PUBLIC)
    for name in search.__all__:
        assert getattr(search, name) is not None


def test_a_star_import_gives_these_and_no_others() -> None:
    shown: dict[str, object] = {}
    exec("from search import *", shown)
    shown.pop("__builtins__")
    assert set(shown) == PUBLIC
    assert shown["open"] is search.open
    assert shown["Collection"] is Collection


def test_every_error_is_public() -> None:
    tree = {
        name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    assert tree <= set(search.__all__)
    for name in tree:
        assert issubclass(getattr(search, name), search.NearkinError)


def test_everything_public_says_what_it_is_for() -> None:
    for name in search.__all__:
        value = getattr(search, name)
        if name != "__version__":
            assert inspect.getdoc(value), name
    for name, method in vars(Collection).items():
        if not name.startswith("_") and (inspect.isfunction(method) or isinstance(method, property)):
            assert inspect.getdoc(method), name


def test_no_public_function_swallows_unknown_options() -> None:
    for function in (
        search.open,
        *(f for n, f in inspect.getmembers(Collection, inspect.isfunction) if n[0] != "_"),
    ):
        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, function
        assert inspect.Parameter.VAR_POSITIONAL not in kinds, function


def test_ingest_shows_what_it_lists_and_each_stands_where_it_says() -> None:
    assert set(ingest.__all__) == set(ingest._HOMES)
    assert {"graph", "graphs", "GraphFormat", "GraphSettings"} <= set(ingest.__all__)
    for name in ingest.__all__:
        assert inspect.getdoc(getattr(ingest, name)), name
