"""The models on this machine: what the list says of them, and the speeds that are remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingest.cli.main import app
from search.cli.main import outcome
from search.encoders import measured
from search.encoders.available import here
from search.encoders.load import Device
from search.encoders.measured import Speed
from search.errors import ModelError
from tests.search.test_text_encoder import save_bert

SPEED = Speed("acme/small", "cpu", "fp32", 8, 123.4, "texts", "2026-01-01T00:00:00+00:00")


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("HF_HUB_CACHE", "TORCH_HOME", "NEARKIN_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    snapshot = tmp_path / "HF_HUB_CACHE/models--acme--small/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"hidden_size": 8}')
    (snapshot / "model.safetensors").write_bytes(b"x" * 1000)
    (snapshot / "pytorch_model.bin").write_bytes(b"x" * 1000)
    dense = tmp_path / "HF_HUB_CACHE/models--acme--dense/snapshots/abc"
    (dense / "2_Dense").mkdir(parents=True)
    (dense / "config.json").write_text('{"hidden_size": 8}')
    (dense / "2_Dense/config.json").write_text('{"out_features": 5}')
    (tmp_path / "HF_HUB_CACHE/models--acme--broken").mkdir()
    checkpoints = tmp_path / "TORCH_HOME/hub/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet50-0676ba61.pth").write_bytes(b"x" * 70)
    return tmp_path


def listed() -> dict[str, dict[str, object]]:
    return {str(one["model"]): one for one in here()}


def test_size_and_width_are_those_of_the_files():
    found = listed()
    assert (found["acme/small"]["bytes"], found["acme/small"]["dim"]) == (1000, 8)
    assert (found["acme/dense"]["bytes"], found["acme/dense"]["dim"]) == (None, 5)
    assert (found["torchvision:resnet50"]["bytes"], found["torchvision:resnet50"]["kind"]) == (70, "image")
    assert found["patches"]["bytes"] is None
    assert "acme/broken" not in found


def test_speeds_are_remembered_one_of_each_device_and_precision(places):
    assert listed()["acme/small"]["speeds"] == []
    measured.remember(SPEED)
    measured.remember(Speed("acme/small", "cuda", "bf16", 8, 999.0, "texts", "now"))
    measured.remember(Speed("acme/small", "cpu", "fp32", 8, 200.0, "texts", "later"))
    speeds = listed()["acme/small"]["speeds"]
    assert {(s["device"], s["precision"]): s["per_s"] for s in speeds} == {
        ("cuda", "bf16"): 999.0,
        ("cpu", "fp32"): 200.0,
    }
    (places / "NEARKIN_CACHE/speeds.json").write_text('[{"model": 1')
    assert listed()["acme/small"]["speeds"] == []


def test_measuring_runs_the_model(tmp_path):
    folder = str(save_bert(tmp_path / "bert"))
    speed = measured.measure(folder, Device("cpu", "fp32"))
    assert (speed.model, speed.device, speed.precision, speed.what) == (folder, "cpu", "fp32", "texts")
    assert speed.per_s > 0
    measured.remember(speed)
    assert measured.remembered() == [speed]
    assert (listed()[folder]["where"], listed()[folder]["dim"]) == ("measured before", speed.dim)
    for elsewhere in ("patches", "openai:x"):
        with pytest.raises(ModelError, match="; name a model that is on this machine"):
            measured.measure(elsewhere, Device())


def test_the_command(capsys, tmp_path):
    measured.remember(SPEED)
    assert outcome(app, ["models", "--json"]) == 0
    told = {one["model"]: one for one in json.loads(capsys.readouterr().out)}
    assert told["acme/small"]["speeds"][0]["per_s"] == 123.4
    assert outcome(app, ["models"]) == 0
    assert "123 texts/s" in capsys.readouterr().out
    assert outcome(app, ["models", "acme/small"]) == 2
    assert "--measure" in capsys.readouterr().err
    assert outcome(app, ["models", str(tmp_path / "none"), "--measure"]) == 1
    assert "no folder" in capsys.readouterr().err
