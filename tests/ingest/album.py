"""A folder of pictures of which one in a hundred is damaged, and a process that takes it in, or is killed over it.

python -m tests.ingest.album '{"folder": ..., "collection": ..., "dies_after": 3}'
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import search
from ingest import pipeline
from ingest.decoding import Decoded
from ingest.pipeline import Job
from ingest.report import QUIET
from ingest.sources.pictures import Pictures
from ingest.thumbnails import Thumbnails
from search import failpoints
from search.failpoints import Step
from tests.crash.nearkin import without_powers
from tests.pictures import ColourModel, png_claiming

PER_FOLDER = 250


@dataclass(frozen=True)
class Album:
    """A made folder: the colour of each good picture by its id, and a word of the reason for each bad one."""

    folder: Path
    good: dict[str, tuple[int, int, int]]
    bad: dict[str, str]


def colour_of(number: int) -> tuple[int, int, int]:
    """A colour of its own for each of 20,000 pictures, bright enough to have a direction."""
    return 55 + number % 200, 55 + number // 200 % 200, 128


def jpeg(colour: tuple[int, int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).convert(mode).save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, "PNG", compress_level=1)
    return file.getvalue()


def sixteen_bits(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), level * 257, dtype=np.uint16)).save(file, "PNG")
    return file.getvalue()


def animated(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), one) for one in (colour, (0, 0, 0))]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


# Each makes a bad file; the word is in the reason that is told.
BAD: list[tuple[str, str, Callable[[Path], object]]] = [
    ("jpg", "cannot be decoded", lambda file: file.write_bytes(jpeg((9, 9, 9))[:300])),
    ("png", "cannot be decoded", lambda file: file.write_bytes(png((9, 9, 9))[:60])),
    ("jpg", "is not a picture", lambda file: file.write_bytes(b"Dear Sir or Madam, " * 20)),
    ("png", "is empty", lambda file: file.write_bytes(b"")),
    ("png", "more than 64,000,000 pixels", lambda file: file.write_bytes(png_claiming(30_000, 30_000))),
    ("jpg", "may not be read", lambda file: (file.write_bytes(jpeg((9, 9, 9))), file.chmod(0))),
    ("png", "no such file", lambda file: file.symlink_to(file.with_name("nowhere.png"))),
    ("jpg", "not a regular file", lambda file: os.mkfifo(file)),
    ("gif", "is not a picture", lambda file: file.write_bytes(b"GIF8")),
]


def make_album(folder: Path, n: int, one_in: int) -> Album:
    """So many files, one in `one_in` of them bad; the others odd here and there, and a loop of folders."""
    good: dict[str, tuple[int, int, int]] = {}
    bad: dict[str, str] = {}
    for number in range(n):
        place = folder / f"{number // PER_FOLDER:03}"
        if number % PER_FOLDER == 0:
            place.mkdir(parents=True)
            (place / "loop").symlink_to(folder)
        colour = colour_of(number)
        odd = number % one_in
        suffix, data = "png", b""
        if odd == one_in // 2:
            suffix, word, make = BAD[number // one_in % len(BAD)]
            name = f"{number:05}.{suffix}"
            make(place / name)
            bad[f"{place.name}/{name}"] = word
            continue
        if odd in (1, 2):
            suffix, data = "jpg", jpeg(colour, "CMYK" if odd == 2 else "RGB")
        elif odd == 3:
            data, colour = sixteen_bits(200), (200, 200, 200)
        elif odd == 4:
            suffix, data = "gif", animated(colour)
        elif odd == 5:
            suffix, data = "jpg", png(colour)  # a PNG under a wrong name
        else:
            data = png(colour)
        name = f"{number:05}.{suffix}"
        (place / name).write_bytes(data)
        good[f"{place.name}/{name}"] = colour
    return Album(folder, good, bad)


def main() -> None:
    """Take the folder in, and print the report with the most memory that this process had, in bytes."""
    told = json.loads(sys.argv[1])
    without_powers()  # root reads what it may not
    pipeline.ENCODE_AT_ONCE = told.get("at_once", pipeline.ENCODE_AT_ONCE)
    left = [told.get("dies_after")]

    def happens(step: Step) -> None:
        if step is Step.COMMIT_DONE and left[0] is not None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    failpoints.hook = happens
    model = ColourModel()
    decoded = Decoded(lambda: model, thumbnails=Thumbnails(16), threads=2)
    job = Job("image", "colour", lambda: model, decoded, "pictures")
    with search.open(told["collection"]) as album:
        report = pipeline.fill(album, Pictures([told["folder"]]), job, QUIET)
    n_encoded = sum(isinstance(one, np.ndarray) for one in model.seen)  # and not the probe
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**report.to_json(), "peak": peak, "encoded": n_encoded}))


if __name__ == "__main__":
    main()
