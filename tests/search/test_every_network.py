"""Every classification network of torchvision, in its full size with seeded weights, against hooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from search.encoders.load import Device, ModelChoice, layers_of, load_named
from tests.search.test_picture_encoders import average, input_of, pictures, plain, saved
from tests.search.test_picture_layers import output_of

__all__ = ["pictures"]

FP32 = Device("cpu", "fp32")


@pytest.mark.quality
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_network_of_torchvision_at_its_pooled_features_and_a_hidden_layer(
    tmp_path: Path, pictures: list[Image.Image], name: str
) -> None:
    sizes = models.get_model_weights(name)["IMAGENET1K_V1"].meta["num_params"]
    if sizes > 150e6:
        pytest.skip("more than 150 million weights")
    torch.manual_seed(0)
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = models.get_model(name, weights=None, **extra).eval()
    if name in ("googlenet", "inception_v3"):
        network.transform_input = True
    file = saved(network, tmp_path / "a.pth")
    prepare = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    encoder = load_named(f"torchvision:{name}", ModelChoice(file), device=FP32)
    head = next(one for one in ("fc", "classifier", "heads", "head") if hasattr(network, one))

    def rows(handed: Tensor) -> Tensor:
        return handed.mean((2, 3)) if handed.ndim == 4 else handed

    if name.startswith(("vgg", "alexnet")):
        expected = plain(output_of(network, "features", average), prepare, pictures[:1])
    else:
        expected = plain(input_of(network, head, rows), prepare, pictures[:1])
    np.testing.assert_allclose(encoder.encode(pictures[:1]), expected, atol=1e-5)
    listed = layers_of(f"torchvision:{name}")
    modules = {one for one, module in network.named_modules() if not isinstance(module, nn.ModuleList)}
    inner = [one for one in listed if one.name in modules and one.name.count(".") in (1, 2)]
    maps = [one for one in inner if len(one.shape) == (2 if name.startswith("vit") else 3)]
    layer, shape = maps[len(maps) // 2].name, maps[len(maps) // 2].shape
    at = load_named(f"torchvision:{name}", ModelChoice(file, layer, "max"), device=FP32)

    def greatest(output: Tensor) -> Tensor:
        if len(shape) == 2:
            return output[:, 1:].amax(1)
        return output.amax((1, 2) if shape[0] == shape[1] != shape[2] else (2, 3))

    expected = plain(output_of(network, layer, greatest), prepare, pictures[:1])
    np.testing.assert_allclose(at.encode(pictures[:1]), expected, atol=1e-5)
