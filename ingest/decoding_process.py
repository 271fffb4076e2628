"""Makes pictures ready for a network; as a process of its own, those that it is sent, until its pipe closes.

`python -m ingest.decoding_process` is started by `ingest.decoding_processes`, which talks to it on standard input and
output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ingest.thumbnails import Thumbnails
from ingest.workers.pipes import receive, send
from search.catalog.thumbnails import Thumbnail
from search.encoders.contract import Pixels
from search.encoders.pictures import PictureFile, named, open_picture
from search.errors import MissingExtra, SourceError

Preparation = Callable[[Image.Image], Pixels]


@dataclass(frozen=True, slots=True)
class Making:
    """What is made of each picture: how it is prepared (None: not), the least side to decode to, its thumbnail."""

    preparation: Preparation | None = None
    at_least: int | None = None
    thumbnails: Thumbnails | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A picture ready for the network, or why there is none; `n_bytes` is what it takes in memory."""

    encodable: Pixels | Image.Image | None
    n_bytes: int = 0
    thumbnail: Thumbnail | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """A picture on its way to a process: its file, or its bytes."""

    name: str
    stored: Path | bytes
    frame: int = 0

    @classmethod
    def of(cls, picture: Path | PictureFile) -> Sent:
        """The picture; its bytes are read now if it is no file.

        Raises:
            OSError: they cannot be read.
        """
        if isinstance(picture, Path):
            return cls(str(picture), picture)
        stored = picture.stored
        return cls(picture.name, stored if isinstance(stored, Path) else stored(), picture.frame)

    def picture(self) -> PictureFile:
        """The picture on the other side."""
        stored = self.stored
        return PictureFile(self.name, stored if isinstance(stored, Path) else lambda: stored, self.frame)


def make(making: Making, picture: Path | PictureFile) -> Made:
    """A picture made ready; a bad one is told, and raises nothing."""
    try:
        opened = open_picture(picture, at_least=making.at_least)
        thumbnail = None if making.thumbnails is None else making.thumbnails.of(opened)
        if making.preparation is None:
            return Made(opened, 3 * opened.width * opened.height, thumbnail)
        pixels = making.preparation(opened)
    except (SourceError, MissingExtra) as error:
        return Made(None, reason=str(error).removeprefix(f"{named(picture)}: "))
    return Made(pixels, pixels.nbytes, thumbnail)


def main() -> None:
    """Make what is sent, until the other end closes the pipe or dies."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    questions = sys.stdin.buffer
    try:
        making: Making = receive(questions)
        send(answers, None)  # all that it needs is imported
        while True:
            sent: Sequence[Sent] = receive(questions)
            send(answers, [make(making, one.picture()) for one in sent])
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


if __name__ == "__main__":
    # By its own name, which what is sent has to have on the other side.
    from ingest.decoding_process import main as work

    work()
