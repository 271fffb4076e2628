"""Texts into unit vectors: any Hugging Face encoder, run through the modules of sentence-transformers."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers.utils import logging as transformers_logging

from search.encoders.contract import Encoder, Item, Role, Vectors
from search.encoders.device import choose_device, choose_dtype
from search.encoders.packaged import file_sha256, locate, read_json, weight_files
from search.errors import EncoderDrift, ModelError, ModelUnavailable, WrongModality
from search.types import EncoderSpec, Modality

FAMILY = "text"

# Tokens of one batch, padding included: what each thread works on should stay in its cache, a GPU wants work.
BUDGET_PER_THREAD = 512
GPU_BUDGET = 131_072
# So many tokens of texts of one length make a batch of their own, which needs no padding and no mask.
EXACT = 256
# Texts are tokenized and sorted by length in runs of this many, so that memory stays bounded.
RUN = 16_384
# Stands for "no limit" where neither the tokenizer nor the network has one.
UNLIMITED = 1_000_000

# What transformers and its parts raise over a folder of damaged, foreign or unsafe files.
LOAD_ERRORS = (
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


class TextEncoder(Encoder):
    """A transformer with its pooling: words in, unit vectors out.

    `max_tokens` is how many tokens of a document fit in its window, beside the `special_tokens` that the
    tokenizer adds and the checkpoint's prompt for documents, if it has one.
    """

    max_tokens: int
    special_tokens: int

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        name: str,
        weights: str,
        prompts: Mapping[str, str],
        precision: str = "auto",
        max_tokens: int | None = None,
    ) -> None:
        self._device: torch.device = model.device
        self._transformer = model[0].to(choose_dtype(precision, self._device))
        # What follows the transformer is cheap and adds up many numbers: it stays in fp32.
        self._rest = [module.float() for module in list(model.children())[1:]]
        self._truncate_dim: int | None = model.truncate_dim
        self._tokens = _Tokens(model)
        self._prompts = {role: prompt for role, prompt in prompts.items() if prompt}
        self.special_tokens = self._tokens.special_tokens
        reserved = self.special_tokens + self._tokens.count(self._prompts.get("document", ""))
        room = self._tokens.limit - reserved
        if room < 1 or (max_tokens is not None and not 1 <= max_tokens <= room):
            raise ModelError(
                f"{name} takes 1 to {max(room, 0)} tokens, not {max_tokens}; choose a number between"
            )
        self.max_tokens = room if max_tokens is None else max_tokens
        self._tokens.truncate(self.max_tokens + reserved)
        self.spec = EncoderSpec(
            family=FAMILY,
            model=name,
            modality=Modality.TEXT,
            dim=self._run(["dimension"], "").shape[1],
            accepts=("text",),
            weights=weights,
            options={"max_tokens": self.max_tokens}
            | {f"{role}_prompt": prompt for role, prompt in sorted(self._prompts.items())},
        )

    @classmethod
    def from_name(
        cls,
        model: str,
        *,
        device: str = "auto",
        precision: str = "auto",
        max_tokens: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> TextEncoder:
        """The encoder of that name on the Hugging Face hub, or in that folder.

        A plain transformer, without pooling of its own, gets the mean over its tokens. `max_tokens` makes the
        window smaller. The prompts stand before each query or document; None takes the checkpoint's own.

        Raises:
            ModelUnavailable: it is not on this machine and could not be fetched, or its files cannot be used.
            ModelError: `device`, `precision` or `max_tokens` makes no sense.
        """
        where = choose_device(device)
        choose_dtype(precision, where)  # a wrong word is told before seconds of loading
        folder = locate(model)
        loaded = _load(folder, model, where)
        own = loaded.prompts
        document = next((own[key] for key in ("document", "passage", "corpus") if own.get(key)), "")
        return cls(
            loaded,
            name=model,
            weights=_fingerprint(folder),
            prompts={
                "query": own.get("query") or "" if query_prompt is None else query_prompt,
                "document": document if document_prompt is None else document_prompt,
            },
            precision=precision,
            max_tokens=max_tokens,
        )

    @classmethod
    def from_spec(cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto") -> TextEncoder:
        """The encoder that a space was made with.

        Raises:
            ModelUnavailable: as `from_name`.
            EncoderDrift: the model of that name now has other weights.
        """
        options = spec.options
        encoder = cls.from_name(
            spec.model,
            device=device,
            precision=precision,
            max_tokens=int(str(options["max_tokens"])) if "max_tokens" in options else None,
            query_prompt=str(options.get("query_prompt", "")),
            document_prompt=str(options.get("document_prompt", "")),
        )
        if spec.weights not in (None, encoder.spec.weights):
            raise EncoderDrift(
                f"the weights of {spec.model} are not those that its vectors were made with; "
                "get the former files back, or ingest again into a new space"
            )
        return encoder

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Vectors of texts, in their order: (n, dim) float32, each row of length 1.

        The same as `SentenceTransformer.encode_query` or `encode_document` with normalized embeddings. What
        goes beyond the model's window is not seen.

        Raises:
            WrongModality: an item is not a str.
            ModelError: the model's numbers overflow in the chosen precision.
        """
        texts: list[str] = []
        for item in items:
            if not isinstance(item, str):
                raise WrongModality(f"{self.spec.model} encodes texts, not {type(item).__name__}; pass a str")
            texts.append(item)
        out = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        for start in range(0, len(texts), RUN):
            out[start : start + RUN] = self._run(texts[start : start + RUN], self._prompts.get(role, ""))
        return out

    def token_offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where each token of each text stands: (n_tokens, 2) start and end, in characters.

        Without special tokens, without prompts, and of the whole text, however long.
        """
        return self._tokens.offsets(texts)

    @torch.inference_mode()
    def token_vectors(
        self, texts: Sequence[str], *, role: Role = "document", layer: str | None = None
    ) -> list[tuple[NDArray[np.int32], Vectors]]:
        """The vector of each token in its context: one pair a text, in their order.

        A pair holds the tokens' offsets (n, 2), start and end in characters of the text, and their hidden states
        (n, hidden) float32, not normalized. Special tokens and the prompt are seen by the network and left out.
        What goes beyond the model's window is not there; an empty text has no tokens.

        Args:
            texts: what is read.
            role: whose prompt stands before them.
            layer: the hidden layer, or several with commas, which are averaged; 0 are the embeddings, -1 the last.
                None takes the last.

        Raises:
            ModelError: the network has no such layer.
        """
        prompt = self._prompts.get(role, "")
        pairs: list[tuple[NDArray[np.int32], Vectors]] = []
        network = self._transformer.auto_model
        for text in texts:
            encoding = self._tokens.whole(prompt + text)
            ids = torch.tensor([encoding.ids or [0]], device=self._device)
            states = network(input_ids=ids, output_hidden_states=True).hidden_states
            try:
                chosen = [states[int(number)] for number in (layer or "-1").split(",")]
            except (IndexError, ValueError):
                raise ModelError(
                    f"{self.spec.model} has no layer {layer!r}; choose 0 to {len(states) - 1}, or -1 for the last"
                ) from None
            hidden = torch.stack(chosen).float().mean(dim=0)[0].cpu().numpy()
            offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2) - np.int32(len(prompt))
            kept = (np.array(encoding.special_tokens_mask, dtype=np.int64) == 0) & (offsets[:, 1] > 0)
            pairs.append((offsets[kept].clip(0), hidden[: len(kept)][kept]))
        return pairs

    @torch.inference_mode()
    def _run(self, texts: list[str], prompt: str) -> Vectors:
        """Unit vectors of one run of texts, tokenized together and batched by length."""
        rows, types = self._tokens.rows([prompt + text for text in texts] if prompt else texts)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        on_cpu = self._device.type == "cpu"
        batches = plan_batches(lengths, BUDGET_PER_THREAD * torch.get_num_threads() if on_cpu else GPU_BUDGET)
        extra = {"prompt_length": self._tokens.prompt_length(prompt)} if prompt else {}
        pooled = []
        for batch in batches:
            padded = self._tokens.pad(rows, types, batch, lengths)
            on_device = {name: tensor.to(self._device, non_blocking=True) for name, tensor in padded.items()}
            pooled.append(self._forward(on_device | extra))
        vectors = torch.cat(pooled).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ModelError("the model's numbers overflow in this precision; use --precision fp32 or bf16")
        out = np.empty_like(vectors)
        out[np.concatenate(batches)] = vectors
        return out

    def _forward(self, features: dict[str, Any]) -> torch.Tensor:
        features = self._transformer(features)
        features = {
            name: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in features.items()
        }
        for module in self._rest:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"][:, : self._truncate_dim]
        return torch.nn.functional.normalize(vectors.float(), dim=1)


def plan_batches(lengths: NDArray[np.int64], budget: int, exact: int = EXACT) -> list[NDArray[np.int64]]:
    """Row numbers in batches, longest rows first, so that no batch padded to its longest exceeds `budget`.

    Rows of one length that make `exact` tokens together are not mixed with shorter ones: they need no
    padding.

    Args:
        lengths: (n,) tokens of each row.
        budget: the most tokens of a batch, padding included; one row alone may be longer.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    batches, start = [], 0
    while start < len(order):
        longest = max(int(-falling[start]), 1)
        size = max(1, budget // longest)
        same = int(np.searchsorted(falling, falling[start], side="right")) - start
        if same * longest >= exact:
            size = min(size, same)
        batches.append(order[start : start + size])
        start += size
    return batches


class _Tokens:
    """The tokenizer of a model, spoken to in Rust: one call for many texts, in parallel."""

    def __init__(self, model: SentenceTransformer) -> None:
        tokenizer = model.tokenizer
        self._tokenizer: Any = tokenizer.backend_tokenizer
        self._whole: Any = None
        self._direction: str = tokenizer.truncation_side
        self._pad_left = tokenizer.padding_side == "left"
        self._pad = int(tokenizer.pad_token_id or 0)
        self._special_ids = frozenset(tokenizer.all_special_ids)
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._needs_types = self._takes_types and any(self._tokenizer.encode("a").type_ids)
        self.special_tokens: int = self._tokenizer.num_special_tokens_to_add(False)
        self.limit = _window(model)

    def truncate(self, window: int) -> None:
        """See no more than `window` tokens of a text, special ones included, from now on."""
        self._tokenizer.enable_truncation(window, direction=self._direction)

    def whole(self, text: str) -> Any:
        """All that the tokenizer says of one text, truncated to the window."""
        return self._tokenizer.encode(_sound(text))

    def count(self, text: str) -> int:
        """How many tokens a text has, without special ones."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt_length(self, prompt: str) -> int:
        """How many tokens at the start of a row belong to the prompt, for poolings that leave it out."""
        ids = self._tokenizer.encode(prompt).ids
        return len(ids) - (ids[-1:] != [] and ids[-1] in self._special_ids)

    def rows(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]] | None]:
        """The token ids of each text, truncated, and its type ids where they are not all 0."""
        encodings = self._tokenizer.encode_batch_fast([_sound(text) for text in texts])
        # An empty text of a tokenizer without special tokens: something must be there to attend to.
        rows = [encoding.ids or [self._pad] for encoding in encodings]
        types = [encoding.type_ids or [0] for encoding in encodings] if self._needs_types else None
        return rows, types

    def pad(
        self,
        rows: list[list[int]],
        types: list[list[int]] | None,
        batch: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> dict[str, torch.Tensor]:
        """What a transformer takes, for the rows of one batch, padded to the longest."""
        sizes = lengths[batch][:, None]
        width = int(sizes.max())
        places = np.arange(width)[None, :]
        mask = places >= width - sizes if self._pad_left else places < sizes
        ids = np.full(mask.shape, self._pad, dtype=np.int64)
        ids[mask] = np.fromiter((token for row in batch for token in rows[row]), dtype=np.int64)
        features = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if self._takes_types:
            kinds = np.zeros_like(ids)
            if types is not None:
                kinds[mask] = np.fromiter((kind for row in batch for kind in types[row]), dtype=np.int64)
            features["token_type_ids"] = torch.from_numpy(kinds)
        return features

    def offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Start and end of each token in characters, of whole texts."""
        if self._whole is None:
            # A copy: truncation is a state of the tokenizer, and another thread may be encoding with it.
            self._whole = Tokenizer.from_str(self._tokenizer.to_str())
            self._whole.no_truncation()
        encodings = self._whole.encode_batch([_sound(text) for text in texts], add_special_tokens=False)
        return [np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2) for encoding in encodings]


def _sound(text: str) -> str:
    """The text, as long as before, with "?" for halves of surrogate pairs, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _load(folder: Path, name: str, device: torch.device) -> SentenceTransformer:
    """The model in a folder, on its device in fp32; none of the folder's own code is run."""
    _refuse_code(folder, name)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # a bar of half a second, and not only on terminals
    try:
        model = SentenceTransformer(
            str(folder), device=str(device), trust_remote_code=False, local_files_only=True
        )
    except LOAD_ERRORS as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ModelUnavailable(
            f"{name} cannot be loaded from {folder} ({reason}); get its files again"
        ) from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    tokenizer = getattr(model[0], "tokenizer", None)
    if not hasattr(model[0], "auto_model") or tokenizer is None:
        raise ModelUnavailable(f"{name} does not begin with a transformer for text; choose another model")
    if not getattr(tokenizer, "is_fast", False):
        raise ModelUnavailable(
            f"{name} has only a slow tokenizer, which cannot say where its tokens stand; "
            "choose a model with a tokenizer.json"
        )
    return model.float().eval()


def _refuse_code(folder: Path, name: str) -> None:
    """Stop where the configuration asks for classes from elsewhere: their code would come with the model."""
    for file in [*folder.glob("modules.json"), *folder.glob("**/router_config.json")]:
        for entry in read_json(file):
            kinds = entry.get("types", {"": entry.get("type", "sentence_transformers.")})
            for kind in kinds.values() if isinstance(kinds, dict) else []:
                if not str(kind).startswith("sentence_transformers."):
                    raise ModelUnavailable(
                        f"{name} needs code of its own ({kind}), which is never run; choose another model"
                    )


def _window(model: SentenceTransformer) -> int:
    """The most tokens of a row, special ones included, by the tokenizer and by the places of the network."""
    limits = [model.max_seq_length or UNLIMITED, UNLIMITED]
    network = model[0].auto_model
    places = getattr(network.config, "max_position_embeddings", None)
    if isinstance(places, int) and places > 0:
        # RoBERTa and its kin count places from behind the padding's, so that the last ones cannot be used.
        skipped = [
            module.padding_idx + 1
            for module in network.modules()
            if isinstance(getattr(module, "padding_idx", None), int)
            and isinstance(getattr(module, "position_embeddings", None), torch.nn.Embedding)
        ]
        limits.append(places - max(skipped, default=0))
    return min(limits)


def _fingerprint(folder: Path) -> str:
    """The sha256 of a model's weights; of several files, the sha256 of the list of theirs."""
    files = weight_files(folder)
    if len(files) == 1:
        return file_sha256(files[0])
    listed = "".join(f"{file_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()
