"""What a server is told when it is started, and how much it takes on at a time."""

from __future__ import annotations

from dataclasses import dataclass

QUEUE = 128  # requests in work or waiting; the next are told to come back
THREADS = 64  # requests in work at a time: those in words spend theirs waiting for the model
MAX_BODY = 32 << 20  # bytes of one request, pictures included (24 MB of them as base64)
MAX_BODIES = 256 << 20  # bytes of all requests at a time
BODY_S = 30.0  # how long a client may take to send its request
SHORTEST_TOKEN = 16  # characters
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve a collection.

    Args:
        token: what every request must bring, but for /health; None asks for none.
        files: whether thumbnails are drawn from local files, where the collection keeps none.
        queue: requests in work or waiting at a time.
        hosts: the names that a request may call the server by; None takes any.
        origins: pages of other places (`https://example.org`) that may read the answers.
    """

    token: str | None = None
    files: bool = True
    queue: int = QUEUE
    hosts: tuple[str, ...] | None = LOOPBACK
    origins: tuple[str, ...] = ()
