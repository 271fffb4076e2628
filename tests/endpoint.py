"""A real HTTP server on this machine that answers as an OpenAI-compatible endpoint does, or fails as told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.letters import ALPHABET

# A fault gets the handler and the body of the request, and answers; True means: answer as if all were well.
Fault = Callable[["Handler", dict[str, Any]], bool]


def letters(text: str, dim: int | None = None) -> np.ndarray:
    """Counts of a to z, and one more number so that no text is zero; not of length 1."""
    counts = [text.lower().count(letter) for letter in ALPHABET] + [0.5]
    return np.array(counts, dtype=np.float32)[:dim]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Served

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.paths.append(self.path)
            fault = self.server.faults.pop(0) if self.server.faults else self.server.always
        if fault is None or fault(self, body):
            self.answer(200, self.well(body))

    def well(self, body: dict[str, Any]) -> dict[str, Any]:
        """What an endpoint answers when all is well."""
        data = []
        for place, text in enumerate(body["input"]):
            row = letters(text, body.get("dimensions"))
            packed = body.get("encoding_format") == "base64"
            embedding = base64.b64encode(row.tobytes()).decode() if packed else row.tolist()
            data.append({"object": "embedding", "index": place, "embedding": embedding})
        tokens = sum(len(text.split()) for text in body["input"])
        return {"object": "list", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    def answer(self, status: int, said: Any, **headers: str) -> None:
        """Send an answer: JSON, or bytes as they are."""
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Served(ThreadingHTTPServer):
    """What was asked (`bodies`, `headers`, `paths`), and the `faults` of the next requests; `always` of all others."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.release = threading.Event()  # what a hanging request waits for

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def texts(self) -> list[str]:
        """Every text that was sent, in the order of the requests."""
        return [text for body in self.bodies for text in body["input"]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away


@contextmanager
def served() -> Iterator[Served]:
    """The server, while the block lasts."""
    with Served() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()


def fails(status: int, said: Any = None, **headers: str) -> Fault:
    """Answer with this status."""
    told = {"error": {"message": f"error {status}"}} if said is None else said

    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        handler.answer(status, told, **headers)
        return False

    return fault


def changes(change: Callable[[dict[str, Any]], object]) -> Fault:
    """Answer well, but for a change made to the answer in place."""

    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        answer = handler.well({**body, "encoding_format": "float"})
        change(answer)
        handler.answer(200, answer)
        return False

    return fault


def hangs(handler: Handler, body: dict[str, Any]) -> bool:
    """Answer nothing until the server ends."""
    handler.server.release.wait(30)
    handler.close_connection = True
    return False


def drips(handler: Handler, body: dict[str, Any]) -> bool:
    """Send a byte now and then, so that no single wait is long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.release.wait(0.02):
        handler.wfile.write(b" ")
        handler.wfile.flush()
    return False


def drops(handler: Handler, body: dict[str, Any]) -> bool:
    """Close the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.wfile.flush()
    handler.close_connection = True
    return False
