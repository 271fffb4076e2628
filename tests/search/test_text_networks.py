"""Networks of every kind that reads text, with random weights, beside plain transformers: layers, pooling, padding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from search.encoders import device, text_load
from search.encoders.load import ModelChoice, load_named, load_spec
from search.encoders.text import TextEncoder
from search.encoders.text_bert import BertNetwork
from search.encoders.text_linear import FusedLinear, PlainLinear, fused_works
from search.encoders.text_load import TextOptions
from search.encoders.text_transformers import TransformersNetwork
from search.errors import ModelError, ModelUnavailable
from tests.search.test_text_encoder import save_bert, save_st, wordpiece

TEXTS = [
    "the cat sat on the mat.",
    "dogs",
    "zebra zebra",
    "the dog",
    "cats sitting.",
    "a b c d e f g h i j k",
]
SMALL = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}


def byte_level(ends_with: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, as GPT-2's without its merges; it may put a token behind each text."""
    alphabet = sorted(ByteLevel.alphabet())
    core = Tokenizer(BPE({name: i for i, name in enumerate(["<|end|>", *alphabet])}, []))
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    if ends_with:
        core.post_processor = TemplateProcessing(single=f"$A {ends_with}", special_tokens=[(ends_with, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", padding_side="left"
    )


def save_network(kind: str, folder: Path) -> Path:
    """A small network of this kind with random weights, and a tokenizer, as transformers saves them."""
    torch.manual_seed(4)
    vocabulary = {"vocab_size": 300}
    network = {
        "gpt2": lambda: GPT2Model(GPT2Config(**vocabulary, n_layer=3, n_head=4, n_embd=32, n_positions=64)),
        "qwen3": lambda: Qwen3Model(
            Qwen3Config(**vocabulary, **SMALL, num_key_value_heads=2, head_dim=8, max_position_embeddings=64)
        ),
        "modernbert": lambda: ModernBertModel(
            ModernBertConfig(**vocabulary, **SMALL, max_position_embeddings=64, pad_token_id=0)
        ),
        "t5": lambda: T5EncoderModel(
            T5Config(**vocabulary, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
        ),
        "electra": lambda: ElectraModel(ElectraConfig(**vocabulary, **SMALL, embedding_size=16)),
        "roberta": lambda: RobertaModel(
            RobertaConfig(**vocabulary, **SMALL, max_position_embeddings=66, hidden_act="relu")
        ),
        "mpnet": lambda: MPNetModel(MPNetConfig(**vocabulary, **SMALL, max_position_embeddings=66)),
        "distilbert": lambda: DistilBertModel(
            DistilBertConfig(
                **vocabulary, n_layers=3, n_heads=4, dim=32, hidden_dim=48, max_position_embeddings=64
            )
        ),
    }[kind]().eval()
    with torch.no_grad():  # far from their initial values, so that a wrong place or bias shows
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    ends = {"qwen3": "<|end|>"}
    tokenizer = (
        byte_level(ends.get(kind)) if kind in ("gpt2", "qwen3", "roberta", "mpnet", "t5") else wordpiece()
    )
    tokenizer.save_pretrained(folder)
    return folder


KINDS = ["gpt2", "qwen3", "modernbert", "t5", "electra", "roberta", "mpnet", "distilbert"]
FAST = {"roberta", "mpnet", "distilbert"}


@pytest.fixture(scope="module", params=KINDS)
def network(request, tmp_path_factory) -> tuple[str, Path]:
    return request.param, save_network(request.param, tmp_path_factory.mktemp(request.param))


def states_of(folder: Path, text: str) -> list[np.ndarray]:
    """All hidden states of one text, by plain transformers, without padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    model = (T5EncoderModel if config["model_type"] == "t5" else AutoModel).from_pretrained(folder).eval()
    inputs = {k: v for k, v in tokenizer(text, return_tensors="pt").items() if k != "token_type_ids"}
    with torch.inference_mode():
        return [s[0].numpy() for s in model(**inputs, output_hidden_states=True).hidden_states]


POOLED = {
    "cls": lambda states: states[0],
    "mean": lambda states: states.mean(axis=0),
    "max": lambda states: states.max(axis=0),
    "last": lambda states: states[-1],
}


def unit(rows) -> np.ndarray:
    rows = np.stack(rows)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def named(folder: Path, **options) -> TextEncoder:
    return TextEncoder.from_name(str(folder), device="cpu", precision="fp32", options=TextOptions(**options))


@pytest.mark.parametrize(
    ("layer", "pooling"),
    [(None, None), ("-1", "mean"), ("0", "max"), ("2", "last"), ("-2,-1", "mean"), ("1, 3", "cls")],
)
def test_layers_and_pooling_are_those_of_plain_transformers(network, layer, pooling):
    kind, folder = network
    encoder = named(folder, layer=layer, pooling=pooling)
    numbers = [int(number) for number in (layer or "-1").split(",")]
    pool = POOLED[pooling or ("last" if kind in ("gpt2", "qwen3") else "mean")]
    want = []
    for text in TEXTS:
        states = states_of(folder, text)
        want.append(pool(np.mean([states[number] for number in numbers], axis=0)))
    # All together, in any company and any padding, as each alone without any.
    np.testing.assert_allclose(encoder.encode(TEXTS), unit(want), atol=1e-5)
    assert isinstance(encoder._model.network, BertNetwork if kind in FAST else TransformersNetwork)
    again = TextEncoder.from_spec(encoder.spec, device="cpu", precision="fp32")
    assert again.spec == encoder.spec
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_token_vectors_of_every_kind(network):
    _, folder = network
    encoder = named(folder, document_prompt="the ")
    for text, (offsets, vectors) in zip(TEXTS, encoder.token_vectors(TEXTS, layer="2"), strict=True):
        states = states_of(folder, "the " + text)[2]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        told = tokenizer("the " + text, return_offsets_mapping=True, return_special_tokens_mask=True)
        kept = [
            i
            for i, ((_, end), special) in enumerate(
                zip(told["offset_mapping"], told["special_tokens_mask"], strict=True)
            )
            if end > 4 and not special
        ]
        np.testing.assert_allclose(vectors, states[kept], atol=1e-5)
        want = [(max(start - 4, 0), end - 4) for start, end in np.array(told["offset_mapping"])[kept]]
        np.testing.assert_array_equal(offsets, want)


def test_the_end_token_of_a_decoder_is_what_is_pooled(tmp_path):
    folder = save_network("qwen3", tmp_path)
    encoder = named(folder, query_prompt="Instruct: find\nQuery:")
    assert encoder.spec.options["pooling"] == "last"
    assert encoder.special_tokens == 1
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Instruct: find\nQuery:" + TEXTS[0]
    assert tokenizer(text)["input_ids"][-1] == tokenizer.eos_token_id
    want = unit([states_of(folder, text)[-1][-1]])
    np.testing.assert_allclose(encoder.encode(TEXTS[:1], role="query"), want, atol=1e-5)
    # Cut to the window, it still ends with that token.
    (cut,) = encoder.encode(["x" * 500])
    np.testing.assert_allclose(cut, unit([states_of(folder, "x" * 63)[-1][-1]])[0], atol=1e-5)


@pytest.mark.parametrize("dim", [1, 12, 32])
def test_dim_cuts_and_then_normalizes(tmp_path, dim):
    folder = save_bert(tmp_path)
    encoder = named(folder, dim=dim)
    whole = named(folder).encode(TEXTS)[:, :dim]
    want = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), want, atol=1e-6)
    assert (encoder.spec.dim, encoder.spec.options["dim"]) == (dim, dim)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "choose a --dim of 1 or more"),
        ({"dim": 33}, "choose a --dim of 1 to 32"),
        ({"layer": "3"}, r"no layer '3'; choose 0 .* to 2"),
        ({"layer": "-4"}, r"no layer '-4'"),
        ({"layer": "last"}, r"no layer 'last'"),
        ({"layer": ""}, r"no layer ''"),
        ({"pooling": "sum"}, "unknown pooling 'sum'; use cls, mean, max, last"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(ModelError, match=message):
        named(save_bert(tmp_path), **options)


def test_a_spec_of_before_the_pooling_was_written_down(tmp_path):
    folder = save_network("gpt2", tmp_path)
    spec = named(folder).spec
    old = type(spec).from_json(spec.to_json() | {"options": {"max_tokens": 20}})
    encoder = TextEncoder.from_spec(old, device="cpu", precision="fp32")
    want = unit([states_of(folder, text)[-1].mean(axis=0) for text in TEXTS[1:4]])
    np.testing.assert_allclose(encoder.encode(TEXTS[1:4]), want, atol=1e-5)


def test_the_choice_of_a_user_reaches_the_model(tmp_path):
    folder = str(save_bert(tmp_path))
    choice = ModelChoice(layer="1", pooling="cls", dim=8, query_prompt="query: ", document_prompt="the ")
    encoder = load_named(folder, choice)
    assert encoder.spec.options == {
        "max_tokens": 37,
        "query_prompt": "query: ",
        "document_prompt": "the ",
        "layer": "1",
        "pooling": "cls",
        "dim": 8,
    }
    again = load_spec(encoder.spec)
    np.testing.assert_array_equal(again.encode(TEXTS, role="query"), encoder.encode(TEXTS, role="query"))


# --- checkpoints of sentence-transformers -------------------------------------------------------------------------


def with_modules(folder: Path, kinds: list[str], bert: Path) -> Path:
    """A checkpoint of sentence-transformers with these modules behind the pooling."""
    save_st(folder, bert)
    modules = json.loads((folder / "modules.json").read_text())
    torch.manual_seed(1)
    for number, kind in enumerate(kinds, start=2):
        room = folder / f"{number}_{kind}"
        room.mkdir()
        config: dict = {"dimension": 32} if kind == "LayerNorm" else {}
        if kind == "Dense":
            activation = "torch.nn.modules.activation.Tanh"
            config = {"in_features": 32, "out_features": 20, "bias": True, "activation_function": activation}
            tensors = {"linear.weight": torch.randn(20, 32), "linear.bias": torch.randn(20)}
            save_file(tensors, room / "model.safetensors")
        if kind == "LayerNorm":
            tensors = {"norm.weight": torch.randn(32), "norm.bias": torch.randn(32)}
            save_file(tensors, room / "model.safetensors")
        if kind == "WordWeights":
            config = {"vocab": ["the"], "word_weights": {"the": 0.1}, "unknown_word_weight": 1}
        (room / "config.json").write_text(json.dumps(config))
        modules.append(
            {
                "idx": number,
                "name": str(number),
                "path": room.name,
                "type": f"sentence_transformers.models.{kind}",
            }
        )
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    "kinds", [["Normalize"], ["LayerNorm", "Dense"], ["Normalize", "Dense", "Normalize"]]
)
@pytest.mark.parametrize(
    "pooling", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
)
def test_modules_behind_the_transformer(tmp_path, kinds, pooling):
    folder = with_modules(tmp_path / "st", kinds, save_bert(tmp_path / "bert"))
    legacy = {"word_embedding_dimension": 32}
    names = {
        "cls": "cls_token",
        "max": "max_tokens",
        "mean": "mean_tokens",
        "weightedmean": "weightedmean_tokens",
    }
    legacy[f"pooling_mode_{names.get(pooling, pooling)}"] = True
    (folder / "1_Pooling/config.json").write_text(json.dumps(legacy))
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    encoder = named(folder)
    assert isinstance(encoder._model.network, BertNetwork)
    want = reference.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), want, atol=1e-5)
    assert "pooling" not in encoder.spec.options


def test_a_chosen_layer_leaves_out_what_was_trained_for_the_last(tmp_path):
    bert = save_bert(tmp_path / "bert")
    folder = with_modules(tmp_path / "st", ["Dense"], bert)
    want = unit([states_of(bert, text)[1].mean(axis=0) for text in TEXTS])
    np.testing.assert_allclose(named(folder, layer="1").encode(TEXTS), want, atol=1e-5)
    assert named(folder, layer="-1").spec.dim == 20


def test_two_poolings_are_joined(tmp_path):
    folder = save_st(tmp_path / "st", save_bert(tmp_path / "bert"))
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"embedding_dimension": 32, "pooling_mode": ["max", "cls"]})
    )
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    want = reference.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(named(folder).encode(TEXTS), want, atol=1e-5)


def test_modules_that_only_sentence_transformers_knows(tmp_path):
    folder = save_st(tmp_path / "st", save_bert(tmp_path / "bert"))
    modules = json.loads((folder / "modules.json").read_text())
    cnn = {"in_word_embedding_dimension": 32, "out_channels": 8, "kernel_sizes": [1, 3], "stride_sizes": None}
    from sentence_transformers.sentence_transformer.modules import CNN

    (folder / "9_CNN").mkdir()
    torch.manual_seed(2)
    CNN(**cnn).save(str(folder / "9_CNN"))
    modules.insert(1, {"idx": 1, "name": "1", "path": "9_CNN", "type": "sentence_transformers.models.CNN"})
    (folder / "modules.json").write_text(json.dumps(modules))
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    # One text at a time: that module looks at padding too.
    for text in TEXTS:
        want = reference.encode([text], normalize_embeddings=True)
        np.testing.assert_allclose(named(folder).encode([text]), want, atol=1e-5)


@pytest.mark.parametrize("path", ["../other", "/etc"])
def test_modules_stay_inside_the_folder(tmp_path, path):
    folder = save_st(tmp_path / "st", save_bert(tmp_path / "bert"))
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelUnavailable, match="outside its folder"):
        named(folder)


def test_tensors_that_are_missing_are_told(tmp_path):
    folder = save_network("gpt2", tmp_path)
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: t for name, t in tensors.items() if "h.1.mlp" not in name},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelUnavailable, match=r"lacks .* of its tensors"):
        named(folder)


# --- precision, memory, padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mpnet", "gpt2"])
def test_bf16_is_taken_where_the_processor_has_it_and_the_vectors_stay(tmp_path, monkeypatch, kind):
    folder = save_network(kind, tmp_path)
    exact = named(folder).encode(TEXTS)
    monkeypatch.setattr(text_load, "has_bf16_instructions", lambda: True)
    quick = TextEncoder.from_name(str(folder), device="cpu")
    assert quick.precision == "bf16"
    assert 0.999 <= (quick.encode(TEXTS) * exact).sum(axis=1).min() < 1 - 1e-7
    monkeypatch.setattr(text_load, "_LEAST_COSINE", 1.1)
    refused = TextEncoder.from_name(str(folder), device="cpu")
    assert refused.precision == "fp32"
    np.testing.assert_array_equal(refused.encode(TEXTS), exact)
    monkeypatch.setattr(text_load, "has_bf16_instructions", lambda: False)
    assert TextEncoder.from_name(str(folder), device="cpu").precision == "fp32"


def test_the_instructions_of_other_processors(tmp_path, monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "CPU_FLAGS", told)
    ask = device.has_bf16_instructions.__wrapped__
    assert not ask()  # no such file
    for flags, has in (("fpu avx512f avx512_vnni", False), ("fpu amx_bf16", True), ("asimd bf16 i8mm", True)):
        told.write_text(f"flags : {flags}\n")
        assert ask() is has


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_and_plain_layers_agree(dtype):
    if not fused_works(dtype):
        pytest.skip("this torch has no fused layers here")
    generator = torch.Generator().manual_seed(1)
    weight, bias, x, residual = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((20, 64), (20,), (33, 64), (33, 20))
    )
    want = x.float() @ weight.float().T + bias.float()
    for linear in (FusedLinear(weight, bias), PlainLinear(weight, bias)):
        atol = 1e-4 if dtype == torch.float32 else 0.3
        assert torch.allclose(linear(x).float(), want, atol=atol)
        assert torch.allclose(linear.added(x, residual).float(), want + residual.float(), atol=atol)
        assert torch.allclose(linear.activated(x, "relu").float(), want.relu(), atol=atol)
        gelu = torch.nn.functional.gelu(want)
        assert torch.allclose(linear.activated(x, "gelu").float(), gelu, atol=atol)


def test_without_fused_layers_plain_torch_stands_in(tmp_path, monkeypatch):
    folder = save_bert(tmp_path)
    want = named(folder).encode(TEXTS)
    monkeypatch.setattr("search.encoders.text_bert.fused_works", lambda dtype: False)
    plain = named(folder)
    np.testing.assert_allclose(plain.encode(TEXTS), want, atol=1e-6)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", None, raising=False)
    assert not fused_works.__wrapped__(torch.float32)


class Scarce:
    """A network in a memory that holds so many tokens."""

    def __init__(self, pooled, tokens):
        self.pooled, self.tokens, self.refused = pooled, tokens, 0

    def __call__(self, batch, prompt):
        if batch.ids.numel() > self.tokens:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.pooled(batch, prompt)


def test_a_memory_that_is_too_small_halves_the_batches_and_loses_none(tmp_path):
    encoder = named(save_bert(tmp_path))
    texts = [("the cat sat on the mat " * (1 + i % 5))[: 3 + i] for i in range(90)]
    want = encoder.encode(texts)
    encoder._model.pooled = scarce = Scarce(encoder._model.pooled, 100)
    np.testing.assert_allclose(encoder.encode(texts), want, atol=1e-6)
    assert 1 <= scarce.refused <= 4
    before = scarce.refused
    np.testing.assert_allclose(encoder.encode(texts), want, atol=1e-6)
    assert scarce.refused == before  # it has learned
    scarce.tokens = 5
    with pytest.raises(ModelError, match="tokens alone is more than the memory"):
        encoder.encode(["zebra zebra zebra"])


def test_little_of_the_work_is_padding(tmp_path):
    encoder = named(save_bert(tmp_path))
    assert (encoder.stats.texts, encoder.stats.tokens) == (0, 0)
    lengths = np.clip(np.random.default_rng(0).lognormal(2.5, 0.8, 1500), 1, 38).astype(int)
    encoder.encode(["the " * n for n in lengths])
    stats = encoder.stats
    assert (stats.texts, stats.tokens) == (1500, int(lengths.sum()) + 2 * 1500)
    assert stats.padded_share < 0.05
    assert stats.batches < 120


def test_a_bert_is_loaded_and_asked_without_the_libraries_that_published_it(tmp_path):
    """Their import takes longer than all else in a new process that answers one question."""
    folder = save_st(tmp_path / "st", save_bert(tmp_path / "bert"))
    code = (
        "import sys; from search.encoders.text import TextEncoder; "
        f"print(TextEncoder.from_name({str(folder)!r}, device='cpu').encode(['dogs']).shape, "
        "[name for name in ('transformers', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 32) []"
