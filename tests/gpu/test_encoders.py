"""On a GPU every family gives what it gives on the processor, and running out of memory costs nothing but time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from ingest.learn.pictures.patches import PatchesSettings, learn_patches
from search.encoders.clip import ClipEncoder
from search.encoders.contextual_words import ContextualWordEncoder
from search.encoders.contract import Encoder, Item, Occurrence
from search.encoders.patches import PatchesEncoder
from search.encoders.text import TextEncoder
from search.encoders.text_bert import BertNetwork
from search.encoders.torchvision_networks import TorchvisionEncoder
from tests.search.test_clip import save_tiny_clip
from tests.search.test_text_encoder import save_bert

SENTENCE = "one red coat and one blue coat"
WORDS = ["a red coat", "two blue shoes on a table", "hat", "one two three four five six seven eight", ""]


def pictures() -> list[Image.Image]:
    coarse = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    return [
        Image.fromarray(one).resize((90 + 10 * number, 80), Image.Resampling.BICUBIC)
        for number, one in enumerate(coarse)
    ]


# (folder, device, precision) -> encoder, and what it takes
Made = Callable[[Path, str, str], Encoder]


def text(folder: Path, device: str, precision: str) -> Encoder:
    return TextEncoder.from_name(str(save_bert(folder)), device=device, precision=precision)


def words(folder: Path, device: str, precision: str) -> Encoder:
    return ContextualWordEncoder.from_name(str(save_bert(folder)), device=device, precision=precision)


def network(folder: Path, device: str, precision: str) -> Encoder:
    torch.manual_seed(0)
    torch.save(models.mobilenet_v3_small().state_dict(), folder / "a.pth")
    return TorchvisionEncoder.from_name(
        "mobilenet_v3_small", weights=folder / "a.pth", device=device, precision=precision
    )


def clip(folder: Path, device: str, precision: str) -> Encoder:
    return ClipEncoder.from_name(str(save_tiny_clip(folder)), device=device, precision=precision)


def patches(folder: Path, device: str, precision: str) -> Encoder:
    return PatchesEncoder(learn_patches(pictures(), PatchesSettings(dim=24, k=30)), device=device)


CASES: dict[str, tuple[Made, list[Item]]] = {
    "text": (text, list(WORDS)),
    "words": (words, [Occurrence(SENTENCE, 8, 12), Occurrence(SENTENCE, 26, 30), "a [red] coat"]),
    "network": (network, list(pictures())),
    "clip": (clip, [*pictures(), *WORDS[:3]]),
    "patches": (patches, list(pictures())),
}


@pytest.fixture(params=list(CASES))
def made(request: pytest.FixtureRequest) -> tuple[Made, list[Item]]:
    return CASES[request.param]


def test_the_gpu_gives_what_the_processor_gives(made: tuple[Made, list[Item]], tmp_path: Path) -> None:
    make, items = made
    want = make(tmp_path, "cpu", "fp32").encode(items)
    encoder = make(tmp_path, "cuda", "fp32")
    got = encoder.encode(items)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    assert (got * want).sum(axis=1).min() > 0.9999
    np.testing.assert_array_equal(encoder.encode(items), got)


def test_the_precision_chosen_by_itself_is_close(made: tuple[Made, list[Item]], tmp_path: Path) -> None:
    make, items = made
    want = make(tmp_path, "cpu", "fp32").encode(items)
    assert (make(tmp_path, "cuda:0", "auto").encode(items) * want).sum(axis=1).min() > 0.999


@pytest.fixture
def little_memory() -> Iterator[None]:
    """As if the GPU had little memory beside what is in use."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    in_use = torch.cuda.memory_reserved(0)
    torch.cuda.set_per_process_memory_fraction((in_use + 24_000_000) / whole)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_texts_that_do_not_fit_together_are_encoded_in_smaller_batches(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    texts = [f"{'word ' * (number % 40)}{number}" for number in range(6000)]
    want = text(tmp_path, "cpu", "fp32").encode(texts)
    encoder = text(tmp_path, "cuda", "fp32")
    request.getfixturevalue("little_memory")
    got = encoder.encode(texts)
    assert (got * want).sum(axis=1).min() > 0.9999


def test_attention_without_padding_is_used_and_is_right(tmp_path: Path) -> None:
    encoder = text(tmp_path, "cuda", "bf16")
    assert isinstance(encoder, TextEncoder)
    assert isinstance(encoder._model.network, BertNetwork)
    assert encoder._model.network._unpadded
    want = text(tmp_path, "cpu", "fp32").encode(WORDS)
    assert (encoder.encode(WORDS) * want).sum(axis=1).min() > 0.999
