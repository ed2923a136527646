"""What the page can ask for."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import import_module, resources
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bglora.errors import BgloraError, MachineError, UserError
from bglora.project import Project
from bglora.review.acts import Acts, Conflict
from bglora.review.looking import Looks
from bglora.review.running import Listeners, Running
from bglora.review.safety import Guard, told
from bglora.review.state import KINDS
from bglora.review.thumbnails import Shown, shown

STATIC = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
EVERY = 1.0
"""Seconds between two looks whether the folder changed, while a tab listens."""
EVERY_OF_A_RUN = 3.0
SILENCE = 15.0
"""Seconds after which a silent stream says that it is still there."""
FOR_EVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"


def make_app(page: Page, token: str, port: int) -> Guard:
    """A project's page for whoever has the token, on 127.0.0.1:`port`."""
    app = Starlette(routes=page.routes(), lifespan=page.living, exception_handlers={404: _not_there, 405: _not_there})
    app.state.page = page
    return Guard(app, token, port)


class Page:
    """What one project's page works with."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.looks = Looks(project)
        self.acts = Acts(self.looks)
        self.listeners = Listeners()
        self.running = Running(project, self.listeners, self._ran)
        self.ending = asyncio.Event()
        self._stamps = ""

    def routes(self) -> list[Route]:
        """All of them."""
        get, post = ["GET"], ["POST"]
        return [
            Route("/", _safely(self.page), methods=get),
            Route("/static/{name}", _safely(self.static), methods=get),
            Route("/api/state", _safely(self.state), methods=get),
            Route("/api/act", _safely(self.act), methods=post),
            Route("/api/run", _safely(self.run), methods=post),
            Route("/api/stop", _safely(self.stop), methods=post),
            Route("/api/events", _safely(self.events), methods=get),
            Route("/picture/{kind}/{id:path}", _safely(self.picture), methods=get),
            Route("/grid/{scene}/{file:path}", _safely(self.grid), methods=get),
        ]

    @asynccontextmanager
    async def living(self, app: Starlette) -> AsyncIterator[None]:
        """From the first question to the last: a run that is at work is ended with the server."""
        self.drawing = CapacityLimiter(4)
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await self.end()

    async def page(self, request: Request) -> Response:
        review_page: Callable[[str], str] = import_module("bglora.review.page").review_page
        settings = self.project.settings.project
        return HTMLResponse(review_page(settings.title or settings.name), headers={"cache-control": "no-store"})

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        room = resources.files("bglora.report") if name == "style.css" else resources.files("bglora.review") / "static"
        ending = name[name.rfind(".") :]
        file = next((one for one in room.iterdir() if one.name == name and one.is_file()), None)
        if file is None or ending not in STATIC:
            return await _not_there(request, None)
        headers = {"cache-control": ASK_AGAIN}
        return Response(file.read_bytes(), media_type=f"{STATIC[ending]}; charset=utf-8", headers=headers)

    async def state(self, request: Request) -> Response:
        look = await to_thread.run_sync(partial(self.looks.now, thorough=True))
        running = json.dumps(self.running.state())
        return Response(f'{look.text[:-1]},"running":{running}}}', media_type="application/json", headers=_FRESH)

    async def picture(self, request: Request) -> Response:
        kind, name = request.path_params["kind"], request.path_params["id"]
        width = request.query_params.get("w", "0")
        if kind not in KINDS or not width.isascii() or not width.isdigit() or len(width) > 5:
            return await _not_there(request, None)
        look = await to_thread.run_sync(self.looks.last)
        path = look.pictures.paths.get((kind, name))
        if path is None:
            return await _not_there(request, None)
        version = look.state["plates"][name]["v"]
        wanted = request.query_params.get("v", "") == version
        fits = partial(look.pictures.fits, self.project.root, path) if wanted else _never
        return await self._shown(request, path, kind, int(width), fits)

    async def grid(self, request: Request) -> Response:
        look = await to_thread.run_sync(self.looks.last)
        path = f"grids/{request.path_params['scene']}/{request.path_params['file']}"
        if path not in look.pictures.grids:
            return await _not_there(request, None)
        width = request.query_params.get("w", "0")
        number = int(width) if width.isascii() and width.isdigit() else 0
        return await self._shown(request, path, "grid", number, _never)

    async def _shown(self, request: Request, path: str, kind: str, width: int, lasting: Callable[[], bool]) -> Response:
        """A picture; `lasting`, asked when it is drawn, says whether its address will always mean this one."""

        def draw() -> tuple[Shown, bool]:
            return shown(self.project.root, path, kind, width), lasting()

        found, for_ever = await to_thread.run_sync(draw, limiter=self.drawing)
        headers = {"etag": f'"{found.tag}"', "cache-control": FOR_EVER if for_ever else ASK_AGAIN}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        if found.path is not None:
            return FileResponse(found.path, media_type=found.media_type, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)

    async def act(self, request: Request) -> Response:
        values = await _values(request)
        answer = await to_thread.run_sync(self.acts.do, values)
        self._changed()
        return JSONResponse(answer, headers=_FRESH)

    async def run(self, request: Request) -> Response:
        values = await _values(request)
        to, only = values.get("to"), values.get("only")
        if not all(
            one is None or (isinstance(one, str) and len(one) <= 1000 and one.isprintable()) for one in (to, only)
        ):
            raise UserError("A run goes to a stage.", where="to, only", cure="Name a stage, and items or pictures.")
        await self.running.start(to or None, only or None)
        return JSONResponse({"running": self.running.state()}, headers=_FRESH)

    async def stop(self, request: Request) -> Response:
        await _values(request)
        self.running.stop()
        return JSONResponse({"running": self.running.state()}, headers=_FRESH)

    async def events(self, request: Request) -> Response:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=headers)

    async def _stream(self) -> AsyncIterator[str]:
        queue = self.listeners.join()
        ending = asyncio.ensure_future(self.ending.wait())
        try:
            first = {"event": "hello", "revision": self.looks.revision(), "running": self.running.state()}
            yield _line(first)
            while not self.ending.is_set():
                heard = asyncio.ensure_future(queue.get())
                try:
                    await asyncio.wait({heard, ending}, timeout=SILENCE, return_when=asyncio.FIRST_COMPLETED)
                    told = _line(heard.result()) if heard.done() else ": still here\n\n"
                finally:
                    heard.cancel()  # the visitor may leave while it waits; nothing happens to one that has heard
                yield told
        finally:
            ending.cancel()
            self.listeners.leave(queue)

    async def _watch(self) -> None:
        """Tells tabs when the folder changed, by whoever; less often where a look takes long, or a run is at work."""
        with suppress(FileNotFoundError):
            self._stamps = await to_thread.run_sync(self.acts.stamps)
        while True:
            await asyncio.sleep(max(EVERY if self.running.state() is None else EVERY_OF_A_RUN, 4 * self.looks.seconds))
            if len(self.listeners):
                with suppress(FileNotFoundError):  # it vanished between two looks at it: the next time tells
                    self._tell(await to_thread.run_sync(self.acts.stamps))

    def _changed(self) -> None:
        self._tell(self.looks.stamps())

    def _ran(self) -> None:
        """A run has ended: tabs look again, whatever they saw on the way."""
        self._stamps = ""
        self._changed()

    def _tell(self, stamps: str) -> None:
        if stamps != self._stamps:
            self._stamps = stamps
            self.listeners.tell({"event": "changed", "revision": self.looks.revision()})

    async def end(self) -> None:
        """Ends streams and the run: the server waits for neither then."""
        self.ending.set()
        await self.running.close()


_FRESH = {"cache-control": "no-store"}


def _never() -> bool:
    return False


def _line(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False, default=str)}\n\n"


async def _values(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise UserError("JSON is wanted.", where="Content-Type", cure="Send application/json.")
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UserError("This is no JSON object.", where=request.url.path, cure="Load the page anew.")
    return values


async def _not_there(request: Request, error: Exception | None) -> Response:
    status = getattr(error, "status_code", 404)
    values = {"what": "There is nothing here.", "where": request.url.path[:200], "cure": "Load the page anew."}
    return JSONResponse(values, status, headers=_FRESH)


def _safely(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors are told in three lines, those that nobody foresaw, too."""

    async def safe(request: Request) -> Response:
        try:
            return await answer(request)
        except BgloraError as error:
            status = 409 if isinstance(error, Conflict) else getattr(error, "status", 400)
            return JSONResponse(told(error), 500 if isinstance(error, MachineError) else status, headers=_FRESH)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            page: Page = request.app.state.page
            log = page.project.root / ".bglora" / "logs" / "review.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
            what = f"bglora stumbled: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
            values = {"what": what, "where": str(log), "cure": "Do it again; if it stays, report it with this file."}
            return JSONResponse(values, 500, headers=_FRESH)

    return safe
