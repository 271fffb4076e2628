"""The demo: what it reads out of Python's own source, its pictures, its page, and the whole of it on a small part."""

from __future__ import annotations

import csv
import json
import re
import shlex
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import search
from ingest.cli.main import app
from ingest.demo import compiled, digits, page, stdlib, story
from ingest.demo.show import LIKED, QUESTIONS, Places, Sizes, show
from ingest.report import Progress, Report
from search.errors import CollectionError, NearkinError
from search.types import Hit

PACKAGES = "argparse csv fnmatch getopt glob json multiprocessing shelve sqlite3 string textwrap timeit"
SMALL = Sizes(packages=tuple(PACKAGES.split()), digits=300)

# ---- docstrings --------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of two modules and a package, with things that are not to be taken."""
    root = tmp_path / "library"
    files = {
        "plain.py": '''
            """What a plain module is for."""
            import shop.till
            from shop import shelf, unknown_name
            import missing.thing

            def add(a, b=1, /, *rest: int, key=None, **more) -> int:
                """Add them up."""

            async def wait(seconds):
                """Wait a while."""

            def silent():
                pass

            def _private():
                """Not to be seen."""

            class Box:
                """Holds things."""
                def __init__(self, size, *, lid=True):
                    """Not this."""
                def open(self):
                    """Methods are not taken from here."""

            class Empty(Box, dict):
                """Bases are told where nothing is said of the making."""

            class Made:
                def __init__(self):
                    """Told where it is made."""

            try:
                def either():
                    """The first one stands."""
            except ImportError:
                def either():
                    """The other one."""

            if True:
                def under_if():
                    """Seen all the same."""
        ''',
        "csv.py": '''
            class Rows:
                """Rows of a file."""
                def read(self, n=1): "Read some."
                @staticmethod
                def sniff(sample): "Guess."
                @classmethod
                def of(cls, path): "Make them."
                @property
                def width(self): "How wide."
                def _hidden(self): "No."
        ''',
        "shop/__init__.py": "#!/bin/sh\n# Copyright by us.\n#\n# A shop to\n# buy from.\n\nfrom . import till\n",
        "shop/till.py": "from .shelf import Shelf\nfrom .. import plain\nimport shop.till\n",
        "shop/shelf.py": "def later():\n    import csv\n\nclass Shelf: pass\n",
        "shop/_inner.py": '"""Private."""',
        "test/anything.py": '"""Tests are left out."""',
        "_hidden/module.py": '"""Private."""',
        "broken.py": "def (:",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.split("\n")
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path.write_text("\n".join(line[indent:] for line in lines))
    return root


def docs_of(root: Path) -> dict[str, stdlib.Doc]:
    found = [doc for module in stdlib.modules(root) for doc in stdlib.documents(module)]
    assert len({doc.id for doc in found}) == len(found)
    return {doc.id: doc for doc in found}


def test_public_modules_are_found_and_others_are_not(library):
    assert [module.name for module in stdlib.modules(library)] == [
        "csv",
        "plain",
        "shop",
        "shop.shelf",
        "shop.till",
    ]
    assert [module.name for module in stdlib.modules(library, ["shop"])] == [
        "shop",
        "shop.shelf",
        "shop.till",
    ]


def test_kinds_signatures_and_docstrings(library):
    docs = docs_of(library)
    told = {id: (doc.kind, doc.signature, doc.docstring) for id, doc in docs.items() if doc.module == "plain"}
    assert told == {
        "plain": ("module", "module plain", "What a plain module is for."),
        "plain.add": ("function", "plain.add(a, b=1, /, *rest: int, key=None, **more)", "Add them up."),
        "plain.wait": ("function", "async plain.wait(seconds)", "Wait a while."),
        "plain.Box": ("class", "class plain.Box(size, *, lid=True)", "Holds things."),
        "plain.Empty": (
            "class",
            "class plain.Empty(Box, dict)",
            "Bases are told where nothing is said of the making.",
        ),
        "plain.Made": ("class", "class plain.Made()", "Told where it is made."),
        "plain.either": ("function", "plain.either()", "The first one stands."),
        "plain.under_if": ("function", "plain.under_if()", "Seen all the same."),
    }


def test_methods_are_taken_where_they_are_looked_for(library):
    methods = {id: doc.signature for id, doc in docs_of(library).items() if doc.kind == "method"}
    assert methods == {
        "csv.Rows.read": "csv.Rows.read(n=1)",
        "csv.Rows.sniff": "csv.Rows.sniff(sample)",
        "csv.Rows.of": "csv.Rows.of(path)",
        "csv.Rows.width": "csv.Rows.width",
    }


def test_a_module_without_a_docstring_is_told_by_its_comment_or_its_names(library):
    docs = docs_of(library)
    assert docs["shop"].docstring == "A shop to\nbuy from."
    assert docs["shop.shelf"].docstring == "Defines later, Shelf."
    assert docs["shop.till"].docstring == "A module."
    (till,) = [module for module in stdlib.modules(library) if module.name == "shop.till"]
    assert next(stdlib.documents(till, "Written in C.")).docstring == "Written in C."


def test_imports_between_modules(library):
    modules = stdlib.modules(library)
    known = {module.name for module in modules}
    assert {module.name: stdlib.imports(module, known) for module in modules} == {
        "csv": set(),
        "plain": {"shop", "shop.shelf", "shop.till"},
        "shop": {"shop.till"},
        "shop.shelf": {"csv"},
        "shop.till": {"shop.shelf", "plain"},
    }


def test_files_hold_each_id_once_and_each_edge(tmp_path):
    first = stdlib.Doc("a.b", "function", "a", "a.b(c)", "Does “it”.")
    again = stdlib.Doc("a.b", "function", "a", "a.b()", "Another.")
    assert stdlib.write_documents(tmp_path / "docs.jsonl", [first, again]) == 1
    assert [json.loads(line) for line in (tmp_path / "docs.jsonl").read_text("utf-8").splitlines()] == [
        {
            "id": "a.b",
            "text": "a.b\n\nDoes “it”.",
            "kind": "function",
            "module": "a",
            "signature": "a.b(c)",
        }
    ]
    assert stdlib.write_imports(tmp_path / "imports.csv", {"b": ["a"], "a": {"c", "b"}, "c": []}) == 3
    with (tmp_path / "imports.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["source", "target"], ["a", "b"], ["a", "c"], ["b", "a"]]


def test_modules_in_c_speak_for_themselves():
    found = compiled.compiled(["math", "builtins", "time", "nothing"])
    assert sorted(found) == ["builtins", "math", "time"]
    docs = {doc.id: doc for name, module in found.items() for doc in compiled.documents(name, module)}
    assert docs["math"].kind == "module"
    assert docs["math"].docstring == compiled.about(found["math"])
    assert (docs["math.gcd"].kind, docs["math.gcd"].module) == ("function", "math")
    assert docs["math.comb"].signature == "math.comb(n, k, /)"
    assert docs["builtins.str.split"].signature == "builtins.str.split(sep=None, maxsplit=-1)"
    assert docs["builtins.str.split"].kind == "method"
    # An address in memory would make a record look changed at each run.
    assert not [doc.id for doc in docs.values() if " at 0x" in doc.signature + doc.docstring]


# ---- pictures ----------------------------------------------------------------------------------------------


def test_digits_are_the_same_when_read_back(tmp_path):
    pictures = digits.digits(60)
    paths = digits.write_digits(tmp_path, pictures)
    assert [path.parent.name for path in paths] == [str(label) for label in pictures.labels]
    np.testing.assert_array_equal(np.stack([digits.read_digit(path) for path in paths]), pictures.pixels)
    assert (pictures.pixels.min(), pictures.pixels.max()) == (0, digits.SHADES)

    written = [path.stat().st_mtime_ns for path in paths]
    digits.write_digits(tmp_path, pictures)
    assert [path.stat().st_mtime_ns for path in paths] == written


def test_raw_pixels_agree_as_often_as_is_known():
    assert digits.agreement_of_pixels(digits.digits()) == pytest.approx(0.988, abs=0.0005)


def test_agreement_of_pixels_by_hand():
    pixels = np.zeros((4, 8, 8), np.uint8)
    for row, shade in enumerate((0, 1, 3, 16)):
        pixels[row] = shade
    # 0 and 1 are each other's nearest; the nearest to 3 is 1, to 16 is 3.
    assert digits.agreement_of_pixels(digits.Pictures(pixels, np.array([5, 5, 5, 7]))) == 0.75


# ---- page --------------------------------------------------------------------------------------------------


class Loads(HTMLParser):
    """What a page would load, and all of its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def told(folder: Path) -> story.Story:
    picture = digits.write_digits(folder, digits.digits(1))[0]
    bad = Hit("<b>id</b>.x", 0.5, "text", "<script>alert('1')</script> http://x.org/", None, {"kind": "<i>"})
    report = Report(
        "c", "text", "a <model>", 3, 2, 0, 1, vectors=2, seconds=1.0, stages={"encode": 0.5, "index": 0}
    )
    return story.Story(
        folder=folder,
        python="3.<u>",
        stages=(story.Stage("Docstrings", report, 4.0),),
        answers=(story.Answer('"quoted" & more', "nearkin search", (bad,)),),
        digits=(story.Neighbours(picture, "0", ((picture, "0", 0.9), (picture, "8", 0.8))),),
        figures=(story.Figure("of them", "99.0%", "more"),),
        advice=(("Ask", 'nearkin search "x < y"'),),
        seconds=5.0,
    )


def test_the_page_escapes_what_records_hold_and_loads_nothing(tmp_path):
    html = page.render(told(tmp_path))
    seen = Loads()
    seen.feed(html)
    assert not seen.tags & {"script", "b", "i", "u", "iframe"} - {"b", "i"}
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;" in html
    assert "&lt;b&gt;id&lt;/b&gt;.<wbr>x" in html
    assert "<small>&lt;i&gt;</small>" in html
    assert "3.&lt;u&gt;" in html
    assert len(seen.loaded) == 4  # the icon and three pictures
    assert all(value.startswith("data:") for value in seen.loaded)
    assert not re.search(r"url\(|@import", html)


def test_the_page_marks_a_neighbour_that_shows_something_else(tmp_path):
    html = page.render(told(tmp_path))
    assert html.count('<figure class="wrong">') == 1
    assert re.search(r'<figure class="wrong">.*>8</figure>', html)
    row = re.search(r"<tr><td>Docstrings</td>.*?</tr>", html, re.DOTALL)
    assert row is not None
    assert re.findall(r'"numbers">(.*?)</td>', row[0]) == ["2", "1", "2", "4.0", "0"]
    assert "encode&nbsp;4" in html


@pytest.mark.parametrize(
    ("id", "text", "said"),
    [
        ("glob.glob", "glob.glob\n\nReturn a\n  list.\n\nMore.", "Return a list."),
        ("itertools.chain", "itertools.chain\n\nchain(*them) --> it\n\nChains.", "Chains."),
        ("json", "json", "json"),
        ("codecs", "codecs\n\ncodecs -- a registry.\n\nMore", "codecs -- a registry."),
        ("time.sleep", "time.sleep\n\nsleep(s)\nWaits.", "Waits."),
        ("x", "x\n\n" + "ab " * 100, ("ab " * 50)[:149].rstrip() + "…"),
    ],
)
def test_a_summary_is_the_first_paragraph_that_says_something(id, text, said):
    assert story.summary(Hit(id, 1.0, "text", text, None, {})) == said


def test_rows_to_show_hold_wrong_ones_and_one_of_each_label():
    labels = ["1", "0", "1", "0", "2"]
    assert story.hand_picked([2, 3], labels, 4, 1) == [1, 0, 2, 4]
    assert story.hand_picked([], labels, 2, 1) == [1, 0]


# ---- all of it ---------------------------------------------------------------------------------------------


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(CollectionError, match=r"holds other files \(letters.txt\); name an empty"):
        show(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize("below", ["", "under/it"])
def test_a_file_is_no_folder(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NearkinError) as failed:
        show(tmp_path / "file" / below, SMALL)
    assert "\n" not in str(failed.value)
    assert "; name another" in str(failed.value)


class Watched(Progress):
    """Remembers which stages began."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, stage, total):
        self.begun.append(stage)


def test_the_whole_demo_and_once_more(tmp_path, capsys):
    places = Places(tmp_path / "a demo")
    watched = Watched()

    @contextmanager
    def bars():
        yield watched

    first = show(places.root, SMALL, bars=bars)
    _check_counts(first, places)
    assert watched.begun == ["records", "learning nodes", "learning patches", "records"]
    _check_answers(first)
    _check_digits(first, places)
    html = places.report.read_text("utf-8")
    assert all(hit.id.rpartition(".")[2] in html for answer in first.answers for hit in answer.hits)
    said = capsys.readouterr().out
    assert "argparse" in said
    assert str(places.report) in said

    places.docs.write_bytes(places.docs.read_bytes())
    for path in places.digits.rglob("*.png"):
        path.unlink()
    again = show(places.root, SMALL)
    for stage, before in zip(again.stages, first.stages, strict=True):
        report = stage.report
        assert (report.added, report.updated, report.removed, report.rejected, report.vectors) == (
            0,
            0,
            0,
            0,
            0,
        )
        assert report.unchanged == before.report.written
    assert not again.changed_something
    assert "nothing was encoded or trained again" in capsys.readouterr().out
    assert [answer.hits for answer in again.answers] == [answer.hits for answer in first.answers]
    assert again.digits == first.digits

    _check_commands(first)


def _check_counts(first: story.Story, places: Places) -> None:
    ids = [json.loads(line)["id"] for line in places.docs.read_text("utf-8").splitlines()]
    with places.imports.open(newline="") as file:
        nodes = {row[end] for row in csv.DictReader(file) for end in ("source", "target")}
    assert nodes <= set(ids)
    text, graph, pictures = (stage.report for stage in first.stages)
    assert (text.added, text.rejected) == (len(ids), 0)
    assert (graph.added, graph.updated, graph.vectors) == (0, len(nodes), len(nodes))
    assert (pictures.added, pictures.vectors) == (300, 300)
    with search.open(places.collection, "r") as collection:
        assert collection.count() == len(ids) + 300
        assert collection.count("kind = 'module'") == _kinds(places).count("module")


def _kinds(places: Places) -> list[str]:
    return [json.loads(line)["kind"] for line in places.docs.read_text("utf-8").splitlines()]


def _check_answers(first: story.Story) -> None:
    best = {answer.question: [hit.id for hit in answer.hits] for answer in first.answers}
    assert list(best)[: len(QUESTIONS)] == list(QUESTIONS)
    assert all(len(ids) == 5 for ids in best.values())
    assert best["parse command line arguments"][0] == "argparse.ArgumentParser"
    assert best["run a function in another process"][0].startswith("multiprocessing.")
    assert best["read rows from a spreadsheet file"][0] == "csv.reader"
    assert best["find files by a pattern"][0] in ("glob.glob", "fnmatch.fnmatch", "pathlib.Path.glob")
    assert best["store python objects on disk between runs"][0] == "shelve"
    assert best["measure how long a piece of code takes"][0] == "timeit"
    related = set(best["modules related to json"][:4])
    assert len(related & {"json.encoder", "json.decoder", "json.scanner", "json.tool"}) >= 3
    assert "sqlite3.dbapi2" in best["modules for someone who likes csv and sqlite3"][:3]
    assert not set(LIKED) & set(best["modules for someone who likes csv and sqlite3"])


def _check_digits(first: story.Story, places: Places) -> None:
    """What the demo says of its digits, against plain numpy."""
    file = places.root.parent / "digits.jsonl"
    with search.open(places.collection, "r") as collection:
        collection.export(file, vectors=True, where="kind = 'image'")
    stored = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    labels = np.array([one["metadata"]["folder"] for one in stored])
    rows = np.array([one["vectors"]["digits"][0] for one in stored], dtype=np.float64)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    right = float(np.mean(labels[scores.argmax(axis=1)] == labels))
    assert right > 0.9
    figures = {figure.what: figure for figure in first.figures}
    agreement = figures["of the digits have a first neighbour that shows the same digit"]
    assert agreement.value == f"{right:.1%}"
    assert f"{digits.agreement_of_pixels(digits.digits(300)):.1%}" in agreement.note
    assert figures["recall@10 of the index"].value == "1 (exact)"
    at = {one["id"]: number for number, one in enumerate(stored)}
    assert len(first.digits) == SMALL.rows
    for one in first.digits:
        number = at[f"{one.label}/{one.picture.name}"]
        found = [scores[number, at[f"{label}/{path.name}"]] for path, label, _ in one.near]
        np.testing.assert_allclose(found, np.sort(scores[number])[::-1][: SMALL.near], atol=1e-5)
        np.testing.assert_allclose([score for _, _, score in one.near], found, atol=1e-5)


def _check_commands(first: story.Story) -> None:
    """The commands that are shown do what is said of them; those in words would each load the model anew."""
    runner = CliRunner()
    for answer in first.answers[-2:]:
        done = runner.invoke(app, [*shlex.split(answer.command)[1:], "--json"])
        assert done.exit_code == 0, done.output
        assert [hit["id"] for hit in json.loads(done.stdout)] == [hit.id for hit in answer.hits]
    advice = [shlex.split(command)[1:] for _, command in first.advice]
    (with_picture,) = [arguments for arguments in advice if "--image" in arguments]
    done = runner.invoke(app, [*with_picture, "--json"])
    assert done.exit_code == 0, done.output
    best = json.loads(done.stdout)[0]
    assert best["uri"] == str(Path(with_picture[2]).absolute())
    assert best["score"] == pytest.approx(1.0, abs=1e-5)
