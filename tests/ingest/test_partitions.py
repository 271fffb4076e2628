"""The steps planned for graphs larger than a machine give what one memory gives (docs/scale.md)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import networkx as nx
import numpy as np
from rich.table import Table

from benchmarks.partitions import Plan, rounds, simulate
from ingest.sources.edges import from_edges


def test_partitions_sort_walk_and_learn_as_one_memory_does(tmp_path: Path) -> None:
    blocks = nx.planted_partition_graph(4, 25, 0.6, 0.02, seed=3)
    edges = [
        (f"{4 * (u % 25) + u // 25:03}", f"{4 * (v % 25) + v // 25:03}") for u, v in blocks.edges
    ]  # block: number % 4
    graph = from_edges([u for u, _ in edges], [v for _, v in edges])
    ends = np.array([[graph.ids.index(u), graph.ids.index(v)] for u, v in edges])
    plan = Plan(tmp_path, graph.n_nodes, 3, length=12, walks=6, window=3, dim=8)
    with ThreadPoolExecutor(1) as pool:
        found = simulate(graph, ends, plan, 4, pool, Table())
    assert found.same_rows
    assert found.same_walks
    assert found.resumed
    # two thirds of the steps leave a third of the nodes, give or take: 13 bytes each
    assert 0.5 * 13 < found.hand < 0.8 * 13
    assert found.log == 13
    assert found.blocks == 4 * 3
    assert min(found.scores) > 0.6  # a quarter by chance


def test_buckets_of_a_round_share_no_block_and_all_come_up_once(tmp_path: Path) -> None:
    every = rounds(Plan(tmp_path, 100, 5))
    assert sorted(bucket for some in every for bucket in some) == [(i, j) for i in range(5) for j in range(5)]
    for some in every:
        assert len({i for i, _ in some}) == len({j for _, j in some}) == 5
