"""Weisfeiler-Lehman words against a plain implementation and against networkx, on graphs of all kinds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from search.encoders.graph_items import LabelledGraph, label_hash, labelled
from search.encoders.graph_words import counted, node_words
from search.errors import SourceError, WrongModality


def shuffled(graph: Any, seed: int) -> Any:
    """The same graph, its nodes and edges in another order and under other names."""
    random = np.random.default_rng(seed)
    names = random.permutation(graph.number_of_nodes()).tolist()
    other = type(graph)()
    nodes = list(graph.nodes(data=True))
    name = {node: f"n{new}" for (node, _), new in zip(nodes, names, strict=True)}
    for place in random.permutation(len(nodes)).tolist():
        other.add_node(name[nodes[place][0]], **nodes[place][1])
    edges = list(graph.edges())
    for place in random.permutation(len(edges)).tolist():
        u, v = edges[place]
        other.add_edge(*((name[u], name[v]) if graph.is_directed() or place % 2 else (name[v], name[u])))
    return other


def coloured(graph: Any, seed: int, colours: int = 2) -> Any:
    random = np.random.default_rng(seed)
    for node in graph:
        graph.nodes[node]["colour"] = ["red", "green", "blue"][int(random.integers(colours))]
    return graph


def some_graphs() -> dict[str, Any]:
    loops = nx.gnp_random_graph(9, 0.3, seed=4)
    loops.add_edges_from([(0, 0), (3, 3)])
    return {
        "random": nx.gnp_random_graph(20, 0.2, seed=1),
        "tree": nx.random_labeled_tree(15, seed=2),
        "two cycles": nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)),
        "directed": nx.gnp_random_graph(12, 0.2, seed=3, directed=True),
        "loops": loops,
        "coloured": coloured(nx.barabasi_albert_graph(16, 2, seed=5), 5),
        "coloured, directed": coloured(nx.gnp_random_graph(12, 0.2, seed=6, directed=True), 6),
        "no edges": nx.empty_graph(4),
        "one node": nx.empty_graph(1),
    }


def plain_words(graph: Any, depth: int, colour: str | None) -> list[dict[Any, str]]:
    """Each node's word as text, by sorting and writing down its neighbours': no hashes, no arrays."""

    def first(node: Any) -> str:
        if colour is not None:
            return str(graph.nodes[node].get(colour))
        if graph.is_directed():
            return f"{graph.out_degree(node)} out, {graph.in_degree(node)} in"
        return f"{graph.degree(node)}"

    words = [{node: first(node) for node in graph}]
    for _ in range(depth):
        last = words[-1]
        nearby = {node: sorted(last[other] for other in graph[node]) for node in graph}
        before = {
            node: sorted(last[other] for other in graph.predecessors(node)) if graph.is_directed() else []
            for node in graph
        }
        words.append({node: f"({last[node]} | {nearby[node]} | {before[node]})" for node in graph})
    return words


def classes(words: Any) -> list[list[int]]:
    """Which places have the same word."""
    places: dict[Any, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    return sorted(places.values())


@pytest.mark.parametrize("name", list(some_graphs()))
def test_words_tell_apart_what_a_plain_implementation_does(name: str) -> None:
    graph = some_graphs()[name]
    colour = "colour" if "coloured" in name else None
    found = node_words([labelled(graph, colour)], 3)
    for step, plain in enumerate(plain_words(graph, 3, colour)):
        assert classes(found[step].tolist()) == classes(plain[node] for node in graph), step


@pytest.mark.parametrize("name", ["random", "tree", "two cycles", "coloured"])
def test_words_tell_apart_what_networkx_does(name: str) -> None:
    """Over two graphs together: the words mean the same in both."""
    graph, other = some_graphs()[name], nx.path_graph(6)
    colour = "colour" if name == "coloured" else None
    coloured(other, 7)
    for one in (graph, other):
        nx.set_node_attributes(one, {node: str(degree) for node, degree in one.degree()}, "degree")
    theirs = [
        nx.weisfeiler_lehman_subgraph_hashes(one, node_attr=colour or "degree", iterations=3, digest_size=16)
        for one in (graph, other)
    ]
    found = node_words([labelled(graph, colour), labelled(other, colour)], 3)
    for step in range(1, 4):
        together = [
            hashes[node][step - 1] for one, hashes in zip((graph, other), theirs, strict=True) for node in one
        ]
        assert classes(found[step].tolist()) == classes(together), step


@pytest.mark.parametrize("name", list(some_graphs()))
def test_equal_graphs_have_equal_words_in_any_order(name: str) -> None:
    graph = some_graphs()[name]
    colour = "colour" if "coloured" in name else None
    one = counted([labelled(graph, colour)], 4)
    for seed in range(3):
        other = counted([labelled(shuffled(graph, seed), colour)], 4)
        np.testing.assert_array_equal(one.words, other.words)
        np.testing.assert_array_equal(one.counts, other.counts)


def test_different_graphs_have_different_words() -> None:
    """A cycle of six and two of three are the well-known pair that words cannot tell apart; a path is another graph."""
    six, threes, path = nx.cycle_graph(6), some_graphs()["two cycles"], nx.path_graph(6)
    told = [counted([labelled(graph)], 3).words.tolist() for graph in (six, threes, path)]
    assert told[0] == told[1]
    assert told[0] != told[2]
    backwards = nx.DiGraph([(b, a) for a, b in nx.DiGraph([(0, 1), (1, 2), (0, 3)]).edges()])
    forwards = nx.DiGraph([(0, 1), (1, 2), (0, 3)])
    assert set(node_words([labelled(forwards)], 1)[1].tolist()) != set(
        node_words([labelled(backwards)], 1)[1].tolist()
    )
    undirected = nx.Graph([(0, 1), (1, 2), (0, 3)])
    assert not set(node_words([labelled(forwards)], 2)[2].tolist()) & set(
        node_words([labelled(undirected)], 2)[2].tolist()
    )


def test_counts_by_hand() -> None:
    """A path of three: two ends and a middle at each depth, so 2 + 1 words of each."""
    found = counted([labelled(nx.path_graph(3)), labelled(nx.path_graph(2))], 2)
    assert found.n == 2
    assert Counter(found.rows.tolist()) == {0: 6, 1: 3}
    assert sorted(found.counts[found.rows == 0].tolist()) == [1, 1, 1, 2, 2, 2]
    assert found.counts[found.rows == 1].tolist() == [2, 2, 2]


def test_words_do_not_depend_on_the_company() -> None:
    graphs = [labelled(graph) for name, graph in some_graphs().items()]
    together = counted(graphs, 3)
    for number, graph in enumerate(graphs):
        alone = counted([graph], 3)
        np.testing.assert_array_equal(together.words[together.rows == number], alone.words)
        np.testing.assert_array_equal(together.counts[together.rows == number], alone.counts)


def test_no_graphs_no_words() -> None:
    assert counted([], 3).words.shape == (0,)
    nothing = LabelledGraph(np.zeros(1, np.int64), np.empty(0, np.int32))
    assert counted([nothing], 3).words.shape == (0,)


def test_a_matrix_and_a_networkx_graph_are_the_same_graph() -> None:
    for name in ("random", "directed", "loops", "no edges"):
        graph = some_graphs()[name]
        matrix = sparse.csr_matrix(nx.to_scipy_sparse_array(graph))
        one, other = labelled(graph), labelled(matrix)
        assert one.directed == other.directed
        np.testing.assert_array_equal(one.indptr, other.indptr)
        np.testing.assert_array_equal(one.indices, other.indices)


def test_labels_are_what_they_say_whatever_their_type() -> None:
    assert label_hash(6) == label_hash("6")
    assert label_hash("C") != label_hash("c")
    assert label_hash(None) != label_hash("")


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(WrongModality, match="a str is no graph; "):
        labelled("a red coat")
    with pytest.raises(SourceError, match="no nodes; "):
        labelled(nx.empty_graph(0))
    with pytest.raises(SourceError, match="no node has the field 'atom'"):
        labelled(nx.path_graph(3), "atom")
    with pytest.raises(SourceError, match="2 x 3 is no graph"):
        labelled(sparse.csr_matrix((2, 3)))
    with pytest.raises(SourceError, match="a matrix has no node labels"):
        labelled(sparse.csr_matrix((3, 3)), "atom")
