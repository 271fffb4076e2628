"""Weights learned from judgements: found where they are known, worth what is told, kept, asked with and forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.encoders import probes
from search.evaluate.metrics import of_ranking
from search.evaluate.weighing import Asked, learned, searched
from search.query.hybrid import fused
from search.types import Record
from tests.letters import LetterEncoder

TOPICS = [f"topic{letter}" for letter in "bdfghjkmnrsw"]
# Of each topic: what is sought, short and far from a query by its letters; longer ones; and a decoy, the
# longest, that is nearest by its letters. The ranks are so that the decoy is first where both rankings count alike.
DOCUMENTS = {
    f"{topic}{n}": f"{topic} " + ("q" * 60 if n == 0 else "qqqq " * (n + 1) if n < 13 else "zzzz " * 20)
    for topic in TOPICS
    for n in range(14)
}


def drawn(n: int, truth: np.ndarray, seed: int = 4, noise: float = 0.0) -> list[Asked]:
    """Queries whose relevant candidates are the first three by a known weighted sum."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        scores = rng.standard_normal((30, len(truth)))
        best = np.argsort(-(scores @ truth + noise * rng.standard_normal(30)))[:3]
        found.append(
            Asked([f"d{i}" for i in range(30)], scores, {f"d{i}": 3 - int(at) for at, i in enumerate(best)})
        )
    return found


def test_ndcg_is_that_of_the_metrics() -> None:
    for one in drawn(20, np.array([1.0, 0.3])):
        order = np.argsort(-(one.scores @ np.array([0.2, 0.9])), kind="stable")
        expected = of_ranking([one.ids[i] for i in order], one.grades, 10)["ndcg"]
        assert one.ndcg(np.array([0.2, 0.9]), 10) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("truth", [[1.0, 4.0], [1.0, 0.25], [1.0, 1.0], [1.0, 0.25, 4.0]])
def test_known_weights_are_found(truth: list[float]) -> None:
    asked = drawn(60, np.array(truth))
    np.testing.assert_array_equal(searched(asked, 10), truth)
    found = learned(["a", "b", "c"][: len(truth)], asked, 10)
    assert list(found.weights.values()) == pytest.approx(list(np.array(truth) / max(truth)))
    assert found.kept == (truth != [1.0, 1.0])
    assert found.held_out.now == pytest.approx(1.0)  # every fold finds the same
    assert found.held_out.before == pytest.approx(
        np.mean([one.ndcg(np.ones(len(truth)), 10) for one in asked])
    )


def test_noise_is_not_kept() -> None:
    """Where relevance is chance, the queries held out gain nothing, or hardly."""
    rng = np.random.default_rng(0)
    n_kept = 0
    for seed in range(10):
        asked = [
            Asked(one.ids, one.scores, {f"d{i}": 1 for i in rng.choice(30, 3, replace=False)})
            for one in drawn(30, np.array([1.0, 1.0]), seed)
        ]
        found = learned(["a", "b"], asked, 10)
        n_kept += found.kept
        assert found.held_out.p_randomisation > 0.01
    assert n_kept < 8


def test_too_few_queries() -> None:
    with pytest.raises(search.QueryError, match="at least 10 judged queries"):
        learned(["a", "b"], drawn(9, np.array([1.0, 1.0])), 10)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Its meaning is by letters."""
    shop = search.open(tmp_path / "c")
    encoder = LetterEncoder()
    with shop.writing() as writer:
        space = writer.space("text", encoder.spec, probes=probes.probe(encoder))
        records = [Record(id, text=text) for id, text in DOCUMENTS.items()]
        writer.put(records, encoder.encode(list(DOCUMENTS.values())), space)
    monkeypatch.setattr("search.encoders.load.load_spec", lambda *_, **__: LetterEncoder())
    return shop


QUERIES = {topic: f"{topic} zzzzzzzzzz" for topic in TOPICS}
JUDGEMENTS = {topic: {f"{topic}0": 1} for topic in TOPICS}


def test_hybrid_learns_that_words_tell_more(shop: Collection) -> None:
    before = shop.evaluate(QUERIES, JUDGEMENTS, hybrid=True).metrics["ndcg@10"].mean
    found = shop.learn_weights(QUERIES, JUDGEMENTS, hybrid=True)
    assert found.kept
    assert found.weights["words"] == 1.0 > found.weights["meaning"]
    assert found.held_out.before == pytest.approx(before, abs=0.02)  # but for ties
    after = shop.evaluate(QUERIES, JUDGEMENTS, hybrid=True).metrics["ndcg@10"].mean
    assert after > before
    (space,) = shop.info()["spaces"]  # type: ignore[misc,union-attr]
    told: Any = space
    share = found.weights["meaning"] / (1 + found.weights["meaning"])
    assert told["asking"] == {"language": "english", "meaning": pytest.approx(share), "weight": None}
    with search.open(shop.path, mode="r") as reader:  # and by who reads
        assert reader.evaluate(QUERIES, JUDGEMENTS, hybrid=True).metrics["ndcg@10"].mean == after
    (first, *_) = shop.search("topicd aa", hybrid=True, explain=True)
    ranks = {way: (first.explain or {})["hybrid"][way]["rank"] for way in ("by_meaning", "by_words")}  # type: ignore[index,call-overload]
    parts = [
        weight * 61 / (60 + ranks[way])
        for way, weight in (("by_meaning", share), ("by_words", 1 - share))
        if ranks[way]
    ]
    assert first.score == pytest.approx(sum(parts), rel=1e-6)
    shop.tune(recall=0.9)  # leaves it as it is
    assert shop.evaluate(QUERIES, JUDGEMENTS, hybrid=True).metrics["ndcg@10"].mean == after
    assert shop.forget_weights() == ["text"]
    assert shop.forget_weights() == []
    assert shop.evaluate(QUERIES, JUDGEMENTS, hybrid=True).metrics["ndcg@10"].mean == before


def test_weights_of_ranks_by_hand() -> None:
    keys, scores, _ = fused(np.array([5, 3]), np.array([3, 7]), 10, 0.25)
    assert keys.tolist() == [3, 7, 5]
    expected = [0.25 * 61 / 62 + 0.75, 0.75 * 61 / 62, 0.25]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_refused(shop: Collection) -> None:
    with pytest.raises(search.QueryError, match="only space 'text' can be asked in words"):
        shop.learn_weights(QUERIES, JUDGEMENTS)
    with pytest.raises(search.QueryError, match="leave space out"):
        shop.learn_weights(QUERIES, JUDGEMENTS, space="text")
    with pytest.raises(search.QueryError, match="at least 10"):
        shop.learn_weights(QUERIES, {"topicb": {"topicb0": 1}}, hybrid=True)
    with search.open(shop.path, mode="r") as reader, pytest.raises(search.CollectionError, match="read only"):
        reader.learn_weights(QUERIES, JUDGEMENTS, hybrid=True)


def test_from_the_command_line(shop: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries, qrels = tmp_path / "q.tsv", tmp_path / "qrels.tsv"
    queries.write_text("".join(f"{id}\t{words}\n" for id, words in QUERIES.items()))
    qrels.write_text("".join(f"{q} 0 {d} {g}\n" for q, some in JUDGEMENTS.items() for d, g in some.items()))
    judged = ["evaluate", "-c", str(shop.path), "--queries", str(queries), "--qrels", str(qrels)]
    shop.close()
    assert outcome(app, [*judged, "--hybrid", "--learn-weights", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"]
    assert told["weights"]["words"] == 1.0
    assert outcome(app, ["info", "-c", str(shop.path)]) == 0
    assert "learned from judgements" in capsys.readouterr().out
    assert outcome(app, [*judged, "--hybrid", "--learn-weights"]) == 0
    assert "kept for the questions to come" in " ".join(capsys.readouterr().out.split())
    assert outcome(app, ["evaluate", "-c", str(shop.path), "--forget-weights", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"forgotten": ["text"]}
    for wrong in (
        ["--learn-weights"],
        ["--learn-weights", "--hybrid", "--calibrate"],
        ["--learn-weights", "--hybrid", "--strict"],
        ["--forget-weights"],
        ["--strict"],
    ):
        assert outcome(app, [*judged, *wrong]) == 2, wrong


def test_a_worse_run_is_an_alarm(
    shop: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries, qrels, run = (tmp_path / name for name in ("q.tsv", "qrels.tsv", "run.trec"))
    queries.write_text("".join(f"{id}\t{words}\n" for id, words in QUERIES.items()))
    qrels.write_text("".join(f"{q} 0 {d} {g}\n" for q, some in JUDGEMENTS.items() for d, g in some.items()))
    judged = ["evaluate", "-c", str(shop.path), "--queries", str(queries), "--qrels", str(qrels)]
    shop.close()
    assert outcome(app, [*judged, "--hybrid", "--learn-weights"]) == 0
    assert outcome(app, [*judged, "--hybrid", "--out", str(run)]) == 0
    capsys.readouterr()
    assert outcome(app, [*judged, "--compare", str(run), "--json"]) == 0
    both = capsys.readouterr()
    assert "ndcg@10" in json.loads(both.out)["worse"]
    assert "warning: ndcg@10" in both.err
    assert outcome(app, [*judged, "--compare", str(run), "--strict"]) == 1
    assert "by more than chance" in capsys.readouterr().err
    assert outcome(app, [*judged, "--hybrid", "--compare", str(run), "--strict"]) == 0
