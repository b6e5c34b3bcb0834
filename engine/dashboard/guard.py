"""Who may ask the server for anything: a right Host, the token in a cookie, and for every write the page itself."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
READING = ("GET", "HEAD")
NEVER_ENDING = 60 * 60 * 24 * 30  # seconds that a browser keeps the cookie
HEADERS = {
    # Styles may be inline, as the charts library makes them so; scripts come from this server only.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
NO_TOKEN = (
    "This page needs the address that 'ganglion dashboard' printed, with its token. If the server was started anew, "
    "its token is new as well."
)


class Guard:
    """Wraps the application: refuses what does not come from a person who was given the token."""

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self.app = app
        self.token = token
        self.cookie = f"ganglion-{port}"
        self.names = {*LOOPBACK, host.lower()}
        self.any_address = not is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._answer(scope) or self.app
            await answer(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _answer(self, scope: Scope) -> Response | None:
        """What is said in place of the application's answer; None where the request may pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_known(host):
            return PlainTextResponse("This server is not called that.", 421)
        given = QueryParams(scope.get("query_string", b"")).get("token")
        if given is not None and scope["path"] == "/":
            return self._entry(given) if scope["method"] in READING else PlainTextResponse("GET only.", 405)
        if not self._matches(cookie_parser(headers.get("cookie", "")).get(self.cookie, "")):
            return PlainTextResponse(NO_TOKEN, 403)
        if scope["method"] not in READING and not is_own(headers, host):
            return PlainTextResponse("Only the page of this server may change anything.", 403)
        return None

    def _entry(self, given: str) -> Response:
        """The token becomes a cookie that no script can read, and leaves the address."""
        if not self._matches(given):
            return PlainTextResponse(NO_TOKEN, 403)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.cookie, self.token, max_age=NEVER_ENDING, httponly=True, samesite="strict", path="/")
        return answer

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def _is_known(self, host: str) -> bool:
        """Whether this server goes by that name: a page of another name that resolves to this machine is refused."""
        name = host_name(host)
        return name in self.names or (self.any_address and _is_address(name))


def is_own(headers: Headers, host: str) -> bool:
    """Whether a write comes from a page of this very server."""
    origin = urlsplit(headers.get("origin", ""))
    site = headers.get("sec-fetch-site", "same-origin")
    plain = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    return origin.scheme in ("http", "https") and origin.netloc == host and site == "same-origin" and plain


def host_name(host: str) -> str:
    """The name in a Host header, without the port and the brackets of an IPv6 address."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_missing(message)]}
        await send(message)

    return wrapped


def _missing(message: MutableMapping[str, Any]) -> Iterable[tuple[bytes, bytes]]:
    there = {name.lower() for name, _ in message.get("headers", ())}
    wanted = {**HEADERS, "cache-control": "no-store"}
    return ((name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in there)
