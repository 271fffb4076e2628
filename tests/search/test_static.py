"""Static word vectors: SIF as a plain reference computes it, lookup of written forms, files that change or vanish."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from search.encoders.load import ModelChoice, load_named, load_spec
from search.encoders.static import SIF, StaticEncoder, first_component, frequencies
from search.encoders.word_table import WordTable
from search.encoders.words import Forms, spans_of, words_of
from search.errors import EncoderDrift, ModelError, ModelUnavailable, QueryError


def random_table(n: int = 60, dim: int = 9, *, counted: bool) -> WordTable:
    random = np.random.default_rng(3)
    words = tuple(f"w{number}" for number in range(n))
    counts = np.sort(random.integers(1, 5000, n))[::-1].astype(np.int64) if counted else None
    return WordTable(words, random.normal(0.3, 1, (n, dim)).astype(np.float32), counts)


def random_texts(n: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [
        " ".join(f"w{word}" for word in random.zipf(1.4, random.integers(1, 12)) % 70) + " w0"
        for _ in range(n)
    ]


def reference_sif(table: WordTable, texts: list[str], corpus: list[str]) -> np.ndarray:
    """Algorithm 1 of Arora et al. 2017, word by word, in float64; the component is that of `corpus`."""
    n = len(table.words)
    if table.counts is None:
        harmonic = sum(1 / rank for rank in range(1, n + 1))
        share = {word: 1 / (rank * harmonic) for rank, word in enumerate(table.words, 1)}
    else:
        share = {
            word: count / table.counts.sum() for word, count in zip(table.words, table.counts, strict=True)
        }
    vector = dict(zip(table.words, table.vectors.astype(np.float64), strict=True))

    def mean(text: str) -> np.ndarray:
        known = [word for word in text.split() if word in vector]
        return np.mean([SIF / (SIF + share[word]) * vector[word] for word in known], axis=0)

    first = np.linalg.svd(np.array([mean(text) for text in corpus]), full_matrices=False)[2][0]
    rows = np.array([mean(text) for text in texts])
    rows -= np.outer(rows @ first, first)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("counted", [True, False])
def test_sif_is_the_algorithm_of_the_paper(counted: bool) -> None:
    table = random_table(counted=counted)
    corpus, texts = random_texts(300, 1), random_texts(50, 2)
    encoder = StaticEncoder(table, name="m", weights="0" * 64)
    component = first_component(encoder.means(*encoder.rows_of(corpus)))
    np.testing.assert_allclose(np.linalg.norm(component), 1, atol=1e-6)
    rows = encoder.with_component(component).encode(texts)
    np.testing.assert_allclose(rows, reference_sif(table, texts, corpus), atol=2e-5)


def test_frequencies_by_hand() -> None:
    vectors = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(
        frequencies(WordTable(("a", "b", "c"), vectors, np.array([6, 3, 1]))), [0.6, 0.3, 0.1]
    )
    np.testing.assert_allclose(frequencies(WordTable(("a", "b", "c"), vectors)), np.array([6, 3, 2]) / 11)


def test_words_of_a_text_and_the_forms_they_are_known_by() -> None:
    assert words_of("John's well-known Äpfel, 3.5 don’t!") == [
        "John's",
        "well",
        "known",
        "Äpfel",
        "3",
        "5",
        "don’t",
    ]
    assert words_of("A\u0308pfel") == ["Äpfel"]  # put together, as most files have it
    assert spans_of("a  bc.") == [(0, 1), (3, 5)]
    forms = Forms({"john": 0, "Paris": 1, "york": 2, "don't": 3, "the": 4})
    known = {"John's": 0, "Paris": 1, "paris": -1, "new_york": 2, "don't": 3, "The": 4, "THE": 4, "oslo": -1}
    assert {form: forms[form] for form in known} == known


def test_unknown_words_are_passed_over_and_a_text_of_none_is_refused() -> None:
    encoder = StaticEncoder(random_table(counted=True), name="m", weights="0" * 64)
    np.testing.assert_array_equal(encoder.encode(["w1 nothing w2"]), encoder.encode(["w1 w2"]))
    assert encoder.knows(["w1", "nothing", ""]).tolist() == [True, False, False]
    with pytest.raises(
        QueryError, match=r"no word of 'nothing here' is in the vocabulary of 'm' \(60 words\); use"
    ):
        encoder.encode(["w1", "nothing here"])


def test_a_text_along_the_component_keeps_its_direction() -> None:
    table = random_table(counted=True)
    alone = table.vectors[5] / np.linalg.norm(table.vectors[5])
    encoder = StaticEncoder(table, name="m", weights="0" * 64, component=alone)
    np.testing.assert_allclose(encoder.encode(["w5"])[0], alone, atol=1e-6)


def test_by_word_each_word_has_its_own_vector() -> None:
    words = ("king", ".", "new york", "don't")
    table = WordTable(words, np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    rows = StaticEncoder(table, name="m", weights="0" * 64, by_word=True).encode(list(words))
    expected = table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_a_file_that_vanished_or_changed_is_told(tmp_path: Path) -> None:
    file = tmp_path / "words.vec"
    file.write_text("2 2\na 1 0\nb 0 1\n", encoding="utf-8")
    encoder = load_named(str(file))
    np.testing.assert_array_equal(load_spec(encoder.spec).encode(["a", "b"]), np.eye(2, dtype=np.float32))
    with pytest.raises(ModelError, match="takes no dim"):
        load_named(str(file), ModelChoice(dim=1))
    file.write_text("2 2\na 1 0\nb 1 1\n", encoding="utf-8")
    with pytest.raises(EncoderDrift, match="put the former file back"):
        load_spec(encoder.spec)
    file.unlink()
    with pytest.raises(ModelUnavailable, match=r"stood in .*words\.vec, which is gone; put the file back"):
        load_spec(encoder.spec)
    with pytest.raises(
        ModelUnavailable, match="is learned from your own texts; ingest texts with --model glove"
    ):
        load_named("glove")


def test_probes_are_of_its_own_words() -> None:
    encoder = StaticEncoder(random_table(counted=True), name="m", weights="0" * 64)
    probes = encoder.probe_texts()
    assert len(probes) == 4
    assert encoder.knows(probes).all()
    assert Counter(" ".join(probes).split())["w0"] == 2
