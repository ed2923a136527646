"""The page's server: one address on this machine, which nobody else's can reach."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from filelock import FileLock, Timeout

from bglora.errors import MachineError, UserError
from bglora.project import Project

ADDRESS = "127.0.0.1"
GRACE = 3
"""Seconds that open questions get when the server ends."""


def serve(project: Project, port: int, opened: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C.

    Args:
        port: where to listen; 0 for any that is free.
        opened: called with the address, token and all, as soon as it answers.

    Raises:
        UserError: the port is taken, or the page of this project is open already.
        MachineError: starlette or uvicorn is not here.
    """
    try:
        import uvicorn

        from bglora.review.routes import Page, make_app
    except ModuleNotFoundError as error:
        raise MachineError(
            f"The page needs the Python package {error.name}.",
            where="bglora review",
            cure='python -m pip install "bglora[review]"',
        ) from None
    (project.root / ".bglora").mkdir(exist_ok=True)
    alone = FileLock(project.root / ".bglora" / "review.lock", timeout=0)
    try:
        alone.acquire()
    except Timeout:
        raise UserError(
            "The page of this project is open already.",
            where=str(project.root),
            cure="Go on in that one, or end its `bglora review` with Ctrl-C.",
        ) from None
    with alone, _listening(port) as listening:
        number = int(listening.getsockname()[1])
        token = secrets.token_urlsafe(32)
        page = Page(project)
        page.looks.journal.tidy()
        page.looks.now()  # the first one reads everything: done before the browser asks
        config = uvicorn.Config(
            make_app(page, token, number),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
            lifespan="on",
            ws="none",
        )
        address = f"http://{ADDRESS}:{number}/?token={token}"
        with suppress(KeyboardInterrupt):  # how it is meant to end
            _server(uvicorn, config, lambda: opened(address), page.end).run([listening])


def _server(uvicorn: Any, config: Any, opened: Callable[[], None], ending: Callable[[], Awaitable[None]]) -> Any:
    class Told(uvicorn.Server):  # type: ignore[misc]
        """Says when it answers and when it ends."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                opened()

        async def shutdown(self, sockets: Any = None) -> None:
            await ending()
            await super().shutdown(sockets)

    return Told(config)


def _listening(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.bind((ADDRESS, port))
    except OSError as error:
        listening.close()
        raise UserError(
            f"Port {port} can't be used: {error.strerror}.",
            where=f"{ADDRESS}:{port}",
            cure="bglora review --port 0 takes any that is free.",
        ) from None
    return listening
