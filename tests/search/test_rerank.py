"""MaxSim against plain numpy over plain transformers, and how a search is ranked again by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import search
from search.encoders.text import TextEncoder
from search.errors import ModelUnavailable, QueryError, WrongModality
from search.query.rerank import maxsim
from search.types import Part, Record
from tests.search.test_text_encoder import save_bert

TEXTS = [
    "A plane is taking off.",
    "A man is playing a large flute.",
    "A man is spreading shredded cheese on a pie.",
    "Three men are playing chess.",
    "A man is playing the cello.",
    "Some men are fighting.",
    "A man is smoking.",
    "A person is folding a piece of paper.",
]
QUERIES = ["a man plays", "the plane", "cheese and chess and paper"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def encoder(bert):
    return TextEncoder.from_name(str(bert), device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def shop(bert, encoder, tmp_path_factory):
    with search.open(tmp_path_factory.mktemp("rerank") / "c") as shop:
        with shop.writing() as writer:
            space = writer.space("text", encoder.spec)
            records = [Record(str(number), text=text) for number, text in enumerate(TEXTS)]
            parts = [[Part(0, len(text))] for text in TEXTS]
            writer.put(records, encoder.encode(TEXTS), space, parts=parts)
        shop.add([{"id": "v"}], [[1.0, 0.0]], space="mine")
        yield shop


@pytest.fixture(scope="module")
def reference(bert):
    """MaxSim with nothing but transformers and numpy: special tokens left out, the mean over the query's tokens."""
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()

    def tokens(text):
        inputs = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
        kept = inputs.pop("special_tokens_mask")[0].numpy() == 0
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state[0].numpy()[kept]
        return states / np.linalg.norm(states, axis=1, keepdims=True)

    return lambda query, text: float((tokens(query) @ tokens(text).T).max(axis=1).mean())


def test_scores_are_those_of_numpy(encoder, reference):
    got = maxsim(encoder, QUERIES, [TEXTS, TEXTS[::-1], TEXTS[:1]])
    for query, some, scores in zip(QUERIES, [TEXTS, TEXTS[::-1], TEXTS[:1]], got, strict=True):
        np.testing.assert_allclose(scores, [reference(query, text) for text in some], atol=1e-5)


def test_a_passage_without_text_has_the_least_score(encoder, reference):
    ((none, empty, some),) = maxsim(encoder, QUERIES[:1], [[None, "", TEXTS[1]]])
    assert (none, empty) == (-1, -1)
    assert some == pytest.approx(reference(QUERIES[0], TEXTS[1]), abs=1e-5)


def test_a_search_is_ranked_again(shop):
    plain = shop.search(QUERIES[0], space="text", k=3)
    hits = shop.search(QUERIES[0], space="text", k=3, rerank="maxsim", explain=True)
    (scores,) = maxsim(shop.encoder("text"), QUERIES[:1], [TEXTS])  # which may compute in bf16
    best = sorted(((score, str(i)) for i, score in enumerate(scores)), reverse=True)[:3]
    assert [hit.id for hit in hits] == [id for _, id in best]
    assert [hit.id for hit in hits] != [hit.id for hit in plain]  # or the test would show nothing
    np.testing.assert_allclose([hit.score for hit in hits], [score for score, _ in best], atol=1e-5)
    first = {hit.id: hit.score for hit in shop.search(QUERIES[0], space="text", k=len(TEXTS))}
    for hit in hits:
        told = hit.explain["rerank"]
        assert (told["kind"], told["depth"], told["score"]) == ("maxsim", len(TEXTS), hit.score)
        assert told["first_score"] == pytest.approx(first[hit.id], abs=1e-6)
        assert hit.explain["space"] == "text"


def test_a_batch_is_each_query_alone(shop):
    together = shop.search(QUERIES, space="text", k=4, rerank="maxsim", rerank_depth=6)
    for query, hits in zip(QUERIES, together, strict=True):
        alone = shop.search(query, space="text", k=4, rerank="maxsim", rerank_depth=6)
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in alone], atol=1e-5)
        assert all(hit.explain is None for hit in hits)


def test_only_the_first_ones_are_compared_again_but_all_that_are_shown(shop):
    plain = [hit.id for hit in shop.search(QUERIES[0], space="text", k=8)]
    for k, depth, within in ((2, 3, 3), (5, 2, 5)):
        hits = shop.search(QUERIES[0], space="text", k=k, rerank="maxsim", rerank_depth=depth)
        assert len(hits) == k
        assert {hit.id for hit in hits} <= set(plain[:within])


def test_with_its_neighbours_and_a_filter(shop):
    hits = shop.search("chess", space="text", k=2, where="text like '%men%'", rerank="maxsim", context=1)
    assert {hit.id for hit in hits} == {"3", "5"}
    assert all(hit.part["before"] == hit.part["after"] == "" for hit in hits)


def test_what_cannot_be_ranked_again(shop):
    with pytest.raises(ModelUnavailable, match="no-such-reranker"):
        shop.search("a", space="text", rerank="no-such-reranker")
    with pytest.raises(QueryError, match="rerank is ' '; "):
        shop.search("a", space="text", rerank=" ")
    with pytest.raises(QueryError, match="not by vector; ask"):
        shop.search(vector=[1.0, 0.0], rerank="maxsim")
    with pytest.raises(QueryError, match="not by like; ask"):
        shop.search(like="0", rerank="maxsim")
    with pytest.raises(QueryError, match="without rerank; "):
        shop.search("a", space="text", rerank_depth=5)
    with pytest.raises(QueryError, match="rerank_depth must be.*; "):  # noqa: RUF043
        shop.search("a", space="text", rerank="maxsim", rerank_depth=0)


def test_a_space_without_token_vectors_is_told(tmp_path, encoder):
    from search.query.rerank import late_interaction
    from tests.letters import LetterEncoder

    with pytest.raises(WrongModality, match="space 'text' .letters. has no token vectors.*; "):  # noqa: RUF043
        late_interaction(LetterEncoder(), "text")
    assert late_interaction(encoder, "text") is encoder
