"""The demo: takes in what every Python installation has, asks, measures, and tells what came of it."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import search
from ingest import verbs
from ingest.demo import compiled, digits, page, stdlib, tell
from ingest.demo.story import Answer, Figure, Neighbours, Stage, Story, hand_picked
from ingest.learn.nodes.load import NodeSettings
from ingest.report import QUIET, Options, Progress, Report
from search.collection import Collection
from search.errors import CollectionError, SourceError

Bars: TypeAlias = Callable[[], AbstractContextManager[Progress]]

QUESTIONS = (
    "parse command line arguments",
    "run a function in another process",
    "read rows from a spreadsheet file",
    "find files by a pattern",
    "store python objects on disk between runs",
)
FILTERED = "measure how long a piece of code takes"
ONLY_MODULES = "kind = 'module'"
RELATED = "json"
LIKED = ("csv", "sqlite3")
_K = 5
_WALKS = 40  # from each module, four times the usual: with so few nodes they cost a second or two


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much the demo takes in: top-level `packages` of the standard library, digits; None takes all.

    `rows` digits are shown with their `near` nearest neighbours, `rows_wrong` of them with a wrong first one.
    """

    packages: tuple[str, ...] | None = None
    digits: int | None = None
    rows: int = 12
    rows_wrong: int = 2
    near: int = 8


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything stands in the demo's folder."""

    root: Path

    @property
    def collection(self) -> Path:
        """The collection."""
        return self.root / "collection"

    @property
    def sources(self) -> Path:
        """What it is made from."""
        return self.root / "sources"

    @property
    def docs(self) -> Path:
        """Docstrings, one record a line."""
        return self.sources / "docstrings.jsonl"

    @property
    def imports(self) -> Path:
        """Which module imports which."""
        return self.sources / "imports.csv"

    @property
    def digits(self) -> Path:
        """A folder of pictures for each digit."""
        return self.sources / "digits"

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "report.html"


def show(folder: Path, sizes: Sizes = Sizes(), *, bars: Bars = lambda: nullcontext(QUIET)) -> Story:
    """Do it all in `folder`, print what came of it, and leave a report there.

    Args:
        folder: an empty or a new one, or that of an earlier run, which is then only brought up to date.
        sizes: how much to take in.
        bars: makes the progress that each ingest is told to.

    Raises:
        CollectionError: the folder holds other files, or cannot be written.
        SourceError: this Python came without the source of its library.
    """
    started = time.perf_counter()
    places = Places(folder.expanduser())
    _make(places)
    tell.begin(places.root)
    pictures = _write_sources(places, sizes)
    with search.open(places.collection) as collection:
        stages = _take_in(collection, places, bars)
        answers = _ask(collection, places)
        rows, agreement = _neighbours(collection, places, sizes)
        figures = (*_agreement(agreement, pictures), *_recall(collection), _speed(collection))
    story = Story(
        folder=places.root,
        python=platform.python_version(),
        stages=stages,
        answers=answers,
        digits=rows,
        figures=figures,
        advice=_advice(places),
        seconds=time.perf_counter() - started,
    )
    page.write(places.report, story)
    tell.all_of(story, places.report)
    return story


def _make(places: Places) -> None:
    root = places.root
    ours = {places.collection.name, places.sources.name, places.report.name}
    try:
        if root.exists() and not root.is_dir():
            raise CollectionError(f"{root} is a file, not a folder; name another place: nearkin demo DIR")
        others = [path.name for path in root.iterdir() if path.name[0] != "."] if root.exists() else []
        if not ours.issuperset(others):
            other = min(set(others) - ours)
            raise CollectionError(
                f"{root} holds other files ({other}); name an empty or a new folder: nearkin demo DIR"
            )
        places.digits.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(root, error) from None


def _unwritable(root: Path, error: OSError) -> CollectionError:
    return CollectionError(
        f"{error.filename or root} cannot be written ({error.strerror}); name another folder: nearkin demo DIR"
    )


def _write_sources(places: Places, sizes: Sizes) -> digits.Pictures:
    """Write the files that are then taken in like anyone's."""
    sources = stdlib.modules(stdlib.source_root(), sizes.packages)
    if not sources:
        raise SourceError(
            f"this Python has no source of its library at {stdlib.source_root()}; run the demo with one that has"
        )
    in_c = compiled.compiled(sizes.packages)
    known = {module.name for module in sources} | set(in_c)
    docs = [
        doc for module in sources for doc in stdlib.documents(module, compiled.about(in_c.get(module.name)))
    ]
    docs += [doc for name, module in in_c.items() for doc in compiled.documents(name, module)]
    pictures = digits.digits(sizes.digits)
    try:
        stdlib.write_documents(places.docs, docs)
        edges = {module.name: stdlib.imports(module, known) for module in sources}
        stdlib.write_imports(places.imports, edges)
        digits.write_digits(places.digits, pictures)
    except OSError as error:
        raise _unwritable(places.root, error) from None
    return pictures


def _take_in(collection: Collection, places: Places, bars: Bars) -> tuple[Stage, ...]:
    """Fill the three spaces, or bring them up to date."""
    return (
        _stage(
            "Docstrings",
            bars,
            lambda options: verbs.text(collection, places.docs, prune=True, options=options),
        ),
        _stage(
            "Imports",
            bars,
            lambda options: verbs.graph(
                collection,
                places.imports,
                settings=NodeSettings(walks=_WALKS),
                edges=verbs.EdgeFormat(directed=False),
                prune=True,
                options=options,
            ),
        ),
        _stage(
            "Digits",
            bars,
            lambda options: verbs.images(
                collection, places.digits, model="patches", space="digits", prune=True, options=options
            ),
        ),
    )


def _stage(title: str, bars: Bars, run: Callable[[Options], Report]) -> Stage:
    tell.stage_begins(title)
    started = time.perf_counter()
    with bars() as progress:
        report = run(Options(progress=progress))
    stage = Stage(title, report, time.perf_counter() - started)
    tell.stage_done(stage)
    return stage


def _ask(collection: Collection, places: Places) -> tuple[Answer, ...]:
    """The questions a Python programmer would put."""
    answers = _asked(collection, places)
    wanted = [hit.id for answer in answers for hit in answer.hits]
    whole = {record.id: record.text for record in collection.get(wanted) if record is not None}
    # A passage from the middle of a docstring may be what matched, but its beginning says what the thing is.
    return tuple(
        replace(answer, hits=tuple(replace(hit, text=whole[hit.id]) for hit in answer.hits))
        for answer in answers
    )


def _asked(collection: Collection, places: Places) -> list[Answer]:
    where = shlex.quote(str(places.collection))
    found = collection.search(QUESTIONS, k=_K, space="text")
    answers = [
        Answer(question, f'{_program()} search "{question}" -c {where} -k {_K}', tuple(hits))
        for question, hits in zip(QUESTIONS, found, strict=True)
    ]
    answers.append(
        Answer(
            FILTERED,
            f'{_program()} search "{FILTERED}" -c {where} -k {_K} --where "{ONLY_MODULES}"',
            tuple(collection.search(FILTERED, k=_K, space="text", where=ONLY_MODULES)),
            "among the modules only",
        )
    )
    answers.append(
        Answer(
            f"modules related to {RELATED}",
            f"{_program()} search --like {RELATED} --space graph -c {where} -k {_K}",
            tuple(collection.search(like=RELATED, space="graph", k=_K)),
            "by who imports whom, learned by node2vec",
        )
    )
    likes = " ".join(f"--like {id}" for id in LIKED)
    answers.append(
        Answer(
            f"modules for someone who likes {' and '.join(LIKED)}",
            f"{_program()} recommend {likes} --space text=2 --space graph -c {where} -k {_K} "
            f'--where "{ONLY_MODULES}"',
            tuple(
                collection.recommend(likes=LIKED, k=_K, spaces={"text": 2, "graph": 1}, where=ONLY_MODULES)
            ),
            "by docstrings, which count double, and by imports",
        )
    )
    return answers


def _neighbours(collection: Collection, places: Places, sizes: Sizes) -> tuple[tuple[Neighbours, ...], float]:
    """Some digits with their nearest neighbours, and how often the first of them shows the same digit."""
    ids, labels, matrix = _stored_digits(collection)
    answers: Any = collection.search(
        vector=matrix, k=sizes.near + 1, space="digits"
    )  # a batch: lists of hits
    found: list[list[search.Hit]] = [
        [hit for hit in hits if hit.id != id][: sizes.near]  # a picture is its own nearest
        for id, hits in zip(ids, answers, strict=True)
    ]
    right = [hits[0].metadata["folder"] == label for hits, label in zip(found, labels, strict=True)]
    wrong = [row for row, is_right in enumerate(right) if not is_right]
    rows = tuple(
        Neighbours(
            places.digits / ids[row],
            labels[row],
            tuple((places.digits / hit.id, str(hit.metadata["folder"]), hit.score) for hit in found[row]),
        )
        for row in hand_picked(wrong, labels, sizes.rows, sizes.rows_wrong)
    )
    return rows, sum(right) / len(right)


def _stored_digits(collection: Collection) -> tuple[list[str], list[str], Any]:
    """Ids, labels and vectors (n, dim) of the digits, as the collection holds them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.jsonl"
        collection.export(file, vectors=True, where="kind = 'image'")
        with file.open(encoding="utf-8") as lines:
            stored = [json.loads(line) for line in lines]
    matrix = np.array([one["vectors"]["digits"][0] for one in stored], dtype=np.float32)
    return [one["id"] for one in stored], [one["metadata"]["folder"] for one in stored], matrix


def _agreement(learned: float, pictures: digits.Pictures) -> tuple[Figure, ...]:
    raw = digits.agreement_of_pixels(pictures)
    return (
        Figure(
            "of the digits have a first neighbour that shows the same digit",
            f"{learned:.1%}",
            f"each of the {len(pictures.labels):,} against all others; by raw pixels it is {raw:.1%}",
        ),
    )


def _recall(collection: Collection) -> tuple[Figure, ...]:
    """The recall of the indexes, as `nearkin info` has it."""
    spaces: Any = collection.info()["spaces"]
    told = [
        f"{space['name']} {'exact' if space['index']['kind'] == 'flat' else space['index']['kind']}"
        for space in spaces
    ]
    least = min(space["index"]["recall"] for space in spaces)
    exact = all(space["index"]["kind"] == "flat" for space in spaces)
    note = f"every vector is looked at: {', '.join(told)}" if exact else f"the least of {', '.join(told)}"
    return (Figure("recall@10 of the index", "1 (exact)" if exact else f"{least:.3f}", note),)


def _speed(collection: Collection) -> Figure:
    """How long a question takes when the model is loaded, the middle one of the questions."""
    hits = [collection.search(question, k=_K, space="text", explain=True)[0] for question in QUESTIONS]
    told = [hit.explain for hit in hits if hit.explain is not None]
    encoding, searching = (
        float(np.median([float(str(one[name])) for one in told])) for name in ("encode_ms", "search_ms")
    )
    return Figure(
        "to answer a question in words",
        f"{encoding + searching:.0f} ms",
        f"{encoding:.1f} ms to turn it into a vector, {searching:.1f} ms to search {collection.count():,} records",
    )


def _advice(places: Places) -> tuple[tuple[str, str], ...]:
    """Commands that can be given as they stand."""
    where = shlex.quote(str(places.collection))
    program = _program()
    picture = min(places.digits.rglob("*.png"))
    return (
        ("Ask your own question", f'{program} search "open a zip archive" -c {where}'),
        (
            "Ask among the functions of one module",
            f'{program} search "join two paths" -c {where} --where "module = \'pathlib\'"',
        ),
        ("Ask with a picture", f"{program} search --image {shlex.quote(str(picture))} -c {where}"),
        ("See what the collection holds", f"{program} info -c {where}"),
        ("Take in your own notes", f"{program} ingest text NOTES/ -c my-notes"),
    )


def _program() -> str:
    """How the command was called, if it is not to be found by its name alone."""
    given = Path(sys.argv[0])
    here = given.stem == "nearkin" and shutil.which("nearkin") is None
    return shlex.quote(str(given)) if here else "nearkin"
