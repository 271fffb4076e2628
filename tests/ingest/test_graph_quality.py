"""How well the methods for whole graphs tell kinds of graphs apart that size and density do not."""

from __future__ import annotations

import pytest

from benchmarks.whole_graphs import accuracy, encoded, first_neighbour, made, sizes


@pytest.mark.quality
@pytest.mark.parametrize(
    ("method", "least", "nearest"), [("wl", 80, 60), ("graph2vec", 70, 55), ("pooled", 80, 55)]
)
def test_kinds_of_graphs_are_told_apart(method: str, least: float, nearest: float) -> None:
    """Five kinds of 40 graphs with as many nodes and edges: chance is 20%."""
    some = made(40, 1)
    rows = encoded(some.graphs, method)
    assert accuracy(sizes(some.graphs), some.labels, 5) < 60
    assert accuracy(rows, some.labels, 5) >= least
    assert first_neighbour(rows, some.labels) >= nearest
