"""A run in a process of its own, started and stopped from the page, and everything that it tells.

In its own process it can't take the page with it when memory runs out, it holds the project's lock like any other run,
and it stops as on Ctrl-C: after the items at hand, with everything kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import bglora
from bglora.errors import UserError
from bglora.project import Project
from bglora.project.folder import chosen

PATIENCE = 20.0
"""Seconds that a run gets to end when the page's server ends; then it is stopped at once."""
LONGEST_LINE = 64 << 20
"""Bytes of an event: the last one names everything that failed."""
LAST_WORDS = 4096
OFTEN = 0.2
"""Seconds between two lines about how far an item is; those between are left out."""


class Listeners:
    """Tabs that hear what happens. One that doesn't listen any more loses the oldest news, not memory."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def tell(self, event: dict[str, Any]) -> None:
        """Tells everybody. To be called in the server's loop."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def join(self) -> asyncio.Queue[dict[str, Any]]:
        """A new listener's queue."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(500)
        self._queues.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        """Says that nobody listens there any more."""
        self._queues.discard(queue)

    def __len__(self) -> int:
        return len(self._queues)


class Running:
    """The run of the page, if there is one.

    Args:
        ended: called when one has ended.
    """

    def __init__(self, project: Project, listeners: Listeners, ended: Callable[[], object]) -> None:
        self.project, self.listeners, self._ended = project, listeners, ended
        self._process: asyncio.subprocess.Process | None = None
        self._follow: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._begin()

    def _begin(self) -> None:
        self._stage, self._done, self._total, self._stopping = "", 0, 0, False
        self._item: dict[str, Any] | None = None
        self._told = 0.0

    def state(self) -> dict[str, Any] | None:
        """`{"stage", "done", "total", "stopping", "item"}`: items of the stage, and how far the last one is that told.

        None if nothing runs.
        """
        if self._process is None:
            return None
        told = {"stage": self._stage, "done": self._done, "total": self._total, "stopping": self._stopping}
        return {**told, "item": self._item}

    async def start(self, to: str | None, only: str | None) -> None:
        """Starts a run of the whole pipeline, or to the stage `to`.

        Raises:
            UserError: one is at work already, or there is no such stage.
        """
        chosen((), to or "", "")
        async with self._starting:  # two tabs may ask at the same moment
            if self._process is not None:
                raise UserError(
                    "A run is at work already.", where=self._stage or "run", cure="Stop it, or wait for its end."
                )
            self._begin()
            here = str(Path(bglora.__file__).parents[1])
            path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
            self._process = await asyncio.create_subprocess_exec(
                *self._command(to, only),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C in the terminal is the server's: it stops the run itself
                limit=LONGEST_LINE,
            )
            self._follow = asyncio.create_task(self._followed(self._process))
        self.listeners.tell({"event": "run-started", "to": to or "", "only": only or ""})

    def _command(self, to: str | None, only: str | None) -> list[str]:
        # -P: no module that lies in the folder where the page was started is taken for one of Python's
        words = [sys.executable, "-P", "-m", "bglora", "-C", str(self.project.root), "--json", "run"]
        words += [f"--to={to}"] if to else ["--all"]
        words += [f"--only={only}"] if only else []
        words += [f"--set={setting}" for setting in self.project.given]
        return words + ([f"--jobs={self.project.jobs}"] if self.project.jobs else [])

    def stop(self) -> None:
        """Asks the run to end after the items at hand. Asked a second time, it ends at once."""
        if self._process is None:
            raise UserError("Nothing runs.", where="run", cure="Start a run first.")
        _interrupt(self._process)
        self._stopping = True
        self.listeners.tell({"event": "run-stopping"})

    async def close(self) -> None:
        """Ends the run, if there is one, and waits for it."""
        if self._process is None or self._follow is None:
            return
        for end in (_interrupt, _interrupt, _kill):
            if self._process is not None:
                end(self._process)
            done, _ = await asyncio.wait({self._follow}, timeout=PATIENCE / 2)
            if done:
                return

    async def _followed(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None and process.stderr is not None
        aside = asyncio.create_task(_last_words(process.stderr))
        errors = 0
        async for line in process.stdout:
            event = _event(line)
            if event is not None:
                errors += event["event"] == "error"
                if self._heard(event):
                    self.listeners.tell(event)
        code = await process.wait()
        last = await aside
        self._process = None
        if code not in (0, 1) and not errors and not self._stopping:
            text = last.decode("utf-8", "replace").strip()
            what = f"The run ended with {code}."
            self.listeners.tell(
                {"event": "error", "what": what, "where": text[-500:], "cure": "bglora run --all says more."}
            )
        self.listeners.tell({"event": "run-ended", "exit_code": code})
        self._ended()

    def _heard(self, event: dict[str, Any]) -> bool:
        """Notes how far the run is; False for what tabs need not hear."""
        kind = event["event"]
        if kind == "stage-started":
            self._stage, self._done, self._total, self._item = event["stage"], 0, event["items"], None
        elif kind == "item-finished":
            self._done += 1
            self._item = None
        elif kind == "item-progress":
            self._item = {key: event[key] for key in ("item", "done", "total", "text")}
            now = time.monotonic()
            if now - self._told < OFTEN:
                return False
            self._told = now
        return True


async def _last_words(stream: asyncio.StreamReader) -> bytes:
    """The end of what a run says aside. Not read by lines: a bar that is drawn over and over has none."""
    last = b""
    while piece := await stream.read(1 << 16):
        last = (last + piece)[-LAST_WORDS:]
    return last


def _event(line: bytes) -> dict[str, Any] | None:
    """A line that the run told; None if it is no event."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _interrupt(process: asyncio.subprocess.Process) -> None:
    """As Ctrl-C does; where that can't be sent to another process, at once: what is done is kept either way."""
    with suppress(ProcessLookupError):
        if os.name == "posix":
            process.send_signal(signal.SIGINT)
        else:
            process.terminate()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
