"""One OpenAI-compatible address for embeddings: asks it, waits as it says, asks again, and tells what went wrong."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from search.errors import ModelError, ModelUnavailable
from search.version import __version__

OPENAI = "https://api.openai.com/v1"
KEY_NAMES = ("NEARKIN_API_KEY", "OPENAI_API_KEY")  # the first that is set
BASE_URL_NAME = "OPENAI_BASE_URL"
PLAIN_HTTP_NAME = "NEARKIN_PLAIN_HTTP"

MOST_BYTES = 1 << 28  # of one answer
_MOST_SAID = 200  # characters of what a server says that are passed on
_WORTH_ASKING_AGAIN = (408, 425, 429)  # beside all from 500 on
_NO_USE_WAITING = "insufficient_quota"  # comes with a 429, and no waiting helps


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with an endpoint.

    Args:
        tries: requests for the same thing before giving up.
        timeout_s: seconds until an answer must have come, whole.
        first_wait_s: seconds before the second try; they double with each further one, less up to a half by lot.
        longest_wait_s: the most seconds between two tries; one that asks for more is given up at once.
    """

    tries: int = 6
    timeout_s: float = 120.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0


PATIENT = Patience()


class Refused(ModelUnavailable):
    """The endpoint will not do what was asked, however often: its `status`, and in its own words what it `said`."""

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status = status
        self.said = said


class Stopped(ModelError):
    """Another request of the same call has failed, so that this one is of no use."""


class Endpoint:
    """POSTs to `base_url`/embeddings; may be asked from several threads. The key is in no message and no repr.

    Args:
        base_url: the address up to, and with, its version: https://api.openai.com/v1.
        told: whether the user or the environment named the address. One that only a collection names is not sent
            the key: the collection may come from someone else.
        patience: tries and waits.

    Raises:
        ModelError: the address cannot be used, or the key would go over plain HTTP.
        ModelUnavailable: it is OpenAI's, and there is no key.
    """

    def __init__(self, base_url: str, *, told: bool, patience: Patience = PATIENT) -> None:
        self.base_url = normalized(base_url)
        self._patience = patience
        named, key = _key()
        trusted = told or _origin(self.base_url) in _known_origins()
        self._key = key if trusted else None
        self._hint = _hint(self.base_url, named, trusted=trusted)
        url = httpx2.URL(self.base_url)
        local = is_loopback(url.host)
        if self._key is None and _origin(self.base_url) == _origin(OPENAI):
            raise ModelUnavailable(f"{OPENAI} wants a key and there is none; set {' or '.join(KEY_NAMES)}")
        if (
            self._key is not None
            and url.scheme == "http"
            and not local
            and not os.environ.get(PLAIN_HTTP_NAME)
        ):
            raise ModelError(
                f"the key would go to {self.base_url} for all to read; use https, or set {PLAIN_HTTP_NAME}=1"
            )
        headers = {"User-Agent": f"nearkin/{__version__}", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(patience.timeout_s),
            follow_redirects=False,  # a redirect would take texts, and perhaps the key, to where nobody named
            trust_env=not local,  # no proxy stands between this machine and itself
        )
        weakref.finalize(self, self._client.close)
        self._not_before = 0.0  # a moment of time.monotonic; the endpoint asked all to wait until then
        self._turn = threading.Lock()

    def ask(self, body: Mapping[str, Any], stop: threading.Event) -> dict[str, Any]:
        """The endpoint's answer, a JSON object.

        Args:
            body: what is sent, as JSON.
            stop: set by whoever has no use for the answer any more.

        Raises:
            Refused: it will not do it.
            ModelUnavailable: it could not be reached, or failed each time.
            ModelError: it answered with what is no JSON object.
            Stopped: `stop` was set before there was an answer.
        """
        content = json.dumps(body).encode()
        reason = ""
        for attempt in range(self._patience.tries):
            self._wait_for_turn(stop)
            try:
                status, headers, data = self._post(content)
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise ModelError(
                    f"{self.base_url} cannot be asked ({error}); give another --base-url"
                ) from None
            except httpx2.TimeoutException:
                reason, told_s = f"no answer within {self._patience.timeout_s:g} s", None
            except httpx2.HTTPError as error:
                reason, told_s = self._clean(str(error)) or type(error).__name__, None
            else:
                if status == 200:
                    return self._object(data)
                said = self._said(data)
                if not self._passes(status, data):
                    raise Refused(self._refusal(status, said, headers), status, said)
                reason = f"{status} {said}".strip()
                told_s = asked_wait(headers.get("retry-after"))
            if attempt + 1 < self._patience.tries:
                self._hold(attempt, told_s, reason)
        raise ModelUnavailable(
            f"{self.base_url} failed {self._patience.tries} times in a row, last with: {reason}; "
            "run again when it is well"
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _post(self, content: bytes) -> tuple[int, httpx2.Headers, bytes]:
        deadline = time.monotonic() + self._patience.timeout_s
        with self._client.stream(
            "POST",
            f"{self.base_url}/embeddings",
            content=content,
            headers={"Content-Type": "application/json"},
        ) as answer:
            data = bytearray()
            for some in answer.iter_bytes():
                data += some
                if len(data) > MOST_BYTES:
                    raise ModelError(
                        f"{self.base_url} answered with more than {MOST_BYTES >> 20} MB; check the address"
                    )
                if time.monotonic() > deadline:  # it keeps dripping
                    raise httpx2.ReadTimeout("")
            return answer.status_code, answer.headers, bytes(data)

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ModelError(
                f"what {self.base_url} answered is no JSON object; check that it is an OpenAI-compatible "
                "address, up to and with its /v1"
            )
        return answer

    def _passes(self, status: int, data: bytes) -> bool:
        if status == 429 and _NO_USE_WAITING.encode() in data:
            return False
        return status in _WORTH_ASKING_AGAIN or status >= 500

    def _refusal(self, status: int, said: str, headers: httpx2.Headers) -> str:
        if status in (401, 403):  # what is said with it may hold parts of the key
            return f"{self.base_url} refuses access ({status}); {self._hint}"
        if status == 404:
            told = said or "not found"
            return f"{self.base_url} has no such model or address (404: {told}); check --model and --base-url"
        if 300 <= status < 400:
            where = self._clean(headers.get("location", "elsewhere"))
            return f"{self.base_url} sends one on to {where}; give the address that answers with --base-url"
        return (
            f"{self.base_url} refuses ({status}: {said or 'without a reason'}); check --model and its options"
        )

    def _hold(self, attempt: int, told_s: float | None, reason: str) -> None:
        """Let nobody ask before the wait is over."""
        longest = self._patience.longest_wait_s
        if told_s is not None and told_s > longest:
            raise ModelUnavailable(
                f"{self.base_url} asks to wait {told_s:,.0f} s ({reason}); run again after that"
            )
        backoff = min(self._patience.first_wait_s * 2**attempt, longest)
        wait = backoff * random.uniform(0.5, 1) if told_s is None else told_s  # noqa: S311 - no secret
        with self._turn:
            self._not_before = max(self._not_before, time.monotonic() + wait)

    def _wait_for_turn(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._turn:
                left = self._not_before - time.monotonic()
            if left <= 0:
                return
            stop.wait(left)
        raise Stopped(f"{self.base_url} was not asked; another request failed")

    def _said(self, data: bytes) -> str:
        """What an answer gives as its reason, wherever servers of this kind put it."""
        text = data[: 1 << 16].decode("utf-8", "replace")
        try:
            told = json.loads(text)
        except ValueError:
            return self._clean(text)
        for name in ("error", "message", "detail"):
            if isinstance(told, dict) and told.get(name):
                told = told[name]
        return self._clean(told if isinstance(told, str) else json.dumps(told))

    def _clean(self, text: str) -> str:
        """One short line of what came from outside, without the key."""
        if self._key is not None:
            text = text.replace(self._key, "…")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= _MOST_SAID else line[: _MOST_SAID - 1] + "…"


def normalized(base_url: str) -> str:
    """The address as it is stored: without a slash or /embeddings at its end.

    Raises:
        ModelError: it is no http(s) address, or holds a name, a password, a query or a fragment.
    """
    example = f"give one such as {OPENAI}"
    try:
        url = httpx2.URL(base_url.strip())
        port = url.port
    except (httpx2.InvalidURL, ValueError):
        raise ModelError(f"the base URL is no address; {example}") from None
    if url.userinfo or "@" in url.netloc.decode("latin-1"):
        raise ModelError(
            "the base URL holds a name or password, which would be stored; leave it out and set "
            f"{KEY_NAMES[0]} instead"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise ModelError(f"the base URL is no http or https address; {example}")
    if url.query or url.fragment or "?" in base_url or "#" in base_url:
        raise ModelError(f"the base URL ends in a query or fragment, which would be stored; {example}")
    host = f"[{url.host}]" if ":" in url.host else url.host
    path = url.path.rstrip("/").removesuffix("/embeddings").rstrip("/")
    return f"{url.scheme}://{host}{'' if port is None else f':{port}'}{path}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def asked_wait(header: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, given as such or as a date; None where it says nothing."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if seconds == seconds else None  # NaN is no wait


def _key() -> tuple[str, str | None]:
    """The variable that holds the key, and the key."""
    for name in KEY_NAMES:
        key = os.environ.get(name, "").strip()
        if key:
            if not (key.isascii() and key.isprintable()):
                raise ModelError(f"{name} holds characters that no key has; set it again")
            return name, key
    return " or ".join(KEY_NAMES), None


def _hint(base_url: str, named: str, *, trusted: bool) -> str:
    if trusted:
        return f"check the key in {named}"
    return (
        "only the collection names this address, so that no key was sent; "
        f"to send it, set {BASE_URL_NAME}={base_url}"
    )


def _known_origins() -> set[tuple[str, str, int | None]]:
    """The addresses that may be sent the key though it is a collection that names them."""
    named = os.environ.get(BASE_URL_NAME, "").strip()
    return {_origin(OPENAI)} | ({_origin(normalized(named))} if named else set())


def _origin(base_url: str) -> tuple[str, str, int | None]:
    url = httpx2.URL(base_url)
    return url.scheme, url.host, url.port
