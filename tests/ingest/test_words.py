"""Words learned from the user's own texts: against gensim, against the co-occurrence maths written plainly, in use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import Word2Vec

import ingest
import search
from ingest import Level, ModelChoice, WordSettings
from ingest.cli.main import run
from ingest.learn.words import glove
from ingest.learn.words.cooccurrences import count_cooccurrences
from ingest.learn.words.corpus import Corpus
from ingest.learn.words.glove import learn_glove
from ingest.learn.words.word2vec import learn_word2vec
from ingest.sources.vectors import read_vectors
from search.encoders.static import StaticEncoder
from search.encoders.word_table import WordTable
from search.errors import CollectionError, EncoderDrift, ModelError, QueryError, SourceError

TWINS = [("cat", "feline"), ("car", "automobile"), ("stone", "rock"), ("doctor", "physician")]


def planted(n: int = 3000, seed: int = 0) -> list[str]:
    """Sentences about four things, each with two names that stand in the same places by chance."""
    random = np.random.default_rng(seed)
    about = [
        ["purrs", "sleeps", "hunts", "mice", "milk", "fur"],
        ["drives", "wheel", "road", "engine", "fast", "petrol"],
        ["hard", "grey", "heavy", "mountain", "falls", "rolls"],
        ["heals", "patient", "hospital", "nurse", "pill", "ward"],
    ]
    lines = []
    for _ in range(n):
        thing = int(random.integers(4))
        name = TWINS[thing][int(random.integers(2))]
        words = [
            name,
            *random.choice(about[thing], 4, replace=False),
            *random.choice(["the", "a", "of", "and"], 3),
        ]
        lines.append(" ".join(random.permutation(words)))
    return lines


def nearest(table: WordTable, word: str) -> str:
    rows = table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True)
    scores = rows @ rows[table.words.index(word)]
    scores[table.words.index(word)] = -1
    return table.words[int(np.argmax(scores))]


@pytest.mark.parametrize("cbow", [False, True])
def test_word2vec_is_gensims_own_at_the_same_settings(cbow: bool) -> None:
    lines = planted(400)
    settings = WordSettings(dim=20, epochs=3, min_count=3, window=4, negative=7, seed=5)
    with Corpus(lines) as corpus:
        table = learn_word2vec(corpus, settings, cbow=cbow)
    theirs = Word2Vec(
        vector_size=20, epochs=3, min_count=3, window=4, negative=7, seed=5, workers=1, sg=int(not cbow)
    )
    sentences = [line.split() for line in lines]
    counts: dict[str, int] = defaultdict(int)
    for word in (word for line in sentences for word in line):
        counts[word] += 1
    # The order of equally common words decides who begins with which vector; ours is by letters.
    theirs.build_vocab_from_freq(dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))))
    theirs.train(sentences, total_examples=len(lines), total_words=sum(counts.values()), epochs=3)
    assert list(table.words) == theirs.wv.index_to_key
    np.testing.assert_array_equal(table.vectors, theirs.wv.vectors)
    assert table.counts is not None
    assert table.counts.tolist() == [counts[word] for word in table.words]


@pytest.mark.parametrize("method", ["word2vec", "word2vec:cbow", "glove"])
def test_words_that_can_stand_for_each_other_are_nearest(method: str) -> None:
    settings = WordSettings(dim=24, epochs=100 if method == "glove" else 20, window=8, seed=2)
    with Corpus(planted()) as corpus:
        if method == "glove":
            table = learn_glove(corpus, settings, device="cpu")
        else:
            table = learn_word2vec(corpus, settings, cbow=method.endswith("cbow"))
    for one, other in TWINS:
        assert (nearest(table, one), nearest(table, other)) == (other, one)


def plain_cooccurrences(lines: Sequence[Sequence[str]], window: int) -> dict[tuple[str, str], float]:
    counted: dict[tuple[str, str], float] = defaultdict(float)
    for words in lines:
        for at, word in enumerate(words):
            for before in range(max(0, at - window), at):
                counted[word, words[before]] += 1 / (at - before)
                counted[words[before], word] += 1 / (at - before)
    return counted


def test_cooccurrences_are_those_of_a_plain_count_however_the_text_is_cut() -> None:
    lines = [line.split() for line in planted(120)] + [["cat", "cat", "the", "cat"], ["cat"]]
    with Corpus([" ".join(line) for line in lines]) as corpus:
        vocabulary = corpus.vocabulary(1, 1000)
        rows = {word: row for row, word in enumerate(vocabulary)}
        expected = np.zeros((len(rows), len(rows)))
        for (one, other), value in plain_cooccurrences(lines, 5).items():
            expected[rows[one], rows[other]] = value
        for at_least in (1, 37, 10_000):
            counted = count_cooccurrences(corpus.encoded(rows, at_least), len(rows), 5)
            np.testing.assert_allclose(counted.toarray(), expected, rtol=1e-12)


def test_pairs_beyond_what_fits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.learn.words.cooccurrences.MOST_PAIRS", 50)
    with (
        Corpus(planted(100)) as corpus,
        pytest.raises(SourceError, match="more than 50 pairs of words; leave out"),
    ):
        learn_glove(corpus, WordSettings(dim=4, epochs=1), device="cpu")


def test_glove_steps_are_those_of_a_plain_adagrad_loop() -> None:
    dim, n_words = 6, 30
    random = np.random.default_rng(1)
    dense = random.uniform(0.2, 300, (n_words, n_words)) * (random.random((n_words, n_words)) < 0.4)
    from scipy.sparse import csr_matrix

    device = torch.device("cpu")
    pairs = glove.Pairs.of(csr_matrix(dense), device)
    state = glove.begin(n_words, dim, 7, device)
    words, contexts = (state.weights[side, :, :-1].double().numpy().copy() for side in (0, 1))
    word_bias, context_bias = (state.weights[side, :, -1].double().numpy().copy() for side in (0, 1))
    squares = [np.ones_like(words), np.ones_like(contexts), np.ones(n_words), np.ones(n_words)]
    losses = []
    for epoch in range(3):
        for batch in glove.batches(len(pairs.logs), epoch):
            ours = float(glove.step(state, pairs, batch))
            gradients = [np.zeros_like(words), np.zeros_like(contexts), np.zeros(n_words), np.zeros(n_words)]
            loss = 0.0
            for i, j in zip(pairs.rows[batch].tolist(), pairs.columns[batch].tolist(), strict=True):
                weight = min(1.0, dense[i, j] / 100) ** 0.75
                difference = words[i] @ contexts[j] + word_bias[i] + context_bias[j] - np.log(dense[i, j])
                loss += 0.5 * weight * difference**2
                gradients[0][i] += weight * difference * contexts[j]
                gradients[1][j] += weight * difference * words[i]
                gradients[2][i] += weight * difference
                gradients[3][j] += weight * difference
            for place, total, gradient in zip(
                (words, contexts, word_bias, context_bias), squares, gradients, strict=True
            ):
                total += gradient**2
                place -= 0.05 * gradient / np.sqrt(total)
            np.testing.assert_allclose(ours, loss, rtol=1e-4)
            losses.append(loss)
    np.testing.assert_allclose(state.weights[0, :, :-1].numpy(), words, atol=1e-4)
    np.testing.assert_allclose(state.weights[1, :, :-1].numpy(), contexts, atol=1e-4)
    np.testing.assert_allclose(state.weights[0, :, -1].numpy(), word_bias, atol=1e-4)
    np.testing.assert_allclose(state.weights[1, :, -1].numpy(), context_bias, atol=1e-4)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_the_same_vectors_in_every_process() -> None:
    code = """
import hashlib, sys
from ingest.learn.words.corpus import Corpus
from ingest.learn.words.glove import learn_glove
from ingest.learn.words.settings import WordSettings
from ingest.learn.words.word2vec import learn_word2vec
from tests.ingest.test_words import planted
with Corpus(planted(300)) as corpus:
    settings = WordSettings(dim=8, epochs=2)
    tables = [learn_word2vec(corpus, settings), learn_glove(corpus, settings, device="cpu")]
print(*(hashlib.sha256(table.to_bytes()).hexdigest() for table in tables))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=_with_hash_seed(seed),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert len(said.pop().split()) == 2


def _with_hash_seed(seed: str) -> dict[str, str]:
    import os

    return os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_settings_that_make_no_sense_and_texts_too_few_are_refused() -> None:
    for wrong in ({"dim": 0}, {"window": 0}, {"min_count": -1}, {"seed": -1}):
        with pytest.raises(SourceError, match="whole numbers from 1; correct them"):
            WordSettings(**wrong)
    with (
        Corpus(["one two", "one"]) as corpus,
        pytest.raises(SourceError, match="fewer than two words stand 2 times"),
    ):
        learn_glove(corpus, WordSettings(), device="cpu")
    settings = WordSettings()
    assert [settings.fewest(n) for n in (10, 1_000_000)] == [2, 5]
    assert [settings.passes(n) for n in (10, 500_000, 10_000_000)] == [50, 10, 5]
    assert [
        WordSettings(dim=dim).glove_passes(n) for dim, n in ((50, 10), (50, 2_000_000), (300, 2_000_000))
    ] == [
        100,
        50,
        100,
    ]


def test_long_texts_are_cut_into_lines_that_are_read_whole() -> None:
    with Corpus(["a " * 25_000, "b"]) as corpus:
        assert [len(line) for line in corpus] == [10_000, 10_000, 5_000, 1]
        assert (corpus.n_words, dict(corpus.counts)) == (25_001, {"a": 25_000, "b": 1})
        place = corpus.path
    assert not place.exists()


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    rows = [json.dumps({"id": f"t{number}", "text": line}) for number, line in enumerate(lines)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


QUICK = WordSettings(dim=16, epochs=5)


@pytest.mark.parametrize("method", ["word2vec", "glove"])
def test_learned_once_kept_in_the_collection_and_used_again(tmp_path: Path, method: str) -> None:
    lines = planted(600)
    file = write_lines(tmp_path / "t.jsonl", [*lines, "qqqq zzzz"])
    report = ingest.text(tmp_path / "c", file, model=method, learning=QUICK)
    assert (report.added, report.rejected, report.space) == (600, 1, "text")
    with search.open(tmp_path / "c") as c:
        rows = c.encoder("text").encode(lines)
        (hit,) = c.search("the feline purrs", k=1)
        query = c.encoder("text").encode(["the feline purrs"])[0]
        np.testing.assert_allclose(hit.score, float((rows @ query).max()), atol=1e-5)
    write_lines(file, [*lines, "qqqq zzzz", "a physician heals"])
    again = ingest.text(tmp_path / "c", file, model=method, learning=QUICK)
    assert (again.added, again.unchanged, again.rejected) == (1, 600, 1)
    words = ingest.text(tmp_path / "c", file, model=method, learning=QUICK, level=Level.WORD)
    assert (words.space, words.model) == ("words", method)
    with search.open(tmp_path / "c") as c:
        encoder, by_word = c.encoder("text"), c.encoder("words")
        assert isinstance(encoder, StaticEncoder)
        assert isinstance(by_word, StaticEncoder)
        assert encoder.spec.weights == by_word.spec.weights  # learned once, kept once
        assert words.added == len(encoder.table.words)
        expected = nearest(encoder.table, "cat")
        assert [hit.id for hit in c.search(like="cat", space="words", k=1)] == [expected]
        (record,) = c.get(["cat"])
        assert record is not None
        assert (record.kind, record.metadata) == (
            "word",
            {"count": sum("cat" in line.split() for line in lines)},
        )
        assert c.check() == []
    with pytest.raises(CollectionError, match="dimensions, not 20; give another name"):
        ingest.text(tmp_path / "c", file, model=method, choice=ModelChoice(dim=20))
    with pytest.raises(CollectionError, match=f"was made by {method}, and this is word2vec:cbow; give"):
        ingest.text(tmp_path / "c", file, model="word2vec:cbow")
    with pytest.raises(CollectionError, match="a vector for each passage, not for each word; give"):
        ingest.text(tmp_path / "c", file, model=method, level=Level.WORD, space="text")


def save_vectors(path: Path, factor: float = 1) -> Path:
    names = sorted({word for line in planted(200) for word in line.split()})
    rows = np.random.default_rng(0).normal(0.2, factor, (len(names), 6))
    lines = [f"{name} {' '.join(f'{x:.5f}' for x in row)}" for name, row in zip(names, rows, strict=True)]
    path.write_text("\n".join([f"{len(names)} 6", *lines]), encoding="utf-8")
    return path


def test_a_small_file_is_kept_in_the_collection(tmp_path: Path) -> None:
    model = save_vectors(tmp_path / "w.vec")
    file = write_lines(tmp_path / "t.jsonl", planted(150))
    ingest.text(tmp_path / "c", file, model=str(model))
    with search.open(tmp_path / "c") as c:
        before = c.encoder("text").encode(["the cat purrs"])
        assert "component" in c.encoder("text").spec.options
    save_vectors(model, 2)
    with pytest.raises(EncoderDrift, match="is not the file that space 'text' was made with"):
        ingest.text(tmp_path / "c", file, model=str(model))
    model.unlink()
    with search.open(tmp_path / "c") as c:
        np.testing.assert_array_equal(c.encoder("text").encode(["the cat purrs"]), before)
    assert ingest.text(tmp_path / "c", file, model=str(model)).unchanged == 150


def test_a_large_file_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.verbs.words.KEPT_WHOLE", 10)
    model = save_vectors(tmp_path / "w.vec")
    file = write_lines(tmp_path / "t.jsonl", planted(20))
    ingest.text(tmp_path / "c", file, model=str(model))
    with search.open(tmp_path / "c") as c:
        assert "component" not in c.encoder("text").spec.options  # too few texts to say what is common
        assert len(c.search("the cat purrs", k=3)) == 3
        with pytest.raises(QueryError, match="no word of 'qqq' is in the vocabulary"):
            c.search("qqq")
    model.rename(tmp_path / "elsewhere")
    with (
        search.open(tmp_path / "c") as c,
        pytest.raises(search.ModelUnavailable, match=r"w\.vec, which is gone; put"),
    ):
        c.search("the cat purrs")


def test_words_of_the_texts_by_a_file(tmp_path: Path) -> None:
    model = save_vectors(tmp_path / "w.vec")
    file = write_lines(tmp_path / "t.jsonl", ["The cat, the CAT", "a rock qqqq"])
    forecast = ingest.text(tmp_path / "c", file, model=str(model), level=Level.WORD, dry_run=True)
    assert (forecast.added, (tmp_path / "c").exists()) == (4, False)
    assert "word vectors" in str(forecast.no_forecast)
    report = ingest.text(tmp_path / "c", file, model=str(model), level=Level.WORD)
    assert (report.added, report.vectors) == (4, 4)
    assert 0 < report.stages["learn"] < report.seconds
    with search.open(tmp_path / "c") as c:
        records = c.get(["the", "cat", "a", "rock", "qqqq"])
        assert [None if r is None else r.metadata["count"] for r in records] == [2, 2, 1, 1, None]  # type: ignore[index]
    write_lines(file, ["The cat"])
    report = ingest.text(tmp_path / "c", file, model=str(model), level=Level.WORD, prune=True)
    assert (report.updated, report.removed) == (2, 2)
    with pytest.raises(SourceError, match="word vectors are stored of all the words"):
        ingest.text(tmp_path / "c", file, model=str(model), level="word", words=["cat"])
    with pytest.raises(ModelError, match="is not learned from texts; leave out"):
        ingest.text(tmp_path / "c", file, learning=QUICK)
    with pytest.raises(ModelError, match="takes no pooling"):
        ingest.text(tmp_path / "c", file, model="word2vec", choice=ModelChoice(pooling="cls"))


def test_without_gensim_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("gensim.models.callbacks", "gensim.models.word2vec"):
        monkeypatch.setitem(sys.modules, name, None)
    file = write_lines(tmp_path / "t.jsonl", planted(20))
    with pytest.raises(search.MissingExtra, match=r'pip install "nearkin\[words\]"'):
        ingest.text(tmp_path / "c", file, model="word2vec")
    assert not (tmp_path / "c").exists()


def test_a_file_of_words_as_vectors_made_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "w.vec").write_text("4 2\nking 1 0\nqueen 0.9 0.1\nnone 0 0\nking 0 1\n", encoding="utf-8")
    read = read_vectors(tmp_path / "w.vec")
    assert (read.ids, read.metadata) == (["king", "queen"], None)
    np.testing.assert_allclose(read.matrix, [[1, 0], [0.9, 0.1]])
    assert [(one.id, one.reason) for one in read.rejected] == [
        ("none", "the vector is all zeros"),
        (None, "1 later rows are of words that stood before"),
    ]


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, file = save_vectors(tmp_path / "w.vec"), write_lines(tmp_path / "t.jsonl", ["The cat", "a rock"])
    where = ["-c", str(tmp_path / "c")]
    for arguments, code, said in (
        (["ingest", "text", str(file), "--model", str(model), "--level", "word", *where], 0, "space 'words'"),
        (["search", "--space", "words", "--like", "cat", "-k", "1", "--json", *where], 0, '"id"'),
        (
            ["ingest", "text", str(file), "--level", "letter", *where],
            1,
            "no level 'letter'; use passage or word",
        ),
        (["ingest", "text", str(file), "--model", "gone.vec", *where], 1, "no such file; check the path"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(arguments)
        out, err = capsys.readouterr()
        assert (ended.value.code, said in out + err, "Traceback" in err) == (code, True, False)
