"""Texts into unit vectors: any Hugging Face encoder or decoder, at any layer, in batches without waste."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from search.encoders.contract import Item, Role, TextModel, Vectors
from search.encoders.device import DTYPES, choose_device, choose_dtype
from search.encoders.packaged import locate
from search.encoders.text_batches import EXACT, SPARE, Batch, Rows, TextStats, gather, plan_batches
from search.encoders.text_checkpoint import Checkpoint, read_checkpoint
from search.encoders.text_load import (
    PUBLISHED,
    LoadedText,
    TextOptions,
    completed,
    load_model,
    parse_layers,
)
from search.encoders.text_runs import GPU_RUN_CHARACTERS, RUN, Started, runs_of, sent_home
from search.errors import EncoderDrift, ModelError, WrongModality
from search.types import EncoderSpec, Modality

FAMILY = "text"

# Tokens of one batch, padding included: what each thread works on should stay in its cache, a GPU wants work.
BUDGET_PER_THREAD = 512
GPU_BUDGET = 131_072
GPU_SPARE = 2_048
# A GPU is kept busy by few large batches, and minds padding less, which only attention sees.
GPU_EXACT = 16_384
_T = TypeVar("_T")


class TextEncoder(TextModel):
    """A transformer with its pooling: words in, unit vectors out.

    `max_tokens` is how many tokens of a document fit in its window, beside the `special_tokens` that the
    tokenizer adds and the prompt for documents, if there is one.
    """

    max_tokens: int
    special_tokens: int

    def __init__(
        self, model: LoadedText, *, name: str, weights: str, options: TextOptions = PUBLISHED
    ) -> None:
        self._model = model
        self._tokens = model.tokens
        self._device = model.network.device
        self._budget: int | None = None  # less than the usual, once memory was short
        self._stats, self._counting = TextStats(), threading.Lock()
        given = {"query": options.query_prompt, "document": options.document_prompt}
        self._prompts = {role: prompt for role, prompt in given.items() if prompt}
        self._prompt_lengths = {
            prompt: self._tokens.prompt_length(prompt) for prompt in self._prompts.values()
        }
        self.special_tokens = self._tokens.special_tokens
        reserved = self.special_tokens + self._tokens.count(self._prompts.get("document", ""))
        room = model.window - reserved
        asked = options.max_tokens
        if room < 1 or (asked is not None and not 1 <= asked <= room):
            raise ModelError(f"{name} takes 1 to {max(room, 0)} tokens, not {asked}; choose a number between")
        self.max_tokens = room if asked is None else asked
        self._tokens.truncate(self.max_tokens + reserved)
        dim = self._run(["dimension"], "").shape[1]
        if options.dim is not None and options.dim > dim:
            raise ModelError(f"{name} has {dim} dimensions, not {options.dim}; choose a --dim of 1 to {dim}")
        said = {"layer": options.layer, "pooling": model.pooling, "dim": options.dim}
        self.spec = EncoderSpec(
            family=FAMILY,
            model=name,
            modality=Modality.TEXT,
            dim=dim,
            accepts=("text",),
            weights=weights,
            options={"max_tokens": self.max_tokens}
            | {f"{role}_prompt": prompt for role, prompt in sorted(self._prompts.items())}
            | {key: value for key, value in said.items() if value is not None},
        )
        self._stats = TextStats()

    @classmethod
    def from_name(
        cls,
        model: str,
        *,
        device: str = "auto",
        precision: str = "auto",
        options: TextOptions = PUBLISHED,
    ) -> TextEncoder:
        """The encoder of that name on the Hugging Face hub, or in that folder.

        A plain transformer, without pooling of its own, gets the mean over its tokens, or the last of them if it is
        a decoder, in which only that one has seen the whole text. Of some well-known ones pooling and prompts are known
        (`search.encoders.text_published`), for where their files say nothing.

        Raises:
            ModelUnavailable: it is not on this machine and could not be fetched, or its files cannot be used.
            ModelError: `device`, `precision` or an option makes no sense.
        """
        where = choose_device(device)
        choose_dtype(precision, where)  # a wrong word is told before seconds of loading
        checkpoint = read_checkpoint(locate(model), model)
        return cls._of(checkpoint, where, precision, completed(options, checkpoint))

    @classmethod
    def from_spec(cls, spec: EncoderSpec, *, device: str = "auto", precision: str = "auto") -> TextEncoder:
        """The encoder that a space was made with.

        Raises:
            ModelUnavailable: as `from_name`.
            EncoderDrift: the model of that name now has other weights.
        """
        where = choose_device(device)
        choose_dtype(precision, where)
        checkpoint = read_checkpoint(locate(spec.model), spec.model)
        if spec.weights not in (None, checkpoint.fingerprint()):
            raise EncoderDrift(
                f"the weights of {spec.model} are not those that its vectors were made with; "
                "get the former files back, or ingest again into a new space"
            )
        said = {key: str(value) for key, value in spec.options.items()}
        pooling = said.get("pooling")
        if pooling is None and checkpoint.pooling is None and checkpoint.needs is None:
            pooling = "mean"  # of before the pooling was written down
        options = TextOptions(
            max_tokens=int(said["max_tokens"]) if "max_tokens" in said else None,
            query_prompt=said.get("query_prompt", ""),
            document_prompt=said.get("document_prompt", ""),
            layer=said.get("layer"),
            pooling=pooling,
            dim=int(said["dim"]) if "dim" in said else None,
        )
        return cls._of(checkpoint, where, precision, options)

    @classmethod
    def _of(
        cls, checkpoint: Checkpoint, where: torch.device, precision: str, options: TextOptions
    ) -> TextEncoder:
        model = load_model(checkpoint, options, where, precision)
        return cls(model, name=checkpoint.name, weights=checkpoint.fingerprint(), options=options)

    @property
    def precision(self) -> str:
        """The number format that was chosen: fp32, bf16 or fp16."""
        return next(word for word, dtype in DTYPES.items() if dtype == self._model.network.dtype)

    @property
    def stats(self) -> TextStats:
        """What has been encoded so far, and how much of the work was padding."""
        return self._stats

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Vectors of texts, in their order: (n, dim) float32, each row of length 1.

        The same as `SentenceTransformer.encode_query` or `encode_document` with normalized embeddings. What
        goes beyond the model's window is not seen.

        Raises:
            WrongModality: an item is not a str.
            ModelError: the model's numbers overflow in the chosen precision, or one text alone is more than the
                device has memory for.
        """
        texts = self._checked(items)
        prompt = self._prompts.get(role, "")
        out = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        started: deque[Started] = deque()
        start = 0
        for rows in self._tokenized(texts, prompt):
            started.append(self._started(rows, prompt, start))
            start += len(rows.lengths)
            if (
                self._device.type == "cpu" or len(started) > 1
            ):  # a GPU gets the next run before this is fetched
                self._fetch(started.popleft(), out)
        for some in started:
            self._fetch(some, out)
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
            WrongModality: a text is not a str.
        """
        network, prompt = self._model.network, self._prompts.get(role, "")
        layers = parse_layers("-1" if layer is None else layer, network.depth, self.spec.model)
        pairs: dict[int, tuple[NDArray[np.int32], Vectors]] = {}
        checked = self._checked(texts)
        for start in range(0, len(checked), RUN):
            rows, offsets, own = self._tokens.placed([prompt + text for text in checked[start : start + RUN]])
            for batch, states in self._batched(rows, lambda batch: network.states(batch, layers).float()):
                for row, hidden in zip(batch, states.cpu().numpy(), strict=True):
                    places = offsets[row] - np.int32(len(prompt))
                    kept = own[row] & (places[:, 1] > 0)
                    pairs[start + int(row)] = (places[kept].clip(0), hidden[: len(kept)][kept])
        return [pairs[number] for number in range(len(checked))]

    def _checked(self, items: Sequence[Item]) -> list[str]:
        texts: list[str] = []
        for item in items:
            if not isinstance(item, str):
                raise WrongModality(f"{self.spec.model} encodes texts, not {type(item).__name__}; pass a str")
            texts.append(item)
        return texts

    def _tokenized(self, texts: list[str], prompt: str) -> Iterator[Rows]:
        """Runs of texts as tokens; beside a GPU, the next run is tokenized while it works on this one."""

        def run(some: slice) -> Rows:
            return self._tokens.rows([prompt + text for text in texts[some]] if prompt else texts[some])

        on_cpu = self._device.type == "cpu"
        runs = list(runs_of(texts, None if on_cpu else GPU_RUN_CHARACTERS))
        if on_cpu or len(runs) < 2:
            yield from map(run, runs)
            return
        with ThreadPoolExecutor(1, "nearkin-tokens") as thread:
            ahead = thread.submit(run, runs[0])
            for following in [*runs[1:], None]:
                rows = ahead.result()
                if following is not None:
                    ahead = thread.submit(run, following)
                yield rows

    def _run(self, texts: list[str], prompt: str) -> Vectors:
        started = self._started(self._tokens.rows([prompt + text for text in texts]), prompt)
        out = np.empty(started.vectors.shape, dtype=np.float32)
        self._fetch(started, out)
        return out

    @torch.inference_mode()
    def _started(self, rows: Rows, prompt: str, first: int = 0) -> Started:
        """What will be the vectors of these rows, the first of which has this number."""
        skipped = self._prompt_lengths.get(prompt, 0)
        done = list(self._batched(rows, lambda batch: self._model.pooled(batch, skipped)))
        numbers = first + np.concatenate([numbers for numbers, _ in done])
        return sent_home(numbers, torch.cat([some for _, some in done]))

    @staticmethod
    def _fetch(started: Started, out: Vectors) -> None:
        """Put vectors into their places, once they have arrived."""
        rows = started.arrived()
        if not np.isfinite(rows).all():
            raise ModelError("the model's numbers overflow in this precision; use --precision fp32 or bf16")
        out[started.numbers] = rows

    def _batched(self, rows: Rows, work: Callable[[Batch], _T]) -> Iterator[tuple[NDArray[np.int64], _T]]:
        """Row numbers and what `work` makes of them, batch by batch, all rows once.

        Where the device's memory is too small for a batch, the budget is halved, from then on, and the rows that
        are left are planned anew.
        """
        lengths = rows.lengths
        waiting = self._planned(lengths, np.arange(len(lengths)))
        while waiting:
            numbers = waiting[0]
            batch = gather(rows, numbers, self._device)
            short: torch.OutOfMemoryError | None = None
            try:
                done = work(batch)
            except torch.OutOfMemoryError as error:
                short = error.with_traceback(None)  # whose frames hold on to the memory
            if short is not None:
                self._shrink(batch, short)
                waiting = self._planned(lengths, np.concatenate(waiting))
                continue
            waiting.popleft()
            tokens = int(lengths[numbers].sum())
            with self._counting:
                self._stats += TextStats(len(numbers), tokens, batch.ids.numel() - tokens, 1)
            yield numbers, done

    def _planned(self, lengths: NDArray[np.int64], left: NDArray[np.int64]) -> deque[NDArray[np.int64]]:
        """Batches of the rows that are left."""
        on_cpu = self._device.type == "cpu"
        budget = BUDGET_PER_THREAD * torch.get_num_threads() if on_cpu else GPU_BUDGET
        if self._budget is not None:
            budget = min(budget, self._budget)
        spare, exact = (SPARE, EXACT) if on_cpu else (GPU_SPARE, GPU_EXACT)
        parts = plan_batches(lengths[left], budget, exact=exact, spare=spare)
        return deque(left[part] for part in parts)

    def _shrink(self, batch: Batch, error: torch.OutOfMemoryError) -> None:
        """Take batches of half the size from now on."""
        if len(batch.lengths) == 1:
            raise ModelError(
                f"a text of {batch.ids.shape[1]} tokens alone is more than the memory of {self._device} holds; "
                "use --device cpu, --precision bf16 or shorter passages"
            ) from error
        self._budget = max(batch.ids.numel() // 2, 1)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
