"""Many inputs, some of them broken: all good ones come out, all broken ones are told, and memory stays flat."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ingest.sources.contract import Item
from ingest.sources.load import text_source
from tests.ingest import documents

# Counts what a source yields, and how much higher the memory of the process peaks after so many inputs than it did
# before: garbage in cycles makes it go up and down, but what grows with the inputs peaks ever higher.
COUNT = """
import json, sys
from pathlib import Path
import psutil
from ingest.sources.contract import Item
from ingest.sources.load import text_source

process = psutil.Process()
good = 0
reasons = {}
early = late = 0
for n, one in enumerate(text_source([Path(sys.argv[1])])):
    if isinstance(one, Item):
        good += 1
    else:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    if n % 50 == 0:
        now = process.memory_info().rss
        early, late = (max(early, now), late) if n < int(sys.argv[2]) else (early, max(late, now))
# Not getrusage's, which counts what the parent held when it was forked.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
most = int(peak.split()[1]) * 1024
print(json.dumps({"good": good, "reasons": reasons, "grown": late - early, "most": most}))
"""


def count(path: Path, half: int) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COUNT), str(path), str(half)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(done.stdout)


def rows(n: int) -> bytes:
    """Rows of jsonl, each hundredth broken in one of four ways."""
    broken = [b"{oops", b'{"id": %d}', b'["a list"]', b'{"id": %d, "text": NaN}']
    lines = []
    for number in range(n):
        if number % 100 == 99:
            line = broken[number // 100 % 4]
            lines.append(line % number if b"%d" in line else line)
        else:
            lines.append(
                b'{"id": %d, "text": "The text of row %d, about so long", "n": %d}' % (number, number, number)
            )
    return b"\n".join(lines) + b"\n"


@pytest.mark.quality
def test_a_hundred_thousand_rows(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(rows(100_000))
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(rows(100_000), mtime=0))
    for name in ("p.jsonl", "p.jsonl.gz"):
        counted = count(tmp_path / name, 50_000)
        assert counted["good"] == 99_000
        assert counted["reasons"] == {
            "not JSON: expecting property name enclosed in double quotes": 250,
            "no text in 'text'": 250,
            "not a JSON object": 250,
            "NaN is not JSON": 250,
        }
        assert counted["grown"] < 2 * 2**20


def mixed(folder: Path, n: int) -> int:
    """Files of twelve formats, each hundredth broken; how many are."""
    good = {
        ".txt": b"A text of some length. " * 50,
        ".md": b"# Head\n\nwords\n",
        ".rst": documents.RST,
        ".html": documents.HTML,
        ".pdf": documents.pdf("some words", "more words"),
        ".docx": documents.docx(),
        ".epub": documents.epub(),
        ".eml": documents.mail(),
        ".jsonl": b'{"text": "one row"}\n',
        ".json": b'[{"text": "one row"}]',
        ".csv": b"text\none row\n",
        ".txt.gz": gzip.compress(b"packed", mtime=0),
    }
    bad = {
        ".txt": b"\x89PNG\r\n\x1a\n",
        ".md": b"",
        ".rst": b"a\0b",
        ".html": b"<script>x</script>",
        ".pdf": good[".pdf"][:100],
        ".docx": good[".docx"][:100],
        ".epub": documents.epub(locked=True),
        ".eml": b"",
        ".jsonl": b"{oops\n",
        ".json": b'[{"text": ',
        ".csv": b"text\na,b\n",
        ".txt.gz": gzip.compress(b"packed" * 999, mtime=0)[:-9],
    }
    suffixes = list(good)
    n_broken = 0
    for number in range(n):
        suffix = suffixes[number % len(suffixes)]
        broken = number % 100 == 50 + number // 100 % 12
        n_broken += broken
        place = folder / f"{number // 500:02}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05}{suffix}").write_bytes((bad if broken else good)[suffix])
    return n_broken


def test_a_folder_of_mixed_files(tmp_path):
    n_broken = mixed(tmp_path, 300)
    found = list(text_source([tmp_path]))
    rejected = [one for one in found if not isinstance(one, Item)]
    assert len(found) == 300
    assert n_broken == 3
    assert len(rejected) == 3
    assert len({one.record.id for one in found if isinstance(one, Item)}) == 297


@pytest.mark.quality
def test_five_thousand_mixed_files(tmp_path):
    n_broken = mixed(tmp_path, 5_000)
    assert n_broken == 50
    counted = count(tmp_path, 2_500)
    assert counted["good"] == 4_950
    assert sum(counted["reasons"].values()) == 50
    assert all(counted["reasons"])
    assert counted["grown"] < 2 * 2**20


@pytest.mark.quality
@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.json"])
def test_a_line_of_two_gigabytes(tmp_path, name):
    before, begin, after = {
        "p.jsonl": (b'{"text": "a"}\n', b'{"text": "', b'\n{"text": "b"}\n'),
        "p.csv": (b"text\na\n", b"", b"\nb\n"),
        "p.json": (b'[{"text": "a"}, ', b'{"text": "', b'"}]'),
    }[name]
    with (tmp_path / name).open("wb") as file:
        file.write(before + begin)
        for _ in range(2048):
            file.write(b"x" * 2**20)
        file.write(after)
    counted = count(tmp_path / name, 0)
    assert counted["good"] == (1 if name == "p.json" else 2)
    what = "from here on a value" if name == "p.json" else "a line"
    assert list(counted["reasons"]) == [f"{what} of more than 64 MiB; split it"]
    assert counted["most"] < 600 * 2**20
