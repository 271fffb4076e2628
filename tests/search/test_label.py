"""Labels from examples: votes, probe and confidence against plain reckonings, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.datasets import load_digits

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.query import classify
from search.query.classify import Guesses, Judged, calibrated, cross_validated, fitted, leave_one_out, votes
from search.types import EncoderSpec, Modality, Part, Record


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(n: int, n_classes: int, dim: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    classes = random.permutation(np.arange(n) % n_classes)
    centres = random.standard_normal((n_classes, dim))
    return unit(centres[classes] + spread * random.standard_normal((n, dim))), classes


# ---- the reckoning -----------------------------------------------------------------------------------------------


def by_hand(labelled: np.ndarray, classes: np.ndarray, query: np.ndarray, k: int) -> tuple[int, float]:
    scores = labelled.astype(np.float64) @ query
    near = np.argsort(-scores, kind="stable")[:k]
    tally: dict[int, float] = {}
    for one in near:
        tally[classes[one]] = tally.get(classes[one], 0.0) + float(np.exp(scores[one] / 0.07))
    best = max(sorted(tally), key=lambda one: tally[one])
    return best, tally[best] / sum(tally.values())


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_votes_are_those_worked_out_one_by_one(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "_AT_ONCE", 16)
    rows, classes = blobs(120, 4, 6, 0.8)
    labelled, queries = rows[:80], rows[80:]
    got = votes(labelled, classes[:80], queries, k)
    want = [by_hand(labelled, classes[:80], query, k) for query in queries]
    assert got.classes.tolist() == [one for one, _ in want]
    np.testing.assert_allclose(got.shares, [share for _, share in want], atol=1e-4)
    out = leave_one_out(labelled, classes[:80], k)
    kept = [np.arange(80) != i for i in range(80)]
    want = [by_hand(labelled[mask], classes[:80][mask], labelled[i], k) for i, mask in enumerate(kept)]
    assert out.guesses.classes.tolist() == [one for one, _ in want]
    np.testing.assert_allclose(out.guesses.shares, [share for _, share in want], atol=1e-4)
    assert out.accuracy == np.mean([one == true for (one, _), true in zip(want, classes, strict=False)])


def test_a_copy_votes_for_its_copy_and_none_for_itself() -> None:
    rows = np.repeat(unit(np.array([[1.0, 0.0], [0.0, 1.0]])), 3, axis=0)
    out = leave_one_out(rows, np.array([0, 0, 1, 1, 1, 1]), 1)
    assert out.guesses.classes[2] == 0
    assert out.right.tolist() == [True, True, False, True, True, True] or out.right.sum() >= 3
    out = leave_one_out(rows, np.array([0, 0, 1, 1, 1, 1]), 2)
    assert out.guesses.classes[[2, 3, 4, 5]].tolist() == [0, 1, 1, 1]
    np.testing.assert_allclose(out.guesses.shares, [0.5, 0.5, 1, 1, 1, 1])


def test_of_many_a_sample_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "_MOST_JUDGED", 30)
    rows, classes = blobs(120, 4, 6, 0.8)
    out = leave_one_out(rows, classes, 5)
    assert len(out.rows) == 30
    np.testing.assert_array_equal(
        out.guesses.classes, votes(rows, classes, rows[out.rows], 5, out.rows).classes
    )


def test_the_probe_is_logistic_regression() -> None:
    """Against the minimum of its loss, found by another optimiser."""
    rows, classes = blobs(90, 3, 4, 0.7)
    classes = classes * 2  # 0, 2 and 4: numbers need not be dense
    scale = rows[:60].std(axis=0).mean()
    x = (rows - rows[:60].mean(axis=0)) / scale
    truth = np.eye(3)[classes[:60] // 2]

    def loss(given: np.ndarray) -> float:
        w, b = given[:12].reshape(4, 3), given[12:]
        return float(-(truth * log_softmax(x[:60] @ w + b, axis=1)).sum() + 0.5 * (w**2).sum())

    best = minimize(loss, np.zeros(15), method="BFGS").x
    chances = softmax(x[60:] @ best[:12].reshape(4, 3) + best[12:], axis=1)
    got = fitted(rows[:60], classes[:60])(rows[60:])
    assert got.classes.tolist() == (2 * chances.argmax(axis=1)).tolist()
    np.testing.assert_allclose(got.shares, chances.max(axis=1), atol=2e-3)


def test_each_fold_is_guessed_from_the_others() -> None:
    rows, classes = blobs(57, 3, 4, 0.7)
    out = cross_validated(rows, classes)
    folds = list(classify._folds(classes))
    assert sorted(np.concatenate(folds).tolist()) == list(range(57))
    for fold in folds:
        assert np.bincount(classes[fold], minlength=3).min() >= 3  # of 19, in 5 folds
        train = np.setdiff1d(np.arange(57), fold)
        want = fitted(rows[train], classes[train])(rows[fold])
        np.testing.assert_array_equal(out.guesses.classes[fold], want.classes)
        np.testing.assert_allclose(out.guesses.shares[fold], want.shares)
    assert out.accuracy == (out.guesses.classes == classes).mean()
    tiny = cross_validated(rows[:2], np.array([0, 1]))
    assert (tiny.accuracy, tiny.guesses.classes.tolist()) == (0.0, [1, 0])


def judged(shares: list[float], right: list[bool]) -> Judged:
    n = len(shares)
    return Judged(np.arange(n), Guesses(np.zeros(n, np.int64), np.array(shares)), np.array(right))


def test_a_few_right_guesses_are_no_certainty() -> None:
    sure = calibrated(judged([0.9, 1.0, 0.6], [True] * 3))
    np.testing.assert_allclose(sure(np.array([0.1, 1.0])), [0.8, 0.8])  # (3 + 1) / (3 + 2)
    never = calibrated(judged([0.9, 1.0, 0.6], [False] * 3))
    np.testing.assert_allclose(never(np.array([0.1, 1.0])), [0.2, 0.2])


def test_platts_sigmoid() -> None:
    random = np.random.default_rng(1)
    shares = random.uniform(0.3, 1, 400)
    right = random.uniform(size=400) < expit(8 * (shares - 0.6))
    sure = calibrated(judged(shares.tolist(), right.tolist()))
    grid = np.linspace(0.3, 1, 15)
    assert (np.diff(sure(grid)) > 0).all()
    np.testing.assert_allclose(sure(grid), expit(8 * (grid - 0.6)), atol=0.08)
    # At the minimum the confidences add up to Platt's targets, and so do their moments.
    n_right, n_wrong = right.sum(), (~right).sum()
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    assert sure(shares).sum() == pytest.approx(target.sum(), abs=0.05)
    assert (sure(shares) * shares).sum() == pytest.approx((target * shares).sum(), abs=0.05)


def test_shares_that_mislead_count_for_nothing() -> None:
    sure = calibrated(judged([0.9, 0.95, 0.3, 0.35], [False, False, True, True]))
    np.testing.assert_allclose(sure(np.array([0.0, 1.0])), [0.5, 0.5], atol=1e-3)


def test_isotonic_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "_ISOTONIC", 6)
    # Pooled by hand: 0.1 wrong; 0.2 right, 0.3 wrong -> 1/2; 0.4 right, 0.5 wrong -> 1/2; 0.6 and 0.7 right
    shares = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    sure = calibrated(judged(shares, [False, True, False, True, False, True, True]))
    got = sure(np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.6, 1.0]))
    np.testing.assert_allclose(got, [1 / 9, 1 / 9, 0.5, 0.5, 0.5, 8 / 9, 8 / 9])


@pytest.mark.parametrize("method", ["neighbours", "linear"])
def test_on_handwritten_digits(method: str, tmp_path: Path) -> None:
    """600 labelled, 300 to be labelled: as right as they say they are."""
    digits = load_digits()
    truth = {f"d{i}": int(digit) for i, digit in enumerate(digits.target[:900])}
    with search.open(tmp_path / "c") as shop:
        records = [
            {"id": id, "metadata": {"digit": digit} if i % 3 else {}}
            for i, (id, digit) in enumerate(truth.items())
        ]
        shop.add(records, digits.data[:900], space="pixels")
        told = shop.label("digit", method=method)
    assert (told.n_examples, told.n_judged, len(told.labels)) == (600, 600, 300)
    right = np.array([one.label == truth[one.id] for one in told.labels])
    given = np.array([one.given for one in told.labels])
    sure = np.array([one.confidence for one in told.labels])
    assert told.accuracy > 0.94
    assert right.mean() > 0.92
    assert right[given].mean() >= right.mean()
    assert abs(sure.mean() - right.mean()) < 0.04
    assert sum(int(one["judged"]) for one in told.classes) == 600
    assert sum(int(one["right"]) for one in told.classes) == round(told.accuracy * 600)
    assert sum(int(one["given"]) for one in told.classes) == given.sum()


# ---- in a collection ---------------------------------------------------------------------------------------------


def at(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


@pytest.fixture
def shop(tmp_path: Path) -> Collection:
    """Cats about 0 degrees, dogs about 90, two without a name near them, and one between."""
    cats, dogs = [-6, -4, -2, 1, 3, 5], [84, 86, 88, 91, 93, 95]
    records = [{"id": f"cat{i}", "metadata": {"animal": "cat", "i": i}} for i in range(6)]
    records += [{"id": f"dog{i}", "metadata": {"animal": "dog", "i": i}} for i in range(6)]
    records += [{"id": "x", "uri": "x.png", "metadata": {"i": 50}}, {"id": "y"}, {"id": "between"}]
    shop = search.open(tmp_path / "zoo")
    shop.add(records, at(*cats, *dogs, 2, 90, 45.2), space="s")
    return shop


def told(shop: Collection, **more: Any) -> dict[str, Any]:
    return {one.id: one.label if one.given else None for one in shop.label("animal", **more).labels}


def test_labels_are_guessed_and_nothing_is_written(shop: Collection) -> None:
    found = shop.label("animal", k=3)
    assert {one.id: one.label for one in found.labels}["x"] == "cat"
    assert {one.id: one.label for one in found.labels}["y"] == "dog"
    assert (found.field, found.method, found.n_examples, found.n_judged, found.accuracy) == (
        "animal",
        "neighbours",
        12,
        12,
        1.0,
    )
    assert list(found.classes) == [
        {"label": name, "examples": 6, "judged": 6, "right": 6, "given": given}
        for name, given in (("cat", found_of(found.labels, "cat")), ("dog", found_of(found.labels, "dog")))
    ]
    assert found.labels[0].confidence == round(13 / 14, 4)
    assert shop.count("animal is null") == 3
    assert shop.get("x")[0].metadata == {"i": 50}


def found_of(labels: Any, name: str) -> int:
    return sum(one.given and one.label == name for one in labels)


def test_what_is_written_is_marked_and_never_an_example(shop: Collection) -> None:
    shop.label("animal", k=3, min_confidence=0.9, write=True, unknown="id in ('x', 'y')")
    assert shop.get("x")[0] == search.Record(
        "x", None, "x.png", None, {"i": 50, "animal": "cat", "animal_confidence": round(13 / 14, 4)}
    )
    assert shop.get("between")[0].metadata == {}
    again = shop.label("animal", k=3)
    assert again.n_examples == 12
    assert {one.id for one in again.labels} == {"x", "y", "between"}
    assert shop.label("animal", k=3, known="id <> 'cat0'").n_examples == 11
    # Corrected by hand, which takes the confidence away, it is one.
    shop.add([{"id": "y", "metadata": {"animal": "wolf"}}])
    assert shop.label("animal", k=3).n_examples == 13


def test_a_guess_that_is_given_no_more_is_taken_back(shop: Collection) -> None:
    shop.label("animal", k=3, write=True)
    assert shop.get("x")[0].metadata["animal"] == "cat"
    shop.label("animal", k=3, min_confidence=1, write=True)
    assert shop.get("x")[0].metadata == {"i": 50}
    assert shop.count("animal_confidence is not null") == 0
    before = shop.get(["cat0", "x", "y"])
    shop.label("animal", k=3, min_confidence=1, write=True)  # nothing to write
    assert shop.get(["cat0", "x", "y"]) == before


def test_conditions_choose_who_teaches_and_who_learns(shop: Collection) -> None:
    assert told(shop, k=3, known="i < 3", unknown="id = 'x'", min_confidence=0) == {"x": "cat"}
    assert shop.label("animal", known="i < 3").n_examples == 6
    # Whoever is asked for gets a guess, even with a label of its own, which teaches nothing then.
    found = shop.label("animal", known="i > 0", unknown="i = 0", k=3)
    assert {one.id: one.label for one in found.labels} == {"cat0": "cat", "dog0": "dog"}


def test_numbers_and_truth_are_labels(tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as shop:
        rows = at(0, 1, 2, 90, 91, 92, 180, 181, 182, 1.5, 91.5, 181.5)
        values: list[Any] = [1] * 3 + ["1"] * 3 + [True] * 3
        records = [{"id": f"r{i}", "metadata": {"v": value}} for i, value in enumerate(values)]
        shop.add([*records, {"id": "a"}, {"id": "b"}, {"id": "c"}], rows, space="s")
        got = {one.id: one.label for one in shop.label("v", k=2, min_confidence=0).labels}
        assert [json.dumps(got[id]) for id in "abc"] == ["1", '"1"', "true"]
        shop.label("v", k=2, min_confidence=0, write=True)
        assert shop.get("c")[0].metadata["v"] is True


def test_a_text_counts_as_the_mean_of_its_passages(tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as shop, shop.writing() as writer:
        space = writer.space("t", EncoderSpec("given", "given", Modality.TEXT, 2))
        records = [
            Record(f"r{i}", text="ab cd", metadata={"v": "low" if i < 3 else "high"}) for i in range(6)
        ]
        whole = [[Part(0, 5)]] * 6
        rows = at(0, 1, 2, 60, 61, 62, -30, 33)  # the last two are one text, at 1.5
        writer.put(
            [*records, Record("x", text="ab cd")],
            rows.astype(np.float32),
            space,
            parts=[*whole, [Part(0, 2), Part(3, 5)]],
        )
        (found,) = shop.label("v", k=2, min_confidence=0).labels
    assert (found.id, found.label) == ("x", "low")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            {"field": "species"},
            search.QueryError,
            "nothing to tell apart: .* have none in the field 'species'",
        ),
        ({"known": "animal = 'cat'"}, search.QueryError, 'have the one label "cat" in the field'),
        ({"field": " "}, search.QueryError, "name a field"),
        ({"field": "animal_confidence"}, search.QueryError, "taken for a confidence"),
        ({"method": "svm"}, search.QueryError, "use neighbours or linear"),
        ({"method": "linear", "k": 3}, search.QueryError, "k is how many neighbours vote"),
        ({"k": 0}, search.QueryError, "k must be a whole number of at least 1"),
        ({"min_confidence": 1.5}, search.QueryError, "give a number from 0 to 1"),
        ({"space": "t"}, search.UnknownSpace, "no space 't'"),
        ({"known": "anmal = 'cat'"}, search.FilterError, "did you mean animal"),
    ],
)
def test_what_makes_no_sense(shop: Collection, change: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        shop.label(**({"field": "animal"} | change), write=True)
    shop.add([{"id": "cat0", "metadata": {"animal": 0.5}}])
    with pytest.raises(search.QueryError, match=r"of 'cat0' is 0\.5; labels are text"):
        shop.label("animal")
    assert shop.label("animal", known="id <> 'cat0'").n_examples == 11


def test_the_command_line(shop: Collection, capsys: Any) -> None:
    shop.close()

    def asked(*more: str) -> int:
        return outcome(app, ["label", "-c", str(shop.path), "--field", "animal", *more])

    assert asked("-k", "3", "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["n_examples"], got["accuracy"], got["written"]) == (12, 1.0, False)
    assert {one["id"]: one["label"] for one in got["labels"]}["x"] == "cat"
    assert asked("--from", "i < 4", "--to", "id = 'x'", "--write", "-k", "3") == 0
    said = capsys.readouterr().out
    assert "8 records have a animal; guessed by the others, 100.0% of 8 are right" in said
    assert "1 labels written; 0 records are less certain than 0.6" in said
    with search.open(shop.path, "r") as again:
        assert again.get("x")[0].metadata["animal"] == "cat"
    assert asked("--method", "linear", "--json") == 0
    assert json.loads(capsys.readouterr().out)["method"] == "linear"
    assert asked("--from", "anmal = 1") == 1
