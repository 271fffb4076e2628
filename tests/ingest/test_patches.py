"""The patches encoder: its arithmetic against a plain numpy version, and what it finds among real pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load
from sklearn.datasets import load_digits

from ingest.learn.pictures.patches import CONTRAST, PatchesSettings, learn_patches
from search.encoders.patches import PatchesEncoder
from search.errors import EncoderDrift, ModelError, ModelUnavailable, SourceError

Floats = NDArray[np.float64]


def first_neighbours(rows: Floats, labels: NDArray[np.generic]) -> float:
    """How many rows have the label of the other row that is nearest by cosine."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    return float((labels[scores.argmax(axis=1)] == labels).mean())


def blobs(count: int, side: int, seed: int = 0) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in small]


SMALL = PatchesSettings(dim=12, k=20, patch=4, patches=3000)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], NDArray[np.int64]]:
    """The 1,797 digits of scikit-learn as PNG files of 8 x 8 pixels."""
    folder = tmp_path_factory.mktemp("digits")
    given = load_digits()
    files = []
    for number, pixels in enumerate(given.images):
        files.append(folder / f"{number:04}.png")
        Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(files[-1])
    return files, given.target


def plainly(data: bytes, picture: Image.Image) -> Floats:
    """The vector of a picture by the paper's own steps, patch by patch, in float64."""
    length = int.from_bytes(data[:8], "little")
    settings = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["nearkin"])
    tensors = {name: values.astype(np.float64) for name, values in load(data).items()}
    side, patch, k, grid = (settings[name] for name in ("side", "patch", "k", "grid"))
    channels = settings["channels"]
    shown = picture.convert("L" if channels == 1 else "RGB").resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(shown, dtype=np.float64).reshape(side, side, channels).transpose(2, 0, 1) / 255
    kernels = tensors["kernels"].reshape(len(tensors["kernels"]), -1)
    places = side - patch + 1
    nearness = np.empty((places, places, k))
    for row in range(places):
        for column in range(places):
            piece = pixels[:, row : row + patch, column : column + patch].ravel()
            piece = (piece - piece.mean()) / np.sqrt(piece.var() + CONTRAST)
            products = kernels @ piece - tensors["offsets"]
            whitened = products[k:]
            distances = np.sqrt(np.maximum(whitened @ whitened - 2 * products[:k] + tensors["squares"], 0))
            nearness[row, column] = np.maximum(distances.mean() - distances, 0)
    cells = [(place * places // grid, -(-(place + 1) * places // grid)) for place in range(grid)]
    pooled = np.array([[nearness[a:b, c:d].mean(axis=(0, 1)) for c, d in cells] for a, b in cells])
    vector = (pooled.transpose(2, 0, 1).ravel() - tensors["mean"]) @ tensors["projection"]
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("colour", [False, True])
def test_one_convolution_equals_the_paper_patch_by_patch(colour: bool) -> None:
    settings = PatchesSettings(dim=12, k=20, patch=4, patches=3000, side=15, colour=colour)
    pictures = blobs(60, 15)
    data = learn_patches(pictures, settings)
    got = PatchesEncoder(data, device="cpu").encode(pictures[:4])
    np.testing.assert_allclose(got, [plainly(data, picture) for picture in pictures[:4]], atol=2e-4)


def test_the_kernels_give_true_distances_to_the_centroids() -> None:
    """||w - c||^2 from the folded kernels equals the distance worked out from w and c themselves."""
    tensors = {
        name: values.astype(np.float64) for name, values in load(learn_patches(blobs(60, 16), SMALL)).items()
    }
    kernels = tensors["kernels"].reshape(-1, 16)
    to_centroids, whitening = kernels[:20], kernels[20:]
    # Both are centred over the patch, and to_centroids = centroids @ whitening: solve for the centroids.
    centroids, _, rank, _ = np.linalg.lstsq(whitening.T, to_centroids.T, rcond=1e-8)
    assert rank == 15
    leftover = tensors["squares"] - np.square(centroids).sum(axis=0)
    assert leftover.min() > -1e-6  # a centroid may lie off the plane of the centred patches, never nearer
    np.testing.assert_allclose(leftover, 0, atol=1e-6)


def test_directions_of_what_was_learned_have_variance_one() -> None:
    pictures = blobs(300, 16)
    encoder = PatchesEncoder(learn_patches(pictures, SMALL), device="cpu")
    features = np.concatenate(
        [
            encoder._features(torch.from_numpy(np.asarray(one.convert("L"), np.float32)[None, None] / 255))
            for one in pictures
        ]
    )
    rows = (features - encoder._mean.numpy()) @ encoder._projection.numpy()
    spread = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(spread - np.diag(np.diag(spread)), 0, atol=1e-3)
    assert np.all((np.diag(spread) > 0.9) & (np.diag(spread) < 1.001))


def test_digits_find_their_like(digits: tuple[list[Path], NDArray[np.int64]]) -> None:
    files, labels = digits
    encoder = PatchesEncoder(learn_patches(files), device="cpu")
    assert encoder.spec.options["side"] == 8
    rows = encoder.encode(files)
    raw = np.stack([np.asarray(Image.open(file), dtype=np.float64).ravel() for file in files])
    found, by_pixels = first_neighbours(rows.astype(np.float64), labels), first_neighbours(raw, labels)
    print(f"digits, first neighbour the same: patches {found:.4f}, raw pixels {by_pixels:.4f}")
    assert found >= 0.98
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.quality
def test_clothes_find_their_like(shared_data: Callable[[str], Path]) -> None:
    files = sorted(shared_data("images/clothing").rglob("*.jpg"))
    labels = np.array([file.parent.name for file in files])
    small = [Image.open(file).resize((32, 32), Image.Resampling.BILINEAR) for file in files]
    by_pixels = max(
        first_neighbours(np.stack([np.asarray(one.convert(mode), float).ravel() for one in small]), labels)
        for mode in ("L", "RGB")
    )
    encoder = PatchesEncoder(learn_patches(files), device="cpu")
    found = first_neighbours(encoder.encode(files).astype(np.float64), labels)
    print(f"clothing, first neighbour of the same class: patches {found:.4f}, raw pixels {by_pixels:.4f}")
    assert found >= 0.594
    assert found >= by_pixels + 0.1


def test_the_same_pictures_give_the_same_encoder_and_another_seed_another() -> None:
    pictures = blobs(40, 16)
    data = learn_patches(pictures, SMALL)
    assert learn_patches(pictures, SMALL) == data
    assert learn_patches(pictures, PatchesSettings(dim=12, k=20, patch=4, patches=3000, seed=1)) != data


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_pictures_keep_the_width_and_are_told_apart(count: int) -> None:
    pictures = blobs(count + 5, 20)
    encoder = PatchesEncoder(learn_patches(pictures[:count]), device="cpu")
    assert encoder.spec.dim == 256
    rows = encoder.encode(pictures)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -1)
    assert scores.max() < 0.95


def test_pictures_without_any_contrast_still_give_unit_rows() -> None:
    white = [Image.new("RGB", (16, 16), "white")] * 3
    rows = PatchesEncoder(learn_patches(white, SMALL), device="cpu").encode([*white, *blobs(2, 16)])
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


def test_the_side_follows_the_pictures() -> None:
    for own, side in ((8, 8), (20, 20), (200, 32), (3, 8)):
        assert PatchesEncoder(learn_patches(blobs(4, own), SMALL), device="cpu").spec.options["side"] == side


def test_unreadable_pictures_are_left_out(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    good = blobs(600, 16)
    assert learn_patches([*good, bad], SMALL) == learn_patches(good, SMALL)
    for pictures in ([bad], []):
        with pytest.raises(SourceError, match="none of the pictures can be read; "):
            learn_patches(pictures, SMALL)


def test_progress_ends_at_its_total_and_samples_bound_the_work() -> None:
    told: list[tuple[int, int]] = []
    settings = PatchesSettings(dim=12, k=20, patch=4, patches=3000, most_pictures=70)
    learn_patches(blobs(200, 16), settings, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (73, 73)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {73}


def test_the_learned_bytes_are_checked(tmp_path: Path) -> None:
    pictures = blobs(5, 16)
    data = learn_patches(pictures, SMALL)
    encoder = PatchesEncoder(data, device="cpu")
    again = PatchesEncoder.from_spec(encoder.spec, data=data, device="cpu")
    np.testing.assert_array_equal(again.encode(pictures), encoder.encode(pictures))
    (tmp_path / "a.safetensors").write_bytes(data)
    named = PatchesEncoder.from_name("patches", weights=tmp_path / "a.safetensors", device="cpu")
    assert named.spec == encoder.spec
    for broken in (b"", b"junk", data[:-100], data.replace(b"nearkin patches 1", b"nearkin patches 9")):
        with pytest.raises(ModelUnavailable, match="; ingest the pictures again"):
            PatchesEncoder(broken)
    with pytest.raises(EncoderDrift):
        PatchesEncoder.from_spec(encoder.spec, data=learn_patches(pictures[:2], SMALL))
    with pytest.raises(ModelUnavailable, match="missing; ingest"):
        PatchesEncoder.from_spec(encoder.spec)
    with pytest.raises(ModelUnavailable, match="--model patches"):
        PatchesEncoder.from_name("patches")
    with pytest.raises(ModelError, match="fp32 only"):
        PatchesEncoder(data, device="cpu", precision="bf16")


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"patch": 1}, {"whitening": 0.0}, {"side": 5}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SourceError, match="; "):
        PatchesSettings(**wrong)  # type: ignore[arg-type]
