"""Row maths against the same in float64, written out."""

from __future__ import annotations

import numpy as np
import pytest

from search.errors import QueryError
from search.types import Metric
from search.vectors import as_floats, checked, exact_search, prepared, similarity, top_k, unit_rows


def drawn(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def test_unit_rows_keep_every_direction() -> None:
    rows = drawn(6, 5) * np.array([1e-11, 1e-6, 1, 1e6, 1e19, 1e37], np.float32)[:, None]
    before = rows.copy()
    exact = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(unit_rows(rows), exact, atol=1e-6)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(unit_rows(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))
    assert unit_rows(np.empty((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 100, 384, 1000, 5000])
def test_a_row_of_unit_length_is_kept_bit_for_bit(dim: int) -> None:
    """Else what is exported and imported again and again would wander off."""
    scales = np.exp(np.random.default_rng(1).uniform(-20, 20, (200, 1))).astype(np.float32)
    rows = drawn(200, dim) * scales
    once = unit_rows(rows)
    np.testing.assert_array_equal(unit_rows(once), once)
    longer = once * np.float32(1 + 5e-6)  # beyond rounding: scaled
    np.testing.assert_allclose(np.linalg.norm(unit_rows(longer), axis=1), 1, atol=1e-6)


def test_prepared_by_metric() -> None:
    rows = drawn(4, 3)
    np.testing.assert_allclose(np.linalg.norm(prepared(rows, 3, Metric.COSINE), axis=1), 1, atol=1e-6)
    for metric in (Metric.DOT, Metric.L2):
        np.testing.assert_array_equal(prepared(rows, 3, metric), rows)
        np.testing.assert_array_equal(prepared(np.zeros((1, 3)), 3, metric), np.zeros((1, 3)))
        with pytest.raises(QueryError, match="too large to compare in row 1"):
            prepared([[1, 1], [1e18, 1]], 2, metric)
    with pytest.raises(QueryError, match="only zeros in row 1"):
        prepared([[1, 1], [0, 0]], 2, Metric.COSINE)
    assert prepared(np.empty((0, 3)), 3, Metric.COSINE).shape == (0, 3)


def test_checked_makes_float32_of_any_numbers() -> None:
    for given in (
        [[1, 2]],
        np.array([[1, 2]], np.int8),
        [[True, 2]],
        [(1.0, 2.0)],
        np.array([[1, 2]], object),
    ):
        rows = checked(given)
        assert (rows.dtype, rows.flags.c_contiguous, rows.tolist()) == (np.float32, True, [[1.0, 2.0]])
    with pytest.raises(QueryError, match="the widths are not"):
        as_floats("abc", "the widths")


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_similarity_is_what_it_says(metric: Metric, n: int) -> None:
    rows, queries = drawn(n, 7) * 3, drawn(5, 7, 1)
    exact = queries.astype(float) @ rows.astype(float).T
    if metric is Metric.L2:
        exact = -((queries[:, None].astype(float) - rows[None].astype(float)) ** 2).sum(axis=2)
    scores = similarity(rows, queries, metric)
    assert (scores.dtype, scores.shape) == (np.float32, (5, n))
    np.testing.assert_allclose(scores, exact, rtol=1e-5, atol=1e-5)
    assert similarity(rows, queries[:0], metric).shape == (0, n)


def test_top_k_is_stable_among_equals() -> None:
    scores = np.array([0.5, 1.0, 0.5, 1.0, 0.5, -1.0], np.float32)
    for k, expected in (
        (1, [1]),
        (2, [1, 3]),
        (3, [1, 3, 0]),
        (4, [1, 3, 0, 2]),
        (6, [1, 3, 0, 2, 4, 5]),
        (99, [1, 3, 0, 2, 4, 5]),
    ):
        assert top_k(scores, k).tolist() == expected
    assert top_k(np.empty(0, np.float32), 3).tolist() == []


@pytest.mark.parametrize("share", [None, 0.0, 0.01, 0.2, 0.3, 1.0])
@pytest.mark.parametrize("block", [1, 50, 1 << 24])
def test_exact_search_in_blocks_and_masks(
    share: float | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.vectors._BLOCK", block)
    rows, queries = drawn(120, 4), drawn(9, 4, 1)
    usable = None if share is None else np.random.default_rng(2).random(120) < share
    allowed = np.ones(120, dtype=bool) if usable is None else usable
    for k in (1, 7, 500):
        positions, scores = exact_search(rows, queries, k, Metric.DOT, usable)
        exact = queries @ rows.T
        assert positions.shape == scores.shape == (9, min(k, int(allowed.sum())))
        for at in range(9):
            best = np.flatnonzero(allowed)[np.argsort(-exact[at, allowed], kind="stable")][:k]
            assert positions[at].tolist() == best.tolist()
            np.testing.assert_allclose(scores[at], exact[at, best], atol=1e-6)
