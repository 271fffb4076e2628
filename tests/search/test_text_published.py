"""Prompts and pooling of well-known models whose files do not tell them, by name, by folder and in the hub's cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ingest
import search
from ingest.cli.main import app
from search.encoders.load import Device as Where
from search.encoders.load import ModelChoice, load_named, load_spec
from search.encoders.text_published import Published, published
from search.types import EncoderSpec
from tests.search.test_text_encoder import save_bert

CPU = Where("cpu", "fp32")
BGE = "Represent this sentence for searching relevant passages: "


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize(
    ("model", "card"),
    [
        ("intfloat/e5-small-v2", Published("query: ", "passage: ", "mean")),
        ("intfloat/e5-large-unsupervised", Published("query: ", "passage: ", "mean")),
        ("intfloat/multilingual-e5-base", Published("query: ", "passage: ", "mean")),
        ("BAAI/bge-small-en-v1.5", Published(BGE, "", "cls")),
        ("baai/bge-large-en", Published(BGE, "", "cls")),
        ("BAAI/bge-base-zh-v1.5", Published("为这个句子生成表示以用于检索相关文章：", "", "cls")),
        ("BAAI/bge-m3", Published("", "", "cls")),
        ("thenlper/gte-base", Published("", "", "mean")),
        ("nomic-ai/nomic-embed-text-v1.5", Published("search_query: ", "search_document: ", "mean")),
        ("Snowflake/snowflake-arctic-embed-xs", Published(BGE, "", "cls")),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", Published("query: ", "", "cls")),
        ("mixedbread-ai/mxbai-embed-large-v1", Published(BGE, "", "cls")),
        ("someone/e5-small-v2", None),
        ("intfloat/e5-mistral-7b-instruct", None),
        ("BAAI/bge-reranker-base", None),
        ("sentence-transformers/all-MiniLM-L6-v2", None),
    ],
)
def test_what_the_cards_say(model, card):
    assert published(model, Path("/somewhere/else")) == card
    owner, name = model.split("/")
    cached = Path(f"/cache/models--{owner}--{name}/snapshots/0123abc")
    assert published(str(cached), cached) == card


def test_of_a_folder_the_name_alone_counts(tmp_path):
    for name, card in (("e5-small-v2", Published("query: ", "passage: ")), ("my-e5-small-v2", None)):
        (tmp_path / name).mkdir()
        assert published(str(tmp_path / name), tmp_path / name) == card


def test_a_plain_e5_gets_its_prompts_and_they_are_kept(tmp_path, bert):
    folder = tmp_path / "intfloat" / "e5-small-v2"
    shutil.copytree(bert, folder)
    encoder, plain = load_named(str(folder), device=CPU), load_named(str(bert), device=CPU)
    assert encoder.spec.options["query_prompt"] == "query: "
    assert encoder.spec.options["document_prompt"] == "passage: "
    assert encoder.spec.options["pooling"] == "mean"
    np.testing.assert_array_equal(encoder.encode(["cat"], role="query"), plain.encode(["query: cat"]))
    np.testing.assert_array_equal(encoder.encode(["cat"]), plain.encode(["passage: cat"]))
    stored = EncoderSpec.from_json(json.loads(json.dumps(encoder.spec.to_json())))
    again = load_spec(stored, device=CPU)
    np.testing.assert_array_equal(again.encode(["cat"]), encoder.encode(["cat"]))
    assert again.spec == encoder.spec


def test_a_plain_bge_takes_its_first_token_and_what_the_user_says_comes_first(tmp_path, bert):
    folder = tmp_path / "bge-small-en-v1.5"
    shutil.copytree(bert, folder)
    encoder = load_named(str(folder), device=CPU)
    cls = load_named(str(bert), ModelChoice(pooling="cls"), device=CPU)
    assert (encoder.spec.options["query_prompt"], encoder.spec.options["pooling"]) == (BGE, "cls")
    assert "document_prompt" not in encoder.spec.options
    np.testing.assert_array_equal(encoder.encode(["the cat"]), cls.encode(["the cat"]))
    said = load_named(
        str(folder), ModelChoice(pooling="mean", query_prompt="", document_prompt="on: "), device=CPU
    )
    assert said.spec.options == {"pooling": "mean", "document_prompt": "on: ", "max_tokens": 36}


@pytest.mark.parametrize(
    ("own", "expected"), [({"query": "cat: "}, "cat: "), ({"query": "", "document": ""}, "query: ")]
)
def test_what_the_files_say_comes_before_the_card(tmp_path, bert, own, expected):
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "e5-small-v2"
    SentenceTransformer(str(bert), prompts=own, device="cpu").save(str(folder))
    encoder = load_named(str(folder), device=CPU)
    assert encoder.spec.options["query_prompt"] == expected
    assert encoder.spec.options.get("document_prompt") == ("passage: " if expected == "query: " else None)
    assert "pooling" not in encoder.spec.options  # which the files say


def test_a_model_in_the_cache_of_the_hub_by_its_name_and_in_info(tmp_path, bert, monkeypatch):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    room = tmp_path / "hub" / "models--intfloat--e5-small-v2"
    shutil.copytree(bert, room / "snapshots" / commit)
    (room / "refs").mkdir()
    (room / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "a.txt").write_text("the cat sat on the mat")
    with search.open(tmp_path / "c") as shelf:
        ingest.text(
            shelf, tmp_path / "a.txt", model="intfloat/e5-small-v2", options=ingest.Options(device="cpu")
        )
        (space,) = shelf.info()["spaces"]
        assert space["options"]["query_prompt"] == "query: "
        assert shelf.search("cat")[0].id == "a.txt"
    shown = CliRunner().invoke(app, ["info", "-c", str(tmp_path / "c")])
    assert 'text: before each query stands "query: "' in shown.output
    assert 'text: before each document stands "passage: "' in shown.output
