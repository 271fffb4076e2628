"""Quality on real pictures: what goes through a collection finds what a plain script finds, and learning pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

import ingest
import search
from benchmarks.picture_quality import clothing, digits, first_neighbour, mean_average_precision, raw
from ingest import SimclrSettings
from ingest.report import Options


def found_by_collection(collection: search.Collection, labels: dict[str, str]) -> tuple[float, float]:
    """First neighbour and mean average precision, each record asked for by its id among all others."""
    firsts, precisions = [], []
    for id, own in labels.items():
        hits = collection.search(like=id, space="image", k=len(labels))
        assert len(hits) == len(labels) - 1
        is_right = np.array([labels[hit.id] == own for hit in hits])
        firsts.append(is_right[0])
        precisions.append((np.cumsum(is_right) / np.arange(1, len(hits) + 1))[is_right].mean())
    return float(np.mean(firsts)), float(np.mean(precisions))


@pytest.mark.quality
@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
def test_a_converted_network_finds_what_a_plain_script_finds(
    name: str, shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    root, weights = shared_data("images/clothing"), shared_data(f"weights/{name}.pth")
    files, labels = clothing(root.parent.parent)
    # The plain script.
    network = models.get_model(name)
    network.load_state_dict(torch.load(weights, weights_only=True))
    prepare = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    with torch.inference_mode():
        pictures = (prepare(Image.open(file).convert("RGB"))[None] for file in files)
        rows = torch.cat([network.eval().features(one).mean((2, 3)) for one in pictures]).double().numpy()
    expected = first_neighbour(rows, labels), mean_average_precision(rows, labels)

    with search.open(tmp_path / "c") as collection:
        options = Options("cpu", "fp32")
        report = ingest.images(
            collection, root, model=f"torchvision:{name}", weights=weights, options=options
        )
        assert report.added == len(files)
        ids = [file.relative_to(root).as_posix() for file in files]
        got = found_by_collection(collection, dict(zip(ids, labels.tolist(), strict=True)))
    print(f"clothing, {name}: first neighbour {got[0]:.4f}, mAP {got[1]:.4f}; plain torchvision {expected}")
    assert got == pytest.approx(expected, abs=5e-4)
    if name == "mobilenet_v2":
        assert got == pytest.approx((0.746, 0.452), abs=5e-4)


@pytest.mark.quality
def test_a_network_learned_from_digits_loses_nothing_to_pixels(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    files, labels = digits(folder)
    with search.open(tmp_path / "c") as collection:
        learn = SimclrSettings(epochs=12)
        ingest.images(collection, folder, learn=learn, options=Options("cpu"))
        got = found_by_collection(
            collection, dict(zip([file.name for file in files], labels.tolist(), strict=True))
        )
    pixels = raw(files, "L")
    expected = first_neighbour(pixels, labels), mean_average_precision(pixels, labels)
    print(f"digits, simclr: first neighbour {got[0]:.4f}, mAP {got[1]:.4f}; raw pixels {expected}")
    assert got[0] >= expected[0] - 0.002
    assert got[1] >= expected[1]
