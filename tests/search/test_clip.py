"""CLIP against plain transformers code, in each place a checkpoint may lie, and what is said where it is not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

from search.encoders.clip import ClipEncoder
from search.errors import ModelUnavailable, WrongModality
from tests.search.test_picture_encoders import CPU, pictures, unit

__all__ = ["pictures"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, as transformers saves it."""
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def save_tiny_clip(folder: Path) -> Path:
    """Saves a CLIP of 12 dimensions whose tokens are single letters."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "a b", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = CLIPTokenizerFast(vocab=vocabulary, merges=[], model_max_length=16)
    end = vocabulary["<|endoftext|>"]
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small
        | {
            "vocab_size": len(tokens),
            "max_position_embeddings": 16,
            "eos_token_id": end,
            "bos_token_id": end - 1,
        },
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


def features(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output  # type: ignore[attr-defined]


def test_clip_equals_plain_transformers(
    clip_folder: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor = CLIPProcessor.from_pretrained(clip_folder)
    texts = ["a red coat", "shoes", "a very long text that goes on and on beyond every window of the model"]
    file = tmp_path / "a.png"
    pictures[1].save(file)
    encoder = ClipEncoder.from_name(str(clip_folder), **CPU)
    assert (encoder.spec.dim, encoder.spec.accepts) == (12, ("text", "image"))
    with torch.inference_mode():
        words = processor(text=texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
        of_words = unit(features(model.get_text_features(**words)))
        shown = processor(images=pictures, return_tensors="pt")
        of_pictures = unit(features(model.get_image_features(**shown)))
    got = encoder.encode([pictures[0], texts[0], file, texts[1], texts[2], pictures[2]])
    expected = np.stack(
        [of_pictures[0], of_words[0], of_pictures[1], of_words[1], of_words[2], of_pictures[2]]
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)
    again = ClipEncoder.from_spec(encoder.spec, **CPU)
    np.testing.assert_allclose(again.encode(texts), of_words, atol=1e-5)
    assert encoder.encode(["\ud800"]).shape == (1, 12)
    with pytest.raises(WrongModality, match="takes words and pictures, not int"):
        encoder.encode([3])  # type: ignore[list-item]


def test_clip_as_sentence_transformers_keeps_it(
    clip_folder: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    outer = tmp_path / "clip-ViT-B-32"
    (outer / "0_CLIPModel").mkdir(parents=True)
    for file in clip_folder.iterdir():
        (outer / "0_CLIPModel" / file.name).write_bytes(file.read_bytes())
    module = (
        '[{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]'
    )
    (outer / "modules.json").write_text(module)
    inner = ClipEncoder.from_name(str(clip_folder), **CPU)
    encoder = ClipEncoder.from_name(str(outer), **CPU)
    np.testing.assert_array_equal(encoder.encode(pictures), inner.encode(pictures))
    assert encoder.spec.weights == inner.spec.weights


def test_clip_absent_or_incomplete_says_what_to_do(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelUnavailable, match=r"clip-ViT-B-32.*--model patches") as caught:
        ClipEncoder.from_name("clip-ViT-B-32")
    assert "\n" not in str(caught.value)
    partial = tmp_path / "partial"
    partial.mkdir()
    for file in clip_folder.iterdir():
        (partial / file.name).write_bytes(file.read_bytes())
    state = load_file(clip_folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=r"lacks the weights 'visual_projection\.weight'"):
        ClipEncoder.from_name(str(partial))
    (partial / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelUnavailable, match=r"is not a CLIP model .*'bert'"):
        ClipEncoder.from_name(str(partial))
