"""Records what a child process does to the files below one directory, in order, with its acknowledgements between."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_SOURCE = Path(__file__).with_name("tracing.c")
_HEAD = struct.Struct("<cQqII")


class Kind(StrEnum):
    """What happened; the letters are those of tracing.c."""

    CREATE = "C"  # of a file
    DIRECTORY = "D"  # made
    WRITE = "W"
    TRUNCATE = "T"
    SYNC = "S"  # of a file or a directory
    RENAME = "R"
    UNLINK = "U"  # of a file or an empty directory
    MARK = "M"  # an acknowledgement
    UNKNOWN = "X"  # something that the replay does not understand


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    kind: Kind
    inode: int  # of the file or directory concerned; 0 where a path says it
    offset: int  # of a write; the new size in a truncation
    content: bytes  # what was written, the path, or the mark
    target: bytes  # the new path in a rename


class CannotTrace(Exception):
    """This machine has no means to record what a process does; the message says what is missing."""


def build(folder: Path) -> Path:
    """Compile the recorder into `folder`.

    Raises:
        CannotTrace: not Linux, or no C compiler.
    """
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if not sys.platform.startswith("linux"):
        raise CannotTrace("file operations are recorded by a preloaded library, which needs Linux")
    if compiler is None:
        raise CannotTrace("the recorder of file operations needs a C compiler (cc, gcc or clang)")
    library = folder / "tracing.so"
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-lpthread"],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise CannotTrace(f"the recorder of file operations does not compile here: {made.stderr}")
    return library


def environment(library: Path, root: Path, log: Path, **more: str) -> dict[str, str]:
    """The variables of a process whose file operations below `root` go to `log`; see tracing.c for more of them."""
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "TRACE_ROOT": str(root),
        "TRACE_LOG": str(log),
        **more,
    }


def record(library: Path, root: Path, mark: Path, command: list[str], lie: str | None = None) -> list[Event]:
    """Run a command to its end; every event below `root`, and every write to `mark` as a mark.

    `lie` is a pattern of paths whose syncs are answered with success and neither done nor recorded.
    """
    log = mark.with_suffix(".trace")
    lies = {} if lie is None else {"TRACE_LIE": lie}
    done = subprocess.run(
        command,
        env=environment(library, root, log, TRACE_MARK=str(mark), **lies),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    events = parsed(log.read_bytes())
    log.unlink()
    return events


def parsed(log: bytes) -> list[Event]:
    """The events of a log."""
    events, at = [], 0
    while at < len(log):
        kind, inode, offset, n_first, n_second = _HEAD.unpack_from(log, at)
        middle, end = at + _HEAD.size + n_first, at + _HEAD.size + n_first + n_second
        assert end <= len(log), "the log of the recorder is cut off"
        events.append(
            Event(Kind(kind.decode()), inode, offset, log[at + _HEAD.size : middle], log[middle:end])
        )
        at = end
    return events
