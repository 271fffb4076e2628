"""Another model for a space: nothing is lost, readers are answered all the time, and there is a way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ingest
import search
from ingest.cli.main import app
from ingest.verbs import refilling
from search.catalog import reads
from search.cli.main import outcome
from search.collection import Collection
from search.encoders import load
from search.encoders.contract import Encoder
from search.index import choose
from search.types import NEXT, OLD, EncoderSpec, Modality, Part, Record
from tests.models_by_letters import Letters, named, of_spec
from tests.pictures import ColourModel, save

NO = ingest.Comparing(compare=False)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_named", named)
    monkeypatch.setattr(load, "load_spec", of_spec)


def words(number: int) -> str:
    """Ten words that tell a number's digits by letters."""
    digits = "".join("abcdefghij"[int(digit)] for digit in f"{number:03d}")
    return " ".join([digits * 2] * 10)


def lines_of(folder: Path, n: int) -> Path:
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"id": f"r{i}", "text": words(i)}) for i in range(n)))
    return file


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return lines_of(tmp_path, 30)


@pytest.fixture
def shop(tmp_path: Path, texts: Path) -> Iterator[Collection]:
    with search.open(tmp_path / "c") as made:
        ingest.text(made, texts, model="few", options=ingest.Options(passage_tokens=8, passage_overlap=2))
        yield made


def vectors_in(there: Collection, name: str) -> dict[str, np.ndarray]:
    """The vectors of each record in a space, in the order of its parts."""
    space = there.spaces()[name]
    with there.database.reading() as transaction:
        ids = {key: id for id, key in reads.keys_of(transaction, reads.ids_in(transaction, space)).items()}
        dead = set(reads.tombstones(transaction, space).tolist())
        found: dict[str, list[np.ndarray]] = {}
        for batch in reads.batches(transaction, space):
            for part, record, row in zip(batch.part_keys, batch.record_keys, batch.vectors, strict=True):
                if int(part) not in dead:
                    found.setdefault(ids[int(record)], []).append(row)
    return {id: np.stack(rows) for id, rows in found.items()}


def passages(text: str) -> list[str]:
    """Ten words in passages of eight that share two: words 1 to 8, and 7 to 10."""
    found = text.split()
    return [" ".join(found[:8]), " ".join(found[6:])]


def check_of(there: Collection, name: str, model: str, ids: list[str]) -> None:
    """The space holds the vectors that the model gives of the passages of these records, and no others."""
    found = vectors_in(there, name)
    assert set(found) == set(ids)
    for id in ids:
        record = there.get(id)[0]
        assert record is not None
        assert record.text is not None
        want = Letters(model).encode(passages(record.text))
        np.testing.assert_allclose(found[id], want, atol=1e-6)


def test_the_new_model_takes_over_and_gives_way_again(shop: Collection, texts: Path) -> None:
    ids = [f"r{i}" for i in range(30)]
    check_of(shop, "text", "few", ids)
    with search.open(shop.path, "r") as reader:
        assert reader.search(words(17), k=1)[0].id != "r17"  # the letters h and beyond are not seen
        done = ingest.migrate(shop, "text", "all")
        assert (done.filled, done.rejected, done.switched, done.worse) == (30, 0, True, ())
        assert (done.before, done.model) == ("few", "all")
        assert done.compared is not None
        assert done.compared.compared["known_item"].difference > 0.2
        assert (
            reader.search(words(17), k=1)[0].id == "r17"
        )  # at its next question, without being opened again
        assert reader.search(words(17), k=1)[0].space == "text"
        assert [hit.space for hit in reader.search(words(17), space=f"text{OLD}", k=1)] == [f"text{OLD}"]
        check_of(reader, "text", "all", ids)
        check_of(reader, f"text{OLD}", "few", ids)
    # The next ingest finds nothing to do, and is of the new model.
    again = ingest.text(shop, texts, model="all", options=ingest.Options(passage_tokens=8, passage_overlap=2))
    assert (again.unchanged, again.added, again.updated) == (30, 0, 0)
    gone = ingest.migrate_back(shop, "text")
    assert (gone.filled, gone.switched, gone.model) == (0, True, "few")
    check_of(shop, "text", "few", ids)
    check_of(shop, f"text{OLD}", "all", ids)
    assert ingest.migrate_drop(shop, "text") == (f"text{OLD}", 60)
    assert set(shop.spaces()) == {"text"}
    assert shop.check() == []
    assert shop.count() == 30


def test_what_changed_since_is_there_after_the_way_back(shop: Collection) -> None:
    ingest.migrate(shop, "text", "all", comparing=NO)
    shop.delete(["r0", "r1"])
    more = shop.path.parent / "more.jsonl"
    rows = [{"id": "r2", "text": words(222)}, {"id": "new", "text": words(333)}]
    more.write_text("\n".join(map(json.dumps, rows)))
    ingest.text(shop, more, model="all", options=ingest.Options(passage_tokens=8, passage_overlap=2))
    done = ingest.migrate_back(shop, "text")
    assert (done.filled, done.switched) == (2, True)
    check_of(shop, "text", "few", [*(f"r{i}" for i in range(2, 30)), "new"])


def test_spaces_beside_are_asked_by_name_only(shop: Collection) -> None:
    def asked() -> list[tuple[str, float]]:
        mixed = shop.search(words(5), like="r6", k=5)
        return [(hit.id, hit.score) for hit in [*mixed, *shop.recommend(likes=["r5", "r9"], k=5)]]

    alone = asked()
    ingest.migrate(shop, "text", "all", comparing=ingest.Comparing(switch=False))
    assert asked() == alone
    assert set(shop.spaces()) == {"text", f"text{NEXT}"}
    assert {hit.space for hit in shop.search(words(5), k=3)} == {"text"}
    assert {hit.space for hit in shop.recommend(likes=["r5"], k=3)} == {"text"}
    assert {hit.space for hit in shop.search(words(5), like="r6", k=3)} == {"text"}
    assert {hit.space for hit in shop.search(vector=[1.0] * 27, k=3)} == {"text"}
    assert isinstance(shop.duplicates(), list)
    assert shop.search(words(17), k=1, space=f"text{NEXT}")[0].id == "r17"
    assert ingest.migrate_drop(shop, "text")[0] == f"text{NEXT}"


def test_a_worse_model_is_not_switched_to(shop: Collection, capsys: pytest.CaptureFixture) -> None:
    ingest.migrate(shop, "text", "all", comparing=NO)
    ingest.migrate_drop(shop, "text")
    done = ingest.migrate(shop, "text", "few")
    assert not done.switched
    assert "known_item" in done.worse
    check_of(shop, "text", "all", [f"r{i}" for i in range(30)])
    with pytest.raises(search.CollectionError, match="a change of space 'text' to few is under way"):
        ingest.migrate(shop, "text", "back")
    asked = ["migrate", "--space", "text", "-c", str(shop.path)]
    assert outcome(app, [*asked, "--model", "few"]) == 1
    shown = capsys.readouterr()
    assert "error: not switched: known_item" in shown.err
    assert "worse" in shown.out
    assert outcome(app, [*asked, "--model", "few", "--accept", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["switched"], told["filled"]) == (True, 0)  # it was filled before
    assert told["compared"]["worse"] == told["worse"]
    check_of(shop, "text", "few", [f"r{i}" for i in range(30)])
    assert outcome(app, [*asked, "--back"]) == 0
    assert outcome(app, [*asked, "--drop"]) == 0
    check_of(shop, "text", "all", [f"r{i}" for i in range(30)])


def test_filled_now_and_switched_later(shop: Collection, capsys: pytest.CaptureFixture) -> None:
    asked = ["migrate", "--space", "text", "-c", str(shop.path)]
    assert outcome(app, [*asked, "--model", "all", "--no-switch", "--no-compare"]) == 0
    assert "30 records encoded by all" in (said := capsys.readouterr().err)
    assert "'text@next' is filled" in said
    assert shop.spaces()["text"].encoder.model == "few"
    assert outcome(app, ["evaluate", "--self", "--no-store", "--json", "-c", str(shop.path)]) == 0
    assert [one["space"] for one in json.loads(capsys.readouterr().out)] == ["text"]
    assert outcome(app, [*asked, "--model", "all", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["filled"], told["switched"]) == (0, True)
    assert outcome(app, [*asked, "--drop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dropped": f"text{OLD}", "vectors": 60}


def test_judged_queries_decide_too(shop: Collection, tmp_path: Path) -> None:
    from search.evaluate import formats

    queries = {f"q{i}": words(i).split()[0] for i in range(30)}
    formats.write_queries(tmp_path / "q.jsonl", queries)
    formats.write_judgements(tmp_path / "qrels.tsv", {f"q{i}": {f"r{i}": 1} for i in range(30)})
    done = ingest.migrate(
        shop,
        "text",
        "all",
        comparing=ingest.Comparing(queries=tmp_path / "q.jsonl", judgements=tmp_path / "qrels.tsv"),
    )
    assert done.judged is not None
    ndcg = done.judged.compared["ndcg@10"]
    assert done.switched
    files = (tmp_path / "q.jsonl", tmp_path / "qrels.tsv")
    assert ndcg.now == shop.evaluate(*files, space="text").metrics["ndcg@10"].mean
    assert ndcg.before == shop.evaluate(*files, space=f"text{OLD}").metrics["ndcg@10"].mean
    assert ndcg.now > ndcg.before + 0.3


def test_others_may_write_meanwhile(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first records are encoded, one of them is changed, another deleted, and a third comes in."""
    monkeypatch.setattr(refilling, "_TEXTS", 8)
    encode = Letters.encode
    met = False

    def encoding(self: Letters, items: list[str], **given: object) -> np.ndarray:
        nonlocal met
        if self.spec.model == "all" and len(items) > 3 and not met:
            met = True
            with search.open(shop.path) as other:
                other.delete(["r3"])
                rows = [{"id": "r4", "text": words(444)}, {"id": "new", "text": words(555)}]
                file = shop.path.parent / "more.jsonl"
                file.write_text("\n".join(map(json.dumps, rows)))
                options = ingest.Options(passage_tokens=8, passage_overlap=2)
                ingest.text(other, file, model="few", options=options)
        return encode(self, items, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(Letters, "encode", encoding)
    done = ingest.migrate(shop, "text", "all", comparing=NO)
    monkeypatch.setattr(Letters, "encode", encode)
    assert met
    assert done.switched
    assert shop.get("r3") == [None]
    ids = [*(f"r{i}" for i in range(30) if i != 3), "new"]
    check_of(shop, "text", "all", ids)
    check_of(shop, f"text{OLD}", "few", ids)


def test_how_texts_were_cut_is_found_again(tmp_path: Path, shop: Collection) -> None:
    settings = refilling.cutting(shop, shop.spaces()["text"], ingest.Options())
    assert (settings.lengths.tokens, settings.lengths.overlap) == (8, 2)
    page = tmp_path / "page.md"
    page.write_text("# Head\n\naaa bbb ccc\n\n## Second\n\nddd eee fff\n")
    ingest.text(shop, page, model="few", options=ingest.Options(passage_tokens=8, passage_overlap=2))
    ingest.migrate(shop, "text", "all", comparing=NO)
    found = vectors_in(shop, "text")["page.md"]
    anew = tmp_path / "anew"
    ingest.text(anew, page, model="all", options=ingest.Options(passage_tokens=8, passage_overlap=2))
    with search.open(anew) as there:
        np.testing.assert_array_equal(found, vectors_in(there, "text")["page.md"])


def test_other_lengths_are_encoded_again_by_the_next_ingest(shop: Collection, texts: Path) -> None:
    options = ingest.Options(passage_tokens=20, passage_overlap=0)
    done = ingest.migrate(shop, "text", "all", comparing=NO, options=options)
    assert done.switched
    assert all(len(rows) == 1 for rows in vectors_in(shop, "text").values())
    again = ingest.text(shop, texts, model="all", options=options)
    assert again.unchanged == 0


def test_the_wishes_for_the_index_go_over(shop: Collection) -> None:
    shop.tune(0.98, space="text")
    ingest.migrate(shop, "text", "all", comparing=NO)
    space = shop.spaces()["text"]
    with shop.database.reading() as transaction:
        wanted = reads.wanted(transaction, space)
    assert wanted is not None
    assert wanted["recall"] == 0.98


def test_an_index_keeps_its_place_under_another_name(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "FLAT_UP_TO", 27 * 20)
    ingest.migrate(shop, "text", "all", comparing=NO)
    with search.open(shop.path, "r") as reader:
        reader.search(words(5), k=1)
        spaces = {one["name"]: one["index"]["kind"] for one in reader.info()["spaces"]}  # type: ignore[union-attr,index]
        explained = reader.search(words(17), k=1, explain=True)[0]
    assert spaces["text"] == "hnsw"
    assert explained.id == "r17"
    assert not list(shop.layout.quarantine.glob("*"))
    assert shop.check() == []


def test_a_number_of_a_dropped_space_is_not_given_again(shop: Collection) -> None:
    ingest.migrate(shop, "text", "all", comparing=NO)
    keys = {space.key for space in shop.spaces().values()}
    with search.open(shop.path, "r") as reader:
        reader.search(words(1), space=f"text{OLD}")
        ingest.migrate_drop(shop, "text")
        ingest.migrate(shop, "text", "back", comparing=ingest.Comparing(compare=False, switch=False))
        assert shop.spaces()[f"text{NEXT}"].key not in keys
        assert reader.search(words(17), space=f"text{NEXT}", k=1)[0].id == "r17"
        with pytest.raises(search.UnknownSpace):
            reader.search(words(1), space=f"text{OLD}")


def test_what_is_pruned_goes_from_both(shop: Collection, texts: Path) -> None:
    ingest.migrate(shop, "text", "all", comparing=NO)
    lines_of(texts.parent, 20)
    options = ingest.Options(passage_tokens=8, passage_overlap=2)
    assert ingest.text(shop, texts, model="all", prune=True, options=options).removed == 10
    assert shop.count() == 20
    check_of(shop, f"text{OLD}", "few", [f"r{i}" for i in range(20)])


class Brightness(ColourModel):
    """Another model for pictures: the colours in the other order."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = EncoderSpec("colour", "bright", Modality.IMAGE, 3, ("image",))

    def encode(self, items, *, role="document"):
        return np.ascontiguousarray(super().encode(items, role=role)[:, ::-1])


def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Callable[[str], Encoder]]:
    known: dict[str, Encoder] = {"colour": ColourModel(), "bright": Brightness()}
    monkeypatch.setattr(load, "load_named", lambda model, *_, **given: known[model])
    monkeypatch.setattr(load, "load_spec", lambda spec, **given: known[spec.model])
    for name, colour in {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250)}.items():
        save(tmp_path / "photos" / f"{name}.png", colour, (40, 30))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    frames[0].save(tmp_path / "photos" / "two.gif", save_all=True, append_images=frames[1:])
    return tmp_path / "photos", known.__getitem__


def test_pictures_come_from_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, model = pictures(tmp_path, monkeypatch)
    with search.open(tmp_path / "p") as shop:
        with shop.writing() as writer:
            space = writer.space("image", model("colour").spec)
            half = Image.new("RGB", (40, 30), (250, 5, 5))
            half.paste((5, 5, 250), (20, 0, 40, 30))
            half.save(photos / "half.png")
            writer.put(
                [
                    Record("red", "image", str(photos / "red.png")),
                    Record("half", "image", str(photos / "half.png")),
                    Record("two#2", "image", str(photos / "two.gif"), None, {"frame": 2, "frames": 2}),
                ],
                np.eye(3, dtype=np.float32)[[0, 0, 0, 2]],
                space,
                parts=[[Part()], [Part(), Part(box=(20, 0, 20, 30), label="blue", score=0.9)], [Part()]],
            )
        done = ingest.migrate(shop, "image", "bright")
        assert done.switched
        found = vectors_in(shop, "image")
        half_now, region = found["half"]
        assert region == pytest.approx(np.array([250, 5, 5]) / np.linalg.norm([250, 5, 5]), abs=1e-5)
        assert half_now == pytest.approx(
            np.array([127.5, 5, 127.5]) / np.linalg.norm([127.5, 5, 127.5]), abs=1e-3
        )
        assert found["two#2"][0].argmax() == 0  # blue, in the other order
        hit = shop.search(image=Image.new("RGB", (4, 4), (5, 5, 250)), k=1)[0]
        assert hit.part == {"box": [20, 0, 20, 30], "label": "blue", "score": 0.9} or hit.id == "two#2"


def test_a_picture_that_is_gone_stops_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    photos, model = pictures(tmp_path, monkeypatch)
    with search.open(tmp_path / "p") as shop:
        with shop.writing() as writer:
            files = [photos / f"{name}.png" for name in ("red", "green", "blue")]
            writer.put(
                [Record(file.stem, "image", str(file)) for file in files],
                model("colour").encode(files),
                writer.space("image", model("colour").spec),
            )
        (photos / "blue.png").rename(photos / "elsewhere.png")
    asked = ["migrate", "--space", "image", "-c", str(tmp_path / "p"), "--model", "bright"]
    assert outcome(app, asked) == 1
    said = capsys.readouterr().err
    assert "error: not switched: 1 records could not be encoded" in said
    assert "blue.png" in said
    with search.open(tmp_path / "p", "r") as shop:
        assert set(vectors_in(shop, "image")) == {"red", "green", "blue"}
        assert shop.spaces()["image"].encoder.model == "colour"
    (photos / "elsewhere.png").rename(photos / "blue.png")
    assert outcome(app, asked) == 0
    with search.open(tmp_path / "p", "r") as shop:
        assert set(vectors_in(shop, "image")) == {"red", "green", "blue"}
        assert shop.spaces()["image"].encoder.model == "bright"


def test_what_makes_no_sense_is_refused(shop: Collection, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(search.UnknownSpace, match="there is no space 'nowhere'"):
        ingest.migrate(shop, "nowhere", "all")
    with pytest.raises(search.ModelError, match="already"):
        ingest.migrate(shop, "text", "few")
    with pytest.raises(search.ModelUnavailable):
        ingest.migrate(shop, "text", "none")
    with pytest.raises(search.UnknownSpace, match="to go back to"):
        ingest.migrate_back(shop, "text")
    with pytest.raises(search.UnknownSpace, match="nothing stands beside"):
        ingest.migrate_drop(shop, "text")
    shop.add([{"id": "v"}], [[1.0, 0.0]], space="v")
    with pytest.raises(search.ModelError, match="was not made of texts"):
        ingest.migrate(shop, "v", "all")
    for wrong in (
        {"queries": "q"},
        {"compare": False, "queries": "q", "judgements": "r"},
        {"accept": True, "switch": False},
    ):
        with pytest.raises(search.ModelError):
            ingest.Comparing(**wrong)  # type: ignore[arg-type]
    ingest.migrate(shop, "text", "all", comparing=NO)
    with pytest.raises(search.CollectionError, match="of the last change is still there"):
        ingest.migrate(shop, "text", "back")
    with pytest.raises(search.ModelError, match="stands beside"):
        ingest.migrate(shop, f"text{OLD}", "back")
    asked = ["migrate", "--space", "text", "-c", str(shop.path)]
    for wrong in ([], ["--model", "all", "--back"], ["--back", "--accept"], ["--drop", "--layer", "1"]):
        assert outcome(app, [*asked, *wrong]) == 2
    assert outcome(app, ["migrate", "--space", "text", "-c", str(shop.path / "no"), "--drop"]) == 1
    capsys.readouterr()


def test_without_the_old_model_nothing_is_compared(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(spec: EncoderSpec, **given: object) -> Letters:
        if spec.model == "few":
            raise search.ModelUnavailable("it is gone; fetch it")
        return of_spec(spec)

    monkeypatch.setattr(load, "load_spec", gone)
    done = ingest.migrate(shop, "text", "all")
    assert done.switched
    assert done.not_compared == "it is gone; fetch it"


def test_a_change_goes_on_with_the_lengths_it_was_begun_with(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(refilling, "_TEXTS", 10)
    encoded = 0

    class Dies(Letters):
        def attempt(self, items: object) -> object:  # type: ignore[override]
            nonlocal encoded
            encoded += 1
            if encoded == 2:
                raise KeyboardInterrupt
            return super().attempt(items)  # type: ignore[arg-type]

    monkeypatch.setattr(load, "load_named", lambda *_, **__: Dies("all"))
    longer = ingest.Options(passage_tokens=9, passage_overlap=1)
    with pytest.raises(KeyboardInterrupt):
        ingest.migrate(shop, "text", "all", comparing=NO, options=longer)
    assert len(vectors_in(shop, f"text{NEXT}")) == 10
    monkeypatch.setattr(load, "load_named", named)
    with pytest.raises(search.CollectionError, match="begun with passages of 9 tokens and 1 of overlap"):
        ingest.migrate(
            shop, "text", "all", comparing=NO, options=ingest.Options(passage_tokens=8, passage_overlap=2)
        )
    command = ["migrate", "-c", str(shop.path), "--space", "text", "--model", "all", "--no-compare"]
    assert outcome(app, [*command, "--tokens", "10"]) == 1
    assert "begun with passages of 9 tokens" in capsys.readouterr().err
    assert len(vectors_in(shop, f"text{NEXT}")) == 10
    assert ingest.migrate(shop, "text", "all", comparing=NO).filled == 20  # nothing said: as begun
    for id, rows in vectors_in(shop, "text").items():
        said = words(int(id[1:])).split()
        want = Letters("all").encode([" ".join(said[:9]), " ".join(said[8:])])
        np.testing.assert_allclose(rows, want, atol=1e-6)
