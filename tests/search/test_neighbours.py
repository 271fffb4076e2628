"""A passage is shown with its neighbours: those of its own record and space, checked like everything that is shown."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

import search
from search.catalog.neighbours import words_around
from search.errors import CollectionCorrupt, QueryError
from search.types import EncoderSpec, Modality, Part, Record

TEXT = "aa bb cc dd ee ff"
SPEC = EncoderSpec("given", "given", Modality.VECTOR, 4)


def axis(n):
    return np.eye(4, dtype=np.float32)[n]


@pytest.fixture
def shop(tmp_path):
    with search.open(tmp_path / "c") as shop:
        with shop.writing() as writer, writer.together():
            one = writer.space("one", SPEC)
            other = writer.space("other", SPEC)
            # Four passages that overlap by a word, given out of order; another record and another space beside them.
            spans = [Part(6, 11), Part(0, 5), Part(3, 8), Part(9, 17)]
            writer.put(
                [Record("a", text=TEXT)], np.stack([axis(i) for i in (2, 0, 1, 3)]), one, parts=[spans]
            )
            writer.put([Record("a", text=TEXT)], axis(1)[None], other, parts=[[Part(4, 9)]])
            writer.put([Record("b", text="zz yy")], axis(1)[None] * 0.5, one, parts=[[Part(0, 5)]])
        yield shop


@pytest.mark.parametrize(
    ("which", "n", "want"),
    [
        (1, 1, ("aa ", "bb cc", " dd")),
        (1, 2, ("aa ", "bb cc", " dd ee ff")),
        (1, 9, ("aa ", "bb cc", " dd ee ff")),
        (0, 1, ("", "aa bb", " cc")),
        (2, 1, ("bb ", "cc dd", " ee ff")),
        (2, 2, ("aa bb ", "cc dd", " ee ff")),
        (3, 1, ("cc ", "dd ee ff", "")),
    ],
)
def test_neighbours_of_the_same_record_and_space_in_their_order(shop, which, n, want):
    (hit,) = [one for one in shop.search(vector=axis(which), space="one", k=2, context=n) if one.id == "a"]
    assert (hit.part["before"], hit.text, hit.part["after"]) == want
    assert TEXT[hit.part["start"] : hit.part["end"]] == hit.text


def test_another_space_has_its_own(shop):
    (hit,) = shop.search(vector=axis(1), space="other", k=1, context=3)
    assert hit.part == {"start": 4, "end": 9, "before": "", "after": ""}


def test_none_unless_asked(shop):
    (hit,) = shop.search(vector=axis(2), space="one", k=1)
    assert hit.part == {"start": 6, "end": 11}


def test_a_whole_record_has_none(tmp_path):
    with search.open(tmp_path / "whole") as shop:
        shop.add([{"id": "x", "text": "one two"}], [[1.0, 0.0]], space="mine")
        (hit,) = shop.search(vector=[1, 0], context=2)
        assert (hit.part, hit.text) == (None, "one two")


def test_by_a_stored_record(shop):
    (hit,) = shop.search(like="b", space="one", k=1, context=1)
    assert (hit.id, hit.part["before"], hit.text, hit.part["after"]) == ("a", "aa ", "bb cc", " dd")


@pytest.mark.parametrize("context", [-1, 1.5, True, "1"])
def test_a_context_that_is_no_number(shop, context):
    with pytest.raises(QueryError, match=r"context must be a whole number.*; say"):
        shop.search(vector=axis(0), space="one", context=context)


@pytest.mark.parametrize(
    "damage", ['update part set "end" = 6 where start = 3', "update part set box = 'x' where start = 3"]
)
def test_a_damaged_neighbour_is_told(shop, damage):
    with sqlite3.connect(shop.layout.catalog) as connection:
        connection.execute(damage)
    (hit,) = shop.search(vector=axis(2), space="one", k=1)
    assert hit.text == "cc dd"
    with pytest.raises(CollectionCorrupt, match="does not match its checksum; "):
        shop.search(vector=axis(2), space="one", k=1, context=1)


@pytest.mark.parametrize(
    ("n", "want"),
    [
        (0, ("", "")),
        (1, ("two ", " four")),
        (2, ("one two ", " four five.")),
        (9, ("one two ", " four five.")),
    ],
)
def test_words_around_a_word(n, want):
    assert words_around("one two three four five.", 8, 13, n) == want


def test_words_around_a_word_of_a_long_text_without_spaces():
    before, after = words_around("x" * 10_000 + "y" + "z" * 10_000, 10_000, 10_001, 2)
    assert (before, after) == ("x" * 128, "z" * 128)
