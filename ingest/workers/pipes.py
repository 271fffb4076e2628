"""Processes of this program's own, and messages to and from them over a pair of pipes.

Messages are pickled, which is safe here alone: both ends are this program, and nobody else holds the pipes.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

_LENGTH = 8  # bytes before each message that say how long it is


def start(module: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m module`, which imports from the same places, and finds its messages on its standard input.

    In a session of its own: Ctrl-C is for this process, which then closes the pipe, and with that the other ends.
    """
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return subprocess.Popen(  # noqa: S603 - this program, by this interpreter
        [sys.executable, "-P", "-m", module],  # -P: from no place beside these
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
        start_new_session=True,
    )


def send(pipe: BinaryIO, message: object) -> None:
    """Write one message, whole."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(data).to_bytes(_LENGTH, "little"))
    pipe.write(data)
    pipe.flush()


def receive(pipe: BinaryIO) -> Any:
    """The next message.

    Raises:
        EOFError: the other end has gone.
    """
    head = pipe.read(_LENGTH)
    size = int.from_bytes(head, "little")
    data = pipe.read(size) if len(head) == _LENGTH else b""
    if len(head) < _LENGTH or len(data) < size:
        raise EOFError("the other end of the pipe has gone")
    return pickle.loads(data)  # noqa: S301 - the other end is this program
