"""How good word vectors are: word similarity, analogies and sentences, against published sets and plain numpy."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import ingest
import search
from ingest.learn.words.corpus import Corpus
from ingest.learn.words.glove import learn_glove
from ingest.learn.words.settings import WordSettings
from ingest.learn.words.word2vec import learn_word2vec
from ingest.verbs.words import with_component
from search.encoders.static import StaticEncoder
from search.encoders.word_files import read_words
from search.encoders.word_table import WordTable

Shared = Callable[[str], Path]
GLOVE = "text/glove-twitter-25d/glove_twitter_25d_12k.txt"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def similarity(table: WordTable, file: Path) -> tuple[float, int]:
    """Spearman's correlation of the cosines with people's scores, over the pairs of known words; how many."""
    at = {word: row for row, word in enumerate(table.words)}
    rows = unit(table.vectors)
    pairs = [line.lower().split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    known = [(at[one], at[other], float(score)) for one, other, score in pairs if one in at and other in at]
    cosines = [float(rows[one] @ rows[other]) for one, other, _ in known]
    return float(spearmanr(cosines, [score for *_, score in known]).statistic), len(known)


@pytest.mark.parametrize(("name", "expected"), [("EN-WS-353-ALL.txt", 0.427), ("EN-MEN-TR-3k.txt", 0.470)])
def test_word_similarity_of_given_vectors(shared_data: Shared, name: str, expected: float) -> None:
    score, _ = similarity(read_words(shared_data(GLOVE)), shared_data(f"text/word-similarity/{name}"))
    assert score == pytest.approx(expected, abs=0.0015)


def sentence_scores(rows: np.ndarray, n: int) -> np.ndarray:
    return np.einsum("nd,nd->n", rows[:n], rows[n:])


def test_sif_is_better_than_the_plain_mean_on_sentences(shared_data: Shared) -> None:
    with shared_data("text/stsb/stsb-en-dev.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) == 3]
    texts = [row[0] for row in rows] + [row[1] for row in rows]
    people = np.array([float(row[2]) for row in rows])
    table = read_words(shared_data(GLOVE))
    plain_encoder = StaticEncoder(table, name="m", weights="0" * 64)
    assert plain_encoder.knows(texts).all()
    sif = with_component(plain_encoder, texts).encode(texts)
    at, ends = plain_encoder.rows_of(texts)
    plain = unit(np.array([table.vectors[at[a:b]].mean(0) for a, b in pairwise(ends)]))
    n = len(rows)
    by_sif = float(spearmanr(sentence_scores(sif, n), people).statistic)
    by_mean = float(spearmanr(sentence_scores(plain, n), people).statistic)
    assert by_sif > by_mean + 0.05
    assert (by_sif, by_mean) == (pytest.approx(0.604, abs=0.003), pytest.approx(0.418, abs=0.003))


def test_recommend_solves_analogies_as_plain_3cosadd_does(shared_data: Shared, tmp_path: Path) -> None:
    """a : b as c : ?, by unit(b) + unit(c) - unit(a); Mikolov, Yih & Zweig 2013, sec. 5."""
    table = read_words(shared_data(GLOVE))
    at = {word: row for row, word in enumerate(table.words)}
    rows = unit(table.vectors.astype(np.float64))
    asked = []
    for file in sorted(shared_data("text/analogies").glob("*.txt")):
        four = [line.lower().split() for line in file.read_text(encoding="utf-8").splitlines()]
        known = [words for words in four if len(words) == 4 and all(word in at for word in words)]
        asked += known[:: max(len(known) // 15, 1)][:15]
    assert len(asked) > 100
    ingest.vectors(tmp_path / "c", list(table.words), table.vectors, space="words")
    right = 0
    with search.open(tmp_path / "c") as c:
        for a, b, third, answer in asked:
            scores = rows @ (rows[at[b]] + rows[at[third]] - rows[at[a]])
            scores[[at[a], at[b], at[third]]] = -np.inf
            best = table.words[int(np.argmax(scores))]
            (hit,) = c.recommend(likes=[b, third], dislikes=[a], spaces=["words"], k=1)
            assert hit.id == best
            right += hit.id == answer
    assert right / len(asked) > 0.1


def corpus_texts(shared: Shared) -> list[str]:
    """Cranfield's abstracts, the questions of Banking77 and the sentences of STS-B."""
    texts = shared("text/cranfield/cran.all.1400").read_text(encoding="utf-8", errors="replace").split(".I ")
    for name, columns in (
        ("banking77/train.csv", 1),
        ("banking77/test.csv", 1),
        ("stsb/stsb-en-train.csv", 2),
        ("stsb/stsb-en-dev.csv", 2),
    ):
        with shared(f"text/{name}").open(encoding="utf-8") as file:
            texts += [text for row in csv.reader(file) for text in row[:columns]]
    return texts


@pytest.mark.quality
@pytest.mark.parametrize("method", ["word2vec", "glove"])
def test_vectors_learned_here_know_more_than_chance(shared_data: Shared, method: str) -> None:
    with Corpus(corpus_texts(shared_data)) as corpus:
        if method == "glove":
            table = learn_glove(corpus, WordSettings(dim=50), device="cpu")
        else:
            table = learn_word2vec(corpus, WordSettings(dim=50))
    score, n = similarity(table, shared_data("text/word-similarity/EN-MEN-TR-3k.txt"))
    assert n > 500
    # By chance the correlation of so many pairs stays within 3 / sqrt(n).
    assert score > 3 / n**0.5
    assert score == pytest.approx({"word2vec": 0.216, "glove": 0.128}[method], abs=0.03)
