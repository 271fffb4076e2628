"""How near `ingest --dry-run` comes to the run that it forecasts: seconds, memory and disk, forecast over measured.

    python -m benchmarks.forecast [--model NAME] [--scale 1.0] [--turns 3]

Made corpora, from the words of Python's own documentation: short lines, long documents, and both mixed with each text
three times. Each dry run and each run is a process of its own, as people start them, one right after the other, in
turns; the medians are compared.

Other work on the machine slows the one or the other, so seconds are compared on a quiet machine alone. With `--cpu`
both are counted in seconds of the processor: the forecast's clock is then that of the process, and nothing is taken to
go on side by side. That tells whether the work is foreseen, not how well its stages overlap.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.words import sentences

CHILD = """
import json, sys, time, types
from ingest.cli.main import app
from ingest.workers.memory import peak_bytes
from search.cli.main import outcome
if sys.argv[2] == "cpu":
    import ingest.forecast, ingest.pipeline
    clock = types.SimpleNamespace(perf_counter=time.process_time)
    ingest.forecast.time = ingest.pipeline.time = clock
    ingest.forecast._processors = ingest.forecast._threads = lambda: 1
began = time.process_time()
code = outcome(app, sys.argv[3:])
told = {"code": code, "cpu": time.process_time() - began, "memory": peak_bytes()}
open(sys.argv[1], "w").write(json.dumps(told))
"""


def corpora(scale: float) -> dict[str, list[str]]:
    """The texts of each corpus."""
    chosen, lines = random.Random(0), sentences()

    def text(n_sentences: int) -> str:
        start = chosen.randrange(len(lines) - n_sentences)
        return " ".join(lines[start : start + n_sentences])

    count = lambda n: max(50, round(n * scale))  # noqa: E731
    short = [f"{text(1)} {n}" for n in range(count(4000))]
    long = [f"{text(60)} {n}" for n in range(count(120))]
    mixed = [f"{text(chosen.choice((1, 1, 2, 5, 20)))} {n}" for n in range(count(500))]
    return {"short lines": short, "long documents": long, "mixed, each three times": mixed * 3}


def disk(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def run(told: Path, clock: str, *arguments: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of a command in a process of its own, and what it took."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(told), clock, *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )
    took = json.loads(told.read_text())
    if took["code"]:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout), took


def main() -> None:
    """Measure and print one line a corpus."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="count seconds of the processor")
    options = parser.parse_args()
    clock = "cpu" if options.cpu else "wall"
    print(f"forecast over measured (1 is right); seconds are those of the {clock}")
    print(
        f"  {'':26}{'passages':>9}{'seconds':>9}{'memory':>8}{'disk':>7}{'run, s':>9}{'run, MB':>9}{'MB disk':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        for name, texts in corpora(options.scale).items():
            source = room / "texts.jsonl"
            source.write_text(
                "".join(json.dumps({"id": f"t{n}", "text": text}) + "\n" for n, text in enumerate(texts))
            )
            ratios: dict[str, list[float]] = {what: [] for what in ("seconds", "memory", "disk", "s", "MB")}
            for turn in range(options.turns):
                shelf = room / f"{len(texts)}-{turn}"
                command = ("ingest", "text", source, "-c", shelf, "--model", options.model)
                told, _ = run(room / "told", clock, *command, "--dry-run")
                done, took = run(room / "told", clock, *command)
                guess = told["forecast"]
                assert done["vectors"] == guess["passages"]
                seconds = took["cpu"] if options.cpu else done["seconds"]
                ratios["seconds"].append(guess["seconds"] / seconds)
                ratios["memory"].append(guess["memory_bytes"] / took["memory"])
                ratios["disk"].append(guess["disk_bytes"] / disk(shelf))
                ratios["s"].append(seconds)
                ratios["MB"].append(took["memory"] / 1e6)
            middle = {what: median(some) for what, some in ratios.items()}
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios["seconds"])
            print(
                f"  {name:26}{guess['passages']:9,}{middle['seconds']:9.2f}{middle['memory']:8.2f}"
                f"{middle['disk']:7.2f}{middle['s']:9.1f}{middle['MB']:9.0f}{disk(shelf) / 1e6:9.1f}  turns: {each}",
                flush=True,
            )


if __name__ == "__main__":
    main()
