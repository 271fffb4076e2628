"""SigLIP, SigLIP2, Chinese CLIP and CLIP's own options against plain transformers code."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, CLIPModel, CLIPProcessor

from search.encoders.clip import ClipEncoder, ClipOptions
from search.encoders.clip_kinds import is_clip
from search.encoders.load import Device, ModelChoice, layers_of, load_named, load_spec
from search.errors import EncoderDrift, MissingExtra, ModelError, ModelUnavailable, WrongModality
from tests.search.test_clip import features, save_tiny_clip
from tests.search.test_picture_encoders import CPU, pictures, unit

__all__ = ["pictures"]

FP32 = Device("cpu", "fp32")
TEXTS = ["a red coat", "Two blue SHOES", "hat"]
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
needs_sentencepiece = pytest.mark.skipif(
    importlib.util.find_spec("sentencepiece") is None, reason="sentencepiece is not installed"
)


def words_of_letters() -> dict[str, int]:
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    return {token: number for number, token in enumerate([*marks, "▁", *map(chr, range(33, 127))])}


def save_siglip(folder: Path, *, naflex: bool = False) -> Path:
    """A SigLIP of 16 dimensions with SigLIP2's tokenizer, at a fixed size or keeping proportions."""
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessor,
        Siglip2Model,
        Siglip2Tokenizer,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
    )

    text = TOWER | {"vocab_size": 120, "max_position_embeddings": 64, "projection_size": 16}
    torch.manual_seed(0)
    if naflex:
        vision = TOWER | {"num_patches": 16, "patch_size": 8}
        Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(folder)
        Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(folder)
    else:
        vision = TOWER | {"image_size": 32, "patch_size": 8}
        SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
        SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    Siglip2Tokenizer(
        vocab=words_of_letters(), merges=[], padding_side="right", model_input_names=["input_ids"]
    ).save_pretrained(folder)
    return folder


def of_siglip(model: Any, texts: list[str]) -> Tensor:
    """The words' features, tokens counted out by hand: lower case, letters, padded with 0 to 64, no mask."""
    known = words_of_letters()
    ids = [[known["▁" if letter == " " else letter] for letter in text.lower()] for text in texts]
    rows = torch.tensor([row + [0] * (64 - len(row)) for row in ids])
    return features(model.get_text_features(input_ids=rows))


def test_siglip_pads_to_its_window_in_lower_case(tmp_path: Path, pictures: list[Image.Image]) -> None:
    from transformers import SiglipImageProcessor

    folder = save_siglip(tmp_path)
    model = AutoModel.from_pretrained(folder).eval()
    encoder = load_named(str(folder), device=FP32)
    with torch.inference_mode():
        words = unit(of_siglip(model, TEXTS))
        shown = SiglipImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
        of_pictures = unit(features(model.get_image_features(**shown)))
    np.testing.assert_allclose(encoder.encode(TEXTS), words, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(pictures), of_pictures, atol=1e-5)
    assert isinstance(encoder, ClipEncoder)
    assert encoder.preparation(pictures[0]).dtype == np.uint8
    again = load_spec(encoder.spec, device=FP32)
    np.testing.assert_allclose(again.encode(TEXTS), words, atol=1e-5)


def test_siglip2_that_keeps_proportions(tmp_path: Path, pictures: list[Image.Image]) -> None:
    from transformers import Siglip2ImageProcessor

    folder = save_siglip(tmp_path, naflex=True)
    model = AutoModel.from_pretrained(folder).eval()
    wide = [pictures[0].resize((300, 60)), pictures[1].resize((50, 200)), pictures[2]]
    shown = Siglip2ImageProcessor.from_pretrained(folder)(images=wide, return_tensors="pt")
    assert len({tuple(one) for one in shown["spatial_shapes"].tolist()}) == 3
    with torch.inference_mode():
        expected = unit(features(model.get_image_features(**shown)))
        words = unit(of_siglip(model, TEXTS))
    encoder = load_named(str(folder), device=FP32)
    np.testing.assert_allclose(encoder.encode(wide), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS), words, atol=1e-5)
    assert "encoder.layers.1" in {one.name for one in layers_of(str(folder))}


@needs_sentencepiece
def test_siglips_first_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sentencepiece
    from transformers import SiglipTokenizer

    folder = save_siglip(tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    model_file = io.BytesIO()
    sentences = [*TEXTS, "a cat on a mat", "two hats and three shoes", "blue sky over a green hill"] * 4
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([one.lower() for one in sentences]),
        model_writer=model_file,
        vocab_size=34,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (tmp_path / "spiece.model").write_bytes(model_file.getvalue())
    SiglipTokenizer(str(tmp_path / "spiece.model"), model_input_names=["input_ids"]).save_pretrained(folder)
    tokenizer = SiglipTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer(TEXTS, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = unit(features(model.get_text_features(input_ids=tokens["input_ids"])))
    encoder = ClipEncoder.from_name(str(folder), **CPU)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    # Canonical: without punctuation, in lower case.
    np.testing.assert_allclose(encoder.encode(["A red, coat!"]), expected[:1], atol=1e-5)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtra, match=r'pip install "nearkin\[siglip\]"'):
        ClipEncoder.from_name(str(folder), **CPU)
    assert "sentencepiece" in sys.modules


def test_chinese_clip(tmp_path: Path, pictures: list[Image.Image]) -> None:
    from transformers import (
        BertTokenizerFast,
        ChineseCLIPConfig,
        ChineseCLIPImageProcessor,
        ChineseCLIPModel,
    )

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*map(chr, range(97, 123)), *(f"##{chr(code)}" for code in range(97, 123))]
    tokenizer = BertTokenizerFast(vocab={token: n for n, token in enumerate([*marks, *letters])})
    text = TOWER | {"vocab_size": 60, "max_position_embeddings": 52}
    config = ChineseCLIPConfig(
        text_config=text, vision_config=TOWER | {"image_size": 32, "patch_size": 8}, projection_dim=12
    )
    torch.manual_seed(0)
    model = ChineseCLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    processor = ChineseCLIPImageProcessor(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    )
    processor.save_pretrained(tmp_path)
    encoder = load_named(str(tmp_path), device=FP32)
    with torch.inference_mode():
        words = unit(features(model.get_text_features(**tokenizer(TEXTS, padding=True, return_tensors="pt"))))
        shown = processor(images=pictures, return_tensors="pt")
        of_pictures = unit(features(model.get_image_features(**shown)))
    np.testing.assert_allclose(
        encoder.encode([*TEXTS, *pictures]), np.vstack([words, of_pictures]), atol=1e-5
    )


def test_queries_are_the_mean_of_their_templates(tmp_path: Path, pictures: list[Image.Image]) -> None:
    folder = save_tiny_clip(tmp_path)
    plain = load_named(str(folder), device=FP32)
    choice = ModelChoice(query_prompt="a {} | my {}.")
    encoder = load_named(str(folder), choice, device=FP32)
    first, second = plain.encode([f"a {t}" for t in TEXTS]), plain.encode([f"my {t}." for t in TEXTS])
    mean = (first + second) / 2
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(TEXTS, role="query"), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS), plain.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode(pictures, role="query"), plain.encode(pictures, role="query"), atol=1e-6
    )
    assert encoder.spec.options["query_prompt"] == "a {}|my {}."
    again = load_spec(encoder.spec, device=FP32)
    np.testing.assert_allclose(again.encode(TEXTS, role="query"), expected, atol=1e-5)
    for wrong in ("a photo", "{} {}", "a {}|"):
        with pytest.raises(ModelError, match=r"is no template; write \{\} once"):
            ClipEncoder.from_name(str(folder), options=ClipOptions(query_prompt=wrong), **CPU)


@pytest.mark.parametrize(("layer", "pooling"), [("encoder.layers.0", None), ("encoder.layers.1", "gem")])
def test_a_hidden_layer_of_clip_equals_a_hook(
    tmp_path: Path, pictures: list[Image.Image], layer: str, pooling: str | None
) -> None:
    folder = save_tiny_clip(tmp_path)
    model = CLIPModel.from_pretrained(folder).eval()
    caught: list[Any] = []
    model.vision_model.get_submodule(layer).register_forward_hook(lambda m, i, output: caught.append(output))
    with torch.inference_mode():
        shown = CLIPProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
        model.get_image_features(**shown)
    tokens = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
    rows = tokens[:, 0] if pooling is None else tokens[:, 1:].clamp(min=1e-6).pow(3).mean(1).pow(1 / 3)
    encoder = load_named(str(folder), ModelChoice(layer=layer, pooling=pooling), device=FP32)
    assert (encoder.spec.dim, encoder.spec.accepts) == (16, ("image",))
    np.testing.assert_allclose(encoder.encode(pictures), unit(rows), atol=1e-5)
    again = load_spec(encoder.spec, device=FP32)
    np.testing.assert_allclose(again.encode(pictures), unit(rows), atol=1e-5)
    with pytest.raises(WrongModality, match="takes pictures, not words"):
        encoder.encode(["a coat"])


def test_what_means_nothing_for_clip_is_refused(tmp_path: Path) -> None:
    folder = str(save_tiny_clip(tmp_path))
    listed = {one.name: one.shape for one in layers_of(folder)}
    assert listed["encoder.layers.1"] == (17, 16)
    for choice, words in [
        (ModelChoice(pooling="gem"), "leave --pooling out, or name a --layer"),
        (ModelChoice(layer="encoder.layers.0", query_prompt="a {}"), "knows no words"),
        (ModelChoice(layer="encoder.layers.0", pooling="last"), "no pooling 'last'"),
        (ModelChoice(dim=3), "takes no dim"),
    ]:
        with pytest.raises(ModelError, match=words):
            load_named(folder, choice, device=FP32)
    with pytest.raises(ModelUnavailable, match=r"no layer 'encoder\.layers\.7'; .*encoder\.layers\.1"):
        load_named(folder, ModelChoice(layer="encoder.layers.7"), device=FP32)


def test_other_weights_of_clip(tmp_path: Path, pictures: list[Image.Image]) -> None:
    folder = save_tiny_clip(tmp_path / "one")
    state = load_file(folder / "model.safetensors")
    turned = {key: -value for key, value in state.items()}
    file = tmp_path / "other.safetensors"
    save_file({f"module.{key}": value for key, value in turned.items()}, file)
    model = CLIPModel.from_pretrained(folder).eval()
    model.load_state_dict(turned)
    with torch.inference_mode():
        shown = CLIPProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
        expected = unit(features(model.get_image_features(**shown)))
    encoder = load_named(str(folder), ModelChoice(file), device=FP32)
    np.testing.assert_allclose(encoder.encode(pictures), expected, atol=1e-5)
    save_file(state, file)
    with pytest.raises(EncoderDrift):
        load_spec(encoder.spec, device=FP32)
    save_file(state | {"visual_projection.weight": torch.zeros(12, 5)}, file)
    with pytest.raises(
        ModelUnavailable, match=r"'visual_projection\.weight' is \(12, 5\) where .*\(12, 16\)"
    ):
        load_named(str(folder), ModelChoice(file), device=FP32)
    save_file(
        state | {"visual_projection.weight": torch.zeros(12, 5)},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelUnavailable, match=r"'visual_projection\.weight' is \(12, 5\) where"):
        load_named(str(folder), device=FP32)


def test_names_of_the_family() -> None:
    assert is_clip("clip-ViT-B-32")
    assert is_clip("google/siglip2-base-patch16-224")
    assert not is_clip("sentence-transformers/all-MiniLM-L6-v2")
