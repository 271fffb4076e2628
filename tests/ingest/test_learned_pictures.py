"""`ingest images --learn`: what a first run, a later one and a killed one do, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ingest
import search
from ingest import SimclrSettings
from ingest.cli.main import app
from ingest.learn.pictures import simclr
from ingest.report import Options, Progress
from search import failpoints
from search.cli.main import outcome
from search.encoders.learned_pictures import LearnedPictureEncoder
from search.errors import CollectionError, ModelError, SourceError
from search.failpoints import Step
from tests.ingest.test_patches import blobs
from tests.ingest.test_simclr import Killed

TINY = SimclrSettings(epochs=2, batch=4, width=2)


class Watched(Progress):
    """Remembers how far each stage was."""

    def __init__(self) -> None:
        self.told: dict[str, list[tuple[int, int]]] = {}

    def reached(self, stage: str, done: int, total: int) -> None:
        self.told.setdefault(stage, []).append((done, total))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "photos"
    path.mkdir()
    for number, picture in enumerate(blobs(8, 16)):
        picture.save(path / f"{number}.png")
    return path


def rows(collection: search.Collection, space: str = "image") -> dict[str, np.ndarray]:
    return {hit.id: np.float32(hit.score) for hit in collection.search(like="0.png", space=space, k=20)}


def test_a_first_run_learns_and_later_ones_encode_with_what_was_learned(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    with search.open(tmp_path / "c") as collection:
        report = ingest.images(collection, folder, learn=TINY, options=Options("cpu", progress=watched))
        assert (report.model, report.added, report.vectors) == ("simclr", 8, 8)
        assert report.stages["learn"] > 0
        assert watched.told["learning simclr"] == [(n, 4) for n in range(5)]
        assert not collection.layout.checkpoint("image").parent.exists()
        spec = collection.spaces()["image"].encoder
        assert (spec.family, spec.dim, spec.options["side"]) == ("learned-pictures", 96, 16)

    def never(*given: object) -> bytes:
        raise AssertionError("learned again")

    monkeypatch.setattr(simclr, "learn_simclr", never)
    again = ingest.images(tmp_path / "c", folder, learn="simclr")
    assert (again.unchanged, again.written) == (8, 0)
    more = blobs(9, 16, seed=1)[8]
    more.save(folder / "more.png")
    for how in ({"learn": TINY}, {"model": "simclr"}):
        report = ingest.images(tmp_path / "c", folder, **how)  # type: ignore[arg-type]
        assert (report.unchanged, report.added) == ((8, 1) if "learn" in how else (9, 0))
    with search.open(tmp_path / "c", "r") as collection:  # a new process needs no trainer
        (hit,) = collection.search(image=folder / "more.png", k=1)
        assert (hit.id, round(hit.score, 4)) == ("more.png", 1)
        encoder = collection.encoder("image")
        assert isinstance(encoder, LearnedPictureEncoder)
        stored = collection.get(["3.png"])
        assert stored[0] is not None
        (found,) = collection.search(vector=encoder.encode([folder / "3.png"])[0], space="image", k=1)
        assert (found.id, round(found.score, 5)) == ("3.png", 1)
        assert collection.check() == []


def test_killed_at_any_moment_it_goes_on_to_the_same_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    ingest.images(whole, folder, learn=TINY, options=Options("cpu"))
    real = simclr.Run
    monkeypatch.setattr(simclr, "Run", lambda *a, **k: real(*a, **k, every_s=0))
    torn = tmp_path / "torn"
    deaths = [(Step.COPY_NAMED, 2), (Step.COPY_WRITTEN, 1), (Step.COPY_NAMED, 2), (Step.COMMIT_VECTORS, 1)]
    begun = []
    for step, times in deaths:
        left = [times]

        def hook(at: Step, step: Step = step, left: list[int] = left) -> None:
            left[0] -= at is step
            if not left[0]:
                raise Killed

        failpoints.hook = hook
        watched = Watched()
        try:
            with pytest.raises(Killed):
                ingest.images(torn, folder, learn=TINY, options=Options("cpu", progress=watched))
        finally:
            failpoints.hook = None
        begun.append(watched.told["learning simclr"][0])
    assert begun == [(0, 4), (2, 4), (2, 4), (4, 4)]
    report = ingest.images(torn, folder, learn=TINY, options=Options("cpu"))
    assert report.added == 8
    with search.open(whole, "r") as expected, search.open(torn, "r") as got:
        assert got.spaces()["image"].encoder == expected.spaces()["image"].encoder
        assert rows(got) == rows(expected)
        assert not got.layout.checkpoint("image").parent.exists()


def test_a_process_that_was_killed_leaves_what_the_next_one_goes_on_from(
    folder: Path, tmp_path: Path
) -> None:
    code = f"""
import os, signal, torch
from pathlib import Path
from ingest import SimclrSettings
torch.set_num_threads({torch.get_num_threads()})
from ingest.learn.pictures.simclr import Run, learn_simclr
from search import failpoints
from search.failpoints import Step
seen = []
def hook(step):
    seen.append(step)
    if seen.count(Step.COPY_SYNCED) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
failpoints.hook = hook
run = Run("cpu", checkpoint=Path({str(tmp_path / "a.safetensors")!r}), every_s=0)
learn_simclr(sorted(Path({str(folder)!r}).iterdir()), SimclrSettings(epochs=2, batch=4, width=2), run)
"""
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    files, told = sorted(folder.iterdir()), []
    run = simclr.Run(
        "cpu", checkpoint=tmp_path / "a.safetensors", progress=lambda done, total: told.append(done)
    )
    assert simclr.learn_simclr(files, TINY, run) == simclr.learn_simclr(files, TINY, simclr.Run("cpu"))
    assert told == [2, 3, 4]
    assert [one.name for one in tmp_path.iterdir() if "partial" in one.name] == []


def test_what_is_asked_and_means_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    for how, said in (
        ({"learn": "byol"}, "no way 'byol' to learn from pictures; use --learn patches or --learn simclr"),
        ({"learn": "patches", "model": "torchvision:resnet18"}, "patches is a model of its own"),
        (
            {"learn": "simclr", "model": "clip-ViT-B-32"},
            "'clip-ViT-B-32' is no network that simclr can learn",
        ),
        ({"learn": "simclr", "model": "patches"}, "'patches' is no network"),
        ({"learn": "simclr", "layer": "layer3"}, "'simclr' takes no layer"),
        ({"model": "patches", "weights": "a.pth"}, "'patches' takes no weights"),
        ({"model": "patches", "pooling": "gem"}, "'patches' takes no pooling"),
    ):
        for dry_run in (False, True):
            with pytest.raises((SourceError, ModelError), match=said):
                ingest.images(new, folder, dry_run=dry_run, **how)  # type: ignore[arg-type]
    assert not new.exists()


def test_a_space_keeps_to_what_it_was_learned_with(folder: Path, tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as collection:
        options = Options("cpu")
        ingest.images(collection, folder, learn=TINY, options=options)
        ingest.images(collection, folder, learn="patches", space="shapes", options=options)
        for how, said in (
            (
                {"learn": SimclrSettings(epochs=3)},
                "'image' was learned with epochs 2, not 3; give another name",
            ),
            ({"learn": SimclrSettings(flip=True)}, "was learned with flip by its rule, not True"),
            ({"learn": "patches"}, "made by simclr, and this is patches"),
            ({"learn": "simclr", "space": "shapes"}, "made by patches, and this is simclr"),
            ({"learn": "simclr", "model": "torchvision:resnet18"}, "and this is simclr:torchvision:resnet18"),
        ):
            for dry_run in (True, False):
                with pytest.raises(CollectionError, match=said):
                    ingest.images(collection, folder, dry_run=dry_run, **how)  # type: ignore[arg-type]
        foretold = ingest.images(collection, folder, learn=SimclrSettings(epochs=2), dry_run=True)
        assert (foretold.unchanged, foretold.dry_run) == (8, True)


def test_the_command_line_learns(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def nearkin(*arguments: object) -> tuple[int, str, str]:
        code = outcome(app, [str(one) for one in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    there, images = ("-c", tmp_path / "c"), ("ingest", "images", folder)
    quick = ("--learn", "simclr", "--epochs", 1, "--seed", 3, "--no-flip", "--device", "cpu")
    code, out, err = nearkin(*images, *there, *quick, "--json")
    assert (code, json.loads(out)["model"], json.loads(out)["added"]) == (0, "simclr", 8), err
    code, out, err = nearkin("search", "--image", folder / "5.png", "-k", 1, "--json", *there)
    assert (code, json.loads(out)[0]["id"]) == (0, "5.png"), err
    with search.open(tmp_path / "c", "r") as collection:
        settings = collection.spaces()["image"].encoder.options["settings"]
        assert isinstance(settings, dict)
        assert [settings[name] for name in ("epochs", "seed", "flip")] == [1, 3, False]
    code, out, err = nearkin(*images, *there, *quick, "--json")
    assert (code, json.loads(out)["unchanged"]) == (0, 8)
    code, out, err = nearkin(*images, *there, "--learn", "patches", "--space", "p", "--json")
    assert (code, json.loads(out)["model"]) == (0, "patches"), err
    for wrong, said in (
        (("--epochs", 5), "--epochs, --flip and --seed say how simclr learns; add --learn simclr"),
        (("--learn", "patches", "--seed", 1), "--epochs, --flip and --seed say how simclr learns"),
        (("--learn", "simclr", "--epochs", 0), "must be above 0; correct them"),
        (("--learn", "dino"), "no way 'dino' to learn"),
        (("--learn", "simclr", "--epochs", 2), "was learned with epochs 1, not 2"),
    ):
        code, out, err = nearkin(*images, *there, *wrong)
        assert (code, said in err, out) == (1, True, ""), err
    alike = tmp_path / "alike"
    alike.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16), "white").save(alike / name)
    code, out, err = nearkin("ingest", "images", alike, "-c", tmp_path / "d", "--learn", "simclr")
    assert (code, "no two differ" in err) == (1, True)
