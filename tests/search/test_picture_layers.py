"""Hidden layers and poolings of picture networks against hand-written hooks and formulas."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from ingest.cli.main import app
from search.cli.main import outcome
from search.encoders import torchvision_layers
from search.encoders.load import Device, ModelChoice, layers_of, load_named, load_spec
from search.encoders.picture_layers import Layer, PicturePooling, Pool, Sequence, Tapped, hooked_layers
from search.encoders.timm_networks import TimmEncoder
from search.encoders.torchvision_networks import TorchvisionEncoder
from search.errors import ModelError, ModelUnavailable
from tests.search.test_picture_encoders import (
    CPU,
    V1,
    average,
    input_of,
    pictures,
    plain,
    random_network,
    saved,
    small_networks,
)

__all__ = ["pictures", "small_networks"]

FP32 = Device("cpu", "fp32")
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def gem(maps: Tensor) -> Tensor:
    return maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


def greatest(maps: Tensor) -> Tensor:
    return maps.amax((2, 3))


def output_of(
    network: nn.Module, module: str, reduce: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """A function that gives what a module of the network gives, by a hook."""
    caught: list[Tensor] = []
    network.get_submodule(module).register_forward_hook(lambda m, i, output: caught.append(output.clone()))

    def run(batch: Tensor) -> Tensor:
        network(batch)
        return reduce(caught.pop())

    return run


def test_poolings_worked_out_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]], [[-4.0, 0.0], [0.0, 2.0]]]])  # (1, 2 channels, 2, 2)
    of = {how: Pool(PicturePooling(how))(maps)[0].tolist() for how in ("avg", "max", "gem")}
    assert of["avg"] == [1.5, -0.5]
    assert of["max"] == [3.0, 2.0]
    # The cubes are 1, 8, 27, 0: 9 on average; of the second 0, 0, 0, 8, since what is below 0 counts as 0.
    assert of["gem"] == pytest.approx([9 ** (1 / 3), 2 ** (1 / 3)])
    tokens = torch.tensor([[[9.0, 9.0], [5.0, 5.0], [1.0, 2.0], [3.0, 6.0]]])  # class, register, two patches
    sequence = Sequence(4, prefix=2, has_class=True)
    of = {how: Pool(PicturePooling(how), sequence)(tokens)[0].tolist() for how in ("avg", "max", "cls")}
    assert of == {"avg": [2.0, 4.0], "max": [3.0, 6.0], "cls": [9.0, 9.0]}
    assert Pool(None, sequence)(tokens)[0].tolist() == [9.0, 9.0]
    assert Pool(None, Sequence(4, prefix=2))(tokens)[0].tolist() == [2.0, 4.0]  # no class token among the two
    assert Pool(None, Sequence(7, 2, has_class=True))(tokens)[0].tolist() == [4.5, 5.5]  # not joined yet
    channels_last = torch.arange(18.0).reshape(1, 3, 3, 2)
    assert Pool()(channels_last)[0].tolist() == [8.0, 9.0]


@pytest.mark.parametrize(
    ("name", "layer", "pooling", "module", "reduce"),
    [
        ("resnet18", None, "avg", "layer4", average),
        ("resnet18", None, "gem", "layer4", gem),
        ("resnet18", "layer2", "max", "layer2", greatest),
        ("efficientnet_b0", None, "gem", "features", gem),
        ("densenet121", None, "max", "features", lambda maps: greatest(maps.relu())),
        ("vit_b_32", None, "avg", "encoder", lambda tokens: tokens[:, 1:].mean(1)),
        ("vit_b_32", None, "cls", "encoder", lambda tokens: tokens[:, 0]),
        ("vit_b_32", "encoder.layers.encoder_layer_0", "max", "encoder.layers.0", lambda t: t[:, 1:].amax(1)),
        ("swin_t", None, "max", "permute", greatest),
    ],
)
def test_poolings_of_torchvision_equal_hooks(
    tmp_path: Path,
    pictures: list[Image.Image],
    name: str,
    layer: str | None,
    pooling: str,
    module: str,
    reduce: Callable[[Tensor], Tensor],
) -> None:
    network = random_network(name)
    choice = ModelChoice(saved(network, tmp_path / "a.pth"), layer, pooling)
    encoder = load_named(f"torchvision:{name}", choice, device=FP32)
    prepare = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    hooked = module.replace("encoder.layers.0", "encoder.layers.encoder_layer_0")
    expected = plain(output_of(network, hooked, reduce), prepare, pictures[:2])
    np.testing.assert_allclose(encoder.encode(pictures[:2]), expected, atol=1e-5)
    again = load_spec(encoder.spec, device=FP32)
    np.testing.assert_allclose(again.encode(pictures[:2]), expected, atol=1e-5)


def test_poolings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    file = saved(random_network("resnet18"), tmp_path / "a.pth")
    vit = saved(random_network("vit_b_32"), tmp_path / "b.pth")
    for name, layer, pooling, words in [
        ("resnet18", None, "cls", "resnet18 has no class token; use --pooling avg, gem or max"),
        ("resnet18", "layer2", "cls", "layer 'layer2' of resnet18 has no class token"),
        (
            "resnet18",
            "flatten",
            "gem",
            "layer 'flatten' of resnet18 is one vector already; leave --pooling out",
        ),
        ("resnet18", None, "last", "has no pooling 'last'; use avg, gem, max, cls"),
        ("vit_b_32", "conv_proj", "cls", "has no class token"),
    ]:
        with pytest.raises(ModelError, match=words):
            TorchvisionEncoder.from_name(
                name, weights=vit if name == "vit_b_32" else file, layer=layer, pooling=pooling, **CPU
            )
    mean = TorchvisionEncoder.from_name("resnet18", weights=file, pooling="mean", **CPU)
    assert mean.spec.options["pooling"] == "avg"
    with pytest.raises(ModelUnavailable, match="'raft_small' of torchvision classifies no pictures"):
        TorchvisionEncoder.from_name("raft_small", weights=file)


@needs_timm
@pytest.mark.parametrize(
    ("name", "layer", "pooling", "module", "reduce"),
    [
        ("test_nfnet", "stages.1", None, "stages.1", average),
        ("test_nfnet", "stages.1.0.conv1", "max", "stages.1.0.conv1", greatest),
        ("test_nfnet", None, "gem", "final_conv", lambda maps: gem(nn.functional.silu(maps))),
        ("test_resnet", "layer2", "gem", "layer2", gem),
        ("test_efficientnet", "blocks.2", None, "blocks.2", average),
        ("test_vit", "blocks.1", None, "blocks.1", lambda tokens: tokens[:, 0]),
        ("test_vit", "blocks.1", "avg", "blocks.1", lambda tokens: tokens[:, 1:].mean(1)),
        ("test_vit", None, "max", "norm", lambda tokens: tokens[:, 1:].amax(1)),
    ],
)
def test_layers_of_timm_equal_hooks(
    tmp_path: Path,
    pictures: list[Image.Image],
    name: str,
    layer: str | None,
    pooling: str | None,
    module: str,
    reduce: Callable[[Tensor], Tensor],
) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    file = tmp_path / "a.safetensors"
    save_file(network.state_dict(), file)
    encoder = load_named(f"timm:{name}", ModelChoice(file, layer, pooling), device=FP32)
    prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    expected = plain(output_of(network, module, reduce), prepare, pictures)
    np.testing.assert_allclose(encoder.encode(pictures), expected, atol=1e-5)
    again = load_spec(encoder.spec, device=FP32)
    np.testing.assert_allclose(again.encode(pictures), expected, atol=1e-5)


@needs_timm
def test_registers_of_timm_are_no_patches(tmp_path: Path, pictures: list[Image.Image]) -> None:
    import timm

    small = {"embed_dim": 24, "depth": 1, "num_heads": 2, "img_size": 56}
    network = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False, **small).eval()
    from search.encoders.timm_networks import _sequence

    assert _sequence(network) == Sequence(16 + 5, prefix=5, has_class=True)


@needs_timm
def test_a_layer_that_timm_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelUnavailable, match=r"no layer 'stages\.9'; .*stages\.1.*nearkin models timm:test_nfnet"
    ):
        TimmEncoder.from_name("test_nfnet", weights=tmp_path / "a.pth", layer="stages.9")
    with pytest.raises(ModelError, match="no pooling 'sum'"):
        TimmEncoder.from_name("test_nfnet", weights=tmp_path / "a.pth", pooling="sum")


def test_names_are_those_of_torchvisions_own_extraction() -> None:
    from torchvision.models.feature_extraction import get_graph_node_names

    for name in ("mobilenet_v3_small", "vit_b_32", "swin_t"):
        network = random_network(name)
        steps = get_graph_node_names(network, suppress_diff_warning=True)[1][1:]
        assert [n for n in torchvision_layers.layer_names(network) if n in steps] == steps


@needs_timm
def test_the_command_lists_layers_with_their_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(app, ["models", "torchvision:resnet50", "--layers", "--json"]) == 0
    told = {one["layer"]: one["shape"] for one in json.loads(capsys.readouterr().out)}
    assert told["layer3"] == [1024, 14, 14]
    assert told["avgpool"] == [2048, 1, 1]
    assert told["fc"] == [1000]
    assert outcome(app, ["models", "timm:test_nfnet", "--layers"]) == 0
    assert "128 x 40 x 40" in capsys.readouterr().out
    assert dict.fromkeys(["stem", "stages.0"]).keys() <= {one.name for one in layers_of("timm:test_nfnet")}
    assert outcome(app, ["models", "--layers"]) == 2
    assert outcome(app, ["models", "torchvision:resnet50", "--layers", "--measure"]) == 2
    capsys.readouterr()
    assert outcome(app, ["models", "openai:x", "--layers"]) == 1
    assert "has no layers to choose; " in capsys.readouterr().err
    assert outcome(app, ["models", "acme/small", "--layers"]) == 1
    assert "are numbers: 0 for the embeddings" in capsys.readouterr().err


def test_a_tapped_network_stops_there_and_names_what_it_never_reaches() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Linear(99, 1))  # the last does not fit
    batch = torch.ones(2, 3, 4, 4)
    tapped = Tapped(network, "1", Pool())
    torch.testing.assert_close(tapped(batch), network[0](batch).relu().mean((2, 3)))
    network.append(nn.Identity())
    network[2] = nn.Identity()
    idle = nn.ModuleDict({"used": network, "unused": nn.Identity()})
    idle.forward = lambda batch: idle["used"](batch)  # type: ignore[method-assign]
    network[1]._forward_hooks.clear()
    with pytest.raises(ModelUnavailable, match="'unused' gives nothing for a picture"):
        Tapped(idle, "unused", Pool())(batch)
    assert hooked_layers(network, lambda one: one(batch))[:2] == [
        Layer("0", (2, 4, 4)),
        Layer("1", (2, 4, 4)),
    ]


def test_the_input_of_the_classifier_is_the_pooled_layer(tmp_path: Path, pictures: list[Image.Image]) -> None:
    network = random_network("resnet18")
    file = saved(network, tmp_path / "a.pth")
    expected = plain(input_of(network, "fc", lambda rows: rows), V1, pictures)
    for choice in (ModelChoice(file), ModelChoice(file, pooling="avg"), ModelChoice(file, layer="flatten")):
        encoder = load_named("torchvision:resnet18", choice, device=FP32)
        np.testing.assert_allclose(encoder.encode(pictures), expected, atol=1e-5)


def test_ingest_and_search_by_a_hidden_layer(
    tmp_path: Path, pictures: list[Image.Image], capsys: pytest.CaptureFixture[str]
) -> None:
    network = random_network("squeezenet1_1")
    file = saved(network, tmp_path / "a.pth")
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures):
        picture.resize((64, 60)).save(tmp_path / "in" / f"{number}.png")
    where = ["-c", str(tmp_path / "c"), "--json"]
    ingest = ["ingest", "images", str(tmp_path / "in"), "--model", "torchvision:squeezenet1_1", *where]
    ingest += ["--weights", str(file), "--precision", "fp32", "--layer", "features.7"]
    assert outcome(app, [*ingest, "--pooling", "gem"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 3
    assert outcome(app, ["search", "--image", str(tmp_path / "in/1.png"), "-k", "2", *where]) == 0
    hits = json.loads(capsys.readouterr().out)
    transform = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    shown = [Image.open(tmp_path / "in" / f"{number}.png").convert("RGB") for number in range(3)]
    rows = plain(output_of(network, "features.7", gem), transform, shown)
    scores = rows @ rows[1]
    order = np.argsort(-scores)[:2]
    assert [Path(hit["uri"]).name for hit in hits] == [f"{number}.png" for number in order]
    np.testing.assert_allclose([hit["score"] for hit in hits], scores[order], atol=1e-3)
    assert outcome(app, [*ingest, "--pooling", "max"]) == 1  # other vectors than the space was made with
    assert "pooling" in capsys.readouterr().err
    assert outcome(app, [*ingest, "--query-prompt", "a {}"]) == 1
    assert "takes no query-prompt" in capsys.readouterr().err
