"""Picture networks against plain torchvision, timm and transformers code, and every way weights can be wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from search.encoders import torchvision_networks
from search.encoders.contract import Vectors
from search.encoders.timm_networks import TimmEncoder
from search.encoders.torchvision_networks import TorchvisionEncoder, layers
from search.errors import EncoderDrift, MissingExtra, ModelUnavailable, SourceError

CPU = {"device": "cpu", "precision": "fp32"}
V1 = models.ResNet18_Weights.IMAGENET1K_V1.transforms()


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache of weights, empty, and no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((300, 260), Image.Resampling.BICUBIC) for one in coarse]


def small_alexnet() -> nn.Module:
    network = models.AlexNet(num_classes=2)
    network.classifier = nn.Linear(256 * 6 * 6, 2)
    return network


# The same classes as the published networks, a hundred times smaller.
SMALL: dict[str, Callable[[], nn.Module]] = {
    "vit_b_32": lambda: models.VisionTransformer(224, 32, 3, 2, 32, 64),
    "swin_t": lambda: models.SwinTransformer([4, 4], 12, [1, 1, 1, 1], [1, 1, 1, 1], [7, 7]),
    "convnext_tiny": lambda: models.ConvNeXt(
        [CNBlockConfig(width, out, 1) for width, out in [(12, 24), (24, 48), (48, 96), (96, None)]]
    ),
    "densenet121": lambda: models.DenseNet(8, (1, 2, 1, 1), 16),
    "alexnet": small_alexnet,
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger networks are built small, on both sides of each comparison."""
    build = torchvision_networks._network
    monkeypatch.setattr(
        torchvision_networks, "_network", lambda name: SMALL[name]().eval() if name in SMALL else build(name)
    )


def random_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    extra = {"init_weights": False} if name == "googlenet" else {}
    network: nn.Module = SMALL[name]() if name in SMALL else models.get_model(name, weights=None, **extra)
    for module in network.modules():  # the running statistics of a fresh network are the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def saved(network: nn.Module, file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file(network.state_dict(), file)
    else:
        torch.save(network.state_dict(), file)
    return file


def unit(rows: Tensor) -> Vectors:
    return nn.functional.normalize(rows.float(), dim=1).numpy()


def plain(
    function: Callable[[Tensor], Tensor], prepare: Callable[[Image.Image], Tensor], items: list
) -> Vectors:
    """What a script would write: one batch, no threads."""
    with torch.inference_mode():
        return unit(function(torch.stack([prepare(item) for item in items])))


def input_of(network: nn.Module, head: str, reduce: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that gives what a module of the network is handed."""
    caught: list[Tensor] = []
    network.get_submodule(head).register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))

    def run(batch: Tensor) -> Tensor:
        network(batch)
        return reduce(caught.pop())

    return run


def average(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


def same(rows: Tensor) -> Tensor:
    return rows


def test_real_mobilenet_equals_plain_torchvision(shared_data: Callable[[str], Path]) -> None:
    file = shared_data("weights/mobilenet_v2.pth")
    photographs = sorted(shared_data("images/clothing/test").rglob("*.jpg"))[::40]
    encoder = TorchvisionEncoder.from_name("mobilenet_v2", weights=file, **CPU)
    network = models.mobilenet_v2().eval()
    network.load_state_dict(torch.load(file, weights_only=True))
    expected = plain(
        lambda batch: nn.functional.adaptive_avg_pool2d(network.features(batch), 1).flatten(1),
        models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms(),
        [Image.open(photograph).convert("RGB") for photograph in photographs],
    )
    got = encoder.encode(photographs)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert encoder.spec.dim == 1280
    assert encoder.spec.weights == hashlib.sha256(file.read_bytes()).hexdigest()
    newest = TorchvisionEncoder.from_name("mobilenet_v2:IMAGENET1K_V2", weights=file, **CPU)
    expected = plain(
        lambda batch: nn.functional.adaptive_avg_pool2d(network.features(batch), 1).flatten(1),
        models.MobileNet_V2_Weights.IMAGENET1K_V2.transforms(),
        [Image.open(photographs[0]).convert("RGB")],
    )
    np.testing.assert_allclose(newest.encode(photographs[:1]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "head", "reduce", "dim"),
    [
        ("resnet18", "fc", same, 512),
        ("efficientnet_b0", "classifier", same, 1280),
        ("mobilenet_v3_small", "classifier", same, 576),
        ("squeezenet1_1", "classifier", average, 512),
        ("densenet121", "classifier", same, 19),
        ("shufflenet_v2_x0_5", "fc", same, 1024),
        ("mnasnet0_5", "classifier", same, 1280),
        ("regnet_y_400mf", "fc", same, 440),
        ("googlenet", "fc", same, 1024),
        ("convnext_tiny", "classifier", average, 96),
        ("swin_t", "head", same, 96),
        ("vit_b_32", "heads", same, 32),
        ("alexnet", "avgpool", average, 256),
    ],
)
def test_pooled_features_of_every_family(
    tmp_path: Path,
    pictures: list[Image.Image],
    name: str,
    head: str,
    reduce: Callable[[Tensor], Tensor],
    dim: int,
) -> None:
    network = random_network(name)
    if name == "googlenet":
        network.transform_input = True  # as with the published weights
    encoder = TorchvisionEncoder.from_name(name, weights=saved(network, tmp_path / "a.pth"), **CPU)
    prepare = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    expected = plain(input_of(network, head, reduce), prepare, pictures[:2])
    assert encoder.spec.dim == dim
    np.testing.assert_allclose(encoder.encode(pictures[:2]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer", "module", "reduce"),
    [
        ("resnet18", "layer3", "layer4", average),
        ("resnet18", "layer1.0.conv1", "layer1.0.bn1", average),
        ("resnet18", "avgpool", "avgpool", average),
        ("vit_b_32", "encoder.layers.encoder_layer_1", "encoder.layers.encoder_layer_2", lambda t: t[:, 0]),
        ("swin_t", "features.3", "features.4", lambda maps: maps.mean((1, 2))),
        ("convnext_tiny", "features.3", "features.4", average),
    ],
)
def test_a_hidden_layer_is_what_the_next_one_is_handed(
    tmp_path: Path,
    pictures: list[Image.Image],
    name: str,
    layer: str,
    module: str,
    reduce: Callable[[Tensor], Tensor],
) -> None:
    network = random_network(name)
    file = saved(network, tmp_path / "a.pth")
    encoder = TorchvisionEncoder.from_name(name, weights=file, layer=layer, **CPU)
    prepare = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    expected = plain(input_of(network, module, reduce), prepare, pictures[:2])
    np.testing.assert_allclose(encoder.encode(pictures[:2]), expected, atol=1e-5)
    again = TorchvisionEncoder.from_spec(encoder.spec, **CPU)
    np.testing.assert_array_equal(again.encode(pictures[:2]), encoder.encode(pictures[:2]))


def test_the_head_itself_can_be_a_layer(tmp_path: Path, pictures: list[Image.Image]) -> None:
    network = random_network("resnet18")
    encoder = TorchvisionEncoder.from_name(
        "resnet18", weights=saved(network, tmp_path / "a.pth"), layer="fc", **CPU
    )
    np.testing.assert_allclose(encoder.encode(pictures), plain(network, V1, pictures), atol=1e-5)


def test_layers_are_named_in_order_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    listed = layers("torchvision:resnet18")
    names = [layer.name for layer in listed]
    assert {layer.name: layer.shape for layer in listed}["layer3"] == (256, 14, 14)
    main = [name for name in names if "." not in name]
    assert main[:5] == ["conv1", "bn1", "relu", "maxpool", "layer1"]
    assert main[5:9] == ["layer2", "layer3", "layer4", "avgpool"]
    assert names.index("layer1") < names.index("layer1.0") < names.index("layer1.0.conv1")
    file = saved(random_network("resnet18"), tmp_path / "a.pth")
    with pytest.raises(ModelUnavailable, match=r"no layer 'layer9'; some that it has: .*layer4"):
        TorchvisionEncoder.from_name("resnet18", weights=file, layer="layer9")
    with pytest.raises(
        ModelUnavailable, match=r"no classification network 'resnet19'; did you mean .*resnet18"
    ):
        layers("resnet19")


@pytest.mark.parametrize("shape", ["safetensors", "checkpoint", "prefixed", "other head"])
def test_weights_in_any_wrapping_give_the_same(
    tmp_path: Path, pictures: list[Image.Image], shape: str
) -> None:
    network = random_network("resnet18")
    expected = plain(input_of(network, "fc", same), V1, pictures)
    state = network.state_dict()
    file = tmp_path / ("a.safetensors" if shape == "safetensors" else "a.pth")
    if shape == "safetensors":
        save_file(state, file)
    elif shape == "checkpoint":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    elif shape == "prefixed":
        torch.save({f"_orig_mod.model.{key}": value for key, value in state.items()}, file)
    else:
        torch.save(state | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, file)
    encoder = TorchvisionEncoder.from_name("resnet18", weights=file, **CPU)
    np.testing.assert_allclose(encoder.encode(pictures), expected, atol=1e-5)


class Trap:
    """Pickled, it would run code when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise AssertionError('the file was run')",))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = random_network("resnet18").state_dict()
    short = {key: value for key, value in state.items() if key != "layer3.0.conv1.weight"}
    cases: dict[str, tuple[object, str]] = {
        "shape": (
            state | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
            r"'conv1.weight' is \(64, 1, 7, 7\) where",
        ),
        "missing": (short, "lacks 'layer3.0.conv1.weight'"),
        "extra": (state | {"more.weight": torch.zeros(1)}, "holds 'more.weight', which resnet18 has not"),
        "network": (models.squeezenet1_1().state_dict(), "lacks 'conv1.weight'"),
        "no state": ([1, 2], "no state dict"),
        "empty": ({}, "no state dict"),
        "pickle": (Trap(), "cannot be read as plain tensors"),
    }
    for name, (content, words) in cases.items():
        file = tmp_path / f"{name}.pth"
        torch.save(content, file)
        with pytest.raises(ModelUnavailable, match=words) as caught:
            TorchvisionEncoder.from_name("resnet18", weights=file)
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)
    for name, data in {"junk.pth": b"junk", "empty.pth": b"", "junk.safetensors": b"junk"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelUnavailable, match="cannot be read as plain tensors"):
            TorchvisionEncoder.from_name("resnet18", weights=tmp_path / name)
    with pytest.raises(ModelUnavailable, match="no weights file"):
        TorchvisionEncoder.from_name("resnet18", weights=tmp_path / "none.pth")


def test_absent_weights_say_what_to_do(no_cache: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        TorchvisionEncoder.from_name("resnet50")
    message = str(caught.value)
    assert "\n" not in message
    for words in ("resnet50-11ad3fa6.pth", str(no_cache), "--weights FILE", "--model patches"):
        assert words in message


def test_the_cache_is_used_and_a_damaged_file_in_it_is_not(
    no_cache: Path, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = random_network("squeezenet1_1")
    published = models.SqueezeNet1_1_Weights.DEFAULT
    cached = no_cache / published.url.rsplit("/", 1)[-1]
    saved(network, cached)
    with pytest.raises(ModelUnavailable, match="damaged; delete it"):
        TorchvisionEncoder.from_name("squeezenet1_1")
    name = f"squeezenet1_1-{hashlib.sha256(cached.read_bytes()).hexdigest()[:8]}.pth"
    cached.rename(no_cache / name)
    monkeypatch.setattr("search.encoders.torchvision_networks._file_name", lambda version: name)
    encoder = TorchvisionEncoder.from_name("squeezenet1_1", **CPU)
    expected = plain(input_of(network, "classifier", average), published.transforms(), pictures)
    np.testing.assert_allclose(encoder.encode(pictures), expected, atol=1e-5)


def test_other_weights_are_drift(tmp_path: Path) -> None:
    file = saved(random_network("squeezenet1_1"), tmp_path / "a.pth")
    spec = TorchvisionEncoder.from_name("squeezenet1_1", weights=file, **CPU).spec
    torch.manual_seed(1)
    saved(models.squeezenet1_1(), file)
    with pytest.raises(EncoderDrift, match="not those that the space was made with"):
        TorchvisionEncoder.from_spec(spec)
    file.unlink()
    with pytest.raises(ModelUnavailable, match="no weights file"):
        TorchvisionEncoder.from_spec(spec)


def test_reduced_precision_stays_close(tmp_path: Path, pictures: list[Image.Image]) -> None:
    file = saved(random_network("resnet18"), tmp_path / "a.pth")
    full = TorchvisionEncoder.from_name("resnet18", weights=file, **CPU).encode(pictures)
    half = TorchvisionEncoder.from_name("resnet18", weights=file, device="cpu", precision="bf16").encode(
        pictures
    )
    assert half.dtype == np.float32
    assert (full * half).sum(axis=1).min() >= 0.999
    assert np.abs(full - half).max() > 0


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    encoder = TorchvisionEncoder.from_name(
        "squeezenet1_1", weights=saved(random_network("squeezenet1_1"), tmp_path / "a.pth"), **CPU
    )
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    with pytest.raises(SourceError, match=r"bad\.png: the file is empty"):
        encoder.encode([Image.new("RGB", (8, 8)), bad])


needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def test_timm_absent_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(MissingExtra, match=r'pip install "nearkin\[timm\]"'):
        TimmEncoder.from_name("resnet18")


@needs_timm
@pytest.mark.parametrize("name", ["test_resnet", "test_vit.r160_in1k", "test_efficientnet", "test_nfnet"])
def test_timm_equals_plain_timm(tmp_path: Path, pictures: list[Image.Image], name: str) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    file = saved(network, tmp_path / "a.safetensors")
    encoder = TimmEncoder.from_name(f"timm:{name}", weights=file, **CPU)
    prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    expected = plain(
        lambda batch: network.forward_head(network.forward_features(batch), pre_logits=True),
        prepare,
        pictures,
    )
    np.testing.assert_allclose(encoder.encode(pictures), expected, atol=1e-5)
    again = TimmEncoder.from_spec(encoder.spec, **CPU)
    np.testing.assert_array_equal(again.encode(pictures), encoder.encode(pictures))


@needs_timm
def test_timm_without_weights_or_network_says_what_to_do() -> None:
    with pytest.raises(ModelUnavailable, match=r"--weights FILE, or use --model patches"):
        TimmEncoder.from_name("test_resnet")
    with pytest.raises(ModelUnavailable, match=r"no network 'resnet19'; did you mean .*resnet18"):
        TimmEncoder.from_name("resnet19")
    with pytest.raises(ModelUnavailable, match=r"no network 'resnet18\.nothing'; did you mean .*resnet18\."):
        TimmEncoder.from_name("resnet18.nothing")
