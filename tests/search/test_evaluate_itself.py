"""A space asked by its own records: figures by hand and by plain numpy, what is kept, and when the alarm sounds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.encoders.contract import Encoder
from search.evaluate import keeping, perturb, unlabelled
from search.index import choose
from search.types import EncoderSpec, Modality, Part, Record
from search.vectors import unit_rows
from tests.letters import LetterEncoder
from tests.pictures import ColourModel, save

# Pairs of letters, each a record of two passages: its letters alone tell it.
PAIRS = ["".join(pair) for pair in itertools.combinations("abcdefgh", 2)]


def text_of(pair: str) -> str:
    """Two sentences of the pair's letters, in words whose letters when swapped are the same."""
    a, b = pair
    return f"{a * 4} {b * 4} {a * 4} {b * 4} {a * 4}. {b * 4} {a * 4} {b * 4} {a * 4} {b * 4}."


class Blind(LetterEncoder):
    """Sees only the letters up to d."""

    def encode(self, items, *, role="document"):
        rows = super().encode(items).copy()
        rows[:, 4:] = 0
        rows[:, 25] += 1e-3
        return unit_rows(rows)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> dict[str, Encoder]:
    """The encoder that is loaded for a family."""
    known: dict[str, Encoder] = {"letters": LetterEncoder(), "colour": ColourModel()}
    monkeypatch.setattr("search.encoders.load.load_spec", lambda spec, **given: known[spec.family])
    return known


def fill(made: Collection, encoder: Encoder, space: str = "text") -> None:
    """A record for each pair, its two sentences as its passages."""
    with made.writing() as writer:
        there = writer.space(space, encoder.spec)
        texts = [text_of(pair) for pair in PAIRS]
        cut = [text.index(".") + 1 for text in texts]
        pieces = [piece for text, at in zip(texts, cut, strict=True) for piece in (text[:at], text[at + 1 :])]
        writer.put(
            [Record(pair, "text", None, text) for pair, text in zip(PAIRS, texts, strict=True)],
            encoder.encode(pieces),
            there,
            parts=[[Part(0, at), Part(at + 1, len(text))] for text, at in zip(texts, cut, strict=True)],
        )


@pytest.fixture
def shop(tmp_path: Path, model: dict[str, Encoder]) -> Iterator[Collection]:
    with search.open(tmp_path / "c") as made:
        fill(made, LetterEncoder())
        yield made


def test_a_space_that_tells_all_records_apart(shop: Collection) -> None:
    found = shop.evaluate_itself()
    assert found.n_records == len(PAIRS) == 28
    assert set(found.values) == set(unlabelled.MEASURES)
    assert set(found.values["known_item"]) == set(PAIRS)
    means = {name: one.mean for name, one in found.measures.items()}
    # Each sentence holds its pair's letters 12 to 8: no other record's is nearer.
    assert means["known_item"] == means["held_out"] == means["index_recall"] == 1
    assert 0.5 < means["perturbed"] <= 1
    assert 0 < means["stability"] <= 1


def test_mutual_neighbours_beside_plain_numpy(shop: Collection) -> None:
    random = np.random.default_rng(0)
    rows = unit_rows(random.standard_normal((40, 5)).astype(np.float32))
    ids = [f"v{i}" for i in range(40)]
    shop.add([{"id": id} for id in ids], rows, space="v")
    found = shop.evaluate_itself("v", sample=15, seed=3)
    assert set(found.values) == {"mutual", "index_recall"}
    assert set(found.values["mutual"]) == set(perturb.sampled(ids, 15, 3))
    scores = rows @ rows.T
    np.fill_diagonal(scores, -2)
    nearest = [set(np.argsort(-one)[:10].tolist()) for one in scores]
    for id, value in found.values["mutual"].items():
        own = int(id[1:])
        assert value == pytest.approx(np.mean([own in nearest[other] for other in nearest[own]]))


def test_recall_of_an_index_apart_from_the_model(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FLAT_UP_TO", 100)
    random = np.random.default_rng(1)
    rows = unit_rows(random.standard_normal((600, 16)).astype(np.float32))
    shop.add([{"id": f"v{i}"} for i in range(600)], rows, space="v")
    shop.index()
    found = shop.evaluate_itself("v", sample=50)
    assert found.index["kind"] == "hnsw"
    assert found.measures["index_recall"].mean >= 0.9
    assert all(0 <= value <= 1 for value in found.values["index_recall"].values())


def test_the_same_seed_says_the_same_and_more_records_keep_the_sample(shop: Collection) -> None:
    one, other = shop.evaluate_itself(store=False), shop.evaluate_itself(store=False)
    assert one.values == other.values
    assert not shop.layout.evaluation("text").exists()
    ids = [f"r{i}" for i in range(100)]
    before, after = set(perturb.sampled(ids, 20, 0)), set(perturb.sampled([*ids, "new"], 20, 0))
    assert len(before - after) <= 1


def test_the_alarm_sounds_until_it_is_accepted(
    shop: Collection, model: dict[str, Encoder], capsys: pytest.CaptureFixture
) -> None:
    first = shop.evaluate_itself()
    assert (first.before_at, first.compared, first.worse) == (None, {}, ())
    again = shop.evaluate_itself()
    assert (again.changed, again.worse) == ((), ())
    assert all(one.difference == 0 and one.p_worse == 1 for one in again.compared.values())
    blind = Blind("letters-2")
    blind.spec = replace(blind.spec, model="blind")
    with shop.writing() as writer:  # a change of the model behind the same name
        space = shop.spaces()["text"]
        writer.trained_space("text", blind.spec)
        assert shop.spaces()["text"].key == space.key
    model["letters"] = blind
    fill_again = [text_of(pair) for pair in PAIRS]
    with shop.writing() as writer:
        writer.put([Record(pair) for pair in PAIRS], blind.encode(fill_again), shop.spaces()["text"])
    told = shop.evaluate_itself()
    assert told.changed == ("model",)
    assert "known_item" in told.worse
    assert told.compared["known_item"].before == 1
    assert told.compared["known_item"].difference < -0.3
    assert shop.evaluate_itself().worse == told.worse  # it was not stored
    asked = ["evaluate", "--self", "-c", str(shop.path)]
    assert outcome(app, asked) == 0
    assert "warning: known_item" in capsys.readouterr().err
    assert outcome(app, [*asked, "--strict", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)[0]["worse"] == list(told.worse)
    assert "error: known_item of space 'text'" in shown.err
    assert outcome(app, [*asked, "--accept"]) == 0
    capsys.readouterr()
    assert outcome(app, [*asked, "--strict"]) == 0


def test_pictures_are_cropped_and_mirrored(tmp_path: Path, model: dict[str, Encoder]) -> None:
    colours = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250), "grey": (90, 90, 90)}
    files = {name: save(tmp_path / f"{name}.png", colour, (40, 30)) for name, colour in colours.items()}
    with search.open(tmp_path / "p") as made:
        with made.writing() as writer:
            space = writer.space("image", ColourModel().spec)
            writer.put(
                [Record(name, "image", str(file)) for name, file in files.items()],
                ColourModel().encode(list(files.values())),
                space,
            )
        files["grey"].unlink()
        found = made.evaluate_itself()
    assert found.values["perturbed"] == {"red": 1, "green": 1, "blue": 1}  # grey's file is gone
    assert found.measures["stability"].mean == 1
    assert set(found.values["mutual"]) == set(colours)


def test_sentences_and_how_they_are_spoilt() -> None:
    def rng() -> np.random.Generator:
        return perturb.drawn(0, "id", "test")

    text = "A title that comes first.\nThe second sentence is this one. Short. And a third one is here!"
    assert perturb.sentence(text, rng()) in ("The second sentence is this one.", "And a third one is here!")
    assert perturb.sentence("  kettle ", rng()) == "kettle"
    assert perturb.sentence(" -- ", rng()) is None
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ]
    spoilt = perturb.misspelt(" ".join(words), rng()).split()
    assert len(spoilt) == len(words) - 2
    strange = [word for word in spoilt if word not in words]
    assert 0 <= len(strange) <= 2
    assert all(any(sorted(word) == sorted(true) for true in words) for word in strange)
    assert sorted(perturb.misspelt("kettle", rng())) == sorted("kettle")
    picture = Image.fromarray(np.arange(40 * 20, dtype=np.uint8).reshape(20, 40))
    cut = perturb.cropped(picture, rng())
    assert cut.size == (34, 17)
    pixels = np.asarray(cut)[:, ::-1]
    whole = np.asarray(picture)
    assert any(
        np.array_equal(whole[top : top + 17, left : left + 34], pixels)
        for top in range(4)
        for left in range(7)
    )


def test_what_makes_no_sense_is_refused(
    shop: Collection, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for wrong in ({"sample": 0}, {"sample": True}, {"seed": "x"}, {"store": False, "accept": True}):
        with pytest.raises(search.QueryError):
            shop.evaluate_itself(**wrong)  # type: ignore[arg-type]
    with pytest.raises(search.UnknownSpace):
        shop.evaluate_itself("nowhere")
    with search.open(shop.path, "r") as reader:
        with pytest.raises(search.CollectionError, match="read only"):
            reader.evaluate_itself()
        assert reader.evaluate_itself(store=False).n_records == 28
    with shop.writing() as writer:
        writer.space("empty", EncoderSpec("given", "given", Modality.VECTOR, 2))
    with pytest.raises(search.UnknownSpace, match="holds no vectors"):
        shop.evaluate_itself("empty")
    here = ["evaluate", "-c", str(shop.path)]
    assert outcome(app, [*here, "--self", "-k", "3"]) == 2
    assert outcome(app, [*here, "--queries", "q", "--qrels", "r", "--strict"]) == 2
    assert outcome(app, ["evaluate", "--self", "-c", str(tmp_path / "nowhere")]) == 1
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_file_is_told_and_replaced(shop: Collection, caplog: pytest.LogCaptureFixture) -> None:
    file = shop.layout.evaluation("text")
    shop.evaluate_itself()
    for content in (b"{", b"[]", b'{"space": "text"}', b"\xff"):
        file.write_bytes(content)
        assert keeping.read(file) is None
        assert "cannot be read" in caplog.text
    found = shop.evaluate_itself()
    assert found.before_at is None
    kept = keeping.read(file)
    assert kept is not None
    assert kept.values == {name: dict(one) for name, one in found.values.items()}


def test_verbs_that_write_bring_an_older_collection_up_to_date(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from search.catalog import migrations

    shop.close()
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, lambda transaction: None))
    monkeypatch.setattr(migrations, "CURRENT", len(migrations.MIGRATIONS))
    here = ["-c", str(shop.path)]
    assert outcome(app, ["evaluate", "--self", "--no-store", *here]) == 1  # it only reads
    assert "older format" in capsys.readouterr().err
    assert outcome(app, ["evaluate", "--self", *here]) == 0
    with search.open(shop.path, "r") as there:
        assert there.info()["format"] == len(migrations.MIGRATIONS)
