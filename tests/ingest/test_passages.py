"""Passages: nothing lost, nothing too long, cut where a reader would."""

from __future__ import annotations

import itertools
import re
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.passages import cut
from search.errors import NearkinError


def offsets_of(text, pattern=r"\w+|[^\w\s]"):
    """One token per word and per sign, as a tokenizer would place them."""
    return np.array([match.span() for match in re.finditer(pattern, text)], dtype=np.int32).reshape(-1, 2)


def pieces(text, **options):
    return [text[start:end] for start, end in cut(text, offsets_of(text), **options)]


def words(n, first=0):
    return " ".join(f"w{i}" for i in range(first, first + n))


def test_a_short_text_is_one_passage_without_its_outer_white_space():
    assert cut("  Hello world. \n", offsets_of("  Hello world. \n")) == [(2, 14)]


@pytest.mark.parametrize("text", ["", " ", "\n\t  ", "\u2003\u3000"])
def test_white_space_has_no_passage(text):
    assert cut(text, offsets_of(text)) == []


def test_a_text_that_the_tokenizer_does_not_see_is_still_one_passage():
    assert cut(" \u200b\u200b ", np.empty((0, 2), dtype=np.int32)) == [(1, 3)]


def test_exactly_the_window_is_one_passage_and_one_token_more_is_two():
    assert pieces(words(16), tokens=16, overlap=4) == [words(16)]
    assert pieces(words(17), tokens=16, overlap=4) == [words(16), words(5, 12)]


def test_passages_end_at_the_last_sentence_end_of_the_second_half():
    # 3 sentences of 6 tokens (5 words and a stop); a window of 14 holds two of them, and the third begins anew.
    text = "A a a a a. B b b b b. C c c c c."
    assert pieces(text, tokens=14, overlap=0) == ["A a a a a. B b b b b.", "C c c c c."]
    # With an overlap of 6 the second sentence is in both.
    assert pieces(text, tokens=14, overlap=6) == ["A a a a a. B b b b b.", "B b b b b. C c c c c."]


def test_a_sentence_end_in_the_first_half_is_left_alone():
    text = "Oh no. " + words(20)
    assert pieces(text, tokens=12, overlap=0)[0] == "Oh no. " + words(9)


@pytest.mark.parametrize(
    ("end", "begin"),
    [
        (".", " "),
        ("!", " "),
        ("?", "\n"),
        ("…", " "),
        (".”", " "),
        (".)", " "),
        ("?!", "  "),
        ("。", ""),
        ("！", ""),
        ("？」", ""),
        ("", "\n\n"),
        ("", "\r\n \r\n"),
    ],
)
def test_what_ends_a_sentence(end, begin):
    text = words(8) + end + begin + words(8, 8)
    assert pieces(text, tokens=15, overlap=0)[0] == words(8) + end


@pytest.mark.parametrize("inside", [".", "3.14", "a.b"])
def test_a_stop_within_a_word_ends_nothing(inside):
    text = words(8) + f" x{inside}y " + words(20, 8)
    spans = cut(text, offsets_of(text, r"\S+"), tokens=12, overlap=0)
    assert text[slice(*spans[0])] == words(8) + f" x{inside}y " + words(3, 8)


def test_words_are_not_split_where_a_word_end_is_near():
    # Each word is 3 tokens of 2 letters: 10 tokens hold three words and a third of the fourth.
    text = " ".join(["aabbcc"] * 10)
    spans = cut(text, offsets_of(text, r"\w\w"), tokens=10, overlap=3)
    assert [text[start:end] for start, end in spans[:2]] == ["aabbcc aabbcc aabbcc"] * 2
    assert spans[1] == (14, 34)  # begins one whole word back


def test_without_white_space_it_cuts_between_tokens():
    text = "漢" * 30
    assert cut(text, offsets_of(text, "."), tokens=10, overlap=2) == [(0, 10), (8, 18), (16, 26), (24, 30)]


def test_a_character_of_several_tokens_is_not_split():
    # Every character is three tokens with the same place, as with byte-level tokenizers.
    text = "語" * 12
    offsets = np.repeat(offsets_of(text, "."), 3, axis=0)
    assert cut(text, offsets, tokens=8, overlap=0) == [(i, i + 2) for i in range(0, 12, 2)]


def test_a_character_of_more_tokens_than_the_window_stays_whole():
    text = "a ﷺ b"
    offsets = np.array([[0, 1]] + [[2, 3]] * 18 + [[4, 5]], dtype=np.int32)
    assert cut(text, offsets, tokens=8, overlap=0) == [(0, 1), (2, 3), (4, 5)]


def test_tokens_that_begin_with_the_space_before_a_word():
    text = words(8) + ". " + words(8, 8)
    offsets = offsets_of(text, r"\s?\w+|\.")
    assert [text[s:e] for s, e in cut(text, offsets, tokens=15, overlap=0)] == [words(8) + ".", words(8, 8)]


def test_tokens_of_white_space_alone_make_no_passage():
    text = "a b" + " " * 40 + "c"
    offsets = offsets_of(text, r"\s|\S")
    found = [text[start:end] for start, end in cut(text, offsets, tokens=8, overlap=0)]
    assert found[0].startswith("a b")
    assert found[-1] == "c"
    assert all(piece == piece.strip() != "" for piece in found)


@pytest.mark.parametrize(("tokens", "overlap"), [(7, 0), (8, 4), (8, -1), (256, 128)])
def test_sizes_that_make_no_sense(tokens, overlap):
    with pytest.raises(NearkinError, match="; use"):
        cut("a b", offsets_of("a b"), tokens=tokens, overlap=overlap)


LETTERS = st.sampled_from(list("ab漢é.!?。…\"') \n\t\r\u3000\u00a0\u200b😀_"))
TEXTS = st.lists(st.one_of(LETTERS, st.sampled_from(["word", " the ", ". ", "\n\n"])), max_size=400).map(
    "".join
)
TOKENS = st.sampled_from([r"\w+|[^\w\s]", r".", r"\s?\w{1,3}|\S", r"\S+", r"[ab漢]"])


@settings(max_examples=400, deadline=None)
@given(TEXTS, TOKENS, st.integers(8, 40), st.integers(0, 19), st.integers(1, 3))
@example("a" * 100, ".", 8, 3, 1)
def test_for_any_text(text, pattern, tokens, overlap, repeats):
    overlap = min(overlap, (tokens - 1) // 2)
    offsets = np.repeat(offsets_of(text, f"(?s:{pattern})"), repeats, axis=0)
    spans = cut(text, offsets, tokens=tokens, overlap=overlap)
    assert spans == cut(text, offsets, tokens=tokens, overlap=overlap)
    covered = np.zeros(len(text), dtype=bool)
    for start, end in spans:
        assert text[start:end] == text[start:end].strip() != ""
        inside = (offsets[:, 0] >= start) & (offsets[:, 1] <= end)
        assert inside.sum() <= tokens
        covered[start:end] = True
    assert all(covered[i] or text[i].isspace() for i in range(len(text)))
    for (start, end), (begin, finish) in itertools.pairwise(spans):
        assert start < begin
        assert end < finish
        shared = (offsets[:, 0] >= begin) & (offsets[:, 1] <= end)
        assert shared.sum() <= overlap
    # No cut inside a token: white space that a token begins or ends with is no part of it.
    edges = {edge for span in spans for edge in span}
    for start, end in offsets:
        token = text[start:end]
        inner = range(start + len(token) - len(token.lstrip()) + 1, start + len(token.rstrip()))
        assert not edges.intersection(inner)


def test_prose_overlaps_by_about_what_was_asked():
    text = " ".join(f"{words(int(n))}." for n in np.random.default_rng(0).integers(4, 25, 400))
    offsets = offsets_of(text)
    spans = cut(text, offsets, tokens=256, overlap=32)
    shared = [
        int(((offsets[:, 0] >= begin) & (offsets[:, 1] <= end)).sum())
        for (_, end), (begin, _) in itertools.pairwise(spans)
    ]
    assert all(text[end - 1] == "." for _, end in spans)
    assert min(shared) >= 16
    assert max(shared) <= 32


@pytest.mark.parametrize("unit", ["One sentence. ", ".", '."', "\n \n ", "word ", "。"])
def test_the_time_is_linear(unit):
    """Ten times the text in well under a hundred times the time, on texts that make careless patterns square."""

    def seconds(n):
        text = unit * n
        offsets = offsets_of(text)
        start = time.process_time()
        cut(text, offsets)
        return time.process_time() - start

    assert seconds(100_000) < 40 * max(seconds(10_000), 0.005)
