"""What pairs of vectors connect, against every pair looked at one by one; and what is kept of each component."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.query import pairs
from search.query.pairs import components, connected, stars


def one_by_one(n: int, joined: list[tuple[int, int]]) -> list[int]:
    """The least member of each one's component, by joining pair after pair."""
    name = list(range(n))
    for a, b in joined:
        least, most = sorted((name[a], name[b]))
        name = [least if one == most else one for one in name]
    return name


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))
    )
)
def test_components(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    n, joined = drawn
    rows, columns = (np.array(side, dtype=np.int64) for side in (list(zip(*joined, strict=True)) or [[], []]))
    assert components(n, rows, columns).tolist() == one_by_one(n, joined)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 5), st.floats(0.2, 0.999), st.data())
def test_connected_and_stars(seed: int, n: int, dim: int, least: float, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, dim)).astype(np.float32)
    rows[n // 2 :] = rows[: n - n // 2] + 0.2 * rows[n // 2 :]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows.astype(np.float64) @ rows.T.astype(np.float64)
    # Far from every cosine, so that rounding decides nothing.
    gaps = np.sort(np.concatenate([[-1, 1], np.unique(cosines.round(5))]))
    place = int(np.searchsorted(gaps, least))
    bound = float(gaps[max(place - 1, 0) : place + 1].mean())
    near = cosines >= bound
    name = connected(rows, bound)
    assert name.tolist() == one_by_one(n, [(int(a), int(b)) for a, b in np.argwhere(near)])

    order = np.array(data.draw(st.permutations(range(n))))
    want, left = [], order.tolist()
    while left:
        centre, *left = left
        close = [one for one in left if near[centre, one]]
        left = [one for one in left if one not in close]
        if close:
            want.append((centre, close))
    found = stars(rows, order, bound)
    assert [(centre, others.tolist()) for centre, others, _ in found] == want
    for centre, others, scores in found:
        np.testing.assert_allclose(scores, cosines[centre, others], atol=1e-5)


@pytest.mark.parametrize("shape", [(700, 16), (700, 300)], ids=["plain", "projected"])
@pytest.mark.parametrize("most_pairs", [1 << 22, 50])
@pytest.mark.parametrize("least", [0.2, 0.9, 0.97])
def test_blocks_and_projections_change_nothing(
    shape: tuple[int, int], most_pairs: int, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_ROWS", 64)
    monkeypatch.setattr(pairs, "_COLUMNS", 100)
    monkeypatch.setattr(pairs, "_SAMPLE", 400)
    monkeypatch.setattr(pairs, "_MOST_PAIRS", most_pairs)
    n, dim = shape
    random = np.random.default_rng(3)
    rows = random.standard_normal((n, dim)) / np.sqrt(1 + np.arange(dim))
    copies = random.integers(0, n // 2, n // 4)
    rows[-len(copies) :] = rows[copies] + 0.05 * rows[-len(copies) :]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    cosines = rows @ rows.T
    every = np.unique(cosines[np.triu_indices(n, 1)])
    place = int(np.searchsorted(every, least))
    around = every[max(place - 50, 0) : place + 50]
    widest = int(np.argmax(np.diff(around)))  # of the gaps, so that rounding decides nothing
    least = float(around[widest : widest + 2].mean())
    assert np.abs(cosines - least).min() > 3e-6
    done: list[tuple[int, int]] = []
    name = connected(rows, least, lambda *told: done.append(told))
    assert name.tolist() == components(n, *np.nonzero(cosines >= least)).tolist()
    assert len(np.unique(name)) < n
    assert done[-1] == (n, n)
