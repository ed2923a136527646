"""When a run has to stop: Ctrl-C once (finish what is at hand), twice (at once), or the time is up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bglora.errors import BgloraError, Interrupted, TimeIsUp


class Stopping:
    """The wish to stop.

    Args:
        max_time: seconds from now; None for no end.
        told: called once when the first signal comes.
    """

    def __init__(self, max_time: float | None = None, told: Callable[[], None] = lambda: None) -> None:
        self._end = None if max_time is None else time.monotonic() + max_time
        self._told = told
        self.interrupted = False

    def __call__(self) -> bool:
        """True as soon as the run has to stop."""
        return self.interrupted or (self._end is not None and time.monotonic() >= self._end)

    def interrupt(self) -> None:
        """Asks the run to stop after what is at hand, as the first Ctrl-C does."""
        if not self.interrupted:
            self.interrupted = True
            self._told()

    def error(self, where: str) -> BgloraError:
        """The three lines that the run ends with."""
        if self.interrupted:
            return Interrupted(
                "Stopped by you; everything done so far is kept.", where=where, cure="Run the same command to go on."
            )
        return TimeIsUp(
            "The time given by --max-time is over; everything done so far is kept.",
            where=where,
            cure="Run the same command to go on.",
        )

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to SIGINT and SIGTERM while the block runs; only the main thread can, others just run the block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heard(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupt()

        before: dict[int, Any] = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
