"""Networks learned from pictures: the loss against numpy, views, resuming, and what is found among planted textures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ingest.learn.pictures.augment import GLYPHS, PHOTOGRAPHS, Augmentation, views
from ingest.learn.pictures.seen import see
from ingest.learn.pictures.settings import SimclrSettings
from ingest.learn.pictures.simclr import Run, learn_simclr, nt_xent
from search import failpoints
from search.encoders.learned_pictures import LearnedPictureEncoder
from search.encoders.picture_network import NetworkShape, build
from search.errors import EncoderDrift, ModelError, ModelUnavailable, SourceError
from search.failpoints import Step
from tests.ingest.test_patches import blobs, first_neighbours

TINY = SimclrSettings(epochs=2, batch=8, width=2, side=16)
STILL = Augmentation(least_area=1, aspect=1, turn=0, flip=False, jitter=0, grey=0, blur=0)


def plainly(first: NDArray[np.float64], second: NDArray[np.float64], temperature: float) -> float:
    """Equation 1 of the paper, pair by pair."""
    rows = np.concatenate([first, second])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    n = len(first)
    losses = []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        near = [np.exp(rows[i] @ rows[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(-np.log(np.exp(rows[i] @ rows[partner] / temperature) / sum(near)))
    return float(np.mean(losses))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_loss_is_the_papers_and_its_gradient_that_of_small_differences() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 5, 3))
    for temperature in (0.1, 0.5, 2.0):
        got = nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
        assert got.item() == pytest.approx(plainly(first, second, temperature), rel=1e-12)
    leaf = torch.from_numpy(first).clone().requires_grad_()
    nt_xent(leaf, torch.from_numpy(second), 0.5).backward()
    assert leaf.grad is not None
    for place in np.ndindex(first.shape):
        step = np.zeros_like(first)
        step[place] = 1e-6
        slope = (plainly(first + step, second, 0.5) - plainly(first - step, second, 0.5)) / 2e-6
        assert leaf.grad[place].item() == pytest.approx(slope, abs=1e-8)


def test_the_loss_of_a_pair_alone_is_worked_out_by_hand() -> None:
    """Two pictures, all four views at right angles: each partner is one of three, so the loss is log 3."""
    rows = torch.eye(4, dtype=torch.float64)
    assert nt_xent(rows[:2], rows[2:], 0.3).item() == pytest.approx(np.log(3))


@pytest.mark.parametrize(("how", "channels"), [(PHOTOGRAPHS, 3), (GLYPHS, 1), (PHOTOGRAPHS, 1)])
def test_views_follow_their_seed(how: Augmentation, channels: int) -> None:
    pictures = torch.randint(0, 256, (6, channels, 20, 20), dtype=torch.uint8, generator=generator())
    before = pictures.clone()
    got = views(pictures, how, generator(1))
    torch.testing.assert_close(views(pictures, how, generator(1)), got, rtol=0, atol=0)
    assert (views(pictures, how, generator(2)) - got).abs().mean() > 0.01
    assert got.shape == pictures.shape
    assert got.dtype == torch.float32
    assert got.min() >= 0
    assert got.max() <= 1
    torch.testing.assert_close(pictures, before, rtol=0, atol=0)
    moving = generator(1)
    first, second = (views(pictures, how, moving) for _ in range(2))
    assert (first - second).abs().mean() > 0.01


def test_a_view_that_changes_nothing_is_the_picture() -> None:
    pictures = torch.randint(0, 256, (3, 3, 17, 17), dtype=torch.uint8, generator=generator())
    torch.testing.assert_close(views(pictures, STILL, generator()), pictures / 255, atol=1e-5, rtol=0)


def test_mirrored_turned_and_cropped_views_are_what_they_say() -> None:
    pictures = torch.randint(0, 256, (40, 1, 9, 9), dtype=torch.uint8, generator=generator())
    plain = pictures / 255
    mirrored = views(pictures, replace(STILL, flip=True), generator())
    is_plain = torch.isclose(mirrored, plain, atol=1e-4).flatten(1).all(1)
    is_mirrored = torch.isclose(mirrored, plain.flip(3), atol=1e-4).flatten(1).all(1)
    assert bool((is_plain ^ is_mirrored).all())
    assert 8 < int(is_mirrored.sum()) < 32
    # A picture that grows from left to right does so in a crop too, over a part of its range, in steps as small.
    ramp = torch.arange(0, 240, 15, dtype=torch.uint8).expand(50, 1, 16, 16)
    crops = views(ramp, replace(STILL, least_area=0.25), generator()) * 255
    steps = crops[:, 0, 8, 4:-4].diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), atol=1e-2, rtol=0)
    assert 7.4 < float(steps.min()) < 9
    assert 14 < float(steps.max()) < 15.1
    # Turned, a picture that grows to the right grows a little downwards or upwards.
    turned = views(ramp, replace(STILL, turn=20), generator()) * 255
    across, down = turned[:, 0, 8, 9] - turned[:, 0, 8, 7], turned[:, 0, 9, 8] - turned[:, 0, 7, 8]
    slopes = torch.rad2deg(torch.atan2(down, across))
    assert 15 < float(slopes.abs().max()) <= 20.01


def test_colours_change_as_the_eye_would_have_it() -> None:
    pictures = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=generator())
    lightness = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = views(pictures, replace(STILL, grey=1), generator())
    expected = (pictures / 255 * lightness).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(grey, expected, atol=2e-3, rtol=0)
    even = torch.full((30, 3, 8, 8), 128, dtype=torch.uint8)
    jittered = views(even, replace(STILL, jitter=0.5), generator())
    # What has no colour gets none, and without contrast only its brightness changes, by 40% at most.
    torch.testing.assert_close(jittered, jittered[:, :1, :1, :1].expand_as(jittered), atol=1e-3, rtol=0)
    levels = jittered[:, 0, 0, 0] / (128 / 255)
    assert 0.6 <= float(levels.min()) < 0.75
    assert 1.25 < float(levels.max()) <= 1.4001


def test_a_blur_keeps_the_mean_and_takes_the_edge_off() -> None:
    point = torch.zeros(20, 1, 33, 33, dtype=torch.uint8)
    point[:, :, 16, 16] = 255
    blurred = views(point, replace(STILL, blur=1), generator())
    torch.testing.assert_close(blurred.sum((1, 2, 3)), torch.ones(20), atol=1e-4, rtol=0)
    tops = blurred[:, 0, 16, 16]
    assert float(tops.min()) < 0.75
    assert float(tops.max()) > 0.99
    torch.testing.assert_close(blurred, blurred.transpose(2, 3), atol=1e-6, rtol=0)


def test_what_kind_of_pictures_they_are_is_seen(tmp_path: Path) -> None:
    colours, grey = blobs(3, 20), [one.convert("L").convert("RGB") for one in blobs(3, 20)]
    for pictures, channels, flip in ((colours, 3, True), (grey, 1, False)):
        seen = see(pictures, SimclrSettings())
        assert (seen.channels, seen.side, seen.augmentation.flip) == (channels, 20, flip)
    assert see(blobs(3, 200), SimclrSettings()).side == 64
    assert see(blobs(3, 8), SimclrSettings()).side == 16
    assert see([one.resize((200, 100)) for one in grey], SimclrSettings()).augmentation.flip
    assert see(grey, SimclrSettings(flip=True)).augmentation.flip
    assert not see(colours, SimclrSettings(flip=False)).augmentation.flip
    assert len(see([*grey, grey[1], *colours, colours[2]], SimclrSettings()).pixels) == 6
    sampled = see(blobs(20, 16), SimclrSettings(most_pictures=5))
    assert len(sampled.pixels) == 5


@pytest.mark.parametrize(
    ("n", "epochs", "batch"), [(2, 200, 2), (100, 200, 32), (1797, 111, 112), (50_000, 20, 256)]
)
def test_how_long_is_learned(n: int, epochs: int, batch: int) -> None:
    assert (SimclrSettings().epochs_of(n), SimclrSettings().batch_of(n)) == (epochs, batch)
    assert (SimclrSettings(epochs=3, batch=9).epochs_of(n), SimclrSettings(batch=9).batch_of(n)) == (
        3,
        min(n, 9),
    )


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.fixture
def dies_after() -> Iterator[list[int]]:
    """The process dies when the checkpoint has been kept so many times; 0 never."""
    left = [0]

    def hook(step: Step) -> None:
        if step is Step.COPY_NAMED and left[0]:
            left[0] -= 1
            if not left[0]:
                raise Killed

    failpoints.hook = hook
    yield left
    failpoints.hook = None


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, dies_after: list[int]) -> None:
    pictures = blobs(20, 16)  # 2 batches of 8 in an epoch, 4 left out
    settings = replace(TINY, epochs=4)
    whole = learn_simclr(pictures, settings, Run("cpu"))
    told: list[tuple[int, int]] = []
    file = tmp_path / "learning" / "a.safetensors"
    run = Run("cpu", checkpoint=file, every_s=0, progress=lambda *at: told.append(at))
    for kept in (3, 2):
        dies_after[0] = kept
        with pytest.raises(Killed):
            learn_simclr(pictures, settings, run)
    assert learn_simclr(pictures, settings, run) == whole
    assert told == [
        *((n, 8) for n in range(4)),
        *((n, 8) for n in range(3, 6)),
        *((n, 8) for n in range(5, 9)),
    ]
    # At its end it goes on from there too; other pictures, settings or a damaged file begin anew.
    for others, other in (
        (pictures, settings),
        (pictures[1:], settings),
        (pictures, replace(settings, seed=1)),
    ):
        told.clear()
        assert learn_simclr(others, other, run) == learn_simclr(others, other, Run("cpu"))
        assert told[0] == ((8, 8) if others is pictures and other is settings else (0, 8))
    file.write_bytes(file.read_bytes()[:-50])
    told.clear()
    assert learn_simclr(pictures, settings, run) == whole
    assert told[0] == (0, 8)
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_the_same_seed_gives_the_same_network_whatever_else_is_drawn() -> None:
    pictures = blobs(12, 16)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    data = learn_simclr(pictures, TINY, Run("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert learn_simclr(pictures, TINY, Run("cpu")) == data
    assert learn_simclr(pictures, replace(TINY, seed=1), Run("cpu")) != data


def planted(count: int, seed: int = 0) -> tuple[list[Image.Image], NDArray[np.int64]]:
    """Grey textures of 16 pixels a side: noise of three directions and two pitches, `count` of each, light or dark.

    No two have a pixel in common but by chance, so pixels tell little of the direction.
    """
    random = np.random.default_rng(seed)
    down, across = np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16), indexing="ij")
    pictures, labels = [], np.repeat(np.arange(6), count)
    for label in labels.tolist():
        angle, pitch = np.pi * (label % 3) / 3, (0.14, 0.3)[label // 3]
        x, y = pitch * np.cos(angle), pitch * np.sin(angle)
        band = sum(np.exp(-((across - s * x) ** 2 + (down - s * y) ** 2) / 0.02) for s in (1, -1))
        waves = np.fft.ifft2(np.fft.fft2(random.normal(size=(16, 16))) * band).real
        level = random.integers(80, 176) + waves / waves.std() * random.uniform(25, 50)
        pictures.append(Image.fromarray(np.clip(level, 0, 255).astype(np.uint8)))
    return pictures, labels


def test_planted_textures_are_found_far_better_than_by_pixels() -> None:
    pictures, labels = planted(30)
    settings = SimclrSettings(epochs=12, batch=45, width=4)
    encoder = LearnedPictureEncoder(learn_simclr(pictures, settings, Run("cpu")), device="cpu")
    unmoved = learn_simclr(pictures, replace(settings, epochs=1, rate=1e-9), Run("cpu"))
    raw = np.stack([np.asarray(one, np.float64).ravel() for one in pictures])
    rows = encoder.encode(pictures)
    by_pixels, found = first_neighbours(raw, labels), first_neighbours(rows.astype(np.float64), labels)
    by_chance = first_neighbours(
        LearnedPictureEncoder(unmoved, device="cpu").encode(pictures).astype(np.float64), labels
    )
    print(f"textures, first neighbour: simclr {found:.3f}, unlearned {by_chance:.3f}, pixels {by_pixels:.3f}")
    assert found >= max(by_pixels, by_chance) + 0.2
    # Textures that it has never seen are found as well.
    others, theirs = planted(15, seed=1)
    nearest = labels[(encoder.encode(others) @ rows.T).argmax(axis=1)]
    assert (nearest == theirs).mean() >= max(by_pixels, by_chance) + 0.2


def test_features_are_evened_as_they_say() -> None:
    """The mean of the rows before they are scaled is 0, their directions are uncorrelated, none stands out."""
    pictures = blobs(60, 16)
    encoder = LearnedPictureEncoder(learn_simclr(pictures, TINY, Run("cpu")), device="cpu")
    network, levels, whitening = encoder._network, encoder._levels, encoder._whitening
    pixels = np.stack([encoder.preparation(one) for one in pictures]).astype(np.float64)
    scaled = (pixels - levels.mean.numpy()[:, None, None]) / levels.deviation.numpy()[:, None, None]
    np.testing.assert_allclose(scaled.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 2, 3)), 1, atol=1e-5)
    with torch.inference_mode():
        features = network.describe(torch.from_numpy(scaled.astype(np.float32))).numpy().astype(np.float64)
    rows = (features - whitening.mean.numpy()) @ whitening.projection.numpy()
    spread = np.cov(rows.T, bias=True)
    variances = np.linalg.eigvalsh(np.cov(features.T, bias=True))[::-1]
    np.testing.assert_allclose(np.diag(spread), variances / (variances + 0.1 * variances[0]), atol=1e-3)
    np.testing.assert_allclose(spread - np.diag(np.diag(spread)), 0, atol=1e-4)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(pictures), units, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "cells"), [(8, 4), (16, 4), (17, 3), (32, 4), (33, 3), (64, 4), (65, 5), (128, 8)]
)
def test_the_small_network_gives_what_its_hooks_see(side: int, cells: int) -> None:
    network = build(NetworkShape("small", side, 1, 2)).eval()
    maps: list[torch.Tensor] = []
    for stage in ("blocks.2", "blocks.3"):
        network.get_submodule(stage).register_forward_hook(lambda *of: maps.append(of[2]))
    pictures = torch.rand(3, 1, side, side, generator=generator())
    with torch.inference_mode():
        learned_by, compared_by = network(pictures), network.describe(pictures)
    before, last = maps[:2]
    assert last.shape == (3, 16, cells, cells)
    torch.testing.assert_close(learned_by, last.mean((2, 3)))
    expected = []
    for found in (before, last):
        half, rest = -(-found.shape[2] // 2), found.shape[2] // 2  # quadrants share the middle of an odd side
        parts = (slice(None, half), slice(rest, None))
        cut = [found[:, :, rows, columns].mean((2, 3)) for rows in parts for columns in parts]
        expected.append(torch.stack(cut, dim=2).flatten(1))
    quadrants = torch.cat(expected, dim=1)
    torch.testing.assert_close(compared_by, quadrants)


def test_networks_of_torchvision_are_learned_too() -> None:
    settings = SimclrSettings(network="torchvision:squeezenet1_1", epochs=1, batch=4, side=32)
    data = learn_simclr(blobs(4, 32), settings, Run("cpu"))
    encoder = LearnedPictureEncoder(data, device="cpu")
    assert (encoder.spec.model, encoder.spec.dim) == ("simclr:torchvision:squeezenet1_1", 256)
    assert np.isfinite(encoder.encode(blobs(6, 32))).all()
    for network, said in (
        ("torchvision:resnet", "no classification network 'resnet'"),
        ("torchvision:vit_b_16", "vit_b_16 cannot be learned from pictures of 32 x 32 pixels"),
        ("resnet18", "'resnet18' is no network that can be learned here; use small"),
    ):
        with pytest.raises(ModelUnavailable, match=said):
            learn_simclr(blobs(4, 32), replace(settings, network=network), Run("cpu"))


def test_too_few_pictures_are_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    white = Image.new("RGB", (16, 16), "white")
    good = blobs(9, 16)
    assert learn_simclr([*good, bad, good[3]], TINY, Run("cpu")) == learn_simclr(good, TINY, Run("cpu"))
    for pictures in ([bad], []):
        with pytest.raises(SourceError, match="none of the pictures can be read; give at least two"):
            learn_simclr(pictures, TINY, Run("cpu"))
    for pictures in ([white], [white, white, white], [white, bad]):
        with pytest.raises(SourceError, match=r"no two differ, .*; give more, or use --learn patches"):
            learn_simclr(pictures, TINY, Run("cpu"))
    rows = LearnedPictureEncoder(learn_simclr(good[:2], TINY, Run("cpu")), device="cpu").encode(
        [white, *good]
    )
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_the_learned_bytes_are_checked() -> None:
    pictures = blobs(5, 16)
    data = learn_simclr(pictures, TINY, Run("cpu"))
    encoder = LearnedPictureEncoder(data, device="cpu")
    for broken in (b"", b"junk", data[:-100], data.replace(b"learned pictures 1", b"learned pictures 9")):
        with pytest.raises(ModelUnavailable, match="; ingest the pictures again"):
            LearnedPictureEncoder(broken)
    for before, after in ((b'\\"width\\": 2', b'\\"width\\": 4'), (b"blocks.0.first", b"blocks.9.first")):
        assert before in data
        with pytest.raises(ModelUnavailable, match="does not fit its own settings; ingest"):
            LearnedPictureEncoder(data.replace(before, after))
    with pytest.raises(EncoderDrift):
        LearnedPictureEncoder.from_spec(encoder.spec, data=learn_simclr(pictures[:4], TINY, Run("cpu")))
    with pytest.raises(ModelUnavailable, match="missing; ingest"):
        LearnedPictureEncoder.from_spec(encoder.spec)
    with pytest.raises(ModelError, match=r"not learned in fp16.*; use --precision bf16"):
        learn_simclr(pictures, TINY, Run("cpu", "fp16"))


def test_bf16_learns_and_encodes_nearly_the_same() -> None:
    pictures = blobs(16, 16)
    data = learn_simclr(pictures, TINY, Run("cpu"))
    plain = LearnedPictureEncoder(data, device="cpu").encode(pictures)
    quick = LearnedPictureEncoder(data, device="cpu", precision="bf16").encode(pictures)
    assert (plain * quick).sum(axis=1).min() > 0.99
    assert not np.array_equal(plain, quick)
    assert learn_simclr(pictures, TINY, Run("cpu", "bf16")) != data


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch": 1}, {"side": 4}, {"temperature": 0.0}, {"seed": -1}, {"most_pictures": 1}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SourceError, match="; "):
        SimclrSettings(**wrong)  # type: ignore[arg-type]
