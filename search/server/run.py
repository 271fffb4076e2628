"""Runs the server on one address until it is told to stop: then what is in work is finished, and no more begun."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from search.collection import Collection
from search.errors import CollectionError, MissingExtra, NearkinError
from search.server.settings import Settings

Say = Callable[[str], None]

_FINISH_S = 30  # for what is in work, once the server is told to stop
_BACKLOG = 2048
_CONNECTIONS = 1_000  # at a time


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    Raises:
        CollectionError: no address has this name.
    """
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for _, address in _addresses(host))


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise CollectionError(f"'{host}' is no address of this machine; use 127.0.0.1 or 0.0.0.0") from None
    return [(family, str(place[0])) for family, _, _, _, place in found]


@contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket that takes connections, and the URL that leads to it; port 0 takes one that is free.

    Raises:
        CollectionError: the address is taken, or not this machine's.
    """
    family, address = _addresses(host)[0]
    with socket.socket(family) as bound:
        if os.name == "posix":  # elsewhere it would let another program take the port over
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CollectionError(
                f"{host}:{port} cannot be listened at ({reason}); choose another --host or --port"
            ) from None
        bound.listen(_BACKLOG)
        name = f"[{host}]" if ":" in host else host
        yield bound, f"http://{name}:{bound.getsockname()[1]}"


def serve(collection: Collection, settings: Settings, *, host: str, port: int, say: Say) -> None:
    """Answer requests until SIGINT or SIGTERM; the collection stays the caller's to close.

    Args:
        collection: what is asked.
        settings: see there.
        host: the address to listen at.
        port: the port; 0 for one that is free.
        say: is told what the user should know.

    Raises:
        MissingExtra: starlette, uvicorn or python-multipart is not installed.
        CollectionError: the address cannot be listened at.
    """
    try:
        import python_multipart  # noqa: F401 - starlette looks for it when the first form comes
        import uvicorn

        from search.server.app import application
    except ImportError as error:
        raise MissingExtra("nearkin serve", "serve") from error

    config = uvicorn.Config(
        application(collection, settings),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_FINISH_S,
    )
    server = uvicorn.Server(config)
    with listening(host, port) as (bound, url):
        say(f"{collection.path} is served at {url}; Ctrl-C stops it")
        loading = threading.Thread(target=_load, args=(collection, say), name="nearkin-load", daemon=True)
        loading.start()
        try:
            server.run(sockets=[bound])
        except (KeyboardInterrupt, SystemExit):
            # The signal that stopped it comes once more when all is done, for those whose end it should be.
            if not server.should_exit:
                raise
        loading.join(_FINISH_S)  # the collection is closed next
    say("stopped")


def _load(collection: Collection, say: Say) -> None:
    """Load the models that words are encoded by, so that the first question need not wait for them."""
    try:
        for name, space in collection.spaces().items():
            if "text" in space.encoder.accepts:
                collection.encoder(name)
    except NearkinError as error:
        say(f"warning: {error}")
