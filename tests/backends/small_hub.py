"""A hub on loopback: the few answers of huggingface.co that fetching a model takes, with troubles on demand.

What it answers was written after huggingface_hub's own requests: `/api/models/…/revision/…?blobs=true` for the list of
files, HEAD and GET on `/owner/name/resolve/revision/path` with X-Repo-Commit and ETag. Large files come, as there, from
a store under another host's name, to which the hub sends on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"
LARGE = (".safetensors", ".pt")
"""Files that a hub keeps outside git, by their SHA-256."""


@dataclass
class SmallHub:
    """What is published, and what goes wrong.

    Attributes:
        repos: repository to its files.
        gated: repositories that answer 403.
        spoiled: paths that arrive with other bytes of the same length.
        stall_after: bytes after which a large file comes no further until the reader has gone.
        asked: (method, path, Range) of all requests for files.
        tokens: what came as authorization; `store_tokens`: what came so to the store.
    """

    repos: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    spoiled: set[str] = field(default_factory=set)
    stall_after: int | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    store_tokens: set[str] = field(default_factory=set)
    stalled: Event = field(default_factory=Event)
    address: str = ""

    def got(self, path: str) -> list[str]:
        """The ranges with which a file was asked for; empty words for whole files."""
        return [span for method, at, span in self.asked if method == "GET" and at == path]


def point_at(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes huggingface_hub take `address` for the hub, as it does where HF_ENDPOINT is set before it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@contextmanager
def small_hub(repos: dict[str, dict[str, bytes]]) -> Iterator[SmallHub]:
    """Serves until the block ends."""
    hub = SmallHub(repos)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answers(BaseHTTPRequestHandler):
    hub: SmallHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        listing = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        if listing:
            self._listing(listing[1], listing[2] or "main")
        else:
            self._file(body=True)

    def _listing(self, repo: str, revision: str) -> None:
        if self._refused(repo, revision):
            return
        siblings = []
        for path, content in self.hub.repos[repo].items():
            one: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": _git(content)}
            if path.endswith(LARGE):
                digest = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(one)
        self._send(
            200, json.dumps({"id": repo, "modelId": repo, "sha": _commit(revision), "siblings": siblings}).encode()
        )

    def _refused(self, repo: str, revision: str) -> bool:
        self.hub.tokens.add(self.headers.get("authorization") or "")
        if repo not in self.hub.repos:
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif repo in self.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif not re.fullmatch(r"main|[0-9a-f]{40}", revision):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _file(self, *, body: bool) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/(resolve|store)/([^/]+)/(.+)", unquote(urlsplit(self.path).path))
        if found is None:  # the library asks for things of its own
            self._send(404, b"")
            return
        repo, place, revision, path = found.groups()
        if place == "resolve" and self._refused(repo, revision):
            return
        content = self.hub.repos[repo][path]
        digest = hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else _git(content)
        head = {"X-Repo-Commit": _commit(revision), "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if place == "resolve" and path.endswith(LARGE):
            store = f"{self.hub.address.replace('127.0.0.1', 'localhost')}/{repo}/store/{revision}/{path}"
            linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content)), "Location": store}
            self._send(302, b"", head | linked, body=body)
            return
        span = self.headers.get("Range") or ""
        self.hub.asked.append((self.command, path, span))
        if place == "store":
            self.hub.store_tokens.add(self.headers.get("authorization") or "")
        if path in self.hub.spoiled:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        if start:
            head["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], head, body=body)

    def _send(self, code: int, content: bytes, head: dict[str, str] | None = None, *, body: bool = True) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **(head or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        stop = self.hub.stall_after
        if body and stop is not None and len(content) > stop:
            self.wfile.write(content[:stop])
            self.wfile.flush()
            self.hub.stalled.set()
            self.connection.settimeout(30)
            with suppress(ConnectionError):
                self.connection.recv(1)  # ends when the reader goes away
            self.close_connection = True
        elif body:
            self.wfile.write(content)


def _commit(revision: str) -> str:
    """What the branch stands for; every commit that is asked for is there."""
    return COMMIT if revision == "main" else revision


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
