"""Maps of a space: places by principal components and UMAP, colours, a page that nothing in a record can break."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

import search
from search.cli.graphs import register
from search.cli.main import application, outcome
from search.errors import MissingExtra, QueryError
from search.maps import page
from search.maps.colours import CLASSES, PLAIN, REST, coloured
from search.maps.projection import Method, by_pca, chosen, projected
from search.types import Place

EVIL = "</script><script>alert(1)</script>&<b>"


def test_principal_components_are_those_of_scikit_learn():
    vectors = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32) * np.arange(1, 8)
    want = PCA(2).fit_transform(vectors.astype(np.float64))
    np.testing.assert_allclose(np.abs(by_pca(vectors)), np.abs(want), rtol=1e-4, atol=1e-4)
    assert by_pca(vectors[:1]).tolist() == [[0, 0]]
    assert by_pca(vectors[:, :1]).shape == (50, 2)


def test_umap_keeps_groups_together_and_is_the_same_for_a_seed():
    rng = np.random.default_rng(1)
    centres = np.eye(3, 8)[np.repeat(np.arange(3), 12)]
    vectors = (centres + 0.05 * rng.standard_normal(centres.shape)).astype(np.float32)
    places = projected(vectors, Method.UMAP, 3)
    assert places.shape == (36, 2)
    means = places.reshape(3, 12, 2).mean(axis=1)
    nearest = np.linalg.norm(places[:, None] - means[None], axis=2).argmin(axis=1)
    assert nearest.tolist() == np.repeat(np.arange(3), 12).tolist()
    assert projected(vectors, Method.UMAP, 3).tobytes() == places.tobytes()
    with pytest.raises(QueryError, match="at least three"):
        projected(vectors[:2], Method.UMAP, 0)


def test_the_method(monkeypatch):
    assert chosen("auto", 29) is Method.PCA
    assert chosen("auto", 30) is Method.UMAP
    with pytest.raises(QueryError, match="'tsne'"):
        chosen("tsne", 5)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"nearkin\[map\]"):
        projected(np.eye(40, dtype=np.float32), Method.UMAP, 0)


def test_colours_by_class_and_by_number():
    assert coloured([{}, {}], None).of_point == [PLAIN, PLAIN]
    found = coloured([{"a": {"b": "x"}}, {"a": {"b": "y"}}, {"a": {"b": "x"}}, {}], "a.b")
    assert found.of_point == [CLASSES[0], CLASSES[1], CLASSES[0], REST]
    assert found.legend == [("x", CLASSES[0]), ("y", CLASSES[1]), ("none", REST)]
    many = coloured([{"f": f"v{k // 2}"} for k in range(24)], "f")
    assert many.legend[-1] == ("2 others", REST)
    assert many.of_point.count(REST) == 4
    scale = coloured([{"n": n} for n in range(11)], "n")
    assert (scale.of_point[0], scale.of_point[-1]) == ("#440154", "#fde725")
    assert scale.of_point[5] == "#21918c"
    assert [name for name, _ in scale.legend] == ["0", "2.5", "5", "7.5", "10"]
    with pytest.raises(QueryError, match="'nope'"):
        coloured([{"a": 1}], "nope")


def test_nothing_in_a_record_can_break_the_page(tmp_path):
    places = [Place(EVIL, 0.0, 0.0, None, None, {"f": EVIL}), Place("\ud800", 2.0, 1.0, EVIL, None, {})]
    drawing = page.Drawing(EVIL, EVIL, places, coloured([one.metadata for one in places], "f"))
    page.write(tmp_path / "m.html", drawing)
    html = (tmp_path / "m.html").read_text()
    assert html.count("</script>") == 2
    assert "<script>alert" not in html
    assert "<b>" not in html.replace("<b></b>", "")
    (data,) = re.findall(r'type="application/json">(.*?)</script>', html)
    told = json.loads(data)
    assert [point[:3] for point in told["points"]] == [[0, 0.25, 0], [1, 0.75, 1]]
    assert told["points"][0][3:] == [EVIL, f"f={EVIL}"]
    assert told["legend"] == [[EVIL, CLASSES[0]], ["none", REST]]
    assert not re.search(r"(src|href)=", html)  # nothing is loaded from anywhere


def test_a_picture_has_each_point_at_its_place(tmp_path):
    places = [Place("a", 0.0, 0.0, None, None, {}), Place("b", 1.0, 1.0, None, None, {})]
    page.write(tmp_path / "m.png", page.Drawing("t", "", places, coloured([{}, {}], None)))
    with Image.open(tmp_path / "m.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    blue = np.argwhere((pixels == (0, 0x72, 0xB2)).all(axis=2))
    assert blue[:, 0].min() < 100  # b is above ...
    assert blue[:, 0].max() > 1100
    above, below = blue[blue[:, 0] < 600], blue[blue[:, 0] > 600]
    assert above[:, 1].min() > below[:, 1].max()  # ... and on the right of a
    with pytest.raises(QueryError, match=r"as \.html or \.png"):
        page.write(tmp_path / "m.svg", page.Drawing("t", "", places, coloured([{}, {}], None)))


def run(*arguments: object) -> int:
    app = application("test")
    register(app)
    return outcome(app, [str(one) for one in arguments])


def test_the_command(tmp_path, capsys):
    vectors = np.random.default_rng(2).standard_normal((12, 4))
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": f"r{k}", "metadata": {"g": k % 2}} for k in range(12)], vectors, space="mine")
        places = shop.map(where="g = 1")
        assert [one.id for one in places] == [f"r{k}" for k in range(1, 12, 2)]
        some = shop.map(most=5)
        assert len(some) == 5
        assert [one.id for one in shop.map(most=5)] == [one.id for one in some]
        for wrong in (0, True, "x"):
            with pytest.raises(QueryError, match="most"):
                shop.map(most=wrong)
        with pytest.raises(QueryError, match="no vector"):
            shop.map(where="g = 7")
    out = tmp_path / "m.html"
    assert run("map", "-c", tmp_path / "c", "--out", out, "--colour", "g", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in told] == [f"r{k}" for k in range(12)]
    assert "by g" in out.read_text()
    assert run("map", "-c", tmp_path / "c", "--out", tmp_path / "m.txt") == 1
    assert "error: a map is written as .html or .png" in capsys.readouterr().err
    assert run("map", "-c", tmp_path / "nope", "--out", out) == 1
    assert not Path(tmp_path / "nope").exists()
