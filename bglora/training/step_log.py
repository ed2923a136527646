"""What a person watches while it trains, beside the result and no part of it: TensorBoard's events and step times.

    <folder>/1/events.out.tfevents.*    for `tensorboard --logdir`
    <folder>/1/steps.jsonl              {"step", "seconds"}: optimizer step, seconds that one took before it

A training that starts anew begins the next number; one that goes on writes into the last. Events carry times and the
machine's name, so neither file may become an output.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

MISSING = "no logs for TensorBoard, which need: pip install tensorboardX"


class StepLog:
    """Writes both files; `None` as a folder writes nothing, without `events` only step times.

    Attributes:
        lacking: what to tell a person who expects events and gets none; empty if all is there.
    """

    def __init__(self, folder: Path | None, *, resumed: bool, events: bool) -> None:
        self.lacking = ""
        self.folder = None if folder is None else _numbered(folder, resumed)
        self._events: Any = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if events:
                self._open(self.folder)

    def _open(self, folder: Path) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter
        except ImportError:
            self.lacking = MISSING
            return
        self._events = EventsWriter(str(folder / "events"), _suffix(folder))

    def started(self, step: int) -> None:
        """What lies in the files from later steps, of a run that was killed, counts no more."""
        if self._events is None or not step:
            return
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._events.write_event(
            Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START))
        )

    def point(self, step: int, **values: float | None) -> None:
        """One point of the curves after an optimizer step; what is None is left out.

        Args:
            values: of `loss`, `validation`, `learning_rate` and `seconds` a step.
        """
        if self.folder is None:
            return
        if values.get("seconds") is not None:
            with (self.folder / "steps.jsonl").open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(json.dumps({"step": step, "seconds": round(values["seconds"] or 0.0, 6)}) + "\n")
        if self._events is None:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        told = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None]
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=told)))
        self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


class StepClock:
    """Seconds that optimizer steps take, without what comes between them. Looked at only where losses are read, which
    is where the device has been waited for.

    Attributes:
        steps: that the next mean is over.
    """

    def __init__(self) -> None:
        self._seconds, self.steps = 0.0, 0
        self.go_on()

    def go_on(self) -> None:
        """Steps begin, or go on after something else."""
        self._since = time.perf_counter()

    def stepped(self, steps: int) -> None:
        """So many steps were taken since the last call, or since `go_on`."""
        now = time.perf_counter()
        self._seconds, self.steps = self._seconds + now - self._since, self.steps + steps
        self._since = now

    def mean(self) -> float | None:
        """Seconds a step since the last call; None if there was none."""
        found = self._seconds / self.steps if self.steps else None
        self._seconds, self.steps = 0.0, 0
        return found


def _numbered(folder: Path, resumed: bool) -> Path:
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    last = max(numbers, default=0)
    return folder / str(max(last, 1) if resumed else last + 1)


def _suffix(folder: Path) -> str:
    """Two runs of one second must not write into one file."""
    return f".{len(list(folder.glob('events.out.tfevents.*')))}"
