"""What was asked for is done, or refused in one line; nothing is cut down, waited for or passed over in silence."""

from __future__ import annotations

import gc
import io
import json
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ingest
import search
from ingest.cli.main import app
from ingest.passages import Lengths
from ingest.verbs import texts
from search.catalog.occurrences import _LIKE_ASCII
from search.cli.main import outcome
from search.encoders import endpoint
from search.encoders.load import Device, ModelChoice, load_named
from search.errors import CollectionError, ModelError, NearkinError, QueryError, SourceError
from tests.endpoint import served
from tests.search.test_text_encoder import save_bert

CPU = Device("cpu", "fp32")
ON_CPU = ingest.Options(device="cpu", precision="fp32")


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def nearkin(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Said:
        code = outcome(app, [str(one) for one in arguments])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("the cat sat on the mat " * 6)
    (folder / "b.txt").write_text("a dog sat")
    return folder


@pytest.fixture
def shop(tmp_path: Path):
    with search.open(tmp_path / "shop") as opened:
        opened.add(
            [{"id": "a", "text": "one", "metadata": {"price": 1, "by.whom": {"näme": "x"}}}, {"id": "b"}],
            np.eye(2),
            space="mine",
        )
        yield opened


def test_lengths_are_as_said_or_refused():
    assert Lengths().within(254, "m") == (254, 32)
    assert Lengths().within(1000, "m") == (256, 32)
    assert Lengths().within(38, "m") == (38, 18)  # what nobody asked for is what fits
    assert Lengths(40).within(254, "m") == (40, 19)
    assert Lengths(40, 19).within(254, "m") == (40, 19)
    assert (str(Lengths()), str(Lengths(40)), str(Lengths(40, 0))) == ("256 32", "40 32", "40 0")
    with pytest.raises(NearkinError, match=r"passages of 255 tokens are more than 'm' sees; .* up to 254"):
        Lengths(255).within(254, "m")
    with pytest.raises(NearkinError, match="cannot share 20; use 0 to 19"):
        Lengths(40, 20)
    with pytest.raises(NearkinError, match="passages of 38 tokens cannot share 32; use 0 to 18"):
        Lengths(None, 32).within(38, "m")


def test_a_model_in_a_folder_is_found_from_any_other(nearkin, bert, notes, tmp_path, monkeypatch):
    monkeypatch.chdir(bert.parent)
    where = ("-c", tmp_path / "c")
    assert nearkin("ingest", "text", notes, *where, "--model", f"./{bert.name}").code == 0
    assert f'"model": "{bert}"' in nearkin("info", *where, "--json").out
    monkeypatch.chdir(tmp_path)
    assert nearkin("search", "a", *where, "--json").code == 0


def test_too_long_passages_are_refused_and_nothing_is_stored(nearkin, bert, notes, tmp_path):
    ingest_them = ("ingest", "text", notes, "-c", tmp_path / "c", "--model", bert, "--device", "cpu")
    done = nearkin(*ingest_them, "--tokens", 39)
    assert done.code == 1
    assert f"passages of 39 tokens are more than '{bert}' sees; give --tokens of up to 38" in done.err
    done = nearkin(*ingest_them, "--tokens", 20, "--overlap", 10)
    assert "passages of 20 tokens cannot share 10; use 0 to 9 for --overlap" in done.err
    assert not (tmp_path / "c").exists()
    assert nearkin(*ingest_them, "--tokens", 38, "--overlap", 18).code == 0


def test_a_second_writer_says_whom_it_waits_for(nearkin, tmp_path):
    path = tmp_path / "c"
    with search.open(path) as holder:
        holder.add([{"id": "a"}])
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with holder.writing():
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        threading.Timer(1.5, done.set).start()
        said = nearkin("delete", "a", "-c", path)
        thread.join()
    assert said.code == 0
    assert said.err.count("is being written to by process ") == 1
    assert "waiting up to 20 s for it to finish" in said.err


def test_layers_in_any_order_are_one_setting(bert):
    one, other = (
        load_named(str(bert), ModelChoice(layer=layer), device=CPU) for layer in ("-1,-2", "-2, -1")
    )
    assert one.spec == other.spec
    assert one.spec.options["layer"] == "-2,-1"
    np.testing.assert_array_equal(one.encode(["the cat"]), other.encode(["the cat"]))
    words = [
        load_named(f"word:{bert}", ModelChoice(layer=layer), device=CPU).spec for layer in ("0,-1", "-1,0")
    ]
    assert words[0] == words[1]


def test_another_address_is_refused_also_where_nothing_is_left_to_encode(notes, tmp_path, monkeypatch):
    for name in (*endpoint.KEY_NAMES, endpoint.BASE_URL_NAME, endpoint.PLAIN_HTTP_NAME):
        monkeypatch.delenv(name, raising=False)
    with served() as server, search.open(tmp_path / "c") as shelf:
        again = lambda url, **more: ingest.text(  # noqa: E731
            shelf, notes, model="openai:letters", choice=ModelChoice(base_url=url), **more
        )
        again(server.url)
        asked = len(server.texts)
        for url in (None, "http://127.0.0.1:9/v1"):
            for dry_run in (False, True):
                with pytest.raises(
                    CollectionError, match=f"was made at {server.url}.*give --base-url {server.url}"
                ):
                    again(url, dry_run=dry_run)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        assert again(None).unchanged == 2
        assert len(server.texts) == asked


def test_delete_says_what_was_not_there(nearkin, shop, tmp_path):
    shop.close()
    said = nearkin("delete", "nope", "-c", tmp_path / "shop")
    assert said.code == 1
    assert "error: no record has the id nope; " in said.err
    said = nearkin("delete", "a", "nope", "-c", tmp_path / "shop", "--json")
    assert json.loads(said.out) == {"deleted": 1, "missing": ["nope"]}
    assert nearkin("delete", "b", "-c", tmp_path / "shop").code == 0


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda shop: shop.get(5), "ids is a int; give an id as a string"),
        (lambda shop: shop.get(["a", 5]), "ids holds a int; give ids as strings"),
        (lambda shop: shop.get({"a": 1}), "ids is a dict"),
        (lambda shop: shop.delete(5), "ids is a int"),
        (lambda shop: shop.recommend(likes=5), "likes is a int"),
        (lambda shop: shop.recommend("a", dislikes=[None]), "dislikes holds a NoneType"),
        (lambda shop: shop.search(like=["a", "b"]), r"like is a list; give one id, or several to recommend"),
        (lambda shop: shop.search(like=7), "like is a int"),
    ],
)
def test_what_is_no_id_is_told(shop, ask, said):
    with pytest.raises(QueryError, match=said):
        ask(shop)


def test_what_is_no_name_of_a_field_is_told(shop, notes):
    with pytest.raises(SourceError, match="text is a int; give the name of a field"):
        ingest.text(shop, notes, text=5)
    with pytest.raises(SourceError, match="id is a list; give the name of a field"):
        ingest.text(shop, notes, id=["a"])


def test_a_closed_collection_answers_nothing(shop):
    assert shop.search(vector=[1, 0])[0].id == "a"
    shop.close()
    shop.close()  # twice is once
    for ask in (
        lambda: shop.search(vector=[1, 0]),
        lambda: shop.search(like="a"),
        lambda: shop.get("a"),
        lambda: shop.count(),
        lambda: shop.add([{"id": "c"}]),
        lambda: shop.info(),
    ):
        with pytest.raises(CollectionError, match="was closed; open it again"):
            ask()


def test_a_dry_run_says_why_the_model_cannot_be_had(nearkin, bert, notes, tmp_path):
    path = tmp_path / "c"
    with search.open(path) as shelf:
        ingest.text(shelf, notes, model=str(bert), options=ON_CPU)
    said = nearkin("ingest", "text", notes, "-c", path, "--model", tmp_path / "gone" / "b", "--dry-run")
    assert (said.code, "2 unchanged" in said.err) == (0, True)
    assert "what it would take cannot be said: no folder" in said.err


def test_a_dry_run_of_pictures_says_why_the_model_cannot_be_had(nearkin, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with search.open(tmp_path / "c") as shelf:
        shelf.add([{"id": "x"}], np.ones((1, 3)), space="image")
    said = nearkin(
        "ingest",
        "images",
        tmp_path / "a.png",
        "-c",
        tmp_path / "c",
        "--model",
        "torchvision:nope",
        "--dry-run",
    )
    assert said.code == 0
    assert "what it would take cannot be said: " in said.err
    assert "nope" in said.err


def test_by_like_the_plan_is_explained(shop):
    (hit,) = shop.search(like="a", explain=True)
    plan = hit.explain["plans"]["mine"]
    assert (plan["method"], plan["n_rows"], plan["n_allowed"]) == ("scan", 2, 1)
    assert hit.explain["scores"] == {"mine": 0.0}


def test_several_spaces_name_the_flag_too(nearkin, shop, tmp_path):
    shop.add([{"id": "a"}], np.ones((1, 2)), space="other")
    with pytest.raises(QueryError, match=r"name one \(space=…, --space\)"):
        shop.search(vector=[1, 0])


def test_context_in_a_pipe_is_not_padded(nearkin, bert, notes, tmp_path):
    with search.open(tmp_path / "c") as shelf:
        ingest.text(shelf, notes, model=str(bert), options=ON_CPU)
    said = nearkin("search", "the dog", "-c", tmp_path / "c", "--context", 1, "--device", "cpu")
    assert "\n  a dog sat\n\n" in said.out
    assert all(line == line.rstrip() for line in said.out.splitlines())


def test_info_lists_the_fields_that_are_there(shop):
    assert shop.info()["fields"] == ["by.whom", "by.whom.näme", "price"]
    shop.add([{"id": "b", "metadata": {"stock": 1 << 70}}])
    shop.delete("a")
    assert shop.info()["fields"] == ["stock"]


def test_a_folder_that_was_emptied_is_pruned(nearkin, bert, notes, tmp_path):
    path = tmp_path / "c"
    with search.open(path) as shelf:
        ingest.text(shelf, notes, model=str(bert), options=ON_CPU)
    for file in notes.iterdir():
        file.unlink()
    common = ("ingest", "text", notes, "-c", path, "--model", bert)
    assert "in this folder; name another" in nearkin(*common).err
    said = nearkin(*common, "--prune", "--dry-run")
    assert (said.code, "2 removed" in said.err) == (0, True)
    said = nearkin(*common, "--prune")
    assert (said.code, "2 removed" in said.err) == (0, True)
    with search.open(path, mode="r") as shelf:
        assert shelf.count() == 0
    (tmp_path / "other").mkdir()
    said = nearkin("ingest", "text", tmp_path / "other", "-c", path, "--model", bert, "--prune")
    assert (said.code, "in this folder; name another" in said.err) == (1, True)


def test_what_is_piped_in_is_closed(monkeypatch, tmp_path):
    data = b"".join(b'{"id": "%d", "text": "%s"}\n' % (n, b"the cat " * 20) for n in range(9000))
    assert len(data) > 2**20  # laid down in a file
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        source = texts.listed("-")
        from ingest.sources.load import text_source

        piped = text_source(source)
        assert next(iter(piped)).record.id == "0"
        file = piped._file
        del piped
        gc.collect()
        assert file.closed


def test_models_tells_of_words(nearkin):
    said = nearkin("models")
    assert "word:NAME" in said.out


def test_the_signs_that_fold_to_ascii_are_all_known():
    folding = {chr(code) for code in range(128, sys.maxunicode + 1) if chr(code).casefold().isascii()}
    assert set(_LIKE_ASCII) == folding


@pytest.mark.parametrize(
    ("options", "said"),
    [({"device": "gpu"}, "unknown device 'gpu'"), ({"precision": "fp8"}, "unknown precision 'fp8'")],
)
def test_words_that_name_no_device_or_precision_are_refused_at_once(
    options: dict[str, str], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        ingest.Options(**options)  # type: ignore[arg-type]
