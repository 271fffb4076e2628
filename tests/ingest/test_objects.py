"""Objects in pictures: boxes, crops and labels against plain torchvision code, and what a search for one finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import pil_to_tensor

import ingest
import search
from ingest import pipeline
from ingest.cli.main import app
from ingest.decoding import Decoded
from ingest.objects import ObjectSettings, TorchvisionDetector, WithObjects
from ingest.pipeline import Job
from ingest.report import QUIET
from ingest.sources.pictures import Pictures
from search.cli.main import outcome
from search.collection import Collection
from search.encoders.clip import ClipEncoder
from search.types import WHOLE, Part
from tests.search.test_clip import save_tiny_clip

NETWORK = "ssdlite320_mobilenet_v3_large"  # the smallest


def blocks(seed: int) -> Image.Image:
    """A picture of 64 x 48 pixels: 8 x 6 blocks of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 48), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A detection network of seeded weights that sees something: normalised on some pictures, and made decided."""
    torch.manual_seed(0)
    network = get_model(NETWORK, weights=None, weights_backbone=None).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        pictures = [pil_to_tensor(blocks(seed)).float() / 255 for seed in range(3)]
        batch = torch.cat([network.transform([picture])[0].tensors for picture in pictures])
        network.head(list(network.backbone(batch).values()))
        for module in network.head.classification_head.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.weight *= 8
    return network.eval()


@pytest.fixture(scope="module")
def weights(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(network.state_dict(), path)
    return path


def plainly(network: nn.Module, picture: Image.Image) -> list[tuple[list[float], str, float]]:
    """All that plain torchvision finds: corners, label and score, the surest first."""
    with torch.inference_mode():
        (found,) = network([pil_to_tensor(picture).float() / 255])
    names = get_model_weights(NETWORK).DEFAULT.meta["categories"]
    return [
        (box, names[label], score)
        for box, label, score in zip(
            found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
        )
    ]


def test_the_objects_are_those_of_plain_torchvision(network: nn.Module, weights: Path) -> None:
    least = plainly(network, blocks(0))[150][2]
    settings = ObjectSettings(NETWORK, weights, min_score=least, most=1000)
    detector = TorchvisionDetector(settings, device="cpu")
    few = every = 0
    for seed in range(3):
        found = detector.find(blocks(seed))
        want = [
            one
            for one in plainly(network, blocks(seed))
            if one[2] >= least and min(one[0][2] - one[0][0], one[0][3] - one[0][1]) >= 1
        ]
        few += len(want)
        every += len(plainly(network, blocks(seed)))
        assert [(part.label, part.score) for part in found] == [(label, score) for _, label, score in want]
        for part, (corners, _, _) in zip(found, want, strict=True):
            assert part.box is not None
            x, y, width, height = part.box
            np.testing.assert_allclose([x, y, x + width, y + height], corners, atol=0.0051)
    assert 6 <= few < every


def test_the_bounds_are_kept(network: nn.Module, weights: Path) -> None:
    every = TorchvisionDetector(ObjectSettings(NETWORK, weights, min_score=0, most=1000), device="cpu")
    found = every.find(blocks(0))
    assert len(found) > 50
    for least, most in ((found[20].score, 1000), (0, 7)):
        assert least is not None
        fewer = TorchvisionDetector(ObjectSettings(NETWORK, weights, least, most), device="cpu").find(
            blocks(0)
        )
        assert fewer == [part for part in found if part.score is not None and part.score >= least][:most]


# ---- as parts of their pictures ----------------------------------------------------------------------------------


class Known:
    """Knows what stands where in which picture."""

    def __init__(self, places: dict[bytes, list[Part]], settings: str = "known objects") -> None:
        self.settings = settings
        self._places = places

    def find(self, picture: Image.Image) -> list[Part]:
        return self._places.get(picture.tobytes(), [])


CUP = Part(box=(40.0, 8.25, 16.0, 20.5), label="cup", score=0.75)
SECOND_CUP = Part(box=(3.5, 30.0, 9.0, 12.0), label="cup", score=0.625)
PHONE = Part(box=(0.0, 0.0, 12.0, 9.0), label="cell phone", score=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ClipEncoder:
    return ClipEncoder.from_name(str(folder), device="cpu", precision="fp32")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(("desk", "lawn", "wall")):
        blocks(number).save(photos / f"{name}.png")
    (photos / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return photos


def known() -> Known:
    return Known({blocks(0).tobytes(): [CUP, SECOND_CUP, PHONE], blocks(1).tobytes(): [PHONE]})


@pytest.fixture
def job(encoder: ClipEncoder) -> Callable[[Known], Job]:
    def make(detector: Known) -> Job:
        prepare = WithObjects(Decoded(), detector, lambda: encoder)
        return Job("image", encoder.spec.model, lambda: encoder, prepare, detector.settings)

    return make


def test_each_crop_is_a_part_with_the_vector_of_its_pixels(
    photos: Path, encoder: ClipEncoder, job: Callable[[Known], Job], tmp_path: Path
) -> None:
    with search.open(tmp_path / "c") as shop:
        report = pipeline.fill(shop, Pictures([photos]), job(known()), QUIET)
        assert (report.added, report.rejected, report.vectors) == (3, 1, 7)
        pixels = np.asarray(blocks(0))
        crops = {CUP: pixels[8:29, 40:56], SECOND_CUP: pixels[30:42, 3:13], PHONE: pixels[0:9, 0:12]}
        for part, crop in crops.items():
            (vector,) = encoder.encode([Image.fromarray(crop)])
            (hit,) = shop.search(vector=vector, k=1, where="id = 'desk.png'", space="image")
            assert (hit.id, hit.part) == ("desk.png", part.to_json())
            assert hit.score == pytest.approx(1, abs=1e-5)
        for number, name in enumerate(("desk", "lawn", "wall")):
            (hit, *_) = shop.search(image=blocks(number), k=1)
            assert (hit.id, hit.part) == (f"{name}.png", None)
        # A query for a cup finds the desk with a cup on it, and the box can be asked with in turn.
        (hit, *_) = shop.search(image=Image.fromarray(crops[CUP]), k=3)
        assert (hit.id, hit.part) == ("desk.png", CUP.to_json())
        assert shop.search(image=photos / "desk.png", region=hit.part["box"], k=3)[0] == hit


def test_the_labels_can_be_filtered_by(photos: Path, job: Callable[[Known], Job], tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as shop:
        pipeline.fill(shop, Pictures([photos]), job(known()), QUIET)
        told = {
            record.id: record.metadata["objects"] for record in shop.get(["desk.png", "lawn.png", "wall.png"])
        }
        assert told == {
            "desk.png": {"cell phone": 1, "cup": 2},
            "lawn.png": {"cell phone": 1},
            "wall.png": {},
        }
        assert ids(shop, "objects.cup >= 2") == ["desk.png"]
        assert ids(shop, 'objects."cell phone" > 0') == ["desk.png", "lawn.png"]
        assert ids(shop, "objects.cup is null") == ["lawn.png", "wall.png"]


def ids(shop: Collection, where: str) -> list[str]:
    return sorted(hit.id for hit in shop.search(image=blocks(0), k=9, where=where))


def test_another_detector_is_noticed(photos: Path, job: Callable[[Known], Job], tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as shop:
        pipeline.fill(shop, Pictures([photos]), job(known()), QUIET)
        again = pipeline.fill(shop, Pictures([photos]), job(known()), QUIET)
        assert (again.unchanged, again.updated, again.vectors) == (3, 0, 0)
        other = pipeline.fill(shop, Pictures([photos]), job(Known({}, "others")), QUIET)
        assert (other.unchanged, other.updated, other.vectors) == (0, 3, 3)
        assert shop.get("desk.png")[0].metadata["objects"] == {}


def test_pictures_are_passed_on_where_the_encoder_is_not_known(photos: Path) -> None:
    (first, *_) = WithObjects(Decoded(), known())(list(Pictures([photos / "desk.png"])))
    assert isinstance(first, pipeline.Ready)
    assert first.parts == (WHOLE, CUP, SECOND_CUP, PHONE)
    sizes = [one.size for one in first.encodable if isinstance(one, Image.Image)]
    assert sizes == [(64, 48), (16, 21), (10, 12), (12, 9)]
    assert first.weight == 3 * sum(width * height for width, height in sizes) / (96 << 20)


# ---- the verb ----------------------------------------------------------------------------------------------------


def test_the_verb_finds_objects(
    photos: Path,
    folder: Path,
    weights: Path,
    network: nn.Module,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    verb = ["ingest", "images", str(photos), "-c", str(tmp_path / "c"), "--model", str(folder), "--json"]
    verb += ["--device", "cpu", "--objects", "--objects-model", NETWORK, "--objects-weights", str(weights)]
    assert outcome(app, [*verb, "--objects-min-score", "0.3", "--objects-most", "4"]) == 0
    done = json.loads(capsys.readouterr().out)
    settings = ObjectSettings(NETWORK, weights, 0.3, 4)
    detector = TorchvisionDetector(settings, device="cpu")
    found = {name: detector.find(blocks(n)) for n, name in enumerate(("desk", "lawn", "wall"))}
    assert done["vectors"] == 3 + sum(map(len, found.values()))
    with search.open(tmp_path / "c") as shop:
        for name, parts in found.items():
            where = f"id = '{name}.png'"
            for part in parts:
                (hit,) = shop.search(image=photos / f"{name}.png", region=part.box, k=1, where=where)
                assert hit.score == pytest.approx(1, abs=1e-5)
                assert hit.part is not None
                assert hit.part["label"] in {one.label for one in parts}
        again = ingest.images(shop, photos, model=str(folder), objects=settings)
        assert (again.unchanged, again.updated) == (3, 0)
        lower = ObjectSettings(NETWORK, weights, 0.9, 4)
        told = ingest.images(shop, photos, model=str(folder), objects=lower, dry_run=True)
        assert told.updated == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--objects-most", "3"], 2, "add --objects"),
        (["--objects", "--objects-model", "fasterrcnn"], 1, "no detection network 'fasterrcnn'; use one of"),
        (["--objects", "--objects-weights", "nowhere.pth"], 1, "there is no weights file nowhere.pth; give"),
        (["--objects"], 1, "are not here (downloads are switched off); put fasterrcnn_resnet50_fpn_v2_coco-"),
        (["--objects", "--objects-min-score", "2"], 1, "give a number from 0 to 1"),
        (["--objects", "--objects-most", "0"], 1, "give 1 or more"),
    ],
)
def test_what_cannot_be_is_one_line(
    photos: Path,
    folder: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
    capsys,
    monkeypatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    verb = ["ingest", "images", str(photos), "-c", str(tmp_path / "c"), "--model", str(folder)]
    assert outcome(app, [*verb, *arguments]) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "c").exists()


def test_weights_of_another_network(photos: Path, folder: Path, tmp_path: Path, weights: Path) -> None:
    settings = ObjectSettings("fasterrcnn_mobilenet_v3_large_320_fpn", weights)
    with pytest.raises(search.ModelUnavailable, match=r"lacks 'backbone.*give the weights of faster"):
        ingest.images(tmp_path / "c", photos, model=str(folder), objects=settings)
