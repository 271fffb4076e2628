"""The contract of an encoder, asked of every family that can be made without a download."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from ingest.learn.graphs.load import load_trainer
from ingest.learn.graphs.settings import GraphSettings
from ingest.learn.pictures.patches import PatchesSettings, learn_patches
from ingest.learn.pictures.settings import SimclrSettings
from ingest.learn.pictures.simclr import Run, learn_simclr
from ingest.learn.words.corpus import Corpus
from ingest.learn.words.glove import learn_glove
from ingest.learn.words.settings import WordSettings
from ingest.learn.words.word2vec import learn_word2vec
from search.encoders import whole_graphs
from search.encoders.clip import ClipEncoder
from search.encoders.contextual_words import ContextualWordEncoder
from search.encoders.contract import Encoder, Item, Occurrence, PictureModel, Vectors
from search.encoders.graph_items import labelled
from search.encoders.learned_pictures import LearnedPictureEncoder
from search.encoders.load import Device, ModelChoice, load_named, load_spec
from search.encoders.patches import PatchesEncoder
from search.encoders.remote import RemoteEncoder
from search.encoders.static import StaticEncoder, first_component
from search.encoders.text import TextEncoder
from search.encoders.torchvision_networks import TorchvisionEncoder
from search.errors import SourceError, WrongModality
from search.types import EncoderSpec
from tests.endpoint import served
from tests.search.test_clip import save_tiny_clip
from tests.search.test_clip_kin import save_siglip
from tests.search.test_distilled import save_model2vec
from tests.search.test_text_encoder import save_bert

CPU = {"device": "cpu", "precision": "fp32"}
FP32 = Device("cpu", "fp32")
SERVERS = ExitStack()  # closed when the tests of this file are over


@dataclass(frozen=True)
class Case:
    """An encoder, how it is built again from its spec, and items that it takes."""

    encoder: Encoder
    again: Callable[[EncoderSpec], Encoder]
    items: Sequence[Item]


def pictures() -> list[Image.Image]:
    coarse = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    return [
        Image.fromarray(one).resize((90 + 10 * number, 80), Image.Resampling.BICUBIC)
        for number, one in enumerate(coarse)
    ]


def torchvision_case(folder: Path) -> Case:
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), folder / "a.pth")
    encoder = TorchvisionEncoder.from_name("squeezenet1_1", weights=folder / "a.pth", **CPU)
    return Case(encoder, lambda spec: TorchvisionEncoder.from_spec(spec, **CPU), pictures())


def hidden_layer_case(folder: Path) -> Case:
    torch.manual_seed(0)
    torch.save(models.shufflenet_v2_x0_5().state_dict(), folder / "a.pth")
    choice = ModelChoice(weights=folder / "a.pth", layer="stage3", pooling="gem")
    encoder = load_named("torchvision:shufflenet_v2_x0_5", choice, device=FP32)
    return Case(encoder, lambda spec: load_spec(spec, device=FP32), pictures())


def timm_case(folder: Path) -> Case:
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("test_nfnet").state_dict(), folder / "a.safetensors")
    encoder = load_named("timm:test_nfnet", ModelChoice(weights=folder / "a.safetensors"), device=FP32)
    return Case(encoder, lambda spec: load_spec(spec, device=FP32), pictures())


def patches_case(folder: Path) -> Case:
    data = learn_patches(pictures(), PatchesSettings(dim=24, k=30))
    again = lambda spec: PatchesEncoder.from_spec(spec, device="cpu", data=data)  # noqa: E731
    return Case(PatchesEncoder(data, device="cpu"), again, pictures())


def simclr_case(folder: Path) -> Case:
    data = learn_simclr(pictures(), SimclrSettings(epochs=1, width=2, side=24), Run("cpu"))
    again = lambda spec: load_spec(spec, data=data, device=Device("cpu"))  # noqa: E731
    return Case(LearnedPictureEncoder(data, device="cpu"), again, pictures())


def clip_case(folder: Path) -> Case:
    save_tiny_clip(folder)
    encoder = ClipEncoder.from_name(str(folder), **CPU)
    words = ["a red coat", "two blue shoes on a table", "hat"]
    return Case(encoder, lambda spec: ClipEncoder.from_spec(spec, **CPU), [*pictures(), *words])


def siglip_case(folder: Path) -> Case:
    """SigLIP2 at its pictures' own proportions, where each picture has its own size."""
    encoder = load_named(str(save_siglip(folder, naflex=True)), device=FP32)
    words = ["a red coat", "two blue shoes on a table", "hat"]
    return Case(encoder, lambda spec: load_spec(spec, device=FP32), [*pictures(), *words])


WORDS = ["red", "coat", "blue", "shoes", "hat", "two"]
WORD_TEXTS = ["a red coat", "two blue shoes", "hat", "red hat, red shoes and a coat"]


def static_case(folder: Path) -> Case:
    """A word2vec file, asked with a common component as ingest learns it."""
    rows = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)
    lines = [f"{word} {' '.join(map(repr, row.tolist()))}" for word, row in zip(WORDS, rows, strict=True)]
    (folder / "words.vec").write_text("6 5\n" + "\n".join(lines) + "\n", encoding="utf-8")
    encoder = load_named(str(folder / "words.vec"))
    assert isinstance(encoder, StaticEncoder)
    return Case(encoder.with_component(first_component(rows)), load_spec, WORD_TEXTS)


def learned_case(method: str) -> Case:
    lines = [*WORD_TEXTS, "blue coat", "red shoes"] * 5
    with Corpus(lines) as corpus:
        settings = WordSettings(dim=8, epochs=3)
        learn = (
            learn_glove(corpus, settings, device="cpu")
            if method == "glove"
            else learn_word2vec(corpus, settings)
        )
    data = learn.to_bytes()
    encoder = StaticEncoder(learn, name=method, weights=hashlib.sha256(data).hexdigest())
    return Case(encoder, lambda spec: load_spec(spec, data=data), WORD_TEXTS)


def model2vec_case(folder: Path) -> Case:
    return Case(load_named(str(save_model2vec(folder))), load_spec, WORD_TEXTS)


def text_case(folder: Path) -> Case:
    encoder = TextEncoder.from_name(str(save_bert(folder)), device="cpu", precision="fp32")
    words = ["a red coat", "two blue shoes on a table", "hat", "one two three four five six seven eight"]
    again = lambda spec: TextEncoder.from_spec(spec, device="cpu", precision="fp32")  # noqa: E731
    return Case(encoder, again, words)


def remote_case(folder: Path) -> Case:
    server = SERVERS.enter_context(served())
    encoder = RemoteEncoder.from_name("letters", base_url=server.url)
    words = ["a red coat", "two blue shoes on a table", "hat", "one two three four five six seven eight"]
    return Case(encoder, RemoteEncoder.from_spec, words)


def contextual_words_case(folder: Path) -> Case:
    encoder = ContextualWordEncoder.from_name(
        str(save_bert(folder)), layer="-2,-1", device="cpu", precision="fp32"
    )
    text = "one red coat and one blue coat"
    words = [
        Occurrence(text, 8, 12),
        Occurrence(text, 26, 30),
        "a [red] coat",
        "a red [coat]",
        "two blue shoes",
    ]
    again = lambda spec: ContextualWordEncoder.from_spec(spec, device="cpu", precision="fp32")  # noqa: E731
    return Case(encoder, again, words)


def graphs_case(method: str) -> Case:
    networks = [
        nx.gnp_random_graph(12 + number, 0.3, seed=number, directed=number == 4) for number in range(5)
    ]
    items = [labelled(one) for one in [*networks, nx.cycle_graph(9), nx.star_graph(7)]]
    data = load_trainer(method, GraphSettings(dim=12, depth=2)).fit(items)
    return Case(whole_graphs.from_bytes(data), lambda spec: load_spec(spec, data=data), items)


# One line for each family.
CASES: dict[str, Callable[[Path], Case]] = {
    "torchvision": torchvision_case,
    "torchvision, hidden layer": hidden_layer_case,
    "timm": timm_case,
    "patches": patches_case,
    "simclr": simclr_case,
    "clip": clip_case,
    "siglip": siglip_case,
    "text": text_case,
    "remote": remote_case,
    "static": static_case,
    "word2vec": lambda folder: learned_case("word2vec"),
    "glove": lambda folder: learned_case("glove"),
    "model2vec": model2vec_case,
    "text-words": contextual_words_case,
    "whole graphs, wl": lambda folder: graphs_case("wl"),
    "whole graphs, graph2vec": lambda folder: graphs_case("graph2vec"),
    "whole graphs, pooled": lambda folder: graphs_case("pooled"),
}


@pytest.fixture(scope="module", autouse=True)
def _servers() -> Iterator[None]:
    with SERVERS:
        yield


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return CASES[request.param](tmp_path_factory.mktemp(request.param.partition(",")[0]))


@pytest.fixture(scope="module")
def rows(case: Case) -> Vectors:
    return case.encoder.encode(case.items)


def test_rows_are_unit_float32_of_the_width_it_says(case: Case, rows: Vectors) -> None:
    assert rows.dtype == np.float32
    assert rows.shape == (len(case.items), case.encoder.spec.dim)
    assert rows.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_different_items_are_told_apart(rows: Vectors) -> None:
    scores = rows @ rows.T
    np.fill_diagonal(scores, -1)
    assert scores.max() < 0.99999


def test_an_item_alone_and_in_any_company_is_the_same(case: Case, rows: Vectors) -> None:
    order = np.random.default_rng(1).permutation(len(case.items))
    shuffled = case.encoder.encode([case.items[place] for place in order])
    np.testing.assert_allclose(shuffled, rows[order], atol=1e-5)
    for place in (0, len(case.items) - 1):
        np.testing.assert_allclose(case.encoder.encode([case.items[place]])[0], rows[place], atol=1e-5)


def test_more_items_than_a_batch_come_back_in_order(case: Case, rows: Vectors) -> None:
    many = case.encoder.encode(list(case.items) * 10)
    np.testing.assert_allclose(many, np.tile(rows, (10, 1)), atol=1e-5)


def test_the_same_twice(case: Case, rows: Vectors) -> None:
    np.testing.assert_array_equal(case.encoder.encode(case.items), rows)


def test_no_items_no_rows(case: Case) -> None:
    for role in ("document", "query"):
        empty = case.encoder.encode([], role=role)  # type: ignore[arg-type]
        assert empty.shape == (0, case.encoder.spec.dim)
        assert empty.dtype == np.float32


def test_the_spec_is_enough_to_build_it_again(case: Case, rows: Vectors) -> None:
    spec = case.encoder.spec
    stored = EncoderSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert stored == spec
    if spec.family == "openai":  # nobody sees its weights
        assert spec.weights is None
    else:
        assert spec.weights is not None
        assert len(spec.weights) == 64
    again = case.again(stored)
    assert again.spec == spec
    np.testing.assert_allclose(again.encode(case.items), rows, atol=1e-6)


def test_what_it_does_not_accept_it_refuses(case: Case) -> None:
    accepts = case.encoder.spec.accepts
    assert set(accepts) <= {"text", "image", "graph"}
    if "text" not in accepts:
        with pytest.raises(WrongModality, match="; "):
            case.encoder.encode(["a red coat"])
    if "image" not in accepts:
        with pytest.raises(WrongModality, match="; "):
            case.encoder.encode([Image.new("RGB", (8, 8))])


def test_what_its_preparation_made_is_taken_in_the_pictures_stead(case: Case) -> None:
    if not isinstance(case.encoder, PictureModel):
        pytest.skip("takes no pictures")
    preparation = pickle.loads(pickle.dumps(case.encoder.preparation))
    assert len(pickle.dumps(preparation)) < 10_000  # no network in it
    whole = pictures()
    prepared = [preparation(picture) for picture in whole]
    assert all(one.ndim == 3 and one.dtype in (np.uint8, np.float32) for one in prepared)
    np.testing.assert_array_equal(case.encoder.encode(prepared), case.encoder.encode(whole))


def test_a_picture_in_a_file_and_in_memory_is_the_same(case: Case, tmp_path: Path) -> None:
    if "image" not in case.encoder.spec.accepts:
        pytest.skip("takes no pictures")
    picture = pictures()[0]
    picture.save(tmp_path / "a.png")
    (file, memory) = case.encoder.encode([tmp_path / "a.png", picture])
    np.testing.assert_allclose(file, memory, atol=1e-6)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"bad\.png: .*; "):
        case.encoder.encode([picture, tmp_path / "bad.png"])
