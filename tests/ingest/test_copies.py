"""A collection that was imported or restored goes on where the first one stood: nothing is encoded again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ingest
import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from tests.contents import contents, spaces

IDS = [f"n{i}" for i in range(8)]
ROWS = np.random.default_rng(0).standard_normal((8, 6))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Passages, pictures by a model that was learned from them, and given vectors."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "texts").mkdir()
    (folder / "texts" / "boats.md").write_text("# Boats\n\nA red canoe on the lake.\n")
    (folder / "texts" / "bread.txt").write_text("How to bake bread with rye flour. " * 60)
    (folder / "photos").mkdir()
    coarse = np.random.default_rng(1).integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)
    for number, one in enumerate(coarse):
        Image.fromarray(one).resize((40, 36)).save(folder / "photos" / f"{number}.png")
    shop = search.open(folder / "shop")
    fill(shop, folder)
    return shop


def fill(shop: Collection, folder: Path) -> list[ingest.Report]:
    return [
        ingest.text(shop, folder / "texts"),
        ingest.images(shop, folder / "photos", model="patches"),
        ingest.vectors(shop, IDS, ROWS, metadata=[{"i": i} for i in range(8)]),
    ]


@pytest.mark.parametrize("way", ["backup", "parquet", "jsonl"])
def test_an_ingest_finds_nothing_to_do_and_answers_are_the_same(
    shop: Collection, tmp_path: Path, way: str
) -> None:
    if way == "backup":
        there = search.open(search.restore(shop.backup(tmp_path / "copy"), tmp_path / "there"))
    else:
        shop.export(tmp_path / f"x.{way}", vectors=True)
        there = search.open(tmp_path / "there")
        there.import_file(tmp_path / f"x.{way}")
    before = contents(shop)
    assert (contents(there), spaces(there)) == (before, spaces(shop))
    assert len(before["bread.txt"].vectors["text"]) > 1  # passages

    photo = shop.path.parent / "photos" / "3.png"
    for asked in ({"query": "canoe", "space": "text"}, {"image": photo}, {"like": "n3"}):
        mine, theirs = shop.search(**asked), there.search(**asked)  # type: ignore[call-overload]
        assert [hit.id for hit in mine] == [hit.id for hit in theirs]
        np.testing.assert_allclose([h.score for h in mine], [h.score for h in theirs], atol=1e-6)
    assert there.search(image=photo, k=1)[0].id == "3.png"

    for report in fill(there, shop.path.parent):
        assert (report.added, report.updated, report.removed) == (0, 0, 0)
        assert report.unchanged == report.read > 0
    assert contents(there) == before


# ---- the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    with search.open(tmp_path / "small") as small:
        small.add([{"id": id, "metadata": {"i": i}} for i, id in enumerate(IDS)], ROWS, space="v")
    return tmp_path / "small"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = outcome(app, [str(one) for one in arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_export_and_import(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "low.parquet", tmp_path / "high.jsonl"]
    for file, where, n in zip(files, ("i < 3", "i >= 3"), (3, 5), strict=True):
        code, out, err = run(capsys, "export", file, "-c", small, "--vectors", "--where", where, "--json")
        assert (code, json.loads(out), err) == (0, {"exported": n, "file": str(file)}, "")
    code, out, err = run(capsys, "import", *files, "-c", tmp_path / "there", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [
        {"file": str(files[0]), "records": 3, "added": 3, "updated": 0, "vectors": 3},
        {"file": str(files[1]), "records": 5, "added": 5, "updated": 0, "vectors": 5},
    ]
    with search.open(tmp_path / "there", "r") as there, search.open(small, "r") as first:
        assert contents(there) == contents(first)
    code, out, _ = run(capsys, "import", files[0], "-c", tmp_path / "there")
    assert (code, out) == (0, f"{files[0]}: 3 records, 0 added, 3 updated, 3 vectors\n")


def test_backup_and_restore(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup, there = tmp_path / "monday", tmp_path / "there"
    assert run(capsys, "backup", backup, "-c", small) == (0, f"copied to {backup}\n", "")
    code, out, _ = run(capsys, "restore", backup, "-c", there, "--json")
    assert (code, json.loads(out)) == (0, {"restored": str(there)})
    with search.open(there, "r") as restored, search.open(small, "r") as first:
        assert contents(restored) == contents(first)
    code, out, err = run(capsys, "restore", backup, "-c", there)
    assert (code, out) == (1, "")
    assert "exists already" in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("import", "absent.parquet"), "absent.parquet: there is no such file"),
        (("import", "bad.jsonl"), "bad.jsonl:2: it is not a JSON object"),
        (("import", "bad.parquet"), "bad.parquet: it is not a whole Parquet file"),
        (("restore", "absent"), "there is no backup at absent"),
    ],
)
def test_failures_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text('{"id": "a"}\nno\n')
    Path("bad.parquet").write_text("no")
    code, out, err = run(capsys, *arguments, "-c", "there")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1
    if arguments[-1] != "bad.jsonl":
        assert not Path("there").exists()
    else:  # found only when all of it is read
        assert search.open("there", "r").count() == 0
