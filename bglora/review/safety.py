"""Who may ask. The page reads and changes a person's work, so nobody but his own browser may talk to it.

token    in the address that the command prints; the first answer puts it into a cookie that scripts can't read
Host     this machine's name for itself only, else a foreign site whose name leads here could talk to us (rebinding)
Origin   what changes something comes from this page, not from another one open in the browser
size     nothing larger than a mask is taken in
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bglora.errors import BgloraError, UserError

LARGEST = 24 << 20
"""Bytes of a request's body: a mask of 8K as base64 and more."""
POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Refused(UserError):
    """The question is not from the page."""

    status = 403


class TooLarge(UserError):
    """The body is larger than anything the page sends."""

    status = 413


def told(error: BgloraError) -> dict[str, str]:
    """An error as JSON values."""
    return {"what": error.what, "where": error.where, "cure": error.cure}


@dataclass
class Guard:
    """Lets through what the person's own browser asks; everything else is told why not, in three lines.

    Args:
        token: whoever has it is the person. port: that we listen on.
    """

    app: ASGIApp
    token: str
    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if len(headers) != len(scope["headers"]) and _doubled(scope):
            await _answer(send, 400, told(Refused("A header came twice.", where="headers", cure="Use a browser.")))
            return
        try:
            entering = self._check(scope, headers)
        except Refused as error:
            await _answer(send, error.status, told(error))
            return
        if entering:
            await self._enter(send, headers)
            return
        await self._through(scope, receive, send, headers)

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """True for the first visit, with the token in the address; raises `Refused` for what is not from the page."""
        hosts = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        if self.port == 80:  # what a browser leaves out
            hosts |= {"127.0.0.1", "localhost"}
        host = headers.get("host", "")
        if host not in hosts:
            raise Refused("This page answers to its own address only.", where=f"Host: {host[:100]}", cure=self._cure())
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["method"] == "GET" and scope["path"] == "/" and self._same(query.get("token", [""])[0]):
            return True
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none"):
            raise Refused("Another page asked for this.", where=f"Sec-Fetch-Site: {site[:20]}", cure=self._cure())
        if not self._same(_cookie(headers.get("cookie", ""), self.cookie)):
            raise Refused("This page opens with its token only.", where=scope["path"][:200], cure=self._cure())
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin", "")
            if origin != f"http://{host}":
                raise Refused("Another page asked for this.", where=f"Origin: {origin[:100]}", cure=self._cure())
            if headers.get("x-bglora") != "1":
                raise Refused("The header X-Bglora: 1 is missing.", where=scope["path"][:200], cure=self._cure())
        return False

    @property
    def cookie(self) -> str:
        """Name of the cookie: other servers on this machine get it, too, so it tells them apart."""
        return f"bglora-{self.port}"

    def _same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def _cure(self) -> str:
        return "Open the address that `bglora review` printed, with its token."

    async def _enter(self, send: Send, headers: Mapping[str, str]) -> None:
        """Gives the cookie and goes on to the page without the token in its address.

        A visit that a foreign page began (a terminal in a browser) does so by a page of ours: a redirect would come
        from the foreign one, and the cookie stay behind.
        """
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            page = b'<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>bglora</title>'
            await _send(send, 200, "text/html; charset=utf-8", page, {"set-cookie": cookie})
        else:
            await _send(send, 303, "text/plain", b"", {"set-cookie": cookie, "location": "/"})

    async def _through(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
        length = headers.get("content-length", "0")
        large = TooLarge(
            f"More than {LARGEST >> 20} MB were sent.",
            where=scope["path"][:200],
            cure="Send a mask of the frame's size.",
        )
        if not length.isdigit() or int(length) > LARGEST:
            await _answer(send, large.status, told(large))
            return
        seen, started = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > LARGEST:
                raise large
            return message

        async def signed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        try:
            await self.app(scope, counted, signed)
        except TooLarge as error:
            if not started:
                await _answer(send, error.status, told(error))


def _doubled(scope: Scope) -> bool:
    """Whether a header that is checked here came twice: two readers might each believe another one."""
    names = [name.lower() for name, _ in scope["headers"]]
    return any(names.count(name) > 1 for name in (b"host", b"origin", b"cookie", b"content-length", b"x-bglora"))


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


async def _answer(send: Send, status: int, values: Mapping[str, Any]) -> None:
    await _send(send, status, "application/json", json.dumps(values, ensure_ascii=False).encode())


async def _send(send: Send, status: int, media_type: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
    headers = {"content-type": media_type, "content-length": str(len(body)), "cache-control": "no-store", **HEADERS}
    raw = [(name.encode(), value.encode()) for name, value in {**headers, **(more or {})}.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
