"""The trainers of whole graphs: against exact references, autograd, and figures worked out by hand."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits
from torch.nn import functional

from ingest.learn.graphs.load import METHODS, load_trainer
from ingest.learn.graphs.pv_dbow import Cell, Dbow, DbowSettings, train_cell
from ingest.learn.graphs.settings import GraphSettings
from ingest.learn.graphs.vocabulary import read_corpus
from ingest.learn.graphs.wl import completed, directions
from search.encoders.graph2vec import PENALTY, Graph2Vec
from search.encoders.graph_items import LabelledGraph, labelled
from search.encoders.graph_pooling import features
from search.encoders.graph_projection import weighted
from search.encoders.graph_words import counted, node_words
from search.encoders.whole_graphs import GraphModel, from_bytes, to_bytes
from search.errors import ModelError, ModelUnavailable, QueryError, SourceError


def networks(n: int, seed: int = 0) -> list[LabelledGraph]:
    """Of two kinds, in turns: rings with chords, and trees."""
    made = []
    for number in range(n):
        size = 10 + (number * 7) % 11
        kind = nx.connected_watts_strogatz_graph(size, 4, 0.2, seed=seed + number)
        made.append(labelled(kind if number % 2 == 0 else nx.random_labeled_tree(size, seed=seed + number)))
    return made


def learned(method: str, graphs: list[LabelledGraph], **settings: int | str) -> GraphModel:
    return from_bytes(load_trainer(method, GraphSettings(**settings)).fit(graphs))  # type: ignore[arg-type]


# ---- the vocabulary -----------------------------------------------------------------------------------------


def test_the_vocabulary_holds_what_two_graphs_have() -> None:
    """Of a path of three and one of two, at depth 1: degree 1 is in both; all else is in one."""
    graphs = [labelled(nx.path_graph(3)), labelled(nx.path_graph(2))]
    corpus = read_corpus(graphs, 1)
    one = node_words([graphs[1]], 0)[0, 0]
    assert corpus.words.tolist() == [one]
    assert corpus.counts.toarray().tolist() == [[2.0], [2.0]]


def test_where_no_two_graphs_share_a_word_all_count() -> None:
    corpus = read_corpus([labelled(nx.cycle_graph(4)), labelled(nx.complete_graph(5))], 1)
    assert corpus.counts.toarray().sum(axis=1).tolist() == [8.0, 10.0]
    with pytest.raises(SourceError, match="no graphs to learn from; "):
        read_corpus([], 1)


# ---- wl -----------------------------------------------------------------------------------------------------


def test_wl_gives_the_kernel_where_there_is_room_for_it() -> None:
    """With as many dimensions as there are, inner products are those of weighted counts and sizes themselves."""
    graphs = networks(12)
    model = learned("wl", graphs, dim=4096, depth=2)
    corpus = read_corpus(graphs, 2)
    counts = np.log1p(corpus.counts.toarray())
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    sizes = np.log([graph.n_nodes for graph in graphs])
    alike = np.exp(-((sizes[:, None] - sizes[None]) ** 2) / (4 * 0.2**2))
    rows = model.encode(graphs)
    np.testing.assert_allclose(rows @ rows.T, (unit @ unit.T + alike / 4) / 1.25, atol=1e-4)


def test_few_graphs_leave_room_for_others() -> None:
    """Learned from three graphs, the vectors have all their numbers, and the kernel of the three is what it was."""
    graphs = networks(3)
    model = learned("wl", graphs, dim=32, depth=2)
    assert model.spec.dim == 32
    corpus = read_corpus(graphs, 2)
    told = weighted(corpus.counts, corpus.sizes).toarray()
    kernel = told @ told.T / 1.25
    rows = model.encode(graphs)
    np.testing.assert_allclose(rows @ rows.T, kernel, atol=1e-5)
    later = model.encode(networks(12, seed=50))
    assert np.linalg.matrix_rank(later @ later.T, tol=1e-3) > 3  # which three directions cannot have
    found = completed(np.eye(9)[:, :2], 5, 0)
    np.testing.assert_allclose(found.T @ found, np.eye(5), atol=1e-12)
    np.testing.assert_array_equal(found[:, :2], np.eye(9)[:, :2])
    assert completed(np.eye(3), 5, 0).shape == (3, 3)


def test_wl_tells_rings_by_their_size() -> None:
    rings = [labelled(nx.cycle_graph(n)) for n in (10, 15, 100)]
    rows = learned("wl", [*networks(12), *rings], dim=64).encode(rings)
    near, far = float(rows[0] @ rows[1]), float(rows[0] @ rows[2])
    assert near == pytest.approx((1 + np.exp(-(np.log(1.5) ** 2) / 0.16) / 4) / 1.25, abs=1e-3)
    assert far == pytest.approx(0.8, abs=1e-3)


def test_wl_keeps_the_strongest_directions() -> None:
    """Against numpy's singular values, for more columns than rows and the other way round."""
    for shape in ((30, 70), (70, 30)):
        dense = np.random.default_rng(0).random(shape) * (np.random.default_rng(1).random(shape) < 0.3)
        found = directions(sparse.csr_matrix(dense), 9, 0)
        _, values, right = np.linalg.svd(dense)
        np.testing.assert_allclose(np.abs(np.sum(found * right[:9].T, axis=0)), 1, atol=1e-8)
        np.testing.assert_allclose(np.linalg.norm(dense @ found, axis=0), values[:9], rtol=1e-8)


# ---- pooled -------------------------------------------------------------------------------------------------


def test_pooled_features_by_hand() -> None:
    """A star of three: its middle (degree 3) and its ends (degree 1); a step leads from each to the other kind."""
    graph = labelled(nx.star_graph(3))
    middle, end = node_words([graph], 0)[0, :2].tolist()
    labels = np.array(sorted([middle, end]), np.uint64)
    first, second = (0.25, 0.75) if middle < end else (0.75, 0.25)
    mean = features([graph], labels, 1, "mean")[0]
    np.testing.assert_allclose(mean, [first, second, 0, second, first, 0])
    total = features([graph], labels, 1, "sum")[0]
    np.testing.assert_allclose(total, np.log1p([4 * first, 4 * second, 0, 4 * second, 4 * first, 0]))
    assert features([graph], labels, 1, "max")[0].tolist() == [1, 1, 0, 1, 1, 0]
    unknown = features([graph], labels[:0], 0, "mean")[0]
    assert unknown.tolist() == [1.0]


# ---- graph2vec ----------------------------------------------------------------------------------------------


def graph2vec(graphs: list[LabelledGraph]) -> Graph2Vec:
    model = learned("graph2vec", graphs, dim=16, epochs=30)
    assert isinstance(model, Graph2Vec)
    return model


def test_a_graphs_vector_is_where_the_slope_by_autograd_vanishes() -> None:
    graphs = networks(40)
    model = graph2vec(graphs)
    counts = model.matrix(graphs)
    vector = torch.tensor(model._described(graphs[:1])[0].astype(np.float64), requires_grad=True)
    row = counts[0]
    shares = torch.tensor(row.data / row.data.sum())
    outputs = torch.tensor(model._outputs)
    mean, square = torch.tensor(model._mean), torch.tensor(model._square)
    scores = outputs[row.indices] @ vector
    noise = mean @ vector / 2 + vector @ square @ vector / 8
    reached = functional.logsigmoid(scores) @ shares - 5 * noise - PENALTY * vector @ vector / 2
    assert reached.item() == pytest.approx(
        model.objective(vector.detach().numpy(), model._outputs[row.indices], row.data / row.data.sum())
    )
    reached.backward()
    assert vector.grad is not None
    assert float(vector.grad.abs().max()) < 1e-3
    assert float(vector.detach().norm()) > 0.1


def test_a_graph_of_many_words_has_its_vector_by_the_other_way_too() -> None:
    """Of more words than numbers in a vector; the slope vanishes there as well."""
    graphs = [labelled(nx.gnp_random_graph(60, 0.08, seed=seed)) for seed in range(30)]
    model = from_bytes(load_trainer("graph2vec", GraphSettings(dim=8, epochs=40)).fit(graphs))
    assert isinstance(model, Graph2Vec)
    row = model.matrix(graphs)[0]
    assert len(row.indices) > 8
    vector = model._described(graphs[:1])[0].astype(np.float64)
    outputs, shares = model._outputs[row.indices], row.data / row.data.sum()
    slope = [
        (model.objective(vector + move, outputs, shares) - model.objective(vector - move, outputs, shares))
        / 2e-4
        for move in 1e-4 * np.eye(8)
    ]
    np.testing.assert_allclose(slope, 0, atol=1e-3)


def test_noise_is_what_stands_in_the_corpus() -> None:
    """The stored expectations are those over words as often as their counts to the power of 3/4."""
    graphs = networks(40)
    model = graph2vec(graphs)
    frequencies = np.asarray(read_corpus(graphs, 2).counts.sum(axis=0)).ravel() ** 0.75
    chances = frequencies / frequencies.sum()
    np.testing.assert_allclose(model._mean, chances @ model._outputs, atol=1e-6)
    np.testing.assert_allclose(model._square, (model._outputs.T * chances) @ model._outputs, atol=1e-6)


def test_a_step_of_training_follows_autograd() -> None:
    """One document with two words, and one negative that can only be the third; a step moves all of them."""
    random = np.random.default_rng(0)
    document = random.normal(size=(1, 16)).astype(np.float32) / 4
    outputs = random.normal(size=(3, 16)).astype(np.float32) / 4
    given = torch.tensor(document[0], requires_grad=True), torch.tensor(outputs, requires_grad=True)
    scores = given[1] @ given[0]
    loss = -(
        functional.logsigmoid(scores[0])
        + functional.logsigmoid(scores[1])
        + functional.logsigmoid(-scores[2])
    )
    loss.backward()
    cell = Cell(np.array([0, 2]), np.array([0, 1], np.int32), np.array([1, 1], np.int32))
    only_third = np.array([2], np.int32)
    rate = np.float32(1e-3)
    train_cell(
        (0,), document, outputs, cell, np.array([2]), (only_third, 0.5, np.float32(1)), rate, (0, 0, 1)
    )
    assert given[0].grad is not None
    assert given[1].grad is not None
    np.testing.assert_allclose(document[0], given[0].detach() - rate * given[0].grad, atol=1e-7)
    np.testing.assert_allclose(outputs, given[1].detach() - rate * given[1].grad, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_the_threads_of_the_linear_algebra_make_no_difference(method: str) -> None:
    graphs = [labelled(nx.gnp_random_graph(30, 0.15, seed=seed)) for seed in range(300)]
    settings = GraphSettings(dim=64, epochs=1 if method == "graph2vec" else None)
    files = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            files.append(load_trainer(method, settings).fit(graphs))
    assert files[0] == files[1]


def test_any_number_of_threads_gives_the_same_bytes() -> None:
    graphs = networks(200)
    files = [
        load_trainer("graph2vec", GraphSettings(dim=16, epochs=3, threads=threads)).fit(graphs)
        for threads in (1, 2, 8)
    ]
    assert files[0] == files[1] == files[2]
    other = load_trainer("graph2vec", GraphSettings(dim=16, epochs=3, seed=1)).fit(graphs)
    assert other != files[0]


def test_blocks_hold_every_word_of_every_document() -> None:
    counts = sparse.random(100, 70, 0.1, "csr", random_state=0)
    counts.data = np.ceil(5 * counts.data)
    model = Dbow(counts, DbowSettings(dim=4, epochs=1))
    assert model.n_blocks == 4
    again = np.zeros(counts.shape)
    for block, cells in enumerate(model._cells):
        for other, cell in enumerate(cells):
            words = np.flatnonzero(model._places % model.n_blocks == other)
            column = dict(zip((model._places[words] // model.n_blocks).tolist(), words.tolist(), strict=True))
            for row in range(len(cell.ends) - 1):
                for k in range(cell.ends[row], cell.ends[row + 1]):
                    again[row * model.n_blocks + block, column[int(cell.words[k])]] += cell.counts[k]
    np.testing.assert_array_equal(again, counts.toarray())


# ---- all of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_graphs_that_come_later_lie_by_their_kind(method: str) -> None:
    """Learned from thirty graphs of two kinds, thirty others have one of their own kind as the nearest."""
    known, later = networks(30), networks(30, seed=1000)
    settings: dict[str, int | str] = {"dim": 16, "epochs": 50} if method == "graph2vec" else {"dim": 16}
    model = learned(method, known, **settings)
    scores = model.encode(later) @ model.encode(known).T
    right = scores.argmax(axis=1) % 2 == np.arange(30) % 2
    assert right.mean() >= 0.95


@pytest.mark.parametrize("method", METHODS)
def test_the_same_graphs_give_the_same_bytes_and_the_same_graph_the_same_vector(method: str) -> None:
    graphs = networks(20)
    settings = GraphSettings(dim=8, epochs=3 if method == "graph2vec" else None)
    data = load_trainer(method, settings).fit(graphs, node_label=None)
    assert load_trainer(method, settings).fit(iter(graphs)) == data
    ring = nx.cycle_graph(10)
    turned = nx.relabel_nodes(ring, {node: (node * 3) % 10 for node in ring})
    model = from_bytes(data)
    np.testing.assert_allclose(model.encode([labelled(ring)]), model.encode([labelled(turned)]), atol=1e-6)


def test_a_graph_of_nothing_that_is_known_is_told_apart() -> None:
    coloured = nx.path_graph(4)
    nx.set_node_attributes(coloured, "blue", "colour")
    for method in ("wl", "graph2vec"):
        model = learned(method, networks(20), dim=8)
        strange = labelled(coloured, "colour")
        assert model.knows([strange, networks(1)[0]]).tolist() == [False, True]
        with pytest.raises(QueryError, match="nothing in common"):
            model.encode([strange])


def test_one_graph_and_one_node_are_enough_to_learn_from() -> None:
    single = labelled(nx.empty_graph(1))
    for method in ("wl", "graph2vec"):
        model = learned(method, [single], dim=8)
        assert np.linalg.norm(model.encode([single])) == pytest.approx(1, abs=1e-5)
    with pytest.raises(SourceError, match="all alike; "):
        learned("pooled", [single, single], dim=8)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="'graph3vec'; use wl, graph2vec or pooled"):
        load_trainer("graph3vec")
    with pytest.raises(ModelError, match="wl takes no epochs; "):
        load_trainer("wl", GraphSettings(epochs=3))
    with pytest.raises(ModelError, match="graph2vec takes no pooling; "):
        load_trainer("graph2vec", GraphSettings(pooling="max"))
    with pytest.raises(ModelError, match="pooling is 'median'; "):
        load_trainer("pooled", GraphSettings(pooling="median"))
    for wrong in ({"dim": 0}, {"depth": 99}, {"epochs": 0}):
        with pytest.raises(ModelError, match="; give"):
            GraphSettings(**wrong)  # type: ignore[arg-type]


def test_a_damaged_encoder_is_refused() -> None:
    data = load_trainer("wl", GraphSettings(dim=4)).fit(networks(6))
    with pytest.raises(ModelUnavailable, match="damaged; "):
        from_bytes(data[: len(data) // 2])
    words = np.array([3, 2], np.uint64)
    settings = {"method": "wl", "depth": 2, "node_label": None}
    with pytest.raises(ModelUnavailable, match="does not fit its own settings"):
        from_bytes(to_bytes({"words": words, "projection": np.ones((2, 4), np.float32)}, settings))
    with pytest.raises(ModelUnavailable, match="has no graph encoder 'new'"):
        from_bytes(to_bytes({"words": words}, settings | {"method": "new"}))


def test_every_word_is_counted_once_for_each_node_and_depth() -> None:
    graphs = networks(5)
    found = counted(graphs, 3)
    totals = np.bincount(found.rows, weights=found.counts)
    assert totals.tolist() == [4.0 * graph.n_nodes for graph in graphs]
