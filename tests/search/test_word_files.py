"""Files of word vectors: every format gives the same table as gensim reads, and damage is told with its line."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from search.encoders.load import load_named
from search.encoders.word_files import read_words
from search.encoders.word_table import WordTable
from search.errors import ModelUnavailable, SourceError

N, DIM = 300, 7


def vectors() -> KeyedVectors:
    made = KeyedVectors(DIM)
    words = [f"wort{number}" for number in range(N - 3)] + ["Äpfel", ".", "new_york"]
    made.add_vectors(words, np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def given() -> KeyedVectors:
    return vectors()


def write(given: KeyedVectors, kind: str, folder: Path) -> Path:
    path = folder / "words"
    if kind == "npz":
        np.savez(folder / "w.npz", words=np.array(given.index_to_key), vectors=given.vectors)
        return folder / "w.npz"
    if kind == "own":
        path.write_bytes(WordTable(tuple(given.index_to_key), given.vectors).to_bytes())
        return path
    given.save_word2vec_format(str(path), binary=kind == "binary", write_header=kind != "glove")
    if kind == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    if kind == "windows":
        path.write_bytes(path.read_bytes().replace(b"\n", b" \r\n"))
    if kind == "binary with line ends":  # as the first program wrote them
        rows = [
            w.encode() + b" " + v.tobytes() + b"\n"
            for w, v in zip(given.index_to_key, given.vectors, strict=True)
        ]
        path.write_bytes(f"{N} {DIM}\n".encode() + b"".join(rows))
    return path


@pytest.mark.parametrize(
    "kind", ["text", "binary", "binary with line ends", "glove", "gzip", "windows", "npz", "own"]
)
def test_every_format_gives_the_same_table(given: KeyedVectors, kind: str, tmp_path: Path) -> None:
    table = read_words(write(given, kind, tmp_path))
    assert list(table.words) == given.index_to_key
    np.testing.assert_allclose(table.vectors, given.vectors, rtol=1e-6)
    assert (table.vectors.dtype, table.repeated) == (np.float32, 0)


def test_counts_and_any_word_survive_being_kept() -> None:
    table = WordTable(("ä b", "", "語"), np.eye(3, dtype=np.float32), np.array([5, 0, 1 << 40]))
    again = WordTable.from_bytes(table.to_bytes(), "kept")
    assert again.words == table.words
    assert again.counts is not None
    assert again.counts.tolist() == [5, 0, 1 << 40]
    np.testing.assert_array_equal(again.vectors, table.vectors)
    for damaged in (b"", table.to_bytes()[:-5], b"\x08" + b"\0" * 7 + b"[1,2,3] "):
        with pytest.raises(SourceError, match=r"kept: .*; "):
            WordTable.from_bytes(damaged, "kept")


def test_words_with_spaces_and_repeated_words(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the 1 2\n. . . 3 4\nat x.com 5 6\nthe 7 8\nend 9 10\n", encoding="utf-8")
    table = read_words(tmp_path / "a.txt")
    assert table.words == ("the", ". . .", "at x.com", "end")
    assert table.vectors.tolist() == [[1, 2], [3, 4], [5, 6], [9, 10]]
    assert table.repeated == 1


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("a 1 2\nb 3 4\nc 5\nd 6 7\n", 3, "1 numbers where the file has 2"),
        ("a 1 2\nb 3 4\nc x y\nd 6 7\n", 3, "not numbers"),
        ("a 1 2\nb 3 4\nc 5 nan\n", 3, "NaN or infinity"),
        ("a 1 2\nb 3 4\nc 5 1e99\n", 3, "NaN or infinity"),
        ("a 1 2\nb 3 4\n\nd 6 7\n", 3, "0 numbers where the file has 2"),
        ("3 2\na 1 2\nb 3\nc 6 7\n", 3, "1 numbers where the file has 2"),
        ("a 1 2\n 3 4\n", 2, "1 numbers where the file has 2"),
    ],
)
def test_a_damaged_line_is_told_with_its_number(tmp_path: Path, content: str, line: int, what: str) -> None:
    with pytest.raises(SourceError, match=what) as caught:
        read_words(_written(tmp_path, content))
    assert caught.value.line == line
    with pytest.raises(ModelUnavailable, match=rf"a\.txt:{line}: "):
        load_named(str(tmp_path / "a.txt"))


def test_a_damaged_line_in_a_later_block_has_its_own_number(tmp_path: Path) -> None:
    row = " ".join(["0.125"] * 100)
    lines = [f"w{number} {row}" for number in range(9000)]  # more than one block
    lines[8500] = "w8500 0.5"
    with pytest.raises(SourceError, match="1 numbers where the file has 100") as caught:
        read_words(_written(tmp_path, "\n".join(lines)))
    assert caught.value.line == 8501


def test_what_is_cut_off_or_announces_too_much_is_told(given: KeyedVectors, tmp_path: Path) -> None:
    path = write(given, "binary", tmp_path)
    whole = path.read_bytes()
    for bytes_, what in (
        (whole[:-9], "damaged or cut off|too short"),
        (whole.replace(b"300 7", b"900000000 7", 1), "too short for them"),
        (whole + b"more", "more stands behind"),
    ):
        path.write_bytes(bytes_)
        with pytest.raises(SourceError, match=what):
            read_words(path)
    path = write(given, "text", tmp_path)
    path.write_bytes(path.read_bytes().replace(b"300 7", b"301 7", 1))
    with pytest.raises(SourceError, match="300 words where its first line announces 301"):
        read_words(path)
    packed = write(given, "gzip", tmp_path)
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(SourceError, match="cannot be read"):
        read_words(packed)


def test_bombs_and_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.encoders.word_files._EXPANSION_FROM", 1 << 20)
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"a 1 2\n" + b"b 1 2\n" * 1_500_000, mtime=0))
    with pytest.raises(SourceError, match="unpacks to more than 100 times its size"):
        read_words(bomb)
    bomb.write_bytes(
        gzip.compress(b"a 1 2\nb 1 2\n" + np.random.default_rng(0).bytes(3 << 20).replace(b"\n", b""))
    )
    with pytest.raises(SourceError, match="longer than 2 MiB"):
        read_words(bomb)
    kept = tmp_path / "words.kv"
    kept.write_bytes(pickle.dumps({"vectors": 1}))
    with pytest.raises(ModelUnavailable, match=r"is a Python pickle .* KeyedVectors\.save_word2vec_format"):
        load_named(str(kept))
    np.savez(tmp_path / "objects.npz", words=np.array(["a"], dtype=object), vectors=np.eye(1))
    with pytest.raises(SourceError, match="not a readable npz"):
        read_words(tmp_path / "objects.npz")


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    for content in ("", "just a sentence of some words\n", "\0\1\2"):
        with pytest.raises(SourceError, match="not a file of word vectors; give"):
            read_words(_written(tmp_path, content))
    with pytest.raises(ModelUnavailable, match="no such file; check the path"):
        load_named(str(tmp_path / "gone.vec"))


def _written(folder: Path, content: str) -> Path:
    path = folder / "a.txt"
    path.write_text(content, encoding="utf-8")
    return path
