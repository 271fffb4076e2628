"""How well pictures find their like: raw pixels, patches, simclr and MobileNetV2, on digits and on photographs.

    python -m benchmarks.picture_quality DATA [--device auto] [--precision auto] [--sets digits,clothing]
        [--ways raw,patches,simclr,mobilenet_v2,squeezenet1_0] [--simclr epochs=400,width=32]...

DATA is a folder with images/clothing (each picture in a folder that is its class) and weights/mobilenet_v2.pth; the
digits are scikit-learn's 1,797 of 8 x 8 pixels. Each picture is asked for among all others, by cosine: the share whose
first neighbour is of the same class, and the mean average precision of the whole ranking. Nothing is learned from
the classes. A line of JSON is printed for each row. Each --simclr is a row of its own, with settings of
SimclrSettings; a plain `--simclr default` is its defaults.

It needs numpy, torch, Pillow, safetensors and scikit-learn; faiss for patches, torchvision for MobileNetV2 alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from ingest.learn.pictures.settings import SimclrSettings
    from ingest.learn.pictures.simclr import Run

Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.str_]

WAYS = ("raw", "patches", "simclr", "mobilenet_v2")
SETS = ("digits", "clothing")


def first_neighbour(rows: Floats, labels: Labels) -> float:
    """The share of rows whose nearest other row by cosine is of the same class."""
    return float((labels[_scores(rows).argmax(axis=1)] == labels).mean())


def mean_average_precision(rows: Floats, labels: Labels) -> float:
    """Of each row's ranking of all others; rows that are alone in their class do not count."""
    order = np.argsort(-_scores(rows), axis=1, kind="stable")[:, :-1]
    found = []
    for own, ranking in enumerate(order):
        is_right = labels[ranking] == labels[own]
        if is_right.any():
            precision = np.cumsum(is_right) / np.arange(1, len(ranking) + 1)
            found.append(precision[is_right].mean())
    return float(np.mean(found))


def _scores(rows: Floats) -> Floats:
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores: Floats = units @ units.T
    np.fill_diagonal(scores, -np.inf)
    return scores


def digits(folder: Path) -> tuple[list[Path], Labels]:
    """The digits as PNG files of their own size."""
    from sklearn.datasets import load_digits

    given = load_digits()
    files = []
    for number, pixels in enumerate(given.images):
        files.append(folder / f"{number:04}.png")
        Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(files[-1])
    return files, given.target.astype(str)


def clothing(data: Path) -> tuple[list[Path], Labels]:
    """The photographs, and of each the folder that it lies in."""
    files = sorted((data / "images/clothing").rglob("*.jpg"))
    return files, np.array([file.parent.name for file in files])


def raw(files: Sequence[Path], mode: str) -> Floats:
    """Pixels (n, numbers), of 32 x 32 where the pictures are larger; mode is L or RGB."""
    rows = []
    for file in files:
        picture = Image.open(file).convert(mode)
        if max(picture.size) > 32:
            picture = picture.resize((32, 32), Image.Resampling.BILINEAR)
        rows.append(np.asarray(picture, np.float64).ravel())
    return np.stack(rows)


def settings_of(words: str) -> SimclrSettings:
    """SimclrSettings from "epochs=400,width=32"; "default" are the defaults."""
    from ingest.learn.pictures.settings import SimclrSettings

    plain = SimclrSettings()
    if words == "default":
        return plain
    said = dict(pair.split("=", 1) for pair in words.split(","))
    unknown = set(said) - set(asdict(plain))
    if unknown:
        raise SystemExit(
            f"error: simclr has no {', '.join(sorted(unknown))}; it has {', '.join(asdict(plain))}"
        )
    return replace(plain, **{name: _value(value) for name, value in said.items()})


def _value(word: str) -> object:
    try:
        return json.loads(word)
    except ValueError:
        return word


def rows_of(
    way: str, files: Sequence[Path], data: Path, run: Run, settings: Sequence[str]
) -> Iterator[tuple[str, Floats, float]]:
    """For one way its rows: what it is called, the vectors, and the seconds that it learned."""
    if way == "raw":
        for mode in ("L", "RGB"):
            yield f"raw pixels, {mode}", raw(files, mode), 0.0
    elif way == "patches":
        from ingest.learn.pictures.patches import learn_patches
        from search.encoders.patches import PatchesEncoder

        started = time.perf_counter()
        learned = learn_patches(list(files))
        seconds = time.perf_counter() - started
        yield "patches", PatchesEncoder(learned, device=run.device).encode(files).astype(np.float64), seconds
    elif way == "simclr":
        from ingest.learn.pictures.simclr import learn_simclr
        from search.encoders.learned_pictures import LearnedPictureEncoder

        for words in settings:
            started = time.perf_counter()
            learned = learn_simclr(files, settings_of(words), run)
            seconds = time.perf_counter() - started
            encoder = LearnedPictureEncoder(learned, device=run.device)
            yield f"simclr {words}", encoder.encode(files).astype(np.float64), seconds
    else:
        from search.encoders.torchvision_networks import TorchvisionEncoder

        network = TorchvisionEncoder.from_name(
            way, weights=data / f"weights/{way}.pth", device=run.device, precision="fp32"
        )
        yield way, network.encode(files).astype(np.float64), 0.0


def main() -> None:
    """Measure and print a line for each way on each set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="of simclr's learning")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--simclr", action="append", metavar="SETTINGS")
    asked = parser.parse_args()
    for name, known in ((asked.sets, SETS), (asked.ways, (*WAYS, "squeezenet1_0"))):
        if wrong := set(name.split(",")) - set(known):
            parser.error(f"there is no {', '.join(sorted(wrong))}; there are {', '.join(known)}")
    from ingest.learn.pictures.simclr import Run

    run = Run(asked.device, asked.precision)
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.sets.split(","):
            files, labels = digits(Path(folder)) if name == "digits" else clothing(asked.data)
            if not files:
                parser.error(f"there are no pictures below {asked.data / 'images/clothing'}")
            for way in asked.ways.split(","):
                try:
                    measured = list(rows_of(way, files, asked.data, run, asked.simclr or ["default"]))
                except ImportError as error:
                    print(json.dumps({"set": name, "way": way, "left out": str(error)}), flush=True)
                    continue
                for called, rows, seconds in measured:
                    found = {
                        "set": name,
                        "way": called,
                        "dim": rows.shape[1],
                        "first neighbour": round(first_neighbour(rows, labels), 4),
                        "mAP": round(mean_average_precision(rows, labels), 4),
                        "learned in s": round(seconds, 1),
                    }
                    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
