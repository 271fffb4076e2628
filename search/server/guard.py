"""Who may ask: the host that a request names, the page it comes from, its token; and what browsers are told."""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search.server.answers import Refused, failure
from search.server.settings import Settings

OPEN = "/health"  # asked without a token, so that whoever keeps the server running needs none
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Turns away what may not ask, before anything of it is read.

    A page of another place cannot read an answer anyway, unless it makes its own name lead to this machine (DNS
    rebinding): then the request names that host, and is turned away. Nor may it have questions worked at, which a
    browser would send for it with its own name as the origin.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._token = None if settings.token is None else settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                # A page that fetches with its user's word must not be given what was meant for none.
                headers.add_vary_header("Authorization")
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
        except Refused as error:
            response = failure(error)
            if error.status == 401:
                response.headers["WWW-Authenticate"] = 'Basic realm="nearkin", charset="UTF-8"'
            await response(scope, receive, told)
            return
        await self._app(scope, receive, told)

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._settings.hosts is not None and _name(host) not in self._settings.hosts:
            raise Refused(403, f"the host '{_name(host)}' is not served here; allow it with --allow-host")
        origin = headers.get("origin")
        if (
            origin is not None
            and urlsplit(origin).netloc.lower() != host.lower()
            and origin not in self._settings.origins
        ):
            raise Refused(403, f"pages of {origin} may not ask here; allow it with --allow-origin")
        if origin is None and headers.get("sec-fetch-site") == "cross-site" and _is_part(headers):
            raise Refused(403, "this is not for pages of other sites to show; open it by itself")
        if self._token is not None and path != OPEN:
            given = _token(headers.get("authorization", ""))
            if given is None or not hmac.compare_digest(given, self._token):
                raise Refused(
                    401, "this needs the server's token; send it as a bearer, or as the password of any name"
                )


def _is_part(headers: Headers) -> bool:
    """Whether a browser asks for a part of a page, such as a picture, and not because somebody follows a link."""
    return headers.get("sec-fetch-mode") != "navigate"


def _name(host: str) -> str:
    """A host without its port, in small letters; IPv6 in its brackets."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _token(authorization: str) -> bytes | None:
    """What was sent as a bearer's token, or as the password by a browser."""
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials.encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return None
    return None
