"""Cross-encoders against plain transformers, one pair at a time, and searches ranked again by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import search
from search.encoders.cross import CrossEncoder
from search.encoders.text import TextEncoder
from search.errors import ModelError, ModelUnavailable
from search.types import Record
from tests.search.test_rerank import QUERIES, TEXTS
from tests.search.test_text_encoder import save_bert, wordpiece


def save_cross_encoder(folder: Path, kind: str = "bert", n_labels: int = 1) -> Path:
    """A small network with random weights and one output, as transformers saves it."""
    torch.manual_seed(4)
    tokenizer = wordpiece()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "num_labels": n_labels,
        "initializer_range": 0.5,
    }
    if kind == "bert":
        BertForSequenceClassification(BertConfig(**sizes)).save_pretrained(folder)
    else:
        config = RobertaConfig(**sizes, type_vocab_size=2, pad_token_id=tokenizer.pad_token_id)
        RobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("cross"))


def plain(folder: Path, pairs: list[tuple[str, str]], window: int) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for query, text in pairs:
        inputs = tokenizer(
            [query], [text], return_tensors="pt", truncation="longest_first", max_length=window
        )
        with torch.inference_mode():
            found.append(float(model(**inputs).logits[0, 0]))
    return found


@pytest.mark.parametrize(("kind", "window"), [("bert", 40), ("roberta", 38)])
def test_scores_are_those_of_transformers(tmp_path: Path, kind: str, window: int) -> None:
    folder = save_cross_encoder(tmp_path, kind)
    encoder = CrossEncoder.from_name(str(folder), device="cpu", precision="fp32")
    long = " ".join(TEXTS)
    pairs = [(query, text) for query in QUERIES for text in [*TEXTS, "", long]] + [(long, long)]
    expected = plain(folder, pairs, window)
    assert np.std(expected) > 0.01  # or any order would do
    np.testing.assert_allclose(encoder.scores(pairs), expected, atol=1e-5)
    assert encoder.scores([]).shape == (0,)


def test_a_search_is_ranked_again(folder: Path, tmp_path: Path) -> None:
    made = save_bert(tmp_path / "bert")
    encoder = TextEncoder.from_name(str(made), device="cpu", precision="fp32")
    shop = search.open(tmp_path / "c", precision="fp32")
    with shop.writing() as writer:
        space = writer.space("text", encoder.spec)
        writer.put([Record(str(n), text=text) for n, text in enumerate(TEXTS)], encoder.encode(TEXTS), space)
    query = QUERIES[0]
    expected = plain(folder, [(query, text) for text in TEXTS], 40)
    order = np.argsort(-np.array(expected), kind="stable")
    for hybrid in (False, True):
        hits = shop.search(query, k=3, rerank=str(folder), hybrid=hybrid, explain=True)
        assert [int(hit.id) for hit in hits] == order[:3].tolist()
        np.testing.assert_allclose([hit.score for hit in hits], np.array(expected)[order[:3]], atol=1e-5)
        for hit in hits:
            assert hit.explain is not None
            told = hit.explain["rerank"]
            assert isinstance(told, dict)
            assert (told["kind"], told["model"]) == ("cross-encoder", str(folder))
            assert ("hybrid" in hit.explain) == hybrid
    first = [int(hit.id) for hit in shop.search(query, k=3)]
    hits = shop.search(query, k=2, rerank=str(folder), rerank_depth=3)
    assert [int(hit.id) for hit in hits] == [n for n in order.tolist() if n in first][:2]
    together = shop.search(QUERIES, k=4, rerank=str(folder))
    for one, some in zip(QUERIES, together, strict=True):
        assert [hit.id for hit in some] == [hit.id for hit in shop.search(one, k=4, rerank=str(folder))]


def test_what_is_no_cross_encoder_is_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no cross-encoder with one score .*3 outputs"):
        CrossEncoder.from_name(str(save_cross_encoder(tmp_path / "three", n_labels=3)))
    with pytest.raises(ModelError, match="no cross-encoder"):
        CrossEncoder.from_name(str(save_bert(tmp_path / "bert")))
    with pytest.raises(ModelUnavailable, match="no-such-model"):
        CrossEncoder.from_name("no-such-model")
    damaged = save_cross_encoder(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        CrossEncoder.from_name(str(damaged))
    pickled = save_cross_encoder(tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="safetensors"):
        CrossEncoder.from_name(str(pickled))
    foreign = save_cross_encoder(tmp_path / "foreign")
    config = json.loads((foreign / "config.json").read_text())
    config["model_type"] = "theirs"
    config["auto_map"] = {"AutoConfig": "theirs.Config"}
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "theirs.py").write_text("raise SystemExit('run')")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        CrossEncoder.from_name(str(foreign))
