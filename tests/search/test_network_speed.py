"""What makes a network quicker leaves its rows as they were: folding, 16-bit numbers, whole-number pixels, batches."""

from __future__ import annotations

from collections.abc import Sequence as Sequence_

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import Compose, Resize, ToTensor

from search.encoders import network_speed
from search.encoders.contract import Pixels
from search.encoders.network_speed import settle
from search.encoders.networks import NetworkEncoder, unit_rows
from search.encoders.picture_batches import CPU_BATCH, Batches, Scale, assemble, split_transform
from search.encoders.picture_layers import Pool, Tapped
from search.errors import ModelError
from search.types import EncoderSpec, Modality
from tests.search.test_picture_encoders import pictures, random_network

__all__ = ["pictures"]

CPU = torch.device("cpu")
SMALL = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def run(network: nn.Module, dtype: torch.dtype) -> Tensor:
    rows: Tensor = network(SMALL.to(dtype))
    return rows


def norms(network: nn.Module) -> int:
    return sum(isinstance(one, nn.BatchNorm2d) for one in network.modules())


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_speed, "has_bf16_instructions", lambda: False)


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_speed, "has_bf16_instructions", lambda: True)


@pytest.mark.usefixtures("no_bf16")
def test_batch_normalisations_are_folded_and_nothing_changes() -> None:
    network = random_network("mobilenet_v2")
    with torch.inference_mode():
        before = network(SMALL)
    count = norms(network)
    settled, dtype = settle(network, run, CPU, "auto")
    assert (dtype, count, norms(settled)) == (torch.float32, 52, 0)
    with torch.inference_mode():
        torch.testing.assert_close(settled(SMALL), before, rtol=1e-4, atol=1e-5)


class Both(nn.Module):
    """The output of the convolution is read by the normalisation, and again beside it: folding would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.running_mean, 0.5, 1.0)  # type: ignore[arg-type]

    def forward(self, batch: Tensor) -> Tensor:
        maps = self.conv(batch)
        return torch.cat([maps, self.norm(maps)], 1).mean((2, 3))


@pytest.mark.usefixtures("no_bf16")
def test_what_folding_would_change_is_left() -> None:
    torch.manual_seed(0)
    network = Both().eval()
    with torch.inference_mode():
        before = network(SMALL)
    settled, _ = settle(network, run, CPU, "auto")
    assert norms(settled) == 1
    with torch.inference_mode():
        torch.testing.assert_close(settled(SMALL), before)


@pytest.mark.usefixtures("no_bf16")
@pytest.mark.parametrize("layer", ["layer1.0.bn1", "layer1.0.conv1"])
def test_a_tapped_normalisation_is_left_and_a_tapped_convolution_is_not_normalised(layer: str) -> None:
    network = random_network("resnet18")
    caught: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda m, i, o: caught.append(o.clone()))
    with torch.inference_mode():
        network(SMALL)
    hook.remove()
    settled, _ = settle(Tapped(network, layer, Pool()), run, CPU, "auto")
    with torch.inference_mode():
        torch.testing.assert_close(settled(SMALL), caught[0].mean((2, 3)), rtol=1e-4, atol=1e-5)


class Delicate(nn.Module):
    """Subtracts what is nearly the same: 16-bit numbers lose what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3 * 32 * 32, 8)

    def forward(self, batch: Tensor) -> Tensor:
        rows: Tensor = self.one(batch.flatten(1))
        return (rows + 1000) - 1000


@pytest.mark.usefixtures("bf16")
def test_bf16_is_taken_where_rows_stay_and_only_there() -> None:
    torch.manual_seed(0)
    _, steady = settle(random_network("squeezenet1_1"), run, CPU, "auto")
    _, delicate = settle(Delicate(), run, CPU, "auto")
    _, asked = settle(Delicate(), run, CPU, "bf16")
    assert (steady, delicate, asked) == (torch.bfloat16, torch.float32, torch.bfloat16)
    with pytest.raises(ModelError, match="unknown precision 'int8'"):
        settle(Delicate(), run, CPU, "int8")


def test_pixels_go_as_whole_numbers_and_come_out_as_torchvisions_own(pictures: list[Image.Image]) -> None:
    for name in ("ResNet18_Weights.IMAGENET1K_V1", "EfficientNet_B3_Weights.IMAGENET1K_V1"):
        transform = models.get_weight(name).transforms()
        preparation, scaling = split_transform(transform)
        prepared = [preparation(picture) for picture in pictures]
        assert all(one.dtype == np.uint8 for one in prepared)
        batch = Scale(scaling, CPU, torch.float32)(assemble(prepared, CPU))
        assert batch.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(batch, torch.stack([transform(p) for p in pictures]), rtol=0, atol=1e-6)
    whole, left = split_transform(Compose([Resize((8, 8)), ToTensor()]))  # nothing that could be left to do
    assert left is None
    assert whole(pictures[0]).dtype == np.float32


def test_batches_are_halved_where_memory_is_short_and_none_is_lost() -> None:
    batches = Batches(CPU)
    sizes: list[int] = []

    def work(inputs: Sequence_[Pixels]) -> Tensor:
        sizes.append(len(inputs))
        if len(inputs) > 5:
            raise torch.OutOfMemoryError("no more")
        return torch.stack([torch.from_numpy(one).flatten() for one in inputs])

    inputs = [np.full((1, 1, 1), number, dtype=np.float32) for number in range(40)]
    got = list(batches.run(iter(inputs), work))
    assert torch.cat([rows for _, rows in got]).flatten().tolist() == list(range(40))
    assert [count for count, _ in got] == [4] * 10
    assert sizes[:3] == [CPU_BATCH, CPU_BATCH // 2, 4]

    def hopeless(inputs: Sequence_[Pixels]) -> Tensor:
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(ModelError, match="one picture alone is more than the memory of cpu holds"):
        list(batches.run(iter(inputs), hopeless))


def test_numbers_that_overflow_are_told() -> None:
    with pytest.raises(ModelError, match="overflow in this precision"):
        unit_rows(torch.tensor([[1.0, float("inf")]]))
    flat = unit_rows(torch.zeros(1, 4))
    np.testing.assert_array_equal(flat, [[0.5] * 4])


def test_an_encoder_of_a_given_network_says_its_precision(pictures: list[Image.Image]) -> None:
    spec = EncoderSpec("own", "own", Modality.IMAGE, 3, ("image",))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = NetworkEncoder(
        spec, network, Compose([Resize((8, 8)), ToTensor()]), device="cpu", precision="fp32"
    )
    assert encoder.precision == "fp32"
    expected = [np.asarray(one.resize((8, 8), Image.Resampling.BILINEAR)).mean((0, 1)) for one in pictures]
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(pictures), units, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_a_gpu_gives_the_rows_of_the_processor(pictures: list[Image.Image]) -> None:
    spec = EncoderSpec("own", "own", Modality.IMAGE, 1000, ("image",))
    transform = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    rows = {
        (device, precision): NetworkEncoder(
            spec, random_network("resnet18"), transform, device=device, precision=precision
        ).encode(pictures * 200)  # several batches, pinned and copied while others are computed
        for device, precision in [("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "auto")]
    }
    exact = rows["cpu", "fp32"]
    np.testing.assert_allclose(rows["cuda", "fp32"], exact, atol=1e-3)  # TF32 in convolutions
    assert (rows["cuda", "auto"] * exact).sum(axis=1).min() >= 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_a_gpu_that_is_short_of_memory_takes_smaller_batches() -> None:
    device = torch.device("cuda")
    batches = Batches(device)
    one = torch.cuda.get_device_properties(device).total_memory // 4  # so that at most three fit

    def work(inputs: Sequence_[Pixels]) -> Tensor:
        torch.empty(len(inputs) * one, dtype=torch.uint8, device=device)
        return torch.stack([torch.from_numpy(pixels).flatten() for pixels in inputs]).to(device)

    inputs = [np.full((1, 1, 1), number, dtype=np.float32) for number in range(9)]
    got = torch.cat([rows.cpu() for _, rows in batches.run(iter(inputs), work)])
    assert got.flatten().tolist() == list(range(9))
