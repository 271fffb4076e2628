"""The routes of the server, each of which asks the collection in a thread and answers in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from search.collection import Collection
from search.server import page, questions, thumbnails
from search.server.answers import Refused, as_json, encoded, failure, record, refusal
from search.server.fields import MOST_QUERIES, RECOMMEND, SEARCH
from search.server.guard import Guard
from search.server.load import Load
from search.server.openapi import document
from search.server.settings import THREADS, Settings
from search.version import __version__

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
Answer = TypeVar("Answer")

_DECODING = 2  # pictures at a time: a large one takes 200 MB while it is decoded
_SPACE = ("name", "modality", "model", "dim", "metric", "accepts", "records", "vectors", "index")


class Api:
    """The answers to requests for one collection."""

    def __init__(self, collection: Collection, settings: Settings) -> None:
        self._collection = collection
        self._settings = settings
        self._threads = CapacityLimiter(THREADS)
        self._decoding = CapacityLimiter(_DECODING)
        self._aside = CapacityLimiter(1)  # health is told however much is asked

    def routes(self) -> list[Route]:
        """Each path, with what answers it."""
        return [
            Route("/", _answering(self.page), methods=["GET"]),
            Route("/search", _answering(self.search), methods=["POST"]),
            Route("/recommend", _answering(self.recommend), methods=["POST"]),
            Route("/records", _answering(self.records), methods=["GET"]),
            Route("/records/{id:path}/picture", _answering(self.picture), methods=["GET"]),
            Route("/records/{id:path}", _answering(self.record), methods=["GET"]),
            Route("/spaces", _answering(self.spaces), methods=["GET"]),
            Route("/info", _answering(self.info), methods=["GET"]),
            Route("/health", _answering(self.health), methods=["GET"]),
            Route("/openapi.json", _answering(self.openapi), methods=["GET"]),
        ]

    async def page(self, request: Request) -> Response:
        """The page."""
        return Response(page.HTML, headers=dict(page.HEADERS), media_type="text/html")

    async def search(self, request: Request) -> Response:
        """Hits."""
        asked = await questions.read(request, SEARCH)
        limiter = self._decoding if "image" in asked else self._threads
        return await self._answered(
            request, lambda: encoded(questions.search(self._collection, asked)), limiter
        )

    async def recommend(self, request: Request) -> Response:
        """Hits near the likes and far from the dislikes."""
        asked = await questions.read(request, RECOMMEND)
        return await self._answered(
            request, lambda: encoded(questions.recommend(self._collection, asked)), self._threads
        )

    async def records(self, request: Request) -> Response:
        """The records of some ids, null for one that is not there."""
        ids = request.query_params.getlist("id")
        if not ids or len(ids) > MOST_QUERIES:
            raise Refused(
                422, f"{len(ids)} ids were given; ask for 1 to {MOST_QUERIES:,}: /records?id=a&id=b"
            )
        return await self._answered(
            request,
            lambda: encoded([one and record(one) for one in self._collection.get(ids)]),
            self._threads,
        )

    async def record(self, request: Request) -> Response:
        """One record."""
        id, _ = _path_of_record(request)

        def found() -> bytes:
            (one,) = self._collection.get(id)
            if one is None:
                raise thumbnails.unknown(id)
            return encoded(record(one))

        return await self._answered(request, found, self._threads)

    async def picture(self, request: Request) -> Response:
        """The thumbnail of a record."""
        id, is_picture = _path_of_record(request)
        if not is_picture:  # an id that ends so, written out
            return await self.record(request)
        find = partial(thumbnails.found, self._collection, id, files=self._settings.files)
        found = await _in_thread(find, self._threads)
        headers = {"ETag": found.etag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        if isinstance(found, thumbnails.File):
            drawn = await _in_thread(partial(thumbnails.drawn, found), self._decoding)
        else:
            drawn = found.data
        return Response(drawn, headers=headers, media_type="image/webp")

    async def spaces(self, request: Request) -> Response:
        """The spaces."""
        return await self._answered(
            request,
            lambda: encoded([{name: one[name] for name in _SPACE} for one in self._info()["spaces"]]),
            self._threads,
        )

    async def info(self, request: Request) -> Response:
        """What the collection holds."""
        return await self._answered(request, lambda: encoded(self._info()), self._threads)

    def _info(self) -> dict[str, Any]:
        """As the collection says, but where on this machine it lies is no client's business: only its name."""
        told = self._collection.info()
        return told | {"path": self._collection.path.resolve().name}

    async def health(self, request: Request) -> Response:
        """Whether the catalog can be read."""
        await _in_thread(self._collection.spaces, self._aside)
        return as_json({"status": "ok", "version": __version__})

    async def openapi(self, request: Request) -> Response:
        """The description of all this."""
        return as_json(document())

    async def _answered(
        self, request: Request, work: Callable[[], bytes], limiter: CapacityLimiter
    ) -> Response:
        """What the work gives; none is done for a client who has gone while it waited for a thread."""
        async with limiter:
            if await request.is_disconnected():
                return Response(status_code=499)
            body = await anyio.to_thread.run_sync(work, limiter=CapacityLimiter(1))
        return Response(body, media_type="application/json")


async def _in_thread(work: Callable[[], Answer], limiter: CapacityLimiter) -> Answer:
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _path_of_record(request: Request) -> tuple[str, bool]:
    """The id in a path, and whether its picture is meant. A slash of the id is one written as %2F, or any but the last.

    Taken from the path as it was sent: once decoded nobody knows which slash was whose.
    """
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    said = raw.partition(b"?")[0].removeprefix(b"/records/")
    id, slash, last = said.rpartition(b"/")
    is_picture = bool(slash) and last == b"picture"
    return unquote((id if is_picture else said).decode("latin-1"), errors="surrogateescape"), is_picture


def _answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint, every error of which is an answer."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - the last resort: a request never ends the server
            return failure(error)

    return answered


def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return refusal(405, f"{request.method} is not answered at {request.url.path}; see /openapi.json")
    return refusal(status, f"there is nothing at {request.url.path}; see /openapi.json")


def application(collection: Collection, settings: Settings) -> Starlette:
    """The application that serves a collection, which stays the caller's to close."""
    middleware = [Middleware(Guard, settings), Middleware(Load, settings.queue)]
    if settings.origins:
        shared = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
        middleware.insert(0, shared)
    return Starlette(
        routes=list(Api(collection, settings).routes()),
        middleware=middleware,
        exception_handlers={HTTPException: _not_found},
    )
