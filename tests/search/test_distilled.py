"""Distilled static models: the same vectors as model2vec's own code gives, and clear words where files are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from model2vec import StaticModel
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from search.encoders.distilled import DistilledEncoder
from search.encoders.load import ModelChoice, load_named, load_spec
from search.errors import EncoderDrift, ModelError, ModelUnavailable, QueryError

VOCABULARY = ["[UNK]", "[PAD]", "red", "coat", "blue", "shoes", "hat", "two", "and", "nearkin", "def", "a"]
TEXTS = ["a red coat", "two blue shoes and a coat", "HAT", "hat unheard hat"]


def save_model2vec(folder: Path, *, weights: bool = False, mapping: bool = False) -> Path:
    """A small model in the format of model2vec, as its own code saves it."""
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    random = np.random.default_rng(0)
    n = len(VOCABULARY)
    tensors = {"embeddings": random.normal(size=(4 if mapping else n, 6)).astype(np.float32)}
    if weights:
        tensors["weights"] = random.uniform(0.5, 2, n).astype(np.float64)
    if mapping:
        tensors["mapping"] = (np.arange(n) % 4).astype(np.int64)
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "model2vec", "normalize": True, "hidden_dim": 6, "seq_length": 1000000}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("weights", "mapping"), [(False, False), (True, False), (True, True)])
def test_vectors_are_those_of_model2vec(tmp_path: Path, weights: bool, mapping: bool) -> None:
    save_model2vec(tmp_path, weights=weights, mapping=mapping)
    encoder = load_named(str(tmp_path))
    assert isinstance(encoder, DistilledEncoder)
    theirs = StaticModel.from_pretrained(str(tmp_path)).encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), theirs, atol=1e-6)


def test_dim_keeps_the_first_numbers(tmp_path: Path) -> None:
    save_model2vec(tmp_path)
    whole = StaticModel.from_pretrained(str(tmp_path)).encode(TEXTS)[:, :3]
    short = load_named(str(tmp_path), ModelChoice(dim=3))
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(short.encode(TEXTS), expected, atol=1e-6)
    np.testing.assert_array_equal(load_spec(short.spec).encode(TEXTS), short.encode(TEXTS))
    with pytest.raises(ModelError, match="6 numbers a vector, not 7; choose"):
        load_named(str(tmp_path), ModelChoice(dim=7))
    with pytest.raises(ModelError, match="takes no pooling"):
        load_named(str(tmp_path), ModelChoice(pooling="cls"))


def test_a_text_of_unknown_tokens_is_refused_and_told_of_before(tmp_path: Path) -> None:
    encoder = DistilledEncoder.from_name(str(save_model2vec(tmp_path)))
    assert encoder.knows(["unheard", "hat", ""]).tolist() == [False, True, False]
    with pytest.raises(QueryError, match="no part of 'unheard' is known"):
        encoder.encode(["hat", "unheard"])


def test_damaged_and_changed_files_are_told(tmp_path: Path) -> None:
    spec = load_named(str(save_model2vec(tmp_path))).spec
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({"embeddings": tensors["embeddings"] * 2}, tmp_path / "model.safetensors")
    with pytest.raises(EncoderDrift, match="get the former files back"):
        load_spec(spec)
    save_file({"embeddings": tensors["embeddings"][:3].copy()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelUnavailable, match="do not match the tokenizer; "):
        load_spec(spec)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json cannot be used .*; get"):
        load_spec(spec)
