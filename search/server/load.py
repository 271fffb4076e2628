"""How much is taken on at a time: requests waiting, their bytes, and how long one may take to arrive."""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search.server.answers import Refused, failure
from search.server.settings import BODY_S, MAX_BODIES, MAX_BODY

# Answered from memory, whatever else is going on.
LIGHT = ("/", "/health", "/openapi.json")


class Load:
    """Tells the client to come back later, rather than let requests pile up.

    A request is read whole, and given on once it is there, so a slow client holds a place in the queue for so long
    as its time allows, and no thread.
    """

    def __init__(
        self,
        app: ASGIApp,
        queue: int,
        *,
        most: int = MAX_BODY,
        together: int = MAX_BODIES,
        seconds: float = BODY_S,
    ) -> None:
        self._app = app
        self._queue = queue
        self._most = most
        self._together = together
        self._seconds = seconds
        self.waiting = 0
        self.held = 0  # bytes of requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or say that it is too much."""
        if scope["type"] != "http" or scope["path"] in LIGHT:
            await self._app(scope, receive, send)
            return
        if self.waiting >= self._queue:
            busy = Refused(503, f"{self.waiting} questions wait already; ask again in a moment")
            await failure(busy)(scope, receive, send)
            return
        self.waiting += 1
        chunks: list[bytes] = []
        try:
            body = await self._body(Headers(scope=scope), receive, chunks)
            await self._app(scope, _again(body, receive), send)
        except Refused as error:
            await failure(error)(scope, receive, send)
        except _Gone:
            pass
        finally:
            self.waiting -= 1
            self.held -= sum(map(len, chunks))

    async def _body(self, headers: Headers, receive: Receive, chunks: list[bytes]) -> bytes:
        """All that the client sends; `chunks` holds it, and counts as held, for as long as the request lasts.

        Raises:
            Refused: it is too much, or takes too long.
            _Gone: the client has hung up.
        """
        announced = headers.get("content-length", "")
        if announced.isdecimal():
            self._check(int(announced), self.held + int(announced))
        size = 0
        try:
            with anyio.fail_after(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    chunks.append(chunk)
                    self.held += len(chunk)
                    self._check(size, self.held)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise Refused(
                408, f"the request did not arrive within {self._seconds:g} s; send it again"
            ) from None

    def _check(self, size: int, together: int) -> None:
        if size > self._most:
            raise Refused(413, f"the request has more than {self._most:,} bytes; send less at a time")
        if together > self._together:
            raise Refused(503, "other requests fill the memory set aside for them; ask again in a moment")


class _Gone(Exception):
    """Nobody waits for the answer any more."""


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives the body that was read, and after it what else comes from the client."""
    given = False

    async def received() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return received
