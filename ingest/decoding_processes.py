"""Processes that make pictures ready, where the interpreter's lock would hold the decoding threads of one back."""

from __future__ import annotations

import queue
import subprocess
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from ingest.decoding_process import Made, Making, Sent
from ingest.workers.pipes import receive, send, start
from search.encoders.pictures import PictureFile

_ENDING_S = 10.0  # a process whose pipe is closed ends at once, but for the picture that it decodes


class Processes:
    """So many processes, which start in the background; `ready` says how many have.

    One that dies over a picture (a decoder is C code, and memory may end) is replaced, and the picture rejected.
    """

    def __init__(self, making: Making, count: int) -> None:
        self._making = making
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._every: list[_Process] = []
        self._lock = threading.Lock()
        self.ready = 0
        weakref.finalize(self, _end, self._every)
        for _ in range(count):
            process = _Process(making)
            self._every.append(process)
            threading.Thread(target=self._begin, args=(process,), daemon=True, name="nearkin-decode").start()

    def _begin(self, process: _Process) -> None:
        if process.begun():
            with self._lock:
                self.ready += 1
            self._free.put(process)

    def make(self, pictures: Sequence[Path | PictureFile]) -> list[Made]:
        """What becomes of each picture, worked out by the next process that is free."""
        sent: list[Sent] = []
        unread: dict[int, Made] = {}
        for number, picture in enumerate(pictures):
            try:
                sent.append(Sent.of(picture))
            except OSError as error:
                unread[number] = Made(
                    None, reason=f"cannot be read ({error.strerror or error}); check the file"
                )
        made = iter(self._made(sent))
        return [unread[number] if number in unread else next(made) for number in range(len(pictures))]

    def _made(self, sent: Sequence[Sent]) -> list[Made]:
        process = self._free.get()
        try:
            made = process.make(sent)
        except (EOFError, OSError):
            self._free.put(self._another(process))
            if len(sent) == 1:
                reason = "the process that decoded it died; replace it or leave it out"
                return [Made(None, reason=reason)]
            return [made for one in sent for made in self._made([one])]
        except BaseException:
            self._free.put(process)
            raise
        self._free.put(process)
        return made

    def _another(self, dead: _Process) -> _Process:
        dead.end()
        process = _Process(self._making)
        with self._lock:
            self._every.remove(dead)
            self._every.append(process)
        process.begun()
        return process


class _Process:
    """One of them; used by one thread at a time."""

    def __init__(self, making: Making) -> None:
        self._making = making
        self._process = start("ingest.decoding_process", {"OMP_NUM_THREADS": "1"})

    @property
    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        return cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)

    def begun(self) -> bool:
        """Wait until it has imported what it needs; whether it has."""
        questions, answers = self._pipes
        try:
            send(questions, self._making)
            receive(answers)
        except (EOFError, OSError, ValueError):
            return False
        return True

    def make(self, sent: Sequence[Sent]) -> list[Made]:
        """What becomes of each.

        Raises:
            EOFError, OSError: it has died.
        """
        questions, answers = self._pipes
        send(questions, sent)
        made: list[Made] = receive(answers)
        return made

    def end(self) -> None:
        """Close its pipe and wait for it."""
        for pipe in self._pipes:
            try:
                pipe.close()
            except OSError:
                continue  # it has died, with something unsent
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _end(every: list[_Process]) -> None:
    for process in every:
        process.end()
