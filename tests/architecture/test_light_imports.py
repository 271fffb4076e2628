"""Asking a collection for what is stored never loads a neural network's library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import search
from search.types import EncoderSpec, Modality, Record

HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "sentence_transformers",
    "timm",
    "sklearn",
    "numba",
    "ray",
    "pyarrow",
)

TEMPLATE = """
import sys
import search
{code}
loaded = sorted(set({heavy!r}) & set(sys.modules))
assert not loaded, loaded
assert "ingest" not in sys.modules
print("light")
"""


def runs_light(code: str, *arguments: object) -> None:
    script = TEMPLATE.format(code=code, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip().splitlines()[-1:], done.returncode) == (["light"], 0), done.stderr


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("light") / "c"
    with search.open(path) as c:
        with c.writing() as writer:  # a space of a text model, as an ingest run would leave it
            spec = EncoderSpec("text", "all-MiniLM-L6-v2", Modality.TEXT, 2, ("text",))
            space = writer.space("text", spec)
            writer.put([Record("a"), Record("b")], [[1.0, 0.0], [0.0, 1.0]], space)  # type: ignore[arg-type]
        c.add([{"id": "a"}, {"id": "b"}], [[1, 0, 0], [1, 1, 0]], space="graph")
    return path


@pytest.mark.parametrize(
    "code",
    [
        "",
        "print(search.open(sys.argv[1], mode='r').info()['records'])",
        "assert [h.id for h in search.open(sys.argv[1], mode='r').recommend('a')] == ['b']",
        "assert search.open(sys.argv[1], mode='r').search(like='a', space='text')[0].id == 'b'",
        "assert search.open(sys.argv[1], mode='r').search(vector=[1, 0])[0].id == 'a'",
        "c = search.open(sys.argv[1]); c.add([{'id': 'c'}], [[0, 0, 1]], space='graph'); c.delete('c')",
        "c = search.open(sys.argv[1]); c.check(); c.count(); c.get('a'); c.compact(); c.index()",
        """
p = sys.argv[1]
c = search.open(p)
c.export(p + '.jsonl', vectors=True)
assert search.restore(c.backup(p + '-1'), p + '-2').is_dir()
assert search.open(p + '-3').import_file(p + '.jsonl')['added'] == c.count()
""",
    ],
    ids=["import", "info", "recommend", "like", "vector", "add", "upkeep", "copies"],
)
def test_stored_vectors_need_no_models(path: Path, code: str) -> None:
    runs_light(code, path)


def test_help_loads_no_library_of_numbers() -> None:
    code = """
import sys
import ingest.cli.main
loaded = sorted({"numpy", "faiss", "sqlalchemy", "torch", "pandas", "starlette", "uvicorn"} & set(sys.modules))
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
