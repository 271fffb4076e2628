"""From a checkpoint's files to a model that computes, in the precision that was asked for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from search.encoders.device import choose_dtype, has_bf16_instructions
from search.encoders.text_batches import Batch, Network, Rows, gather
from search.encoders.text_bert import BertNetwork, covers
from search.encoders.text_checkpoint import Checkpoint
from search.encoders.text_pooling import CHOOSABLE, Head, Pooling, PoolingMode, load_tensors
from search.encoders.text_published import published
from search.encoders.text_tokens import UNLIMITED, Tokens, tokens_from_files, tokens_from_transformers
from search.errors import ModelError, ModelUnavailable

# "--precision auto" on a processor: what is compared in both number formats, and how close they must be.
_PROBES = (
    "A plane is taking off.",
    "Ein Satz über Äpfel und Birnen, 3.14 und das Ende",
    "def add(a, b): return a + b",
    "The index is a view of the catalog. It can be thrown away and built again, and nothing is lost. " * 4,
)
_LEAST_COSINE = 0.999

# What transformers and its parts raise over a folder of damaged, foreign or unsafe files.
LOAD_ERRORS = (
    AssertionError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What may be said of a text model beside its name; None takes what the checkpoint says.

    Args:
        max_tokens: a smaller window, in tokens of a document, beside special tokens and prompt.
        query_prompt: stands before each query.
        document_prompt: stands before each document.
        layer: the hidden layer that vectors are made of: 0 for the embeddings, 8 for the eighth, -1 for the last,
            or several with commas, which are averaged. Layers behind the pooling (Dense, LayerNorm) were trained
            for the last one and are left out then.
        pooling: cls, mean, max or last.
        dim: keep the first so many numbers of each vector.
    """

    max_tokens: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    layer: str | None = None
    pooling: str | None = None
    dim: int | None = None


PUBLISHED = TextOptions()


@dataclass(slots=True)
class LoadedText:
    """What computes: a tokenizer, a network, and what makes one vector of its states.

    Args:
        pooling: the pooling to be remembered, None where the checkpoint itself says it.
        pooled: (batch, tokens of the prompt) -> (rows, dim) float32 unit rows.
        window: the most tokens of a row.
    """

    tokens: Tokens
    network: Network
    pooled: Callable[[Batch, int], torch.Tensor]
    window: int
    pooling: str | None = None


def parse_layers(layer: str, depth: int, name: str) -> tuple[int, ...]:
    """Layer numbers 0 to `depth`, of what a user wrote: "8", "-1", "-2,-1".

    Raises:
        ModelError: that is no such list, or the network has no such layer.
    """
    numbers = []
    for word in layer.split(","):
        try:
            number = int(word)
        except ValueError:
            number = depth + 1
        if not -depth - 1 <= number <= depth:
            raise ModelError(
                f"{name} has no layer {word.strip()!r}; choose 0 (the embeddings) to {depth}, or -1 for the last"
            )
        numbers.append(number + depth + 1 if number < 0 else number)
    return tuple(numbers)


def completed(options: TextOptions, checkpoint: Checkpoint) -> TextOptions:
    """What was said of a model, then what its files say, then what its card says where they say nothing."""
    own = checkpoint.prompts
    query = own.get("query", "")
    document = next((own[key] for key in ("document", "passage", "corpus") if own.get(key)), "")
    pooling = options.pooling
    card = published(checkpoint.name, checkpoint.folder)
    if card is not None and not any(own.values()):
        query, document = card.query, card.document
    if card is not None and pooling is None and checkpoint.pooling is None and checkpoint.needs is None:
        pooling = card.pooling
    return replace(
        options,
        layer=None if options.layer is None else in_order(options.layer),
        query_prompt=query if options.query_prompt is None else options.query_prompt,
        document_prompt=document if options.document_prompt is None else options.document_prompt,
        pooling=pooling,
    )


def in_order(layers: str) -> str:
    """The same layers as they are kept: "-1,-2" is "-2,-1". What is no list of numbers is left as it is."""
    try:
        return ",".join(map(str, sorted(int(word) for word in layers.split(","))))
    except ValueError:
        return layers


def load_model(
    checkpoint: Checkpoint, options: TextOptions, device: torch.device, precision: str
) -> LoadedText:
    """The model of a checkpoint.

    Raises:
        ModelUnavailable: its files cannot be used.
        ModelError: an option or the precision makes no sense.
    """
    if options.pooling is not None and options.pooling not in CHOOSABLE:
        raise ModelError(f"unknown pooling '{options.pooling}'; use {', '.join(CHOOSABLE)}")
    if options.dim is not None and options.dim < 1:
        raise ModelError(f"{options.dim} dimensions make no vector; choose a --dim of 1 or more")
    with _told(checkpoint):
        plain = options.layer is None and options.pooling is None
        if checkpoint.needs == "Router" or (checkpoint.needs is not None and plain):
            return _foreign(checkpoint, options, device, precision)
        return _own(checkpoint, options, device, precision)


@contextmanager
def _told(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what libraries raise over damaged files into one line."""
    from search.errors import NearkinError

    try:
        yield
    except NearkinError:
        raise
    except LOAD_ERRORS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise ModelError(
                f"{checkpoint.name} does not fit in the memory of the device; use --precision bf16 or --device cpu"
            ) from error
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ModelUnavailable(
            f"{checkpoint.name} cannot be loaded from {checkpoint.folder} ({reason}); get its files again"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers: half a second of one, and not only on terminals."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def _own(checkpoint: Checkpoint, options: TextOptions, device: torch.device, precision: str) -> LoadedText:
    """Network by `BertNetwork` or transformers, pooling and what follows by nearkin."""
    build, tokens = _builder(checkpoint, device)
    candidates = _precisions(precision, device)
    network = build(candidates[-1])
    layers: tuple[int, ...] = (network.depth,)
    if options.layer is not None:
        layers = parse_layers(options.layer, network.depth, checkpoint.name)
    pooling, remembered = checkpoint.pooling, options.pooling
    if options.pooling is not None:
        pooling = Pooling((PoolingMode(options.pooling),))
    elif pooling is None:
        causal = getattr(network, "looks_back_only", lambda: False)()
        pooling = Pooling((PoolingMode.LAST if causal else PoolingMode.MEAN,))
        remembered = str(pooling.modes[0])
    known = checkpoint.steps if layers == (network.depth,) else ()
    head = Head(pooling, [step.load(device) for step in known], options.dim)

    def pooled(network: Network) -> Callable[[Batch, int], torch.Tensor]:
        return lambda batch, prompt: head(network.states(batch, layers), batch, prompt)

    if len(candidates) > 1:
        network = _quicker(network, build, candidates[0], tokens, pooled)
    window = min(tokens.limit, getattr(network, "window", None) or UNLIMITED)
    return LoadedText(tokens, network, pooled(network), window, remembered)


def _builder(checkpoint: Checkpoint, device: torch.device) -> tuple[Callable[[torch.dtype], Network], Tokens]:
    """What makes the network in a number format, and the tokenizer."""
    tokens = tokens_from_files(checkpoint) if covers(checkpoint.config) else None
    whole = any((checkpoint.network / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))
    if tokens is not None and whole:
        tensors = load_tensors(checkpoint.network)
        return lambda dtype: BertNetwork(checkpoint.config, tensors, device, dtype), tokens
    from search.encoders.text_transformers import load_network, load_tokenizer

    def build(dtype: torch.dtype) -> Network:
        with quiet():
            return load_network(checkpoint, device, dtype)

    return build, tokens or tokens_from_transformers(checkpoint, load_tokenizer(checkpoint))


def _precisions(precision: str, device: torch.device) -> list[torch.dtype]:
    """The number formats to try: one, or on a processor with instructions for it bf16 and then fp32."""
    chosen = choose_dtype(precision, device)
    if precision == "auto" and device.type == "cpu" and has_bf16_instructions():
        return [torch.bfloat16, chosen]
    return [chosen]


def _quicker(
    exact: Network,
    build: Callable[[torch.dtype], Network],
    dtype: torch.dtype,
    tokens: Tokens,
    pooled: Callable[[Network], Callable[[Batch, int], torch.Tensor]],
) -> Network:
    """The network in `dtype` if its vectors of the probes are those of `exact`, else `exact`."""
    tokens.truncate(max(min(tokens.limit, getattr(exact, "window", None) or UNLIMITED, 64), 8))
    rows = tokens.rows(_PROBES)
    want = _probed(rows, exact, pooled)
    quick = build(dtype)
    cosine = (_probed(rows, quick, pooled) * want).sum(dim=1).min()
    return quick if bool(cosine >= _LEAST_COSINE) else exact


@torch.inference_mode()
def _probed(
    rows: Rows, network: Network, pooled: Callable[[Network], Callable[[Batch, int], torch.Tensor]]
) -> torch.Tensor:
    batch = gather(rows, np.arange(len(_PROBES)), network.device)
    return pooled(network)(batch, 0)


def _foreign(
    checkpoint: Checkpoint, options: TextOptions, device: torch.device, precision: str
) -> LoadedText:
    """All of it by sentence-transformers, whose modules nearkin does not know."""
    from search.encoders.text_transformers import ForeignModel

    dtype = choose_dtype(precision, device)
    if options.layer is not None or options.pooling is not None:
        raise ModelError(
            f"{checkpoint.name} has no layers or pooling to choose; leave --layer and --pooling out"
        )
    with quiet():
        model: Any = ForeignModel(checkpoint, device)
    tokens = tokens_from_transformers(checkpoint, model.tokenizer)
    model.to(dtype)
    window = min(tokens.limit, model.max_length or UNLIMITED, model.network.window or UNLIMITED)
    return LoadedText(
        tokens, model.network, lambda batch, prompt: model(batch, prompt, options.dim), window, None
    )
