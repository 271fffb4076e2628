"""Texts into unit vectors by a model that runs elsewhere, behind an OpenAI-compatible address."""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.encoders.contract import Attempt, Item, Role, TextModel, Vectors
from search.encoders.endpoint import (
    BASE_URL_NAME,
    OPENAI,
    PATIENT,
    Endpoint,
    Patience,
    Refused,
    Stopped,
    normalized,
)
from search.errors import EncoderDrift, ModelError, WrongModality
from search.types import EncoderSpec, Json, Modality

FAMILY = "openai"

THREADS = 4  # requests at a time
TEXTS_AT_ONCE = 64  # of one request
TOKENS_AT_ONCE = 8192  # of one request, as `token_offsets` counts them; one text alone may have more
MAX_TOKENS = 8000  # of a passage; the windows of the models in use go from 512 to 32,768

# A remote model brings no tokenizer, so tokens are counted as what most tokenizers would at most make of a text:
# four letters of the Latin alphabet, three digits, two letters of another alphabet, one of anything else.
_PIECE = re.compile(
    r"[A-Za-z]{1,4}|[0-9]{1,3}|[\u00aa-\u1fff\u2c00-\u2dff\ua640-\uabff]{1,2}|[^\S\r\n]{4,64}|\S"
)
_TOO_MUCH = re.compile(
    r"too (?:long|large|many|big)|maxim|\bmax[_ ]|context length|exceed|batch size|at most|limit",
    re.IGNORECASE,
)


def address(base_url: str | None) -> str:
    """Where a model is asked: at the address given, else that in OPENAI_BASE_URL, else OpenAI's."""
    return normalized(base_url or os.environ.get(BASE_URL_NAME, "").strip() or OPENAI)


class RemoteEncoder(TextModel):
    """A model behind an address: words in, unit vectors out.

    May be used from several threads. `tokens_used` is what the endpoint has counted until now.

    Args:
        endpoint: whom to ask.
        name: the model's name there.
        dim: the width of its vectors; None asks.
        dimensions: the width to ask for in each request, of a model that can shorten its vectors; None asks for none.
        prompts: what stands before each query and document, by role.

    Raises:
        ModelUnavailable: it does not answer.
        ModelError: it answers with what cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        *,
        dim: int | None = None,
        dimensions: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._name = name
        self._dimensions = dimensions
        self._prompts = {role: prompt for role, prompt in (prompts or {}).items() if prompt}
        self._counting = threading.Lock()
        self._most_texts = TEXTS_AT_ONCE
        self._base64 = True  # a quarter of the bytes of written numbers, and no rounding
        self._answered = False
        self._dim = dim
        self.max_tokens = MAX_TOKENS - len(_PIECE.findall(self._prompts.get("document", "")))
        if self.max_tokens < 8:
            raise ModelError(
                "the prompt for documents leaves no room for one; give a shorter --document-prompt"
            )
        if self._dim is None:
            self._dim = self._request(["dimension"], threading.Event()).shape[1]
            if dimensions not in (None, self._dim):
                raise ModelError(
                    f"{self._said} gives {self._dim} dimensions where {dimensions} were asked for; "
                    f"give --dim {self._dim} or leave it out"
                )
        options: dict[str, Json] = {"base_url": endpoint.base_url}
        if dimensions is not None:
            options["dimensions"] = dimensions
        options |= {f"{role}_prompt": prompt for role, prompt in sorted(self._prompts.items())}
        self.spec = EncoderSpec(
            family=FAMILY,
            model=f"{FAMILY}:{name}",
            modality=Modality.TEXT,
            dim=self._dim,
            accepts=("text",),
            options=options,
        )

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        base_url: str | None = None,
        dim: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        patience: Patience = PATIENT,
    ) -> RemoteEncoder:
        """The model of that name at an address: the one given, else that in OPENAI_BASE_URL, else OpenAI's.

        Raises:
            ModelUnavailable: it does not answer, or wants a key.
            ModelError: the name, the address or the width makes no sense, or the answer cannot be used.
        """
        if not name.strip():
            raise ModelError("the model has no name; write --model openai:NAME")
        if dim is not None and dim < 1:
            raise ModelError(f"vectors cannot have {dim} dimensions; give a --dim of 1 or more")
        return cls(
            Endpoint(address(base_url), told=True, patience=patience),
            name,
            dimensions=dim,
            prompts={"query": query_prompt or "", "document": document_prompt or ""},
        )

    @classmethod
    def from_spec(cls, spec: EncoderSpec, *, patience: Patience = PATIENT) -> RemoteEncoder:
        """The encoder that a space was made with; asks nothing yet.

        The key goes only to OpenAI and to the address in OPENAI_BASE_URL: it is the collection that says where to
        ask, and it may come from someone else.

        Raises:
            ModelUnavailable: OpenAI's wants a key.
            ModelError: the stored address cannot be used.
        """
        options = spec.options
        dimensions = options.get("dimensions")
        return cls(
            Endpoint(str(options.get("base_url", OPENAI)), told=False, patience=patience),
            spec.model.removeprefix(f"{FAMILY}:"),
            dim=spec.dim,
            dimensions=None if dimensions is None else int(str(dimensions)),
            prompts={role: str(options.get(f"{role}_prompt", "")) for role in ("query", "document")},
        )

    def encode(self, items: Sequence[Item], *, role: Role = "document") -> Vectors:
        """Vectors of texts, in their order: (n, dim) float32, each row of length 1.

        Raises:
            WrongModality: an item is not a str.
            ModelUnavailable: the endpoint does not answer, or refuses.
            EncoderDrift: the vectors have another width than the space.
            ModelError: what it answers cannot be used.
        """
        outcome = self._attempt(items, role)
        if outcome.error is not None:
            raise outcome.error
        return outcome.vectors

    def attempt(self, items: Sequence[Item]) -> Attempt:
        """As `encode` of documents; what was answered, and paid for, before an error is kept."""
        return self._attempt(items, "document")

    def token_offsets(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where each token of each text would stand: (n_tokens, 2) start and end, in characters.

        The model's own tokenizer is not at hand, so they are counted on the high side: a text of so many of these
        fits a window of as many real ones.
        """
        return [
            np.array([match.span() for match in _PIECE.finditer(text)], dtype=np.int32).reshape(-1, 2)
            for text in texts
        ]

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    @property
    def _said(self) -> str:
        return f"'{self._name}' at {self._endpoint.base_url}"

    def _attempt(self, items: Sequence[Item], role: Role) -> Attempt:
        prompt = self._prompts.get(role, "")
        texts: list[str] = []
        for item in items:
            if not isinstance(item, str):
                raise WrongModality(f"{self.spec.model} encodes texts, not {type(item).__name__}; pass a str")
            # Halves of surrogate pairs have no UTF-8, in which the request is sent.
            texts.append((prompt + item).encode("utf-8", "replace").decode("utf-8"))
        vectors = np.zeros((len(texts), self.spec.dim), dtype=np.float32)
        done = np.zeros(len(texts), dtype=np.bool_)
        stop = threading.Event()

        def one(rows: NDArray[np.int64]) -> ModelError | None:
            for some in np.array_split(rows, -(-len(rows) // self._most_texts)):
                try:
                    vectors[some] = self._halving([texts[row] for row in some], stop)
                except ModelError as error:
                    stop.set()
                    return error
                done[some] = True
            return None

        batches = plan_requests([len(_PIECE.findall(text)) for text in texts], TEXTS_AT_ONCE, TOKENS_AT_ONCE)
        if len(batches) <= 1:
            errors = [one(rows) for rows in batches]
        else:
            with ThreadPoolExecutor(THREADS, "nearkin-remote") as threads:
                try:
                    errors = list(threads.map(one, batches))
                finally:  # after Ctrl-C, too, those that wait must not go on
                    stop.set()
        failed = [error for error in errors if error is not None]
        failed.sort(key=lambda error: isinstance(error, Stopped))  # the cause comes before what it stopped
        return Attempt(vectors, done, failed[0] if failed else None)

    def _halving(self, texts: list[str], stop: threading.Event) -> Vectors:
        """Unit vectors of the texts of one request, in two where it is too much for the endpoint."""
        try:
            return self._request(texts, stop)
        except Refused as refused:
            if refused.status != 413 and not (
                refused.status in (400, 422) and _TOO_MUCH.search(refused.said)
            ):
                raise
            if len(texts) == 1:
                n = len(_PIECE.findall(texts[0]))
                raise ModelError(
                    f"a text of about {n:,} tokens is too much for {self._said} ({refused.said}); "
                    "give a smaller --tokens"
                ) from None
        half = (len(texts) + 1) // 2
        self._most_texts = max(1, min(self._most_texts, half))  # from now on, ask for what it can do
        return np.concatenate([self._halving(texts[:half], stop), self._halving(texts[half:], stop)])

    def _request(self, texts: list[str], stop: threading.Event) -> Vectors:
        body: dict[str, Json] = {"model": self._name, "input": list(texts)}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        packed = self._base64
        try:
            answer = self._endpoint.ask(body | ({"encoding_format": "base64"} if packed else {}), stop)
        except Refused as refused:
            # Some servers know no other format than lists of numbers, and not all say that this is the matter.
            if not packed or self._answered or refused.status not in (400, 422):
                raise
            answer = self._endpoint.ask(body, stop)
            self._base64 = False
        self._answered = True
        self._count(answer)
        return self._rows(answer, len(texts))

    def _count(self, answer: Mapping[str, Any]) -> None:
        usage = answer.get("usage")
        told = usage.get("total_tokens") if isinstance(usage, dict) else None
        if isinstance(told, int) and not isinstance(told, bool) and told >= 0:
            with self._counting:
                self.tokens_used = (self.tokens_used or 0) + told

    def _rows(self, answer: Mapping[str, Any], n: int) -> Vectors:
        """The vectors (n, dim) of an answer, each in its place and of length 1."""
        data = answer.get("data")
        if not isinstance(data, list) or len(data) != n:
            count = len(data) if isinstance(data, list) else "no"
            raise ModelError(f"{self._said} gave {count} vectors for {n} texts; check what serves it")
        rows: list[NDArray[np.float64] | None] = [None] * n
        for entry in data:
            place = entry.get("index") if isinstance(entry, dict) else None
            if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < n:
                raise ModelError(f"{self._said} does not say whose vector is whose; check what serves it")
            if rows[place] is not None:
                raise ModelError(f"{self._said} gave two vectors for one text; check what serves it")
            rows[place] = self._numbers(entry.get("embedding"))
        widths = {len(row) for row in rows if row is not None}
        if len(widths) > 1:
            raise ModelError(
                f"{self._said} gave vectors of several widths in one answer; check what serves it"
            )
        if self._dim is not None and widths - {self._dim}:
            raise EncoderDrift(
                f"{self._said} gives {widths.pop()} dimensions where its space has {self._dim}; "
                "put the old model back, or ingest into a new space"
            )
        matrix = np.stack([row for row in rows if row is not None])
        with np.errstate(all="ignore"):  # what overflows is not finite, which is looked for
            lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
            unit: Vectors = (matrix / lengths).astype(np.float32)
        if not np.isfinite(unit).all():
            raise ModelError(
                f"{self._said} gave a vector that is zero, infinite or not a number; check what serves it"
            )
        return unit

    def _numbers(self, given: object) -> NDArray[np.float64]:
        """One vector, from its base64 of float32 or from a list."""
        row: NDArray[np.float64] | None = None
        try:
            if isinstance(given, str):
                row = np.frombuffer(base64.b64decode(given, validate=True), "<f4").astype(np.float64)
            elif isinstance(given, list) and all(type(number) in (int, float) for number in given):
                row = np.array(given, dtype=np.float64)
        except (binascii.Error, ValueError, OverflowError):
            row = None
        if row is None or not len(row):
            raise ModelError(f"{self._said} gave something else than a vector; check what serves it")
        return row


def plan_requests(tokens: Sequence[int], most_texts: int, most_tokens: int) -> list[NDArray[np.int64]]:
    """Rows 0 to n - 1, in their order, split so that each request has so many texts and tokens at the most.

    A row of more than `most_tokens` goes alone.
    """
    requests: list[NDArray[np.int64]] = []
    begin = total = 0
    for row, count in enumerate(tokens):
        if row > begin and (row - begin >= most_texts or total + count > most_tokens):
            requests.append(np.arange(begin, row))
            begin, total = row, 0
        total += count
    if begin < len(tokens):
        requests.append(np.arange(begin, len(tokens)))
    return requests
