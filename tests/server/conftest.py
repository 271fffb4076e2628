"""A small collection whose answers can be worked out on paper, and a client of the application that serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import search
from search.collection import Collection
from search.encoders.contract import Encoder, Item, Role, Vectors
from search.errors import ModelUnavailable
from search.server.app import application
from search.server.settings import Settings
from search.types import EncoderSpec, Modality, Record
from search.vectors import unit_rows
from tests.letters import LetterEncoder

ANIMALS = {"ape": "ape", "bee": "bee", "cat/tom": "cat", "dodo": "dodo", "eel %": "eel"}


class ColourEncoder(Encoder):
    """(n, 3): the mean colour of each picture."""

    def __init__(self) -> None:
        self.spec = EncoderSpec("colours", "colours", Modality.IMAGE, 3, ("image",))

    def encode(self, items: list[Item], *, role: Role = "document") -> Vectors:  # type: ignore[override]
        means = [np.asarray(item, np.float32).mean(axis=(0, 1)) for item in items]
        return unit_rows(np.stack(means).astype(np.float32))


def loaded(spec: EncoderSpec, **given: object) -> Encoder:
    """The encoder of a spec, in place of `load_spec`."""
    if spec.family == "letters":
        return LetterEncoder()
    if spec.family == "colours":
        return ColourEncoder()
    raise ModelUnavailable(f"the model {spec.model} is not here; fetch it")


@pytest.fixture
def red(tmp_path: Path) -> Path:
    """A red picture, wider than high, on its side by its EXIF data."""
    path = tmp_path / "red.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where the photographer lives"
    Image.new("RGB", (640, 480), (250, 10, 10)).save(path, exif=exif)
    return path


@pytest.fixture
def shop(tmp_path: Path, red: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.setattr("search.encoders.load.load_spec", loaded)
    with search.open(tmp_path / "shop") as made, made.writing() as writer:
        texts = writer.space("text", EncoderSpec("letters", "letters", Modality.TEXT, 26, ("text",)))
        records = [Record(id, "text", None, text, {"n": n}) for n, (id, text) in enumerate(ANIMALS.items())]
        writer.put(records, LetterEncoder().encode(list(ANIMALS.values())), texts)
        pictures = writer.space("image", EncoderSpec("colours", "colours", Modality.IMAGE, 3, ("image",)))
        shown = [
            Record("red", "image", str(red), None, {"width": 480, "height": 640}),
            Record("gone", "image", str(tmp_path / "gone.jpg")),
            Record("secret", "text", str(red)),
        ]
        writer.put(shown, unit_rows(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)), pictures)
        writer.space("far", EncoderSpec("elsewhere", "openai:far", Modality.TEXT, 4, ("text",)))
    with search.open(tmp_path / "shop", "r") as opened:
        yield opened


@pytest.fixture
def client_of(shop: Collection) -> Callable[..., TestClient]:
    """A client of the application, with other settings than the usual."""

    def make(**settings: object) -> TestClient:
        app = application(shop, Settings(**settings))  # type: ignore[arg-type]
        return TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=True)

    return make


@pytest.fixture
def client(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of()
