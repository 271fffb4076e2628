"""The command line in a process of its own, to which something happens at a chosen step.

    python -m tests.crash.nearkin '{"arguments": [...], "step": "commit done", "occurrence": 2, "signal": 15}'

A run commits every `PER_COMMIT` rows, so that there is a middle for it to be stopped in.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import ingest.pipeline
import ingest.verbs.given
from ingest.cli.main import run
from search import failpoints
from search.failpoints import Step
from search.index import choose

PER_COMMIT = 20
FLAT_UP_TO = 50 * 8
_CAPABILITIES = 0x20080522  # version 3 of the structure that capset takes


@dataclass(frozen=True)
class Happening:
    """What is run, and what happens at the n-th time that the step is reached."""

    arguments: list[str]
    step: str | None = None
    occurrence: int = 1
    signal: int | None = None  # the process gets it
    locked: str | None = None  # the directory, in which nothing may be written from then on
    powerless: bool = False  # root, too, must obey the permissions of files


def without_powers() -> None:
    """Give up what root may do beyond the permissions of files."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(head, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def lock_up(folder: Path) -> None:
    """Take away the right to write, from the directory and all that is in it."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)


def main() -> None:
    """Run what was asked for."""
    happening = Happening(**json.loads(sys.argv[1]))
    ingest.verbs.given.ROWS_PER_COMMIT = PER_COMMIT
    ingest.pipeline.ENCODE_AT_ONCE = PER_COMMIT
    choose.FLAT_UP_TO = FLAT_UP_TO
    reached: Counter[Step] = Counter()

    def hook(step: Step) -> None:
        reached[step] += 1
        if step.value == happening.step and reached[step] == happening.occurrence:
            if happening.signal is not None:
                os.kill(os.getpid(), happening.signal)
            if happening.locked is not None:
                lock_up(Path(happening.locked))

    failpoints.hook = hook
    if happening.powerless:
        without_powers()
    run(happening.arguments)


if __name__ == "__main__":
    main()
