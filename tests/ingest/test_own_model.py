"""Who names no model goes on with what made the space, with all that was said of it when it was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from PIL import Image

import ingest
import search
from ingest.learn.interactions.load import METHODS as INTERACTION_METHODS
from ingest.learn.interactions.load import InteractionSettings, settings_of
from ingest.learn.interactions.load import load_trainer as load_interaction_trainer
from search.encoders.load import ModelChoice
from search.errors import CollectionError
from tests.search.test_text_encoder import save_bert


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_bert(tmp_path_factory.mktemp("model")))


def test_texts_go_on_with_layer_and_pooling(tmp_path: Path, model: str) -> None:
    said = ModelChoice(layer="1", pooling="max")
    both = tmp_path / "t.jsonl"
    both.write_text('{"id": "a", "text": "red"}\n')
    ingest.text(tmp_path / "c", both, model=model, choice=said)
    both.write_text('{"id": "a", "text": "red"}\n{"id": "b", "text": "a blue river"}\n')
    foretold = ingest.text(tmp_path / "c", both, dry_run=True)
    assert (foretold.added, foretold.unchanged, foretold.model) == (1, 1, model)
    report = ingest.text(tmp_path / "c", both)
    assert (report.added, report.unchanged, report.model) == (1, 1, model)
    ingest.text(tmp_path / "all", both, model=model, choice=said)
    for path in ("c", "all"):
        with search.open(tmp_path / path, mode="r") as shop:
            assert shop.search(like="b", k=1)[0].score == pytest.approx(
                float(np.dot(*shop.encoder("text").encode(["red", "a blue river"]))), abs=1e-6
            )
            assert shop.spaces()["text"].encoder.options["layer"] == "1"
    with pytest.raises(CollectionError, match=r"with .*pooling"):  # what is said counts
        ingest.text(tmp_path / "c", both, choice=ModelChoice(pooling="cls"))


def test_pictures_go_on_with_what_was_learned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "p").mkdir()
    for number in range(12):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "p" / f"{number}.png")
    ingest.images(tmp_path / "c", tmp_path / "p", learn="patches")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "p" / "red.png")
    assert ingest.images(tmp_path / "c", tmp_path / "p", dry_run=True).added == 1
    report = ingest.images(tmp_path / "c", tmp_path / "p")
    assert (report.model, report.added, report.unchanged) == ("patches", 1, 12)


def test_graphs_go_on_with_method_and_settings(tmp_path: Path) -> None:
    settings = ingest.NodeSettings(dim=4, seed=3)
    graph = nx.karate_club_graph()
    ingest.graph(tmp_path / "c", graph, method="cleora", settings=settings)
    report = ingest.graph(tmp_path / "c", graph)
    assert (report.model, report.unchanged) == ("cleora", 34)
    graph.add_edge(0, "new")
    assert ingest.graph(tmp_path / "c", graph).updated == 34
    with search.open(tmp_path / "c", mode="r") as shop:
        made = shop.spaces()["graph"].encoder
        assert (made.family, made.dim, made.options["seed"]) == ("cleora", 4, 3)
    assert (
        ingest.graph(tmp_path / "new", graph, settings=ingest.NodeSettings(dim=4, walks=1)).model
        == "node2vec"
    )


@pytest.mark.parametrize("method", INTERACTION_METHODS)
def test_the_settings_of_what_learned_from_interactions_can_be_told_from_its_space(method: str) -> None:
    settings = InteractionSettings(dim=6, epochs=3, seed=5)
    more = {
        "als": {"alpha": 2.0, "regularization": 0.3, "half_life_items": 4.0},
        "item-knn": {"neighbours": 7, "shrink": 3.0},
        "bpr": {"rate": 0.01, "decay": 0.2},
        "lightgcn": {"layers": 2, "decay": 0.2},
        "node2vec": {},
    }
    for given in (settings, replace(settings, **more[method]), InteractionSettings()):
        spec = load_interaction_trainer(method, given).spec
        assert load_interaction_trainer(method, settings_of(spec)).spec == spec


def test_interactions_go_on_with_method_and_settings(tmp_path: Path) -> None:
    bought = tmp_path / "bought.csv"
    rows = [f"u{n % 5},i{n * n % 7}" for n in range(30)]
    bought.write_text("user,item\n" + "\n".join(rows) + "\n")
    made = ingest.InteractionSettings(dim=4, epochs=2)
    first = ingest.interactions(tmp_path / "c", bought, method="bpr", settings=made)
    again = ingest.interactions(tmp_path / "c", bought)
    assert (again.model, again.unchanged) == ("bpr", first.added)
    bought.write_text("user,item\n" + "\n".join([*rows, "u9,i0"]) + "\n")
    assert ingest.interactions(tmp_path / "c", bought).updated == first.added
    with search.open(tmp_path / "c", mode="r") as shop:
        encoder = shop.spaces()["interactions"].encoder
        assert (encoder.family, encoder.dim, encoder.options["epochs"]) == ("bpr", 4, 2)
