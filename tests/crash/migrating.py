"""Changes of model that are killed: a process that forks a child for each, which dies at a named step.

    python -m tests.crash.migrating

On each line of its standard input stands a JSON object (`path`, `what`, `step`, `occurrence`); on its standard output
how the child ended (minus the signal that killed it) and how often it reached each step, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import ingest
import search
from ingest.verbs import refilling
from search import failpoints
from search.encoders import load
from search.failpoints import Step
from tests.models_by_letters import named, of_spec

N = 20
AT_ONCE = 6  # records of one commit


def words(number: int) -> str:
    """Words whose letters tell the number."""
    return " ".join("abcdefghij"[int(digit)] * 3 for digit in f"{number:03d}")


def prepare() -> None:
    """Small commits, and models that need no files."""
    refilling._TEXTS = AT_ONCE
    load.load_named = named
    load.load_spec = of_spec


def do(path: str, what: str) -> None:
    """One change of model."""
    with search.open(path) as there:
        if what == "migrate":
            ingest.migrate(there, "text", "all", comparing=ingest.Comparing(compare=False))
        elif what == "back":
            ingest.migrate_back(there, "text")
        else:
            ingest.migrate_drop(there, "text")


def child(run: dict[str, str | int]) -> None:
    """Do it, and die at the step; else say how often each was reached."""
    reached: Counter[str] = Counter()

    def hook(step: Step) -> None:
        reached[step.value] += 1
        if step.value == run["step"] and reached[step.value] == run["occurrence"]:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.hook = hook
    do(str(run["path"]), str(run["what"]))
    Path(f"{run['path']}.steps").write_text(json.dumps(reached))


def main() -> None:
    """Fork for each line."""
    prepare()
    for line in sys.stdin:
        run = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(run)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
